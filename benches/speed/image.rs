//! Whole segments to read: 32 MiB of one table's inserts, the same in LZ4, and recorded mutations over and over.
//!
//! Owns: framing, with sections as long as a node's, and the bytes of an insert. Does not own: what is measured.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use cassandra_cdc::mapped::Mapped;
use cassandra_commitlog::{
    Column, ColumnKind, CqlType, Decoder, Mutation, MutationError, Native, Schema, SegmentName, TableId, TableSchema,
};

use crate::line::each_entry;
use crate::load;

/// Length of a segment: Cassandra's default.
const SEGMENT: usize = 32 << 20;
/// A node marks what it wrote every 100 ms: under load every 67 to 140 KB.
const SECTION: usize = 100_000;
const MARKER: usize = 8;
const FILE_NAME: &str = "CommitLog-7-1795246257030.log";
const ID: i64 = 1_795_246_257_030;
const VERSION: i32 = 7;
/// What encoding stats count from.
const EPOCH_MICROS: u64 = 1_442_880_000_000_000;

/// A mapped segment, and the schema that reads it.
pub(crate) struct Image {
    pub(crate) name: SegmentName,
    pub(crate) file_name: &'static str,
    pub(crate) file: Mapped,
    pub(crate) schema: Arc<Schema>,
    pub(crate) entries: usize,
}

impl Image {
    fn new(path: &Path, bytes: &[u8], schema: Arc<Schema>) -> Self {
        fs::write(path, bytes).expect("to write a segment");
        let file = Mapped::open(path).expect("to map a segment");
        let mut entries = 0;
        each_entry(&file, |_, _| entries += 1);
        let name = SegmentName::parse(FILE_NAME).expect("a segment's name");
        Self { name, file_name: FILE_NAME, file, schema, entries }
    }

    /// Inserts into the table `orders`, each with keys of its own: about 196 bytes a mutation.
    pub(crate) fn orders(folder: &Path) -> Self {
        let schema = Arc::new(Schema::new([orders()]));
        Self::new(&folder.join("orders"), &segment("{}", (0..).map(insert), plain), schema)
    }

    /// The same mutations, compressed.
    pub(crate) fn lz4(folder: &Path, orders: &Self) -> Self {
        let parameters = r#"{"compressionClass":"LZ4Compressor","compressionParameters":{}}"#;
        let bytes = segment(parameters, (0..).map(insert).take(orders.entries), lz4);
        Self::new(&folder.join("lz4"), &bytes, orders.schema.clone())
    }

    /// What Cassandra 4.1 wrote for two recorded cases, over and over: every mutation that has something to publish.
    pub(crate) fn recorded(folder: &Path) -> Self {
        let cases = ["4.1-demo", "4.1-mutations"].map(load::own_case);
        let schema = Arc::new(Schema::new(cases.iter().flat_map(|case| case.schema().tables().to_vec())));
        let mut decoder = Decoder::new(schema.clone());
        let mut bodies = Vec::new();
        for (_, file) in cases.iter().flat_map(load::Case::segments) {
            each_entry(&file, |version, entry| {
                if publishes(decoder.mutation(version, entry)) {
                    bodies.push(entry.body.to_vec());
                }
            });
        }
        let bytes = segment("{}", bodies.iter().cycle().cloned(), plain);
        Self::new(&folder.join("recorded"), &bytes, schema)
    }
}

/// Whether a mutation can be read and has an update of a CDC table.
fn publishes(mutation: Result<Mutation<'_>, MutationError>) -> bool {
    let Ok(mut mutation) = mutation else { return false };
    let mut cdc = false;
    loop {
        match mutation.next_update() {
            Ok(Some(update)) => cdc |= update.table.cdc,
            Ok(None) => return cdc,
            Err(_) => return false,
        }
    }
}

fn orders() -> TableSchema {
    let column = |(name, native, kind): (&str, Native, ColumnKind)| Column {
        name: name.to_owned(),
        cql_type: CqlType::Native(native),
        kind,
    };
    let regular = [
        ("amount", Native::Double),
        ("created", Native::Timestamp),
        ("note", Native::Text),
        ("quantity", Native::Int),
        ("status", Native::Text),
    ];
    TableSchema {
        id: TableId(0x5a1c_0000_0000_1000_8000_0000_0000_0001),
        keyspace: "shop".to_owned(),
        name: "orders".to_owned(),
        cdc: true,
        partition_key: vec![column(("customer_id", Native::Uuid, ColumnKind::PartitionKey))],
        clustering: vec![column(("order_id", Native::Bigint, ColumnKind::Clustering))],
        columns: regular.map(|(name, native)| column((name, native, ColumnKind::Regular))).into(),
    }
}

/// The mutation of an INSERT into `orders`, as Cassandra 4.1 writes it.
fn insert(number: u64) -> Vec<u8> {
    // Golden-ratio hashing: keys without an order, the same in every run.
    let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let micros = 1_700_000_000_000_000 + number * 250;
    let table = orders();
    let mut out = vec![1]; // One update.
    out.extend_from_slice(&table.id.0.to_be_bytes());
    vbytes(&mut out, &(u128::from(random) << 64 | u128::from(random.rotate_left(29))).to_be_bytes());
    out.push(0x10); // It has a row estimate, and neither a deletion nor a static row.
    uv(&mut out, micros - EPOCH_MICROS);
    uv(&mut out, (i32::MAX as u64) - 1_442_880_000); // Nothing is deleted.
    uv(&mut out, 0);
    uv(&mut out, table.columns.len() as u64);
    for column in &table.columns {
        vbytes(&mut out, column.name.as_bytes());
    }
    uv(&mut out, 1);
    out.push(0x04 | 0x20); // A row with a timestamp and all columns.
    uv(&mut out, 0); // All clustering values are there.
    out.extend_from_slice(&(1_000_000 + number).to_be_bytes());
    uv(&mut out, 0); // The row's timestamp is the least one.
    let note = "please leave the parcel at the door of the neighbour, and ring twice before you go";
    let status = ["new", "paid", "shipped", "delivered"][(random >> 32) as usize % 4];
    cell(&mut out, |out| out.extend_from_slice(&((random >> 40) as f64 / 100.0).to_be_bytes()));
    cell(&mut out, |out| out.extend_from_slice(&(micros / 1000).to_be_bytes()));
    cell(&mut out, |out| vbytes(out, &note.as_bytes()[..40 + (random >> 50) as usize % 32]));
    cell(&mut out, |out| out.extend_from_slice(&(1 + (random >> 20) as u32 % 9).to_be_bytes()));
    cell(&mut out, |out| vbytes(out, status.as_bytes()));
    out.push(0x01); // The end.
    out
}

/// A cell with a value and its row's timestamp.
fn cell(out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    out.push(0x08);
    value(out);
}

/// A segment of these mutations, or of as many as fit.
fn segment(parameters: &str, bodies: impl Iterator<Item = Vec<u8>>, store: fn(&mut Vec<u8>, &[u8])) -> Vec<u8> {
    let mut out = descriptor(parameters);
    let mut entries = Vec::new();
    let mut bodies = bodies.map(|body| entry(&body)).peekable();
    loop {
        entries.clear();
        // The marker of this section and the unwritten one behind it need room too.
        let room = (SEGMENT - out.len()).saturating_sub(2 * MARKER);
        while entries.len() < SECTION
            && let Some(entry) = bodies.next_if(|entry| entries.len() + entry.len() <= room)
        {
            entries.extend_from_slice(&entry);
        }
        if entries.is_empty() {
            break;
        }
        let marker = out.len();
        out.extend_from_slice(&[0; MARKER]);
        store(&mut out, &entries);
        let next = i32::try_from(out.len()).expect("below 2 GiB");
        let crc = crc32fast::hash(&[&halves_low_first()[..], &(marker as u32).to_be_bytes()].concat());
        out[marker..marker + 4].copy_from_slice(&next.to_be_bytes());
        out[marker + 4..marker + 8].copy_from_slice(&crc.to_be_bytes());
    }
    if parameters == "{}" {
        out.resize(SEGMENT, 0); // What was never written.
    }
    out
}

fn plain(out: &mut Vec<u8>, entries: &[u8]) {
    out.extend_from_slice(entries);
}

fn lz4(out: &mut Vec<u8>, entries: &[u8]) {
    let len = i32::try_from(entries.len()).expect("a section");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&lz4_flex::block::compress(entries));
}

fn descriptor(parameters: &str) -> Vec<u8> {
    let len = u16::try_from(parameters.len()).expect("short parameters");
    let (version, parameters) = (VERSION.to_be_bytes(), parameters.as_bytes());
    let summed = [&version[..], &halves_low_first(), &u32::from(len).to_be_bytes(), parameters].concat();
    let crc = crc32fast::hash(&summed);
    [&version[..], &ID.to_be_bytes(), &len.to_be_bytes(), parameters, &crc.to_be_bytes()].concat()
}

/// The form in which checksums take the id in.
fn halves_low_first() -> [u8; 8] {
    ID.rotate_left(32).to_be_bytes()
}

fn entry(body: &[u8]) -> Vec<u8> {
    let size = i32::try_from(body.len()).expect("a short body").to_be_bytes();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&size);
    crc.update(body);
    [&size[..], &crc32fast::hash(&size).to_be_bytes(), body, &crc.finalize().to_be_bytes()].concat()
}

/// An unsigned vint in its shortest form.
fn uv(out: &mut Vec<u8>, value: u64) {
    let extra = (0..8_u32).find(|extra| value >> (7 * extra + 7) == 0).unwrap_or(8);
    let ones = !(0xff_u32 >> extra) as u8;
    let bytes = value.to_be_bytes();
    out.push(ones | value.checked_shr(8 * extra).unwrap_or(0) as u8);
    out.extend_from_slice(&bytes[8 - extra as usize..]);
}

/// A length and as many bytes.
fn vbytes(out: &mut Vec<u8>, bytes: &[u8]) {
    uv(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
