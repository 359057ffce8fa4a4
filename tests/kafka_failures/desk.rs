//! A node, a broker with a door in front of it, and a service that can be asked how it is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::agent::{Agent, HOST};
use super::front::Front;
use super::node::Options;
use super::rig::Rig;

pub const LETTERS: &str = "cassandra.dead-letter";

pub struct Desk {
    pub rig: Rig,
    pub front: Front,
    port: u16,
}

impl Desk {
    /// With these settings, `section.key=value`, beside those of the rig.
    pub fn new(options: Options, settings: &[&str]) -> Self {
        let mut rig = Rig::new(options);
        let front = Front::of(&rig.broker.cluster);
        rig.place.bootstrap = front.bootstrap();
        rig.place.configure(HOST);
        // Taken, and given back at once: nobody else is given it for a while.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("http.listen=127.0.0.1:{port}");
        // What is compressed can't be looked into.
        let own = [
            listen.as_str(),
            "kafka.librdkafka.compression.type=none",
            "kafka.librdkafka.reconnect.backoff.max.ms=200",
        ];
        let sets = own.iter().chain(settings).flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]);
        rig.place.arguments = sets.collect();
        Self { rig, front, port }
    }

    /// A service that is up.
    #[track_caller]
    pub fn agent(&self) -> Agent {
        let mut agent = self.rig.place.agent();
        agent.wait_ready(Duration::from_secs(60));
        agent
    }

    /// The status code and the body of what it answers over HTTP.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, body.to_owned())
    }

    /// The sum of a metric over all its labels.
    pub fn metric(&self, name: &str) -> u64 {
        self.sum(&format!("cassandra_cdc_{name}"))
    }

    fn sum(&self, wanted: &str) -> u64 {
        let (_, text) = self.get("/metrics");
        let samples = text.lines().filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            (name == wanted || name.split_once('{').is_some_and(|(name, _)| name == wanted)).then_some(value)
        });
        let values: Vec<u64> = samples.map(|value| value.parse().unwrap()).collect();
        assert!(!values.is_empty() || wanted.ends_with("failures_total"), "no {wanted} in {text}");
        values.into_iter().sum()
    }

    fn holds_for(&self, reason: &str) -> bool {
        let line = format!("cassandra_cdc_hold_state{{reason=\"{reason}\"}} 1");
        self.get("/metrics").1.lines().any(|sample| sample == line)
    }

    /// Waits until it is held for this reason, and then for its next tries: it stays held, alive, and not ready, and
    /// deletes nothing.
    #[track_caller]
    pub fn is_held(&mut self, agent: &mut Agent, reason: &str) {
        self.rig.wait(agent, reason, |_| self.holds_for(reason));
        let raw = self.rig.raw();
        std::thread::sleep(Duration::from_secs(3));
        agent.must_run();
        assert!(self.holds_for(reason), "{}", self.get("/statusz").1);
        let (code, health) = self.get("/readyz");
        assert_eq!(code, 503, "{health}");
        assert!(health.contains(reason), "{health}");
        assert_eq!(self.get("/livez").0, 200);
        assert!(raw.is_subset(&self.rig.raw()), "it deletes nothing");
    }

    /// All is there, nothing was invented or passed, no dead letter but for what is marked as such, and it is ready.
    #[track_caller]
    pub fn settles(&mut self, agent: &mut Agent) {
        self.rig.settle(agent);
        self.rig.judge();
        self.rig.judge_no_gap();
        self.rig.wait(agent, "readiness", |_| self.get("/readyz").0 == 200);
    }
}
