//! A node where all is well, on which a test makes one mistake; and the lines that `check` then has.
//!
//! Owns: the healthy place, running the program there, reading its lines. Does not own: any mistake.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::broker::{Broker, Says, Topic};
use crate::cql::HOST_ID;
use crate::support::{BINARY, Laid, Ran, program};

/// The tables with cdc of the recorded case, as topics.
pub const TOPIC: &str = "cassandra.shop.orders";
pub const TOPICS: [&str; 4] = ["cassandra.shop.customers", "cassandra.shop.inventory", TOPIC, "cassandra.dead-letter"];

pub struct Place {
    pub laid: Laid,
    pub broker: Broker,
}

impl Place {
    pub fn new() -> Self {
        Self::of("4.1-demo")
    }

    /// With the segments of this recorded case.
    pub fn of(case: &str) -> Self {
        let laid = Laid::own(case);
        for (name, mode) in [("cdc_raw", 0o755), ("state", 0o700), ("spool", 0o700)] {
            fs::create_dir_all(laid.file(name)).unwrap();
            mode_of(&laid.file(name), mode);
        }
        let place = Self { broker: Broker::start(well(), None), laid };
        mode_of(place.file("").as_path(), 0o755);
        place.yaml("");
        let path = |name| place.file(name);
        fs::copy(&place.laid.schema, path("schema.json")).unwrap();
        mode_of(&path("schema.json"), 0o644);
        let document = format!(
            "[cassandra]\nyaml = {:?}\ncdc_raw = {:?}\nschema = {:?}\nhost_id = {HOST_ID:?}\n\
             [state]\ndirectory = {:?}\n[spool]\nenabled = true\ndirectory = {:?}\nmin_free = \"1MiB\"\n\
             [http]\nlisten = \"off\"\n",
            path("cassandra.yaml"),
            path("cdc_raw"),
            path("schema.json"),
            path("state"),
            path("spool"),
        );
        fs::write(path("c.toml"), document).unwrap();
        place
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.laid.file(name)
    }

    /// `cassandra.yaml` of a healthy node, and these lines behind it: the last of a key counts.
    pub fn yaml(&self, more: &str) {
        let text = "cluster_name: Shop\ncdc_enabled: true\ncdc_block_writes: true\ncommitlog_segment_size: 1MiB\n";
        fs::write(self.file("cassandra.yaml"), format!("{text}{more}")).unwrap();
    }

    /// Another schema file than the recorded one.
    pub fn schema(&self, change: impl FnOnce(&mut Value)) -> Value {
        let mut schema = serde_json::from_slice(&fs::read(&self.laid.schema).unwrap()).unwrap();
        change(&mut schema);
        fs::write(self.file("schema.json"), serde_json::to_vec(&schema).unwrap()).unwrap();
        schema
    }

    /// The arguments of a check, as lines, with these settings.
    pub fn arguments<S: AsRef<str>>(&self, sets: &[S]) -> Vec<String> {
        let mut arguments = vec!["check".to_owned(), "-o".to_owned(), "jsonl".to_owned(), "-c".to_owned()];
        arguments.push(self.file("c.toml").display().to_string());
        let kafka = format!("kafka.bootstrap={}", self.broker.bootstrap());
        for set in std::iter::once(kafka.as_str()).chain(sets.iter().map(AsRef::as_ref)) {
            arguments.extend(["--set".to_owned(), set.to_owned()]);
        }
        arguments
    }

    pub fn check<S: AsRef<str>>(&self, sets: &[S]) -> Lines {
        Lines::of(program().args(self.arguments(sets)))
    }

    /// A check with mounts of its own, which this script makes.
    pub fn check_mounted(&self, script: &str) -> Lines {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        let script = format!("{script} && exec \"$@\"");
        command.args(["--mount", "sh", "-ec", &script, "sh", BINARY]).args(self.arguments::<&str>(&[]));
        command.current_dir(self.file(""));
        Lines::of(&mut command)
    }
}

/// All topics, and they are safe.
pub fn well() -> Says {
    Says { topics: TOPICS.map(|name| (name.to_owned(), Topic::safe())).into(), ..Says::default() }
}

pub fn mode_of(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The lines of a check.
pub struct Lines(pub Vec<Value>);

impl Lines {
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let ran: Ran = command.output().expect("the program").into();
        let lines = Self(ran.events());
        assert!(!lines.0.is_empty(), "nothing was looked at: {}", ran.err);
        let failed = lines.0.iter().any(|line| line["level"] == "fail");
        assert_eq!(ran.code, Some(i32::from(failed)), "{}{}", lines.shown(), ran.err);
        // Whoever is told of something wrong is told what to do.
        for line in &lines.0 {
            assert_eq!(line["level"] == "ok", line["fix"].is_null(), "{line}");
        }
        lines
    }

    /// There must be such a line: its level, its subject, and what stands in what was found and in what to do.
    #[track_caller]
    pub fn say(&self, level: &str, check: &str, found: &str, fix: &str) -> &Self {
        let holds = |line: &Value, member: &str, text: &str| line[member].as_str().unwrap_or("").contains(text);
        let is = |line: &&Value| {
            line["level"] == level && line["check"] == check && holds(line, "found", found) && holds(line, "fix", fix)
        };
        assert!(self.0.iter().any(|line| is(&line)), "no {level} of {check}: {found} -> {fix}\n{}", self.shown());
        self
    }

    /// Nothing else may be wrong but with these.
    #[track_caller]
    pub fn only(&self, checks: &[&str]) {
        // Where the files of tests are is not the tests' choice.
        let wrong = self.0.iter().filter(|line| line["level"] != "ok" && line["check"] != "file system");
        let other = wrong.filter(|line| !checks.iter().any(|check| line["check"] == *check)).count();
        assert_eq!(other, 0, "{}", self.shown());
    }

    pub fn shown(&self) -> String {
        self.0.iter().map(|line| format!("{line}\n")).collect()
    }
}
