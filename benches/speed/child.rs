//! Whole processes: what they cost, and how much memory they have.
//!
//! Owns: starting and watching them. Does not own: what they do.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

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
    /// User and system time of all its threads, from its start to its end, in steps of the kernel's clock (10 ms).
    pub(crate) cpu: f64,
    /// What it said on stderr.
    pub(crate) said: String,
}

/// Runs one to its end, which must be a good one.
pub(crate) fn run(command: &mut Command) -> Ran {
    let mut child = start(command);
    let mut said = String::new();
    child.stderr.take().expect("its stderr").read_to_string(&mut said).expect("text");
    // Until somebody waits for it an ended process still has its figures.
    let ended = waitid(WaitId::Pid(Pid::from_child(&child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    ended.expect("to wait for a child");
    let cpu = Process::of(&child).cpu_of_all();
    let status = child.wait().expect("to wait for a child");
    assert!(status.success(), "{command:?}: {status}\n{said}");
    Ran { cpu, said }
}

/// Starts one whose stderr can be read.
pub(crate) fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// A process that lives, or that nobody has waited for.
#[derive(Clone)]
pub(crate) struct Process(PathBuf);

impl Process {
    pub(crate) fn of(child: &Child) -> Self {
        Self(Path::new("/proc").join(child.id().to_string()))
    }

    /// CPU seconds of all threads that it has or had.
    fn cpu_of_all(&self) -> f64 {
        let text = fs::read_to_string(self.0.join("stat")).expect("its figures");
        // Behind the name, which may hold anything: the state, and ten more before the user's and the system's ticks.
        let behind = text.rsplit(')').next().unwrap_or_default();
        let ticks = behind.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("ticks"));
        ticks.sum::<f64>() / clock_ticks_per_second() as f64
    }

    /// CPU seconds of the threads that it has, to the nanosecond.
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
