//! Entries in the part of a mapped segment that no marker covers yet.
