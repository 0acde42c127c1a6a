//! SSH clients by others on our sink.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use scale_tests::host::{Folder, installed, until};
use scale_tests::{Process, Sink};
use scaled::load::Random;
use serde_json::json;

const CIPHERS: [&str; 5] = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
];
/// Several windows, and, where keys are asked for after 100 kB, many exchanges.
const BYTES: usize = 5_000_000;

/// `ssh` or `dbclient` for a sink: what comes before the destination.
struct Client {
    command: Vec<String>,
    port: String,
}

impl Client {
    /// OpenSSH's, without anybody's configuration; it knows the sink by `known_hosts` alone.
    fn ssh(program: std::path::PathBuf, folder: &Folder, sink: &Sink) -> Self {
        let mut command: Vec<String> =
            ["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"].map(Into::into).into();
        command.insert(0, program.to_string_lossy().into_owned());
        command.push("-o".to_owned());
        command.push(format!("UserKnownHostsFile={}", folder.path("known_hosts").display()));
        Self { command, port: port(sink) }
    }

    /// It with `options`, and `program` on the other side.
    fn command(&self, options: &[&str], program: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg("100").args(&self.command).args(["-p", &self.port]).args(options);
        command.arg("load@127.0.0.1").args(program);
        command
    }

    /// Runs it to its end; the program gets `input`.
    fn run(&self, options: &[&str], program: &[&str], input: Vec<u8>) -> Output {
        let mut child = self
            .command(options, program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("piped");
        let writer = std::thread::spawn(move || stdin.write_all(&input).ok());
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("it writes");
        output
    }

    /// [`BYTES`] come back as they went.
    fn echoes(&self, options: &[&str], seed: u64) {
        let mut random = Random::new(seed);
        let sent: Vec<u8> = (0..BYTES / 8).flat_map(|_| random.next().to_ne_bytes()).collect();
        let output = self.run(options, &["cat"], sent.clone());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{options:?}: {} {said}", output.status);
        assert!(output.stdout == sent, "{options:?}: {} B came back: {said}", output.stdout.len());
    }
}

fn port(sink: &Sink) -> String {
    sink.address.rsplit(':').next().expect("a port").to_owned()
}

/// A sink that is known by a key of its own, for as long as the folder is there.
fn sink(folder: &Folder, arguments: &[&str]) -> Sink {
    let key = folder.path("host_key");
    if !key.exists() {
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.expect("it comes with ssh").success());
    }
    let key_path = key.to_string_lossy().into_owned();
    let mine = ["--protocol", "ssh", "--ssh-host-key", &key_path];
    let sink = Sink::start(&[&mine, arguments].concat());
    let public = std::fs::read_to_string(key.with_extension("pub")).expect("its public half");
    folder.write("known_hosts", &format!("[127.0.0.1]:{} {public}", port(&sink)));
    sink
}

#[test]
fn openssh_gets_every_byte_back_by_every_cipher_while_both_sides_change_keys() {
    let Some(ssh) = installed("ssh") else { return };
    let folder = Folder::new();
    let sink = sink(&folder, &["--ssh-rekey-bytes", "150000"]);
    let client = Client::ssh(ssh, &folder, &sink);
    for (seed, cipher) in CIPHERS.into_iter().enumerate() {
        client.echoes(&["-c", cipher, "-o", "RekeyLimit=200K"], seed as u64);
    }
    let counts = sink.counts();
    let bytes = CIPHERS.len() * BYTES;
    assert_eq!(
        (&counts["connections"], &counts["payload_bytes_received"], &counts["payload_bytes_sent"]),
        (&json!(CIPHERS.len()), &json!(bytes), &json!(bytes))
    );
}

#[test]
fn dropbears_client_gets_every_byte_back_while_keys_change() {
    let Some(dbclient) = installed("dbclient") else { return };
    let sink = Sink::start(&["--protocol", "ssh", "--ssh-rekey-bytes", "150000"]);
    let command = vec![dbclient.to_string_lossy().into_owned(), "-y".to_owned(), "-y".to_owned()];
    Client { command, port: port(&sink) }.echoes(&[], 7);
}

#[test]
fn openssh_shares_a_connection_among_channels_and_forwards() {
    let Some(ssh) = installed("ssh") else { return };
    let folder = Folder::new();
    let sink = sink(&folder, &[]);
    let client = Client::ssh(ssh, &folder, &sink);
    let socket = folder.path("mux");
    let control = format!("ControlPath={}", socket.display());
    let shared = ["-o", &control];
    let mut master = client.command(&["-o", &control, "-M", "-N"], &[]);
    let _master = Process(master.stdin(Stdio::null()).spawn().expect("it starts"));
    until("the shared connection", || socket.exists().then_some(()));
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (client, shared) = (&client, &shared);
            scope.spawn(move || client.echoes(shared, seed));
        }
        let forward = ["-o", &control, "-W", "10.0.0.1:80"];
        let client = &client;
        scope.spawn(move || {
            let output = client.run(&forward, &[], b"through a bastion".to_vec());
            assert_eq!(output.stdout, b"through a bastion");
        });
    });
    let left = client.run(&["-o", &control, "-O", "exit"], &[], Vec::new());
    assert!(left.status.success(), "{}", String::from_utf8_lossy(&left.stderr));
    assert_eq!(sink.counts()["connections"], 1);
}

#[test]
fn openssh_sees_how_programs_end() {
    let Some(ssh) = installed("ssh") else { return };
    let folder = Folder::new();
    let sink = sink(&folder, &[]);
    let client = Client::ssh(ssh, &folder, &sink);
    let code = |program: &str| client.run(&[], &[program], Vec::new()).status.code();
    assert_eq!((code("exit 3"), code("exit 0")), (Some(3), Some(0)));
    let discarded = client.run(&[], &["dd of=/dev/null"], vec![1; 100_000]);
    assert_eq!((discarded.status.code(), discarded.stdout.len()), (Some(0), 0));
    let typed = client.run(&["-t", "-t"], &["dd of=/dev/null"], b"abc\n\x04".to_vec());
    assert_eq!((typed.status.code(), &*typed.stdout), (Some(0), &b"abc\r\n"[..]));
    assert_eq!(sink.counts()["payload_bytes_received"], 100_004);
}
