//! Bytes to the control socket and the metrics port.
#![no_main]

use scale_tests::decoders::http;

libfuzzer_sys::fuzz_target!(|data: &[u8]| http::check_any(data));
