//! What the black-box tests share: a recorded case laid out on disk, the binary run on it, and what came out.
//!
//! Owns: running, and reading what was printed. The modules below read it back: `rebuild` to what Cassandra wrote
//! (`oracle`), with `cql` for values, `whole` for what was cut, `protobuf` for the other format.

#![allow(dead_code, unreachable_pub, reason = "every test uses its own part")]

pub mod cql;
pub mod kafka;
#[path = "../../fixtures/load.rs"]
pub mod load;
pub mod oracle;
pub mod protobuf;
pub mod rebuild;
pub mod whole;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use load::Case;
use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_cassandra-cdc");

/// How a run of the program ended.
#[derive(Debug)]
pub struct Ran {
    /// `None`: a signal ended it.
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!err.contains("panicked"), "{err}");
        Self { code: output.status.code(), out: output.stdout, err }
    }
}

impl Ran {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("UTF-8")
    }

    pub fn lines(&self) -> Vec<&str> {
        self.text().lines().collect()
    }

    /// One JSON value a line.
    pub fn events(&self) -> Vec<Value> {
        let parse = |line: &&str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.lines().iter().map(parse).collect()
    }

    /// Must have ended so; if not, says what it said.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.err);
        self
    }

    pub fn summary(&self) -> Summary {
        Summary::parse(&self.err).unwrap_or_else(|| panic!("no summary in {:?}", self.err))
    }
}

/// The last line of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub segments: u64,
    pub entries: u64,
    pub published: u64,
    pub events: u64,
    pub not_cdc: u64,
    pub filtered: u64,
    pub undecodable: u64,
    pub damages: u64,
}

impl Summary {
    fn parse(stderr: &str) -> Option<Self> {
        let line = stderr.lines().find(|line| line.contains(" published (") && line.contains(" not CDC"))?;
        let numbers: Vec<u64> = line.split(|letter: char| !letter.is_ascii_digit()).flat_map(str::parse).collect();
        let [segments, entries, published, events, not_cdc, filtered, undecodable, damages, ..] = numbers[..] else {
            return None;
        };
        Some(Self { segments, entries, published, events, not_cdc, filtered, undecodable, damages })
    }

    /// Every entry has exactly one outcome.
    pub fn adds_up(&self) -> bool {
        self.entries == self.published + self.not_cdc + self.filtered + self.undecodable
    }
}

/// The program, ready to be given arguments.
pub fn program() -> Command {
    let mut command = Command::new(BINARY);
    command.env_remove("RUST_LOG").env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ran {
    program().args(arguments).output().expect("the program").into()
}

/// Arguments of all kinds in one list.
#[macro_export]
macro_rules! args {
    ($($argument:expr),* $(,)?) => { [$(std::ffi::OsString::from(&$argument)),*] };
}

/// A recorded case as a user has it: `cdc_raw`, a schema file, and the key store of an encrypted one.
pub struct Laid {
    folder: TempDir,
    pub schema: PathBuf,
    key_store: Vec<OsString>,
}

impl Laid {
    pub fn new(case: &Case) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let raw = folder.path().join("cdc_raw");
        fs::create_dir(&raw).unwrap();
        for entry in fs::read_dir(case.folder.join("segments")).expect("segments") {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            fs::write(raw.join(name.strip_suffix(".gz").unwrap_or(name)), load::read(&path)).unwrap();
        }
        let key_store = case.key_store().map_or_else(Vec::new, |path| {
            let password = folder.path().join("password");
            fs::write(&password, "cassandra\n").unwrap();
            args!["--keystore", path, "--keystore-password-file", password].to_vec()
        });
        Self { schema: case.folder.join("schema.json"), folder, key_store }
    }

    /// A case of the project's own.
    pub fn own(name: &str) -> Self {
        Self::new(&load::own_case(name))
    }

    pub fn raw(&self) -> PathBuf {
        self.folder.path().join("cdc_raw")
    }

    /// A place for files of the test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The segments' paths by id.
    pub fn segments(&self) -> Vec<PathBuf> {
        let paths = fs::read_dir(self.raw()).unwrap().map(|entry| entry.unwrap().path());
        let mut logs: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
        logs.sort();
        logs
    }

    /// The largest segment, measured without the zeros behind its end.
    pub fn largest(&self) -> PathBuf {
        let used = |path: &PathBuf| fs::read(path).unwrap().iter().rposition(|byte| *byte != 0);
        self.segments().into_iter().max_by_key(used).expect("a segment")
    }

    /// `replay` of everything to stdout.
    pub fn replay<S: AsRef<OsStr>>(&self, more: impl IntoIterator<Item = S>) -> Ran {
        program().args(self.replay_of(&self.raw())).args(["--sink", "stdout"]).args(more).output().unwrap().into()
    }

    /// `replay` of everything to stdout, the schema that of the log.
    pub fn replay_alone<S: AsRef<OsStr>>(&self, more: impl IntoIterator<Item = S>) -> Ran {
        let mut command = program();
        command.args(args!["replay", self.raw()]).args(&self.key_store).args(["--sink", "stdout"]).args(more);
        command.output().unwrap().into()
    }

    /// The arguments that every replay of a path begins with.
    pub fn replay_of(&self, path: &Path) -> Vec<OsString> {
        let mut arguments = args!["replay", "--schema", self.schema, path].to_vec();
        arguments.extend(self.key_store.iter().cloned());
        arguments
    }
}

/// The segment id in a file name such as `CommitLog-7-1795257477268.log`.
pub fn segment_id(name: &str) -> i64 {
    let digits = name.strip_suffix(".log").and_then(|name| name.rsplit_once('-')).expect("a segment's name").1;
    digits.parse().expect("a segment's id")
}

/// The position of an event's entry.
pub fn position(event: &Value) -> u32 {
    event["source"]["position"].as_u64().and_then(|position| u32::try_from(position).ok()).expect("a position")
}
