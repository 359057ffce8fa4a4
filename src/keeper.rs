//! The thread that looks at `cdc_raw` and keeps the spool.
