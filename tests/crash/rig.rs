//! A node, a broker and a place for agents, and the judge of what came of them.
//!
//! Owns: the promises, as a test can check them: nothing lost, nothing invented, ids and order kept, duplicates bounded,
//! `cdc_raw` free of what is finished and of nothing else. Does not own: what happens to the agent on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::agent::{Agent, CLUSTER, HOST, Place};
use super::broker::{Broker, Event, Got};
use super::mutations::Kind;
use super::node::{Fate, Node, Options, Written, id_of, list};
use super::segment::index_name;

/// How long the agent may take for what is left: generous, since a test machine may be busy with anything.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Everything around the agent.
pub struct Rig {
    pub node: Node,
    pub broker: Broker,
    pub place: Place,
    /// Files in `cdc_raw` that belong to nobody here and must stay.
    pub bystanders: BTreeSet<String>,
    /// Segments whose events may be missing: deleted before the agent could have them.
    pub excused: BTreeSet<i64>,
    /// Segments of which there was an index and no log.
    pub orphans: BTreeSet<i64>,
    folder: TempDir,
}

impl Rig {
    pub fn new(options: Options) -> Self {
        eprintln!("seed {}", options.seed);
        let folder = tempfile::tempdir().unwrap();
        let node = Node::new(folder.path(), options);
        let broker = Broker::start();
        let place = Place::new(folder.path(), broker.bootstrap());
        let mut rig = Self {
            node,
            broker,
            place,
            bystanders: BTreeSet::new(),
            excused: BTreeSet::new(),
            orphans: BTreeSet::new(),
            folder,
        };
        rig.stand_by("README");
        rig
    }

    /// Puts a file into `cdc_raw` that is none of the agent's business.
    pub fn stand_by(&mut self, name: &str) {
        fs::write(self.node.cdc_raw.join(name), "not yours").unwrap();
        self.bystanders.insert(name.to_owned());
    }

    /// An index without a log: a server that switched its blocking off while it was blocked leaves one.
    pub fn orphan_index(&mut self) {
        let id = self.node.skip_id();
        let name = index_name(&self.node.log_name(id));
        fs::write(self.node.cdc_raw.join(name), "12345\nCOMPLETED").unwrap();
        self.orphans.insert(id);
    }

    pub fn path(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Waits until something holds, and says every few seconds what it waits for.
    #[track_caller]
    pub fn wait(&self, agent: &mut Agent, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let started = Instant::now();
        let mut said = 0;
        while !holds(self) {
            agent.must_run();
            let waited = started.elapsed();
            if waited.as_secs() / 5 > said {
                said = waited.as_secs() / 5;
                eprintln!("waiting {} s for {what}; {}", waited.as_secs(), self.progress());
            }
            assert!(waited < PATIENCE, "never: {what}; {}\n{}", self.progress(), agent.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn progress(&self) -> String {
        let missing = self.missing();
        let raw: Vec<String> = self.raw().difference(&self.node.remaining()).take(5).cloned().collect();
        let (events, letters) = self.broker.look(|got| (got.events.len(), got.letters.len()));
        format!("{events} events, {letters} letters, {} missing, unfinished {raw:?}", missing.len())
    }

    /// What is in `cdc_raw`, but for bystanders.
    pub fn raw(&self) -> BTreeSet<String> {
        list(&self.node.cdc_raw).difference(&self.bystanders).cloned().collect()
    }

    /// Durable entries without event or dead letter.
    pub fn missing(&self) -> Vec<&Written> {
        self.broker.look(|got| {
            let there = |number: usize, written: &Written| match written.kind {
                Kind::Cdc => got.numbers.contains(&(number as u32)),
                Kind::Unknown => got.letter_ids.contains(&entry_id(written)),
                Kind::Plain | Kind::Local => true,
            };
            let durable = self.node.journal.iter().enumerate().filter(|(_, written)| written.fate == Fate::Durable);
            let expected = durable.filter(|(_, written)| !self.excused.contains(&written.segment));
            expected.filter(|(number, written)| !there(*number, written)).map(|(_, written)| written).collect()
        })
    }

    /// Waits until everything durable has come, and `cdc_raw` holds what it should.
    #[track_caller]
    pub fn settle(&mut self, agent: &mut Agent) {
        self.node.sync();
        self.wait(agent, "all events", |rig| rig.missing().is_empty());
        self.wait(agent, "a tidy cdc_raw", |rig| rig.raw() == rig.node.remaining());
    }

    /// Everything that must hold at the end. Returns how many events came again.
    #[track_caller]
    pub fn judge(&self) -> usize {
        let missing = self.missing();
        assert!(missing.is_empty(), "{} lost: {:?}", missing.len(), &missing[..missing.len().min(5)]);
        assert_eq!(self.raw(), self.node.remaining(), "cdc_raw");
        assert_eq!(list(&self.node.commitlog), self.node.own_names(), "the node's own names");
        assert!(self.bystanders.is_subset(&list(&self.node.cdc_raw)), "a bystander is gone");
        self.broker.look(|got| self.judge_records(got))
    }

    fn judge_records(&self, got: &Got) -> usize {
        let mut first: BTreeMap<u32, &Event> = BTreeMap::new();
        let mut newest: BTreeMap<&str, u32> = BTreeMap::new();
        let mut partitions: BTreeMap<&str, i32> = BTreeMap::new();
        for event in &got.events {
            let written = self.node.journal.get(event.number as usize).unwrap_or_else(|| panic!("invented: {event:?}"));
            assert_eq!(written.kind, Kind::Cdc, "{event:?}");
            assert_ne!(written.fate, Fate::Gone, "the node lost it, the agent may not have it: {event:?}");
            assert_eq!((event.segment, event.position), (written.segment, written.position), "{event:?}");
            assert_eq!(event.key, written.key, "{event:?}");
            assert_eq!(event.id, format!("{}/0", entry_id(written)), "{event:?}");
            assert_eq!(*partitions.entry(&event.key).or_insert(event.partition), event.partition, "{event:?}");
            if first.insert(event.number, event).is_none() {
                let before = newest.insert(&event.key, event.number);
                assert!(before < Some(event.number), "{event:?} came first behind {before:?}");
            }
        }
        got.events.len() - first.len()
    }

    /// The gap records, but for those that came twice.
    pub fn gaps(&self) -> Vec<Value> {
        self.broker.look(|got| {
            let mut gaps: Vec<Value> = Vec::new();
            for gap in got.letters.iter().filter(|letter| letter.get("gap").is_some()) {
                if !gaps.iter().any(|known| known["gap"] == gap["gap"] && known["source"] == gap["source"]) {
                    gaps.push(gap.clone());
                }
            }
            gaps
        })
    }

    /// No dead letter but for entries of the unknown table, and no gap record.
    #[track_caller]
    pub fn judge_no_gap(&self) {
        assert!(self.gaps().is_empty(), "{:?}", self.gaps());
        self.judge_letters();
    }

    /// Every gap record is of an index without a log.
    #[track_caller]
    pub fn judge_gaps(&self) {
        for gap in self.gaps() {
            let id = id_of(gap["source"]["segment"].as_str().expect("a segment"));
            assert!(gap["gap"] == "index-without-log" && self.orphans.contains(&id), "{gap}");
        }
    }

    /// Every dead letter is of an entry that can't be decoded.
    #[track_caller]
    pub fn judge_letters(&self) {
        let unknown = self.node.journal.iter().filter(|written| written.kind == Kind::Unknown);
        let expected: BTreeSet<String> = unknown.map(entry_id).collect();
        self.broker.look(|got| {
            for letter in got.letters.iter().filter(|letter| letter.get("gap").is_none()) {
                let id = letter["id"].as_str().expect("an id");
                assert!(expected.contains(id), "a dead letter of a good entry: {letter}");
            }
        });
    }
}

fn entry_id(written: &Written) -> String {
    format!("{CLUSTER}/{HOST}/{}/{}", written.segment, written.position)
}
