//! Whole processes: what they cost, and how much memory they have.
//!
//! Owns: starting and watching them. Does not own: what they do.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use rustix::process::{Pid, Signal, kill_process};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The agent's program, as this package builds it.
pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_cassandra-cdc");

/// This program again, in another role.
pub(crate) fn again(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(role);
    command
}

/// What a process cost that has ended well.
pub(crate) struct Ran {
    /// User and system time of all its threads, from its start to its end.
    pub(crate) cpu: f64,
    /// What it said on stderr.
    pub(crate) said: String,
}

/// Runs one to its end, which must be a good one. No other child may end meanwhile.
pub(crate) fn run(command: &mut Command) -> Ran {
    let before = cpu_of_ended();
    let mut child = start(command);
    let mut said = String::new();
    child.stderr.take().expect("its stderr").read_to_string(&mut said).expect("text");
    let status = child.wait().expect("to wait for a child");
    assert!(status.success(), "{command:?}: {status}\n{said}");
    Ran { cpu: cpu_of_ended() - before, said }
}

/// Starts one whose stderr can be read.
pub(crate) fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// CPU seconds of all children that were waited for.
fn cpu_of_ended() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the usage of children");
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 * 1e-6
}

/// A process that lives.
#[derive(Clone)]
pub(crate) struct Process(PathBuf);

impl Process {
    pub(crate) fn of(child: &Child) -> Self {
        Self(Path::new("/proc").join(child.id().to_string()))
    }

    /// CPU seconds of its threads so far, to the nanosecond.
    pub(crate) fn cpu(&self) -> f64 {
        let Ok(threads) = fs::read_dir(self.0.join("task")) else { return 0.0 };
        let of = |thread: PathBuf| {
            let text = fs::read_to_string(thread.join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<f64>().ok()
        };
        threads.filter_map(|thread| of(thread.ok()?.path())).sum::<f64>() * 1e-9
    }

    /// MiB of memory that is no file's: what it asked for and touched.
    pub(crate) fn anonymous(&self) -> Option<f64> {
        self.status("RssAnon:")
    }

    /// MiB of memory of any kind that it had at most.
    pub(crate) fn highest(&self) -> Option<f64> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> Option<f64> {
        let text = fs::read_to_string(self.0.join("status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        Some(kib / 1024.0)
    }

    /// The most anonymous memory, MiB, as long as `on` says so.
    pub(crate) fn peak(&self, mut on: impl FnMut() -> bool) -> f64 {
        let mut peak: f64 = 0.0;
        while on() {
            peak = peak.max(self.anonymous().unwrap_or(0.0));
            thread::sleep(LOOK);
        }
        peak
    }
}

/// Sends a signal.
pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("to signal a child");
}

/// Waits for its end; none within `patience` is a failure.
pub(crate) fn end(child: &mut Child, patience: Duration) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("to wait for a child") {
            return status;
        }
        assert!(started.elapsed() < patience, "a child does not end");
        thread::sleep(LOOK);
    }
}
