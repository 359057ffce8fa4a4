//! `run` over several lives, and what it waits for and gives up nothing of.

mod support;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use cassandra_commitlog::{Descriptor, Sections, SegmentName, Step, Tail};
use rdkafka::mocking::MockCluster;
use rustix::process::{Pid, Signal, kill_process};
use support::{Laid, Ran, run};

const HOST: &str = "6f1c0000-0000-4000-8000-000000000001";
const LINES: [&str; 3] = ["--sink", "stdout", "--envelope"];

/// A configuration with these keys of `[cassandra]` beside the directories. Gives back the arguments that name it.
fn configure(laid: &Laid, cassandra: &str) -> Vec<OsString> {
    let file = laid.file("agent.toml");
    let text = format!(
        "[cassandra]\ncdc_raw = {:?}\n{cassandra}\n[state]\ndirectory = {:?}\n[spool]\nenabled = false\n\
         [kafka]\nbootstrap = \"127.0.0.1:1\"\n[http]\nlisten = \"off\"\n",
        laid.raw(),
        laid.file("state"),
    );
    fs::write(&file, text).unwrap();
    args!["--config", file].to_vec()
}

fn known() -> String {
    format!("cluster = \"c\"\nhost_id = {HOST:?}")
}

/// The same, with the schema that the case ended with.
fn with_schema(laid: &Laid) -> String {
    format!("{}\nschema = {:?}", known(), laid.schema)
}

fn once(config: &[OsString], more: &[&str]) -> Ran {
    let arguments = args!["run", "--once"].into_iter().chain(config.iter().cloned());
    run(arguments.chain(LINES.iter().chain(more).map(OsString::from)))
}

fn index_of(segment: &Path) -> PathBuf {
    let name = SegmentName::parse(segment.file_name().unwrap().to_str().unwrap()).unwrap();
    segment.with_file_name(name.index_name())
}

/// Lives while a segment grows.
const LIVES: usize = 6;

/// Where some of the sections of a segment end, the last one among them.
fn section_ends(bytes: &[u8]) -> Vec<u32> {
    let descriptor = Descriptor::parse(bytes).unwrap();
    let mut sections = Sections::new(bytes, &descriptor, Tail::Live);
    let mut ends = Vec::new();
    while let Step::Item(section) = sections.step().unwrap() {
        ends.push(section.end.0);
    }
    let every = ends.len().div_ceil(LIVES);
    ends.into_iter().rev().step_by(every).collect::<Vec<_>>().into_iter().rev().collect()
}

fn sorted(ran: &Ran) -> Vec<String> {
    let mut lines: Vec<String> = ran.lines().into_iter().map(ToOwned::to_owned).collect();
    lines.sort();
    lines
}

/// A node that lives: it holds every segment. The first `last` of them have no index, the one behind them has one that
/// grows. One life of the agent a step; then all are sealed.
fn in_many_lives(case: &str, last: usize) -> Vec<String> {
    let laid = Laid::own(case);
    let config = configure(&laid, &known());
    let commitlog = laid.file("commitlog");
    fs::create_dir(&commitlog).unwrap();
    let segments = laid.segments();
    let mut sealed = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        let index = index_of(segment);
        if at > last || !index.exists() {
            fs::remove_file(segment).unwrap();
            let _ = fs::remove_file(index);
            continue;
        }
        fs::hard_link(segment, commitlog.join(segment.file_name().unwrap())).unwrap();
        sealed.push((index.clone(), fs::read(&index).unwrap()));
        fs::remove_file(index).unwrap();
    }
    let growing = &segments[last];
    let mut lines = Vec::new();
    for end in section_ends(&fs::read(growing).unwrap()) {
        fs::write(index_of(growing), end.to_string()).unwrap();
        lines.extend(sorted(&once(&config, &["--ack"]).expect(0)));
        assert!(segments[..=last].iter().all(|segment| segment.exists()), "nothing has ended");
    }
    for (index, text) in sealed {
        fs::write(index, text).unwrap();
    }
    fs::remove_dir_all(commitlog).unwrap();
    lines.extend(sorted(&once(&config, &["--ack"]).expect(0)));
    assert!(laid.segments().is_empty(), "{:?}", laid.segments());
    lines.sort();
    lines
}

/// The same segments in one life.
fn in_one_life(case: &str, last: usize) -> Vec<String> {
    let laid = Laid::own(case);
    let config = configure(&laid, &known());
    for segment in laid.segments().iter().skip(last + 1) {
        fs::remove_file(segment).unwrap();
        let _ = fs::remove_file(index_of(segment));
    }
    sorted(&once(&config, &["--ack"]).expect(0))
}

fn many_lives_publish_what_one_does(case: &str, last: usize) {
    let expected = in_one_life(case, last);
    assert!(expected.len() > 10 && !expected.iter().any(|line| line.contains("\"reason\"")), "{expected:?}");
    assert_eq!(in_many_lives(case, last), expected);
}

#[test]
fn many_lives_in_one_segment_that_grows_publish_what_one_life_does() {
    many_lives_publish_what_one_does("4.1-schema", 0);
}

#[test]
fn many_lives_behind_segments_without_index_publish_what_one_life_does() {
    many_lives_publish_what_one_does("4.1-schema", 2);
}

#[test]
fn many_lives_beside_6_0_publish_what_one_life_does() {
    many_lives_publish_what_one_does("6.0-schema", 2);
}

#[test]
fn what_only_the_node_can_tell_waits_for_it() {
    let laid = Laid::own("4.1-demo");
    // With the first segment goes the DDL.
    let first = &laid.segments()[0];
    fs::remove_file(index_of(first)).unwrap();
    fs::remove_file(first).unwrap();
    let held = once(&configure(&laid, &format!("{}\ncontact = \"127.0.0.1:1\"", known())), &["--ack"]).expect(69);
    assert_eq!(held.text(), "");
    assert!(held.err.contains("is not in the schema, and the node does not answer"), "{}", held.err);
    // Without a node to ask nothing is waited for.
    let letters = once(&configure(&laid, &known()), &["--ack"]).expect(65);
    assert!(letters.text().contains("\"reason\":\"unknown-table\""));
}

#[test]
fn a_signal_while_the_node_is_asked_who_it_is_ends_in_order() {
    let laid = Laid::own("4.1-demo");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = configure(&laid, &format!("contact = \"{}\"", silent.local_addr().unwrap()));
    let mut agent = support::program().arg("run").args(&config).spawn().unwrap();
    let _asked = silent.accept().unwrap();
    kill_process(Pid::from_child(&agent), Signal::TERM).unwrap();
    assert_eq!(agent.wait().unwrap().code(), Some(0));
}

#[test]
fn a_segment_of_another_release_stops_what_follows_it() {
    let laid = Laid::own("4.1-demo");
    let config = configure(&laid, &with_schema(&laid));
    let all = sorted(&once(&config, &[]).expect(0));
    assert!(!all.is_empty());
    for (name, expected) in [("CommitLog-42-9795257477268.log", all), ("CommitLog-42-1.log", Vec::new())] {
        let unknown = laid.raw().join(name);
        fs::write(&unknown, "header").unwrap();
        let held = once(&config, &[]).expect(65);
        assert!(held.err.contains(name) && held.err.contains("update the agent"), "{}", held.err);
        assert_eq!(sorted(&held), expected);
        fs::remove_file(unknown).unwrap();
    }
}

#[test]
fn a_segment_under_the_wrong_name_is_read_once_it_is_put_right() {
    let laid = Laid::own("4.1-demo");
    let config = configure(&laid, &with_schema(&laid));
    let [other, segment, ..] = &laid.segments()[..] else { panic!("two segments") };
    let index = index_of(segment);
    fs::write(&index, format!("{}\nCOMPLETED", fs::read_to_string(&index).unwrap())).unwrap();
    let all = sorted(&once(&config, &[]).expect(0));
    let whole = fs::read(segment).unwrap();
    fs::write(segment, fs::read(other).unwrap()).unwrap();
    let mut lines = Vec::new();
    for _ in 0..2 {
        let ran = once(&config, &["--ack"]).expect(65);
        lines.extend(sorted(&ran));
        assert!(lines.len() < all.len() && segment.exists(), "{}", ran.err);
    }
    fs::write(laid.file("whole"), whole).unwrap();
    fs::rename(laid.file("whole"), segment).unwrap();
    let ran = once(&config, &["--ack"]).expect(0);
    lines.extend(sorted(&ran));
    lines.sort();
    assert_eq!(lines, all);
    assert!(!segment.exists(), "{}", ran.err);
}

#[test]
fn damaged_numbers_of_partitions_are_set_aside() {
    for damaged in ["{\"cassandra.shop.orders\":", "[1]"] {
        let laid = Laid::own("4.1-demo");
        let config = configure(&laid, &with_schema(&laid));
        once(&config, &["--ack"]).expect(0);
        let kept = laid.file("state/partitions.json");
        fs::write(&kept, damaged).unwrap();
        let ran = once(&config, &["--ack"]).expect(0);
        assert!(ran.err.contains("partitions.json in the state directory is damaged"), "{}", ran.err);
        let names: BTreeSet<String> = fs::read_dir(laid.file("state"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("partitions."))
            .collect();
        assert!(names.len() == 1 && names.iter().all(|name| name.starts_with("partitions.damaged.")), "{names:?}");
    }
}

#[test]
fn only_lines_that_show_dead_letters_may_be_acknowledged() {
    for sink in ["stdout", "file"] {
        let refused = run(["run", "--ack", "--sink", sink, "--output", "events"]).expect(2);
        assert!(refused.err.contains("--envelope"), "{}", refused.err);
    }
}

/// The agent, until this value goes.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The metric of this name, once it is more than `than`.
fn metric_above(address: SocketAddr, name: &str, than: f64) -> f64 {
    let ask = || {
        let mut stream = TcpStream::connect(address).ok()?;
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let values = text.lines().filter(of_name).map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
        Some(values.sum::<f64>())
    };
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        match ask() {
            Some(value) if value > than => return value,
            value => assert!(Instant::now() < patience, "{name} is {value:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_new_kafka_property_counts_at_once() {
    let laid = Laid::own("4.1-demo");
    let cluster = MockCluster::new(1).unwrap();
    for table in ["customers", "inventory", "orders"] {
        cluster.create_topic(&format!("cassandra.shop.{table}"), 2, 1).unwrap();
    }
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = configure(&laid, &with_schema(&laid));
    let file = laid.file("agent.toml");
    let text = fs::read_to_string(&file).unwrap().replace("127.0.0.1:1", &cluster.bootstrap_servers());
    fs::write(&file, &text).unwrap();
    config.extend(args!["--set", format!("http.listen={address}")]);
    let mut command = support::program();
    command.arg("run").args(&config).env("CASSANDRA_CDC_NO_TOPIC_LIMITS", "1");
    let service = Service(command.spawn().unwrap());
    metric_above(address, "cassandra_cdc_events_published_total", 0.0);
    fs::write(&file, text.replace("[http]", "[kafka.librdkafka]\n\"linger.ms\" = 7\n[http]")).unwrap();
    kill_process(Pid::from_child(&service.0), Signal::HUP).unwrap();
    metric_above(address, "cassandra_cdc_producer_rebuilds_total", 0.0);
}
