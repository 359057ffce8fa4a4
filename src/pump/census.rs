//! Which segments there are: new ones, ones that came back, ones that are gone, and indexes left alone.
//!
//! Owns: the record of each segment from first sight to its tombstone, and the gap record of one that went before it was
//! done. Does not own: seeing files (`keeper`), reading them.

use std::collections::HashSet;

use cassandra_commitlog::{Descriptor, Entries, LogOffset, Plaintext, Sections, SegmentId, SegmentName, Step, Tail};
use cassandra_event::GapKind;
use cassandra_progress::{Ending, Identity, SegmentRecord, SegmentState, Tombstone};

use super::hold::{Hold, Reason};
use super::reading::Reading;
use super::{Pump, PumpError, Trouble};
use crate::cdc_raw::Explained;
use crate::gaps::GapRecord;
use crate::keeper::{Departed, Scan, View};
use crate::lifecycle;
use crate::observe::{HoldReason, Part};

impl Pump {
    /// Takes in what a scan saw.
    pub(super) fn take_in(&mut self, scan: &Scan) -> Result<(), PumpError> {
        if self.taken_in == scan.number {
            return Ok(());
        }
        self.taken_in = scan.number;
        self.reaped.retain(|_, seen| *seen >= scan.number);
        for view in self.in_order_of_meeting(scan) {
            if !self.is_known(view.name) {
                self.meet_segment(view)?;
            }
            self.see(view);
        }
        if !scan.is_whole() {
            // Nothing follows from what was not seen.
            return Ok(());
        }
        self.notice_foreign_deletions(scan);
        let present: HashSet<SegmentName> = scan.segments.iter().map(|view| view.name).collect();
        for departed in scan.departed.iter().filter(|departed| !present.contains(&departed.name)) {
            if let Some(reading) = self.readings.get_mut(&departed.name.id) {
                reading.see(Some(departed.index), false);
            }
        }
        let is_gone =
            |record: &SegmentRecord| SegmentName::parse(&record.name).is_ok_and(|name| !present.contains(&name));
        let gone: Vec<Identity> =
            self.checkpoint.segments.iter().filter(|record| is_gone(record)).map(SegmentRecord::identity).collect();
        for identity in gone {
            self.part_from(identity)?;
        }
        self.note_unmet(scan)?;
        self.keeper.taken(scan.number);
        let may_delete = scan.can_delete() && self.undeletable.as_ref().is_none_or(|hold| hold.left().is_zero());
        for orphan in scan.orphans.iter().filter(|_| may_delete) {
            self.meet_orphan(orphan.name)?;
        }
        Ok(())
    }

    /// Segments on record come before new ones: where a new one comes in depends on what those are now. First of the new
    /// ones are spares that a stopped server left: nothing is in them, and if ids have fallen back since, theirs are higher
    /// than those of the segments being written, behind which nothing is read.
    fn in_order_of_meeting<'s>(&self, scan: &'s Scan) -> Vec<&'s View> {
        let views = scan.segments.iter().filter(|view| !self.reaped.contains_key(&view.name));
        let (mut views, new): (Vec<&View>, Vec<&View>) = views.partition(|view| self.is_on_record(view.name));
        let (left, others): (Vec<&View>, Vec<&View>) = new.into_iter().partition(|view| self.is_left_spare(view));
        views.extend(left);
        views.extend(others);
        views
    }

    fn is_on_record(&self, name: SegmentName) -> bool {
        self.is_known(name) || self.checkpoint.segments.iter().any(|record| record.identity().segment == name.id)
    }

    fn is_left_spare(&self, view: &View) -> bool {
        !view.server_holds() && view.index.value().is_none() && self.has_section(view) == Some(false)
    }

    /// Cassandra without blocking, a cleaner or a person may take a segment out of `cdc_raw`; the spool has it still. Those
    /// that never had an index are Cassandra's to drop: nothing of theirs is for us.
    fn notice_foreign_deletions(&mut self, scan: &Scan) {
        for view in scan.segments.iter().filter(|view| !self.reaped.contains_key(&view.name)) {
            let Some(reading) = self.readings.get_mut(&view.name.id) else { continue };
            let was_linked = std::mem::replace(&mut reading.is_linked, view.raw.is_some());
            if was_linked && view.raw.is_none() && reading.index.is_some() {
                tracing::warn!(segment = %view.name, "deleted from cdc_raw before it was done: read on from the spool");
                self.observe.metrics.foreign_deletions.inc();
            }
        }
    }

    fn is_known(&self, name: SegmentName) -> bool {
        self.readings.contains_key(&name.id)
    }

    /// A segment at first sight in this life of the agent.
    fn meet_segment(&mut self, view: &View) -> Result<(), PumpError> {
        let name = view.name;
        let known = self.checkpoint.segments.iter().position(|record| record.identity().segment == name.id);
        if known.is_none() && !self.has_left(name)? {
            return Ok(());
        }
        let at = known.unwrap_or_else(|| {
            let record = self.first_record(view);
            // What it can't come before need not be looked at: most segments are newer than all.
            let records = &self.checkpoint.segments;
            let behind = records.iter().rev().take_while(|record| record.identity().segment > name.id).count();
            let (before, behind) = records.split_at(records.len() - behind);
            let order: Vec<_> = behind.iter().map(|record| self.in_use(record)).collect();
            // What came back was done before all that is here: behind a segment that still grows nobody would get to it.
            let came_back = record.acknowledged() > LogOffset(0);
            let at = if came_back { 0 } else { before.len() + lifecycle::place_of(name.id, &order) };
            self.checkpoint.segments.insert(at, record);
            self.dirty = true;
            at
        });
        if let Some(record) = self.checkpoint.segments.get(at) {
            self.readings.insert(name.id, Reading::new(name, record));
        }
        Ok(())
    }

    /// Whether nothing counts any more for an earlier segment under this id: what is on its way for that one must not be
    /// taken for an acknowledgement of this one.
    fn has_left(&mut self, name: SegmentName) -> Result<bool, PumpError> {
        if self.delivery.ledger.segment() != Some(name.id) {
            return Ok(true);
        }
        if self.delivery.ledger.outstanding() > 0 {
            return Ok(false);
        }
        if let Err(Trouble::Fatal(error)) = self.take_acknowledged() {
            return Err(error);
        }
        self.delivery.forget();
        Ok(true)
    }

    fn in_use(&self, record: &SegmentRecord) -> (SegmentId, bool) {
        let id = record.identity().segment;
        let was_read = record.acknowledged() > LogOffset(0);
        (id, was_read || self.readings.get(&id).is_some_and(Reading::is_in_use))
    }

    /// A new segment has nothing done. One that we deleted and Cassandra linked again while it replayed goes on where its
    /// tombstone says; it is the same only if it begins with the same entry.
    fn first_record(&mut self, view: &View) -> SegmentRecord {
        let (name, inode, now) = (view.name, view.inode(), jiff::Timestamp::now().as_second());
        let buried = self.checkpoint.tombstones.iter().any(|tombstone| tombstone.identity.segment == name.id);
        let first = if buried { self.first_entry_crc(view) } else { None };
        match first.and_then(|first| self.checkpoint.tombstone_of(name.id, first)) {
            Some(tombstone) => {
                tracing::info!(segment = %name, "linked again: it goes on behind what was acknowledged");
                self.observe.metrics.resurrected_segments.inc();
                SegmentRecord::revived(tombstone, name.to_string(), inode, now)
            }
            None => {
                let identity = Identity { segment: name.id, first_entry_crc: None };
                SegmentRecord::new(identity, name.to_string(), inode, now)
            }
        }
    }

    fn first_entry_crc(&self, view: &View) -> Option<u32> {
        let mapped = view.open(self.options.access).ok()?;
        let descriptor = Descriptor::parse(&mapped).ok()?;
        let mut plaintext = Plaintext::new(self.keys.key_for(&mapped).ok()?);
        let mut sections = Sections::new(&mapped, &descriptor, Tail::Live);
        while let Ok(Step::Item(section)) = sections.step() {
            let start = section.start;
            if let Some(Ok(entry)) = Entries::new(plaintext.of(&section, &descriptor).ok()?, start).next() {
                return Some(entry.crc);
            }
        }
        None
    }

    /// Notes what is new about a known segment.
    fn see(&mut self, view: &View) {
        let (id, inode) = (view.name.id, view.inode());
        let Some(reading) = self.readings.get_mut(&id) else { return };
        let had_index = reading.index.is_some();
        reading.see(view.index.value(), view.server_holds());
        let (is_indexed, is_other) = (reading.index.is_some(), reading.inode != inode);
        if is_other {
            // Another file under the name: its first entry says whether it is the same segment.
            reading.begin_again();
            reading.inode = inode;
        }
        if is_other || is_indexed != had_index {
            let mut records = self.checkpoint.segments.iter_mut();
            if let Some(record) = records.find(|record| record.identity().segment == id) {
                let marks = (inode, record.indexed || is_indexed);
                self.dirty |= (record.inode, record.indexed) != marks;
                (record.inode, record.indexed) = marks;
                if is_other {
                    record.readmit();
                }
            }
        }
        if self.readings.get(&id).is_some_and(|reading| reading.read_to.is_none()) {
            let mode = self.early_mode(view);
            if let Some(reading) = self.readings.get_mut(&id) {
                reading.read_to = mode;
            }
        }
    }

    /// A segment has neither its link in `cdc_raw` nor one in the spool any more.
    fn part_from(&mut self, identity: Identity) -> Result<(), PumpError> {
        self.observe.beat(Part::Pump);
        let mut records = self.checkpoint.segments.iter();
        let Some(record) = records.find(|record| record.identity() == identity) else { return Ok(()) };
        let reading = self.readings.get(&identity.segment);
        // What was read of it may be on its way yet.
        if self.options.acknowledges && reading.is_some_and(|reading| reading.read > record.acknowledged()) {
            return Ok(());
        }
        let tally = record.tally();
        // Without an index the server drops it by itself: what was read behind its last marker is no promise.
        let held_changes = tally.entries() > u64::from(tally.not_cdc) && !record.early;
        let is_done = record.state() == SegmentState::Finished
            || reading.is_some_and(|reading| reading.account(record).is_some_and(|account| account.is_ok()));
        let ending = match (is_done, record.indexed || held_changes) {
            (true, _) => Ending::Reaped,
            (false, true) => Ending::Lost,
            (false, false) => Ending::Empty,
        };
        if ending == Ending::Lost {
            if SegmentName::parse(&record.name).is_ok_and(|name| self.is_found_again(name)) {
                return Ok(());
            }
            self.observe.metrics.foreign_deletions.inc();
            self.note_loss(record)?;
        }
        self.readings.remove(&identity.segment);
        self.bury(identity, ending);
        Ok(())
    }

    /// Segments that came and went, with changes in them, while something else kept us from looking. Of one whose index is
    /// there yet the rest may be found.
    fn note_unmet(&mut self, scan: &Scan) -> Result<(), PumpError> {
        for Departed { name, .. } in &scan.departed {
            let buried = self.checkpoint.tombstones.iter().any(|tombstone| tombstone.identity.segment == name.id);
            let is_orphan = scan.orphans.iter().any(|orphan| orphan.name == *name);
            if !buried && !is_orphan && !self.is_on_record(*name) {
                let identity = Identity { segment: name.id, first_entry_crc: None };
                let record = SegmentRecord::new(identity, name.to_string(), 0, jiff::Timestamp::now().as_second());
                self.note_loss(&record)?;
                self.checkpoint.segments.push(record);
                self.bury(identity, Ending::Lost);
            }
        }
        Ok(())
    }

    /// Says durably that the rest of a segment is lost, unless that is said already.
    fn note_loss(&self, record: &SegmentRecord) -> Result<(), PumpError> {
        let (Some(gaps), segment, kind) = (&self.gaps, record.name.as_str(), GapKind::SegmentDeleted) else {
            return Ok(());
        };
        self.observe.metrics.lost_segments.inc();
        if gaps.ends(segment) {
            return Ok(());
        }
        tracing::error!(segment, "it was deleted before all of it was published");
        let gap = GapRecord::of_the_rest(segment.to_owned(), kind, Some(record.acknowledged().0));
        gaps.record_counted(&gap, &self.observe.metrics.gap_records)
            .map_err(|error| PumpError::State("write the gap record of", segment.to_owned(), error))
    }

    pub(super) fn bury(&mut self, identity: Identity, ending: Ending) {
        self.dirty |= self.checkpoint.bury(identity, jiff::Timestamp::now().as_second(), ending).is_some();
    }

    /// The file under a name is another segment than the one that is recorded under it.
    pub(super) fn replace(&mut self, name: SegmentName) -> Result<(), PumpError> {
        let mut records = self.checkpoint.segments.iter();
        let Some(record) = records.find(|record| record.identity().segment == name.id) else { return Ok(()) };
        tracing::error!(segment = %name, "another segment has this one's id and name");
        let is_done = record.state() == SegmentState::Finished;
        let identity = record.identity();
        if !is_done {
            self.note_loss(record)?;
        }
        self.bury(identity, if is_done { Ending::Reaped } else { Ending::Lost });
        // It is met anew with the next scan.
        self.readings.remove(&name.id);
        Ok(())
    }

    /// An index without its segment: what a crash between our two deletions left, or a loss.
    fn meet_orphan(&mut self, name: SegmentName) -> Result<(), PumpError> {
        self.observe.beat(Part::Pump);
        if !self.options.acknowledges || self.readings.contains_key(&name.id) {
            return Ok(());
        }
        let told = |tombstone: &&Tombstone| {
            tombstone.identity.segment == name.id && matches!(tombstone.ending, Ending::Reaped | Ending::Lost)
        };
        let told = self.checkpoint.tombstones.iter().find(told);
        let explained = match told.and_then(|tombstone| Explained::by_tombstone(name, tombstone)) {
            Some(explained) => explained,
            None if self.is_found_again(name) => return Ok(()),
            None => self.explain_by_gap(name)?,
        };
        if let Err(error) = self.keeper.delete_orphan(explained) {
            let detail = format!("delete the index of {name}, whose segment is gone: {error}");
            self.cannot_delete(Hold::new(Reason::Held(HoldReason::CdcRaw), detail));
        }
        Ok(())
    }

    /// The server may still have the segment under its own name: then the spool gets it.
    fn is_found_again(&self, name: SegmentName) -> bool {
        let Some(commitlog) = &self.commitlog else { return false };
        self.keeper.link_from(commitlog, name).unwrap_or_else(|error| {
            tracing::warn!(segment = %name, %error, "link it from {}", commitlog.display());
            false
        })
    }

    fn explain_by_gap(&self, name: SegmentName) -> Result<Explained, PumpError> {
        let segment = name.to_string();
        tracing::error!(segment, "its index is there, the segment is not");
        let explained = Explained::by_gap(name, || match &self.gaps {
            Some(gaps) => {
                let gap = GapRecord::of_the_rest(segment.clone(), GapKind::IndexWithoutLog, None);
                gaps.record_counted(&gap, &self.observe.metrics.gap_records)
            }
            None => Err(std::io::Error::other("no gap records are kept")),
        });
        let explained = explained.map_err(|error| PumpError::State("write the gap record of", segment, error))?;
        self.observe.metrics.lost_segments.inc();
        Ok(explained)
    }
}
