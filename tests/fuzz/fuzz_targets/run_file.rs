//! Run files, scenarios, lists of targets, the daemon's own file. Seeds: docs/examples.
#![no_main]

use scale_tests::decoders::run_file;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        run_file::check(text);
    }
});
