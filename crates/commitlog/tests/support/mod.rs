//! What the tests of damage and of round trips need: a writer of segments, a model of what updates say, a reader, a
//! look at memory.
//!
//! Owns: nothing of the decoder's code. The writer is made from the format document alone, so that a misreading in the
//! decoder is no misreading here too.

#![allow(dead_code, unreachable_pub, reason = "every test uses its own part")]

pub mod framing;
pub mod memory;
pub mod model;
pub mod reader;
pub mod samples;
pub mod tables;
pub mod wire;
pub mod writer;
