//! Whole segments to read: 32 MiB of one table's inserts, the same in LZ4, and recorded mutations over and over.
//!
//! Owns: their files. Does not own: framing (`framing`), the bytes of an insert (`orders`), what is measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cassandra_cdc::mapped::Mapped;
use cassandra_commitlog::{Decoder, Mutation, MutationError, Schema, SegmentName};

use crate::framing::{Codec, SEGMENT, Segment};
use crate::line::each_entry;
use crate::{load, orders};

const FIRST_ID: i64 = 1_795_246_257_030;

/// A mapped segment, and the schema that reads it.
pub(crate) struct Image {
    pub(crate) name: SegmentName,
    pub(crate) file_name: String,
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
        let file_name = Segment::plain(FIRST_ID).file_name();
        let name = SegmentName::parse(&file_name).expect("a segment's name");
        Self { name, file_name, file, schema, entries }
    }

    /// Inserts into the table `orders`, each with keys of its own: about 190 bytes a mutation.
    pub(crate) fn orders(folder: &Path) -> Self {
        let schema = Arc::new(Schema::new([orders::table()]));
        let bytes = Segment::plain(FIRST_ID).of((0..).map(orders::insert));
        Self::new(&folder.join("orders"), &bytes, schema)
    }

    /// The same mutations, compressed.
    pub(crate) fn lz4(folder: &Path, orders: &Self) -> Self {
        let segment = Segment { id: FIRST_ID, codec: Codec::Lz4, size: SEGMENT };
        let bytes = segment.of((0..).map(orders::insert).take(orders.entries));
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
        let bytes = Segment::plain(FIRST_ID).of(bodies.iter().cycle().cloned());
        Self::new(&folder.join("recorded"), &bytes, schema)
    }
}

/// Segments with the mutations of [`Image::orders`], each under an id of its own, as files that stay.
pub(crate) struct Copies {
    folder: PathBuf,
    codec: Codec,
    bodies: Vec<Vec<u8>>,
    made: Vec<PathBuf>,
}

impl Copies {
    pub(crate) fn new(folder: PathBuf, codec: Codec, entries: usize) -> Self {
        fs::create_dir_all(&folder).expect("a folder");
        let bodies = (0..entries as u64).map(orders::insert).collect();
        Self { folder, codec, bodies, made: Vec::new() }
    }

    /// The first so many.
    pub(crate) fn first(&mut self, count: usize) -> &[PathBuf] {
        while self.made.len() < count {
            let id = FIRST_ID + self.made.len() as i64;
            let segment = Segment { id, codec: self.codec, size: SEGMENT };
            let path = self.folder.join(segment.file_name());
            fs::write(&path, segment.of(self.bodies.iter().cloned())).expect("to write a segment");
            self.made.push(path);
        }
        &self.made[..count]
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
