//! What became of an entry.
//!
//! Owns: the outcome as the line tells it, and the reasons for dead letters. Does not own: the account of outcomes
//! (`cassandra-progress`), the dead letter itself (`cassandra-event`).

use cassandra_commitlog::MutationError;
use cassandra_event::TooLarge;
use cassandra_progress::Outcome;

/// Why an entry is dead-lettered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It, or the rest of it, could not be decoded.
    #[error(transparent)]
    Undecodable(#[from] MutationError),
    /// Its events would take more than may be.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// Kafka does not take its events.
    #[error("Kafka refuses its events: {0}")]
    Refused(String),
}

impl Rejected {
    /// The reasons beside [`MutationError::REASONS`].
    const OWN_REASONS: [&'static str; 2] = ["too-large", "refused"];

    /// All reasons.
    pub fn reasons() -> impl Iterator<Item = &'static str> {
        MutationError::REASONS.into_iter().chain(Self::OWN_REASONS)
    }

    /// The reason in one word, for dead letters and metrics.
    pub fn reason(&self) -> &'static str {
        let [too_large, refused] = Self::OWN_REASONS;
        match self {
            Self::Undecodable(error) => error.reason(),
            Self::TooLarge(_) => too_large,
            Self::Refused(_) => refused,
        }
    }

    /// What a newer schema may know.
    pub(super) fn unknown(&self) -> Option<&MutationError> {
        match self {
            Self::Undecodable(unknown @ (MutationError::UnknownTable { .. } | MutationError::UnknownColumn { .. })) => {
                Some(unknown)
            }
            _ => None,
        }
    }
}

/// What became of an entry, and why, where it could not be decoded.
#[derive(Debug)]
pub struct Done {
    /// Its one outcome.
    pub outcome: Outcome,
    /// What kept it, or the rest of it, from becoming events.
    pub rejected: Option<Rejected>,
    /// Records made of it.
    pub records: usize,
    /// Whether what follows is decoded with another schema.
    pub schema_changed: bool,
}
