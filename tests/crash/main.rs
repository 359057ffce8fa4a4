//! Crash tests of `run`: a stand-in for a node writes segments as Cassandra does, the agent runs beside it as a child
//! process and is killed, starved and misled, and a consumer of an in-process broker says what came of it.
//!
//! Owns: one named test for each hazard. Does not own: the format (the decoder's own tests), what a real server does
//! (`tests/live`).
//!
//! Nothing here asserts how long something takes. What is random says its seed; `CRASH_SEED` sets another one.

#![allow(unreachable_pub, reason = "modules of one test")]

mod agent;
mod broker;
mod hazards;
mod kills;
mod mutations;
mod node;
mod planted;
mod random;
mod rig;
mod segment;
mod stand_in;
mod state;

/// The seed of a test, or the one that `CRASH_SEED` sets for all.
fn seed(own: u64) -> u64 {
    std::env::var("CRASH_SEED").ok().map_or(own, |text| text.parse().expect("CRASH_SEED is a number"))
}
