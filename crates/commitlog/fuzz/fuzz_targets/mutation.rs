//! See `cassandra_commitlog_fuzz::mutation`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cassandra_commitlog_fuzz::mutation(data));
