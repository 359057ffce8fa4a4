//! The quarantine: entries that could not be decoded, and damaged bytes, kept beside the state for a person to look at
//! and to try again.
//!
//! Owns: the files in `quarantine/`, their number and size. Does not own: the decision to give up an entry or bytes; the
//! promise, which is the acknowledged dead letter or the durable gap record: an item that could not be kept breaks none.
//!
//! An entry is `<segment>-<position>.json`, a dead letter in JSON and in one piece whatever the form of records; a
//! region is `<segment>-<from>-<to>.damage`, the bytes as they stood in the segment's file.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cassandra_commitlog::{Entry, FormatVersion, LogOffset, SegmentName};
use cassandra_event::{DeadLetter, Encoder, Format, Settings};
use serde::Deserialize;

use crate::durable_file::Folder;

/// How many items are kept at most.
pub const MAX_ITEMS: usize = 10_000;

/// How many bytes their files have together at most.
pub const MAX_BYTES: u64 = 256 << 20;

/// How long a full quarantine is believed to be full: somebody may have dropped items.
const RECOUNT: Duration = Duration::from_secs(60);

const FOLDER: &str = "quarantine";

/// How the names of entries end.
const ENTRY: &str = ".json";

/// How the names of regions end.
const REGION: &str = ".damage";

/// What became of something to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is kept.
    Now,
    /// It was before: a crash has it read again.
    Before,
    /// It isn't: the quarantine is full.
    Full,
}

/// Which kind of item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An entry that could not be decoded.
    Entry,
    /// Damaged bytes of a segment.
    Region,
}

/// An item by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its name in the folder.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// The size of its file in bytes.
    pub bytes: u64,
}

/// What an item holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An entry that could not be decoded.
    Entry(Box<KeptEntry>),
    /// Damaged bytes of a segment.
    Region(Vec<u8>),
}

/// An entry that could not be decoded. Its bytes have the checksum that it had in its segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEntry {
    /// Its id.
    pub id: String,
    /// Why, in a word.
    pub reason: String,
    /// Why exactly.
    pub detail: String,
    /// The keyspace, where it is known.
    pub keyspace: Option<String>,
    /// The table, where it is known.
    pub table: Option<String>,
    /// The segment that it stood in.
    pub segment: SegmentName,
    /// The segment's commit-log version.
    pub version: FormatVersion,
    /// The cluster's name at that time.
    pub cluster: String,
    /// The node's host id at that time.
    pub host_id: String,
    body: Vec<u8>,
    body_at: LogOffset,
    crc: u32,
}

impl KeptEntry {
    /// The entry, to be decoded again.
    pub fn entry(&self) -> Entry<'_> {
        Entry { body: &self.body, body_at: self.body_at, crc: self.crc }
    }
}

/// The quarantine of a state directory.
#[derive(Debug)]
pub struct Quarantine {
    folder: Folder,
    /// Writes what is kept; only who keeps needs one.
    encoder: Option<Encoder>,
    items: usize,
    bytes: u64,
    counted: Instant,
    refused: u64,
}

impl Quarantine {
    /// Opens `quarantine/` in a state directory, to look and drop; none where nothing was ever kept. A running agent may
    /// use it at the same time.
    ///
    /// # Errors
    /// The folder can't be used.
    pub fn find(state: &Path) -> io::Result<Option<Self>> {
        // Whoever only looks must not make a folder that may then be another user's.
        let folder = Folder::find(&state.join(FOLDER), "quarantine")?;
        folder.map(|folder| Self::of(folder, None)).transpose()
    }

    /// Opens `quarantine/` in a locked state directory, to keep what comes. `settings` say whose segments they are.
    ///
    /// # Errors
    /// The folder can't be used.
    pub fn open_to_keep(state: &Path, settings: &Settings) -> io::Result<Self> {
        let folder = Folder::open(&state.join(FOLDER), "quarantine")?;
        folder.sweep()?;
        // In one piece: nobody else reads it than we.
        let settings = Settings { format: Format::Json, max_record_bytes: usize::MAX, ..settings.clone() };
        Self::of(folder, Some(Encoder::new(settings)))
    }

    fn of(folder: Folder, encoder: Option<Encoder>) -> io::Result<Self> {
        let mut quarantine = Self { folder, encoder, items: 0, bytes: 0, counted: Instant::now(), refused: 0 };
        quarantine.recount()?;
        Ok(quarantine)
    }

    /// Keeps an entry that could not be decoded.
    ///
    /// # Errors
    /// What the system said: worth a warning, no more. The dead letter is the promise.
    pub fn keep_entry(&mut self, letter: &DeadLetter<'_>) -> io::Result<Kept> {
        let name = format!("{}-{}{ENTRY}", letter.segment, letter.position.offset.0);
        // Base64, and some text around it.
        let bytes = u64::from(letter.size) / 3 * 4 + 1024;
        if let Some(kept) = self.known(&name, bytes)? {
            return Ok(kept);
        }
        let Some(encoder) = &self.encoder else { return Err(io::Error::other("it was not opened to keep anything")) };
        let (mut json, mut records) = (Vec::new(), Vec::new());
        encoder.dead_letter(letter, &mut json, &mut records);
        let mut json = records.first().map(|record| record.value_bytes(&json).to_vec()).unwrap_or_default();
        json.push(b'\n');
        self.keep(&name, &json)
    }

    /// Keeps damaged bytes, as they stand in the file of a segment, between two of its logical positions; without the
    /// second one to its end.
    ///
    /// # Errors
    /// What the system said: worth a warning, no more. The gap record is the promise.
    pub fn keep_region(&mut self, segment: &str, from: u32, to: Option<u32>, bytes: &[u8]) -> io::Result<Kept> {
        let to = to.map_or_else(|| "end".to_owned(), |to| to.to_string());
        let name = format!("{segment}-{from}-{to}{REGION}");
        match self.known(&name, u64::try_from(bytes.len()).unwrap_or(u64::MAX))? {
            Some(kept) => Ok(kept),
            None => self.keep(&name, bytes),
        }
    }

    /// How many items were not kept since the start, because it was full.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// All items, by name.
    ///
    /// # Errors
    /// What the system said.
    pub fn items(&self) -> io::Result<Vec<Item>> {
        let mut items = Vec::new();
        for name in self.folder.names()? {
            let kind = match &name {
                name if name.ends_with(ENTRY) => Kind::Entry,
                name if name.ends_with(REGION) => Kind::Region,
                _ => continue,
            };
            // One that has just been dropped is none.
            if let Some(bytes) = self.folder.size(&name)? {
                items.push(Item { name, kind, bytes });
            }
        }
        Ok(items)
    }

    /// What an item holds; none if there is no such item.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] if it is damaged, and what else the system said.
    pub fn read(&self, name: &str) -> io::Result<Option<Content>> {
        let Some(bytes) = self.folder.read(name, MAX_BYTES)? else { return Ok(None) };
        if !name.ends_with(ENTRY) {
            return Ok(Some(Content::Region(bytes)));
        }
        let entry = parse(&bytes).map_err(|why| io::Error::new(ErrorKind::InvalidData, why))?;
        Ok(Some(Content::Entry(Box::new(entry))))
    }

    /// The text of an entry's file; none if there is no such item.
    ///
    /// # Errors
    /// What the system said.
    pub fn raw(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.folder.read(name, MAX_BYTES)
    }

    /// Drops an item for good. Says whether it was there.
    ///
    /// # Errors
    /// What the system said.
    pub fn drop_item(&mut self, name: &str) -> io::Result<bool> {
        self.folder.remove(name)
    }

    /// What is known of an item before its bytes are made: that it is there, or that there is no room.
    fn known(&mut self, name: &str, bytes: u64) -> io::Result<Option<Kept>> {
        if self.folder.size(name)?.is_some() {
            return Ok(Some(Kept::Before));
        }
        if !self.has_room(bytes) && self.counted.elapsed() >= RECOUNT {
            self.recount()?;
        }
        if self.has_room(bytes) {
            return Ok(None);
        }
        if self.refused == 0 {
            tracing::warn!(
                folder = %self.folder.path().display(),
                "the quarantine is full; what can't be decoded goes to the dead-letter topic alone: \
                 `cassandra-cdc quarantine drop` makes room"
            );
        }
        self.refused = self.refused.saturating_add(1);
        Ok(Some(Kept::Full))
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.items < MAX_ITEMS && self.bytes.saturating_add(bytes) <= MAX_BYTES
    }

    fn keep(&mut self, name: &str, bytes: &[u8]) -> io::Result<Kept> {
        match self.folder.create(name, bytes) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Kept::Before),
            created => created?,
        }
        self.items += 1;
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(Kept::Now)
    }

    fn recount(&mut self) -> io::Result<()> {
        let items = self.items()?;
        self.items = items.len();
        self.bytes = items.iter().fold(0, |sum, item| sum.saturating_add(item.bytes));
        self.counted = Instant::now();
        Ok(())
    }
}

/// A dead letter's JSON as it is read back.
#[derive(Debug, Deserialize)]
struct Json {
    v: u32,
    id: String,
    reason: String,
    detail: String,
    keyspace: Option<String>,
    table: Option<String>,
    entry: EntryJson,
    source: Source,
}

#[derive(Debug, Deserialize)]
struct EntryJson {
    position: u32,
    size: u32,
    crc: String,
    version: i32,
    base64: String,
}

#[derive(Debug, Deserialize)]
struct Source {
    cluster: String,
    host_id: String,
    segment: String,
}

fn parse(bytes: &[u8]) -> Result<KeptEntry, String> {
    let json: Json = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if json.v != 1 {
        return Err(format!("its version is {}", json.v));
    }
    let body = STANDARD.decode(&json.entry.base64).map_err(|error| error.to_string())?;
    let crc = u32::from_str_radix(&json.entry.crc, 16).map_err(|error| format!("its checksum: {error}"))?;
    let size = u32::try_from(body.len()).ok().filter(|size| *size == json.entry.size);
    let size = size.ok_or("its bytes have another size than it says")?;
    let body_at = json.entry.position.checked_sub(4).and_then(|at| at.checked_sub(size));
    let segment = SegmentName::parse(&json.source.segment).map_err(|error| error.to_string())?;
    let entry = KeptEntry {
        id: json.id,
        reason: json.reason,
        detail: json.detail,
        keyspace: json.keyspace,
        table: json.table,
        segment,
        version: FormatVersion::from_number(json.entry.version).ok_or("its commit-log version is unknown")?,
        cluster: json.source.cluster,
        host_id: json.source.host_id,
        body,
        body_at: LogOffset(body_at.ok_or("its position lies within itself")?),
        crc,
    };
    if entry.entry().is_whole() { Ok(entry) } else { Err("its bytes do not have the checksum that it says".to_owned()) }
}

#[cfg(test)]
mod tests;
