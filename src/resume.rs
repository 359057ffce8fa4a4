//! The place of a replay, kept in a file.
//!
//! Owns: the file: one JSON object. Does not own: which place may be kept (the ledger's
//! watermark).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cassandra_commitlog::{LogOffset, SegmentName};
use cassandra_progress::Watermark;
use serde::{Deserialize, Serialize};

use crate::durable_file;
use crate::exit::{Exit, Failure};

/// A resume file.
#[derive(Debug)]
pub struct ResumeFile {
    path: PathBuf,
    replay: String,
    kept: Option<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    /// What was replayed: a place in another replay means nothing.
    replay: String,
    segment: String,
    position: u32,
}

impl ResumeFile {
    /// Reads the file if it exists. `replay` says what is replayed: what is chosen, and where it goes.
    ///
    /// # Errors
    /// It can't be read, or holds something else, or the place of another replay.
    pub fn open(path: &Path, replay: &str) -> Result<Self, Failure> {
        let kept: Option<Place> = match fs::read(path) {
            Ok(text) => Some(serde_json::from_slice(&text).map_err(|error| {
                let text = format!("{}: not a resume file: {error}; remove it to begin anew", path.display());
                Failure::text(Exit::Config, text)
            })?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::io(path.display(), error)),
        };
        if kept.as_ref().is_some_and(|place| place.replay != replay) {
            let text = format!(
                "{}: the place of a replay with other options; give the same ones, or remove the file to begin anew",
                path.display()
            );
            return Err(Failure::text(Exit::Usage, text));
        }
        Ok(Self { path: path.to_owned(), replay: replay.to_owned(), kept })
    }

    /// The kept place: a segment's file name, and the end of the last entry in it that is done.
    pub fn place(&self) -> Option<(&str, LogOffset)> {
        self.kept.as_ref().map(|place| (place.segment.as_str(), LogOffset(place.position)))
    }

    /// Keeps a place.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn keep(&mut self, segment: SegmentName, watermark: &Watermark) -> Result<(), Failure> {
        let place = Place {
            replay: self.replay.clone(),
            segment: segment.to_string(),
            position: watermark.position().offset.0,
        };
        if self.kept.as_ref() == Some(&place) {
            return Ok(());
        }
        let cannot = |error| Failure::io(self.path.display(), error);
        let mut text = serde_json::to_vec(&place).map_err(|error| cannot(error.into()))?;
        text.push(b'\n');
        durable_file::replace(&self.path, &text, "resume").map_err(cannot)?;
        self.kept = Some(place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cassandra_commitlog::{Position, SegmentId};
    use cassandra_progress::{Ledger, Outcome, Window};

    #[test]
    fn a_place_is_found_again_and_other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resume.json");
        let mut file = ResumeFile::open(&path, "all").unwrap();
        assert_eq!(file.place(), None);
        let mut ledger = Ledger::new(Window::default());
        ledger.read_to(Position { segment: SegmentId(9), offset: LogOffset(77) }, Outcome::Published);
        let name = SegmentName::parse("CommitLog-7-9.log").unwrap();
        file.keep(name, &ledger.watermark().unwrap()).unwrap();
        let again = ResumeFile::open(&path, "all").unwrap();
        assert_eq!(again.place(), Some(("CommitLog-7-9.log", LogOffset(77))));
        assert_eq!(ResumeFile::open(&path, "other").unwrap_err().exit, Exit::Usage);
        fs::write(&path, "{}").unwrap();
        assert_eq!(ResumeFile::open(&path, "all").unwrap_err().exit, Exit::Config);
    }
}
