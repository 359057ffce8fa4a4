//! How many partitions each topic had when it was used first, and what follows when that changes.
//!
//! Owns: the numbers, kept in the state directory, and the look at the cluster's. Does not own: choosing a partition
//! (`kafka`). With more partitions a key goes to another one, and the order of its events breaks once.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::hold::{Hold, Reason};
use crate::config::OnPartitionChange;
use crate::durable_file;
use crate::kafka::Publisher;
use crate::observe::{HoldReason, Observe};

/// How often the cluster is asked.
const PERIOD: Duration = Duration::from_secs(60);

/// The numbers of partitions that count.
#[derive(Debug)]
pub struct Partitions {
    path: Option<PathBuf>,
    known: BTreeMap<String, u32>,
    on_change: OnPartitionChange,
    /// When the cluster was asked last; `None`: before anything more is published it has to be.
    looked: Option<Instant>,
}

/// What a look found.
#[derive(Debug)]
pub(super) enum Looked {
    /// Nothing that changes anything.
    AsBefore,
    /// New numbers count from now on: the producer is to be made anew.
    Changed,
    /// Nothing more is to be published.
    Halt(Hold),
}

impl Partitions {
    /// Without a file the numbers are those of this life.
    ///
    /// # Errors
    /// The file of an earlier life can't be read.
    pub fn open(path: Option<PathBuf>, on_change: OnPartitionChange) -> io::Result<Self> {
        let known = match path.as_deref().map(fs::read) {
            Some(Ok(text)) => serde_json::from_slice(&text)?,
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => BTreeMap::new(),
        };
        Ok(Self { path, known, on_change, looked: None })
    }

    /// The numbers that a producer must not go beyond.
    pub(super) fn pinned(&self) -> BTreeMap<String, u32> {
        if self.on_change == OnPartitionChange::Warn { BTreeMap::new() } else { self.known.clone() }
    }

    /// There is a new producer, with topics as they are now.
    pub(super) fn look_again(&mut self) {
        self.looked = None;
    }

    /// Looks at the topics in use: at those that are new to us at once, at the cluster before a producer is used and then
    /// now and then.
    ///
    /// # Errors
    /// The cluster does not answer, which is no news; or the numbers can't be kept.
    pub(super) fn look(&mut self, publisher: &Publisher, observe: &Observe) -> io::Result<Looked> {
        let used: BTreeMap<String, u32> = publisher.topics().map(|(name, count)| (name.to_owned(), count)).collect();
        let mut is_new = false;
        for (name, count) in &used {
            is_new |= !self.known.contains_key(name);
            self.known.entry(name.clone()).or_insert(*count);
        }
        if is_new {
            self.keep()?;
        }
        let lately = self.looked.is_some_and(|looked| looked.elapsed() < PERIOD);
        if self.known.is_empty() || lately && !is_new {
            return Ok(Looked::AsBefore);
        }
        let looked = match publisher.all_partitions() {
            Ok(now) => self.compare(&used, &now, observe)?,
            Err(error) if self.looked.is_none() => Looked::Halt(Hold::new(Reason::Kafka, error.to_string())),
            Err(error) => {
                tracing::debug!(%error, "look at the partitions of topics");
                Looked::AsBefore
            }
        };
        // Who is told to halt does so until a look finds nothing wrong.
        self.looked = (!matches!(looked, Looked::Halt(_))).then(Instant::now);
        Ok(looked)
    }

    fn compare(
        &mut self,
        used: &BTreeMap<String, u32>,
        now: &BTreeMap<String, u32>,
        observe: &Observe,
    ) -> io::Result<Looked> {
        let (mut looked, before) = (Looked::AsBefore, self.known.clone());
        for (topic, known) in &mut self.known {
            let Some(count) = now.get(topic).copied().filter(|count| count != known) else { continue };
            let detail = format!("topic {topic} had {known} partitions and has {count}");
            match self.on_change {
                OnPartitionChange::Warn => {
                    tracing::warn!("{detail}: keys move to others, and the order of their events breaks once");
                    observe.metrics.partition_changes.inc();
                    *known = count;
                    if used.contains_key(topic) {
                        looked = Looked::Changed;
                    }
                }
                OnPartitionChange::Pin => tracing::warn!("{detail}: the first {known} go on to be used"),
                OnPartitionChange::Halt => {
                    looked = Looked::Halt(Hold::new(Reason::Held(HoldReason::PartitionsChanged), detail));
                }
            }
        }
        if self.known != before {
            self.keep()?;
        }
        Ok(looked)
    }

    fn keep(&self) -> io::Result<()> {
        match &self.path {
            Some(path) => durable_file::replace(path, &serde_json::to_vec(&self.known)?, "partitions"),
            None => Ok(()),
        }
    }
}
