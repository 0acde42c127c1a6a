//! The token is in no argument, output, log, report or file of ours.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use scale_tests::host::{Folder, until};
use scale_tests::{Process, command, program};

use super::{Standin, create};

/// Every file below a folder that has `secret` in it.
pub(super) fn holding(folder: &Path, secret: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(holding(&entry, secret));
        } else if fs::read(&entry).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(secret)) {
            found.push(entry.display().to_string());
        }
    }
    found
}

fn arguments(pid: u32) -> String {
    fs::read(format!("/proc/{pid}/cmdline"))
        .map_or(String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// A daemon whose whole log is kept, at its most talkative, and which may leave a core file if it can.
struct Talkative {
    daemon: Process,
    log: mpsc::Receiver<String>,
    folder: Folder,
}

impl Talkative {
    fn start(folder: Folder) -> Self {
        let socket = folder.path("control.sock");
        let _ = fs::remove_file(&socket);
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\""]).arg(program("scaled"));
        command.arg("--config").arg(folder.path("scaled.toml")).arg("--socket").arg(&socket);
        command.arg("--state").arg(folder.path("runs")).args(["--metrics", "off"]);
        command.env("SCALED_LOG", "trace").current_dir(folder.path("")).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let (sender, log) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        let daemon = Process(child);
        until("the daemon", || UnixStream::connect(&socket).ok());
        Self { daemon, log, folder }
    }

    /// Runs `scalectl` to its end: all that it and both command lines say.
    fn say(&self, standin: &Standin, arguments: &[&str]) -> String {
        let mut command = command("scalectl");
        command.arg("--socket").arg(self.folder.path("control.sock")).args(arguments).stdin(Stdio::null());
        command.env("CODER_URL", standin.url()).env("CODER_SESSION_TOKEN", &standin.token);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        let lines = crate::coder::secrets::arguments(child.id()) + &self.arguments();
        let output = child.wait_with_output().expect("it ends");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        lines + &text(&output.stdout) + &text(&output.stderr)
    }

    fn arguments(&self) -> String {
        crate::coder::secrets::arguments(self.daemon.0.id())
    }

    /// `GET` on the control socket.
    fn get(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.folder.path("control.sock")).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: scaled\r\nConnection: close\r\n\r\n").expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("text");
        text
    }

    /// Ends it by a signal; the whole log, and whether it left a core file.
    fn kill(mut self, signal: &str) -> (String, bool, Folder) {
        self.daemon.signal(signal);
        let status = self.daemon.0.wait().expect("it ends");
        (self.log.iter().collect::<Vec<_>>().join("\n"), status.core_dumped(), self.folder)
    }
}

/// Words of a token's form: ten letters and digits, `-`, and twenty-two more.
fn tokens(text: &str) -> Vec<&str> {
    let is_token = |word: &&str| {
        let plain = |part: &str, length| part.len() == length && !part.contains('-');
        word.split_once('-').is_some_and(|(id, secret)| plain(id, 10) && plain(secret, 22))
    };
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(is_token).collect()
}

/// Every text of a folder's files.
fn texts_of(folder: &Path) -> String {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .map(|path| match path.is_dir() {
            true => texts_of(&path),
            false => String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned() + "\n",
        })
        .collect()
}

#[test]
fn traffic_keeps_every_token_to_itself_and_so_does_a_run_that_is_cut_off() {
    let standin = Standin::start(
        "build_time = '50ms'\nagent_time = '50ms'\nterminals = 'emulated'\ndisable_owner_workspace_exec = true\n",
        "",
    );
    assert_eq!(tokens(&format!("a {}, b", standin.token)), [&standin.token]);
    let mut first = Talkative::start(Folder::new());
    let mut said = first.say(&standin, &create("3", &["--no-cleanup", "--yes"]));
    let traffic = ["workspace-traffic", "--bytes-per-tick", "128", "--warm-up", "0s", "--duration"];
    said += &first.say(&standin, &[&traffic[..], &["1s", "--json"]].concat());
    said += &first.say(&standin, &[&traffic[..], &["1s", "--dry-run", "--json"]].concat());
    assert!(said.contains("\"streams_opened\":3"), "{said}");
    // Cut off twice while its streams flow: by SIGKILL, and by what would leave a core file.
    for (signal, end) in [("KILL", "the daemon was lost"), ("ABRT", "the daemon was lost")] {
        said += &first.say(&standin, &[&traffic[..], &["1m", "--detach"]].concat());
        let state = first.folder.path("runs");
        until("a checkpoint with traffic", || texts_of(&state).contains("\"ended\":\"going\"").then_some(()));
        for path in ["/metrics", "/v1/status", "/v1/runs/current/report", "/v1/runs"] {
            said += &first.get(path);
        }
        let (log, has_core, folder) = first.kill(signal);
        assert!(!has_core, "{signal} left a core file");
        said += &log;
        assert_eq!(tokens(&texts_of(&folder.path(""))), [""; 0]);
        first = Talkative::start(folder);
        let report = first.say(&standin, &["report", "--json"]);
        assert!(report.contains(end) && report.contains("\"ended\":\"lost\""), "{report}");
        said += &report;
    }
    said += &first.say(&standin, &["cleanup", "--yes"]);
    let (log, _, folder) = first.kill("TERM");
    said += &log;
    assert!(said.contains("scaled_streams") && said.contains("scaletest-r"), "{said}");
    assert_eq!(tokens(&said), [""; 0]);
    assert_eq!(tokens(&texts_of(&folder.path(""))), [""; 0]);
    let counts = standin.end();
    // Each run had a token of each owner's, and so had the making; a dry run makes none.
    assert_eq!(counts["requests"]["POST /api/v2/users/{user}/keys/tokens"]["201"], 3 * 4, "{counts}");
}

#[test]
fn the_token_is_nowhere_but_in_its_file_and_on_the_wire() {
    let standin = Standin::start(
        "build_time = '300ms'\n",
        "[[fault]]\nkind = 'build_fails'\nworkspace = 'scaletest-*-1'\n",
    );
    let secret = standin.token.split_once('-').expect("two parts").1;
    let daemon = Talkative::start(Folder::new());
    let mut said = String::new();
    for arguments in [
        create("3", &["--yes"]),
        create("1", &["--no-cleanup", "--yes", "--json"]),
        vec!["cleanup", "--yes"],
        vec!["report", "--json"],
        vec!["create-users", "--count", "1", "--organization", "nowhere", "--yes"],
    ] {
        said += &daemon.say(&standin, &arguments);
    }
    assert!(said.contains("build_failed") && said.contains("scaletest-r"), "{said}");
    let (log, _, folder) = daemon.kill("TERM");
    said += &log;
    assert!(said.contains("flow began"), "the log was kept: {said}");
    assert!(!said.contains(secret), "the token was said");
    assert_eq!(holding(&folder.path("runs"), secret), Vec::<String>::new());
    assert!(!holding(&folder.path("runs"), "scaletest-").is_empty(), "the folder was looked through");
    standin.end();
}
