//! What the `demo` command puts around the real line: a node that writes segments, and a broker that takes events.
//!
//! Owns: both stand-ins. Does not own: anything between them; that is the agent itself.

pub mod broker;
pub mod node;
