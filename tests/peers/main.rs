//! What others get wrong with the same segments and the same faults, each as a test of the right outcome.
//!
//! Owns: one test for each such case, and the whole outcome in it. Does not own: every value of every case (`rendered`),
//! every hazard (`crash`), every answer of a broker (`kafka_failures`).

#![allow(unreachable_pub, reason = "modules of one test")]

#[path = "../crash/agent.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod agent;
mod faults;
#[path = "../crash/mutations.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod mutations;
#[path = "../crash/node.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod node;
#[path = "../crash/random.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod random;
mod scene;
#[path = "../crash/segment.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod segment;
mod statements;
#[path = "../support/mod.rs"]
mod support;
