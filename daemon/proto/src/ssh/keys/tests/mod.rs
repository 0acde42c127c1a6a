//! What ssh-keygen made, read and judged here.

mod certificates;
mod files;
mod hosts;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../../fixtures/ssh/", $name)).as_slice()
    };
}
use fixture;

/// The blob in a `.pub` file's line.
fn blob(line: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(line).unwrap();
    STANDARD.decode(text.split(' ').nth(1).unwrap()).unwrap()
}

/// Type and base64 of a `.pub` file, as a `known_hosts` line has them.
fn words(line: &[u8]) -> &str {
    let text = std::str::from_utf8(line).unwrap();
    text.rsplit_once(' ').unwrap().0
}
