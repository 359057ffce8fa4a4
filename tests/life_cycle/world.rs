//! The state of the model: one node's segments, its server, the agent, and what may still happen.
//!
//! Owns: what a state is, and what of it the promises speak of (who has seen, published, deleted what). Does not own: how
//! it changes (`server`, `agent`).

use cassandra_cdc::lifecycle::ReadTo;
use cassandra_commitlog::{FormatVersion, LogOffset, Position, SegmentId, SegmentName};

use crate::agent::Agent;

/// Where the first entry of a segment stands, and how long each is.
const HEADER: u32 = 20;
const ENTRY: u32 = 100;

/// The end of the first so many entries.
pub fn offset(entries: u8) -> LogOffset {
    LogOffset(HEADER + ENTRY * u32::from(entries))
}

/// How many entries end at or before a position.
pub fn entries_before(position: LogOffset) -> u8 {
    u8::try_from(position.0.saturating_sub(HEADER) / ENTRY).unwrap()
}

/// What a segment is to the server that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    Spare,
    Active,
    /// Switched away from, not synced to its end.
    Closed,
    /// Synced to its end: nothing will be added.
    Completed,
}

/// An index file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Idx {
    Absent,
    Empty,
    Growing(u8),
    Sealed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Segment {
    pub id: i64,
    /// The life of the server that made it.
    pub run: u8,
    pub phase: Phase,
    /// Whether each entry is a change of a CDC table.
    pub entries: Vec<bool>,
    /// Entries before the last sync marker, and those that are fsynced.
    pub marked: u8,
    pub synced: u8,
    /// The server's own name, the link in `cdc_raw`, the link in the spool.
    pub own: bool,
    pub raw: bool,
    pub spool: bool,
    /// The server believes that there is a link, and takes changes of CDC tables.
    pub linked: bool,
    pub idx: Idx,
    /// Entries that a broker has, and that it acknowledged; one bit each.
    pub published: u8,
    pub acked: u8,
    /// The agent saw it, deleted it by right, recorded its loss.
    pub seen: bool,
    pub reaped: bool,
    pub gap: bool,
    /// Somebody else deleted its link before the spool had one; and nobody could tell the agent what was in it.
    pub foreign: bool,
    pub excused: bool,
}

impl Segment {
    pub fn len(&self) -> u8 {
        u8::try_from(self.entries.len()).unwrap()
    }

    /// Whether a change of a CDC table is among the first so many entries.
    pub fn has_change(&self, among: u8) -> bool {
        self.entries.iter().take(usize::from(among)).any(|cdc| *cdc)
    }

    /// Durable changes, as bits.
    pub fn durable_changes(&self) -> u8 {
        let bits = self.entries.iter().take(usize::from(self.synced)).enumerate();
        bits.filter(|(_, cdc)| **cdc).map(|(at, _)| 1 << at).sum()
    }

    pub fn name(&self, version: FormatVersion) -> SegmentName {
        SegmentName { version, id: SegmentId(self.id) }
    }

    pub fn at(&self, offset: LogOffset) -> Position {
        Position { segment: SegmentId(self.id), offset }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    Running,
    /// A clean stop: what is still to be done.
    Stopping,
    Down,
    /// The start after: this segment, and which step of it.
    Replaying {
        at: u8,
        step: Replay,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Replay {
    Link,
    Truncate,
    Write,
    Drop,
}

/// A pass of syncs over all open segments, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sync {
    pub at: u8,
    pub last: u8,
    pub step: SyncStep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SyncStep {
    Data,
    Truncate { closes: bool },
    Write { closes: bool },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    pub mode: Mode,
    pub run: u8,
    /// CDC is on for the tables, as replay looks at it.
    pub cdc: bool,
    pub sync: Option<Sync>,
}

/// How often each thing may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    pub writes: u8,
    pub switches: u8,
    pub kills: u8,
    pub stops: u8,
    pub crashes: u8,
    pub deletions: u8,
    pub rewinds: u8,
}

/// Which segments others delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletes {
    /// Those that will not grow: a quota of four segments or more.
    Ended,
    /// Any.
    Any,
}

/// One world to explore.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Every file operation is a step of its own; else one look with what is read after it is, and one index.
    pub fine: bool,
    pub version: FormatVersion,
    pub read_to: ReadTo,
    pub spool: bool,
    /// The agent may look where the server writes.
    pub commitlog: bool,
    /// Ids of the second life of the server begin below those of the first.
    pub ids_fall_back: bool,
    /// The link of the first spare waits for space.
    pub late_link: bool,
    /// A restart may find CDC turned off.
    pub toggles: bool,
    pub deletes: Deletes,
    pub budget: Budget,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            fine: false,
            version: FormatVersion::V7,
            read_to: ReadTo::Synced,
            spool: true,
            commitlog: true,
            ids_fall_back: false,
            late_link: false,
            toggles: false,
            deletes: Deletes::Any,
            budget: Budget::default(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub segments: Vec<Segment>,
    pub server: Server,
    pub agent: Agent,
    pub left: Budget,
}

/// One step of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Write { cdc: bool },
    Mark,
    Switch,
    LinkLate,
    SyncBegins,
    ServerStep,
    Discard(u8),
    Kill { marked: bool },
    Stop,
    Restart { cdc: bool },
    Delete(u8),
    Start,
    Crash { tear: bool },
    Wait,
    List,
    Look,
    Read,
    Acknowledge(u8),
    Rewind,
    Save,
    Reap(u8),
    ReapStep,
}

/// A promise that a state breaks.
pub type Broken = String;

/// Things that must have happened somewhere, or the search has proved nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Witness {
    EmptyIndexSeen,
    ReadToDurable,
    ReadChain,
    ReadVisible,
    ReadEnded,
    EndedWithoutCompleted,
    AcknowledgedOutOfOrder,
    Rewound,
    CrashBetweenUnlinks,
    CrashWithTornNewest,
    NothingWhole,
    Reaped,
    Resurrected,
    RevivedFromTombstone,
    PhantomLeft,
    PhantomReaped,
    DroppedByServer,
    ServerKilledWhileReplaying,
    UnsyncedLost,
    UnsyncedSurvived,
    DeletedByOther,
    DeletedWhileAgentDown,
    ReadFromSpool,
    OrphanExplained,
    FoundInCommitlog,
    GapRecorded,
    LinkedLate,
    IdsFellBack,
    LinkDroppedByReplay,
    ReadBehindTheMarker,
    Moved,
}
