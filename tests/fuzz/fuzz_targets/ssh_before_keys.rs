//! SSH before keys: identification, key exchange and what is none, to either role.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| scale_tests::decoders::ssh::before_keys(data));
