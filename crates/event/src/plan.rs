//! What can be said of a table before its updates come.
//!
//! Owns: the constant bytes of a table's events, its topic, and finding them again.
//! Does not own: types. They are taken from the update's own table each time, so only names can go stale here.
//!
//! A plan is checked against the names of its table whenever updates come from another schema than before.

use cassandra_commitlog::{Column, PartitionUpdate, SchemaNumber, TableId, TableSchema};

use crate::json_text::{push_escaped, push_str};
use crate::short::Short;
use crate::topic::TopicTemplate;
use crate::wire;

/// A column's name in both formats.
#[derive(Debug)]
pub(crate) struct NamePlan {
    name: String,
    /// `,"name":` and `"name":`
    member: [Short; 2],
    /// `,"name":{"value":` and `"name":{"value":`
    value: [Short; 2],
    /// The begin of the message that has the name: its tag, one byte for its length, its field `name = 1`.
    pub(crate) proto: Short,
}

const VALUE: &[u8] = b"{\"value\":";

impl NamePlan {
    /// `field`: the number of the message in the one around it.
    fn new(column: &Column, field: u8) -> Self {
        let mut member = b",".to_vec();
        push_str(&mut member, &column.name);
        member.push(b':');
        let value = [member.as_slice(), VALUE].concat();
        let mut proto = vec![field << 3 | 2, 0];
        wire::push_text(&mut proto, 1, &column.name);
        let both = |bytes: &[u8]| [0, 1].map(|from| Short::new(bytes.get(from..).unwrap_or_default()));
        Self { name: column.name.clone(), member: both(&member), value: both(&value), proto: Short::new(&proto) }
    }

    /// Appends `"name":`, behind a comma unless it is the first member.
    #[inline]
    pub(crate) fn push_member(&self, out: &mut Vec<u8>, first: bool) {
        let [behind, alone] = &self.member;
        (if first { alone } else { behind }).append(out);
    }

    /// Appends `"name":{"value":`, behind a comma unless it is the first member.
    #[inline]
    pub(crate) fn push_value(&self, out: &mut Vec<u8>, first: bool) {
        let [behind, alone] = &self.value;
        (if first { alone } else { behind }).append(out);
    }
}

fn plans(columns: &[Column], field: u8) -> Vec<NamePlan> {
    columns.iter().map(|column| NamePlan::new(column, field)).collect()
}

/// What the events of one table have in common.
#[derive(Debug)]
pub(crate) struct TablePlan {
    id: TableId,
    /// Where the names were seen last.
    schema: SchemaNumber,
    keyspace: String,
    name: String,
    topic: String,
    /// What the topic takes, bytes of key and value together.
    pub(crate) record_limit: usize,
    /// `,"keyspace":"shop","table":"orders","table_id":"…","key":`
    pub(crate) json: Vec<u8>,
    /// The same members as fields, but for the key.
    pub(crate) proto: Vec<u8>,
    pub(crate) partition_key: Vec<NamePlan>,
    pub(crate) clustering: Vec<NamePlan>,
    columns: Vec<NamePlan>,
}

impl TablePlan {
    fn new(table: &TableSchema, schema: SchemaNumber, template: &TopicTemplate) -> Self {
        let mut json = b",\"keyspace\":\"".to_vec();
        push_escaped(&mut json, &table.keyspace);
        json.extend_from_slice(b"\",\"table\":\"");
        push_escaped(&mut json, &table.name);
        json.extend_from_slice(format!("\",\"table_id\":\"{}\",\"key\":", table.id).as_bytes());
        let mut proto = Vec::new();
        wire::push_text(&mut proto, 6, &table.keyspace);
        wire::push_text(&mut proto, 7, &table.name);
        wire::push_bytes(&mut proto, 8, &table.id.0.to_be_bytes());
        Self {
            id: table.id,
            schema,
            keyspace: table.keyspace.clone(),
            name: table.name.clone(),
            topic: template.topic(&table.keyspace, &table.name),
            record_limit: usize::MAX,
            json,
            proto,
            partition_key: plans(&table.partition_key, 9),
            clustering: plans(&table.clustering, 1),
            columns: plans(&table.columns, 4),
        }
    }

    /// The names of a column.
    #[inline]
    pub(crate) fn column(&self, index: u32) -> Option<&NamePlan> {
        self.columns.get(index as usize)
    }

    /// Whether all names of this table are still the plan's.
    fn fits(&self, table: &TableSchema) -> bool {
        table.name == self.name
            && table.keyspace == self.keyspace
            && same_names(&table.partition_key, &self.partition_key)
            && same_names(&table.clustering, &self.clustering)
            && same_names(&table.columns, &self.columns)
    }
}

fn same_names(columns: &[Column], plans: &[NamePlan]) -> bool {
    columns.len() == plans.len() && columns.iter().zip(plans).all(|(column, plan)| column.name == plan.name)
}

/// The plans of all tables seen so far.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    plans: Vec<TablePlan>,
    /// Sorted by id: where the newest plan of a table stands.
    by_id: Vec<(TableId, u32)>,
    last: u32,
}

impl Plans {
    /// The plan at an index.
    pub(crate) fn topic(&self, index: u32) -> Option<&str> {
        self.plans.get(index as usize).map(|plan| plan.topic.as_str())
    }

    /// Keyspace and table of the plan at an index.
    pub(crate) fn table(&self, index: u32) -> Option<(&str, &str)> {
        self.plans.get(index as usize).map(|plan| (plan.keyspace.as_str(), plan.name.as_str()))
    }

    /// The plan at an index, to be changed.
    pub(crate) fn plan_mut(&mut self, index: u32) -> Option<&mut TablePlan> {
        self.plans.get_mut(index as usize)
    }

    /// The plan for an update and its index, built or built anew where there is none that fits.
    #[inline]
    pub(crate) fn of(&mut self, update: &PartitionUpdate<'_>, template: &TopicTemplate) -> Option<(u32, &TablePlan)> {
        let (id, schema) = (update.table.id, update.schema);
        let known = |plan: &TablePlan| plan.id == id && plan.schema == schema;
        if !self.plans.get(self.last as usize).is_some_and(known) {
            self.last = self.find(update, template);
        }
        self.plans.get(self.last as usize).map(|plan| (self.last, plan))
    }

    /// The plan of another table than that of the update before, or of another schema.
    fn find(&mut self, update: &PartitionUpdate<'_>, template: &TopicTemplate) -> u32 {
        let (table, schema) = (update.table, update.schema);
        let Ok(at) = self.by_id.binary_search_by_key(&table.id, |(id, _)| *id) else {
            return self.add(table, schema, template);
        };
        let index = self.by_id.get(at).map_or(0, |(_, index)| *index);
        match self.plans.get_mut(index as usize) {
            Some(plan) if plan.schema == schema => index,
            Some(plan) if plan.fits(table) => {
                plan.schema = schema;
                index
            }
            _ => self.rebuild(index, table, schema, template),
        }
    }

    #[cold]
    fn rebuild(&mut self, index: u32, table: &TableSchema, schema: SchemaNumber, template: &TopicTemplate) -> u32 {
        let plan = TablePlan::new(table, schema, template);
        match self.plans.get_mut(index as usize) {
            // Records that wait for their flush name their topic by this index.
            Some(slot) if slot.topic == plan.topic => {
                *slot = TablePlan { record_limit: slot.record_limit, ..plan };
                index
            }
            _ => self.add(table, schema, template),
        }
    }

    #[cold]
    fn add(&mut self, table: &TableSchema, schema: SchemaNumber, template: &TopicTemplate) -> u32 {
        // 2^32 tables would not fit any memory.
        let index = self.plans.len() as u32;
        self.plans.push(TablePlan::new(table, schema, template));
        match self.by_id.binary_search_by_key(&table.id, |(id, _)| *id) {
            Ok(at) => {
                if let Some(entry) = self.by_id.get_mut(at) {
                    entry.1 = index;
                }
            }
            Err(at) => self.by_id.insert(at, (table.id, index)),
        }
        index
    }
}
