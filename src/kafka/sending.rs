//! Handing runs over to librdkafka, and waiting while it takes nothing more.
//!
//! Owns: the tickets and slots of runs that begin, the order of records within a partition, the wait for room, and how
//! long a producer may report nothing. Does not own: which records form a run, what a failure means.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use cassandra_progress::{Ledger, Ticket};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::BaseRecord;

use super::errors::KafkaError;
use super::reports::ClientEvent;
use super::runs::{BucketId, Cursor};
use super::{ASK, Publisher, Sent, TopicCounts, TopicId, Waiting};

/// How long to wait when the queue is full though nothing is in flight: librdkafka frees messages a little after it
/// has reported them.
const FREEING: Duration = Duration::from_millis(20);

/// A time without reports.
#[derive(Debug)]
pub struct Silence {
    /// The count of reports before it.
    reported: u64,
    since: Instant,
}

impl Silence {
    /// It begins now, behind so many reports.
    pub fn after(reported: u64, now: Instant) -> Self {
        Self { reported, since: now }
    }

    /// How long it has lasted, where so many are reported by now: it begins anew with each report.
    pub fn lasts(&mut self, reported: u64, now: Instant) -> Duration {
        if reported != self.reported {
            *self = Self::after(reported, now);
        }
        now.saturating_duration_since(self.since)
    }

    /// How long it has lasted in this wait.
    pub fn within(&mut self, waiting: &Waiting, now: Instant) -> Duration {
        waiting.since.min(self.lasts(waiting.reported, now))
    }
}

impl Publisher {
    /// A ticket for a run that begins. At the limit of the window the oldest run may be one of ours that still waits:
    /// everything is handed over first.
    pub(super) fn open(&mut self, ledger: &mut Ledger) -> Result<Ticket, KafkaError> {
        let started = Instant::now();
        loop {
            if let Ok(ticket) = ledger.open() {
                return Ok(ticket);
            }
            self.flush_runs(ledger)?;
            self.settle(ledger)?;
            if let Ok(ticket) = ledger.open() {
                return Ok(ticket);
            }
            self.wait(started, self.reports.reported().saturating_add(1))?;
        }
    }

    fn slot(&mut self, ledger: &mut Ledger) -> Result<u32, KafkaError> {
        let started = Instant::now();
        loop {
            if let Some(slot) = self.free.pop() {
                return Ok(slot);
            }
            self.settle(ledger)?;
            if self.free.is_empty() {
                self.wait(started, self.half_reported(0))?;
            }
        }
    }

    pub(super) fn hand_over(
        &mut self,
        ledger: &mut Ledger,
        bucket: BucketId,
        topic: TopicId,
        partition: i32,
    ) -> Result<(), KafkaError> {
        self.admin = None;
        let slot = self.slot(ledger)?;
        let Some(run) = self.runs.take(bucket) else {
            self.free.push(slot);
            return Ok(());
        };
        let started = Instant::now();
        let counts = TopicCounts { records: u64::from(run.length), bytes: run.bytes };
        if let Some(sent) = usize::try_from(slot).ok().and_then(|slot| self.sent.get_mut(slot)) {
            *sent = Some(Sent { ticket: Some(run.ticket), topic, partition, counts, at: started });
        }
        self.reports.begin(slot, run.length);
        let (mut at, mut left) = (run.first, run.length);
        let result = loop {
            let refused;
            (at, left, refused) = self.send(slot, topic, partition, at, left);
            match refused {
                None => break Ok(()),
                // Nothing else is sent meanwhile, so nothing of this partition can pass.
                Some(Code::QueueFull) => {
                    self.thread.wake();
                    if let Err(error) = self.wait_for_room(ledger, started, left) {
                        break Err(error);
                    }
                }
                Some(code) => {
                    let topic = self.name(topic);
                    break Err(self.fail(KafkaError::Send { topic, partition, code }));
                }
            }
        };
        if result.is_err() {
            self.reports.give_up(slot, left);
        }
        self.thread.wake();
        result
    }

    /// Sends from a record of a run on, until one is refused. Returns where it stopped, how many are left, and why.
    fn send(
        &self,
        slot: u32,
        topic: TopicId,
        partition: i32,
        mut at: Cursor,
        mut left: u16,
    ) -> (Cursor, u16, Option<Code>) {
        let Some(topic) = self.topic_at(topic) else { return (at, left, Some(Code::InvalidArgument)) };
        // Slots are numbered in 32 bits, no platform's `usize` has less.
        let opaque = usize::try_from(slot).unwrap_or(usize::MAX);
        while left > 0 {
            let Some(record) = self.runs.record(at) else { return (at, left, Some(Code::InvalidArgument)) };
            let message = BaseRecord::with_opaque_to(&topic.name, opaque)
                .partition(partition)
                .key(record.key)
                .payload(record.value);
            if let Err((error, _)) = self.producer.send(message) {
                return (at, left, Some(error.rdkafka_error_code().unwrap_or(Code::Unknown)));
            }
            at = record.next;
            left = left.saturating_sub(1);
        }
        (at, left, None)
    }

    fn wait_for_room(&mut self, ledger: &mut Ledger, started: Instant, unsent: u16) -> Result<(), KafkaError> {
        let target = self.half_reported(unsent);
        if target <= self.reports.reported() {
            std::thread::sleep(FREEING);
        }
        while self.reports.reported() < target {
            self.wait(started, target)?;
            self.check(ledger)?;
        }
        Ok(())
    }

    /// The count of reports at which half of what is now in flight is gone.
    fn half_reported(&self, unsent: u16) -> u64 {
        let reported = self.reports.reported();
        let in_flight = self.reports.accepted().saturating_sub(u64::from(unsent)).saturating_sub(reported);
        reported.saturating_add(in_flight.div_ceil(2))
    }

    /// Waits for a count of reports, but not much longer than until the next time to ask.
    fn wait(&mut self, started: Instant, reported: u64) -> Result<(), KafkaError> {
        self.reports.wait_for(reported, ASK);
        if self.ask(started).is_break() {
            return Err(self.fail(KafkaError::Interrupted));
        }
        self.look_at_silence()
    }

    pub(super) fn refused(&self, refusal: ClientEvent) -> KafkaError {
        KafkaError::Credentials { bootstrap: self.settings.bootstrap.clone(), detail: refusal.reason }
    }

    /// A producer tries for ever: with the password and the certificate of the beginning; and if a cluster that shuts down
    /// names no brokers it forgets them all, and finds none of them again. After a while without reports either is a
    /// failure, so that a new producer begins at the beginning.
    pub(super) fn look_at_silence(&mut self) -> Result<(), KafkaError> {
        let (reported, now) = (self.reports.reported(), Instant::now());
        if self.in_flight() == 0 {
            self.silence = Silence::after(reported, now);
            return Ok(());
        }
        let (lasts, patience) = (self.silence.lasts(reported, now), self.settings.patience);
        if lasts < patience || self.failure.is_some() {
            return Ok(());
        }
        if let Some(refusal) = self.reports.last_refusal().filter(|refusal| refusal.at >= self.silence.since) {
            let error = self.refused(refusal);
            return Err(self.fail(error));
        }
        if lasts >= patience * 2 {
            return Err(self.fail(KafkaError::Silent { lasts }));
        }
        Ok(())
    }

    pub(super) fn ask(&mut self, started: Instant) -> ControlFlow<()> {
        let waiting = Waiting {
            since: started.elapsed(),
            in_flight: self.reports.in_flight(),
            reported: self.reports.reported(),
        };
        self.on_wait.as_mut().map_or(ControlFlow::Continue(()), |hook| hook(waiting))
    }
}
