//! HTTP heads, as requests and as answers.
#![no_main]

use scale_tests::decoders::{heads, split};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (_, cuts, bytes) = split(data);
    heads::check(cuts, bytes);
});
