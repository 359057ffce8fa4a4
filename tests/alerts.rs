//! Alert rules, dashboard, runbook and the table of metrics, against what a running agent serves.
//!
//! Owns: that whatever they name exists: metrics, labels, paragraphs, tests. Does not own: when an alert fires
//! (packaging/prometheus/tests.yml, for promtool), or that it does (tests/live/alerts.py).

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::Value;
use support::Laid;

const RULES: &str = "packaging/prometheus/cassandra-cdc.rules.yml";

/// How long the agent may take until it has shown everything.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a Prometheus adds to every series, and what it makes of alerts.
const TARGET: [&str; 2] = ["instance", "job"];
const OF_ALERTS: [&str; 3] = ["alertname", "alertstate", "instance"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The alerts by name.
fn alerts() -> BTreeMap<String, Value> {
    let rules = yaml(RULES);
    let all = rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    let all: Vec<&Value> = all.collect();
    let named: BTreeMap<String, Value> =
        all.iter().map(|rule| (rule["alert"].as_str().unwrap().to_owned(), (*rule).clone())).collect();
    assert!(named.len() == all.len() && named.len() > 15, "{} names of {} rules", named.len(), all.len());
    named
}

/// Every string under one of these keys, however deep.
fn texts(value: &Value, keys: &[&str], found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| texts(item, keys, found)),
        Value::Object(members) => {
            for (key, member) in members {
                match member.as_str() {
                    Some(text) if keys.contains(&key.as_str()) => found.push(text.to_owned()),
                    _ => texts(member, keys, found),
                }
            }
        }
        _ => {}
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&read("packaging/grafana/cassandra-cdc.json")).unwrap()
}

/// Every query of the rules and of the dashboard.
fn queries() -> Vec<String> {
    let mut found: Vec<String> = alerts().values().map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect();
    texts(&dashboard(), &["expr"], &mut found);
    assert!(found.len() > 80, "only {} queries were found", found.len());
    found
}

/// One family: its type, what it says of itself, and by the name of a sample the labels that it has.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    samples: BTreeMap<String, BTreeSet<String>>,
}

/// The agent as a child process. It goes with this value.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn scrape(address: SocketAddr) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let _ = write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_string(&mut answer);
    }
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

/// What an agent serves that has met everything by which a series begins: records, a refusal by Kafka, damage.
fn served() -> BTreeMap<String, Family> {
    let laid = Laid::own("4.1-demo");
    let kafka = MockCluster::new(1).unwrap();
    for topic in
        ["cassandra.shop.customers", "cassandra.shop.orders", "cassandra.shop.inventory", "cassandra.dead-letter"]
    {
        kafka.create_topic(topic, 1, 1).unwrap();
    }
    kafka.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let damaged = laid.largest();
    let mut bytes = fs::read(&damaged).unwrap();
    let middle = bytes.iter().rposition(|byte| *byte != 0).unwrap() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&damaged, bytes).unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = laid.file("agent.toml");
    let text = format!(
        "[cassandra]\ncdc_raw = {:?}\nschema = {:?}\ncluster = \"c\"\n\
         host_id = \"6f1c0000-0000-4000-8000-000000000001\"\non_damage = \"salvage\"\n\
         [state]\ndirectory = {:?}\n[spool]\nenabled = false\n[kafka]\nbootstrap = {:?}\n[http]\nlisten = \"{address}\"\n",
        laid.raw(),
        laid.schema,
        laid.file("state"),
        kafka.bootstrap_servers(),
    );
    fs::write(&config, text).unwrap();
    let log = fs::File::create(laid.file("log")).unwrap();
    let mut command = Command::new(support::BINARY);
    command.args(["run", "--config"]).arg(config).env("CASSANDRA_CDC_NO_TOPIC_LIMITS", "1");
    let _agent = Agent(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    let started = Instant::now();
    loop {
        let text = scrape(address);
        let begun = ["events_published_total{", "delivery_failures_total{", "decode_errors_total{", "node_info{"];
        if begun.iter().all(|name| text.contains(&format!("\ncassandra_cdc_{name}"))) {
            return families(&text);
        }
        let log = || fs::read_to_string(laid.file("log")).unwrap();
        assert!(started.elapsed() < PATIENCE, "not all of it came:\n{text}\n{}", log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn families(text: &str) -> BTreeMap<String, Family> {
    let (mut families, mut current) = (BTreeMap::<String, Family>::new(), String::new());
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            let (name, help) = described.split_once(' ').unwrap();
            current = name.to_owned();
            families.insert(current.clone(), Family { help: help.to_owned(), ..Family::default() });
        } else if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap();
            assert_eq!(name, current);
            families.get_mut(name).unwrap().kind = kind.to_owned();
        } else if !line.starts_with('#') {
            let (sample, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let named = families.get_mut(&current).unwrap().samples.entry(name.to_owned()).or_default();
            // No value that is shown here holds a comma.
            named.extend(labels.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned())));
        }
    }
    families
}

/// What a query names: metrics with the labels that are asked of each, and labels of groupings and joins.
#[derive(Debug, Default)]
struct Named {
    metrics: Vec<(String, Vec<String>)>,
    labels: Vec<String>,
}

/// Words of the query language before labels in parentheses.
const GROUPINGS: [&str; 5] = ["by", "without", "on", "ignoring", "group_left"];

/// Functions and other words of the query language that the queries use.
const WORDS: [&str; 22] = [
    "and",
    "or",
    "unless",
    "time",
    "vector",
    "sum",
    "min",
    "max",
    "count",
    "topk",
    "rate",
    "increase",
    "changes",
    "le",
    "histogram_quantile",
    "Inf",
    "s",
    "m",
    "h",
    "d",
    "bool",
    "offset",
];

/// Splits off the word that a text begins with.
fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(text.len()))
}

fn named(query: &str) -> Named {
    let (mut named, mut rest) = (Named::default(), query);
    while let Some(at) = rest.find(|letter: char| letter.is_ascii_alphabetic() || letter == '$') {
        rest = &rest[at..];
        if let Some(variable) = rest.strip_prefix('$') {
            rest = word(variable).1;
            continue;
        }
        let (found, behind) = word(rest);
        rest = behind;
        let opened = behind.trim_start();
        if GROUPINGS.contains(&found) {
            let (inside, behind) = opened.strip_prefix('(').unwrap().split_once(')').unwrap();
            named
                .labels
                .extend(inside.split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()));
            rest = behind;
        } else if let Some(inside) = opened.strip_prefix('{') {
            // No value that is asked for holds a brace.
            let (inside, behind) = inside.split_once('}').unwrap();
            let labels = inside.split(", ").map(|asked| word(asked.trim()).0.to_owned());
            named.metrics.push((found.to_owned(), labels.collect()));
            rest = behind;
        } else if !WORDS.contains(&found) {
            named.metrics.push((found.to_owned(), Vec::new()));
        }
    }
    named
}

#[test]
fn queries_name_metrics_and_labels_that_are_served_and_every_metric_is_looked_at() {
    let families = served();
    let samples: BTreeMap<&str, &BTreeSet<String>> = families
        .values()
        .flat_map(|family| family.samples.iter().map(|(name, labels)| (name.as_str(), labels)))
        .collect();
    let (mut looked_at, all): (BTreeSet<String>, BTreeSet<&str>) = (
        BTreeSet::new(),
        samples.values().flat_map(|labels| labels.iter().map(String::as_str)).chain(TARGET).collect(),
    );
    for query in queries() {
        let named = named(&query);
        assert!(!named.metrics.is_empty(), "no metric in {query}");
        for (metric, labels) in named.metrics {
            let known: BTreeSet<&str> = match metric.as_str() {
                "up" => TARGET.into(),
                "ALERTS" => OF_ALERTS.into(),
                metric => {
                    let labels = samples.get(metric).unwrap_or_else(|| panic!("nobody serves {metric}: {query}"));
                    labels.iter().map(String::as_str).chain(TARGET).collect()
                }
            };
            let unknown: Vec<&String> = labels.iter().filter(|label| !known.contains(label.as_str())).collect();
            assert!(unknown.is_empty(), "{metric} has no {unknown:?}: {query}");
            looked_at.insert(metric);
        }
        let unknown: Vec<&String> = named.labels.iter().filter(|label| !all.contains(label.as_str())).collect();
        assert!(unknown.is_empty(), "nothing has {unknown:?}: {query}");
    }
    for (name, rule) in alerts() {
        let asked = named(rule["expr"].as_str().unwrap()).metrics;
        let mut known: BTreeSet<&str> = TARGET.into();
        known.extend(
            asked
                .iter()
                .filter_map(|(metric, _)| samples.get(metric.as_str()))
                .flat_map(|all| all.iter().map(String::as_str)),
        );
        let words = rule["annotations"].to_string();
        for label in words.split("$labels.").skip(1).map(|rest| word(rest).0) {
            assert!(known.contains(label), "{name} speaks of a label {label}");
        }
    }
    let unseen: Vec<&String> = families
        .iter()
        .filter(|(_, family)| !family.samples.keys().any(|name| looked_at.contains(name)))
        .map(|(name, _)| name)
        .collect();
    assert!(unseen.is_empty(), "in no alert and on no panel: {unseen:?}");
    the_runbooks_table_is_what_is_served(&families);
}

/// Rows of the runbook's table: the name in a query, the type, the labels, and in the agent's own words what it is.
fn the_runbooks_table_is_what_is_served(families: &BTreeMap<String, Family>) {
    let runbook = read("RUNBOOK.md");
    let rows = runbook.lines().filter_map(|line| line.strip_prefix("| `"));
    let table: BTreeMap<String, [String; 3]> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let [name, kind, labels, meaning, _] = cells[..] else { panic!("not four cells: {row}") };
            (name.trim_matches('`').to_owned(), [kind, &labels.replace('`', ""), meaning].map(ToOwned::to_owned))
        })
        .collect();
    let served: BTreeMap<String, [String; 3]> = families
        .iter()
        .map(|(name, family)| {
            let suffix = match family.kind.as_str() {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let labels: BTreeSet<&str> = family.samples.values().flatten().map(String::as_str).collect();
            let labels: Vec<&str> = labels.into_iter().filter(|label| *label != "le").collect();
            let help = family.help.trim_end_matches('.').to_owned();
            (format!("{name}{suffix}"), [family.kind.clone(), labels.join(", "), help])
        })
        .collect();
    for (name, served) in &served {
        assert_eq!(table.get(name), Some(served), "{name} in the runbook's table, and as it is served");
    }
    assert_eq!(table.len(), served.len(), "the runbook's table names metrics that nobody serves");
}

#[test]
fn every_alert_has_a_paragraph_a_link_and_words_that_say_what_to_do() {
    let runbook = read("RUNBOOK.md");
    let headings: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let alerts = alerts();
    assert_eq!(headings.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), alerts.keys().cloned().collect());
    assert_eq!(headings.len(), alerts.len(), "a paragraph comes twice");
    for (name, rule) in &alerts {
        let paragraph = runbook.split(&format!("### {name}\n")).nth(1).unwrap().split("\n#").next().unwrap();
        assert!(paragraph.len() > 200 && paragraph.contains('`'), "what is to be done about {name}?\n{paragraph}");
        let annotation = |key: &str| rule["annotations"][key].as_str().unwrap_or_else(|| panic!("{name} has no {key}"));
        assert_eq!(annotation("runbook_url"), format!("RUNBOOK.md#{}", name.to_lowercase()));
        assert!(annotation("summary").contains("{{ $labels.instance }}"), "where is {name}?");
        assert!(annotation("description").len() > 60, "{name}");
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
    }
    let links = ["README.md", "packaging/prometheus/cassandra-cdc.rules.yml"];
    assert!(links.iter().all(|file| read(file).contains("RUNBOOK.md")), "nobody finds the runbook");
}

#[test]
fn alerts_that_texts_speak_of_exist() {
    let alerts = alerts();
    for file in ["RUNBOOK.md", "README.md", RULES] {
        let text = read(file);
        let speaks_of = text.split(|letter: char| !letter.is_ascii_alphanumeric());
        for name in speaks_of.filter(|word| word.starts_with("CassandraCdc")) {
            assert!(alerts.contains_key(name), "{file} speaks of {name}");
        }
    }
}

#[test]
fn every_alert_is_tested_to_fire_for_the_sick_and_never_for_the_well() {
    let tests = yaml("packaging/prometheus/tests.yml");
    let tests = tests["tests"].as_array().unwrap();
    let tested: BTreeSet<String> = tests.iter().map(|test| test["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(tested, alerts().into_keys().collect());
    for test in tests {
        let name = test["name"].as_str().unwrap();
        let series = test["input_series"].to_string();
        assert!(series.contains(r#"instance=\"sick\""#) && series.contains(r#"instance=\"well\""#), "{name}");
        let checks = test["promql_expr_test"].as_array().unwrap();
        let of_this = |check: &&Value| check["expr"].as_str().unwrap().contains(&format!("alertname=\"{name}\""));
        assert!(checks.iter().all(|check| of_this(&check)), "{name}");
        let expects = |state: &str| checks.iter().any(|check| check["exp_samples"].to_string().contains(state));
        assert!(expects("firing"), "{name} fires in no test");
        let waits = alerts()[name].get("for").is_some();
        assert_eq!(waits, expects("pending"), "{name}: just before it fires it is pending, if it waits at all");
        let never = |check: &Value| {
            let expr = check["expr"].as_str().unwrap();
            expr.starts_with("count_over_time(")
                && expr.contains(r#"instance="well""#)
                && check["exp_samples"] == Value::Array(vec![])
        };
        assert!(checks.iter().any(never), "{name} may fire for the well");
    }
}

#[test]
fn the_dashboard_has_its_rows_and_takes_place_once() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let rows: Vec<&str> =
        panels.iter().filter(|panel| panel["type"] == "row").map(|panel| panel["title"].as_str().unwrap()).collect();
    let wanted = ["Is it well", "How far behind", "What goes through", "Kafka", "cdc_raw and spool", "Process"];
    assert_eq!(rows, wanted);
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let variables: Vec<&str> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(variables, ["datasource", "cluster", "instance"]);
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id comes twice");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{title} is too wide");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{title} lies over another panel");
            }
        }
        if panel["type"] != "row" {
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            for target in panel["targets"].as_array().unwrap() {
                assert!(target["expr"].as_str().unwrap().contains("$instance"), "{title} shows all clusters");
            }
        }
    }
}
