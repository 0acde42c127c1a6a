//! Garbage instead of TLS, and records that were tampered with.
#![no_main]

use scale_tests::decoders::{split, tls};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (switch, cuts, bytes) = split(data);
    if switch & 0x10 == 0 {
        tls::check_garbage(switch, cuts, bytes);
    } else if let Some((at, plain)) = bytes.split_first_chunk::<2>() {
        tls::check_tampering(switch, cuts, usize::from(u16::from_le_bytes(*at)), plain);
    }
});
