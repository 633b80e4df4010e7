//! Redis's replies in succession. We read what the redis crate reads, and never take part of a
//! reply for a whole one, or for an invalid one.
#![no_main]

#[path = "../../crates/proto/tests/redis/oracle.rs"]
mod oracle;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    loop {
        oracle::compare(rest);
        let Ok(Some((_, len))) = oracle::ours(rest) else {
            return;
        };
        for part in 0..len {
            assert_eq!(
                oracle::ours(&rest[..part]),
                Ok(None),
                "{part} of {len} bytes"
            );
        }
        rest = &rest[len..];
    }
});
