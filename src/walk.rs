//! Through one segment: every entry in log order, and every piece of damage with its place.
//!
//! Owns: the walk from the descriptor to the end of the chain, and how reading goes on behind damage when it is told
//! to. Does not own: what becomes of an entry (`line`), whether a segment may be walked at all.

use std::fmt;
use std::ops::ControlFlow;

use cassandra_commitlog::{
    Cause, CdcIndex, DecodeError, Descriptor, Entries, Entry, FileOffset, LogOffset, Place, Plaintext, Section,
    Sections, SegmentName, Step, Structure, Tail,
};

/// Bytes that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What is wrong, and where.
    pub error: DecodeError,
    /// Behind which logical position the lost bytes begin.
    pub from: LogOffset,
    /// Where reading goes on, if it does.
    pub to: Option<LogOffset>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            None => self.error.fmt(f),
            Some(to) => write!(f, "{}; positions {} to {to} are lost", self.error, self.from),
        }
    }
}

/// What the walk meets.
#[derive(Debug)]
pub enum Seen<'b> {
    /// A section begins.
    Section(&'b Section<'b>),
    /// An entry whose checksums hold.
    Entry(Entry<'b>),
    /// Bytes that can't be read.
    Damage(Damage),
}

/// How to walk.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What the bytes behind the last marker mean.
    pub tail: Tail,
    /// Go on behind damage.
    pub salvage: bool,
    /// What the index beside the segment says: a live segment is read up to its number, a sealed one must end where
    /// it says.
    pub index: Option<CdcIndex>,
    /// The marker to begin at, known from an earlier walk; the first one without it.
    pub start: Option<Marker>,
}

/// Where a sync marker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// In the file.
    pub file: FileOffset,
    /// In the uncompressed image.
    pub log: LogOffset,
}

/// Where a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// Logical end of the last section that was read.
    pub end: LogOffset,
    /// The marker that the next walk begins at.
    pub next: Marker,
    /// Entries that the framing counted.
    pub entries: u64,
}

/// Walks one segment. `each` may stop the walk; damage stops it unless it is salvaged.
///
/// # Errors
/// The descriptor can't be read, or does not belong to the file's name: nothing of the segment can be.
pub fn walk<E>(
    name: &SegmentName,
    file: &[u8],
    options: Options,
    plaintext: &mut Plaintext,
    mut each: impl FnMut(&Descriptor, Seen<'_>) -> ControlFlow<E>,
) -> Result<ControlFlow<E, Walked>, DecodeError> {
    let descriptor = Descriptor::parse(file)?;
    descriptor.check_name(name)?;
    let mut sections = Sections::new(file, &descriptor, options.tail);
    if let Some(Marker { file, log }) = options.start {
        sections.resume_at(file, log);
    }
    let limit = match (options.tail, options.index) {
        (Tail::Live, Some(CdcIndex::Growing(limit))) => limit,
        _ => LogOffset(u32::MAX),
    };
    let mut walked = Walked { end: sections.position().1, next: next_of(&sections), entries: 0 };
    let mut damaged = false;
    loop {
        let section = match sections.step() {
            Ok(Step::Item(section)) => section,
            Ok(Step::Pending | Step::End) => break,
            Err(error) => {
                let resumed = options.salvage.then(|| resume(&mut sections)).flatten();
                damaged = true;
                let damage = Damage { error, from: walked.end, to: resumed };
                if let ControlFlow::Break(value) = each(&descriptor, Seen::Damage(damage)) {
                    return Ok(ControlFlow::Break(value));
                }
                if resumed.is_none() {
                    break;
                }
                continue;
            }
        };
        let end = sections.position().1;
        if end > limit {
            break; // Visible, but not durable yet.
        }
        if let ControlFlow::Break(value) = each(&descriptor, Seen::Section(&section)) {
            return Ok(ControlFlow::Break(value));
        }
        let flow = match plaintext.of(&section, &descriptor) {
            Ok(bytes) => {
                let mut entries = Entries::new(bytes, section.start);
                walk_entries(&descriptor, &mut entries, options, end, &mut walked, &mut damaged, &mut each)
            }
            Err(error) => {
                damaged = true;
                let damage = Damage { error, from: section.start, to: options.salvage.then_some(end) };
                each(&descriptor, Seen::Damage(damage))
            }
        };
        if let ControlFlow::Break(value) = flow {
            return Ok(ControlFlow::Break(value));
        }
        if damaged && !options.salvage {
            return Ok(ControlFlow::Continue(walked));
        }
        walked.end = end;
        walked.next = next_of(&sections);
    }
    if !damaged
        && let Some(error) = short_of_index(&walked, file, &options)
        && let ControlFlow::Break(value) =
            each(&descriptor, Seen::Damage(Damage { error, from: walked.end, to: None }))
    {
        return Ok(ControlFlow::Break(value));
    }
    Ok(ControlFlow::Continue(walked))
}

fn next_of(sections: &Sections<'_>) -> Marker {
    let (file, log) = sections.position();
    Marker { file, log }
}

fn walk_entries<E>(
    descriptor: &Descriptor,
    entries: &mut Entries<'_>,
    options: Options,
    end: LogOffset,
    walked: &mut Walked,
    damaged: &mut bool,
    each: &mut impl FnMut(&Descriptor, Seen<'_>) -> ControlFlow<E>,
) -> ControlFlow<E> {
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => {
                walked.entries += 1;
                walked.end = entry.end();
                each(descriptor, Seen::Entry(entry))?;
            }
            Err(error) => {
                *damaged = true;
                let from = entries.offset();
                // The framing is checked on its own: behind a damaged body the next entry can be found all the same.
                let next = options.salvage && entries.skip_damaged();
                let to = options.salvage.then(|| if next { entries.offset() } else { end });
                each(descriptor, Seen::Damage(Damage { error, from, to }))?;
                if !next {
                    break;
                }
            }
        }
    }
    ControlFlow::Continue(())
}

/// Finds the next marker that can be believed. Logical positions behind lost compressed bytes are counted on from the
/// physical distance: they may shift, and the gap says so.
fn resume(sections: &mut Sections<'_>) -> Option<LogOffset> {
    let (marker, logical) = sections.position();
    let found = sections.next_marker(FileOffset(marker.0.checked_add(1)?))?;
    let logical = LogOffset(logical.0.checked_add(found.0 - marker.0)?);
    sections.resume_at(found, logical);
    Some(logical)
}

/// The number in a sealed index is the logical end of the chain, or after a replay the length of the file. A chain that
/// ends before both was cut, or overwritten with zeros, at a place where no marker could tell.
fn short_of_index(walked: &Walked, file: &[u8], options: &Options) -> Option<DecodeError> {
    let (Tail::Sealed, Some(CdcIndex::Sealed(LogOffset(number)))) = (options.tail, options.index) else { return None };
    let reached = walked.end.0 >= number || usize::try_from(number).is_ok_and(|number| number == file.len());
    (!reached).then(|| DecodeError {
        at: Place::Log(walked.end),
        structure: Structure::CdcIndex,
        cause: Cause::OutOfRange { what: "end of the chain lies before the index's number: it", value: number.into() },
    })
}
