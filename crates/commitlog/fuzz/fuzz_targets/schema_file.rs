//! See `cassandra_commitlog_fuzz::schema_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cassandra_commitlog_fuzz::schema_file(data));
