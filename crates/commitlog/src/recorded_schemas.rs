//! The schemas of recorded segments, for tests: none where the recordings are not at hand.

extern crate std;

use std::path::Path;
use std::string::String;
use std::vec::Vec;

/// Path and text of each.
pub(crate) fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for folder in ["fixtures", "../shared/fixtures"] {
        for case in std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
            for file in std::fs::read_dir(case.path()).into_iter().flatten().flatten() {
                let name = file.file_name().into_string().unwrap_or_default();
                if name.starts_with("schema") && name.ends_with(".json") {
                    let text = std::fs::read_to_string(file.path()).expect("a readable file");
                    found.push((std::format!("{}", file.path().display()), text));
                }
            }
        }
    }
    found
}
