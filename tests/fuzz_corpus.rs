//! Every input of the fuzz corpora, through the functions that the fuzz targets call: what a fuzzer found once is not
//! broken again, on machines without a fuzzer too.

#[allow(unreachable_pub, reason = "it is a library where fuzzers use it")]
#[path = "../crates/commitlog/fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::Path;

#[test]
fn every_input_of_every_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/commitlog/fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let folder = corpus.join(name);
        let inputs = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut count = 0;
        for input in inputs {
            let path = input.expect("a folder entry").path();
            // Told when the test fails, and by nobody otherwise.
            println!("{}", path.display());
            target(&fs::read(&path).expect("a readable file"));
            count += 1;
        }
        assert!(count >= 20, "{}: only {count} inputs", folder.display());
    }
}

/// A target is a file in `fuzz_targets` and a name in the list: neither without the other.
#[test]
fn every_target_is_listed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/commitlog/fuzz/fuzz_targets");
    let files = fs::read_dir(folder).expect("the targets").map(|file| file.expect("a folder entry").path());
    let mut files: Vec<String> = files.map(|path| path.file_stem().expect("a name").display().to_string()).collect();
    files.sort();
    let mut listed = targets::TARGETS.map(|(name, _)| name);
    listed.sort_unstable();
    assert_eq!(files, listed);
}
