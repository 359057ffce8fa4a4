//! `CommitLog-<version>-<id>.log`, both numbers decimal; the CDC index beside it is `CommitLog-<version>-<id>_cdc.idx`.
//!
//! Owns: the two file names. Does not own: which files there are.

use alloc::string::{String, ToString};
use core::fmt;

use crate::error::{Cause, DecodeError, Place, Structure};
use crate::units::{FormatVersion, SegmentId};

/// The parsed name of a segment file; prints back identically.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SegmentName {
    /// The commit-log version in the name; the header must say the same.
    pub version: FormatVersion,
    /// The segment's id; the header must say the same.
    pub id: SegmentId,
}

impl SegmentName {
    /// Parses `CommitLog-<version>-<id>.log`.
    ///
    /// # Errors
    /// A name of another form, and a version that this crate does not read.
    pub fn parse(name: &str) -> Result<Self, DecodeError> {
        let (number, id) = numbers(name).map_err(|broken| refuse(Cause::Broken(broken)))?;
        let version = FormatVersion::from_number(number)
            .ok_or_else(|| refuse(Cause::Unknown { what: "commit-log version", value: number.to_string() }))?;
        Ok(Self { version, id })
    }

    /// The id in the name of a segment whose version this crate does not read: of a release that is newer than it.
    pub fn of_unknown_version(name: &str) -> Option<SegmentId> {
        let (number, id) = numbers(name).ok()?;
        FormatVersion::from_number(number).is_none().then_some(id)
    }

    /// The name of the CDC index beside the segment.
    pub fn index_name(&self) -> String {
        alloc::format!("CommitLog-{}-{}_cdc.idx", self.version.number(), self.id)
    }
}

fn refuse(cause: Cause) -> DecodeError {
    DecodeError { at: Place::Bytes(0), structure: Structure::SegmentName, cause }
}

/// The version and the id in a name, or what is wrong with it.
fn numbers(name: &str) -> Result<(i32, SegmentId), &'static str> {
    let numbers = name.strip_prefix("CommitLog-").and_then(|rest| rest.strip_suffix(".log"));
    let numbers = numbers.and_then(|numbers| numbers.split_once('-'));
    let (version, id) = numbers.ok_or("not of the form CommitLog-<version>-<id>.log")?;
    let version = decimal(version).ok_or("its version is not a number")?;
    let id = decimal(id).ok_or("its id is not a number")?;
    Ok((version, SegmentId(id)))
}

/// A number in the one decimal form that prints back identically.
fn decimal<N: core::str::FromStr>(digits: &str) -> Option<N> {
    let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
    canonical.then(|| digits.parse().ok()).flatten()
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommitLog-{}-{}.log", self.version.number(), self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_name_prints_back_identically() {
        let name = SegmentName::parse("CommitLog-7-1795246746292.log").unwrap();
        assert_eq!((name.version, name.id), (FormatVersion::V7, SegmentId(1795246746292)));
        assert_eq!(name.to_string(), "CommitLog-7-1795246746292.log");
        assert_eq!(name.index_name(), "CommitLog-7-1795246746292_cdc.idx");
    }

    #[test]
    fn other_names_are_refused() {
        for name in [
            "CommitLog-1.log",
            "CommitLog-7-x.log",
            "CommitLog-7-1.log.gz",
            "CommitLog-07-1.log",
            "commitlog-7-1.log",
            "CommitLog-7-+1.log",
            "CommitLog-7-99999999999999999999.log",
            "CommitLog-7-.log",
        ] {
            assert!(SegmentName::parse(name).is_err(), "{name}");
        }
        let unknown = SegmentName::parse("CommitLog-42-1.log").unwrap_err();
        assert_eq!(unknown.to_string(), "segment name at byte 0: unknown commit-log version 42");
        assert_eq!(SegmentName::of_unknown_version("CommitLog-42-1.log"), Some(SegmentId(1)));
        for known_or_none in ["CommitLog-7-1.log", "CommitLog-042-1.log", "CommitLog-42-1_cdc.idx"] {
            assert_eq!(SegmentName::of_unknown_version(known_or_none), None, "{known_or_none}");
        }
    }
}
