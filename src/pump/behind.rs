//! Since when bytes wait that could be read, and how fast `cdc_raw` fills.
//!
//! Owns: what both need to remember of the past. Does not own: how far segments are readable and acknowledged, how much
//! is in `cdc_raw` (`report` tells, about once a second).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cassandra_commitlog::LogOffset;

/// Moments kept of a segment: beyond them the two nearest become one.
const MARKS: usize = 64;

/// When the readable end of a segment was where, seconds since 1970, for what is not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Behind {
    marks: VecDeque<(LogOffset, i64)>,
}

impl Behind {
    /// How things stand now.
    pub(super) fn see(&mut self, readable: LogOffset, acknowledged: LogOffset, now: i64) {
        while self.marks.front().is_some_and(|(end, _)| *end <= acknowledged) {
            self.marks.pop_front();
        }
        let known = self.marks.back().map_or(acknowledged, |(end, _)| *end);
        if readable > known {
            if self.marks.len() >= MARKS {
                self.thin();
            }
            self.marks.push_back((readable, now));
        }
    }

    /// Since when the first byte that is not acknowledged has been readable.
    pub(super) fn since(&self) -> Option<i64> {
        self.marks.front().map(|(_, at)| *at)
    }

    /// Of two neighbours the earlier moment and the later end stay: ages are never shown too low.
    fn thin(&mut self) {
        let moments: Vec<i64> = self.marks.iter().map(|(_, at)| *at).collect();
        let spans = moments.windows(3).map(|three| three[2].saturating_sub(three[0])).enumerate();
        let Some((nearest, _)) = spans.min_by_key(|(_, span)| *span) else { return };
        if let Some((end, _)) = self.marks.remove(nearest + 1) {
            self.marks[nearest].0 = end;
        }
    }
}

/// How often the fill is measured.
const STEP: Duration = Duration::from_secs(30);

/// Measurements kept: segments come and go whole, and over less than minutes the rate says only that one did.
const STEPS: usize = 20;

/// How fast `cdc_raw` fills.
#[derive(Debug, Default)]
pub(super) struct Fill {
    measured: VecDeque<(Instant, u64)>,
    rate: f64,
}

impl Fill {
    /// Growth in bytes a second over the last minutes; 0 until there are two measurements.
    pub(super) fn rate(&mut self, bytes: u64, now: Instant) -> f64 {
        if self.measured.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= STEP) {
            if let Some((at, before)) = self.measured.front() {
                self.rate = (bytes as f64 - *before as f64) / now.saturating_duration_since(*at).as_secs_f64();
            }
            self.measured.push_back((now, bytes));
            if self.measured.len() > STEPS {
                self.measured.pop_front();
            }
        }
        self.rate
    }
}

/// Seconds until so much is full: 0 where not even one segment more fits, for Cassandra links none then; none if never.
pub(super) fn time_to_full(bytes: u64, limit: u64, segment: u64, rate: f64) -> Option<f64> {
    let left = limit.saturating_sub(bytes);
    if left < segment.max(1) {
        return Some(0.0);
    }
    (rate > 0.0).then(|| left as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(behind: &mut Behind, readable: u32, acknowledged: u32, now: i64) -> Option<i64> {
        behind.see(LogOffset(readable), LogOffset(acknowledged), now);
        behind.since()
    }

    #[test]
    fn the_age_is_that_of_the_first_byte_that_waits() {
        let mut behind = Behind::default();
        assert_eq!(see(&mut behind, 0, 0, 1), None);
        assert_eq!(see(&mut behind, 100, 0, 10), Some(10));
        assert_eq!(see(&mut behind, 200, 0, 20), Some(10));
        assert_eq!(see(&mut behind, 200, 99, 30), Some(10), "one byte of the first hundred waits");
        assert_eq!(see(&mut behind, 300, 100, 40), Some(20));
        assert_eq!(see(&mut behind, 300, 300, 50), None);
        assert_eq!(see(&mut behind, 300, 300, 5000), None, "nothing waits in a segment that stays");
        assert_eq!(see(&mut behind, 301, 300, 6000), Some(6000));
    }

    #[test]
    fn a_busy_segment_that_is_followed_is_never_old() {
        let mut behind = Behind::default();
        for now in 1..10_000 {
            let end = u32::try_from(now).unwrap() * 10;
            assert!(see(&mut behind, end, end.saturating_sub(15), now).unwrap() >= now - 1);
        }
    }

    #[test]
    fn hours_take_no_room_and_ages_are_not_shown_too_low() {
        let mut behind = Behind::default();
        for now in 1..100_000 {
            let end = u32::try_from(now).unwrap();
            assert_eq!(see(&mut behind, end, 0, now), Some(1));
            assert!(behind.marks.len() <= MARKS);
        }
        // The byte behind 50,000 was readable at 50,001; a mark covers a few thousand here.
        let since = see(&mut behind, 99_999, 50_000, 100_000).unwrap();
        assert!((40_000..=50_001).contains(&since), "{since}");
    }

    #[test]
    fn one_segment_that_comes_and_goes_is_no_trend() {
        let (mut fill, start) = (Fill::default(), Instant::now());
        let mut at = |seconds, bytes| fill.rate(bytes, start + Duration::from_secs(seconds));
        assert_eq!((at(0, 1000), at(29, 9000)), (0.0, 0.0), "too early to tell");
        assert_eq!(at(30, 1600), 20.0);
        assert_eq!(at(60, 1000), 0.0, "it is gone again");
        for step in 3..100 {
            at(step * 30, 1000);
        }
        assert_eq!(at(3000, 1600), 1.0, "over twenty steps");
        assert_eq!(at(3001, 0), 1.0, "until the next step");
        assert!(at(3030, 430) < 0.0, "it empties");
    }

    #[test]
    fn full_is_where_no_segment_fits_any_more() {
        assert_eq!(time_to_full(0, 100, 32, 2.0), Some(50.0));
        assert_eq!(time_to_full(69, 100, 32, 0.0), Some(0.0), "Cassandra links no other one, and so nothing grows");
        assert_eq!(time_to_full(200, 100, 32, -5.0), Some(0.0));
        assert_eq!(time_to_full(68, 100, 32, 0.0), None);
        assert_eq!(time_to_full(10, 10, 0, 0.0), Some(0.0));
    }
}
