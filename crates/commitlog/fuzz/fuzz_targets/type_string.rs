//! See `cassandra_commitlog_fuzz::type_string`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cassandra_commitlog_fuzz::type_string(data));
