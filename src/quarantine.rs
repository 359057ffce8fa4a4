//! Entries that could not be decoded, kept on disk.
