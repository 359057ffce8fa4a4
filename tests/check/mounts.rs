//! Other file systems and mounts, made in a namespace of their own.

use crate::place::Place;

#[test]
fn a_spool_on_another_file_system_and_a_state_without_room() {
    let place = Place::new();
    let lines =
        place.check_mounted("mount -t tmpfs -o mode=0700 none spool && mount -t tmpfs -o mode=0700,size=1m none state");
    lines.say("fail", "spool", "on another file system or mount", "set spool.directory to a sibling of cdc_raw");
    lines.say("fail", "state", "the agent ends when it can't save", "free space");
    lines.say("warn", "file system", "state is in memory (tmpfs)", "put state.directory on a disk");
    lines.only(&["spool", "state"]);
}

#[test]
fn a_mount_of_the_same_file_system() {
    let place = Place::new();
    let lines = place.check_mounted("mount --bind spool spool");
    lines.say("fail", "spool", "on another file system or mount", "below one mount with it");
    lines.only(&["spool"]);
}

#[test]
fn a_cdc_raw_in_memory_and_little_room_for_the_state() {
    let place = Place::new();
    let lines = place.check_mounted("mount -t tmpfs none cdc_raw && mount -t tmpfs -o mode=0700,size=128m none state");
    lines.say("warn", "file system", "cdc_raw is in memory (tmpfs)", "put cassandra.cdc_raw on a disk");
    lines.say("warn", "state", "128.00 MiB free", "free space");
}
