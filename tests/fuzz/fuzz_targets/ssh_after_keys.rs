//! SSH after keys: messages of every kind to either role, and packets that were tampered with.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| scale_tests::decoders::ssh::after_keys(data));
