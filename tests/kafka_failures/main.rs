//! What Kafka refuses, and how the service leads out of it: every row of the table of errors against an in-process broker,
//! with a stand-in for a node that goes on writing.
//!
//! Owns: one test for each kind of failure, of the whole service. Does not own: which code means what (`kafka::errors`),
//! the publisher alone (`kafka::tests`), hazards of other kinds (`crash`).
//!
//! The in-process broker has one log for each partition, no permissions, no SASL, and no way to delete a topic or to give
//! it more partitions. So a permission is one that [`front`] denies, a topic that is gone is one of which broker and
//! front say so, and other partitions are those of another broker that the service finds when it starts again. Neither
//! numbers that change under a running service nor permissions of a real broker are tested.

#![allow(unreachable_pub, reason = "modules of one test")]

#[path = "../crash/agent.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod agent;
#[path = "../crash/broker.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod broker;
mod desk;
#[path = "../support/front.rs"]
mod front;
mod holds;
#[path = "../support/kafka.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod kafka;
#[path = "../crash/mutations.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod mutations;
#[path = "../crash/node.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod node;
mod outages;
mod partitions;
mod poison;
#[path = "../crash/random.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod random;
#[path = "../crash/rig.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod rig;
#[path = "../crash/segment.rs"]
#[allow(dead_code, reason = "every test uses its own part")]
mod segment;
