//! The tree itself: which crate may know which, what every file begins with, how long it may be, where `unsafe` is
//! allowed, and that what is named exists.
//!
//! Owns: rules that no compiler and no linter checks. A rule that is broken is answered by changing the tree, not the
//! list of exceptions.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The only arrows between our packages.
const ARROWS: [(&str, &str); 5] = [
    ("cassandra-cdc", "cassandra-commitlog"),
    ("cassandra-cdc", "cassandra-event"),
    ("cassandra-cdc", "cassandra-progress"),
    ("cassandra-event", "cassandra-commitlog"),
    ("cassandra-progress", "cassandra-commitlog"),
];

/// Lines that a file may have before its tests.
const LINES: usize = 500;

/// The only file of the product that may hold `unsafe`.
const UNSAFE: &str = "src/mapped.rs";

/// Allocators that count, in a test and in a benchmark: Rust has no safe way to be one.
const COUNTING: [&str; 2] = ["benches/speed/allocations.rs", "crates/commitlog/tests/support/memory.rs"];

/// Written by `prost-build`.
const GENERATED: &str = "crates/event/tests/generated";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below a folder that end so, as paths from the root.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["src", "crates", "tests", "benches", "fixtures", "docs"].map(|name| root().join(name)).into();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // What a build or another tool leaves behind is not ours.
                if !["target", "corpus", "node_modules"].iter().any(|name| path.ends_with(name)) {
                    folders.push(path);
                }
            } else if path.to_str().is_some_and(|path| path.ends_with(ending)) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file that is written by hand, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let ours = files(".rs").into_iter().filter(|path| !path.starts_with(GENERATED));
    let ours: Vec<PathBuf> = ours.collect();
    assert!(ours.len() > 100, "only {} files were found", ours.len());
    ours.into_iter().map(|path| (path.clone(), fs::read_to_string(root().join(path)).unwrap())).collect()
}

/// A line without what stands behind `//` in it.
fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

fn manifests() -> Vec<(PathBuf, String)> {
    let folders =
        ["Cargo.toml", "crates/commitlog/Cargo.toml", "crates/event/Cargo.toml", "crates/progress/Cargo.toml"];
    folders.map(|path| (PathBuf::from(path), fs::read_to_string(root().join(path)).unwrap())).into()
}

#[test]
fn only_the_allowed_arrows_lie_between_crates() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 4, "a fourth library needs a reason: {names:?}");
    let arrows: BTreeSet<(&str, &str)> = packages
        .iter()
        .flat_map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            dependencies.map(|dependency| (package["name"].as_str().unwrap(), dependency["name"].as_str().unwrap()))
        })
        .filter(|(_, to)| names.contains(to))
        .collect();
    assert_eq!(arrows, BTreeSet::from(ARROWS));
}

#[test]
fn every_file_begins_by_saying_what_it_owns() {
    let silent: Vec<PathBuf> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path).collect();
    assert!(silent.is_empty(), "without `//!` docs: {silent:?}");
}

#[test]
fn no_file_is_too_long() {
    // What lies in a folder of tests is tests from its first line on.
    let is_test = |path: &Path| path.components().any(|part| part.as_os_str() == "tests");
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| (path, text.lines().take_while(|line| *line != "#[cfg(test)]").count()))
        .filter(|(_, lines)| *lines > LINES)
        .map(|(path, lines)| format!("{} has {lines} lines before its tests", path.display()))
        .collect();
    assert!(long.is_empty(), "more than {LINES}, to be split along the format:\n{}", long.join("\n"));
}

#[test]
fn unsafe_is_in_one_file() {
    let is_word = |line: &str| {
        let mut words = code(line).split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        // In a string it is a word like any other.
        words.any(|word| word == "unsafe") && !code(line).contains('"')
    };
    let allows = |line: &str| code(line).trim_start().starts_with("#") && code(line).contains("allow(unsafe_code");
    let with = |rule: &dyn Fn(&str) -> bool| -> BTreeSet<PathBuf> {
        sources().into_iter().filter(|(_, text)| text.lines().any(rule)).map(|(path, _)| path).collect()
    };
    let named: BTreeSet<PathBuf> = COUNTING.into_iter().chain([UNSAFE]).map(PathBuf::from).collect();
    let (using, allowing) = (with(&is_word), with(&allows));
    assert!(using.contains(Path::new(UNSAFE)) && using.is_subset(&named), "`unsafe` in {using:?}");
    assert!(allowing.contains(Path::new(UNSAFE)) && allowing.is_subset(&named), "allowed in {allowing:?}");
}

#[test]
fn pure_crates_are_no_std() {
    for name in ["commitlog", "progress"] {
        let text = fs::read_to_string(root().join("crates").join(name).join("src/lib.rs")).unwrap();
        let unconditional = text.lines().any(|line| line == "#![no_std]");
        assert!(unconditional, "{name} must not see files, clocks and threads");
    }
}

#[test]
fn nothing_is_left_to_be_done() {
    // In two halves, or this file would be found.
    let markers = ["TO\u{44}O", "FIX\u{4d}E", "XX\u{58}", "todo\u{21}(", "unimplemented\u{21}(", "dbg\u{21}("];
    let mut found = Vec::new();
    for path in [".rs", ".toml", ".md", ".py", ".sh"].into_iter().flat_map(files) {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        let marked = |(_, line): &(usize, &str)| markers.iter().any(|marker| line.contains(marker));
        found.extend(text.lines().enumerate().filter(marked).map(|(at, _)| format!("{}:{}", path.display(), at + 1)));
    }
    assert!(found.is_empty(), "{found:?}");
}

/// The names of `[[test]]`, `[[bench]]` and `[[bin]]` sections, with the file that each must have.
fn targets(manifest: &str) -> Vec<(String, Option<String>)> {
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    let mut folder = None;
    for line in manifest.lines() {
        folder = match line {
            "[[bench]]" => Some("benches"),
            "[[test]]" => Some("tests"),
            line if line.starts_with('[') => None,
            _ => folder,
        };
        let value = |name: &str| {
            let rest = line.strip_prefix(name)?.trim_start().strip_prefix('=')?;
            Some(rest.trim().trim_matches('"').to_owned())
        };
        let (Some(folder), name, path) = (folder, value("name"), value("path")) else { continue };
        if let Some(name) = name {
            found.push((format!("{folder}/{name}"), None));
        } else if let (Some(path), Some(last)) = (path, found.last_mut()) {
            last.1 = Some(path);
        }
    }
    found
}

#[test]
fn every_named_target_exists() {
    for (path, manifest) in manifests() {
        let folder = root().join(path.parent().unwrap());
        for (name, path) in targets(&manifest) {
            let file = folder.join(path.unwrap_or_else(|| format!("{name}.rs")));
            let as_folder = folder.join(&name).join("main.rs");
            assert!(file.exists() || as_folder.exists(), "{name} of {}", folder.display());
        }
    }
}

#[test]
fn every_crate_takes_the_workspaces_lints() {
    for (path, manifest) in manifests() {
        let lints: Vec<&str> = manifest.split("[lints]").skip(1).collect();
        let inherits = lints.iter().any(|rest| rest.trim_start().starts_with("workspace = true"));
        assert!(inherits, "{} has no `[lints] workspace = true`", path.display());
    }
}

#[test]
fn the_readme_names_every_command() {
    let readme = fs::read_to_string(root().join("README.md")).expect("a README.md");
    let help = Command::new(env!("CARGO_BIN_EXE_cassandra-cdc")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let listed = help.split_once("Commands:\n").expect("commands").1;
    let commands: Vec<&str> = listed
        .lines()
        .take_while(|line| !line.is_empty())
        // Two spaces before a command, more before the rest of its description.
        .filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.len() >= 6, "{commands:?}");
    let missing: Vec<&&str> = commands
        .iter()
        .filter(|command| {
            !readme.contains(&format!("cassandra-cdc {command}")) && !readme.contains(&format!("`{command}"))
        })
        .collect();
    assert!(missing.is_empty(), "not in README.md: {missing:?}");
}

/// Every document: those of the folders, and those beside the README.
fn documents() -> Vec<(PathBuf, String)> {
    let beside = fs::read_dir(root()).unwrap().map(|entry| PathBuf::from(entry.unwrap().file_name()));
    let beside = beside.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let paths = beside.chain(files(".md"));
    paths.map(|path| (path.clone(), fs::read_to_string(root().join(path)).unwrap())).collect()
}

/// Lines outside of blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// A line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// What follows `](`, up to the closing parenthesis.
fn links(text: &str) -> Vec<String> {
    let lines = prose(text).map(without_code);
    let of_line = |line: String| -> Vec<String> {
        line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
    };
    lines.flat_map(of_line).collect()
}

/// The names that a document's headings have in links: letters, digits, `-` and `_`; a space is `-`.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let name = |line: &str| -> String {
        let kept = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        kept.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_')).collect()
    };
    headings.map(name).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    let mut broken = Vec::new();
    let mut followed = 0;
    for (path, text) in &documents {
        for link in links(text) {
            // Addresses, and the names of items that rustdoc follows.
            if link.contains("://") || link.contains("::") {
                continue;
            }
            followed += 1;
            let (file, anchor) = link.split_once('#').map_or((&*link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { root().join(path) } else { root().join(path).with_file_name(file) };
            let leads = target.exists()
                && anchor
                    .is_none_or(|anchor| fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(anchor)));
            if !leads {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(followed > 50, "only {followed} links were found in {} documents", documents.len());
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn every_test_that_the_comparison_names_exists() {
    let text = fs::read_to_string(root().join("docs/peers.md")).unwrap();
    let sources: String =
        sources().into_iter().filter(|(path, _)| path.starts_with("tests/peers")).map(|(_, text)| text).collect();
    // Nothing else in backticks has so many words.
    let named: BTreeSet<&str> =
        text.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 3).collect();
    assert!(named.len() > 15, "{named:?}");
    let missing: Vec<&&str> = named.iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "named in docs/peers.md, and in no file of tests/peers: {missing:?}");
}
