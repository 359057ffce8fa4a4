//! `check` as an operator meets it: every mistake is made for real, and the line that names it is read.
//!
//! Owns: one mistake after the other on a node where all else is well, and what a running agent says of two of them. Does not own: what only real servers say
//! (`tests/live`).

#![allow(unreachable_pub, reason = "modules of one test")]

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod broker;
mod cql;
mod files;
mod kafka;
mod mounts;
mod node;
mod place;
mod schema;
mod server;
mod state;
mod tls;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use place::Place;

#[test]
fn where_all_is_well_nothing_is_told_and_nothing_changes() {
    let place = Place::new();
    let names = || -> BTreeSet<PathBuf> {
        let folders = ["cdc_raw", "state", "spool"].map(|folder| fs::read_dir(place.file(folder)).unwrap());
        folders.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    };
    let before = names();
    let lines = place.check::<&str>(&[]);
    assert_eq!(names(), before);
    lines.only(&[]);
    let told: BTreeSet<&str> = lines.0.iter().map(|line| line["check"].as_str().unwrap()).collect();
    for check in [
        "configuration",
        "cassandra.yaml",
        "cdc_raw",
        "cdc_raw fill",
        "file system",
        "free space",
        "spool",
        "state",
        "identity",
        "schema",
        "tables",
        "Kafka",
        "topic",
    ] {
        assert!(told.contains(check), "{check}\n{}", lines.shown());
    }
}

#[test]
fn a_table_for_people_and_one_document_for_scripts() {
    let place = Place::new();
    place.yaml("cdc_enabled: false\n");
    let run = |output: &str| {
        let mut arguments = place.arguments::<&str>(&[]);
        arguments[2] = output.to_owned();
        support::run(arguments).expect(1)
    };
    let table = run("table");
    let lines = table.lines();
    let at = lines.iter().position(|line| line.starts_with("fail  cassandra.yaml  cdc_enabled is false")).unwrap();
    assert!(lines[at + 1].trim_start().starts_with("-> set cdc_enabled: true in "), "{}", table.text());
    assert!(lines.last().unwrap().starts_with("1 fail, "), "{}", table.text());
    let document: serde_json::Value = serde_json::from_slice(&run("json").out).unwrap();
    assert_eq!(document.as_array().unwrap().iter().filter(|line| line["level"] == "fail").count(), 1);
}
