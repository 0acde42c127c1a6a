//! The SSH peers with russh's server: both are oracles for what is ours, so they have to get on with each
//! other, and to notice when something is wrong.

use std::path::PathBuf;
use std::process::{Command, Output};

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};
use scale_bench::peers::russh_server::{Served, Settings};
use serde_json::Value;

const RUSSH: &str = env!("CARGO_BIN_EXE_peer-russh");
#[cfg(feature = "libssh2")]
const CLIENTS: [&str; 2] = [RUSSH, env!("CARGO_BIN_EXE_peer-ssh2")];
#[cfg(not(feature = "libssh2"))]
const CLIENTS: [&str; 1] = [RUSSH];

const STREAMS: u64 = 5;
/// Of each stream: 2 s of a message each 20 ms.
const MESSAGES: u64 = 100;

fn served(settings: &Settings) -> Served {
    Served::start(settings).expect("a port is free, and russh knows the names")
}

fn run(client: &str, served: &Served, more: &[&str]) -> Output {
    let (target, streams) = (served.address().to_string(), STREAMS.to_string());
    let mut command = Command::new(client);
    command.args(["--target", &target, "--conns", &streams, "--tick-interval", "20ms"]);
    command.args(["--warm-up", "0s", "--duration", "2s", "--verify"]).args(more);
    command.output().expect("the program starts")
}

/// Its figures; every echo was compared and every channel ended with 0.
fn verified(client: &str, served: &Served, more: &[&str]) -> Value {
    let output = run(client, served, more);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{client} {more:?}: {said}");
    let figures: Value = serde_json::from_slice(&output.stdout).expect("its figures are JSON");
    let counts = served.counts().to_json();
    assert_eq!(counts["faults"], 0, "{client} {more:?}");
    figures
}

fn why_not(client: &str, served: &Served, more: &[&str]) -> String {
    let output = run(client, served, more);
    assert!(!output.status.success(), "{client} {more:?} should have failed");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_byte_comes_back_by_each_cipher_and_through_new_keys() {
    let ciphers =
        ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr"];
    for client in CLIENTS {
        for cipher in ciphers {
            let served = served(&Settings { rekey_bytes: 100_000, ..Settings::default() });
            let figures = verified(client, &served, &["--cipher", cipher]);
            let counts = served.counts().to_json();
            // The first session is for what is made once a process.
            assert_eq!(counts["authenticated"], STREAMS + 1, "{client} {cipher}");
            let bytes = counts["payload_received_bytes"].as_u64().expect("a number");
            assert!(bytes <= STREAMS * MESSAGES * 4096 && bytes > 0, "{client} {cipher}: {bytes} B");
            if client == RUSSH {
                // 409,600 B in each direction: at least three times more than the first.
                let exchanges = figures["key_exchanges"].as_u64().expect("a number");
                assert!(exchanges >= 4 * STREAMS, "{cipher}: {exchanges} key exchanges");
            }
        }
    }
}

#[test]
fn each_key_exchange_and_host_key_does() {
    for client in CLIENTS {
        let ecdsa =
            served(&Settings { host_keys: vec!["ecdsa-sha2-nistp256".into()], ..Settings::default() });
        verified(client, &ecdsa, &["--kex", "ecdh-sha2-nistp256"]);
        assert!(ecdsa.host_keys()[0].starts_with("ecdsa-sha2-nistp256 "), "{:?}", ecdsa.host_keys());
        let hybrid = served(&Settings { kex: vec!["mlkem768x25519-sha256".into()], ..Settings::default() });
        if client == RUSSH {
            verified(client, &hybrid, &["--kex", "mlkem768x25519-sha256"]);
        }
        why_not(client, &hybrid, &["--kex", "curve25519-sha256"]);
    }
}

#[test]
fn a_password_or_a_key_is_asked_for_where_the_server_wants_one() {
    let folder = Folder::new("logins");
    let password = folder.file("password", "open sesame\n");
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).expect("russh makes such keys");
    let key = folder.file("key", &key.to_openssh(LineEnding::LF).expect("a key can be written"));
    let only = |method: &str| served(&Settings { methods: vec![method.into()], ..Settings::default() });
    for client in CLIENTS {
        verified(client, &only("password"), &["--password-file", &password]);
        verified(client, &only("publickey"), &["--key-file", &key]);
        let why = why_not(client, &only("password"), &[]).to_lowercase();
        assert!(why.contains("password"), "{why}");
    }
}

#[test]
fn a_peer_notices_what_does_not_come_back() {
    for client in CLIENTS {
        let served = served(&Settings::default());
        let why = why_not(client, &served, &["--command", "dd of=/dev/null"]);
        let lost = ["bytes were sent, 0 came back", "the last echoes did not come"];
        assert!(lost.iter().any(|lost| why.contains(lost)), "{why}");
        assert_ne!(served.counts().to_json()["payload_received_bytes"], 0);
    }
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ssh-peers-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for files");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("the folder is there");
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
