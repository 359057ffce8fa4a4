//! The broker that all sides publish to: librdkafka's in-process cluster in a process of its own, or a real one.
//!
//! Owns: starting it, stopping it in the middle of whatever it does, topics. Does not own: what is published. What the
//! broker costs counts nowhere.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::mocking::MockCluster;
use rdkafka::types::RDKafkaErrorCode;
use rustix::process::Signal;

use crate::child;
use crate::orders::TOPIC;

/// Of each topic.
pub(crate) const PARTITIONS: u32 = 12;
const DEAD_LETTERS: &str = "cassandra.dead-letter";
/// The name of the role in which this program is a broker.
pub(crate) const ROLE: &str = "broker";

/// A broker with empty topics.
pub(crate) struct Broker {
    pub(crate) bootstrap: String,
    /// None: it was there before, and stays.
    child: Option<Child>,
}

impl Broker {
    /// The one at this address, or one of our own.
    pub(crate) fn at(bootstrap: Option<&str>) -> Self {
        match bootstrap {
            Some(bootstrap) => {
                make_topics(bootstrap);
                Self { bootstrap: bootstrap.to_owned(), child: None }
            }
            None => Self::start(),
        }
    }

    /// One of our own.
    pub(crate) fn start() -> Self {
        let mut command = child::again(ROLE);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("to start a broker");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its stdout")).read_line(&mut line).expect("an address");
        assert!(line.contains(':'), "the broker did not say where it is: {line:?}");
        Self { bootstrap: line.trim().to_owned(), child: Some(child) }
    }

    /// It stands still, and answers nobody.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        child::signal(self.child.as_ref().expect("a broker of our own"), signal);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may be gone already: then there is nothing to end.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Is a broker until whoever started it is gone.
pub(crate) fn serve() {
    let cluster = MockCluster::new(1).expect("a cluster");
    for topic in [TOPIC, DEAD_LETTERS] {
        cluster.create_topic(topic, PARTITIONS as i32, 1).expect("a topic");
    }
    println!("{}", cluster.bootstrap_servers());
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
}

/// A client's configuration.
pub(crate) fn client(settings: &[(&str, &str)]) -> ClientConfig {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Makes the topics of a real broker, which keep little.
fn make_topics(bootstrap: &str) {
    let config = client(&[("bootstrap.servers", bootstrap)]);
    let admin: AdminClient<DefaultClientContext> = config.create().expect("a client");
    let topic = |name| {
        NewTopic::new(name, PARTITIONS as i32, TopicReplication::Fixed(1))
            .set("retention.bytes", "16777216")
            .set("segment.bytes", "16777216")
    };
    let topics = [topic(TOPIC), topic(DEAD_LETTERS)];
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let made = runtime.block_on(admin.create_topics(&topics, &AdminOptions::new())).expect("an answer about topics");
    for result in made {
        assert!(matches!(result, Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))), "{result:?}");
    }
}
