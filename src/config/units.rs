//! Sizes and likeness of words.
//!
//! Owns: sizes as text, with binary units as Cassandra writes them, and which known word a wrong one was meant to be.
//! Does not own: which keys have sizes.

/// Units and their bytes.
const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Reads a size such as `4GiB`; a number alone counts bytes.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let factor = if unit.is_empty() { Some(1) } else { unit_bytes(unit) };
    let wrong = || "a size is a number with B, KiB, MiB, GiB or TiB, such as 4GiB".to_owned();
    number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor)).ok_or_else(wrong)
}

fn unit_bytes(unit: &str) -> Option<u64> {
    UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, bytes)| *bytes)
}

/// A size in the largest unit that divides it.
pub(crate) fn size(bytes: u64) -> String {
    let fits = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    let (name, unit) = UNITS.iter().take(5).rev().find(fits).copied().unwrap_or(("B", 1));
    format!("{}{name}", bytes / unit)
}

/// The known word that is nearest to a wrong one, if any is near: a third of its letters may differ, or its end be
/// missing.
pub(super) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |word: &str| if wrong.len() > 3 && word.starts_with(wrong) { 1 } else { distance(wrong, word) };
    let (distance, word) = known.map(|word| (distance(word), word)).min()?;
    (distance <= wrong.len().div_ceil(3)).then_some(word)
}

/// Letters to be changed, added or left out to make one word of another.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, letter) in from.chars().enumerate() {
        let mut diagonal = above;
        let mut left = above + 1;
        let mut next = vec![left];
        for (other, up) in to.iter().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(letter != *other)).min(left + 1).min(up + 1);
            diagonal = *up;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [("0", 0), ("17", 17), ("900KiB", 921_600), ("4 GiB", 4 << 30), ("1MB", 1_000_000)] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        assert_eq!(bytes("32mib"), Ok(32 << 20));
        for text in ["", "GiB", "-1", "4.5GiB", "4 gibberish", "99999999999TiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        for text in ["0B", "1B", "900KiB", "4GiB", "5120MiB", "1TiB"] {
            assert_eq!(bytes(&size(bytes(text).unwrap())), bytes(text));
        }
        assert_eq!(size(4 << 30), "4GiB");
        assert_eq!(size(1000), "1000B");
    }

    #[test]
    fn the_nearest_word_is_found() {
        let words = ["bootstrap", "prefix", "format", "topic"];
        assert_eq!(nearest("bootstrp", words.into_iter()), Some("bootstrap"));
        assert_eq!(nearest("bootsrtap", words.into_iter()), Some("bootstrap"));
        assert_eq!(nearest("topics", words.into_iter()), Some("topic"));
        assert_eq!(nearest("password", ["passport", "password_file"].into_iter()), Some("password_file"));
        assert_eq!(nearest("zookeeper", words.into_iter()), None);
        assert_eq!((distance("", "abc"), distance("abc", ""), distance("kitten", "sitting")), (3, 3, 3));
    }
}
