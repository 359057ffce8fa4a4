//! The state directory, a second agent, and the state of another node.

use std::fs::{self, File};
use std::net::TcpListener;

use crate::cql::HOST_ID;
use crate::place::{Place, mode_of};
use crate::support::program;

#[test]
fn a_state_directory_that_cannot_be_used() {
    let place = Place::new();
    let state = place.file("state");
    mode_of(&state, 0o755);
    place.check::<&str>(&[]).say("fail", "state", "has mode 0755", "chmod 0700");
    fs::remove_dir(&state).unwrap();
    place.check::<&str>(&[]).say("warn", "state", "does not exist yet", "install -d -m 0700");
    fs::write(&state, "").unwrap();
    place.check::<&str>(&[]).say("fail", "state", "is no directory", "set state.directory");
}

#[test]
fn a_second_agent() {
    let place = Place::new();
    // Its lock is all that an agent is known by.
    let spool = File::open(place.file("spool")).unwrap();
    spool.lock().unwrap();
    let lines = place.check::<&str>(&[]);
    lines.say("fail", "spool", "is held by another agent", "stop that agent, or set spool.directory");
    lines.only(&["spool"]);
    let state = File::open(place.file("state")).unwrap();
    state.lock().unwrap();
    place.check::<&str>(&[]).say("ok", "state", "held by a running agent (http.listen is off)", "");
    let lines = place.check(&["http.listen=127.0.0.1:1"]);
    lines.say("warn", "state", "is held by another agent, or by one that hangs", "fuser -v");
    lines.only(&["state"]);
}

#[test]
fn an_address_that_somebody_has() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let set = format!("http.listen={}", taken.local_addr().unwrap());
    place.check(&[&set]).say("fail", "http.listen", "in use", "set http.listen");
    drop(taken);
    place.check(&[&set]).say("ok", "http.listen", "is free", "");
    place.check(&["http.listen=192.0.2.1:9470"]).say("fail", "http.listen", "192.0.2.1", "an address of this machine");
}

/// An agent has run here, and has left its state.
fn used() -> Place {
    let place = Place::new();
    let mut command = program();
    command.args(["run", "--once", "--sink", "file", "--envelope", "--ack", "-c"]).arg(place.file("c.toml"));
    command.arg("--output").arg(place.file("events")).args(["--set", "kafka.bootstrap=127.0.0.1:1"]);
    let ran: crate::support::Ran = command.output().unwrap().into();
    ran.expect(0);
    place
}

#[test]
fn the_state_of_another_node() {
    let place = used();
    place.check::<&str>(&[]).only(&[]);
    let other = HOST_ID.replace("6f1c2f6e", "00000000");
    let lines = place.check(&[format!("cassandra.host_id={other}")]);
    let found = format!("is of host {HOST_ID} of cluster \"Shop\", and this is host {other}");
    lines.say("fail", "state", &found, "run `cassandra-cdc state adopt`");
    lines.only(&["state"]);
    place.check(&["state.agent=second"]).say("fail", "state", "is of agent", "set state.agent back");
}

#[test]
fn checkpoints_that_are_damaged() {
    let place = used();
    fs::write(place.file("state/checkpoint.a"), "no checkpoint").unwrap();
    let lines = place.check::<&str>(&[]);
    lines.say("warn", "state", "is damaged", "the other generation counts");
    fs::write(place.file("state/checkpoint.b"), "no checkpoint").unwrap();
    place.check::<&str>(&[]).say("fail", "state", "is damaged", "run `cassandra-cdc state reset`");
}
