//! SSH by others. The peers with russh's server: they are oracles for what is ours, so they have to get on
//! with each other, and to notice when something is wrong. Then the peers with our sink.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};
use scale_bench::peers::russh_server::{HostKey, Served, Settings};
use serde_json::Value;

const RUSSH: &str = env!("CARGO_BIN_EXE_peer-russh");
#[cfg(feature = "libssh2")]
const CLIENTS: [&str; 2] = [RUSSH, env!("CARGO_BIN_EXE_peer-ssh2")];
#[cfg(not(feature = "libssh2"))]
const CLIENTS: [&str; 1] = [RUSSH];

const CIPHERS: [&str; 5] = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
];
/// Of 409,600 B that each stream sends; three times more keys than the first.
const REKEY_BYTES: u64 = 100_000;

const STREAMS: u64 = 5;
/// Of each stream: 1 s of a message each 10 ms.
const MESSAGES: u64 = 100;

fn served(settings: &Settings) -> Served {
    Served::start(settings).expect("a port is free, and russh knows the names")
}

fn run(client: &str, target: SocketAddr, more: &[&str]) -> Output {
    let mut command = Command::new(client);
    command.args(["--target", &target.to_string(), "--conns", &STREAMS.to_string()]);
    command.args(["--tick-interval", "10ms", "--warm-up", "0s", "--duration", "1s", "--verify"]);
    command.args(more).output().expect("the program starts")
}

/// Its figures; every echo was compared and every channel ended with 0.
fn verified(client: &str, target: SocketAddr, more: &[&str]) -> Value {
    let output = run(client, target, more);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{client} {more:?}: {said}");
    serde_json::from_slice(&output.stdout).expect("its figures are JSON")
}

/// As [`verified`], with a server that sees nothing wrong either.
fn verified_by(served: &Served, client: &str, more: &[&str]) -> Value {
    let figures = verified(client, served.address(), more);
    assert_eq!(served.counts().to_json()["faults"], 0, "{client} {more:?}");
    figures
}

fn why_not(client: &str, served: &Served, more: &[&str]) -> String {
    let output = run(client, served.address(), more);
    assert!(!output.status.success(), "{client} {more:?} should have failed");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// russh counts: the first keys of each session, and later ones.
fn assert_keys_were_exchanged_again(client: &str, figures: &Value) {
    if client == RUSSH {
        let exchanges = figures["key_exchanges"].as_u64().expect("a number");
        assert!(exchanges >= 4 * STREAMS, "{exchanges} key exchanges");
    }
}

#[test]
fn every_byte_comes_back_by_each_cipher_and_through_new_keys() {
    for client in CLIENTS {
        for cipher in CIPHERS {
            let served = served(&Settings { rekey_bytes: REKEY_BYTES, ..Settings::default() });
            let figures = verified_by(&served, client, &["--cipher", cipher]);
            assert_keys_were_exchanged_again(client, &figures);
            let counts = served.counts().to_json();
            // The first session is for what is made once a process.
            assert_eq!(counts["authenticated"], STREAMS + 1, "{client} {cipher}");
            let bytes = counts["payload_received_bytes"].as_u64().expect("a number");
            assert!(bytes <= STREAMS * MESSAGES * 4096 && bytes > 0, "{client} {cipher}: {bytes} B");
        }
    }
}

#[test]
fn our_sink_gives_every_byte_back_by_each_cipher_and_through_new_keys() {
    for client in CLIENTS {
        for cipher in CIPHERS {
            let sink = Sink::start(&["--ssh-rekey-bytes", &REKEY_BYTES.to_string()]);
            let figures = verified(client, sink.address, &["--cipher", cipher]);
            assert_keys_were_exchanged_again(client, &figures);
            let counts = sink.end();
            assert_eq!(counts["connections"], STREAMS + 1, "{client} {cipher}");
            let (received, sent) = (&counts["payload_bytes_received"], &counts["payload_bytes_sent"]);
            assert_eq!(received, sent, "{client} {cipher}");
            // `messages` counts by due time, and leaves one out that was due as the run ended.
            assert_eq!(received, &figures["received_bytes"], "{client} {cipher}");
        }
    }
}

#[test]
fn our_sink_agrees_on_keys_by_each_key_exchange() {
    for client in CLIENTS {
        // libssh2 has no hybrid one.
        let hybrid = (client == RUSSH).then_some("mlkem768x25519-sha256");
        for kex in ["curve25519-sha256", "ecdh-sha2-nistp256"].into_iter().chain(hybrid) {
            verified(client, Sink::start(&[]).address, &["--kex", kex]);
        }
    }
}

#[test]
fn each_key_exchange_and_host_key_does() {
    for client in CLIENTS {
        let ecdsa =
            served(&Settings { host_keys: vec![HostKey::New("ecdsa-sha2-nistp256")], ..Settings::default() });
        verified_by(&ecdsa, client, &["--kex", "ecdh-sha2-nistp256"]);
        assert!(ecdsa.host_keys()[0].starts_with("ecdsa-sha2-nistp256 "), "{:?}", ecdsa.host_keys());
        let hybrid = served(&Settings { kex: vec!["mlkem768x25519-sha256".into()], ..Settings::default() });
        if client == RUSSH {
            verified_by(&hybrid, client, &["--kex", "mlkem768x25519-sha256"]);
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
        verified_by(&only("password"), client, &["--password-file", &password]);
        verified_by(&only("publickey"), client, &["--key-file", &key]);
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

/// Our sink as a process.
struct Sink {
    process: Child,
    address: SocketAddr,
}

impl Sink {
    fn start(more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scale-sink"));
        command.args(["--listen", "127.0.0.1:0", "--protocol", "ssh"]).args(more);
        let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut process = process.expect("the program starts");
        let said = BufReader::new(process.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let address = said.into_iter().find_map(|line| line.strip_prefix("listening on ")?.parse().ok());
        Self { process, address: address.expect("it says where it listens") }
    }

    fn stop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        // SIGTERM by the shell's own kill: this crate has no unsafe code.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }

    /// What it counted.
    fn end(mut self) -> Value {
        self.stop();
        let mut counts = String::new();
        let stdout = self.process.stdout.as_mut().expect("piped");
        stdout.read_to_string(&mut counts).expect("its counts are text");
        serde_json::from_str(&counts).expect("its counts are JSON")
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop();
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
