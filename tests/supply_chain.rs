//! What the binary is made of: where every crate comes from, under which licence, and that TLS is there once.
//!
//! Owns: the rules of deny.toml that need no network, so that every test run has them. Does not own: advisories, for which
//! `cargo deny check advisories` fetches a database.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use toml::Table;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(path: &str) -> Table {
    fs::read_to_string(root().join(path)).unwrap().parse().unwrap()
}

fn texts(value: &toml::Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Every package of the lock, as its own manifest describes it.
fn packages() -> Vec<Value> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--offline", "--locked"]).current_dir(root());
    for target in ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"] {
        cargo.args(["--filter-platform", target]);
    }
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().clone();
    assert!(packages.len() > 200, "only {} packages", packages.len());
    packages
}

/// Whether an SPDX expression can be satisfied with these licences. Of `AND` every side must be, of `OR` one.
fn allowed(expression: &str, licences: &BTreeSet<String>) -> bool {
    let expression = expression.trim();
    for (word, all) in [(" OR ", false), (" AND ", true)] {
        let (mut depth, mut sides, mut from) = (0, Vec::new(), 0);
        for (at, letter) in expression.char_indices() {
            match letter {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ if depth == 0 && expression[at..].starts_with(word) => {
                    sides.push(&expression[from..at]);
                    from = at + word.len();
                }
                _ => {}
            }
        }
        if !sides.is_empty() {
            sides.push(&expression[from..]);
            return if all {
                sides.into_iter().all(|side| allowed(side, licences))
            } else {
                sides.into_iter().any(|side| allowed(side, licences))
            };
        }
    }
    match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => allowed(inner, licences),
        None => licences.contains(expression),
    }
}

#[test]
fn expressions_of_licences_are_read_as_they_are_meant() {
    let licences = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned()]);
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT AND ISC", "(MIT OR GPL-3.0) AND ISC", "GPL-3.0 OR (MIT AND ISC)"] {
        assert!(allowed(good, &licences), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "MIT WITH exception"] {
        assert!(!allowed(bad, &licences), "{bad}");
    }
}

#[test]
fn every_crate_has_a_licence_that_is_allowed() {
    let licences = texts(&document("deny.toml")["licenses"]["allow"]);
    let strange: Vec<String> = packages()
        .iter()
        .filter_map(|package| {
            let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
            (!allowed(&licence, &licences)).then(|| format!("{}: {licence:?}", package["name"]))
        })
        .collect();
    assert!(strange.is_empty(), "licences that deny.toml does not allow: {strange:#?}");
}

/// The lock names a registry, or nothing for our own; with a checksum, so that nobody can put another file in its place.
#[test]
fn every_crate_comes_from_one_registry_with_a_checksum() {
    let mut sources = BTreeSet::new();
    for lock in ["Cargo.lock", "crates/commitlog/fuzz/Cargo.lock"] {
        let lock = document(lock);
        let packages = lock["package"].as_array().unwrap();
        for package in packages {
            let text = |key: &str| package.get(key).and_then(toml::Value::as_str);
            let name = text("name").unwrap();
            match text("source") {
                None => assert!(name.starts_with("cassandra-"), "{name} is neither ours nor from a registry"),
                Some(source) => {
                    assert!(source.starts_with("registry+"), "{name} comes from {source}");
                    sources.insert(source.to_owned());
                    assert_eq!(text("checksum").map(str::len), Some(64), "{name}");
                }
            }
        }
    }
    assert_eq!(sources.len(), 1, "{sources:?}");
}

/// A second one would have its own flaws, its own defaults and its own idea of which certificates are good.
#[test]
fn there_is_one_tls_library() {
    let names: Vec<String> = packages().iter().map(|package| package["name"].as_str().unwrap().to_owned()).collect();
    let document = document("deny.toml");
    let denied = document["bans"]["deny"].as_array().unwrap();
    assert!(denied.len() >= 4);
    for entry in denied {
        let name = entry["name"].as_str().unwrap();
        assert!(
            !names.iter().any(|found| found == name),
            "{name} is among the dependencies: see `cargo tree -i {name}`"
        );
    }
    assert_eq!(names.iter().filter(|name| *name == "openssl-sys").count(), 1);
    assert_eq!(
        names.iter().filter(|name| *name == "openssl-src").count(),
        1,
        "OpenSSL is built along, not the system's"
    );
}
