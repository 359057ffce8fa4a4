//! `replay`: publishes segments again, or somewhere else.
//!
//! Owns: the bounds of a replay, its pace, its resume file, its summary. Does not own: the line from bytes to records,
//! and nothing of a running agent: it acknowledges and deletes nothing.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use cassandra_commitlog::{
    Codec, Entry, FormatVersion, LogOffset, Plaintext, Position, SchemaStore, SegmentName, Structure, Tail,
};
use cassandra_event::{Encoder, Gap, GapKind};
use cassandra_progress::{Ledger, Outcome, Tally, Totals, Window};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::catalog::timeline::Timeline;
use crate::cli::{KeyKind, Replay};
use crate::exit::{Ending, Exit, Failure};
use crate::filter::{End, Range, Tables};
use crate::interrupt;
use crate::keys::KeySource;
use crate::line::{Line, Segment, Wanted};
use crate::mapped::Mapped;
use crate::resume::ResumeFile;
use crate::segments::{self, SegmentFile};
use crate::sink::Sink;
use crate::walk::{self, Damage, Seen, walk};

use self::setup::sink_failure;

pub(super) mod setup;

/// How often delivery reports are collected, the resume file is written and the bar is moved.
const TICK: Duration = Duration::from_millis(200);

/// How long the last wait for Kafka lasts before it is said to be one.
const DELIVERY: Duration = Duration::from_secs(1);

/// How long what is under way may still take after a signal.
const PATIENCE: Duration = Duration::from_secs(5);

/// Entries between two looks at the clock.
const ENTRIES_PER_LOOK: u32 = 256;

/// Runs the command.
pub(super) fn run(arguments: &Replay) -> Ending {
    let tables = Tables::parse(&arguments.tables)?;
    let end = |text: &Option<String>| text.as_deref().map(End::parse).transpose();
    let range = Range::new(end(&arguments.from)?, end(&arguments.to)?)?;
    let mut settings = setup::settings(&arguments.events, &arguments.cluster, &arguments.host_id)?;
    let keys = KeySource::of(&arguments.key_store)?;
    let schema = arguments.schema.as_deref().map(|path| setup::fixed_schema(path, &tables)).transpose()?;
    if arguments.key.is_some() && arguments.events.key_format == KeyKind::Raw {
        return Err(Failure::text(Exit::Usage, "--key names a JSON key: it needs --key-format json"));
    }
    let key = arguments.key.as_deref().map(|key| setup::key_filter(key, schema.as_deref(), &tables)).transpose()?;
    let segments = segments::find(&arguments.paths)?;
    let mut resume = arguments.resume.as_deref().map(|path| ResumeFile::open(path, &what(arguments))).transpose()?;
    let from = match resume.as_ref().and_then(ResumeFile::place) {
        Some((name, offset)) => Some((place_of(&segments, name)?, offset)),
        None => None,
    };
    for segment in &segments {
        check_key(segment, &keys)?;
    }
    let (mut sink, output) = setup::sink(arguments)?;
    if let Some(schema) = &schema {
        setup::check_topics(&mut sink, &mut settings, schema, &tables)?;
    }
    interrupt::watch(PATIENCE, false);
    let (encoder, wanted) = (Encoder::new(settings), Wanted { tables, range, key });
    let mut replay = Replaying {
        line: match schema {
            Some(schema) => Line::new(schema, encoder, wanted),
            None => Line::following(Timeline::new(SchemaStore::new()), encoder, wanted),
        },
        sink,
        ledger: Ledger::new(Window::default()),
        names: segments.iter().map(|segment| segment.name).collect(),
        salvage: arguments.salvage,
        pace: arguments.rate.map(Pace::new),
        bar: progress_bar(&segments, range),
        summary: Summary::default(),
        places_kept: true,
        started: Instant::now(),
        looked: Instant::now(),
        until_look: 0,
    };
    let result = replay.segments(&segments, range, from, &keys, resume.as_mut());
    let ending = replay.finish(result, resume.as_mut())?;
    if let (Some(output), false) = (output, ending == Exit::Interrupted) {
        output.keep()?;
    }
    Ok(ending)
}

/// What makes a place in one replay useless to another.
fn what(arguments: &Replay) -> String {
    let Replay { sink, tables, key, from, to, events, cluster, host_id, .. } = arguments;
    format!("{sink:?} {tables:?} {key:?} {from:?} {to:?} {events:?} {cluster:?} {host_id:?}")
}

/// A missing key, or a wrong password, is told before anything is sent.
fn check_key(segment: &SegmentFile, keys: &KeySource) -> Result<(), Failure> {
    let mapped = Mapped::open(&segment.path).map_err(|error| Failure::io(segment.path.display(), error))?;
    keys.key_for(&mapped).map(drop)
}

fn place_of(segments: &[SegmentFile], name: &str) -> Result<usize, Failure> {
    segments.iter().position(|segment| segment.name.to_string() == name).ok_or_else(|| {
        let text = format!("the resume file names {name}, which is not among the segments: give the same paths again");
        Failure::text(Exit::Usage, text)
    })
}

fn progress_bar(segments: &[SegmentFile], range: Range) -> ProgressBar {
    let wanted = segments.iter().filter(|segment| range.touches(segment.name.id));
    let bytes = wanted.filter_map(|segment| Some(segment.path.metadata().ok()?.len())).sum();
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {msg} {eta}");
    ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What a replay has met so far.
#[derive(Debug, Default)]
struct Summary {
    segments: u64,
    framed: u64,
    totals: Totals,
    events: u64,
    damages: u64,
    /// Segments whose index does not say that they are complete.
    growing: Vec<String>,
}

struct Replaying {
    line: Line,
    sink: Sink,
    ledger: Ledger,
    names: Vec<SegmentName>,
    salvage: bool,
    pace: Option<Pace>,
    bar: ProgressBar,
    summary: Summary,
    /// Cleared where a replay that goes on must come by again.
    places_kept: bool,
    started: Instant,
    looked: Instant,
    until_look: u32,
}

/// Holds back what goes faster than a rate.
struct Pace {
    rate: f64,
    /// When the events so far should have been sent.
    due: Instant,
}

impl Pace {
    fn new(rate: u32) -> Self {
        Self { rate: f64::from(rate), due: Instant::now() }
    }

    /// Waits until so many more events are due. What was late is not made up for in a burst. A signal ends the wait.
    fn hold(&mut self, events: usize) {
        let seconds = events as f64 / self.rate;
        self.due = self.due.max(Instant::now()) + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4);
        while !interrupt::came() {
            let left = self.due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(TICK));
        }
    }
}

impl Replaying {
    fn segments(
        &mut self,
        segments: &[SegmentFile],
        range: Range,
        from: Option<(usize, LogOffset)>,
        keys: &KeySource,
        mut resume: Option<&mut ResumeFile>,
    ) -> Result<(), Failure> {
        for (at, segment) in segments.iter().enumerate() {
            let start = match from {
                _ if range.begins_behind(segment.name.id) => None,
                Some((first, _)) if at < first => None,
                Some((first, offset)) if at == first => Some(offset),
                _ => Some(LogOffset(0)),
            };
            match start {
                _ if interrupt::came() => break,
                Some(start) if range.touches(segment.name.id) => {
                    self.segment(segment, start, keys, resume.as_deref_mut())?;
                }
                None if self.line.timeline().is_some() => self.pass(segment, keys)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// A segment before the first: what counts is its DDL.
    fn pass(&mut self, file: &SegmentFile, keys: &KeySource) -> Result<(), Failure> {
        let mapped = Mapped::open(&file.path).map_err(|error| Failure::io(file.path.display(), error))?;
        let mut plaintext = Plaintext::new(keys.key_for(&mapped)?);
        let segment = Segment::new(file.name);
        let options = walk::Options { tail: file.tail(), salvage: true, index: None, limit: None, start: None };
        let mut damaged = Vec::new();
        let walked = walk(&file.name, &mapped, options, &mut plaintext, |descriptor, seen| {
            match seen {
                Seen::Section(_) => {}
                Seen::Entry(entry) => {
                    self.line.entry_passed(&segment, descriptor.version, &entry);
                }
                Seen::Damage(damage) => damaged.push(damage.to_string()),
            }
            if interrupt::came() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        damaged.extend(walked.err().map(|error| error.to_string()));
        for damage in damaged {
            self.tell(format_args!("{segment}: {damage}; DDL that was there is not known"));
        }
        Ok(())
    }

    fn segment(
        &mut self,
        file: &SegmentFile,
        start: LogOffset,
        keys: &KeySource,
        mut resume: Option<&mut ResumeFile>,
    ) -> Result<(), Failure> {
        let mapped = Mapped::open(&file.path).map_err(|error| Failure::io(file.path.display(), error))?;
        let key = keys.key_for(&mapped)?;
        let mut plaintext = Plaintext::new(key);
        let segment = Segment::new(file.name);
        // How far the index goes is no limit: the node that wrote the segment may be gone, and what its log holds is
        // what its own replay would read.
        let options =
            walk::Options { tail: file.tail(), salvage: self.salvage, index: file.index, limit: None, start: None };
        self.ledger.enter(Position { segment: file.name.id, offset: start }, Tally::default());
        self.summary.segments += 1;
        let (done, mut counted) = (self.bar.position(), Tally::default());
        let walked = walk(&file.name, &mapped, options, &mut plaintext, |descriptor, seen| {
            let taken = match seen {
                Seen::Section(section) => {
                    self.bar.set_position(done + u64::from(section.end.0));
                    Ok(())
                }
                Seen::Damage(damage) => {
                    // Behind lost markers of compressed sections nobody knows how long their plaintext was.
                    let lost_marker = matches!(damage.error.structure, Structure::SyncMarker | Structure::Section);
                    let ids_may_shift = descriptor.codec != Codec::Plain && damage.to.is_some() && lost_marker;
                    self.damage(&segment, &damage, ids_may_shift)
                }
                Seen::Entry(entry) if entry.end() <= start => {
                    self.line.entry_passed(&segment, descriptor.version, &entry);
                    Ok(())
                }
                Seen::Entry(entry) => {
                    self.summary.framed += 1;
                    self.entry(&segment, descriptor.version, &entry, &mut counted, resume.as_deref_mut())
                }
            };
            match taken {
                Ok(()) if interrupt::came() => ControlFlow::Break(Ok(())),
                Ok(()) => ControlFlow::Continue(()),
                Err(failure) => ControlFlow::Break(Err(failure)),
            }
        });
        self.summary.totals += counted;
        self.bar.set_position(done + mapped.len() as u64);
        match walked {
            Ok(ControlFlow::Continue(walked)) => {
                if file.tail() == Tail::Live {
                    self.summary
                        .growing
                        .push(format!("{segment} may still grow: it was read to position {}", walked.end));
                }
                Ok(())
            }
            Ok(ControlFlow::Break(result)) => result,
            Err(error) => self.damage(&segment, &Damage { error, from: LogOffset(0), to: None }, false),
        }
    }

    fn entry(
        &mut self,
        segment: &Segment,
        version: FormatVersion,
        entry: &Entry<'_>,
        counted: &mut Tally,
        resume: Option<&mut ResumeFile>,
    ) -> Result<(), Failure> {
        let position = entry.end();
        // There is no newer schema to wait for: it is never handed back.
        let done = self.line.entry(segment, version, entry, false, &mut self.sink, &mut self.ledger);
        let Some(done) = done.map_err(sink_failure)? else { return Ok(()) };
        counted.count(done.outcome);
        if let Some(error) = done.rejected {
            let reason = error.reason();
            self.tell(format_args!(
                "{segment}: the entry that ends at position {position} can't be decoded: {reason}: {error}"
            ));
            self.places_kept &= self.sink.takes_dead_letters();
        }
        if done.outcome == Outcome::Published {
            self.summary.events += done.records as u64;
        }
        if let Some(pace) = &mut self.pace {
            pace.hold(done.records);
        }
        match self.until_look.checked_sub(1) {
            Some(left) if self.pace.is_none() => self.until_look = left,
            _ => {
                self.until_look = ENTRIES_PER_LOOK;
                self.look(resume)?;
            }
        }
        Ok(())
    }

    /// Now and then: settle what was delivered, keep the place.
    fn look(&mut self, resume: Option<&mut ResumeFile>) -> Result<(), Failure> {
        if self.looked.elapsed() < TICK {
            return Ok(());
        }
        self.looked = Instant::now();
        self.sink.settle(&mut self.ledger).map_err(sink_failure)?;
        self.bar.set_message(format!("{} events", self.summary.events));
        self.keep_place(resume)
    }

    /// A place is kept only where everything before it is settled, nothing before it was damaged, and no dead letter
    /// went nowhere: a replay that goes on must come by those again.
    fn keep_place(&mut self, resume: Option<&mut ResumeFile>) -> Result<(), Failure> {
        while self.ledger.pop_passed().is_some() {}
        if let (Some(resume), Some(watermark), true) = (resume, self.ledger.watermark(), self.places_kept) {
            let id = watermark.position().segment;
            if let Some(name) = self.names.iter().find(|name| name.id == id) {
                resume.keep(*name, &watermark)?;
            }
        }
        Ok(())
    }

    fn damage(&mut self, segment: &Segment, damage: &Damage, ids_may_shift: bool) -> Result<(), Failure> {
        self.summary.damages += 1;
        self.places_kept = false;
        let next = if damage.to.is_some() {
            ""
        } else if self.salvage {
            "; no later sync marker can be found in the segment"
        } else {
            "; reading of this segment stops here, --salvage goes on behind the damage"
        };
        self.tell(format_args!("{segment}: {damage}{next}"));
        let gap = Gap {
            segment: segment.file_name(),
            kind: GapKind::DamagedBytes,
            from: Some(damage.from.0),
            to: damage.to.map(|to| to.0),
            entries: None,
            at: jiff::Timestamp::now().as_second(),
            ids_may_shift,
        };
        self.line.gap(&gap, &mut self.sink, &mut self.ledger).map_err(sink_failure)
    }

    /// Waits for what is under way, whatever `result` says, keeps the place and sums up.
    fn finish(mut self, result: Result<(), Failure>, resume: Option<&mut ResumeFile>) -> Ending {
        let drained = self.drain(result.is_err());
        let kept = self.keep_place(resume);
        let result = result.and(drained).and(kept);
        if !result.as_ref().is_err_and(Failure::is_broken_pipe) {
            self.summarise();
        }
        result?;
        self.ending()
    }

    /// Kafka may be away for hours: the records wait for it. After a failure or a signal they don't wait long.
    fn drain(&mut self, failed: bool) -> Result<(), Failure> {
        while self.sink.drain(&mut self.ledger, DELIVERY).map_err(sink_failure)? > 0 {
            if failed || interrupt::is_urgent() {
                break;
            }
            self.bar.set_message("waiting for Kafka");
        }
        Ok(())
    }

    fn summarise(&self) {
        self.bar.finish_and_clear();
        let Summary { segments, framed, totals, events, damages, growing } = &self.summary;
        for segment in growing {
            eprintln!("{segment}");
        }
        eprintln!(
            "{segments} segments, {framed} entries = {} published ({events} events) + {} not CDC + {} filtered + {} \
             undecodable; {damages} damaged places; {:.1} s",
            totals.published,
            totals.not_cdc,
            totals.filtered,
            totals.dead_lettered,
            self.started.elapsed().as_secs_f64()
        );
    }

    fn ending(&self) -> Ending {
        let Summary { framed, totals, damages, .. } = &self.summary;
        if *framed != totals.entries() {
            return Err(Failure::text(Exit::Bug, "the outcomes do not add up to the entries: please report this"));
        }
        if interrupt::came() {
            eprintln!("interrupted; with --resume FILE a replay goes on where it stopped");
            return Ok(Exit::Interrupted);
        }
        self.tell_of_schema(totals.dead_lettered > 0);
        Ok(if *damages > 0 || totals.dead_lettered > 0 { Exit::Corrupt } else { Exit::Fine })
    }

    /// What of the schema was missing. Of the log's own it is known only at the end.
    fn tell_of_schema(&self, undecodable: bool) {
        if let Some(pattern) = self.line.timeline().and_then(|_| self.line.unmatched()) {
            eprintln!("no table of these segments matches {pattern:?}");
        }
        if !undecodable {
            return;
        }
        let problems = self.line.timeline().map(Timeline::problems).unwrap_or_default();
        for problem in problems.iter().filter(|problem| !problem.keyspace.starts_with("system")) {
            eprintln!("{problem}");
        }
        eprintln!("an entry of an unknown table or column needs the schema of its time: `cassandra-cdc schema pull`");
    }

    /// A line on stderr that the progress bar does not overwrite.
    fn tell(&self, line: std::fmt::Arguments<'_>) {
        self.bar.suspend(|| eprintln!("cassandra-cdc: {line}"));
    }
}
