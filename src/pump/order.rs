//! All segments, in their order.
//!
//! Owns: which segment is read next, and when others have their turn. Does not own: how far a segment may be read
//! (`lifecycle`), reading one (`segment`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cassandra_commitlog::{LogOffset, SegmentId};
use cassandra_progress::SegmentState;

use super::hold::{Hold, Proof, Reason};
use super::{Pump, Trouble};
use crate::cdc_raw::Index;
use crate::interrupt;
use crate::keeper::{Scan, View};
use crate::lifecycle::{self, Extent};
use crate::observe::HoldReason;

/// How long is read at a stretch before what is acknowledged is taken over, saved and deleted.
const SLICE: Duration = Duration::from_millis(250);

impl Pump {
    /// Reads every segment as far as it may be read, in order, until it is the others' turn.
    pub(super) fn read(&mut self, scan: &Scan) -> Result<(), Trouble> {
        let is_read = self.read_of == Some(scan.number) && !self.paused;
        // While Kafka is away only this look costs anything, however many segments wait.
        if is_read || (self.paused && !self.has_room()) {
            return Ok(());
        }
        (self.slice, self.paused, self.at_end) = (Instant::now() + SLICE, false, None);
        let before = self.events;
        let views = self.in_order(scan);
        let read_to = self.options.read_to;
        let sightings: Vec<_> = views
            .iter()
            .filter_map(|view| Some(self.readings.get(&view.name.id)?.sighting(view.name, read_to)))
            .collect();
        let mut is_written = false;
        for (at, (view, extent)) in views.iter().zip(lifecycle::extents(&sightings)).enumerate() {
            if interrupt::came() {
                break;
            }
            check_version(scan, Some(view.name.id))?;
            self.check_index(view)?;
            self.read_segment(view, extent)?;
            if self.paused {
                // It may not have come to the place of the hold.
                let is_past = self.hold.as_ref().is_some_and(|hold| self.is_past(hold));
                if is_past && self.events != before {
                    self.go_on(Proof::Read { outstanding: self.delivery.ledger.outstanding() });
                }
                return Ok(());
            }
            if !extent.may_be_passed() {
                self.reach_end(view, views.get(at + 1), extent);
                is_written = view.server_holds();
                break;
            }
        }
        if !is_written {
            check_version(scan, None)?;
        }
        // What is read ahead of the index goes on without a new look: the next segment may be begun by now.
        self.read_of = self.at_end.is_none().then_some(scan.number);
        self.go_on(Proof::Read { outstanding: self.delivery.ledger.outstanding() });
        Ok(())
    }

    /// Where reading stands in the segment that is being written.
    fn reach_end(&mut self, view: &View, next: Option<&View>, extent: Extent) {
        if extent == Extent::Visible {
            self.at_end = Some(view.clone());
            let has_section = next.is_some_and(|next| self.has_section(next) == Some(true));
            if let Some(reading) = next.and_then(|next| self.readings.get_mut(&next.name.id)) {
                reading.has_section |= has_section;
            }
        }
    }

    /// The segments of a scan that are not set aside, in the order of their records.
    fn in_order(&self, scan: &Scan) -> Vec<View> {
        let by_id: BTreeMap<SegmentId, &View> = scan.segments.iter().map(|view| (view.name.id, view)).collect();
        let records = self.checkpoint.segments.iter().filter(|record| record.state() != SegmentState::Quarantined);
        records
            .filter(|record| self.readings.contains_key(&record.identity().segment))
            .filter_map(|record| by_id.get(&record.identity().segment).map(|view| (*view).clone()))
            .collect()
    }

    fn check_index(&self, view: &View) -> Result<(), Trouble> {
        if !matches!(view.index, Index::Invalid { .. }) {
            return Ok(());
        }
        let read = self.readings.get(&view.name.id).map_or(LogOffset(0), |reading| reading.read);
        let detail = format!("the index of {} holds no number", view.name);
        Err(Hold::new(Reason::Held(HoldReason::InvalidIndex), detail).at(view.name, read).into())
    }
}

/// Whether a segment that this release can't read comes before this one, or at all: what follows it waits for it.
fn check_version(scan: &Scan, before: Option<SegmentId>) -> Result<(), Trouble> {
    match scan.unknown.first().filter(|unknown| before.is_none_or(|before| unknown.id < before)) {
        Some(unknown) => {
            let detail = format!("{} has a commit-log version that this release does not read", unknown.name);
            Err(Hold::new(Reason::Held(HoldReason::UnknownVersion), detail).into())
        }
        None => Ok(()),
    }
}
