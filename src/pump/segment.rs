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
use crate::mapped::Mapped;
use crate::observe::HoldReason;
use crate::tail::OpenEnd;
use crate::walk::{self, Seen, walk};

impl Pump {
    /// Reads a segment to `extent`.
    pub(super) fn read_segment(&mut self, view: &View, extent: Extent) -> Result<(), Trouble> {
        let id = view.name.id;
        let Some(reading) = self.readings.get(&id) else { return Ok(()) };
        let is_done = reading.done == Some(extent);
        match extent {
            Extent::Nothing => return Ok(()),
            Extent::Visible if is_done => {
                if !self.read_open_end(view)? {
                    return Ok(());
                }
            }
            _ if is_done => return Ok(()),
            _ => {}
        }
        let walked = self.walk_segment(view, extent);
        if walked.is_err() {
            if let Some(reading) = self.readings.get_mut(&id) {
                reading.begin_again();
            }
        } else if extent == Extent::Visible {
            self.read_open_end(view)?;
        }
        walked
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
            let read = open_end.read(marker, reading.read, |entry| match intake.entry(reading, version, &entry) {
                Ok(()) => ControlFlow::Continue(()),
                Err(trouble) => ControlFlow::Break(trouble),
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

    fn walk_segment(&mut self, view: &View, extent: Extent) -> Result<(), Trouble> {
        let mapped = self.open(view)?;
        let Some(mut plaintext) = self.plaintext(view, &mapped, extent)? else { return Ok(()) };
        let salvage = self.options.salvage;
        let (mut intake, readings) = self.intake()?;
        let Some(reading) = readings.get_mut(&view.name.id) else { return Ok(()) };
        intake.enter(reading);
        let options = options(reading, extent, salvage);
        let mut last = FileOffset(0)..FileOffset(0);
        let walked = walk(&view.name, &mapped, options, &mut plaintext, |descriptor, seen| {
            let taken = match seen {
                Seen::Section(section) => {
                    reading.has_section |= !section.stored.is_empty();
                    last = section.marker..section.end;
                    Ok(())
                }
                Seen::Damage(damage) if !salvage => {
                    intake.count_damage(reading, &damage.error, damage.from);
                    Err(Hold::damaged(reading, &damage).into())
                }
                Seen::Damage(damage) => intake.salvage(reading, descriptor, &mapped, &last, &damage),
                Seen::Entry(entry) => intake.framed(reading, descriptor.version, &entry),
            };
            match taken {
                Ok(()) => ControlFlow::Continue(()),
                Err(trouble) => ControlFlow::Break(trouble),
            }
        });
        let damaged =
            |detail: String, at| Trouble::from(Hold::new(Reason::Held(HoldReason::Damage), detail).at(view.name, at));
        if mapped.was_cut() {
            let detail = format!("{} became shorter while it was read", view.name);
            return Err(Hold::new(Reason::Held(HoldReason::Damage), detail).at(view.name, reading.read).into());
        }
        let walked = match walked {
            Ok(ControlFlow::Continue(walked)) => walked,
            Ok(ControlFlow::Break(trouble)) => return Err(trouble),
            Err(error) => {
                intake.count_damage(reading, &error, LogOffset(0));
                return Err(damaged(format!("{}: {error}", view.name), LogOffset(0)));
            }
        };
        if extent == Extent::Ended && walked.end < reading.highest {
            let detail = format!(
                "{}: its chain ends at {}, but an earlier index named {}",
                view.name, walked.end, reading.highest
            );
            return Err(damaged(detail, walked.end));
        }
        reading.next = Some(walked.next);
        reading.done = Some(extent);
        intake.advance_to(Position { segment: view.name.id, offset: walked.end });
        if extent == Extent::Ended {
            reading.end = Some(walked.end);
            reading.open_end = None;
        }
        self.keep_plaintext(plaintext);
        Ok(())
    }

    fn open(&self, view: &View) -> Result<Mapped, Trouble> {
        view.open(self.options.access).map_err(|error| {
            let read = self.readings.get(&view.name.id).map_or(LogOffset(0), |reading| reading.read);
            Hold::new(Reason::Held(HoldReason::CdcRaw), format!("open {}: {error}", view.name))
                .at(view.name, read)
                .into()
        })
    }

    /// Buffers for a segment, with its key if it is encrypted. None while the server has not written its header.
    fn plaintext(&mut self, view: &View, file: &[u8], extent: Extent) -> Result<Option<Plaintext>, Trouble> {
        let descriptor = match Descriptor::parse(file) {
            Ok(descriptor) => descriptor,
            Err(_) if extent == Extent::Visible => return Ok(None),
            Err(error) => {
                if let Ok((intake, readings)) = self.intake()
                    && let Some(reading) = readings.get_mut(&view.name.id)
                {
                    intake.count_damage(reading, &error, LogOffset(0));
                }
                let detail = format!("{}: {error}", view.name);
                return Err(Hold::new(Reason::Held(HoldReason::Damage), detail).at(view.name, LogOffset(0)).into());
            }
        };
        if let Err(error) = descriptor.check_name(&view.name) {
            return Err(Trouble::Misnamed(view.name, error.to_string()));
        }
        if !matches!(descriptor.codec, Codec::Encrypted(_)) {
            return Ok(Some(self.plaintext.take().unwrap_or_default()));
        }
        match self.keys.key_for(file) {
            Ok(key) => Ok(Some(Plaintext::new(key))),
            Err(error) => {
                let detail = format!("{}: {error}", view.name);
                Err(Hold::new(Reason::Held(HoldReason::MissingKey), detail).at(view.name, LogOffset(0)).into())
            }
        }
    }

    /// How far early modes may read in a segment: nothing of another than a mapped plain one can be seen before its sync.
    pub(super) fn early_mode(&self, view: &View) -> Option<ReadTo> {
        let mapped = view.open(self.options.access).ok()?;
        let descriptor = Descriptor::parse(&mapped).ok()?;
        let early = descriptor.codec == Codec::Plain && self.options.access == crate::mapped::Access::Map;
        Some(if early { self.options.read_to } else { ReadTo::Synced })
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
