//! What the agent says of itself: the document behind `/statusz` and the `status` command.
//!
//! Owns: the document, and how it grows older between two updates. Does not own: when it is set (`pump`), what follows
//! from it (`health`), counters (`metrics`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::health::Health;
use crate::kafka;

/// Segments listed one by one, oldest first; the others are in [`SegmentCounts`] only.
pub const SEGMENTS_LISTED: usize = 100;

/// Problems listed; more of them tell nothing new.
pub const PROBLEMS_LISTED: usize = 20;

/// The agent at one moment. Ages are those of the moment when it was set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// What it does.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Why nothing more is read, if so.
    pub hold: Option<Hold>,
    /// The node, once it is known.
    pub identity: Option<Identity>,
    /// How far segments are read.
    pub read_to: ReadTo,
    /// The first [`SEGMENTS_LISTED`] segments in reading order.
    pub segments: Vec<SegmentStatus>,
    /// All segments, by state.
    pub segment_counts: SegmentCounts,
    /// What was not published yet.
    pub lag: Lag,
    /// Seconds since the oldest segment that is not acknowledged to its end was first seen; 0 without one.
    pub oldest_unacknowledged_age_seconds: f64,
    /// The directory that Cassandra fills.
    pub cdc_raw: CdcRaw,
    /// Our own links.
    pub spool: Spool,
    /// Kafka; none with another sink.
    pub kafka: Option<Kafka>,
    /// The schema, once it is loaded.
    pub schema: Option<Schema>,
    /// Progress on disk.
    pub checkpoint: Checkpoint,
    /// What is wrong beside a hold, and what to do about each, the first [`PROBLEMS_LISTED`] of it.
    pub problems: Vec<String>,
    /// Files in the state directory that should hold a gap record, and don't.
    pub damaged_gap_files: u64,
    /// What a person should do now; empty: nothing.
    pub next_action: String,
}

/// What the agent does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Before the first scan.
    #[default]
    Starting,
    /// Reads and publishes.
    Running,
    /// Stays at a position until a cause is removed.
    Held,
    /// No broker answers; segments wait where they are.
    WaitingForKafka,
    /// Told to stop: waits for what was sent.
    Draining,
}

impl State {
    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Held => "held",
            Self::WaitingForKafka => "waiting-for-kafka",
            Self::Draining => "draining",
        }
    }
}

/// Why reading stops at a position while the process stays alive, not ready, and trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldReason {
    /// Bytes of a segment are damaged, or it is shorter than its index says.
    Damage,
    /// An index holds neither a number nor `COMPLETED`.
    InvalidIndex,
    /// The segment is of a commit-log version that this program does not know.
    UnknownVersion,
    /// The segment is encrypted, and its key is not at hand.
    MissingKey,
    /// `cdc_raw` is missing or can't be read.
    CdcRaw,
    /// The schema can't be had.
    Schema,
    /// The account of a segment does not close.
    Account,
    /// Kafka: an ACL is missing.
    Authorization,
    /// Kafka: a password or a certificate is refused.
    Credentials,
    /// Kafka: a topic, or a partition of it, is not there.
    MissingTopic,
    /// Kafka: the dead-letter topic does not take records.
    DeadLetterTopic,
    /// Kafka: the number of a topic's partitions is another one.
    PartitionsChanged,
    /// Kafka: an error without a rule.
    UnknownError,
}

impl HoldReason {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Damage,
        Self::InvalidIndex,
        Self::UnknownVersion,
        Self::MissingKey,
        Self::CdcRaw,
        Self::Schema,
        Self::Account,
        Self::Authorization,
        Self::Credentials,
        Self::MissingTopic,
        Self::DeadLetterTopic,
        Self::PartitionsChanged,
        Self::UnknownError,
    ];

    /// Its name, as in JSON and in the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::InvalidIndex => "invalid-index",
            Self::UnknownVersion => "unknown-version",
            Self::MissingKey => "missing-key",
            Self::CdcRaw => "cdc-raw",
            Self::Schema => "schema",
            Self::Account => "account",
            Self::Authorization => "authorization",
            Self::Credentials => "credentials",
            Self::MissingTopic => "missing-topic",
            Self::DeadLetterTopic => "dead-letter-topic",
            Self::PartitionsChanged => "partitions-changed",
            Self::UnknownError => "unknown-error",
        }
    }
}

impl From<kafka::HoldReason> for HoldReason {
    fn from(reason: kafka::HoldReason) -> Self {
        match reason {
            kafka::HoldReason::Authorization => Self::Authorization,
            kafka::HoldReason::MissingTopic => Self::MissingTopic,
            kafka::HoldReason::Unknown => Self::UnknownError,
        }
    }
}

/// Why nothing more is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// In one word.
    pub reason: HoldReason,
    /// The segment where reading stopped, if it is one segment's fault.
    pub segment: Option<String>,
    /// Logical position in it.
    pub position: Option<u64>,
    /// What is wrong, without data of rows.
    pub detail: String,
    /// What to do about it.
    pub next_action: String,
    /// Since when.
    pub since: Timestamp,
}

/// The node whose segments these are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// The node's host id.
    pub host_id: String,
    /// Cassandra's release, where it is known.
    pub release: Option<String>,
}

/// How far segments are read: `synced`, `marked` or `written`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadTo {
    /// As configured.
    pub configured: String,
    /// As it is.
    pub effective: String,
    /// Why they differ, if they do.
    pub fallback: Option<String>,
}

/// Where a segment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SegmentState {
    /// Seen, nothing of it is read.
    Waiting,
    /// Being read, or read and not acknowledged.
    Reading,
    /// Reading stopped in it.
    Held,
    /// Acknowledged to its end, not deleted yet.
    Finished,
    /// Set aside: its name and its header disagree.
    Quarantined,
}

impl SegmentState {
    /// Its name, as in JSON and in the label `state`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Reading => "reading",
            Self::Held => "held",
            Self::Finished => "finished",
            Self::Quarantined => "quarantined",
        }
    }
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentStatus {
    /// File name.
    pub name: String,
    /// Where it stands.
    pub state: SegmentState,
    /// What its index says: a number, `completed`, or nothing.
    pub index: Option<String>,
    /// Logical position up to which everything is acknowledged.
    pub acknowledged: u64,
    /// Logical position up to which it is read.
    pub read: u64,
    /// Length of its file in bytes.
    pub size: u64,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// Whether only the spool holds it any more.
    pub spool: bool,
    /// Why it does not go on, if so.
    pub reason: Option<String>,
}

/// How many segments there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of SegmentState")]
pub struct SegmentCounts {
    pub waiting: u64,
    pub reading: u64,
    pub held: u64,
    pub finished: u64,
    pub quarantined: u64,
}

impl SegmentCounts {
    /// Counts, with their state.
    pub fn by_state(&self) -> [(SegmentState, u64); 5] {
        [
            (SegmentState::Waiting, self.waiting),
            (SegmentState::Reading, self.reading),
            (SegmentState::Held, self.held),
            (SegmentState::Finished, self.finished),
            (SegmentState::Quarantined, self.quarantined),
        ]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_state().into_iter().fold(0, |sum, (_, count)| sum.saturating_add(count))
    }

    fn count(&mut self, state: SegmentState) {
        let counted = match state {
            SegmentState::Waiting => &mut self.waiting,
            SegmentState::Reading => &mut self.reading,
            SegmentState::Held => &mut self.held,
            SegmentState::Finished => &mut self.finished,
            SegmentState::Quarantined => &mut self.quarantined,
        };
        *counted = counted.saturating_add(1);
    }
}

/// What was not published yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lag {
    /// Bytes that are readable and not acknowledged.
    pub bytes: u64,
    /// Segments that are not acknowledged to their end.
    pub segments: u64,
    /// Seconds since the oldest of those bytes became readable; 0 without any.
    pub seconds: f64,
}

/// The directory that Cassandra fills.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CdcRaw {
    /// Whether the last scan went well.
    pub readable: bool,
    /// What its segments hold.
    pub bytes: u64,
    /// What Cassandra lets them hold (`cdc_total_space`); none if unknown.
    pub limit: Option<u64>,
    /// How fast it fills, bytes a second; negative when it empties.
    pub fill_rate: f64,
    /// When it is full at that rate; none if never.
    pub time_to_full_seconds: Option<f64>,
}

/// Our own links, which outlive Cassandra's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spool {
    /// Whether segments are linked there.
    pub enabled: bool,
    /// What nothing but the spool holds any more.
    pub bytes: u64,
    /// What it may hold.
    pub limit: u64,
}

/// Kafka, as the producer sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kafka {
    /// Whether a broker is connected.
    pub connected: bool,
    /// Records that were sent, or wait to be sent, and are not acknowledged.
    pub in_flight: u64,
    /// Seconds since the last acknowledgement; none before the first.
    pub last_ack_age_seconds: Option<f64>,
    /// What the client last complained of.
    pub last_error: Option<String>,
}

/// The schema that segments are decoded with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Schema {
    /// Where it comes from: an address, a file, the log.
    pub source: String,
    /// Tables in it.
    pub tables: u64,
    /// Tables with CDC among them.
    pub cdc_tables: u64,
}

/// Progress on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkpoint {
    /// The newest generation; 0 before the first.
    pub generation: u64,
    /// Seconds since it was saved; none before the first.
    pub age_seconds: Option<f64>,
}

/// What was counted since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the metrics")]
pub struct Counters {
    pub entries_published: u64,
    pub entries_not_cdc: u64,
    pub entries_filtered: u64,
    pub entries_dead_lettered: u64,
    pub events: u64,
    pub dead_letters: u64,
    pub gaps: u64,
    pub lost_segments: u64,
    pub segments_finished: u64,
    pub segments_deleted: u64,
    pub foreign_deletions: u64,
    pub resurrected_segments: u64,
    pub producer_rebuilds: u64,
}

/// What `/statusz` answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Release of this program.
    pub version: String,
    /// When it was asked.
    pub at: Timestamp,
    /// Whether its loops turn.
    pub live: Health,
    /// Whether it does its work.
    pub ready: Health,
    /// The agent.
    #[serde(flatten)]
    pub status: Status,
    /// What was counted since the process began.
    pub counters: Counters,
}

impl Status {
    /// Takes over all segments, in reading order: counts every one, lists the first [`SEGMENTS_LISTED`].
    pub fn set_segments(&mut self, segments: impl IntoIterator<Item = SegmentStatus>) {
        self.segments.clear();
        self.segment_counts = SegmentCounts::default();
        for segment in segments {
            self.segment_counts.count(segment.state);
            if self.segments.len() < SEGMENTS_LISTED {
                self.segments.push(segment);
            }
        }
    }

    /// Takes over what is wrong.
    pub fn set_problems(&mut self, problems: impl Iterator<Item = String>) {
        self.problems.clear();
        let mut more = 0_usize;
        for problem in problems {
            if self.problems.len() < PROBLEMS_LISTED {
                self.problems.push(problem);
            } else {
                more = more.saturating_add(1);
            }
        }
        if more > 0 {
            self.problems.push(format!("{more} more problems; these come first"));
        }
    }

    /// One line for `systemctl status`.
    pub fn summary(&self) -> String {
        let state = self.state.as_str();
        if let Some(hold) = &self.hold {
            let at = hold.segment.as_ref().map_or_else(String::new, |segment| format!(" at {segment}"));
            let text = format!("{state}{at}: {}: {}; {}", hold.reason.as_str(), hold.detail, hold.next_action);
            // A line break would begin another notification to systemd.
            return text.replace(char::is_control, " ");
        }
        let Lag { bytes, segments, seconds } = self.lag;
        format!("{state}: {segments} segments, {bytes} bytes, {seconds:.0} s behind")
    }

    /// The same, so many seconds later: an agent whose loop hangs must not look younger than it is.
    pub(super) fn aged(mut self, seconds: f64) -> Self {
        let age = |age: &mut f64| {
            if *age > 0.0 {
                *age += seconds;
            }
        };
        age(&mut self.oldest_unacknowledged_age_seconds);
        age(&mut self.lag.seconds);
        if let Some(age) = &mut self.checkpoint.age_seconds {
            *age += seconds;
        }
        if let Some(age) = self.kafka.as_mut().and_then(|kafka| kafka.last_ack_age_seconds.as_mut()) {
            *age += seconds;
        }
        if let Some(time) = &mut self.cdc_raw.time_to_full_seconds {
            *time = (*time - seconds).max(0.0);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(state: SegmentState) -> SegmentStatus {
        SegmentStatus {
            name: "CommitLog-7-1.log".to_owned(),
            state,
            index: None,
            acknowledged: 0,
            read: 0,
            size: 1,
            first_seen: Timestamp::UNIX_EPOCH,
            spool: false,
            reason: None,
        }
    }

    #[test]
    fn all_segments_are_counted_and_the_first_are_listed() {
        let mut status = Status::default();
        let waiting = std::iter::repeat_with(|| segment(SegmentState::Waiting)).take(10_000);
        status.set_segments(std::iter::once(segment(SegmentState::Reading)).chain(waiting));
        assert_eq!(status.segments.len(), SEGMENTS_LISTED);
        assert_eq!((status.segment_counts.reading, status.segment_counts.waiting), (1, 10_000));
        status.set_segments([]);
        assert_eq!((status.segments.len(), status.segment_counts.total()), (0, 0));
    }

    #[test]
    fn names_are_the_same_in_json_in_labels_and_in_the_table() {
        let json = |value: serde_json::Value| value.as_str().unwrap().to_owned();
        for reason in HoldReason::ALL {
            assert_eq!(json(serde_json::to_value(reason).unwrap()), reason.as_str());
        }
        for (state, _) in SegmentCounts::default().by_state() {
            assert_eq!(json(serde_json::to_value(state).unwrap()), state.as_str());
        }
        for state in [State::Starting, State::Running, State::Held, State::WaitingForKafka, State::Draining] {
            assert_eq!(json(serde_json::to_value(state).unwrap()), state.as_str());
        }
    }

    #[test]
    fn a_report_survives_json_and_may_lack_what_an_older_agent_does_not_say() {
        let mut report = Report { version: "1".to_owned(), ..Report::default() };
        report.status.set_segments([segment(SegmentState::Held)]);
        report.status.cdc_raw.time_to_full_seconds = Some(1.5);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        assert_eq!(serde_json::from_str::<Report>(r#"{"version":"1","new":1}"#).unwrap().version, "1");
    }

    #[test]
    fn a_summary_is_one_line() {
        let mut status = Status { state: State::Held, ..Status::default() };
        status.hold = Some(Hold {
            reason: HoldReason::Damage,
            segment: Some("CommitLog-7-1.log".to_owned()),
            position: Some(9),
            detail: "bad\nMAINPID=1".to_owned(),
            next_action: "look".to_owned(),
            since: Timestamp::UNIX_EPOCH,
        });
        assert_eq!(status.summary(), "held at CommitLog-7-1.log: damage: bad MAINPID=1; look");
        status.hold = None;
        assert_eq!(status.summary(), "held: 0 segments, 0 bytes, 0 s behind");
    }
}
