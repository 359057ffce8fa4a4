//! The segments that a command line names.
//!
//! Owns: files and folders turned into segments in log order. Does not own: watching a live `cdc_raw` (`cdc_raw`).

use std::fs;
use std::path::{Path, PathBuf};

use cassandra_commitlog::{CdcIndex, SegmentName, Tail};

use crate::exit::{Exit, Failure};

/// A segment file and the index beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFile {
    /// The parsed name.
    pub name: SegmentName,
    /// Where it lies.
    pub path: PathBuf,
    /// What the index beside it says, if there is one and it can be read.
    pub index: Option<CdcIndex>,
}

impl SegmentFile {
    /// Whether more may come: only an index that still grows says so. A copy without its index is taken as it is.
    pub fn tail(&self) -> Tail {
        match self.index {
            Some(CdcIndex::Growing(_)) => Tail::Live,
            Some(CdcIndex::Sealed(_)) | None => Tail::Sealed,
        }
    }
}

/// All segments among these files and folders, in the order of their ids.
///
/// # Errors
/// A path that can't be read, a file that is no segment, a folder without segments.
pub fn find(paths: &[PathBuf]) -> Result<Vec<SegmentFile>, Failure> {
    let mut segments = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(|error| Failure::io(path.display(), error))?;
        if metadata.is_dir() {
            segments.extend(in_folder(path)?);
        } else {
            segments.push(segment(path)?);
        }
    }
    segments.sort_by_key(|segment| segment.name.id);
    distinct(segments)
}

/// Drops what was named twice. Two files under one segment's name are refused: one of them would be published twice.
fn distinct(segments: Vec<SegmentFile>) -> Result<Vec<SegmentFile>, Failure> {
    let mut distinct: Vec<SegmentFile> = Vec::new();
    for segment in segments {
        match distinct.last() {
            Some(last) if last.name == segment.name => {
                let same = |path: &Path| fs::canonicalize(path).map_err(|error| Failure::io(path.display(), error));
                if same(&last.path)? != same(&segment.path)? {
                    let text = format!(
                        "{} and {} are one segment: name one of them",
                        last.path.display(),
                        segment.path.display()
                    );
                    return Err(Failure::text(Exit::Usage, text));
                }
            }
            _ => distinct.push(segment),
        }
    }
    Ok(distinct)
}

fn in_folder(folder: &Path) -> Result<Vec<SegmentFile>, Failure> {
    let cannot = |error| Failure::io(folder.display(), error);
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("CommitLog-") && name.ends_with(".log") {
            segments.push(segment(&path)?);
        }
    }
    if segments.is_empty() {
        let text = format!(
            "{}: no commit-log segments here (files named CommitLog-<version>-<id>.log); name the node's cdc_raw \
             directory or a copy of it",
            folder.display()
        );
        return Err(Failure::text(Exit::Failed, text));
    }
    Ok(segments)
}

fn segment(path: &Path) -> Result<SegmentFile, Failure> {
    let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = SegmentName::parse(file_name)
        .map_err(|error| Failure::text(Exit::Corrupt, format!("{}: {error}", path.display())))?;
    let index = fs::read(path.with_file_name(name.index_name())).ok();
    let index = index.and_then(|text| CdcIndex::parse(&text).ok().flatten());
    Ok(SegmentFile { name, path: path.to_owned(), index })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_segments_by_id_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["CommitLog-7-10.log", "CommitLog-7-9.log", "CommitLog-7-10_cdc.idx", "notes.txt"] {
            fs::write(folder.path().join(name), "12\nCOMPLETED").unwrap();
        }
        let found = find(&[folder.path().to_owned()]).unwrap();
        let ids: Vec<i64> = found.iter().map(|segment| segment.name.id.0).collect();
        assert_eq!(ids, [9, 10]);
        assert_eq!(found[0].index, None);
        assert!(matches!(found[1].index, Some(CdcIndex::Sealed(_))));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let empty = find(&[folder.path().to_owned()]).unwrap_err();
        assert_eq!(empty.exit, Exit::Failed);
        assert!(empty.to_string().contains("no commit-log segments"));
        let missing = find(&[folder.path().join("CommitLog-7-1.log")]).unwrap_err();
        assert_eq!(missing.exit, Exit::Io);
        let other = folder.path().join("CommitLog-42-1.log");
        fs::write(&other, "").unwrap();
        let unknown = find(&[other]).unwrap_err();
        assert_eq!(unknown.exit, Exit::Corrupt);
        assert!(unknown.to_string().contains("unknown commit-log version 42"));
    }
}
