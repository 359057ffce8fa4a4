//! Trouble in a turn, and what follows from it.
//!
//! Owns: going back, holding, going on, and ending. Does not own: the reasons for a hold and their pauses (`hold`), what
//! Kafka's failures mean (`delivery`).

use std::collections::HashMap;
use std::io;

use cassandra_commitlog::{LogOffset, SegmentId, SegmentName};
use cassandra_progress::{Refused, SaveError, SegmentRecord, SegmentState};
use thiserror::Error;

use super::Pump;
use super::hold::{Hold, Proof, Reason};
use crate::checkpoint::StateError;
use crate::kafka::KafkaError;
use crate::sink::SinkError;

/// Why the agent can't go on at all. Nothing is lost: what was not acknowledged is read again by its next life.
#[derive(Debug, Error)]
pub enum PumpError {
    /// Kafka, with settings that can't work.
    #[error(transparent)]
    Kafka(KafkaError),
    /// The output of another sink.
    #[error("write events")]
    Write(#[source] io::Error),
    /// A file of `cdc_raw`.
    #[error("{0}")]
    Raw(String, #[source] io::Error),
    /// The checkpoint.
    #[error(transparent)]
    Save(SaveError<StateError>),
    /// Another file of the state directory.
    #[error("{0} {1}")]
    State(&'static str, String, #[source] io::Error),
    /// The record of a segment contradicts what was read.
    #[error(transparent)]
    Record(Refused),
}

/// What stops a turn.
pub(super) enum Trouble {
    /// The way out of the agent.
    Sink(SinkError),
    /// A stop at a position.
    Hold(Hold),
    /// A segment begins with another entry than the one that is recorded under its name.
    Collision(SegmentName),
    /// A segment's header names another one than its file name.
    Misnamed(SegmentName, String),
    /// The end.
    Fatal(PumpError),
}

impl From<SinkError> for Trouble {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

impl From<PumpError> for Trouble {
    fn from(error: PumpError) -> Self {
        Self::Fatal(error)
    }
}

impl Pump {
    /// Takes a step. Trouble in it does not end the agent: it is met.
    pub(super) fn attempt(&mut self, step: impl FnOnce(&mut Self) -> Result<(), Trouble>) -> Result<(), PumpError> {
        match step(self) {
            Ok(()) => Ok(()),
            Err(trouble) => self.meet(trouble),
        }
    }

    fn meet(&mut self, trouble: Trouble) -> Result<(), PumpError> {
        match trouble {
            Trouble::Fatal(error) => Err(error),
            Trouble::Sink(SinkError::Write(error)) => Err(PumpError::Write(error)),
            Trouble::Sink(SinkError::Kafka(error)) => match self.delivery.recover(error) {
                Ok(hold) => {
                    self.go_back()?;
                    hold.map_or(Ok(()), |hold| {
                        self.stop_at(hold);
                        Ok(())
                    })
                }
                Err(trouble) => {
                    self.go_back()?;
                    self.meet(trouble)
                }
            },
            Trouble::Hold(hold) => {
                self.stop_at(hold);
                Ok(())
            }
            Trouble::Collision(name) => {
                // Acknowledgements on their way are of the other segment: they must not count for this one.
                self.meet(Trouble::Sink(KafkaError::Interrupted.into()))?;
                self.replace(name)
            }
            Trouble::Misnamed(name, detail) => {
                tracing::error!(segment = %name, "set aside, neither read nor deleted: {detail}");
                let mut records = self.checkpoint.segments.iter_mut();
                if let Some(record) = records.find(|record| record.identity().segment == name.id) {
                    record.quarantine();
                    self.dirty = true;
                }
                Ok(())
            }
        }
    }

    /// Goes back to what is acknowledged: everything behind it is read again.
    fn go_back(&mut self) -> Result<(), PumpError> {
        if let Err(Trouble::Fatal(error)) = self.take_acknowledged() {
            return Err(error);
        }
        self.delivery.forget();
        self.read_of = None;
        self.gaps_sent.clear();
        self.probe = None;
        for record in &self.checkpoint.segments {
            if let Some(reading) = self.readings.get_mut(&record.identity().segment) {
                reading.restart(record);
            }
        }
        self.rewind_schema();
        Ok(())
    }

    /// The schema as it was where reading goes on.
    pub(super) fn rewind_schema(&mut self) {
        let open = self.checkpoint.segments.iter().filter(|record| record.state() == SegmentState::Reading);
        let again: HashMap<_, _> = open.map(|record| (record.identity().segment, record.acknowledged())).collect();
        self.line.rewind_schema(|segment| again.get(&segment).copied());
    }

    /// The first place where reading goes on behind what is acknowledged.
    pub(super) fn place(&self) -> Option<(SegmentId, LogOffset)> {
        let open = |record: &&SegmentRecord| record.state() == SegmentState::Reading;
        let record = self.checkpoint.segments.iter().find(open)?;
        Some((record.identity().segment, record.acknowledged()))
    }

    /// The segments in the order in which they are read.
    pub(super) fn order(&self) -> Vec<SegmentId> {
        self.checkpoint.segments.iter().map(|record| record.identity().segment).collect()
    }

    pub(super) fn stop_at(&mut self, mut hold: Hold) {
        if let Some(before) = &self.hold {
            hold.follow(before);
        }
        let is_new = self.hold.as_ref().is_none_or(|before| before.reason != hold.reason);
        if is_new {
            match hold.reason {
                Reason::Held(reason) => {
                    tracing::error!("held: {}; {}", hold.detail, reason.next_action());
                }
                Reason::Kafka => tracing::warn!("waiting for Kafka: {}", hold.detail),
            }
        }
        (self.hold, self.read_of) = (Some(hold), None);
    }

    /// Whether reading has come past the place of a hold.
    pub(super) fn is_past(&self, hold: &Hold) -> bool {
        let Some((name, position)) = hold.segment.zip(hold.position) else { return true };
        self.readings.get(&name.id).is_none_or(|reading| reading.read > position)
    }

    /// Takes the hold away if this shows that it is over.
    pub(super) fn go_on(&mut self, proof: Proof) {
        if let Some(hold) = self.hold.take_if(|hold| hold.reason.ends_with(proof)) {
            tracing::info!("goes on: {}", hold.detail);
        }
    }
}
