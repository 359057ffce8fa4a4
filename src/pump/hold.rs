//! Why reading stops at a position while the process stays alive, not ready, and trying.
//!
//! Owns: the reasons, what to do about each, and when it is tried again. Does not own: finding the reason.

use std::time::{Duration, Instant};

use cassandra_commitlog::{LogOffset, Position, SegmentName};

use super::reading::Reading;
use crate::kafka::KafkaError;
use crate::observe::HoldReason;
use crate::walk::Damage;

/// The first pause between two tries, and the longest. Whoever waits for Kafka looks more often: it comes back by itself.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_FOR_KAFKA: Duration = Duration::from_secs(10);

/// What stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// A person must look.
    Held(HoldReason),
    /// No broker answers, or the producer gave up and is made anew: it goes on by itself.
    Kafka,
}

/// A stop at a position.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    /// Why.
    pub reason: Reason,
    /// In which segment, where it is one.
    pub segment: Option<SegmentName>,
    /// At which position.
    pub position: Option<LogOffset>,
    /// What exactly.
    pub detail: String,
    /// Since when, seconds since 1970.
    pub since: i64,
    pause: Duration,
    retry_at: Instant,
}

/// What shows that something stands in the way no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// All that may be read was read, and so many runs of it are not acknowledged.
    Read { outstanding: usize },
    /// Kafka has acknowledged what was read first.
    Acknowledged,
}

impl Reason {
    /// Whether it is over. That everything could be read again says nothing of Kafka, as long as it may be refused again:
    /// the pause before the next try would never grow.
    pub(super) fn ends_with(self, proof: Proof) -> bool {
        match self {
            Self::Kafka
            | Self::Held(
                HoldReason::Authorization
                | HoldReason::Credentials
                | HoldReason::MissingTopic
                | HoldReason::DeadLetterTopic
                | HoldReason::UnknownError,
            ) => matches!(proof, Proof::Acknowledged | Proof::Read { outstanding: 0 }),
            Self::Held(
                HoldReason::Damage
                | HoldReason::InvalidIndex
                | HoldReason::UnknownVersion
                | HoldReason::MissingKey
                | HoldReason::CdcRaw
                | HoldReason::Schema
                | HoldReason::Account
                | HoldReason::PartitionsChanged,
            ) => matches!(proof, Proof::Read { .. }),
        }
    }
}

impl Hold {
    /// A stop, from now on.
    pub(super) fn new(reason: Reason, detail: String) -> Self {
        let since = jiff::Timestamp::now().as_second();
        Self { reason, segment: None, position: None, detail, since, pause: PAUSE, retry_at: Instant::now() + PAUSE }
    }

    /// A stop before damaged bytes.
    pub(super) fn damaged(reading: &Reading, damage: &Damage) -> Self {
        let segment = &reading.segment;
        Self::new(Reason::Held(HoldReason::Damage), format!("{segment}: {damage}")).at(segment.name(), damage.from)
    }

    /// The dead-letter topic takes no dead letter of the entry there, or no gap record: nothing is skipped.
    pub(super) fn dead_letter(entry: Option<Position>, error: &KafkaError) -> Self {
        let what =
            entry.map_or_else(|| "a gap record".to_owned(), |at| format!("the dead letter of the entry at {at}"));
        Self::new(Reason::Held(HoldReason::DeadLetterTopic), format!("{what} is refused: {error}"))
    }

    /// The same, at a place.
    #[must_use]
    pub(super) fn at(mut self, segment: SegmentName, position: LogOffset) -> Self {
        (self.segment, self.position) = (Some(segment), Some(position));
        self
    }

    /// The same, with another first pause.
    #[must_use]
    pub(super) fn for_at_least(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self.retry_at = Instant::now() + pause;
        self
    }

    /// Takes over since when the same thing stopped us before: the pause doubles.
    pub(super) fn follow(&mut self, before: &Self) {
        if before.reason == self.reason && before.segment == self.segment {
            self.since = before.since;
            let longest = if self.reason == Reason::Kafka { LONGEST_FOR_KAFKA } else { LONGEST_PAUSE };
            self.pause = before.pause.saturating_mul(2).min(longest);
            self.retry_at = Instant::now() + self.pause;
        }
    }

    /// How long until the next try.
    pub(super) fn left(&self) -> Duration {
        self.retry_at.saturating_duration_since(Instant::now())
    }
}

impl HoldReason {
    /// What a person does about it.
    pub const fn next_action(self) -> &'static str {
        match self {
            Self::Damage => {
                "look with `inspect`; restore the file, or set cassandra.on_damage = \"salvage\": the damaged bytes go to \
                 the quarantine with a gap record, and reading goes on behind them"
            }
            Self::InvalidIndex => "look at the index file: Cassandra writes a number, and maybe COMPLETED",
            Self::UnknownVersion => "update the agent: it does not know this release's commit log",
            Self::MissingKey => "give the node's key store: cassandra.keystore and cassandra.keystore_password_file",
            Self::CdcRaw => {
                "see owner and mode of the directory and its files, and the disk; it is tried again by itself"
            }
            Self::Schema => "see whether Cassandra answers at cassandra.contact, or give cassandra.schema",
            Self::Account => "this is a bug: keep the segment, and report it with what `inspect` says",
            Self::Authorization => "grant the agent WRITE and DESCRIBE on its topics",
            Self::Credentials => "see the sasl.* and ssl.* properties; files are read again with each try",
            Self::MissingTopic => "create the topic, or set kafka.create_topics",
            Self::DeadLetterTopic => "see the dead-letter topic's limits and rights; nothing is skipped",
            Self::PartitionsChanged => {
                "set kafka.on_partition_change to warn (keys move once) or pin, and restart the agent"
            }
            Self::UnknownError => "see the detail and the broker's log; it is tried again by itself",
        }
    }
}
