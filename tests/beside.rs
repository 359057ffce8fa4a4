//! `state` and `quarantine`, as an operator uses them beside the agent or without it.

mod support;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use cassandra_cdc::checkpoint::StateDir;
use cassandra_progress::{Checkpoint, Node};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use support::{Laid, Ran, run};

const HOST: &str = "6f1c0000-0000-4000-8000-000000000001";
const TOPIC: &str = "cassandra.shop.inventory";

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
