//! The log of the service.
//!
//! Owns: its form, its level, which can change while the agent runs, and the limit on floods. Does not own: what is
//! logged; rows and secrets never are.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IsTerminal as _};
use std::mem;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber, callsite};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use crate::exit::{Exit, Failure};

/// Lines that one place in the program may write in a [`WINDOW`].
const LINES: u64 = 20;

/// How long lines are counted before the count begins anew.
const WINDOW: Duration = Duration::from_secs(10);

/// Letters that are kept of a line that stands for those left out.
const EXCERPT: usize = 200;

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Journald's own protocol if stderr is connected to the journal, else text.
    Auto,
    /// Lines on stderr.
    Text,
    /// Lines of JSON on stderr.
    Json,
    /// Journald's own protocol.
    Journald,
}

/// Changes the level while the agent runs.
#[derive(Debug, Clone)]
pub struct LogHandle {
    targets: reload::Handle<Targets, Registry>,
}

impl LogHandle {
    /// From now on this level.
    ///
    /// # Errors
    /// It is none; the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), Failure> {
        let targets = targets(level)?;
        self.targets.reload(targets).map_err(|error| Failure::new(Exit::Bug, error))
    }
}

/// Starts the log of this process, which can be done once.
///
/// # Errors
/// The level is none, the journal can't be reached although it is asked for, or a log was started before.
pub fn start(level: &str, format: LogFormat) -> Result<LogHandle, Failure> {
    let (targets, handle) = reload::Layer::new(targets(level)?);
    let limiter = Arc::new(Limiter::default());
    let lines = lines(format)?;
    let log = tracing_subscriber::registry().with(targets).with(Limit(Arc::clone(&limiter))).with(lines);
    log.try_init().map_err(|error| Failure::new(Exit::Bug, error))?;
    let tell = move || {
        loop {
            thread::sleep(WINDOW);
            limiter.turn();
        }
    };
    let thread = thread::Builder::new().name("log".to_owned()).spawn(tell);
    thread.map_err(|error| Failure::io("start the thread that counts log lines", error))?;
    Ok(LogHandle { targets: handle })
}

/// A level is ours: of the libraries only warnings are wanted, and none of the CQL driver's, whose complaints come in
/// our own errors too. Directives (`info,rdkafka=debug`) are taken as they are.
fn targets(level: &str) -> Result<Targets, Failure> {
    // An empty word would be taken for a level.
    let as_level = |word: &str| word.trim().parse::<LevelFilter>().ok().filter(|_| !word.trim().is_empty());
    if let Some(level) = as_level(level) {
        let targets = Targets::new().with_default(level.min(LevelFilter::WARN));
        return Ok(targets.with_target("scylla", LevelFilter::OFF).with_target(env!("CARGO_CRATE_NAME"), level));
    }
    let wrong = |why: &dyn fmt::Display| {
        let text = format!("log.level `{level}`: {why}; use error, warn, info, debug or trace, or target=level");
        Failure::text(Exit::Config, text)
    };
    // A word alone would be taken for a target of which everything is wanted.
    if let Some(part) = level.split(',').find(|part| !part.contains('=') && as_level(part).is_none()) {
        return Err(wrong(&format_args!("`{part}` is no level")));
    }
    level.parse().map_err(|error| wrong(&error))
}

type Lines<S> = Box<dyn Layer<S> + Send + Sync>;

fn lines<S: Subscriber + for<'s> LookupSpan<'s>>(format: LogFormat) -> Result<Lines<S>, Failure> {
    match format {
        LogFormat::Text => Ok(text()),
        LogFormat::Json => {
            Ok(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed())
        }
        LogFormat::Journald => match tracing_journald::layer() {
            Ok(layer) => Ok(layer.with_field_prefix(None).boxed()),
            Err(error) => Err(Failure::io("reach the journal: use log.format = \"text\"", error)),
        },
        // A journal that stderr leads to, but that does not take its own protocol, gets the lines all the same.
        LogFormat::Auto if stderr_is_the_journal() => lines(LogFormat::Journald).or_else(|_| Ok(text())),
        LogFormat::Auto => Ok(text()),
    }
}

fn text<S: Subscriber + for<'s> LookupSpan<'s>>() -> Lines<S> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colours).with_target(false).boxed()
}

/// The variable alone is inherited by whatever the service starts, with its output anywhere.
fn stderr_is_the_journal() -> bool {
    let Ok(journal) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = rustix::fs::fstat(io::stderr().as_fd()) else { return false };
    journal == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// Lets pass so many lines of one place in the program, and counts the others.
#[derive(Debug, Default)]
struct Limiter {
    /// No more of them than there are places.
    places: Mutex<HashMap<callsite::Identifier, Place>>,
}

#[derive(Debug, Default)]
struct Place {
    lines: u64,
    /// The first line that was left out.
    excerpt: String,
}

impl Limiter {
    fn admits(&self, event: &Event<'_>) -> bool {
        let mut places = self.places();
        let place = places.entry(event.metadata().callsite()).or_default();
        place.lines = place.lines.saturating_add(1);
        if place.lines == LINES.saturating_add(1) {
            let mut message = Message::default();
            event.record(&mut message);
            place.excerpt = message.0;
        }
        place.lines <= LINES
    }

    /// A window ends: says what was left out in it. Not to be called from within a line.
    fn turn(&self) {
        let places = mem::take(&mut *self.places());
        for place in places.into_values().filter(|place| place.lines > LINES) {
            let left_out = place.lines.saturating_sub(LINES);
            let excerpt = &place.excerpt;
            tracing::warn!("{left_out} more lines in {} s like this one, suppressed: {excerpt}", WINDOW.as_secs());
        }
    }

    fn places(&self) -> MutexGuard<'_, HashMap<callsite::Identifier, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The message of an event, without its fields.
#[derive(Debug, Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}").chars().take(EXCERPT).collect();
        }
    }
}

/// The limiter, between whoever logs and the lines.
struct Limit(Arc<Limiter>);

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.0.admits(event)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    impl Written {
        fn take(&self) -> Vec<String> {
            let bytes = mem::take(&mut *self.0.lock().unwrap());
            String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn a_flood_is_cut_per_place_and_what_was_left_out_is_counted() {
        let (limiter, written) = (Arc::new(Limiter::default()), Written::default());
        let lines = tracing_subscriber::fmt::layer().with_writer(written.clone()).with_ansi(false).without_time();
        let subscriber = tracing_subscriber::registry().with(Limit(Arc::clone(&limiter))).with(lines);
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..1000 {
                tracing::warn!(number, "a flood of {number}");
                if number % 100 == 0 {
                    tracing::info!("rare");
                }
            }
            let got = written.take();
            assert_eq!(got.iter().filter(|line| line.contains("a flood of")).count(), 20);
            assert_eq!(got.iter().filter(|line| line.contains("rare")).count(), 10);
            limiter.turn();
            let got = written.take();
            assert_eq!(got.len(), 1, "{got:?}");
            assert!(got[0].contains("980 more lines in 10 s like this one, suppressed: a flood of 20"), "{got:?}");
            tracing::warn!("another place");
            limiter.turn();
            assert_eq!(written.take().len(), 1, "a new window, and nothing was left out");
        });
    }

    #[test]
    fn a_level_is_that_of_our_own_lines() {
        let enables = |level: &str, target, of| targets(level).unwrap().would_enable(target, &of);
        use tracing::Level;
        assert!(enables("debug", "cassandra_cdc::pump", Level::DEBUG));
        assert!(!enables("debug", "hyper", Level::INFO) && enables("debug", "hyper", Level::WARN));
        assert!(!enables("trace", "scylla::cluster", Level::ERROR));
        assert!(!enables("error", "hyper", Level::WARN) && !enables("error", "cassandra_cdc", Level::WARN));
        assert!(enables("warn,hyper=trace", "hyper", Level::TRACE));
        for wrong in ["loud", "info,loud", "hyper=loud", ""] {
            let failure = targets(wrong).unwrap_err();
            let named = failure.to_string().contains(&format!("log.level `{wrong}`"));
            assert!(failure.exit == Exit::Config && named, "{failure}");
        }
    }

    /// The log of a service, in a process of its own: it is there once in a process.
    #[test]
    #[ignore = "started by the test beside it"]
    fn service() {
        let format = match std::env::var("TEST_FORMAT").unwrap().as_str() {
            "json" => LogFormat::Json,
            _ => LogFormat::Auto,
        };
        let log = start("info", format).unwrap();
        tracing::info!(segment = "CommitLog-7-1.log", "first");
        tracing::debug!("second");
        log.set_level("debug").unwrap();
        tracing::debug!("third");
        assert!(log.set_level("loud").is_err());
        tracing::debug!("fourth");
        assert!(start("info", format).is_err());
    }

    fn lines_of_a_service(format: &str) -> Vec<String> {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "observe::log::tests::service", "--ignored", "--nocapture"]);
        // Inherited from whoever runs the tests, and not of this output.
        let output = command.env("TEST_FORMAT", format).env("JOURNAL_STREAM", "1:2").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_level_changes_while_the_agent_runs() {
        let text = lines_of_a_service("auto");
        assert_eq!(text.len(), 3, "{text:?}");
        assert!(text[0].contains(" INFO first segment=\"CommitLog-7-1.log\""), "{text:?}");
        assert!(text[1].ends_with("DEBUG third") && text[2].ends_with("DEBUG fourth"), "{text:?}");
        let json = lines_of_a_service("json");
        let first: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
        assert_eq!((&first["message"], &first["level"]), (&"first".into(), &"INFO".into()));
        assert_eq!((first["segment"].as_str(), json.len()), (Some("CommitLog-7-1.log"), 3));
    }
}
