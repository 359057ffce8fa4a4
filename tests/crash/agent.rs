//! The agent as a child process: started, watched, killed.
//!
//! Owns: its configuration file, its environment and its ending. Does not own: what it should have done (`rig`).

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::mutations;
use super::node::list;

pub const HOST: &str = "6f1c0000-0000-4000-8000-000000000001";
pub const CLUSTER: &str = "crash tests";

/// Where an agent works, and how it is told.
pub struct Place {
    pub folder: PathBuf,
    pub cdc_raw: PathBuf,
    pub state: PathBuf,
    pub spool: PathBuf,
    pub bootstrap: String,
    pub with_spool: bool,
    /// More arguments of every run, such as `--set`.
    pub arguments: Vec<String>,
    program: PathBuf,
    /// As whom it runs: somebody else than us.
    user: Option<u32>,
}

/// Nobody: a user whom permissions bind.
const NOBODY: u32 = 65534;

impl Place {
    /// Below this folder, with everything that the agent finds when it starts for the first time.
    pub fn new(folder: &Path, bootstrap: String) -> Self {
        let place = Self {
            folder: folder.to_owned(),
            cdc_raw: folder.join("cdc_raw"),
            state: folder.join("state"),
            spool: folder.join("cdc_spool"),
            bootstrap,
            with_spool: false,
            arguments: Vec::new(),
            program: PathBuf::from(env!("CARGO_BIN_EXE_cassandra-cdc")),
            user: None,
        };
        fs::write(folder.join("schema.json"), mutations::schema_file()).unwrap();
        place.configure(HOST);
        place
    }

    /// Agents run as a user whom permissions bind from now on, in a folder of theirs: as root they might do anything.
    pub fn give_up_root(&mut self) {
        if self.folder.metadata().unwrap().uid() != 0 {
            return;
        }
        let own = self.folder.join("cassandra-cdc");
        fs::copy(&self.program, &own).unwrap();
        self.program = own;
        self.user = Some(NOBODY);
        for path in [&self.folder, &self.state].into_iter().filter(|path| path.exists()) {
            self.give(path);
        }
    }

    fn give(&self, path: &Path) {
        std::os::unix::fs::chown(path, self.user, self.user).unwrap();
    }

    /// Turns the spool on or off.
    pub fn spool(&mut self, on: bool) {
        self.with_spool = on;
        self.configure(HOST);
    }

    /// Writes the configuration file of the agent of this node.
    pub fn configure(&self, host: &str) {
        let text = format!(
            r#"
[cassandra]
cdc_raw = {:?}
host_id = {host:?}
cluster = {CLUSTER:?}
schema = {:?}
[state]
directory = {:?}
[spool]
directory = {:?}
enabled = {}
max_bytes = "1GiB"
min_free = "1MiB"
[kafka]
bootstrap = {:?}
[http]
listen = "off"
[log]
level = "info"
format = "text"
"#,
            self.cdc_raw,
            self.folder.join("schema.json"),
            self.state,
            self.spool,
            self.with_spool,
            self.bootstrap,
        );
        fs::write(self.config(), text).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.folder.join("cassandra-cdc.toml")
    }

    /// The program with a command and the configuration, ready to run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command.args(words).arg("--config").arg(self.config()).args(&self.arguments);
        command.env_remove("RUST_LOG").env("CASSANDRA_CDC_NO_TOPIC_LIMITS", "1").stdin(Stdio::null());
        command
    }

    /// Starts the service.
    pub fn agent(&self) -> Agent {
        self.agent_with(None)
    }

    /// Starts the service with a fault in it.
    pub fn agent_with(&self, fault: Option<&str>) -> Agent {
        let socket = self.folder.join("notify");
        super::node::remove(&socket);
        let notices = UnixDatagram::bind(&socket).unwrap();
        self.give(&socket);
        let log = self.log();
        let mut command = self.command(&["run"]);
        command.env("NOTIFY_SOCKET", &socket);
        if let Some(fault) = fault {
            command.env("CASSANDRA_CDC_FAULT", fault);
        }
        let out = File::options().create(true).append(true).open(&log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(out).spawn().unwrap();
        Agent { child, notices, log, ready: false, ended: None }
    }

    /// Runs a command to its end: its exit code and what it said.
    pub fn run(&self, words: &[&str]) -> (Option<i32>, String) {
        let output = self.command(words).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// The end of what agents here said.
    pub fn said(&self) -> String {
        end_of(&self.log())
    }

    fn log(&self) -> PathBuf {
        self.folder.join("agent.log")
    }

    /// The names of the files of the checkpoint that are there.
    pub fn checkpoints(&self) -> Vec<PathBuf> {
        let names = list(&self.state).into_iter().filter(|name| ["checkpoint.a", "checkpoint.b"].contains(&&**name));
        names.map(|name| self.state.join(name)).collect()
    }
}

/// A running agent. It goes with this value.
pub struct Agent {
    child: Child,
    notices: UnixDatagram,
    log: PathBuf,
    ready: bool,
    ended: Option<ExitStatus>,
}

impl Agent {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    /// Must still run.
    #[track_caller]
    pub fn must_run(&mut self) {
        if let Some(status) = self.ended() {
            panic!("the agent ended: {status}\n{}", self.said());
        }
    }

    /// Waits until it says that it is ready.
    #[track_caller]
    pub fn wait_ready(&mut self, patience: Duration) {
        self.notices.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let end = Instant::now() + patience;
        let mut bytes = [0; 4096];
        while !self.ready {
            self.must_run();
            if let Ok(length) = self.notices.recv(&mut bytes)
                && String::from_utf8_lossy(&bytes[..length]).contains("READY=1")
            {
                self.ready = true;
            }
            assert!(self.ready || Instant::now() < end, "not ready:\n{}", self.said());
        }
    }

    /// SIGKILL, at whatever it does.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(&mut self, patience: Duration) -> ExitStatus {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < end, "the agent does not end:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM: it must send what it has, and exit with 0. Before it is ready a signal may simply end it.
    #[track_caller]
    pub fn terminate(&mut self) {
        self.wait_ready(Duration::from_secs(60));
        self.signal("TERM");
        let status = self.end(Duration::from_secs(40));
        assert_eq!(status.code(), Some(0), "{status}\n{}", self.said());
    }

    /// The end of what it, and those before it in this place, said.
    pub fn said(&self) -> String {
        end_of(&self.log)
    }
}

fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process was killed as SIGKILL kills.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}
