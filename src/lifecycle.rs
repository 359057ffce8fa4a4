//! What may be read of each segment, which of them have ended, and in which order they come.
//!
//! Owns: the rules, as functions of what was seen. Does not own: seeing it (`cdc_raw`, `spool`), reading (`pump`), the
//! right to delete (`cassandra-progress`).
//!
//! A server writes one segment after another. It links each into `cdc_raw` when it makes it, syncs them in their order,
//! and writes an index beside a segment with the first sync behind its first change of a CDC table. So a segment without
//! an index, in front of one that has one, holds no such change; and one whose index never says `COMPLETED` has ended all
//! the same once the server holds no name of it any more while a later one is in use.

use std::time::Duration;

use cassandra_commitlog::{CdcIndex, FormatVersion, LogOffset, SegmentId, SegmentName};

/// How far reading goes before the index allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadTo {
    /// Not at all: what the index names is fsynced.
    Synced,
    /// To the last sync marker.
    Marked,
    /// To the last whole entry.
    Written,
}

impl ReadTo {
    /// The word in configuration and status.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Marked => "marked",
            Self::Written => "written",
        }
    }
}

/// How long a segment that the server has let go of must stay as it is before it counts as ended without `COMPLETED`:
/// between a switch and its index the longest seen was a seventh of a second.
pub const ABANDONED_AFTER: Duration = Duration::from_secs(10);

/// One segment as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// Its name.
    pub name: SegmentName,
    /// What its index says; none while there is no index, or an empty one that never said anything.
    pub index: Option<CdcIndex>,
    /// Whether the server still has a name of its own for the file.
    pub server_holds: bool,
    /// How long index and names have been as they are.
    pub unchanged: Duration,
    /// Whether a section with entries is closed in it, where somebody looked.
    pub has_section: bool,
    /// How far reading may go before the index, in this segment: others than mapped plain ones show nothing earlier.
    pub read_to: ReadTo,
    /// Whether it was read to its end already, in this life or an earlier one: it had ended then.
    pub is_finished: bool,
}

/// How far a segment may be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Not at all.
    Nothing,
    /// To this position, which is durable.
    Durable(LogOffset),
    /// To the last marker, or the last whole entry.
    Visible,
    /// To the end of its chain: what is there is complete, but the server may still name it in an index.
    Chain,
    /// To the end of its chain, and nothing will come any more.
    Ended,
}

impl Extent {
    /// Whether reading may go on in the next segment once this one is read so far. Behind a segment that may still get
    /// changes nothing is read: they would come too late.
    pub const fn may_be_passed(self) -> bool {
        matches!(self, Self::Chain | Self::Ended)
    }
}

/// How far each of these segments may be read. They stand in their order.
pub fn extents(segments: &[Sighting]) -> Vec<Extent> {
    let mut later = Later::default();
    let mut extents: Vec<Extent> = segments.iter().rev().map(|segment| extent(segment, &mut later)).collect();
    extents.reverse();
    extents
}

/// What stands behind a segment.
#[derive(Debug, Clone, Copy, Default)]
struct Later {
    /// One with an index, or with a closed section: syncs go in order, so all before it are synced.
    in_use: bool,
    /// One that the server holds: the server lives, or lived, after this one.
    held: bool,
}

fn extent(segment: &Sighting, later: &mut Later) -> Extent {
    let behind = *later;
    later.in_use |= segment.index.is_some() || segment.has_section;
    later.held |= segment.server_holds;
    // 3.11 moves a segment here when it has ended, and writes no index.
    let moved_here = segment.name.version == FormatVersion::V6 && segment.index.is_none();
    let abandoned = !segment.server_holds && (behind.in_use || behind.held) && segment.unchanged >= ABANDONED_AFTER;
    match segment.index {
        Some(CdcIndex::Sealed(_)) => Extent::Ended,
        _ if segment.is_finished || moved_here || abandoned => Extent::Ended,
        Some(CdcIndex::Growing(durable)) if segment.read_to == ReadTo::Synced => Extent::Durable(durable),
        Some(CdcIndex::Growing(_)) => Extent::Visible,
        None if behind.in_use => Extent::Chain,
        None if segment.read_to == ReadTo::Synced => Extent::Nothing,
        None => Extent::Visible,
    }
}

/// Where a segment at first sight comes in: ids order the segments of one run of the server, and runs go by first sight,
/// because after some restarts ids begin below those before. So a new one goes behind all that are known, and only in
/// front of those of higher ids at the end that were never in use: a spare is linked before a segment whose link had to
/// wait for space. A spare that the server let go of counts as used: its run is over.
pub fn place_of(new: SegmentId, known: &[(SegmentId, bool)]) -> usize {
    let unused_behind = known.iter().rev().take_while(|(id, in_use)| *id > new && !in_use).count();
    known.len() - unused_behind
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROWING: Option<CdcIndex> = Some(CdcIndex::Growing(LogOffset(100)));
    const SEALED: Option<CdcIndex> = Some(CdcIndex::Sealed(LogOffset(100)));

    fn segment(id: i64, index: Option<CdcIndex>, server_holds: bool) -> Sighting {
        Sighting {
            name: SegmentName { version: FormatVersion::V7, id: SegmentId(id) },
            index,
            server_holds,
            unchanged: Duration::ZERO,
            has_section: false,
            read_to: ReadTo::Synced,
            is_finished: false,
        }
    }

    #[test]
    fn a_running_node_has_ended_growing_and_spare_segments() {
        let node =
            [segment(1, SEALED, false), segment(2, SEALED, true), segment(3, GROWING, true), segment(4, None, true)];
        let durable = Extent::Durable(LogOffset(100));
        assert_eq!(extents(&node), [Extent::Ended, Extent::Ended, durable, Extent::Nothing]);
    }

    #[test]
    fn without_an_index_a_segment_is_complete_once_a_later_one_is_synced() {
        let before = [segment(1, None, true), segment(2, None, true)];
        assert_eq!(extents(&before), [Extent::Nothing, Extent::Nothing]);
        let after = [segment(1, None, true), segment(2, GROWING, true)];
        assert_eq!(extents(&after)[0], Extent::Chain);
        assert!(extents(&after)[0].may_be_passed() && !extents(&after)[1].may_be_passed());
    }

    #[test]
    fn what_the_server_let_go_of_has_ended_once_it_stays_so_and_the_server_went_on() {
        let mut stuck = [segment(1, GROWING, false), segment(2, None, true)];
        assert_eq!(extents(&stuck)[0], Extent::Durable(LogOffset(100)));
        stuck[0].unchanged = ABANDONED_AFTER;
        assert_eq!(extents(&stuck)[0], Extent::Ended);
        // Alone it may be the last one of a node that is down: its server may come back and complete it.
        assert_eq!(extents(&stuck[..1])[0], Extent::Durable(LogOffset(100)));
        // A phantom: the spare of a clean stop.
        let mut phantom = [segment(1, None, false), segment(9, None, true)];
        phantom[0].unchanged = ABANDONED_AFTER;
        assert_eq!(extents(&phantom), [Extent::Ended, Extent::Nothing]);
    }

    #[test]
    fn the_early_modes_see_what_is_visible() {
        for read_to in [ReadTo::Marked, ReadTo::Written] {
            let mut node = [segment(1, None, true), segment(2, None, true), segment(3, SEALED, true)];
            for segment in &mut node {
                segment.read_to = read_to;
            }
            assert_eq!(extents(&node[..2]), [Extent::Visible, Extent::Visible]);
            node[1].has_section = true;
            assert_eq!(extents(&node[..2]), [Extent::Chain, Extent::Visible]);
            assert_eq!(extents(&node), [Extent::Chain, Extent::Chain, Extent::Ended]);
        }
    }

    /// A link that a crash left where finished segments are moved to looks like one of the server's.
    #[test]
    fn what_is_finished_has_ended_whoever_holds_it() {
        let mut node = [segment(1, None, true), segment(2, GROWING, true)];
        assert_eq!(extents(&node)[0], Extent::Chain);
        node[0].is_finished = true;
        assert_eq!(extents(&node)[0], Extent::Ended);
    }

    #[test]
    fn segments_of_3_11_have_ended_when_they_appear() {
        let mut moved = segment(1, None, false);
        moved.name.version = FormatVersion::V6;
        assert_eq!(extents(&[moved]), [Extent::Ended]);
    }

    #[test]
    fn new_segments_go_behind_the_known_ones_but_for_unused_spares() {
        let id = SegmentId;
        assert_eq!(place_of(id(5), &[]), 0);
        assert_eq!(place_of(id(5), &[(id(3), true), (id(4), true)]), 2);
        // The link of 5 had to wait for space; 6 is the spare.
        assert_eq!(place_of(id(5), &[(id(4), true), (id(6), false)]), 1);
        // Ids began anew: 5 is a later run than 6.
        assert_eq!(place_of(id(5), &[(id(4), true), (id(6), true)]), 2);
        // The same; 7 is the spare of the run before.
        assert_eq!(place_of(id(5), &[(id(4), true), (id(6), true), (id(7), true)]), 3);
    }
}
