//! The agent as a service, beside a stand-in for a node: idle, at its start, and how soon it reacts.
//!
//! Owns: its set-up without a Cassandra, and these rows. Does not own: what the node writes (`node`).

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::Scene;
use crate::broker::{self, Broker, PARTITIONS};
use crate::child::{self, Process};
use crate::framing::Segment;
use crate::measure::{Effort, Spread};
use crate::node::{self, Growing};
use crate::orders::{self, CLUSTER, HOST, TOPIC};
use crate::table::{Row, Target};

/// How long anything may take that surely comes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Segments at the start.
const MANY: usize = 10_000;
/// The id of a node's first segment.
pub(crate) const FIRST_ID: i64 = 1_795_300_000_000;

/// A running agent with its folders. It goes with this value.
pub(crate) struct Service {
    pub(crate) cdc_raw: PathBuf,
    pub(crate) process: Process,
    child: Child,
    notices: UnixDatagram,
    started: Instant,
    log: PathBuf,
}

impl Service {
    /// Starts one in a folder of its own. `cdc_raw` there may have files already.
    pub(crate) fn start(folder: &Path, schema: &Path, broker: &Broker, settings: &[&str]) -> Self {
        let cdc_raw = folder.join("cdc_raw");
        fs::create_dir_all(&cdc_raw).expect("a folder");
        let path = folder.join("cassandra-cdc.toml");
        let text = format!(
            "[cassandra]\ncdc_raw = {cdc_raw:?}\nhost_id = {HOST:?}\ncluster = {CLUSTER:?}\nschema = {schema:?}\n\
             [state]\ndirectory = {:?}\n[spool]\nenabled = false\n[kafka]\nbootstrap = {:?}\n[http]\nlisten = \"off\"\n\
             [log]\nformat = \"text\"\n",
            folder.join("state"),
            broker.bootstrap,
        );
        fs::write(&path, text).expect("to write a configuration");
        let socket = folder.join("notify");
        let notices = UnixDatagram::bind(&socket).expect("a socket");
        notices.set_read_timeout(Some(Duration::from_millis(100))).expect("to set a timeout");
        let log = folder.join("agent.log");
        let mut command = Command::new(child::AGENT);
        command.arg("run").arg("--config").arg(&path).args(settings.iter().flat_map(|setting| ["--set", setting]));
        command.env("NOTIFY_SOCKET", &socket).env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null());
        let started = Instant::now();
        let child = command.stderr(File::create(&log).expect("a log")).spawn().expect("to start the agent");
        Self { cdc_raw, process: Process::of(&child), child, notices, started, log }
    }

    /// Waits until it says that it is ready, and how long that took.
    pub(crate) fn ready(&mut self) -> Duration {
        let mut bytes = [0; 4096];
        loop {
            if let Ok(length) = self.notices.recv(&mut bytes)
                && String::from_utf8_lossy(&bytes[..length]).contains("READY=1")
            {
                return self.started.elapsed();
            }
            self.must_run("ready", self.started);
        }
    }

    /// Waits until something holds.
    pub(crate) fn wait(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            self.must_run(what, began);
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn must_run(&mut self, what: &str, since: Instant) {
        let ended = self.child.try_wait().expect("to look at the agent");
        if ended.is_some() || since.elapsed() > PATIENCE {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            panic!("never {what}, {ended:?}:\n{said}");
        }
    }

    /// Logs in `cdc_raw`.
    pub(crate) fn logs(&self) -> usize {
        let names = fs::read_dir(&self.cdc_raw).expect("cdc_raw");
        names.filter(|name| name.as_ref().is_ok_and(|name| name.path().extension() == Some("log".as_ref()))).count()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A row of a figure that is no ratio.
pub(crate) fn figure(
    id: &'static str,
    what: &str,
    target: Target,
    unit: &'static str,
    reached: Spread,
    ours: String,
) -> Row {
    let (what, against, theirs) = (what.to_owned(), "", String::new());
    Row { id, what, against, target, reached, unit, wall: None, ours, theirs, gated: false }
}

pub(crate) fn rows(effort: Effort, scene: &Scene) -> Vec<Row> {
    let mut rows = vec![latency(effort, scene)];
    rows.extend([("synced", 0.5), ("written", 2.0)].map(|(mode, limit)| idle(effort, scene, mode, limit)));
    rows.extend(many(effort, scene));
    rows
}

/// A broker, an agent beside a segment that grows, and one event that has come: topics are known then.
fn beside_a_node(scene: &Scene, name: &str, mode: &str) -> (Broker, Arrivals, Service, Growing) {
    eprintln!("{name}, {mode}, load {}", crate::table::load());
    let folder = scene.folder.path().join(format!("{name}-{mode}"));
    let broker = Broker::start();
    let mut arrivals = Arrivals::of(&broker);
    fs::create_dir_all(folder.join("cdc_raw")).expect("a folder");
    let mut segment = Growing::new(&folder.join("cdc_raw"), FIRST_ID);
    let setting = format!("cassandra.read_to={mode}");
    let mut service = Service::start(&folder, &scene.schema, &broker, &[&setting]);
    service.ready();
    segment.insert();
    arrivals.next();
    (broker, arrivals, service, segment)
}

/// S14: how long from an index that has changed to Kafka.
fn latency(effort: Effort, scene: &Scene) -> Row {
    let (_broker, mut arrivals, _service, mut segment) = beside_a_node(scene, "latency", "synced");
    let mut took: Vec<f64> = (0..effort.changes)
        .map(|number| {
            // Never in step with anything that turns every so often.
            thread::sleep(Duration::from_millis(20 + (number as u64 * 7) % 31));
            segment.insert();
            let changed = Instant::now();
            arrivals.next();
            changed.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    let ours = format!("p50 {:.1}, p95 {:.1}, worst {:.1} ms of {} changes", at(50), at(95), at(100), took.len());
    let what = "index changed to a consumer, linger 5, p99";
    figure("S14", what, Target::AtMost(15.0), "ms", Spread::one(at(99)), ours)
}

/// S13: what the agent costs while nothing happens.
fn idle(effort: Effort, scene: &Scene, mode: &str, limit: f64) -> Row {
    let (_broker, _arrivals, service, _segment) = beside_a_node(scene, "idle", mode);
    thread::sleep(Duration::from_secs(3));
    let (before, began) = (service.process.cpu(), Instant::now());
    thread::sleep(effort.watch);
    let seconds = began.elapsed().as_secs_f64();
    let spent = service.process.cpu() - before;
    let ours = format!("{:.0} ms in {seconds:.0} s", spent * 1e3);
    let share = Spread::one(spent / seconds * 100.0);
    figure("S13", &format!("idle, {mode}, of a core"), Target::AtMost(limit), "%", share, ours)
}

/// R8: thousands of segments are there when it starts.
fn many(effort: Effort, scene: &Scene) -> [Row; 2] {
    eprintln!("{MANY} segments at the start, load {}", crate::table::load());
    let folder = scene.folder.path().join("many");
    let cdc_raw = folder.join("cdc_raw");
    fs::create_dir_all(&cdc_raw).expect("a folder");
    for number in 0..MANY {
        let segment = Segment { size: 1024, ..Segment::plain(FIRST_ID + number as i64) };
        let first = number as u64 * 8;
        node::full(&cdc_raw, &folder, segment, (first..).map(orders::insert));
    }
    let broker = Broker::start();
    let mut service = Service::start(&folder, &scene.schema, &broker, &[]);
    let ready = service.ready();
    thread::sleep(effort.watch);
    let done = MANY - service.logs();
    let highest = service.process.highest().unwrap_or(f64::NAN);
    let what = format!("{MANY} segments at the start: ");
    let said = format!("{done} published and deleted {} s later", effort.watch.as_secs());
    let ready = Spread::one(ready.as_secs_f64());
    [
        figure("R8", &(what.clone() + "ready after"), Target::AtMost(5.0), "s", ready, said),
        figure("R8", &(what + "highest RSS"), Target::AtMost(256.0), "MiB", Spread::one(highest), String::new()),
    ]
}

/// A consumer that shares nothing with the agent.
struct Arrivals(BaseConsumer);

impl Arrivals {
    fn of(broker: &Broker) -> Self {
        let consumer: BaseConsumer = broker::client(&[
            ("bootstrap.servers", broker.bootstrap.as_str()),
            ("group.id", "unused"),
            ("enable.auto.commit", "false"),
            // The in-process broker answers an empty fetch when this is over, and not before.
            ("fetch.wait.max.ms", "1"),
        ])
        .create()
        .expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS as i32 {
            list.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("a partition");
        }
        consumer.assign(&list).expect("to assign partitions");
        Self(consumer)
    }

    /// Waits for the next record.
    fn next(&mut self) {
        let started = Instant::now();
        loop {
            if let Some(Ok(_)) = self.0.poll(Duration::from_millis(50)) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "an event did not come");
        }
    }
}
