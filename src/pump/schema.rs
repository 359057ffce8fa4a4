//! The node's own schema, where the log does not tell.
//!
//! Owns: asking the node over CQL, now and then and when an entry names what nobody knows, and how often that is tried.
//! Does not own: what the answer changes (`line`, `catalog`).
//!
//! The log tells every change in its place, but a segment without changes of CDC tables is gone before it is read, and
//! its DDL with it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::catalog::Pulled;
use crate::catalog::cql::{self, Contact};
use crate::line::Line;
use crate::observe::{Observe, Part};

/// Pauses before the tries for one entry. The server answers with a new table a little after it wrote the first change.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(2)];

/// How long nobody is asked again after all tries were in vain: a dropped table's entries may come by the thousand.
const QUIET: Duration = Duration::from_secs(30);

/// How often the node is asked without a reason.
const PERIOD: Duration = Duration::from_secs(60);

/// How often a wait looks around.
const LOOK: Duration = Duration::from_millis(100);

/// Where the node's schema comes from.
pub struct SchemaSource {
    contact: Option<Contact>,
    tries: usize,
    quiet_until: Option<Instant>,
    pulled: Option<Receiver<Pulled>>,
}

impl SchemaSource {
    /// The node at this contact point; without one nobody is asked.
    pub fn new(contact: Option<Contact>) -> Self {
        let pulled = contact.clone().map(pull_regularly);
        Self { contact, tries: 0, quiet_until: None, pulled }
    }

    /// Whether it is worth asking about what an entry names.
    pub(super) fn may_help(&self) -> bool {
        let quiet = self.quiet_until.is_some_and(|until| Instant::now() < until);
        self.contact.is_some() && !quiet && self.tries < PAUSES.len()
    }

    /// Asks, and has the line take in the answer.
    pub(super) fn refresh(&mut self, line: &mut Line, observe: &Observe) {
        let (Some(contact), Some(pause)) = (&self.contact, PAUSES.get(self.tries)) else { return };
        self.tries += 1;
        thread::sleep(*pause);
        match pull(contact.clone(), observe) {
            Ok(pulled) => drop(line.merge_schema(&pulled.schema, pulled_at())),
            Err(error) => tracing::warn!("look for an unknown table or column: {error:#}"),
        }
        if self.tries == PAUSES.len() {
            self.quiet_until = Some(Instant::now() + QUIET);
            self.tries = 0;
        }
    }

    /// What the node said lately without being asked for anything in particular.
    pub(super) fn news(&mut self) -> Option<Pulled> {
        match self.pulled.as_ref()?.try_recv() {
            Ok(pulled) => Some(pulled),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.pulled = None;
                None
            }
        }
    }
}

/// Now, as a write timestamp: what a pulled row counts as written at.
pub(super) fn pulled_at() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// Asks the node, and meanwhile says that somebody is alive.
///
/// # Errors
/// The node does not answer.
pub fn pull(contact: Contact, observe: &Observe) -> anyhow::Result<Pulled> {
    let (sender, answer) = channel();
    thread::Builder::new().name("schema".to_owned()).spawn(move || {
        let _ = sender.send(pull_here(&contact));
    })?;
    loop {
        match answer.recv_timeout(LOOK) {
            Ok(pulled) => return pulled,
            Err(RecvTimeoutError::Timeout) => observe.beat(Part::Pump),
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the thread that asks the node is gone"),
        }
    }
}

fn pull_here(contact: &Contact) -> anyhow::Result<Pulled> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(cql::pull(contact))
}

fn pull_regularly(contact: Contact) -> Receiver<Pulled> {
    // One answer waits; who does not look gets no second one.
    let (sender, pulled) = sync_channel(1);
    let asking = thread::Builder::new().name("schema-watch".to_owned()).spawn(move || {
        loop {
            thread::sleep(PERIOD);
            match pull_here(&contact) {
                Ok(pulled) => {
                    if sender.send(pulled).is_err() {
                        return;
                    }
                }
                Err(error) => tracing::debug!("look for changes of the schema: {error:#}"),
            }
        }
    });
    if let Err(error) = asking {
        tracing::warn!(%error, "the node is asked for its schema only when an entry names what nobody knows");
    }
    pulled
}
