//! The wrong user, the wrong mode, and secrets that everybody can read.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::place::{Lines, Place, mode_of};
use crate::support::program;

/// Somebody without any right: nobody, nogroup.
const OTHER: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A place whose files are root's and whose agent runs as somebody else, to whom state and spool belong. Only root can
/// make one: who is not makes the mistake the other way round, with directories of root.
fn place_of_another() -> Place {
    let place = Place::new();
    for name in ["state", "spool"] {
        chown(place.file(name), Some(OTHER), Some(OTHER)).unwrap();
    }
    place
}

fn check_as_another(place: &Place, sets: &[String]) -> Lines {
    let mut command = program();
    command.args(place.arguments(sets)).uid(OTHER).gid(OTHER);
    assert!(command.output().is_ok(), "the program and all directories above it must be open to other users");
    Lines::of(&mut command)
}

fn segments(place: &Place) -> Vec<std::path::PathBuf> {
    fs::read_dir(place.file("cdc_raw")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_user_who_is_not_cassandras() {
    if !is_root() {
        // What belongs to root stands in for what belongs to Cassandra.
        let place = Place::new();
        let lines = place.check(&["cassandra.cdc_raw=/usr"]);
        lines.say("fail", "cdc_raw", "can't delete from /usr", "run the agent, and this check, as root");
        return;
    }
    let place = place_of_another();
    let raw = place.file("cdc_raw");
    let lines = check_as_another(&place, &[]);
    lines.say("fail", "cdc_raw", "nobody can't delete from", "run the agent, and this check, as root");
    mode_of(&raw, 0o700);
    let lines = check_as_another(&place, &[]);
    lines.say("fail", "cdc_raw", "nobody can't read", "run the agent, and this check, as root");
    mode_of(&raw, 0o1777);
    let lines = check_as_another(&place, &[]);
    lines.say("fail", "cdc_raw", "the directory is sticky: only root may delete", "chmod -t");
    mode_of(&raw, 0o777);
    let lines = check_as_another(&place, &[]);
    lines.say("warn", "cdc_raw", "segments belong to root, and this runs as nobody", "who runs Cassandra");
    segments(&place).iter().for_each(|path| mode_of(path, 0o600));
    let lines = check_as_another(&place, &[]);
    lines.say("fail", "cdc_raw", "nobody can't read", "the owner of segments");
}

#[test]
fn the_agents_own_directories_belong_to_somebody_else() {
    let place = Place::new();
    if !is_root() {
        let lines = place.check(&["state.directory=/usr", "spool.directory=/usr/cdc_spool"]);
        lines.say("fail", "state", "/usr can't be used", "chown");
        lines.say("fail", "spool", "/usr can't be written", "install -d -m 0700");
        return;
    }
    let lines = check_as_another(&place, &[]);
    lines.say("fail", "state", "can't be used: Permission denied", "chown");
    lines.say("fail", "spool", "can't be written: Permission denied", "install -d -m 0700");
}

#[test]
fn hard_links_to_what_belongs_to_another() {
    let protects = fs::read_to_string("/proc/sys/fs/protected_hardlinks").unwrap();
    if !is_root() {
        // Who can't make such a segment is told of its directory instead.
        let lines = Place::new().check(&["cassandra.cdc_raw=/usr"]);
        lines.say("fail", "cdc_raw", "can't delete from /usr", "run the agent");
        return;
    }
    let place = place_of_another();
    chown(place.file("cdc_raw"), Some(OTHER), Some(OTHER)).unwrap();
    for path in segments(&place) {
        chown(&path, None, Some(OTHER)).unwrap();
        mode_of(&path, 0o640);
    }
    let lines = check_as_another(&place, &[]);
    if protects.trim() == "0" {
        lines.say("ok", "spool", "segments can be linked there", "");
    } else {
        lines.say("fail", "spool", "fs.protected_hardlinks=1", "run the agent as the owner of segments");
    }
    lines.say("warn", "cdc_raw", "segments belong to root", "run the agent, and this check, as root");
}

#[test]
fn a_mode_that_keeps_its_own_user_out() {
    let place = Place::new();
    let raw = place.file("cdc_raw");
    mode_of(&raw, 0o555);
    if is_root() {
        // Modes do not bind root: it is its owner who runs this.
        for path in [raw.clone(), place.file("state"), place.file("spool")] {
            chown(path, Some(OTHER), Some(OTHER)).unwrap();
        }
        let lines = check_as_another(&place, &[]);
        lines.say("fail", "cdc_raw", "can't delete from", "chmod u+rwx");
    } else {
        place.check::<&str>(&[]).say("fail", "cdc_raw", "can't delete from", "chmod u+rwx");
    }
    mode_of(&raw, 0o755);
}

#[test]
fn a_secret_that_everybody_can_read() {
    let place = Place::new();
    let (properties, password) = (place.file("kafka.properties"), place.file("password"));
    fs::write(&properties, "ssl.key.password=canary\n").unwrap();
    fs::write(&password, "canary\n").unwrap();
    let sets = [
        format!("kafka.properties_file={}", properties.display()),
        "cassandra.contact=127.0.0.1:1".to_owned(),
        "cassandra.user=cdc".to_owned(),
        format!("cassandra.password_file={}", password.display()),
    ];
    for path in [&properties, &password] {
        mode_of(path, 0o644);
    }
    let lines = place.check(&sets);
    for path in [&properties, &password] {
        let (found, fix) = (path.display().to_string(), format!("chmod o= {}", path.display()));
        lines.say("warn", "files", &format!("{found} holds a secret, and everybody can read it"), &fix);
        mode_of(path, 0o600);
    }
    assert!(!lines.shown().contains("canary"));
    place.check(&sets).only(&["CQL"]);
    // What is named and not there, or not for us.
    fs::remove_file(&password).unwrap();
    let lines = place.check(&sets);
    lines.say("fail", "files", "No such file", "correct its name");
    lines.say("fail", "CQL", "read password file", "correct cassandra.password_file");
}

#[test]
fn files_of_the_configuration_that_cannot_be_read() {
    let place = Place::new();
    let missing = place.check(&[format!("cassandra.yaml={}", place.file("no.yaml").display())]);
    missing.say("fail", "configuration", "no.yaml: No such file", "correct it");
    fs::write(place.file("bad.yaml"), "cdc_enabled: [\n").unwrap();
    let unreadable = place.check(&[format!("cassandra.yaml={}", place.file("bad.yaml").display())]);
    unreadable.say("fail", "configuration", "bad.yaml", "correct it");
    let closed = if is_root() { place.file("c.toml") } else { "/etc/shadow".into() };
    if is_root() {
        mode_of(&closed, 0o600);
        let lines = check_as_another(&place, &[]);
        lines.say("fail", "configuration", "Permission denied", "let the user who runs the agent read that file");
    } else {
        assert!(is_closed(&closed));
        let lines = place.check(&[format!("cassandra.yaml={}", closed.display())]);
        lines.say("fail", "configuration", "Permission denied", "let the user who runs the agent read that file");
    }
}

fn is_closed(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.uid() == 0 && metadata.mode() & 0o007 == 0)
}
