//! Through one segment: every entry in log order, and every piece of damage with its place.
//!
//! Owns: the walk from the descriptor to the end of the chain, and how reading goes on behind damage when it is told
//! to. Does not own: what becomes of an entry (`line`), whether a segment may be walked at all.

use std::fmt;
use std::ops::ControlFlow;

use cassandra_commitlog::{
    Cause, CdcIndex, Codec, DecodeError, Descriptor, Entries, Entry, FileOffset, LogOffset, Place, Plaintext, Section,
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
    /// What the index beside the segment says: the chain must reach its number.
    pub index: Option<CdcIndex>,
    /// Read no section that ends behind this position: what is visible there is not durable yet.
    pub limit: Option<LogOffset>,
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

impl Marker {
    /// The one that begins a section.
    pub fn of(section: &Section<'_>) -> Self {
        Self { file: section.marker, log: LogOffset(section.start.0.saturating_sub(MARKER_BYTES)) }
    }
}

/// The room of a marker, in the file and in the image alike.
const MARKER_BYTES: u32 = 8;

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
    each: impl FnMut(&Descriptor, Seen<'_>) -> ControlFlow<E>,
) -> Result<ControlFlow<E, Walked>, DecodeError> {
    let descriptor = Descriptor::parse(file)?;
    descriptor.check_name(name)?;
    let mut sections = Sections::new(file, &descriptor, options.tail);
    if let Some(Marker { file, log }) = options.start {
        sections.resume_at(file, log);
    }
    let walked = Walked { end: sections.position().1, next: next_of(&sections), entries: 0 };
    let mut walk = Walk { descriptor: &descriptor, options, walked, damaged: false, searches: 0, each };
    Ok(match walk.sections(&mut sections, plaintext) {
        ControlFlow::Break(value) => ControlFlow::Break(value),
        ControlFlow::Continue(()) => match walk.short_of_index(file) {
            ControlFlow::Break(value) => ControlFlow::Break(value),
            ControlFlow::Continue(()) => ControlFlow::Continue(walk.walked),
        },
    })
}

/// A walk under way.
struct Walk<'w, F> {
    descriptor: &'w Descriptor,
    options: Options,
    walked: Walked,
    damaged: bool,
    /// How often a damaged section was searched for markers.
    searches: u32,
    each: F,
}

/// Damaged sections of a segment that are searched for markers inside; of later ones all is given up to their end. Real
/// damage is one place: a file of nothing but nested markers would be decompressed for hours.
const MAX_SEARCHES: u32 = 100;

impl<E, F: FnMut(&Descriptor, Seen<'_>) -> ControlFlow<E>> Walk<'_, F> {
    fn sections(&mut self, sections: &mut Sections<'_>, plaintext: &mut Plaintext) -> ControlFlow<E> {
        loop {
            match sections.step() {
                Ok(Step::Pending | Step::End) => return ControlFlow::Continue(()),
                Ok(Step::Item(section)) => {
                    if self.options.limit.is_some_and(|limit| sections.position().1 > limit) {
                        return ControlFlow::Continue(());
                    }
                    self.section(&section, sections, plaintext)?;
                    if self.damaged && !self.options.salvage {
                        return ControlFlow::Continue(());
                    }
                    self.walked.end = sections.position().1;
                    self.walked.next = next_of(sections);
                }
                Err(error) => {
                    let resumed = self.options.salvage.then(|| resume(sections)).flatten();
                    self.damage(Damage { error, from: self.walked.end, to: resumed })?;
                    if resumed.is_none() {
                        return ControlFlow::Continue(());
                    }
                }
            }
        }
    }

    fn section(
        &mut self,
        section: &Section<'_>,
        sections: &mut Sections<'_>,
        plaintext: &mut Plaintext,
    ) -> ControlFlow<E> {
        (self.each)(self.descriptor, Seen::Section(section))?;
        match plaintext.of(section, self.descriptor) {
            Ok(bytes) => self.entries(Entries::new(bytes, section.start), section, sections),
            Err(error) => {
                let to = self.behind(section.start, section, sections);
                self.damage(Damage { error, from: section.start, to })
            }
        }
    }

    fn entries(
        &mut self,
        mut entries: Entries<'_>,
        section: &Section<'_>,
        sections: &mut Sections<'_>,
    ) -> ControlFlow<E> {
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) => {
                    self.walked.entries += 1;
                    self.walked.end = entry.end();
                    (self.each)(self.descriptor, Seen::Entry(entry))?;
                }
                Err(error) => {
                    let from = entries.offset();
                    // The framing is checked on its own: behind a damaged body the next entry can be found all the same.
                    let next = self.options.salvage && entries.skip_damaged();
                    let to = if next { Some(entries.offset()) } else { self.behind(from, section, sections) };
                    self.damage(Damage { error, from, to })?;
                    if !next {
                        break;
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Where a salvage goes on behind a place in a section that can't be read. No checksum covers where a marker says
    /// that its section ends: if that is wrong, other sections may lie in it, and they are not damaged. So the first
    /// marker behind the place counts, and the end of the section only where there is none.
    fn behind(&mut self, lost: LogOffset, section: &Section<'_>, sections: &mut Sections<'_>) -> Option<LogOffset> {
        if !self.options.salvage {
            return None;
        }
        let (end, logical) = sections.position();
        self.searches += 1;
        if self.searches > MAX_SEARCHES {
            return Some(logical);
        }
        let body = end.0.saturating_sub(u32::try_from(section.stored.len()).unwrap_or(u32::MAX));
        // Only in plain segments a position says where in the section something lies.
        let read = if self.descriptor.codec == Codec::Plain { lost.0.saturating_sub(section.start.0) } else { 0 };
        let found = sections.next_marker(FileOffset(body.saturating_add(read)));
        let Some(found) = found.filter(|found| *found < end) else { return Some(logical) };
        let logical = LogOffset(section.start.0.saturating_add(found.0.saturating_sub(body)));
        sections.resume_at(found, logical);
        Some(logical)
    }

    fn damage(&mut self, damage: Damage) -> ControlFlow<E> {
        self.damaged = true;
        (self.each)(self.descriptor, Seen::Damage(damage))
    }

    /// The number in an index is a logical position that the chain has reached; in a sealed one it may also be the length
    /// of the file (after a replay). A chain that ends before both was cut, or overwritten with zeros, at a place where
    /// no marker could tell.
    fn short_of_index(&mut self, file: &[u8]) -> ControlFlow<E> {
        let end = self.walked.end;
        let reached = match self.options.index {
            None => true,
            Some(CdcIndex::Growing(number)) => end >= number,
            Some(CdcIndex::Sealed(number)) => {
                end >= number || usize::try_from(number.0).is_ok_and(|number| number == file.len())
            }
        };
        if self.damaged || reached {
            return ControlFlow::Continue(());
        }
        let cause = Cause::Broken("the chain ends before the place that the index names");
        let error = DecodeError { at: Place::Log(end), structure: Structure::CdcIndex, cause };
        self.damage(Damage { error, from: end, to: None })
    }
}

fn next_of(sections: &Sections<'_>) -> Marker {
    let (file, log) = sections.position();
    Marker { file, log }
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
