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
    if let Ok(level) = level.parse::<LevelFilter>() {
        let targets = Targets::new().with_default(level.min(LevelFilter::WARN));
        return Ok(targets.with_target("scylla", LevelFilter::OFF).with_target(env!("CARGO_CRATE_NAME"), level));
    }
    level.parse().map_err(|error| {
        let text = format!("log.level `{level}`: {error}; use error, warn, info, debug or trace");
        Failure::text(Exit::Config, text)
    })
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
