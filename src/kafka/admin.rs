//! Topics: whether they exist, what they take, and making them when we are told to.
//!
//! Owns: the look at metadata, the requests of an administrator, and waiting for a new topic to appear.
//! Does not own: when a topic is looked up, or what a missing one means for reading.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};

use super::errors::{Action, KafkaError, Place, classify, refused_setting};
use super::reports;
use super::settings::TopicCreation;

/// How long to wait before asking again for a topic that is being made.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// The partitions of a topic; `None` if there is no such topic. Never makes one: automatic creation is off.
pub(super) fn partitions(
    client: &Client<reports::Context>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<u32>, KafkaError> {
    let deadline = Instant::now() + timeout;
    let failed = |code| KafkaError::Topic { action: "look up", topic: topic.to_owned(), code };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let metadata = client
            .fetch_metadata(Some(topic), left.max(ASK_AGAIN))
            .map_err(|error| failed(error.rdkafka_error_code().unwrap_or(Code::Unknown)))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let code = match found {
            None => return Ok(None),
            Some(found) => match found.error().map(Code::from) {
                None => match u32::try_from(found.partitions().len()) {
                    Ok(partitions) if partitions > 0 => return Ok(Some(partitions)),
                    _ => Code::LeaderNotAvailable,
                },
                Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => return Ok(None),
                Some(code) => code,
            },
        };
        // A topic that was just made has no leaders yet.
        if classify(Place::Event, code) != Action::Absorbed || left.is_zero() {
            return Err(failed(code));
        }
        thread::sleep(ASK_AGAIN);
    }
}

/// A second client for an administrator's requests. It is meant to be dropped soon: nothing serves its log lines, which
/// would gather while brokers are away.
pub(super) struct Admin {
    client: AdminClient<DefaultClientContext>,
    options: AdminOptions,
}

impl Admin {
    pub(super) fn connect(mut config: ClientConfig, timeout: Duration) -> Result<Self, KafkaError> {
        // It sends no records: an idempotent client would ask for a producer id for nothing.
        config.set("enable.gapless.guarantee", "false").set("enable.idempotence", "false");
        let client = config.create().map_err(|error| refused_setting(&error))?;
        let options = AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
        Ok(Self { client, options })
    }

    /// Makes a topic that never forgets a record for a newer one with the same key: our keys are those of partitions,
    /// and compaction would erase rows.
    pub(super) fn create(&self, topic: &str, create: TopicCreation) -> Result<(), KafkaError> {
        let failed = |code| KafkaError::Topic { action: "create", topic: topic.to_owned(), code };
        let new = NewTopic::new(topic, create.partitions, TopicReplication::Fixed(create.replication))
            .set("cleanup.policy", "delete");
        let results = wait(self.client.create_topics([&new], &self.options)).map_err(|error| failed(code(&error)))?;
        match results.into_iter().next() {
            // Another agent of the cluster may have been faster.
            Some(Ok(_) | Err((_, Code::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code))) => Err(failed(code)),
            None => Err(failed(Code::Unknown)),
        }
    }

    /// The largest batch that a topic takes, in bytes; `None` if we are not allowed to know.
    ///
    /// # Errors
    /// The cluster did not answer: it would not for another topic either.
    pub(super) fn max_message_bytes(&self, topic: &str) -> Result<Option<usize>, ClientError> {
        let resource = ResourceSpecifier::Topic(topic);
        let results = wait(self.client.describe_configs([&resource], &self.options))?;
        let limit = |config: ConfigResource| config.get("max.message.bytes")?.value.as_ref()?.parse().ok();
        Ok(results.into_iter().next().and_then(Result::ok).and_then(limit))
    }

    /// The configurations of topics, as far as the cluster tells.
    pub(super) fn configs(&self, topics: &[&str]) -> Configs {
        let resources: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        if resources.is_empty() {
            return Configs::new();
        }
        let results = wait(self.client.describe_configs(&resources, &self.options)).unwrap_or_default();
        let config = |resource: ConfigResource| {
            // A topic whose settings we may not know comes without any.
            let OwnedResourceSpecifier::Topic(topic) = resource.specifier else { return None };
            if resource.entries.is_empty() {
                return None;
            }
            let entries = resource.entries.into_iter();
            Some((topic, entries.filter_map(|entry| Some((entry.name, entry.value?))).collect()))
        };
        results.into_iter().filter_map(Result::ok).filter_map(config).collect()
    }
}

type Configs = BTreeMap<String, BTreeMap<String, String>>;

fn code(error: &ClientError) -> Code {
    match error {
        ClientError::AdminOp(code) => *code,
        error => error.rdkafka_error_code().unwrap_or(Code::Unknown),
    }
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for one of librdkafka's answers: its own thread makes them ready, so that no runtime is needed.
fn wait<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
