//! A stand-in for a Cassandra node: what it does to `cdc_raw`, and when.
//!
//! Owns: names, links, indexes, stops, kills and replays, and the journal of what was written. Does not own: the bytes
//! of segments (`segment`), what is in a mutation (`mutations`).
//!
//! As on a server everything is written under the node's own name for a segment, in `commitlog/`; `cdc_raw` has a second
//! link, made when the segment is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::mutations::{Kind, Mutations};
use super::random::Random;
use super::segment::{Codec, Segment, index_name};

/// What kind of node.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub version: i32,
    pub codec: Codec,
    pub segment_bytes: usize,
    pub seed: u64,
    pub keys: u64,
}

impl Options {
    pub fn new(seed: u64) -> Self {
        Self { version: 7, codec: Codec::Mapped, segment_bytes: 48 << 10, seed, keys: 40 }
    }
}

/// What becomes of an index on its way to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexMood {
    /// Truncated, then written.
    Normal,
    /// Left empty 19 times in 20.
    Empty,
    /// What no server writes.
    Garbage,
    /// Lower than before.
    Shrinking,
}

/// Whether an entry can still be lost by the node itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// No marker covers it.
    Unmarked,
    /// A marker does: replay would find it.
    Durable,
    /// The node died before that.
    Gone,
}

/// An entry that was written. Its number is its place in the journal.
#[derive(Debug, Clone)]
pub struct Written {
    pub kind: Kind,
    pub key: String,
    pub segment: i64,
    pub position: u32,
    pub fate: Fate,
}

/// The node.
pub struct Node {
    pub commitlog: PathBuf,
    pub cdc_raw: PathBuf,
    pub journal: Vec<Written>,
    pub mood: IndexMood,
    /// Whether new segments are linked: not over the limit.
    pub permitted: bool,
    pub next_id: i64,
    pub random: Random,
    options: Options,
    mutations: Mutations,
    active: Option<Segment>,
    spare: Option<Segment>,
    /// Full ones that the node still has under its own name.
    closed: Vec<Segment>,
    /// What each index should say.
    indexes: BTreeMap<String, String>,
    /// Writes to come that are of a table without CDC: whole segments without CDC data.
    plain_ahead: u64,
}

impl Node {
    /// A node on its very first start.
    pub fn new(folder: &Path, options: Options) -> Self {
        let mut node = Self::stopped(folder, options);
        node.start();
        node
    }

    fn stopped(folder: &Path, options: Options) -> Self {
        let (commitlog, cdc_raw) = (folder.join("commitlog"), folder.join("cdc_raw"));
        fs::create_dir_all(&commitlog).unwrap();
        Self {
            commitlog,
            cdc_raw,
            journal: Vec::new(),
            mood: IndexMood::Normal,
            permitted: true,
            next_id: 1_795_000_000_000,
            random: Random::new(options.seed),
            options,
            mutations: Mutations::new(options.version),
            active: None,
            spare: None,
            closed: Vec::new(),
            indexes: BTreeMap::new(),
            plain_ahead: 0,
        }
    }

    /// Starts, and replays what an earlier run left in the commit-log directory.
    pub fn start(&mut self) {
        self.start_with(true);
    }

    /// The same; without `cdc` the table has lost its CDC flag since, and replay takes its mutations for plain ones.
    pub fn start_with(&mut self, cdc: bool) {
        assert!(self.active.is_none(), "it runs");
        fs::create_dir_all(&self.cdc_raw).unwrap();
        for segment in std::mem::take(&mut self.closed) {
            self.replay(&segment, cdc);
            remove(&self.commitlog.join(&segment.name));
        }
        // Ids begin at the clock: with each run they jump.
        self.next_id += 1000 + self.random.below(1000) as i64;
        self.active = Some(self.create());
        self.spare = Some(self.create());
        self.write(Kind::Local);
    }

    fn replay(&mut self, segment: &Segment, cdc: bool) {
        let raw = self.cdc_raw.join(&segment.name);
        let index = segment.index_name();
        if segment.replayable && cdc {
            self.link(&segment.name);
            self.write_index(index, format!("{}\nCOMPLETED", segment.length()));
        } else if !self.indexes.contains_key(&index) {
            remove(&raw);
        }
    }

    /// Hard-links a segment unless its link is there: no error of replay, which finds most of them.
    fn link(&self, name: &str) {
        match fs::hard_link(self.commitlog.join(name), self.cdc_raw.join(name)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other.unwrap(),
        }
    }

    fn create(&mut self) -> Segment {
        let Options { version, codec, segment_bytes, .. } = self.options;
        let mut segment = Segment::create(&self.commitlog, self.next_id, version, codec, segment_bytes);
        self.next_id += 1;
        // 3.11 shows a segment only when it is done with it.
        if self.permitted && version > 6 {
            self.link(&segment.name);
            segment.linked = true;
        }
        segment
    }

    fn active(&mut self) -> &mut Segment {
        self.active.as_mut().expect("a running node")
    }

    /// Appends one entry; says whether it was accepted. A CDC write is refused while its segment has no link.
    pub fn write(&mut self, kind: Kind) -> bool {
        let number = self.journal.len() as u32;
        let key = format!("k{}", self.random.below(self.options.keys));
        let pad = self.random.below(160) as usize;
        let body = self.mutations.body(kind, &key, number, pad);
        if !self.active().fits(&body) {
            self.switch();
        }
        let cdc = matches!(kind, Kind::Cdc | Kind::Unknown);
        if cdc && !self.active().linked && self.options.version > 6 {
            return false;
        }
        let active = self.active();
        let position = active.append(&body);
        active.has_cdc |= cdc;
        active.unmarked.push(number);
        let segment = active.id;
        self.journal.push(Written { kind, key, segment, position, fate: Fate::Unmarked });
        true
    }

    /// Many writes.
    pub fn write_many(&mut self, kind: Kind, count: usize) {
        for _ in 0..count {
            self.write(kind);
        }
    }

    /// Writes until so many segments more are full.
    pub fn fill(&mut self, segments: usize) {
        let mut last = self.active_id();
        for _ in 0..segments {
            while self.active_id() == last {
                self.write(Kind::Cdc);
            }
            last = self.active_id();
        }
    }

    /// Writes the chained marker, as a server does every 100 ms. Only mapped segments have one without a sync.
    pub fn mark(&mut self) {
        let active = self.active();
        if active.codec() == Codec::Mapped && !active.unmarked.is_empty() {
            self.end_section();
        }
    }

    fn end_section(&mut self) {
        for number in self.active().mark() {
            self.journal[number as usize].fate = Fate::Durable;
        }
    }

    /// Marks, fsyncs as it were, and moves the index.
    pub fn sync(&mut self) {
        if !self.active().unmarked.is_empty() {
            self.end_section();
        }
        self.index_active("");
    }

    fn index_active(&mut self, end: &str) {
        let version = self.options.version;
        let active = self.active();
        if active.has_cdc && version > 6 {
            let (name, text) = (active.index_name(), format!("{}{end}", active.synced()));
            self.write_index(name, text);
        }
    }

    fn write_index(&mut self, name: String, text: String) {
        let path = self.cdc_raw.join(&name);
        let sealed = text.ends_with("COMPLETED");
        // An empty file is readable in between.
        File::create(&path).unwrap();
        match self.mood {
            IndexMood::Normal => fs::write(&path, &text).unwrap(),
            IndexMood::Empty if self.random.once_in(20) => fs::write(&path, &text).unwrap(),
            IndexMood::Empty => {}
            IndexMood::Garbage => {
                let garbage = ["-5", "12x", "\n", "99999999999999999999", "40\nCOMPLET", "\u{fffd}", "40 COMPLETED"];
                let one = garbage[self.random.below(garbage.len() as u64) as usize];
                fs::write(&path, one).unwrap();
            }
            // A sealed index tells the truth: with COMPLETED a lower number than the chain's end would be damage.
            IndexMood::Shrinking if !sealed => {
                let number: u64 = text.parse().unwrap();
                fs::write(&path, self.random.below(number).to_string()).unwrap();
            }
            IndexMood::Shrinking => fs::write(&path, &text).unwrap(),
        }
        self.indexes.insert(name, text);
    }

    /// Indexes say again what they should.
    pub fn heal_indexes(&mut self) {
        self.mood = IndexMood::Normal;
        for (name, text) in self.indexes.clone() {
            if self.cdc_raw.join(log_name(&name)).exists() {
                self.write_index(name, text);
            }
        }
    }

    /// Goes to the next segment: the old one is COMPLETED, the new one may get an early number.
    pub fn switch(&mut self) {
        if !self.active().unmarked.is_empty() {
            self.end_section();
        }
        self.index_active("\nCOMPLETED");
        let full = std::mem::replace(&mut self.active, self.spare.take()).expect("a running node");
        self.closed.push(full);
        self.spare = Some(self.create());
    }

    /// All tables are flushed: the node drops its own names of full segments, and links without CDC data with them.
    pub fn flush(&mut self) {
        for segment in std::mem::take(&mut self.closed) {
            let own = self.commitlog.join(&segment.name);
            match (segment.has_cdc, self.options.version) {
                (true, 6) => fs::rename(own, self.cdc_raw.join(&segment.name)).unwrap(),
                (true, _) => remove(&own),
                (false, _) => {
                    remove(&own);
                    remove(&self.cdc_raw.join(&segment.name));
                }
            }
        }
    }

    /// SIGTERM: everything is flushed and sealed; the spare's link stays for ever.
    pub fn stop(&mut self) {
        self.switch();
        self.flush();
        self.closed.extend(self.active.take());
        let mut phantom = self.spare.take().expect("a running node");
        phantom.mark();
        remove(&self.commitlog.join(&phantom.name));
    }

    /// SIGKILL: what no marker covers is gone.
    pub fn kill(&mut self) {
        let mut active = self.active.take().expect("a running node");
        for number in active.unmarked.drain(..) {
            self.journal[number as usize].fate = Fate::Gone;
        }
        self.closed.push(active);
        self.closed.extend(self.spare.take());
    }

    /// Links what was created over the limit.
    pub fn permit(&mut self) {
        self.permitted = true;
        let live = self.closed.iter_mut().chain(&mut self.active).chain(&mut self.spare);
        for segment in live.filter(|segment| !segment.linked) {
            fs::hard_link(self.commitlog.join(&segment.name), self.cdc_raw.join(&segment.name)).unwrap();
            segment.linked = true;
        }
    }

    /// What a node that does not block does at its limit: the lowest ids go, read or not, with their indexes. It stops
    /// at the segment being written.
    pub fn delete_lowest(&mut self, count: usize) -> Vec<i64> {
        let active = self.active().id;
        let mut logs: Vec<String> = list(&self.cdc_raw).into_iter().filter(|name| name.ends_with(".log")).collect();
        logs.sort();
        let ids = logs.into_iter().map(|name| (id_of(&name), name)).take_while(|(id, _)| *id < active).take(count);
        ids.map(|(id, name)| {
            remove(&self.cdc_raw.join(&name));
            remove(&self.cdc_raw.join(index_name(&name)));
            self.indexes.remove(&index_name(&name));
            id
        })
        .collect()
    }

    /// Does what nodes do, for a while.
    pub fn work(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.step();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A few writes, and now and then a marker, a sync, a flush.
    pub fn step(&mut self) {
        for _ in 0..self.random.below(4) {
            if self.random.once_in(600) {
                self.plain_ahead = 500;
            }
            let plain = self.plain_ahead > 0 || self.random.once_in(4);
            self.plain_ahead = self.plain_ahead.saturating_sub(1);
            self.write(if plain { Kind::Plain } else { Kind::Cdc });
        }
        if self.random.once_in(3) {
            self.mark();
        }
        if self.random.once_in(12) {
            self.sync();
        }
        if self.random.once_in(150) {
            self.flush();
        }
    }

    /// An id that no segment gets.
    pub fn skip_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// The segment being written.
    pub fn active_id(&mut self) -> i64 {
        self.active().id
    }

    /// The file name of a segment of this node.
    pub fn log_name(&self, id: i64) -> String {
        format!("CommitLog-{}-{id}.log", self.options.version)
    }

    /// What must be left in `cdc_raw` once the agent has done all it can: segments without CDC data that the node
    /// still has, the two at its end, and their indexes.
    pub fn remaining(&self) -> BTreeSet<String> {
        let quiet = self.closed.iter().filter(|segment| !segment.has_cdc);
        let live = quiet.chain(&self.active).chain(&self.spare).filter(|segment| segment.linked);
        live.flat_map(|segment| {
            let index = segment.index_name();
            let index = self.indexes.contains_key(&index).then_some(index);
            [Some(segment.name.clone()), index].into_iter().flatten()
        })
        .collect()
    }

    /// The node's own names that must be there.
    pub fn own_names(&self) -> BTreeSet<String> {
        self.closed.iter().chain(&self.active).chain(&self.spare).map(|segment| segment.name.clone()).collect()
    }
}

/// File names in a folder; none if it is missing.
pub fn list(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The id in a segment's name.
pub fn id_of(log: &str) -> i64 {
    log.strip_suffix(".log").and_then(|name| name.rsplit_once('-')).expect("a segment's name").1.parse().unwrap()
}

fn log_name(index: &str) -> String {
    format!("{}.log", index.strip_suffix("_cdc.idx").expect("an index's name"))
}

/// Removes a file that may be gone.
pub fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{}: {error}", path.display()),
        _ => {}
    }
}
