//! Files with SSH keys, certificates and known hosts, and what servers present.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    scale_tests::decoders::ssh_keys::check(data);
});
