//! Files that are cut, replaced by pipes, or empty.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use super::*;

/// The table is the process's: a test that fills it may not run beside one that counts on a free place.
static TABLE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn file(bytes: usize) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, vec![7; bytes]).unwrap();
    (folder, path)
}

fn cut(path: &Path, len: u64) {
    File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn a_file_an_empty_file_and_no_file() {
    let (folder, path) = file(5);
    for access in [Access::Map, Access::Read] {
        let file = open_no_follow(&path).and_then(|file| Mapped::of(file, access)).unwrap();
        assert_eq!((&*file, file.was_cut()), (&[7; 5][..], false));
    }
    cut(&path, 0);
    assert_eq!(&*Mapped::open(&path).unwrap(), b"");
    assert!(Mapped::open(folder.path()).is_err());
    assert_eq!(Mapped::open(&folder.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn links_are_followed_only_where_a_person_named_them_and_pipes_are_not_waited_for() {
    let (folder, path) = file(5);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(Mapped::open(&link).is_ok());
    assert!(open_no_follow(&link).and_then(|file| Mapped::of(file, Access::Map)).is_err());
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert!(open_no_follow(&pipe).and_then(|file| Mapped::of(file, Access::Map)).is_err());
}

#[test]
fn a_file_that_is_cut_under_the_reader_reads_as_zeros_and_says_so() {
    let _table = TABLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let page = rustix::param::page_size();
    let (_folder, path) = file(4 * page + 100);
    let (mapped, other) = (Mapped::open(&path).unwrap(), Mapped::open(&path).unwrap());
    assert_eq!(mapped.iter().filter(|byte| **byte == 7).count(), mapped.len());
    assert!(!mapped.was_cut());
    cut(&path, page as u64);
    let sum = std::thread::scope(|scope| {
        let readers = [0, 1].map(|_| scope.spawn(|| mapped.iter().map(|byte| usize::from(*byte)).sum::<usize>()));
        readers.map(|reader| reader.join().unwrap())
    });
    assert_eq!(sum, [7 * page; 2]);
    assert!(mapped.was_cut());
    std::fs::write(&path, vec![7; 4 * page + 100]).unwrap();
    assert!(mapped.was_cut(), "what was read does not come back");
    assert!(!other.was_cut(), "it met nothing of it");
    assert_eq!(other.iter().filter(|byte| **byte == 7).count(), other.len());
}

#[test]
fn a_cut_within_the_last_page_raises_no_fault_and_is_known_all_the_same() {
    let (_folder, path) = file(1000);
    for access in [Access::Map, Access::Read] {
        let file = open_no_follow(&path).and_then(|file| Mapped::of(file, access)).unwrap();
        cut(&path, 999);
        assert!(file.was_cut());
        cut(&path, 1000);
    }
}

#[test]
fn with_a_full_table_files_are_read_into_memory() {
    let _table = TABLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (_folder, path) = file(10);
    let all: Vec<Mapped> = (0..MAX_MAPPED + 2).map(|_| Mapped::open(&path).unwrap()).collect();
    assert!(all.iter().all(|file| **file == [7; 10]));
    assert!(matches!(all.last().unwrap().bytes, Bytes::Read { .. }));
    drop(all);
    assert!(matches!(Mapped::open(&path).unwrap().bytes, Bytes::Mapped { .. }));
}

/// What the child does is in the environment; without it the test is empty.
const CHILD: &str = "CASSANDRA_CDC_SIGBUS_CHILD";

#[test]
fn the_child_of_the_next_test() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let (_folder, path) = file(3 * rustix::param::page_size());
    let _guarded = Mapped::open(&path).unwrap();
    let foreign = Mapped::open(&path).unwrap();
    // As if somebody else had made the mapping: it is not in the table.
    if let Bytes::Mapped { slot, .. } = &foreign.bytes {
        SLOTS[slot.0].start.store(0, Ordering::Release);
    }
    cut(&path, 0);
    match what.as_str() {
        "sent" => rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::BUS).unwrap(),
        _ => println!("never reached: {}", foreign[0]),
    }
}

#[test]
fn any_other_sigbus_ends_the_process_as_it_does_by_default() {
    for what in ["sent", "foreign mapping"] {
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "mapped::tests::the_child_of_the_next_test"])
            .env(CHILD, what)
            .output()
            .unwrap();
        assert_eq!(ended.status.signal(), Some(libc::SIGBUS), "{what}: {ended:?}");
    }
}
