//! The bytes around mutations: descriptor, markers, entries, and whole segments of them.
//!
//! Owns: one segment of version 7 with any id, its sections as long as a node's. Does not own: what the mutations say.

/// Length of a segment: Cassandra's default.
pub(crate) const SEGMENT: usize = 32 << 20;
/// A node marks what it wrote every 100 ms: under load every 67 to 140 KB.
const SECTION: usize = 100_000;
pub(crate) const MARKER: usize = 8;
const VERSION: i32 = 7;

/// How sections are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Plain,
    Lz4,
}

/// One segment to be.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) id: i64,
    pub(crate) codec: Codec,
    /// Bytes of the file; compressed, at most.
    pub(crate) size: usize,
}

impl Segment {
    /// A plain one of the usual size.
    pub(crate) fn plain(id: i64) -> Self {
        Self { id, codec: Codec::Plain, size: SEGMENT }
    }

    pub(crate) fn file_name(self) -> String {
        format!("CommitLog-{VERSION}-{}.log", self.id)
    }

    pub(crate) fn index_name(self) -> String {
        format!("CommitLog-{VERSION}-{}_cdc.idx", self.id)
    }

    /// Its bytes with these mutations, or with as many as fit.
    pub(crate) fn of(self, bodies: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
        let mut out = self.descriptor();
        let mut entries = Vec::new();
        let mut bodies = bodies.map(|body| entry(&body)).peekable();
        loop {
            entries.clear();
            // The marker of this section and the unwritten one behind it need room too.
            let room = (self.size - out.len()).saturating_sub(2 * MARKER);
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
            self.store(&mut out, &entries);
            let next = out.len();
            out[marker..marker + MARKER].copy_from_slice(&self.marker(marker, next));
        }
        if self.codec == Codec::Plain {
            out.resize(self.size, 0); // What was never written.
        }
        out
    }

    fn store(self, out: &mut Vec<u8>, entries: &[u8]) {
        match self.codec {
            Codec::Plain => out.extend_from_slice(entries),
            Codec::Lz4 => {
                let len = i32::try_from(entries.len()).expect("a section");
                out.extend_from_slice(&len.to_be_bytes());
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(&lz4_flex::block::compress(entries));
            }
        }
    }

    pub(crate) fn descriptor(self) -> Vec<u8> {
        let parameters = match self.codec {
            Codec::Plain => "{}",
            Codec::Lz4 => r#"{"compressionClass":"LZ4Compressor","compressionParameters":{}}"#,
        };
        let len = u16::try_from(parameters.len()).expect("short parameters");
        let (version, parameters) = (VERSION.to_be_bytes(), parameters.as_bytes());
        let summed = [&version[..], &self.halves_low_first(), &u32::from(len).to_be_bytes(), parameters].concat();
        let crc = crc32fast::hash(&summed);
        [&version[..], &self.id.to_be_bytes(), &len.to_be_bytes(), parameters, &crc.to_be_bytes()].concat()
    }

    /// The marker that stands at `at` and says where the next one is.
    pub(crate) fn marker(self, at: usize, next: usize) -> [u8; MARKER] {
        let next = i32::try_from(next).expect("below 2 GiB").to_be_bytes();
        let crc = crc32fast::hash(&[&self.halves_low_first()[..], &(at as u32).to_be_bytes()].concat());
        let mut marker = [0; MARKER];
        marker[..4].copy_from_slice(&next);
        marker[4..].copy_from_slice(&crc.to_be_bytes());
        marker
    }

    /// The form in which checksums take the id in.
    fn halves_low_first(self) -> [u8; 8] {
        self.id.rotate_left(32).to_be_bytes()
    }
}

/// A mutation with its size and checksums.
pub(crate) fn entry(body: &[u8]) -> Vec<u8> {
    let size = i32::try_from(body.len()).expect("a short body").to_be_bytes();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&size);
    crc.update(body);
    [&size[..], &crc32fast::hash(&size).to_be_bytes(), body, &crc.finalize().to_be_bytes()].concat()
}
