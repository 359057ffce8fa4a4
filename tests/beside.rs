//! `state` and `quarantine`, as an operator uses them beside the agent or without it.

mod support;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use cassandra_cdc::checkpoint::StateDir;
use cassandra_commitlog::{Descriptor, Entries, Plaintext, Sections, Step, Tail};
use cassandra_progress::{Checkpoint, Node};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use support::{Laid, Ran, run};

const HOST: &str = "6f1c0000-0000-4000-8000-000000000001";
const TOPIC: &str = "cassandra.shop.inventory";
const TOPICS: [&str; 3] = ["cassandra.shop.customers", TOPIC, "cassandra.shop.orders"];

/// A configuration without a node to ask. Gives back the arguments that name it.
fn configure(laid: &Laid, bootstrap: &str) -> Vec<OsString> {
    let file = laid.file("agent.toml");
    let text = format!(
        "[cassandra]\ncdc_raw = {:?}\nschema = {:?}\ncluster = \"c\"\nhost_id = {HOST:?}\n\
         [state]\ndirectory = {:?}\n[kafka]\nbootstrap = {bootstrap:?}\n",
        laid.raw(),
        laid.schema,
        laid.file("state"),
    );
    fs::write(&file, text).unwrap();
    args!["--config", file].to_vec()
}

fn command(words: &[&str], config: &[OsString]) -> Ran {
    run(words.iter().map(OsString::from).chain(config.iter().cloned()))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_state_is_shown_adopted_and_reset() {
    let laid = Laid::own("4.1-demo");
    let config = configure(&laid, "127.0.0.1:1");
    let state = laid.file("state");
    assert_eq!(command(&["state", "show"], &config).code, Some(74));
    assert_eq!(command(&["state", "adopt"], &config).code, Some(1));
    assert!(!state.exists(), "looking makes nothing");

    let node = Node { agent: "cassandra-cdc".into(), host: "old".into(), cluster: "c".into() };
    let mut store = StateDir::open(&state).unwrap().load(&node).unwrap().store;
    for _ in 0..2 {
        store.save(&Checkpoint { node: node.clone(), ..Checkpoint::default() }).unwrap();
    }
    let shown: Value =
        serde_json::from_slice(&command(&["state", "show", "-o", "json"], &config).expect(0).out).unwrap();
    assert_eq!((&shown["held"], &shown["node"]["host_id"]), (&true.into(), &"old".into()));
    for words in [["state", "adopt"], ["state", "reset"]] {
        let refused = command(&words, &config).expect(1);
        assert!(refused.err.contains("stop it first"), "{}", refused.err);
    }
    drop(store);
    let adopted = command(&["state", "adopt"], &config).expect(0);
    assert!(adopted.err.contains("host old") && adopted.err.contains(HOST), "{}", adopted.err);
    let shown: Value =
        serde_json::from_slice(&command(&["state", "show", "-o", "json"], &config).expect(0).out).unwrap();
    assert_eq!((&shown["held"], &shown["node"]["host_id"]), (&false.into(), &HOST.into()));
    let reset = command(&["state", "reset"], &config).expect(0);
    assert!(reset.err.contains("published again"), "{}", reset.err);
    assert_eq!(names(&state).len(), 2);
    assert!(command(&["state", "show"], &config).expect(0).text().contains("unread"));
}

/// Dead letters of a replay without one table's schema, as the agent keeps them. Gives back their ids.
fn keep_letters(laid: &Laid, folder: &Path) -> BTreeSet<String> {
    let mut schema: Value = serde_json::from_slice(&fs::read(&laid.schema).unwrap()).unwrap();
    schema["tables"].as_array_mut().unwrap().retain(|row| row["table_name"] != "inventory");
    let poor = laid.file("poor.json");
    fs::write(&poor, schema.to_string()).unwrap();
    let raw = laid.raw();
    let arguments =
        args!["replay", "--sink", "stdout", "--envelope", "--schema", poor, "--cluster", "c", "--host-id", HOST, raw];
    let private = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path).unwrap();
    private(folder.parent().unwrap());
    private(folder);
    let mut ids = BTreeSet::new();
    for record in run(&arguments).expect(65).events() {
        let letter = &record["value"];
        if let Some(segment) = letter["source"]["segment"].as_str().filter(|_| letter.get("reason").is_some()) {
            let path = folder.join(format!("{segment}-{}.json", letter["entry"]["position"]));
            fs::write(path, letter.to_string()).unwrap();
            ids.insert(letter["id"].as_str().unwrap().to_owned());
        }
    }
    ids
}

/// The ids of everything in the topic, without the number of the update, until so many came.
fn published(bootstrap: &str, count: usize) -> BTreeSet<String> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", "test").create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..2 {
        list.add_partition_offset(TOPIC, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut ids = BTreeSet::new();
    let patience = Instant::now() + Duration::from_secs(30);
    while ids.len() < count && Instant::now() < patience {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let value: Value = serde_json::from_slice(message.unwrap().payload().unwrap()).unwrap();
            ids.insert(value["id"].as_str().unwrap().rsplit_once('/').unwrap().0.to_owned());
        }
    }
    ids
}

/// How `run --once` ends.
fn once(config: &[OsString], more: &[&str]) -> Ran {
    let quiet = args!["run", "--once", "--set", "http.listen=off", "--set", "spool.enabled=false"];
    run(quiet.into_iter().chain(config.iter().cloned()).chain(more.iter().map(OsString::from)))
}

/// Gives the entry that ends here another table id, with good checksums. Says where its body begins in the file.
fn rename_table(bytes: &mut [u8], end: u32) -> usize {
    let descriptor = Descriptor::parse(bytes).unwrap();
    let mut sections = Sections::new(bytes, &descriptor, Tail::Live);
    let body = loop {
        let Step::Item(section) = sections.step().unwrap() else { panic!("no entry ends at {end}") };
        let mut plaintext = Plaintext::default();
        let entries = Entries::new(plaintext.of(&section, &descriptor).unwrap(), section.start);
        if let Some(entry) = entries.map(Result::unwrap).find(|entry| entry.end().0 == end) {
            let start = entry.body_at.0 as usize;
            break start..start + entry.body.len();
        }
    };
    // Behind the number of updates.
    bytes[body.start + 1..body.start + 17].fill(0x5a);
    let size = u32::try_from(body.len()).unwrap().to_be_bytes();
    let crc = crc32fast::hash(&[&size, &bytes[body.clone()]].concat());
    bytes[body.end..body.end + 4].copy_from_slice(&crc.to_be_bytes());
    body.start
}

const LINES: [&str; 3] = ["--sink", "stdout", "--envelope"];

#[test]
fn once_tells_by_its_exit_code_whether_all_is_published() {
    let laid = Laid::own("4.1-demo");
    let config = configure(&laid, "127.0.0.1:1");
    let events = once(&config, &LINES).expect(0).events();
    let all = events.len();
    assert!(all > 0);
    // A table that nobody knows: a dead letter, and the rest is published.
    let source = &events[all / 2]["value"]["source"];
    let segment = laid.raw().join(source["segment"].as_str().unwrap());
    let whole = fs::read(&segment).unwrap();
    let mut bytes = whole.clone();
    let body = rename_table(&mut bytes, support::position(&events[all / 2]["value"]));
    fs::write(&segment, &bytes).unwrap();
    let broken = once(&config, &LINES).expect(65);
    assert!(broken.text().contains("\"reason\":\"unknown-table\"") && broken.lines().len() == all, "{}", broken.err);
    // Damage: nothing behind it is published.
    bytes[body] ^= 0xff;
    fs::write(&segment, &bytes).unwrap();
    let damaged = once(&config, &LINES).expect(65);
    assert!(damaged.err.contains("checksum mismatch") && damaged.lines().len() < all, "{}", damaged.err);
    fs::write(&segment, &whole).unwrap();
    // Nothing can be said of what can't be seen.
    fs::rename(laid.raw(), laid.file("away")).unwrap();
    let missing = once(&config, &LINES).expect(74);
    assert!(missing.err.contains("is missing: Cassandra makes it"), "{}", missing.err);
    fs::rename(laid.file("away"), laid.raw()).unwrap();
    let nowhere = once(&config, &[]).expect(69);
    assert!(nowhere.err.contains("127.0.0.1:1"), "{}", nowhere.err);
}

/// The agent, until this value goes.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the agent answers at this path, if it does.
fn answer(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.split_once("\r\n\r\n")?.1.to_owned())
}

/// The sum of the samples of this name.
fn metric(text: &str, name: &str) -> f64 {
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    text.lines().filter(of_name).map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

#[test]
fn a_running_agent_shows_what_it_measures_and_what_is_wrong() {
    let laid = Laid::own("4.1-demo");
    let cluster = MockCluster::new(1).unwrap();
    for topic in TOPICS {
        cluster.create_topic(topic, 2, 1).unwrap();
    }
    let config = configure(&laid, &cluster.bootstrap_servers());
    let gaps = laid.file("state/gaps");
    for folder in [&laid.file("state"), &gaps] {
        fs::DirBuilder::new().mode(0o700).create(folder).unwrap();
    }
    fs::write(gaps.join("CommitLog-7-1.log-0-segment-deleted.json"), "{").unwrap();
    symlink("/etc/passwd", laid.raw().join("CommitLog-7-9.log")).unwrap();
    let log = laid.file("agent.log");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = support::program();
    command.arg("run").args(&config).args([
        "--set",
        "spool.min_free=1MiB",
        "--set",
        "kafka.librdkafka.statistics.interval.ms=100",
    ]);
    command.args(["--set", &format!("http.listen={address}")]).env("CASSANDRA_CDC_NO_TOPIC_LIMITS", "1");
    let _service = Service(command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap());
    let measured = |text: &str| {
        ["delivery_latency_seconds_count", "kafka_rtt_seconds", "rescans_total", "events_published_total"]
            .iter()
            .all(|name| metric(text, &format!("cassandra_cdc_{name}")) > 0.0)
    };
    let patience = Instant::now() + Duration::from_secs(60);
    let mut metrics = String::new();
    while !measured(&metrics) {
        assert!(Instant::now() < patience, "{metrics}\n{}", fs::read_to_string(&log).unwrap());
        std::thread::sleep(Duration::from_millis(100));
        metrics = answer(address, "/metrics").unwrap_or_default();
    }
    assert_eq!(metric(&metrics, "cassandra_cdc_damaged_gap_files"), 1.0);
    assert_eq!(metric(&metrics, "cassandra_cdc_problems"), 2.0);
    let status: Value = serde_json::from_str(&answer(address, "/statusz").unwrap()).unwrap();
    let problems = status["problems"].to_string();
    assert!(problems.contains("is no gap record") && problems.contains("is a symbolic link"), "{problems}");
    assert_eq!(status["next_action"], status["problems"][0]);
    let source = status["schema"]["source"].as_str().unwrap();
    assert!(source.starts_with("the schema file"), "{source}");
    let live = status["live"]["conditions"].to_string();
    assert!(live.contains("reports") && !live.contains("not at work"), "{live}");
    let shown = command_at(address, &config);
    assert!(shown.contains("is a symbolic link") && shown.contains("is no gap record"), "{shown}");
    assert!(fs::read_to_string(&log).unwrap().contains("is no gap record"));
}

fn command_at(address: SocketAddr, config: &[OsString]) -> String {
    let listen = format!("http.listen={address}");
    run(args!["status", "--set", listen].into_iter().chain(config.iter().cloned())).text().to_owned()
}

#[test]
fn kept_entries_are_published_once_there_is_a_schema() {
    let laid = Laid::own("4.1-demo");
    let folder = laid.file("state/quarantine");
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 2, 1).unwrap();
    let config = configure(&laid, &cluster.bootstrap_servers());
    let ids = keep_letters(&laid, &folder);
    assert_eq!(ids.len(), 24);
    let listed = command(&["quarantine", "list", "-o", "jsonl"], &config).expect(0).events();
    assert_eq!(listed.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(), ids);
    let first = listed[0]["name"].as_str().unwrap();
    let shown: Value = serde_json::from_slice(&command(&["quarantine", "show", first], &config).expect(0).out).unwrap();
    assert_eq!(shown["id"], listed[0]["id"]);
    assert_eq!(command(&["quarantine", "show", "../checkpoint.a"], &config).code, Some(74));
    // Damaged since: it stays, the others go.
    let torn = listed[1]["name"].as_str().unwrap();
    fs::write(folder.join(torn), b"{\"v\":1").unwrap();
    let ran = command(&["quarantine", "retry"], &config).expect(1);
    assert!(ran.err.contains(&format!("{torn}: kept: ")) && ran.err.contains("published, and dropped"), "{}", ran.err);
    assert_eq!(names(&folder), [torn]);
    let mut expected = ids;
    expected.remove(listed[1]["id"].as_str().unwrap());
    assert_eq!(published(&cluster.bootstrap_servers(), 23), expected);
    command(&["quarantine", "drop", torn], &config).expect(0);
    assert_eq!(command(&["quarantine", "drop", torn], &config).code, Some(1));
    command(&["quarantine", "retry"], &config).expect(0);
    // Others must not read what is in it.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(command(&["quarantine", "list"], &config).code, Some(77));
}
