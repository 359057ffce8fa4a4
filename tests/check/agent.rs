//! What the running agent says of the mistakes that lose changes and that it can see by itself.

use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cql::Node;
use crate::place::Place;
use crate::support::program;

const PATIENCE: Duration = Duration::from_secs(60);

/// An agent that ends with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_agent_names_what_never_comes_and_a_limit_that_is_too_low() {
    let place = Place::new();
    place.yaml("cdc_total_space: 3MiB\n");
    let schema = place.schema(|schema| {
        let mut keyspaces = schema["keyspaces"].as_array_mut().unwrap().iter_mut();
        keyspaces.find(|row| row["keyspace_name"] == "shop").unwrap()["durable_writes"] = false.into();
    });
    let node = Node { schema, ..Node::default() }.start(None);
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sets = [
        format!("cassandra.contact={}", node.address()),
        format!("http.listen={listen}"),
        format!("kafka.bootstrap={}", place.broker.bootstrap()),
    ];
    let command = |name: &[&str]| {
        let mut command = program();
        command.args(name).arg("-c").arg(place.file("c.toml"));
        for set in &sets {
            command.args(["--set", set]);
        }
        command
    };
    let log = std::fs::File::create(place.file("log")).unwrap();
    let run = ["run", "--sink", "file", "--envelope", "--ack", "--output"];
    let mut run = command(&[&run[..], &[place.file("events").to_str().unwrap()]].concat());
    let _agent = Agent(run.stderr(log).spawn().unwrap());
    let until = Instant::now() + PATIENCE;
    let wanted = ["cdc_total_space holds 3 segments", "ALTER KEYSPACE shop WITH durable_writes = true"];
    loop {
        let status = command(&["status", "-o", "json"]).stdout(Stdio::piped()).output().unwrap();
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        let problems = status["problems"].to_string();
        if wanted.iter().all(|wanted| problems.contains(wanted)) {
            break;
        }
        assert!(Instant::now() < until, "{status:#}\n{}", std::fs::read_to_string(place.file("log")).unwrap());
        std::thread::sleep(Duration::from_millis(100));
    }
    // Said once, however often the node is asked.
    let log = std::fs::read_to_string(place.file("log")).unwrap();
    for wanted in wanted {
        assert_eq!(log.matches(wanted).count(), 1, "{log}");
    }
}
