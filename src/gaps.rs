//! Gap records: what is known to be missing, one durable file each in `gaps/` of the state directory.
//!
//! Owns: the files, which of them Kafka has, how many of those are kept. Does not own: the decision that something is
//! lost (the keeper and the pump), the record's members (`cassandra_event::Gap`), its publication.
//!
//! A gap that Kafka has not acknowledged is never dropped. Its file is `<segment>.<kind>.<from>-<to>.json`; once it is
//! published it ends in `.published.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cassandra_event::{Encoder, Gap, GapKind, Settings};
use serde::Deserialize;

use crate::durable_file::Folder;
use crate::observe::ByReason;

/// How many published records are kept, for whoever looks into the state directory.
pub const PUBLISHED_KEPT: usize = 10_000;

/// A record is some hundred bytes: a file beyond this is none.
const MAX_BYTES: u64 = 64 << 10;

/// The longest name of a segment in a file name.
const MAX_NAME: usize = 150;

const ENDING: &str = ".json";
const PUBLISHED: &str = ".published.json";

/// Changes that are missing. The same as [`Gap`], with a name of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRecord {
    /// The segment's file name.
    pub segment: String,
    /// Why they are missing.
    pub kind: GapKind,
    /// The first position that is missing, where it is known.
    pub from: Option<u32>,
    /// The end of what is missing, where it is known.
    pub to: Option<u32>,
    /// How many entries are missing, where it is known.
    pub entries: Option<u64>,
    /// When it was noticed, seconds since 1970.
    pub at: i64,
    /// Whether positions behind the gap, and so ids, may differ from those of another reading.
    pub ids_may_shift: bool,
}

impl GapRecord {
    /// All of a segment from a position on, or from its beginning, noticed now.
    pub fn of_the_rest(segment: String, kind: GapKind, from: Option<u32>) -> Self {
        let at = jiff::Timestamp::now().as_second();
        Self { segment, kind, from, to: None, entries: None, at, ids_may_shift: false }
    }

    /// For [`Encoder::gap`].
    pub fn as_gap(&self) -> Gap<'_> {
        let Self { segment, kind, from, to, entries, at, ids_may_shift } = self;
        Gap { segment, kind: *kind, from: *from, to: *to, entries: *entries, at: *at, ids_may_shift: *ids_may_shift }
    }

    /// What the names of its file have in common. When it was noticed is no part of it: who reads the same place again
    /// after a crash has found the same gap.
    fn stem(&self) -> io::Result<String> {
        let segment = &self.segment;
        if segment.is_empty() || segment.len() > MAX_NAME || segment.starts_with('.') || segment.contains('/') {
            return Err(io::Error::new(ErrorKind::InvalidInput, format!("{segment:?} is not the name of a segment")));
        }
        let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
        Ok(format!("{segment}.{}.{}-{}", self.kind.word(), number(self.from), number(self.to)))
    }
}

/// The proof that a gap is durable on disk: what gives up a segment wants it. Only [`GapLog::record`] makes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "whatever is to be given up wants it"]
pub struct Recorded {
    segment: String,
    kind: GapKind,
    is_new: bool,
}

impl Recorded {
    /// Whether it was not on record before.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The file name of the segment that misses something.
    pub fn segment(&self) -> &str {
        &self.segment
    }

    /// Why it does.
    pub fn kind(&self) -> GapKind {
        self.kind
    }
}

/// A gap that Kafka does not have yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpublished {
    /// What [`GapLog::published`] wants.
    pub name: String,
    /// What is missing.
    pub gap: GapRecord,
}

/// A file that should hold a gap record, and doesn't. It is kept: a person must look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedGap {
    /// Its name in `gaps/`.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for DamagedGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, why } = self;
        write!(
            f,
            "gaps/{name} in the state directory is no gap record ({why}): a loss may be recorded there that is not \
             published; keep a copy, move it away, and restart the agent"
        )
    }
}

/// The gap records of a state directory. Clones share it.
#[derive(Debug, Clone)]
pub struct GapLog(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    folder: Folder,
    encoder: Encoder,
    /// By file name.
    unpublished: BTreeMap<String, GapRecord>,
    published: BTreeMap<String, GapRecord>,
    damaged: Vec<DamagedGap>,
    stopped: bool,
}

impl GapLog {
    /// Opens `gaps/` in a locked state directory, and reads what is in it. `settings` say whose segments they are.
    ///
    /// # Errors
    /// The folder can't be used, or a file in it can't be read. What can be read and is no gap record is in
    /// [`Self::damaged`].
    pub fn open(state: &Path, settings: &Settings) -> io::Result<Self> {
        let folder = Folder::open(&state.join("gaps"), "gap")?;
        folder.sweep()?;
        let (mut unpublished, mut published, mut damaged) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for name in folder.names()? {
            match load(&folder, &name) {
                Ok(gap) if name.ends_with(PUBLISHED) => drop(published.insert(name, gap)),
                Ok(gap) => drop(unpublished.insert(name, gap)),
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    damaged.push(DamagedGap { name, why: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        let encoder = Encoder::new(settings.clone());
        Ok(Self(Arc::new(Mutex::new(Inner { folder, encoder, unpublished, published, damaged, stopped: false }))))
    }

    /// Makes a gap durable before it returns. One of the same segment, kind and bounds that is there already stands
    /// for it.
    ///
    /// # Errors
    /// What the system said. It is not tried again, whatever comes later: stop acknowledging and exit.
    pub fn record(&self, gap: &GapRecord) -> io::Result<Recorded> {
        let is_new = self.inner().record(gap)?;
        Ok(Recorded { segment: gap.segment.clone(), kind: gap.kind, is_new })
    }

    /// The same, counted unless it was on record before.
    ///
    /// # Errors
    /// As there.
    pub fn record_counted(&self, gap: &GapRecord, counter: &ByReason) -> io::Result<()> {
        if self.record(gap)?.is_new() {
            counter.inc(gap.kind.word());
        }
        Ok(())
    }

    /// What Kafka does not have yet, earliest first.
    pub fn unpublished(&self) -> Vec<Unpublished> {
        let inner = self.inner();
        let gaps = inner.unpublished.iter();
        let mut gaps: Vec<Unpublished> =
            gaps.map(|(name, gap)| Unpublished { name: name.clone(), gap: gap.clone() }).collect();
        gaps.sort_by_key(|unpublished| unpublished.gap.at);
        gaps
    }

    /// Kafka has acknowledged this one. Not fsynced: what a power loss takes back is published again.
    ///
    /// # Errors
    /// What the system said; the gap stays unpublished.
    pub fn published(&self, name: &str) -> io::Result<()> {
        self.inner().published(name)
    }

    /// Whether all the rest of this segment is recorded as missing.
    pub fn ends(&self, segment: &str) -> bool {
        let inner = self.inner();
        let mut gaps = inner.unpublished.values().chain(inner.published.values());
        gaps.any(|gap| gap.segment == segment && gap.kind != GapKind::DamagedBytes)
    }

    /// When the newest of them was noticed, seconds since 1970; 0 where there is none.
    pub fn newest(&self) -> u64 {
        let inner = self.inner();
        let newest = inner.unpublished.values().chain(inner.published.values()).map(|gap| gap.at).max();
        newest.and_then(|at| u64::try_from(at).ok()).unwrap_or(0)
    }

    /// Files that should hold a gap record, and don't: an alarm.
    pub fn damaged(&self) -> Vec<DamagedGap> {
        self.inner().damaged.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A thread that panics takes the process with it; until then what it left is still true of the disk.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Says whether it is new.
    fn record(&mut self, gap: &GapRecord) -> io::Result<bool> {
        let stem = gap.stem()?;
        // A damaged file keeps its name; one more number is free in the end.
        let is_free = |number: &u64| {
            let names = names(&stem, *number);
            !self.damaged.iter().any(|damaged| names.contains(&damaged.name))
        };
        let number = (1..).find(is_free).unwrap_or_default();
        let [name, published] = names(&stem, number);
        if self.unpublished.contains_key(&name) || self.published.contains_key(&published) {
            return Ok(false);
        }
        if self.stopped {
            return Err(io::Error::other("an earlier gap record was not written; nothing is given up after that"));
        }
        let mut json = Vec::new();
        self.encoder.gap_json(&gap.as_gap(), &mut json);
        json.push(b'\n');
        // After a failed fsync the kernel may call the next one a success.
        self.stopped = true;
        self.folder.create(&name, &json)?;
        self.stopped = false;
        self.unpublished.insert(name, gap.clone());
        Ok(true)
    }

    fn published(&mut self, name: &str) -> io::Result<()> {
        let Some(stem) = name.strip_suffix(ENDING).filter(|_| self.unpublished.contains_key(name)) else {
            return Ok(());
        };
        let new_name = format!("{stem}{PUBLISHED}");
        self.folder.rename(name, &new_name)?;
        if let Some(gap) = self.unpublished.remove(name) {
            self.published.insert(new_name, gap);
        }
        self.prune()
    }

    /// Drops the earliest of too many published ones.
    fn prune(&mut self) -> io::Result<()> {
        while self.published.len() > PUBLISHED_KEPT {
            let earliest = self.published.iter().min_by_key(|(_, gap)| gap.at);
            let Some(name) = earliest.map(|(name, _)| name.clone()) else { break };
            self.folder.remove(&name)?;
            self.published.remove(&name);
        }
        Ok(())
    }
}

/// The names of a gap's file, before and after its publication.
fn names(stem: &str, number: u64) -> [String; 2] {
    let number = if number == 1 { String::new() } else { format!(".{number}") };
    [ENDING, PUBLISHED].map(|ending| format!("{stem}{number}{ending}"))
}

/// A record's JSON as it is read back.
#[derive(Debug, Deserialize)]
struct Json {
    v: u32,
    gap: String,
    from: Option<u32>,
    to: Option<u32>,
    entries: Option<u64>,
    at: String,
    #[serde(default)]
    ids_may_shift: bool,
    source: Source,
}

#[derive(Debug, Deserialize)]
struct Source {
    segment: String,
}

fn load(folder: &Folder, name: &str) -> io::Result<GapRecord> {
    let bytes = folder.read(name, MAX_BYTES)?.ok_or(ErrorKind::NotFound)?;
    let damaged = |why: String| io::Error::new(ErrorKind::InvalidData, why);
    let json: Json = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if json.v != 1 {
        return Err(damaged(format!("its version is {}", json.v)));
    }
    let at: jiff::Timestamp = json.at.parse().map_err(|error: jiff::Error| damaged(error.to_string()))?;
    let kind = GapKind::ALL.into_iter().find(|kind| kind.word() == json.gap);
    let gap = GapRecord {
        kind: kind.ok_or_else(|| damaged(format!("{:?} is not a kind of gap", json.gap)))?,
        segment: json.source.segment,
        from: json.from,
        to: json.to,
        entries: json.entries,
        at: at.as_second(),
        ids_may_shift: json.ids_may_shift,
    };
    if !name.starts_with(&gap.stem()?) {
        return Err(damaged("it holds another gap than its name says".to_owned()));
    }
    Ok(gap)
}

#[cfg(test)]
mod tests;
