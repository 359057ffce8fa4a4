//! `config` as a user types it: from the sample to a configuration that is used, and what is said about one that is not.
//!
//! Does not own: what each key means (the unit tests of `config`), `check` (`tests/check`).

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use support::{Ran, program};
use tempfile::TempDir;

/// A folder in which a configuration is tried, apart from whatever is on this machine.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(document: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cassandra.yaml"), "cdc_enabled: true\ncluster_name: Shop\n").unwrap();
        fs::write(folder.path().join("c.toml"), document).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str], more: impl FnOnce(&mut Command)) -> Ran {
        let mut command = program();
        command.args(arguments).arg("--config").arg(self.path("c.toml"));
        command.env("CASSANDRA_CDC_CASSANDRA_YAML", self.path("cassandra.yaml"));
        more(&mut command);
        command.output().unwrap().into()
    }
}

#[test]
fn from_the_sample_to_what_counts() {
    let place = Place::new("");
    let file = place.path("c.toml");
    let exists = support::run(args!["config", "init", "--output", file]);
    assert_eq!(exists.code, Some(74));
    assert!(exists.err.contains("not overwritten"), "{}", exists.err);
    fs::remove_file(&file).unwrap();
    support::run(args!["config", "init", "--output", file]).expect(0);
    assert_eq!(support::run(["config", "init"]).expect(0).text(), fs::read_to_string(&file).unwrap());

    let valid = place.run(&["config", "validate"], |_| {}).expect(0);
    assert!(valid.text().contains("can be used"));
    let typed = place.run(&["config", "show"], |_| {}).expect(0);
    assert!(typed.text().contains("bootstrap = \"localhost:9092\"") && !typed.text().contains("unit"));
    let all = place.run(&["config", "show", "--effective"], |_| {}).expect(0);
    for line in
        [("unit = \"mutation\"", "# default"), ("cluster = \"Shop\"", "cassandra.yaml"), ("bootstrap", "c.toml:")]
    {
        let found = all.lines().into_iter().find(|text| text.starts_with(line.0)).expect(line.0);
        assert!(found.contains(line.1), "{found}");
    }
    // What is shown can be used as a file again.
    fs::write(&file, all.text()).unwrap();
    place.run(&["config", "validate"], |_| {}).expect(0);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let place = Place::new("[kafka]\nbootstrap = \"k:9092\"\ntopc = \"x\"\n");
    let refused = place.run(&["config", "validate"], |_| {});
    assert_eq!(refused.code, Some(78));
    assert!(refused.out.is_empty());
    for words in ["c.toml:3: ", "unknown key kafka.topc", "did you mean topic?"] {
        assert!(refused.err.contains(words), "no {words:?} in {}", refused.err);
    }
    let checked = place.run(&["check", "-o", "jsonl"], |_| {}).expect(1);
    let findings = checked.events();
    assert_eq!((findings.len(), findings[0]["level"].as_str()), (1, Some("fail")));
    let missing = program().args(["config", "validate", "--config", "/nowhere.toml"]).output().unwrap();
    assert_eq!(Ran::from(missing).code, Some(78));
}

#[test]
fn arguments_go_before_the_environment_and_that_before_the_file() {
    let place = Place::new("[kafka]\nbootstrap = \"k:9092\"\nprefix = \"file\"\nunit = \"row\"\ntopic = \"file\"\n");
    let all = place.run(&["config", "show", "--effective", "--set", "kafka.prefix=argument"], |command| {
        command.env("CASSANDRA_CDC_KAFKA_PREFIX", "environment").env("CASSANDRA_CDC_KAFKA_TOPIC", "environment");
    });
    let all = all.expect(0);
    let line = |key: &str| all.lines().into_iter().find(|line| line.starts_with(key)).expect("the key").to_owned();
    assert!(line("prefix").contains("argument") && line("prefix").ends_with("# --set"));
    assert!(line("topic").contains("environment") && line("topic").ends_with("# CASSANDRA_CDC_KAFKA_TOPIC"));
    assert!(line("unit").contains("row") && line("unit").ends_with("c.toml:4"));
}

#[test]
fn a_secret_is_never_printed() {
    let place =
        Place::new("[kafka]\nbootstrap = \"127.0.0.1:1\"\n[kafka.librdkafka]\n\"sasl.password\" = \"canary\"\n");
    fs::write(place.path("properties"), "ssl.key.password=canary\n").unwrap();
    for name in ["c.toml", "properties"] {
        fs::set_permissions(place.path(name), Permissions::from_mode(0o644)).unwrap();
    }
    let file = format!("kafka.properties_file={}", place.path("properties").display());
    for arguments in [
        &["config", "show", "--effective", "--set", &file][..],
        &["config", "show", "--set", &file],
        &["config", "validate", "--set", &file],
        &["config", "validate", "--set", "kafka.librdkafka.sasl.password=canary"],
        &["check", "--set", &file],
    ] {
        let ran = place.run(arguments, |_| {});
        assert!(!ran.text().contains("canary") && !ran.err.contains("canary"), "{arguments:?}");
        if arguments.contains(&"check") {
            assert_eq!(ran.text().matches("everybody can read").count(), 2, "{}", ran.text());
        }
        if arguments.contains(&"show") {
            let masked = ran.text().matches("********").count();
            assert_eq!(masked, if arguments.contains(&file.as_str()) { 2 } else { 1 }, "{}", ran.text());
        }
    }
}
