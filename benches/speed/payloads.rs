//! Records that are ready: all that the line makes of one segment, in the order in which a side sends them.
//!
//! Owns: their file, and the order in which the agent hands records over. Does not own: sending them.

use std::fs;
use std::path::Path;

use cassandra_cdc::kafka::KafkaSettings;
use cassandra_commitlog::Decoder;
use cassandra_event::{Format, partition};

use crate::broker::PARTITIONS;
use crate::image::Image;
use crate::line::{Publisher, each_update};

/// One record.
pub(crate) struct Payload<'a> {
    pub(crate) partition: i32,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// Every record of a segment, encoded, one behind the other.
struct Encoded {
    bytes: Vec<u8>,
    /// Partition, and where key and value begin and end.
    records: Vec<(u32, usize, usize, usize)>,
}

impl Encoded {
    fn of(image: &Image, format: Format) -> Self {
        let mut publisher = Publisher::new(format, image);
        let mut decoder = Decoder::new(image.schema.clone());
        let mut encoded = Self { bytes: Vec::new(), records: Vec::new() };
        each_update(image, &mut decoder, |update, end| {
            let (hash, key, value) = publisher.record_of(update, end);
            let start = encoded.bytes.len();
            encoded.bytes.extend_from_slice(key);
            let middle = encoded.bytes.len();
            encoded.bytes.extend_from_slice(value);
            encoded.records.push((partition(hash, PARTITIONS), start, middle, encoded.bytes.len()));
        });
        encoded
    }

    /// The order in which the agent sends them: in runs per partition, each as soon as it is full, and all of them
    /// when as many bytes wait as its arena takes.
    fn in_runs(&self) -> Vec<usize> {
        let KafkaSettings { run_records, arena_bytes, .. } = KafkaSettings::default();
        let mut order = Vec::with_capacity(self.records.len());
        let mut runs = vec![Vec::new(); PARTITIONS as usize];
        let mut waiting = 0;
        for (index, (partition, start, _, end)) in self.records.iter().enumerate() {
            let run: &mut Vec<usize> = &mut runs[*partition as usize];
            run.push(index);
            waiting += end - start;
            if run.len() >= usize::from(run_records) {
                order.append(run);
            } else if waiting >= arena_bytes {
                runs.iter_mut().for_each(|run| order.append(run));
                waiting = 0;
            }
        }
        runs.iter_mut().for_each(|run| order.append(run));
        order
    }

    fn write(&self, path: &Path, order: impl Iterator<Item = usize>) {
        let mut file = Vec::with_capacity(self.bytes.len() + 12 * self.records.len());
        for (partition, start, middle, end) in order.map(|index| self.records[index]) {
            for number in [partition as usize, middle - start, end - middle] {
                file.extend_from_slice(&(number as u32).to_ne_bytes());
            }
            file.extend_from_slice(&self.bytes[start..end]);
        }
        fs::write(path, file).expect("to write payloads");
    }
}

/// Writes the records of a segment twice: in runs, and as they come.
pub(crate) fn write(image: &Image, format: Format, in_runs: &Path, as_they_come: &Path) {
    let encoded = Encoded::of(image, format);
    encoded.write(in_runs, encoded.in_runs().into_iter());
    encoded.write(as_they_come, 0..encoded.records.len());
}

/// The records of such a file.
pub(crate) fn each(mut file: &[u8]) -> impl Iterator<Item = Payload<'_>> {
    std::iter::from_fn(move || {
        let number = |at: usize| Some(u32::from_ne_bytes(file.get(at..at + 4)?.try_into().ok()?));
        let (partition, key, value) = (number(0)?, number(4)? as usize, number(8)? as usize);
        let (record, rest) = file[12..].split_at(key + value);
        file = rest;
        let (key, value) = record.split_at(key);
        Some(Payload { partition: partition as i32, key, value })
    })
}
