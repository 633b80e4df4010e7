//! Redis's replies: what we read is what the redis crate reads.
#![no_main]

#[path = "../../crates/proto/tests/redis/oracle.rs"]
mod oracle;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| oracle::compare(bytes));
