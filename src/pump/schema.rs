//! The node's own schema, where the log does not tell.
//!
//! Owns: asking the node over CQL, now and then and when an entry names what nobody knows, and how often that is tried.
//! Does not own: what the answer changes (`line`, `catalog`).
//!
//! The log tells every change in its place, but a segment without changes of CDC tables is gone before it is read, and
//! its DDL with it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cassandra_commitlog::{MutationError, SystemSchema};

use crate::catalog::cql::{self, Contact};
use crate::catalog::{Pulled, bypassing, quoted};
use crate::filter::Tables;
use crate::interrupt;
use crate::line::Line;
use crate::observe::{Observe, Part};

/// Pauses before the questions about one entry. The server answers with a new table a little after it wrote the first
/// change.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(2)];

/// How long nobody is asked again about what all answers lacked: a dropped table's entries may come by the thousand.
const QUIET: Duration = Duration::from_secs(30);

/// How often the node is asked without a reason, and until it has answered once.
const PERIOD: Duration = Duration::from_secs(60);
const FIRST: Duration = Duration::from_secs(2);

/// News that waited longer is dropped: what it says may have changed since, and newer news is on its way.
const OLD: Duration = PERIOD.saturating_mul(2);

/// How often a wait looks around.
const LOOK: Duration = Duration::from_millis(100);

/// Asks the node.
type Ask = Box<dyn Fn(&Observe) -> anyhow::Result<Pulled> + Send>;

/// Where the node's schema comes from.
pub struct SchemaSource {
    contact: Option<Arc<Mutex<Contact>>>,
    ask: Option<Ask>,
    /// What the node's answers lacked, and when that was clear.
    in_vain: Vec<(MutationError, Instant)>,
    news: Option<Receiver<Pulled>>,
    /// What of the schema loses changes, and what to do about it.
    problems: Vec<String>,
}

impl SchemaSource {
    /// The node at this contact point; without one nobody is asked. `answered`: whether it has answered in this life.
    pub fn new(contact: Option<Contact>, answered: bool) -> Self {
        let contact = contact.map(|contact| Arc::new(Mutex::new(contact)));
        let news = contact.clone().map(|contact| pull_regularly(contact, answered));
        let ask = contact.clone().map(|contact| -> Ask { Box::new(move |observe| pull(current(&contact), observe)) });
        Self { contact, ask, in_vain: Vec::new(), news, problems: Vec::new() }
    }

    /// Looks in the node's own word for tables whose changes never reach the log, and says so once.
    pub fn take_note(&mut self, rows: &SystemSchema, wanted: &Tables) {
        let told = |(keyspace, tables): (String, Vec<String>)| {
            format!(
                "changes of {keyspace}.{{{}}} never reach the commit log: ALTER KEYSPACE {} WITH durable_writes = true",
                tables.join(", "),
                quoted(&keyspace)
            )
        };
        let problems: Vec<String> = bypassing(rows, wanted).into_iter().map(told).collect();
        for new in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::warn!("{new}");
        }
        self.problems = problems;
    }

    /// What was noted, for the status.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        self.problems.iter().cloned()
    }

    /// The same node, with these credentials from now on.
    pub(super) fn set_contact(&mut self, new: Option<Contact>) {
        if let (Some(contact), Some(new)) = (&self.contact, new) {
            *contact.lock().unwrap_or_else(PoisonError::into_inner) = new;
        }
    }

    /// Whether there is a node to ask.
    pub(super) fn has_contact(&self) -> bool {
        self.ask.is_some()
    }

    /// Asks about what this entry names, and has the line take in the answer. Says whether the entry is worth another
    /// try; `answers` counts those that it has had.
    ///
    /// # Errors
    /// The node does not answer: nothing is known of what the entry names.
    pub(super) fn ask(
        &mut self,
        unknown: &MutationError,
        answers: &mut usize,
        line: &mut Line,
        observe: &Observe,
    ) -> anyhow::Result<bool> {
        let Some(ask) = &self.ask else { return Ok(false) };
        self.in_vain.retain(|(_, since)| since.elapsed() < QUIET);
        if self.in_vain.iter().any(|(known, _)| known == unknown) {
            return Ok(false);
        }
        let Some(pause) = PAUSES.get(*answers) else {
            self.in_vain.push((unknown.clone(), Instant::now()));
            return Ok(false);
        };
        rest(*pause, observe, interrupt::came)?;
        let pulled = ask(observe)?;
        *answers += 1;
        line.merge_schema(&pulled.schema, pulled.at_micros);
        Ok(true)
    }

    /// What the node said lately without being asked for anything in particular.
    pub(super) fn news(&mut self) -> Option<Pulled> {
        loop {
            match self.news.as_ref()?.try_recv() {
                Ok(pulled) if is_old(&pulled) => {}
                Ok(pulled) => return Some(pulled),
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => self.news = None,
            }
        }
    }
}

fn is_old(pulled: &Pulled) -> bool {
    let age = jiff::Timestamp::now().as_microsecond().saturating_sub(pulled.at_micros);
    u128::try_from(age).is_ok_and(|age| age > OLD.as_micros())
}

fn current(contact: &Mutex<Contact>) -> Contact {
    contact.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Asks the node, and meanwhile says that somebody is alive.
///
/// # Errors
/// The node does not answer, or a signal came.
pub fn pull(contact: Contact, observe: &Observe) -> anyhow::Result<Pulled> {
    let (sender, answer) = channel();
    thread::Builder::new().name("schema".to_owned()).spawn(move || {
        let _ = sender.send(pull_here(&contact));
    })?;
    answer_of(&answer, observe, interrupt::came)?
}

fn answer_of<T>(answer: &Receiver<T>, observe: &Observe, stop: impl Fn() -> bool) -> anyhow::Result<T> {
    loop {
        match answer.recv_timeout(LOOK) {
            Ok(answer) => return Ok(answer),
            Err(RecvTimeoutError::Timeout) if stop() => anyhow::bail!("told to stop while the node was asked"),
            Err(RecvTimeoutError::Timeout) => observe.beat(Part::Pump),
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the thread that asks the node is gone"),
        }
    }
}

/// Lets the time go by, and meanwhile says that somebody is alive.
fn rest(pause: Duration, observe: &Observe, stop: impl Fn() -> bool) -> anyhow::Result<()> {
    let until = Instant::now() + pause;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        anyhow::ensure!(!stop(), "told to stop before the node was asked");
        observe.beat(Part::Pump);
        thread::sleep(left.min(LOOK));
    }
}

fn pull_here(contact: &Contact) -> anyhow::Result<Pulled> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(cql::pull(contact))
}

fn pull_regularly(contact: Arc<Mutex<Contact>>, answered: bool) -> Receiver<Pulled> {
    // One answer waits; who does not look gets no second one.
    let (sender, pulled) = sync_channel(1);
    let asking = thread::Builder::new()
        .name("schema-watch".to_owned())
        .spawn(move || ask_regularly(&contact, answered, &sender));
    if let Err(error) = asking {
        tracing::warn!(%error, "the node is asked for its schema only when an entry names what nobody knows");
    }
    pulled
}

fn ask_regularly(contact: &Mutex<Contact>, mut answered: bool, news: &SyncSender<Pulled>) {
    loop {
        thread::sleep(if answered { PERIOD } else { FIRST });
        match pull_here(&current(contact)) {
            Ok(pulled) => {
                answered = true;
                if news.send(pulled).is_err() {
                    return;
                }
            }
            Err(error) => tracing::debug!("look for changes of the schema: {error:#}"),
        }
    }
}

#[cfg(test)]
mod tests;
