//! What users write: units, targets, thresholds, run files, bodies of the control API.
#![no_main]

use scale_tests::decoders::{words};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    words::check_bodies(data);
    if let Ok(text) = std::str::from_utf8(data) {
        words::check_small(text);
        words::check_run_file(text);
    }
});
