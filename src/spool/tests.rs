//! Where a spool may be, what can be linked into it, and what it gives up.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;
use crate::cdc_raw::tests::{log, name};

const LIMITS: Limits = Limits { max_bytes: 100, min_free: None };

struct Folders {
    parent: TempDir,
}

impl Folders {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join("cdc_raw")).unwrap();
        Self { parent }
    }

    fn raw(&self) -> PathBuf {
        self.parent.path().join("cdc_raw")
    }

    fn spool(&self) -> PathBuf {
        self.parent.path().join("spool")
    }

    fn open(&self) -> Result<Spool, SpoolError> {
        Spool::open(&self.spool(), &self.raw(), LIMITS)
    }

    fn link(&self, spool: &Spool, id: i64) -> Result<Option<Meta>, SpoolError> {
        spool.link(folder::open_directory(&self.raw()).unwrap().as_fd(), name(id))
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn what_a_killed_probe_left_is_no_segment_and_goes() {
    let folders = Folders::new();
    let segment = folders.raw().join(log(1));
    fs::write(&segment, "x").unwrap();
    let left = |number| folders.spool().join(format!("{PROBE}{number}"));
    let spool = folders.open().unwrap();
    fs::hard_link(&segment, left(1)).unwrap();
    assert_eq!(spool.scan().unwrap().segments.len(), 0);
    drop(spool);
    let spool = folders.open().unwrap();
    assert!(!left(1).exists() && segment.exists());
    assert_eq!(fs::metadata(&segment).unwrap().nlink(), 1, "nobody else seems to write it");
    drop(spool);
    assert_eq!(Spool::probe(&folders.spool(), &folders.raw()).unwrap(), Some(name(1)));
    assert_eq!(fs::read_dir(folders.spool()).unwrap().count(), 0);
}

#[test]
fn it_is_made_for_its_owner_alone_and_locked() {
    let folders = Folders::new();
    let spool = folders.open().unwrap();
    assert_eq!(fs::metadata(folders.spool()).unwrap().mode() & 0o777, 0o700);
    assert!(matches!(folders.open(), Err(SpoolError::Locked(_))));
    drop(spool);
    let spool = folders.open().unwrap();
    fs::rename(folders.spool(), folders.parent.path().join("away")).unwrap();
    assert!(matches!(spool.scan(), Err(SpoolError::Replaced(_))));
    fs::create_dir(folders.spool()).unwrap();
    assert!(matches!(spool.scan(), Err(SpoolError::Replaced(_))));
}

#[test]
fn it_lies_neither_in_cdc_raw_nor_around_it() {
    let folders = Folders::new();
    for place in [folders.raw(), folders.raw().join("spool"), folders.parent.path().to_owned()] {
        let error = Spool::open(&place, &folders.raw(), LIMITS).unwrap_err();
        assert!(matches!(error, SpoolError::Inside { .. }), "{error}");
    }
    assert!(!folders.raw().join("spool").exists());
}

#[test]
fn a_link_counts_and_a_segment_that_went_has_none() {
    let folders = Folders::new();
    let spool = folders.open().unwrap();
    fs::write(folders.raw().join(log(1)), "segment").unwrap();
    let linked = folders.link(&spool, 1).unwrap().unwrap();
    assert_eq!((linked.links, linked.len), (2, 7));
    assert_eq!(folders.link(&spool, 1).unwrap(), Some(linked), "a link that is there is as good");
    assert_eq!(folders.link(&spool, 2).unwrap(), None);
    fs::write(folders.spool().join("notes.txt"), "").unwrap();
    assert_eq!(spool.scan().unwrap().segments, HashMap::from([(name(1), linked)]));
    fs::remove_file(folders.raw().join(log(1))).unwrap();
    fs::write(folders.raw().join(log(1)), "another").unwrap();
    assert!(matches!(folders.link(&spool, 1), Err(SpoolError::OtherFile { .. })));
    assert_eq!(fs::read(folders.spool().join(log(1))).unwrap(), b"segment");
}

#[test]
fn a_probe_leaves_nothing_behind() {
    let folders = Folders::new();
    assert_eq!(Spool::probe(&folders.spool(), &folders.raw()).unwrap(), None);
    fs::write(folders.raw().join(log(1)), "segment").unwrap();
    assert_eq!(Spool::probe(&folders.spool(), &folders.raw()).unwrap(), Some(name(1)));
    assert_eq!(fs::read_dir(folders.parent.path()).unwrap().count(), 1);
    let spool = folders.open().unwrap();
    assert_eq!(Spool::probe(&folders.spool(), &folders.raw()).unwrap(), Some(name(1)), "an agent uses it");
    assert!(spool.scan().unwrap().segments.is_empty() && fs::read_dir(folders.spool()).unwrap().count() == 0);
    let error = Spool::probe(&folders.raw().join("spool"), &folders.raw()).unwrap_err();
    assert!(matches!(error, SpoolError::Inside { .. }));
}

#[test]
fn another_file_system_is_refused_by_name() {
    let folders = Folders::new();
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    if folder::same_mount(elsewhere.path(), &folders.raw()).unwrap() {
        return;
    }
    let place = elsewhere.path().join("spool");
    let error = Spool::open(&place, &folders.raw(), LIMITS).unwrap_err();
    assert!(matches!(error, SpoolError::OtherMount(_)) && error.to_string().contains("ReadWritePaths"), "{error}");
    assert!(matches!(Spool::probe(&place, &folders.raw()), Err(SpoolError::OtherMount(_))));
    // Where cdc_raw came later, the first link tells.
    let raw = elsewhere.path().join("cdc_raw");
    let spool = Spool::open(&folders.spool(), &raw, LIMITS).unwrap();
    fs::create_dir(&raw).unwrap();
    fs::write(raw.join(log(1)), "").unwrap();
    let linked = spool.link(folder::open_directory(&raw).unwrap().as_fd(), name(1));
    assert!(matches!(linked, Err(SpoolError::OtherMount(_))), "{linked:?}");
}

/// A mount that goes with the test.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where nothing may be mounted.
    fn new(arguments: &[&str], at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(arguments).arg(at).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().unwrap().success());
    }
}

#[test]
fn the_same_file_system_mounted_twice_is_refused_too() {
    let folders = Folders::new();
    let raw = folders.raw();
    let Some(_mounted) = Mounted::new(&["--bind", raw.to_str().unwrap()], &raw) else { return };
    assert!(matches!(folders.open(), Err(SpoolError::OtherMount(_))));
}

#[test]
fn a_read_only_cdc_raw_is_reported() {
    use crate::cdc_raw::{RawState, Scanner};
    let folders = Folders::new();
    let raw = folders.raw();
    let mounted = Mounted::new(&["-t", "tmpfs", "-o", "ro", "tmpfs"], &raw);
    if mounted.is_none() {
        if is_root() {
            return;
        }
        fs::set_permissions(&raw, fs::Permissions::from_mode(0o500)).unwrap();
    }
    let scan = Scanner::new(&raw).scan(std::time::Instant::now(), &HashMap::new());
    assert_eq!(scan.state, RawState::ReadOnly);
    assert!(scan.problems[0].contains("can't be deleted"), "{:?}", scan.problems);
}

/// Where the child finds its folders; without it the test is empty.
const CHILD: &str = "CASSANDRA_CDC_SPOOL_CHILD";

#[test]
fn the_child_of_the_next_test() {
    let Some(parent) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let spool = Spool::open(&parent.join("own/spool"), &parent.join("cdc_raw"), LIMITS).unwrap();
    let raw = folder::open_directory(&parent.join("cdc_raw")).unwrap();
    let probed = Spool::probe(&parent.join("own/spool"), &parent.join("cdc_raw")).unwrap_err();
    for error in [spool.link(raw.as_fd(), name(1)).unwrap_err(), probed] {
        assert!(matches!(error, SpoolError::ProtectedHardlinks { .. }), "{error}");
    }
}

#[test]
fn a_user_who_may_not_link_is_told_why() {
    const NOBODY: u32 = 65534;
    let folders = Folders::new();
    if !is_root() || !protects_hardlinks() {
        return;
    }
    let parent = folders.parent.path();
    fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folders.raw().join(log(1)), "").unwrap();
    fs::create_dir(parent.join("own")).unwrap();
    std::os::unix::fs::chown(parent.join("own"), Some(NOBODY), Some(NOBODY)).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spool::tests::the_child_of_the_next_test"])
        .env(CHILD, parent)
        .uid(NOBODY)
        .gid(NOBODY)
        .output();
    // The folder of the test itself may be closed to that user.
    let Ok(ended) = child else { return };
    assert!(ended.status.success(), "{ended:?}");
}

fn file(links: u64, allocated: u64, age: u64) -> Meta {
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age);
    Meta { inode: age, links, len: allocated * 2, allocated, modified }
}

#[test]
fn the_oldest_that_nothing_else_holds_goes_first_and_no_more_than_needed() {
    let folders = Folders::new();
    let spool = folders.open().unwrap();
    let files = HashMap::from([
        (name(5), file(1, 40, 30)),
        (name(2), file(1, 40, 20)),
        (name(3), file(1, 40, 10)),
        (name(1), file(2, 1000, 40)),
    ]);
    assert_eq!(Spool::bytes(&files), 120);
    let room = |free| Some(Room { free, floor: 50 });
    // Age counts, not the id: ids fall back when the commit-log directory was emptied.
    assert_eq!(spool.too_much(&files, None), [name(5)]);
    assert_eq!(spool.too_much(&files, room(50)), [name(5)]);
    assert_eq!(spool.too_much(&files, room(0)), [name(5), name(2)]);
    let few: HashMap<_, _> = files.into_iter().filter(|(name, _)| name.id.0 != 5).collect();
    assert!(spool.too_much(&few, room(50)).is_empty());
    assert_eq!(spool.too_much(&few, room(49)), [name(2)]);
}

#[test]
fn the_floor_is_a_tenth_or_twenty_gibibytes_or_what_was_set() {
    let folders = Folders::new();
    let spool = folders.open().unwrap();
    let room = spool.room().unwrap();
    assert!(room.floor >= MIN_FREE && room.free > 0);
    let set = Spool { limits: Limits { min_free: Some(7), ..LIMITS }, ..spool };
    assert_eq!(set.room().unwrap().floor, 7);
}
