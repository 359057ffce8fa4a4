//! The topics of one publisher: looked up once, made if we are told to.
//!
//! Owns: when the cluster is asked, and the limits that come of it. Does not own: the requests themselves (`admin`).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::Producer;

use super::admin::{self, Admin};
use super::errors::KafkaError;
use super::settings::RECORD_OVERHEAD;
use super::{ASK, Publisher, Topic, TopicCounts, TopicId};

impl Publisher {
    /// Looks a topic up, once, and makes it if it is missing and settings say so.
    ///
    /// # Errors
    /// [`KafkaError::MissingTopic`], or [`KafkaError::Topic`] if the look-up or the creation failed.
    pub fn topic(&mut self, name: &str) -> Result<TopicId, KafkaError> {
        if let Some(id) = self.names.get(name) {
            return Ok(*id);
        }
        let partitions = match self.partitions(name)? {
            Some(partitions) => partitions,
            None => self.create(name)?,
        };
        self.goes_on()?;
        let partitions = self.settings.pinned.get(name).map_or(partitions, |pinned| partitions.min(*pinned));
        let limit = self.limit(name)?;
        self.goes_on()?;
        let id = TopicId(u32::try_from(self.topics.len()).map_err(|_| KafkaError::Bug("more topics than numbers"))?);
        let first = self.runs.add_buckets(partitions);
        self.topics.push(Topic { name: name.to_owned(), partitions, first, limit, counts: TopicCounts::default() });
        self.names.insert(name.to_owned(), id);
        Ok(id)
    }

    /// The topics in use, and how many of their partitions.
    pub fn topics(&self) -> impl Iterator<Item = (&str, u32)> {
        self.topics.iter().map(|topic| (topic.name.as_str(), topic.partitions))
    }

    /// The partitions of every topic of the cluster, as it says now.
    ///
    /// # Errors
    /// It does not answer.
    pub fn all_partitions(&self) -> Result<BTreeMap<String, u32>, KafkaError> {
        let metadata = self.producer.client().fetch_metadata(None, self.settings.lookup_timeout).map_err(|error| {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            KafkaError::Topic { action: "look up", topic: "(all)".to_owned(), code }
        })?;
        let count = |topic: &MetadataTopic| u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX);
        let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
        Ok(topics.map(|topic| (topic.name().to_owned(), count(topic))).collect())
    }

    fn partitions(&self, name: &str) -> Result<Option<u32>, KafkaError> {
        admin::partitions(self.producer.client(), name, self.settings.lookup_timeout)
    }

    /// Each step of a look-up may take as long as a look-up may: whoever waits is asked in between, as in other waits.
    fn goes_on(&mut self) -> Result<(), KafkaError> {
        match self.ask(Instant::now()) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(KafkaError::Interrupted),
        }
    }

    fn create(&mut self, name: &str) -> Result<u32, KafkaError> {
        let missing = || KafkaError::MissingTopic { topic: name.to_owned() };
        let create = self.settings.create_topics.ok_or_else(missing)?;
        self.goes_on()?;
        self.admin()?.create(name, create)?;
        let deadline = Instant::now() + self.settings.lookup_timeout;
        loop {
            self.goes_on()?;
            // The broker that made it is not always the one that is asked.
            match self.partitions(name)? {
                Some(partitions) => return Ok(partitions),
                None if Instant::now() >= deadline => return Err(missing()),
                None => std::thread::sleep(ASK),
            }
        }
    }

    fn limit(&mut self, name: &str) -> Result<usize, KafkaError> {
        let ours = self.settings.max_record_bytes;
        if !self.settings.topic_limits {
            return Ok(ours);
        }
        let theirs = self.admin()?.max_message_bytes(name).unwrap_or_else(|error| {
            // To wait as long again for every topic would look like a hang.
            tracing::warn!(topic = name, %error, "limits of topics are not known: only our own limit of records counts");
            self.settings.topic_limits = false;
            None
        });
        let theirs = theirs.unwrap_or(usize::MAX).saturating_sub(RECORD_OVERHEAD);
        if theirs < ours {
            tracing::info!(topic = name, limit = theirs, "the topic takes smaller records than our own limit");
        }
        Ok(ours.min(theirs))
    }

    fn admin(&mut self) -> Result<&Admin, KafkaError> {
        let admin = match self.admin.take() {
            Some(admin) => admin,
            None => Admin::connect(self.settings.client_config()?, self.settings.lookup_timeout)?,
        };
        Ok(self.admin.insert(admin))
    }
}
