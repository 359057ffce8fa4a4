//! The process as the system accounts for it, under the names that every Prometheus client library uses.
//!
//! Owns: reading `/proc/self`. Does not own: what the agent does (`metrics`, `gauges`).

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Read anew at every scrape.
#[derive(Debug)]
pub(super) struct Process {
    registry: Registry,
    cpu: Counter<f64, AtomicU64>,
    memory: Gauge<u64, AtomicU64>,
    threads: Gauge<u64, AtomicU64>,
    open_files: Gauge<u64, AtomicU64>,
}

impl Process {
    /// A process that starts now.
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("process");
        let (cpu, memory, threads, open_files) =
            (Counter::default(), Gauge::default(), Gauge::default(), Gauge::default());
        let (start, max_files) = (Gauge::<f64, AtomicU64>::default(), Gauge::<f64, AtomicU64>::default());
        start.set(jiff::Timestamp::now().as_duration().as_secs_f64());
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        max_files.set(limit.map_or(f64::INFINITY, |limit| limit as f64));
        registry.register("start_time_seconds", "When the process began, seconds since 1970", start);
        registry.register("cpu_seconds", "Processor time used", cpu.clone());
        registry.register("resident_memory_bytes", "Memory in use, mapped files included", memory.clone());
        registry.register("threads", "Threads", threads.clone());
        registry.register("open_fds", "Open file descriptors", open_files.clone());
        registry.register("max_fds", "The most file descriptors it may open", max_files);
        Self { registry, cpu, memory, threads, open_files }
    }

    /// The registry, as things are now. What can't be read stays as it was.
    pub(super) fn measured(&self) -> &Registry {
        if let Some(usage) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Usage::parse) {
            self.cpu.inner().store(usage.cpu_seconds.to_bits(), Ordering::Relaxed);
            self.memory.set(usage.resident);
            self.threads.set(usage.threads);
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            self.open_files.set(open.count() as u64);
        }
        &self.registry
    }
}

/// What `/proc/self/stat` says.
#[derive(Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    threads: u64,
    resident: u64,
}

impl Usage {
    fn parse(stat: &str) -> Option<Self> {
        // The name of the program may hold anything, parentheses and blanks too.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // proc(5) counts from 1, and the first of these is its third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = field(14)?.saturating_add(field(15)?);
        Some(Self {
            cpu_seconds: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
            threads: field(20)?,
            resident: field(24)?.saturating_mul(rustix::param::page_size() as u64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_may_be_odd() {
        let ticks = rustix::param::clock_ticks_per_second();
        let stat = format!("7 (a) b (c) S 1 1 1 0 -1 0 0 0 0 0 {ticks} {ticks} 0 0 25 5 9 0 100 1000 3 0");
        let usage = Usage::parse(&stat).unwrap();
        assert_eq!(usage, Usage { cpu_seconds: 2.0, threads: 9, resident: 3 * rustix::param::page_size() as u64 });
        assert_eq!(Usage::parse("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_threads_files_and_memory() {
        let process = Process::new();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, process.measured()).unwrap();
        for name in ["start_time_seconds", "resident_memory_bytes", "threads", "open_fds", "max_fds"] {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("process_{name} ")));
            assert!(line.unwrap().parse::<f64>().unwrap() > 0.0, "{name}: {text}");
        }
        assert!(text.contains("\nprocess_cpu_seconds_total "), "{text}");
    }
}
