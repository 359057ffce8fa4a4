//! What the fuzz targets do with their bytes. An ordinary test replays the corpus through the same functions.
//!
//! Owns: how bytes become an input, and what must hold whatever they are. Does not own: what is right (other tests
//! compare that with recordings).
//!
//! Checksums would stop a fuzzer at once, so inputs are programs from which files with good checksums are made.
//!
//! `cargo +stable fuzz run -s none <target>` runs one of them, in the folder above this one.

mod bytes;
mod event;
mod mutations;
mod schemas;
mod segments;

pub use event::values;
pub use mutations::mutation;
pub use schemas::{schema_file, type_string};
pub use segments::{descriptor, sections};

/// A target: what it is called, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 6] = [
    ("descriptor", descriptor),
    ("sections", sections),
    ("mutation", mutation),
    ("values", values),
    ("schema_file", schema_file),
    ("type_string", type_string),
];
