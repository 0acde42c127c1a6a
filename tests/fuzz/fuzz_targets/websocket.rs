//! Frames, to either role, cut anywhere.
#![no_main]

use scale_tests::decoders::{split, websocket};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (switch, cuts, bytes) = split(data);
    websocket::check(switch, cuts, bytes);
});
