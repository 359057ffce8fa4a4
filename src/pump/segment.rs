//! Reading one segment as far as it may be read.
//!
//! Owns: the walk over closed sections, the open end behind them, and what stops either. Does not own: how far a segment
//! may be read (`lifecycle`), what becomes of an entry (`intake`).

use std::ops::ControlFlow;

use cassandra_commitlog::{Codec, Descriptor, FileOffset, LogOffset, Plaintext, Position, Sections, Step, Tail};

use super::hold::{Hold, Reason};
use super::reading::Reading;
use super::{Pump, Trouble};
use crate::keeper::View;
use crate::lifecycle::{Extent, ReadTo};
use crate::mapped::{Access, Mapped};
use crate::observe::HoldReason;
use crate::tail::OpenEnd;
use crate::walk::{self, Marker, Seen, walk};

/// More than any header.
const BLANK: usize = 4 << 10;

/// What the first bytes of a segment say.
enum Header {
    /// How its sections are stored.
    Read(Codec),
    /// The server has not written it yet.
    Unwritten,
    /// Nothing, and nothing ever was: no index names anything in it.
    Empty,
}

impl Pump {
    /// Reads a segment to `extent`, or as far as there is time and room for.
    pub(super) fn read_segment(&mut self, view: &View, extent: Extent) -> Result<(), Trouble> {
        let id = view.name.id;
        let Some(reading) = self.readings.get(&id) else { return Ok(()) };
        if let Some(fault) = &reading.fault {
            return Err(fault.clone().into());
        }
        let is_done = reading.done == Some(extent);
        let may_go_on = match extent {
            Extent::Nothing => false,
            // Behind a marker that was written meanwhile there is a section to walk.
            Extent::Visible if is_done => self.read_open_end(view)?,
            _ => !is_done,
        };
        if !may_go_on {
            return Ok(());
        }
        match self.walk_segment(view, extent) {
            Ok(()) if extent == Extent::Visible && !self.paused => self.read_open_end(view).map(drop),
            Ok(()) => Ok(()),
            Err(trouble) => {
                if let Some(reading) = self.readings.get_mut(&id) {
                    reading.begin_again();
                }
                Err(trouble)
            }
        }
    }

    /// Reads what no marker covers yet, where the mode says so. Says whether the section is closed by now.
    pub(super) fn read_open_end(&mut self, view: &View) -> Result<bool, Trouble> {
        let unreadable = |at: LogOffset| {
            move |error: std::io::Error| {
                Trouble::from(
                    Hold::new(Reason::Held(HoldReason::CdcRaw), format!("read {}: {error}", view.name))
                        .at(view.name, at),
                )
            }
        };
        let (mut intake, readings) = self.intake()?;
        let Some(reading) = readings.get_mut(&view.name.id) else { return Ok(false) };
        let Some(marker) = reading.next else { return Ok(false) };
        let mut open_end = match reading.open_end.take() {
            Some(open_end) => open_end,
            None => OpenEnd::new(view.open_file().map_err(unreadable(reading.read))?, view.name.id),
        };
        let closed = if reading.read_to == Some(ReadTo::Written) {
            let version = view.name.version;
            intake.enter(reading);
            let read = open_end.read(marker, reading.read, |entry| {
                reading.early = true;
                match intake.entry(reading, version, &entry) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(trouble) => ControlFlow::Break(trouble),
                }
            });
            match read.map_err(unreadable(reading.read))? {
                ControlFlow::Break(trouble) => return Err(trouble),
                ControlFlow::Continue(end) => end.is_none(),
            }
        } else {
            open_end.is_closed(marker).map_err(unreadable(reading.read))?
        };
        reading.open_end = Some(open_end);
        Ok(closed)
    }

    /// Takes every section that may be read to the line, or as many as there is time and room for.
    fn walk_segment(&mut self, view: &View, extent: Extent) -> Result<(), Trouble> {
        let mapped = self.open(view)?;
        let mut plaintext = match self.header(view, &mapped, extent)? {
            Header::Read(codec) => self.plaintext(view, &mapped, codec)?,
            Header::Unwritten => return Ok(()),
            Header::Empty => return self.pass_empty(view, extent),
        };
        let (salvage, slice) = (self.options.salvage, self.slice);
        let (mut intake, readings) = self.intake()?;
        let Some(reading) = readings.get_mut(&view.name.id) else { return Ok(()) };
        intake.enter(reading);
        let cut = |reading: &Reading| {
            let detail = format!("{} became shorter while it was read", view.name);
            Trouble::from(Hold::new(Reason::Held(HoldReason::Damage), detail).at(view.name, reading.read))
        };
        let (mut last, mut paused) = (FileOffset(0)..FileOffset(0), None);
        let walked =
            walk(&view.name, &mapped, options(reading, extent, salvage), &mut plaintext, |descriptor, seen| {
                let taken = match seen {
                    Seen::Section(section) if intake.must_pause(slice) => {
                        paused = Some(Marker::of(section));
                        return ControlFlow::Break(None);
                    }
                    Seen::Section(section) => {
                        reading.has_section |= !section.stored.is_empty();
                        last = section.marker..section.end;
                        Ok(())
                    }
                    // Zeros that stand in for bytes that are gone are no damage of the segment's.
                    Seen::Damage(_) if mapped.was_cut() => Err(cut(reading)),
                    Seen::Damage(damage) => intake.damage(reading, descriptor, &mapped, &last, &damage, salvage),
                    Seen::Entry(entry) => intake.framed(reading, descriptor.version, &entry),
                };
                taken.map_or_else(|trouble| ControlFlow::Break(Some(trouble)), ControlFlow::Continue)
            });
        if mapped.was_cut() {
            return Err(cut(reading));
        }
        let walked = match walked {
            Ok(ControlFlow::Continue(walked)) => walked,
            Ok(ControlFlow::Break(Some(trouble))) => return Err(trouble),
            Ok(ControlFlow::Break(None)) => {
                reading.next = paused;
                self.paused = true;
                self.plaintext = Some(plaintext);
                return Ok(());
            }
            Err(error) => return Err(intake.unreadable(reading, &error).into()),
        };
        if extent == Extent::Ended && walked.end < reading.highest {
            intake.short(reading, &mapped, walked.end, salvage)?;
        }
        reading.next = Some(walked.next);
        reading.done = Some(extent);
        intake.advance_to(Position { segment: view.name.id, offset: walked.end });
        if extent == Extent::Ended {
            reading.end = Some(walked.end);
            reading.open_end = None;
        }
        self.plaintext = Some(plaintext);
        Ok(())
    }

    /// A segment in which nothing was ever written, not even a header: a spare that a power loss emptied.
    fn pass_empty(&mut self, view: &View, extent: Extent) -> Result<(), Trouble> {
        let Some(reading) = self.readings.get_mut(&view.name.id) else { return Ok(()) };
        reading.done = Some(extent);
        if extent == Extent::Ended {
            reading.end = Some(LogOffset(0));
        }
        self.finish_read(view.name.id)
    }

    fn open(&self, view: &View) -> Result<Mapped, Trouble> {
        view.open(self.options.access).map_err(|error| {
            let read = self.readings.get(&view.name.id).map_or(LogOffset(0), |reading| reading.read);
            Hold::new(Reason::Held(HoldReason::CdcRaw), format!("open {}: {error}", view.name))
                .at(view.name, read)
                .into()
        })
    }

    /// What its first bytes say.
    fn header(&mut self, view: &View, file: &[u8], extent: Extent) -> Result<Header, Trouble> {
        let error = match Descriptor::parse(file) {
            Ok(descriptor) => match descriptor.check_name(&view.name) {
                Ok(()) => return Ok(Header::Read(descriptor.codec)),
                Err(error) => return Err(Trouble::Misnamed(view.name, error.to_string())),
            },
            Err(_) if extent == Extent::Visible => return Ok(Header::Unwritten),
            Err(error) => error,
        };
        let (intake, readings) = self.intake()?;
        let Some(reading) = readings.get_mut(&view.name.id) else { return Ok(Header::Unwritten) };
        let is_blank = file.iter().take(BLANK).all(|byte| *byte == 0);
        if is_blank && reading.index.is_none() && reading.read == LogOffset(0) {
            return Ok(Header::Empty);
        }
        Err(intake.unreadable(reading, &error).into())
    }

    /// Buffers for a segment, with its key if it is encrypted.
    fn plaintext(&mut self, view: &View, file: &[u8], codec: Codec) -> Result<Plaintext, Trouble> {
        if !matches!(codec, Codec::Encrypted(_)) {
            return Ok(self.plaintext.take().unwrap_or_default());
        }
        match self.keys.key_for(file) {
            Ok(key) => Ok(Plaintext::new(key)),
            Err(error) => {
                let detail = format!("{}: {error}", view.name);
                Err(Hold::new(Reason::Held(HoldReason::MissingKey), detail).at(view.name, LogOffset(0)).into())
            }
        }
    }

    /// How far early modes may read in a segment: nothing of another than a mapped plain one can be seen before its sync.
    pub(super) fn early_mode(&self, view: &View) -> Option<ReadTo> {
        // Where the answer is the same for all, none is opened.
        if self.options.read_to == ReadTo::Synced || self.options.access == Access::Read {
            return Some(ReadTo::Synced);
        }
        let mapped = view.open(self.options.access).ok()?;
        let descriptor = Descriptor::parse(&mapped).ok()?;
        Some(if descriptor.codec == Codec::Plain { self.options.read_to } else { ReadTo::Synced })
    }

    /// Whether a section with entries is closed in a segment that is not being read yet; none if nobody can say.
    pub(super) fn has_section(&self, view: &View) -> Option<bool> {
        let mapped = view.open(self.options.access).ok()?;
        let descriptor = Descriptor::parse(&mapped).ok()?;
        let mut sections = Sections::new(&mapped, &descriptor, Tail::Live);
        // Before the first entries there is one empty section at most.
        for _ in 0..2 {
            match sections.step().ok()? {
                Step::Item(section) if !section.stored.is_empty() => return Some(true),
                Step::Item(_) => {}
                _ => break,
            }
        }
        Some(false)
    }
}

fn options(reading: &Reading, extent: Extent, salvage: bool) -> walk::Options {
    let (tail, index, limit) = match extent {
        Extent::Durable(durable) => (Tail::Live, reading.index, Some(durable)),
        Extent::Ended => (Tail::Sealed, reading.index, None),
        // The index may name more by now than the server had written when the file was mapped.
        Extent::Visible | Extent::Chain | Extent::Nothing => (Tail::Live, None, None),
    };
    walk::Options { tail, salvage, index, limit, start: reading.next }
}
