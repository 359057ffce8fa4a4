//! What the node's own settings lose.

use std::fs;
use std::path::Path;

use crate::place::Place;

const YAML: &str = "cassandra.yaml";

#[test]
fn settings_that_lose_changes() {
    let place = Place::new();
    place.yaml(
        "cdc_enabled: no\ncdc_total_space: 3MiB\ncdc_block_writes: false\n\
         transparent_data_encryption_options:\n  enabled: true\n",
    );
    let lines = place.check(&["spool.enabled=false"]);
    lines.say("fail", YAML, "cdc_enabled is false", "set cdc_enabled: true");
    lines.say("fail", YAML, "cdc_total_space holds 3 segments", "raise cdc_total_space");
    lines.say("fail", YAML, "cdc_block_writes is false", "set spool.enabled");
    lines.say("fail", YAML, "encrypted, and no key is configured", "set cassandra.keystore");
    lines.only(&[YAML, "cdc_raw fill"]);
    place.yaml("cdc_total_space: 4MiB\ncdc_block_writes: false\n");
    place.check(&["spool.enabled=auto"]).only(&["cdc_raw fill"]);
}

#[test]
fn another_nodes_file() {
    let place = Place::new();
    place.yaml("cdc_raw_directory: /elsewhere/cdc_raw\ncommitlog_directory: /elsewhere/commitlog\n");
    let lines = place.check(&["cassandra.commitlog=/here", "cassandra.cluster=Other"]);
    lines.say("fail", YAML, "but cdc_raw_directory is /elsewhere/cdc_raw", "drop cassandra.cdc_raw");
    lines.say("fail", YAML, "but commitlog_directory is /elsewhere/commitlog", "drop cassandra.commitlog");
    lines.say("fail", YAML, "but cluster_name is \"Shop\"", "drop cassandra.cluster");
    lines.only(&[YAML]);
    // The same place under another name is none of that.
    std::os::unix::fs::symlink(place.file("cdc_raw"), place.file("link")).unwrap();
    place.yaml(&format!("cdc_raw_directory: {}\n", place.file("link").display()));
    place.check::<&str>(&[]).only(&[]);
}

#[test]
fn no_file_where_packages_put_it() {
    let place = Place::new();
    let document = fs::read_to_string(place.file("c.toml")).unwrap();
    let without: Vec<&str> = document.lines().filter(|line| !line.starts_with("yaml")).collect();
    fs::write(place.file("c.toml"), without.join("\n")).unwrap();
    let lines = place.check(&["cassandra.cluster=Shop"]);
    match ["/etc/cassandra/cassandra.yaml", "/etc/cassandra/conf/cassandra.yaml"]
        .iter()
        .find(|p| Path::new(p).is_file())
    {
        None => lines.say("warn", YAML, "not found at its usual places", "set cassandra.yaml"),
        // A machine with Cassandra: the file is found, and is not the one of this place.
        Some(path) => lines.say("fail", YAML, "cluster_name", path).say("fail", YAML, "", ""),
    };
}

#[test]
fn a_cdc_raw_that_fills_up() {
    let place = Place::new();
    // Three segments of a mebibyte, and what somebody left there: Cassandra counts everything.
    fs::write(place.file("cdc_raw/other"), vec![0; 1 << 20]).unwrap();
    place.yaml("cdc_total_space: 5300KiB\n");
    let lines = place.check::<&str>(&[]);
    lines.say("warn", "cdc_raw fill", "Cassandra rejects writes", "start the agent");
    lines.only(&["cdc_raw fill"]);
    place.yaml("cdc_total_space: 4MiB\ncdc_block_writes: false\n");
    let lines = place.check::<&str>(&[]);
    lines.say("fail", "cdc_raw fill", "Cassandra deletes the oldest segments", "raise cdc_total_space");
    lines.only(&["cdc_raw fill"]);
}

#[test]
fn a_cdc_raw_that_is_not_there() {
    let place = Place::new();
    let lines = place.check(&["cassandra.cdc_raw=/nowhere/cdc_raw"]);
    lines.say("fail", "cdc_raw", "/nowhere/cdc_raw: No such file", "set cassandra.cdc_raw");
    fs::write(place.file("file"), "").unwrap();
    let lines = place.check(&[format!("cassandra.cdc_raw={}", place.file("file").display())]);
    lines.say("fail", "cdc_raw", "is no directory", "set cassandra.cdc_raw");
}

#[test]
fn reading_ahead_and_moving_into_cdc_raw() {
    let place = Place::new();
    let done = format!("cassandra.on_done=move {}", place.file("cdc_raw/done").display());
    let lines = place.check(&["cassandra.read_to=written", &done]);
    lines.say("warn", YAML, "ahead of the sync: a crash", "set cassandra.read_to = \"synced\"");
    lines.say("fail", YAML, "is inside cdc_raw", "set cassandra.on_done");
    place.yaml("commitlog_compression:\n  - class_name: LZ4Compressor\n");
    let lines = place.check(&["cassandra.read_to=written"]);
    lines.say("warn", YAML, "segments are compressed", "set cassandra.read_to = \"synced\"");
}

#[test]
fn the_key_of_encrypted_segments() {
    let place = Place::of("4.1-encrypted");
    let lines = place.check::<&str>(&[]);
    lines.say("fail", "key", "is encrypted with key \"testing:1\"", "set cassandra.keystore");
    let store = crate::support::load::own_case("4.1-encrypted").key_store().unwrap();
    let store = format!("cassandra.keystore={}", store.display());
    let password = format!("cassandra.keystore_password_file={}", place.file("keys").display());
    fs::write(place.file("keys"), "cassandra\n").unwrap();
    crate::place::mode_of(&place.file("keys"), 0o600);
    place.check(&[&store, &password]).say("ok", "key", "is there", "");
    fs::write(place.file("keys"), "wrong\n").unwrap();
    let lines = place.check(&[&store, &password]);
    lines.say("fail", "key", "needs it: ", "put its password into the file of cassandra.keystore_password_file");
    fs::write(place.file("short"), "abc").unwrap();
    let lines = place.check(&[format!("cassandra.key_file={}", place.file("short").display())]);
    lines.say("fail", "key", "", "correct cassandra.keystore");
}
