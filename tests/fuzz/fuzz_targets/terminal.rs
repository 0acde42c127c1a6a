//! What is typed into a web terminal, cut anywhere.
#![no_main]

use scale_tests::decoders::{split, terminal};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (_, cuts, bytes) = split(data);
    terminal::check(cuts, bytes);
});
