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
    looked: Instant,
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
        Ok(Self { path, known, on_change, looked: Instant::now() })
    }

    /// The numbers that a producer must not go beyond.
    pub(super) fn pinned(&self) -> BTreeMap<String, u32> {
        if self.on_change == OnPartitionChange::Warn { BTreeMap::new() } else { self.known.clone() }
    }

    /// Looks at the topics in use: at those that are new to us at once, at the cluster now and then.
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
        if !is_new && self.looked.elapsed() < PERIOD {
            return Ok(Looked::AsBefore);
        }
        self.looked = Instant::now();
        match publisher.all_partitions() {
            Ok(now) => self.compare(&used, &now, observe),
            Err(error) => {
                tracing::debug!(%error, "look at the partitions of topics");
                Ok(Looked::AsBefore)
            }
        }
    }

    fn compare(
        &mut self,
        used: &BTreeMap<String, u32>,
        now: &BTreeMap<String, u32>,
        observe: &Observe,
    ) -> io::Result<Looked> {
        let mut looked = Looked::AsBefore;
        for (topic, known) in &mut self.known {
            let Some(count) = now.get(topic).copied().filter(|count| count != known && used.contains_key(topic)) else {
                continue;
            };
            let detail = format!("topic {topic} had {known} partitions and has {count}");
            match self.on_change {
                OnPartitionChange::Warn => {
                    tracing::warn!("{detail}: keys move to others, and the order of their events breaks once");
                    observe.metrics.partition_changes.inc();
                    *known = count;
                    looked = Looked::Changed;
                }
                OnPartitionChange::Pin => tracing::warn!("{detail}: the first {known} go on to be used"),
                OnPartitionChange::Halt => {
                    looked = Looked::Halt(Hold::new(Reason::Held(HoldReason::PartitionsChanged), detail));
                }
            }
        }
        if matches!(looked, Looked::Changed) {
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
