//! Days and seconds since 1970 as dates.
//!
//! Owns: the proleptic Gregorian calendar, no more of it than is printed. Does not own: clocks, time zones.

/// Year, month and day of a day since 1970-01-01 (Howard Hinnant's `civil_from_days`). Right for every `i32` day.
pub(crate) fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day.saturating_add(719_468);
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, date)
}

/// `YYYY-MM-DD`, with a minus before years below 0; nothing for years that four digits can't say.
pub(crate) fn push_date(out: &mut Vec<u8>, day: i64) -> bool {
    let (year, month, date) = civil(day);
    if !(-9999..=9999).contains(&year) {
        return false;
    }
    if year < 0 {
        out.push(b'-');
    }
    push_padded(out, year.unsigned_abs(), 4);
    out.push(b'-');
    push_padded(out, month.unsigned_abs(), 2);
    out.push(b'-');
    push_padded(out, date.unsigned_abs(), 2);
    true
}

/// `HH:MM:SS` of a second of a day.
pub(crate) fn push_clock(out: &mut Vec<u8>, second: u64) {
    push_padded(out, second / 3600, 2);
    out.push(b':');
    push_padded(out, second / 60 % 60, 2);
    out.push(b':');
    push_padded(out, second % 60, 2);
}

/// A number with leading zeros.
pub(crate) fn push_padded(out: &mut Vec<u8>, number: u64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(number);
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(text.len())));
    out.extend_from_slice(text.as_bytes());
}

/// RFC 3339 in UTC of a second since 1970; seconds beyond the year 9999 are told as the last one before.
pub(crate) fn push_rfc3339(out: &mut Vec<u8>, second: i64) {
    let second = second.clamp(-62_167_219_200, 253_402_300_799);
    push_date(out, second.div_euclid(86_400));
    out.push(b'T');
    push_clock(out, second.rem_euclid(86_400).unsigned_abs());
    out.push(b'Z');
}
