//! Secrets of every kind are where they have to be and nowhere else: not in what is said or kept, not in core files, and once
//! they have served, not in memory.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use scale_tests::certificate::Certificate;
use scale_tests::host::{Folder, until};
use scale_tests::{Daemon, Sink, program};

use crate::error;
use crate::faults::{event, start, stop};

/// A secret: its name for people, and what no output, file or memory may have of it.
struct Planted {
    name: &'static str,
    words: Vec<Vec<u8>>,
}

impl Planted {
    fn new(name: &'static str, word: &str) -> Self {
        // As it is, and as it travels from `scalectl` to the daemon.
        let hex: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
        Self { name, words: vec![word.as_bytes().to_vec(), hex.into_bytes()] }
    }

    fn is_in(&self, bytes: &[u8]) -> usize {
        self.words.iter().map(|word| count(bytes, word)).sum()
    }
}

/// How often a word is in so many bytes that each is looked at but once.
fn count(bytes: &[u8], word: &[u8]) -> usize {
    let (mut rest, mut count) = (bytes, 0);
    while let Some(at) = rest.iter().position(|byte| *byte == word[0]) {
        count += usize::from(rest[at..].starts_with(word));
        rest = &rest[at + 1..];
    }
    count
}

/// A word of letters and digits that stands nowhere else: tests are not to find their own text.
fn word(name: &str) -> String {
    let seed = scale_ring::host::random_seed();
    format!("{name}{seed:016x}{:016x}", seed.rotate_left(17) ^ 0x9e37_79b9_7f4a_7c15)
}

/// The part of a PEM file or an OpenSSH key that nobody else has.
fn middle_line(file: &str) -> String {
    let lines: Vec<&str> = file.lines().filter(|line| !line.starts_with('-')).collect();
    lines[lines.len() / 2].to_owned()
}

/// Private memory of a process, piece by piece, without pages of zeros; as root, for nobody else may look.
fn memory(pid: u32) -> Vec<Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it is there, and we are root");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("it is there, and we are root");
    let mut pieces = Vec::new();
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|may| may.starts_with("rw"))) {
        let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("hex");
        let (from, to) = (number(from), number(to));
        // Page by page: some are the kernel's or a device's.
        let mut piece = Vec::new();
        for page in (from..to).step_by(4096) {
            let mut bytes = [0; 4096];
            match memory.read_exact_at(&mut bytes, page) {
                Ok(()) if bytes != [0; 4096] => piece.extend_from_slice(&bytes),
                _ => pieces.push(std::mem::take(&mut piece)),
            }
        }
        pieces.push(piece);
    }
    pieces
}

fn is_root() -> bool {
    scale_ring::host::effective_uid() == 0
}

/// How often each secret is in a process's memory; those that are.
fn remembered(pid: u32, planted: &[Planted]) -> Vec<(&'static str, usize)> {
    let pieces = memory(pid);
    let total = |secret: &Planted| pieces.iter().map(|piece| secret.is_in(piece)).sum::<usize>();
    planted.iter().map(|secret| (secret.name, total(secret))).filter(|(_, count)| *count > 0).collect()
}

/// Secrets of every kind that runs have, in files.
struct Site {
    folder: Folder,
    planted: Vec<Planted>,
}

impl Site {
    fn new() -> Self {
        let folder = Folder::new();
        let mut planted = Vec::new();
        let mut plant = |name: &'static str, file: &str, text: String, word: &str| {
            planted.push(Planted::new(name, word));
            folder.write(file, &text);
        };
        for (name, file, before) in [
            ("a header", "headers", "Authorization: Bearer "),
            ("a header for the Prometheus", "observe-headers", "Authorization: Bearer "),
            ("a password", "password", ""),
            ("a passphrase", "passphrase", ""),
        ] {
            let word = word("canary");
            plant(name, file, format!("{before}{word}\n"), &word);
        }
        let certificate = Certificate::new(&["client"]);
        plant("a TLS key", "tls-key.pem", certificate.key.clone(), &middle_line(&certificate.key));
        folder.write("tls-cert.pem", &certificate.certificate);
        Self { folder, planted }
    }

    /// A key with the passphrase.
    fn make_ssh_key(&mut self) -> Option<()> {
        scale_tests::host::installed("ssh-keygen")?;
        let passphrase = fs::read_to_string(self.folder.path("passphrase")).expect("written");
        let path = self.folder.path("ssh-key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", passphrase.trim(), "-f"])
            .arg(&path)
            .status();
        assert!(made.expect("it runs").success());
        self.planted.push(Planted::new("an SSH key", &middle_line(&fs::read_to_string(path).expect("made"))));
        Some(())
    }

    fn path(&self, file: &str) -> String {
        self.folder.path(file).display().to_string()
    }

    /// A run file with all of them.
    fn run_file(&self, wss: &str, ca: &str, ssh: &str, prometheus: &str) -> String {
        let text = format!(
            "[[group]]\nname = 'web'\ntarget = ['{wss}?token={query}']\nconns = 3\nca = '{ca}'\ncert = 'tls-cert.pem'\nkey = 'tls-key.pem'\nheader_file = 'headers'\nwarm_up = '0s'\nduration = '2s'\n\
             [[group]]\nname = 'shell'\ntarget = ['{ssh}']\nconns = 3\nssh_identity = ['ssh-key']\nssh_passphrase_file = 'passphrase'\nssh_password_file = 'password'\ninsecure_host_keys = true\nwarm_up = '0s'\nduration = '2s'\n\
             [observe]\nprometheus = '{prometheus}'\nheader_file = 'observe-headers'\ninterval = '1s'\n[observe.query]\nup = 'up'\n",
            query = self.query(),
        );
        self.folder.write("run.toml", &text)
    }

    fn query(&self) -> String {
        self.path("").bytes().map(|byte| format!("{byte:x}")).collect::<String>() + "query"
    }

    fn found_in(&self, bytes: &[u8]) -> Vec<&'static str> {
        self.planted.iter().filter(|secret| secret.is_in(bytes) > 0).map(|secret| secret.name).collect()
    }
}

/// A Prometheus that answers one figure to whoever asks.
fn prometheus() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    format!("http://{address}")
}

fn answer(mut stream: TcpStream) {
    let mut bytes = [0; 8192];
    while matches!(stream.read(&mut bytes), Ok(1..)) {
        let body =
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}"#;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    }
}

/// Every byte below a folder.
fn bytes_of(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        match entry.is_dir() {
            true => bytes.extend(bytes_of(&entry)),
            false => bytes.extend(fs::read(&entry).unwrap_or_default()),
        }
    }
    bytes
}

fn get(daemon: &Daemon, path: &str) -> Vec<u8> {
    let mut stream = UnixStream::connect(daemon.socket()).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: scaled\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    bytes
}

fn arguments(pid: u32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

#[test]
fn no_secret_of_a_run_is_said_or_kept_or_remembered_when_it_has_ended() {
    let mut site = Site::new();
    if site.make_ssh_key().is_none() {
        return;
    }
    let ca = site.path("ca.pem");
    let wss = Sink::start(&["--protocol", "wss", "--ca-out", &ca]);
    let ssh = Sink::start(&["--protocol", "ssh"]);
    let file = site.run_file(
        &format!("wss://localhost:{}/", wss.address.rsplit(':').next().expect("a port")),
        &ca,
        &format!("ssh://somebody@{}", ssh.address),
        &prometheus(),
    );
    let daemon = Daemon::start();
    let pid = daemon.process.as_ref().expect("it runs").0.id();
    let mut said = arguments(pid);
    let mut scalectl = daemon.command(&["--json", "start", "--file", &file]);
    let scalectl = scalectl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    until("a second of the run", || {
        let status = daemon.scalectl(&["--json", "status"]).stdout;
        String::from_utf8_lossy(&status).contains("\"elapsed\"").then_some(())
    });
    said.extend(arguments(scalectl.id()));
    if is_root() {
        // It follows the run, and has handed over what it had.
        assert_eq!(remembered(scalectl.id(), &site.planted), [], "in scalectl's memory");
    }
    for path in
        ["/v1/status", "/v1/runs/current/report", "/v1/runs/current/report.html", "/v1/runs", "/metrics"]
    {
        said.extend(get(&daemon, path));
    }
    let output = scalectl.wait_with_output().expect("it ends");
    said.extend([&output.stdout[..], &output.stderr].concat());
    let report: scale_api::report::Report =
        serde_json::from_str(String::from_utf8_lossy(&output.stdout).lines().last().expect("a report"))
            .expect("JSON");
    // Whose memory is searched misses a tick now and then.
    assert_ne!(report.verdict.outcome, scale_api::report::Outcome::Aborted, "{:?}", report.verdict);
    assert_eq!(
        (report.load.streams_opened, report.observe.len()),
        (6, 1),
        "{:?} {:?}",
        report.verdict,
        report.warnings
    );
    for path in [
        "/v1/runs/last/report",
        "/v1/runs/last/report.html",
        "/v1/runs/last/histograms",
        "/metrics",
        "/v1/doctor",
    ] {
        said.extend(get(&daemon, path));
    }
    assert_eq!(site.found_in(&said), [""; 0], "said");
    let kept = bytes_of(&daemon.state());
    assert!(kept.windows(8).any(|window| window == b"run.toml") || !kept.is_empty());
    assert_eq!(site.found_in(&kept), [""; 0], "kept");
    assert!(!String::from_utf8_lossy(&kept).contains(&site.query()), "a target's query is kept");
    if !is_root() {
        eprintln!("skipped: only root may look into the daemon's memory");
        return;
    }
    // Connections to the daemon that held a request end with their callers, which takes a moment.
    let mut left = Vec::new();
    for _ in 0..50 {
        left = remembered(pid, &site.planted);
        if left.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(left, [], "in the daemon's memory");
    // The search finds what is there.
    let own = Planted {
        name: "a word of its own",
        words: vec![b"/v1/status".to_vec(), daemon.socket().display().to_string().into_bytes()],
    };
    assert!(!remembered(pid, &[own]).is_empty(), "the memory was looked through");
}

#[test]
fn files_with_secrets_that_others_may_read_are_refused_and_pipes_are_not() {
    let site = Site::new();
    let daemon = Daemon::start();
    let sink = Sink::start(&["--protocol", "ws"]);
    let target = format!("ws://{}/", sink.address);
    let headers = site.path("headers");
    fs::set_permissions(&headers, fs::Permissions::from_mode(0o644)).expect("ours");
    let start = ["start", "--dry-run", "--conns", "1", "--target", &target, "--header-file"];
    let output = daemon.scalectl(&[&start[..], &[&headers]].concat());
    let said = error(&output);
    assert!(output.status.code() == Some(2) && said.contains(&format!("; chmod 600 {headers}")), "{said}");
    assert_eq!(site.found_in(said.as_bytes()), [""; 0]);
    // By a pipe, as from a password manager.
    let mut scalectl = daemon.command(&[&start[..], &["/dev/stdin"]].concat());
    let mut scalectl = scalectl.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it runs");
    scalectl.stdin.take().expect("piped").write_all(&fs::read(&headers).expect("ours")).expect("it reads");
    assert!(scalectl.wait().expect("it ends").success());
    // By a systemd credential, whatever its mode says.
    let output = daemon
        .command(&start[..6])
        .env("CREDENTIALS_DIRECTORY", site.folder.path(""))
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", error(&output));
    // A token, too.
    let token = site.folder.write("token", "canary1234-ABCDEFGHIJKLMNOPQRSTUV");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o604)).expect("ours");
    let mut command =
        daemon.command(&["create-users", "--count", "1", "--url", "http://127.0.0.1:9", "--yes"]);
    let said = error(&command.env("CODER_SESSION_TOKEN_FILE", &token).output().expect("it runs"));
    assert!(said.contains(&format!("; chmod 600 {token}")) && !said.contains("ABCDEFGH"), "{said}");
}

/// A program as a user who is nobody.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    command
}

#[test]
fn the_daemon_leaves_no_core_file_and_nobody_looks_into_it() {
    let daemon = Daemon::start();
    let pid = daemon.process.as_ref().expect("it runs").0.id();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a line of it");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    if !is_root() || scale_tests::host::installed("setpriv").is_none() {
        eprintln!("skipped: only root can be somebody else");
        return;
    }
    // The same user, and no root: what is his own he may read, the daemon's he may not.
    let folder = Folder::new();
    let own = |name: &str| -> PathBuf {
        let path = folder.path(name);
        fs::copy(program(name), &path).expect("copied");
        path
    };
    std::os::unix::fs::chown(folder.path(""), Some(65534), Some(65534)).expect("we are root");
    let mut command = as_nobody(&own("scaled"));
    command.arg("--socket").arg(folder.path("s.sock")).arg("--state").arg(folder.path("runs"));
    command.arg("--config").arg(folder.path("scaled.toml")).args(["--metrics", "off"]);
    let (nobodys, _) = scale_tests::Process::start(&mut command, "ready");
    let mut sleep = as_nobody(Path::new("sleep")).arg("60").spawn().expect("it runs");
    let looks = |pid: u32, at: &str| {
        let open = format!("exec 3</proc/{pid}/{at}; read -r line <&3 || :");
        as_nobody(Path::new("sh")).args(["-c", &open]).status().expect("it runs").success()
    };
    // Not its `mem`: a kernel may keep that from all but a debugger's own children (Yama).
    until("the other program", || looks(sleep.id(), "maps").then_some(()));
    for at in ["maps", "mem", "environ"] {
        assert!(!looks(nobodys.0.id(), at), "{at} of the daemon can be read by its user");
    }
    sleep.kill().and_then(|()| sleep.wait()).expect("it was there");
}

#[test]
fn a_run_that_goes_has_its_secrets_and_one_that_was_stopped_has_none() {
    let site = Site::new();
    let daemon = Daemon::start();
    let sink = Sink::start(&["--protocol", "ws"]);
    start(
        &daemon,
        &[
            "--conns",
            "5",
            "--target",
            &format!("ws://{}/", sink.address),
            "--header-file",
            &site.path("headers"),
        ],
    );
    until("the first second", || Some(event(&daemon)).filter(|event| event.elapsed >= 1.0));
    if !is_root() {
        eprintln!("skipped: only root may look into the daemon's memory");
        return;
    }
    let pid = daemon.process.as_ref().expect("it runs").0.id();
    // It is needed for reconnects: the search does find it.
    assert!(!remembered(pid, &site.planted).is_empty(), "the header is not in the daemon's memory");
    stop(&daemon);
    until("the header to be gone", || remembered(pid, &site.planted).is_empty().then_some(()));
}
