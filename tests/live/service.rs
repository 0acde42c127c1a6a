//! The daemon as systemd has it: what it tells its manager, sockets that are passed to it, reloads, and the units
//! themselves. The manager is a datagram socket of the test's own (sd_notify(3)).

mod units;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use scale_api::report::Report;
use scale_tests::host::{Folder, installed, root, until};
use scale_tests::{Process, Sink, command, program};

/// The longest wait for a word; two minutes are for a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// After which a daemon that is silent would be ended: short, and long enough for a busy machine.
const WATCHDOG_USEC: &str = "6000000";
/// Three times as often as a sign of life is due.
const SILENCE: Duration = Duration::from_secs(9);

/// A daemon whose words are heard and whose log is a file.
struct Service {
    process: Process,
    folder: Folder,
    words: Receiver<String>,
}

impl Service {
    fn start(settings: &str, environment: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let words = manager(&folder);
        folder.write("scaled.toml", settings);
        let mut scaled = scaled(&folder);
        scaled.arg("--socket").arg(folder.path("control.sock")).args(["--metrics", "off"]);
        scaled.env("NOTIFY_SOCKET", folder.path("notify")).envs(environment.iter().copied());
        let process = Process(scaled.spawn().expect("it starts"));
        let service = Self { process, folder, words };
        service.hear("READY=1");
        service
    }

    /// Waits for a word that has `part`; what was said until then, it included.
    fn hear(&self, part: &str) -> Vec<String> {
        let mut heard = Vec::new();
        while heard.last().is_none_or(|word: &String| !word.contains(part)) {
            let word = self.words.recv_timeout(PATIENCE);
            heard.push(word.unwrap_or_else(|_| panic!("waited for {part}, heard {heard:?}: {}", self.log())));
        }
        heard
    }

    /// What is said within `time`, but for what was said before.
    fn listen(&self, time: Duration) -> Vec<String> {
        while self.words.try_recv().is_ok() {}
        std::thread::sleep(time);
        self.words.try_iter().collect()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path("log")).expect("text")
    }

    fn scalectl(&self, arguments: &[&str]) -> Output {
        scalectl(&self.folder, arguments)
    }

    /// Starts `conns` streams that do not end by themselves.
    fn run(&self, target: &str, conns: &str) {
        let output = self.scalectl(&[
            "start",
            "--detach",
            "--name",
            "live",
            "--target",
            target,
            "--conns",
            conns,
            "--warm-up",
            "0s",
            "--duration",
            "forever",
        ]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn report(&self) -> Report {
        serde_json::from_slice(&self.scalectl(&["--json", "report", "last"]).stdout).expect("a report")
    }

    /// The thread of that name; `None`: there is none yet.
    fn thread(&self, name: &str) -> Option<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.0.id())).expect("a process");
        let mut tasks = tasks.flatten().map(|task| task.path());
        let task = tasks.find(|task| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.starts_with(name))
        })?;
        Some(task.file_name().expect("a number").to_string_lossy().into_owned())
    }
}

fn scalectl(folder: &Folder, arguments: &[&str]) -> Output {
    let mut scalectl = command("scalectl");
    scalectl.arg("--socket").arg(folder.path("control.sock")).args(arguments);
    scalectl.stdin(Stdio::null()).output().expect("it runs")
}

/// `scaled` with its files in `folder`, its log there as well, and nothing of a manager that the test itself has.
fn scaled(folder: &Folder) -> Command {
    let mut scaled = command("scaled");
    scaled.arg("--config").arg(folder.path("scaled.toml")).arg("--state").arg(folder.path("runs"));
    for name in ["SCALED_LOG", "JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        scaled.env_remove(name);
    }
    let log = File::create(folder.path("log")).expect("a file");
    scaled.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    scaled
}

/// Hears what is said to `notify` in `folder`.
fn manager(folder: &Folder) -> Receiver<String> {
    let socket = UnixDatagram::bind(folder.path("notify")).expect("a socket");
    let (sender, words) = mpsc::channel();
    std::thread::spawn(move || {
        let mut word = [0; 4096];
        while let Ok(bytes) = socket.recv(&mut word) {
            let word = String::from_utf8(word[..bytes].to_vec()).expect("text");
            if sender.send(word).is_err() {
                return;
            }
        }
    });
    words
}

/// A thread that stands still until this is dropped.
struct Held(Child);

impl Held {
    /// `None`: this user may not, which is said.
    fn hold(thread: &str) -> Option<Self> {
        let python = installed("python3")?;
        let mut hold = Command::new(python);
        hold.arg(root().join("tests/live/hold.py")).arg(thread);
        hold.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = hold.spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("text");
        if line == "held\n" {
            return Some(Self(child));
        }
        let mut why = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut why).expect("text");
        child.wait().expect("it ends");
        skipped(&format!("one thread cannot be held still here ({})", why.trim()));
        None
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Says that a test is skipped, which in CI is a failure.
fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var_os("CI").is_none(), "{test}: {why}");
    let _ = writeln!(std::io::stderr(), "{test}: skipped, {why}");
}

fn is_alive(word: &String) -> bool {
    word == "WATCHDOG=1"
}

#[test]
fn the_manager_hears_ready_then_what_goes_in_a_line_and_at_last_that_it_ends() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let mut service = Service::start("", &[]);
    assert!(!service.log().contains("level"), "{}", service.log());
    let begun = scale_ring::host::monotonic_now();
    service.run(&format!("ws://{}/", sink.address), "20");
    let mut heard = service.hear("20 streams open");
    let line = heard.last().expect("the line");
    assert!(line.starts_with("STATUS=run r") && line.contains(" (live) ") && !line.contains('\n'), "{line}");
    heard.extend(service.listen(Duration::from_secs(3)));
    let seconds = scale_ring::host::monotonic_now().since(begun).as_secs();
    let lines = heard.iter().filter(|word| word.starts_with("STATUS=")).count() as u64;
    assert!(lines >= 2 && lines <= seconds + 2, "{lines} lines in {seconds} s: {heard:?}");
    assert!(service.scalectl(&["stop", "--now"]).status.code() == Some(5));
    service.hear("STATUS=idle");
    // Nobody asked for signs of life.
    assert!(!heard.iter().any(is_alive), "{heard:?}");
    service.process.signal("TERM");
    service.hear("STOPPING=1");
    assert!(service.process.0.wait().expect("it ends").success());
}

#[test]
fn a_worker_that_stands_still_is_named_and_the_sign_of_life_stops_until_it_moves() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let service = Service::start("", &[("WATCHDOG_USEC", WATCHDOG_USEC)]);
    service.run(&format!("ws://{}/", sink.address), "10");
    let worker = until("a worker", || service.thread("worker-"));
    service.hear("10 streams open");
    service.hear("WATCHDOG=1");
    let Some(held) = Held::hold(&worker) else { return };
    let heard = service.hear("has stood still");
    assert!(heard.last().is_some_and(|line| line.contains("STATUS=the worker on core")), "{heard:?}");
    let heard = service.listen(SILENCE);
    assert!(!heard.iter().any(is_alive), "a sign of life without the worker: {heard:?}");
    assert!(service.log().contains("has not moved for"), "{}", service.log());
    // The control thread answers all the while.
    assert!(service.scalectl(&["status"]).status.success());
    drop(held);
    service.hear("WATCHDOG=1");
    until("the log to say so", || service.log().contains("moves again").then_some(()));
    // The run has gone on.
    assert_eq!(service.scalectl(&["stop", "--now"]).status.code(), Some(5));
    assert_eq!(service.report().load.streams_opened, 10);
}

#[test]
fn a_worker_that_stands_still_does_not_keep_the_daemon_from_its_end() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let mut service = Service::start("", &[]);
    service.run(&format!("ws://{}/", sink.address), "10");
    let worker = until("a worker", || service.thread("worker-"));
    service.hear("10 streams open");
    let Some(held) = Held::hold(&worker) else { return };
    service.process.signal("TERM");
    // Its first thread has ended, and waits for the one that is held to be let go.
    let stat = format!("/proc/{}/stat", service.process.0.id());
    until("its end", || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z ")).then_some(()));
    drop(held);
    service.process.0.wait().expect("it ends");
    assert!(service.log().contains("is left behind"), "{}", service.log());
    assert!(!service.folder.path("control.sock").exists());
}

#[test]
fn a_control_thread_that_stands_still_gives_no_sign_of_life() {
    let service = Service::start("", &[("WATCHDOG_USEC", WATCHDOG_USEC)]);
    service.hear("WATCHDOG=1");
    let alive = service.listen(SILENCE).iter().filter(|word| is_alive(word)).count();
    assert!(alive >= 1, "half of {WATCHDOG_USEC} us is how often it comes");
    let Some(held) = Held::hold(&service.process.0.id().to_string()) else { return };
    let heard = service.listen(SILENCE);
    assert!(heard.is_empty(), "{heard:?}");
    drop(held);
    service.hear("WATCHDOG=1");
}

#[test]
fn a_watchdog_that_is_meant_for_another_process_is_nobodys() {
    let service = Service::start("", &[("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", "1")]);
    let heard = service.listen(Duration::from_secs(1));
    assert!(!heard.iter().any(is_alive), "{heard:?}");
}

#[test]
fn sighup_reads_the_files_again_and_says_what_waits_for_a_restart() {
    let service = Service::start("runs_kept_max = 7\n", &[]);
    service.folder.write("scaled.toml", "runs_kept_max = 8\nrealtime = \"fifo\"\nlog = \"debug\"\n");
    service.process.signal("HUP");
    let heard = service.hear("READY=1");
    let reloading = heard.iter().find(|word| word.starts_with("RELOADING=1\n")).expect("it is announced");
    let since = reloading.trim().split_once("MONOTONIC_USEC=").expect("since when").1;
    assert!(since.parse::<u64>().expect("a number") <= scale_ring::host::monotonic_now().ns() / 1000);
    service.hear("STATUS=idle; to be restarted: realtime stays off, not fifo");
    let log = service.log();
    for said in
        ["kept are 8 runs", "realtime stays off, not fifo, until scaled is restarted", "the log has debug"]
    {
        assert!(log.contains(said), "{said}: {log}");
    }
    // What is debug is logged from now on: where the manager has gone.
    std::fs::remove_file(service.folder.path("notify")).expect("it was there");
    assert!(service.scalectl(&["reload"]).status.success());
    until("a line of that level", || service.log().contains("does not hear").then_some(()));
}

#[test]
fn a_daemon_that_was_started_in_a_terminal_ends_with_it() {
    const SCRIPT: &str = r#"
import os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
os.kill(pid, 1)
time.sleep(0.5)
print("there" if os.waitpid(pid, os.WNOHANG) == (0, 0) else "gone", flush=True)
os.close(terminal)
print(os.waitpid(pid, 0)[1])
"#;
    let Some(python) = installed("python3") else { return };
    let folder = Folder::new();
    let socket = folder.path("control.sock").display().to_string();
    let mut script = Command::new(python);
    script.args(["-c", SCRIPT, &socket]).arg(program("scaled")).args(scaled(&folder).get_args());
    script.args(["--socket", &socket, "--metrics", "off"]).stdin(Stdio::null());
    let output = script.output().expect("it runs");
    // A SIGHUP by hand reloads; that of the terminal which has gone ends it, in order.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "there\n0\n", "{output:?}");
    assert!(!folder.path("control.sock").exists());
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_everybody_is_told() {
    let service = Service::start("runs_kept_max = 7\n", &[]);
    let targets = || String::from_utf8(service.scalectl(&["targets"]).stdout).expect("text");
    let rules = "[[target]]\nhost = \"gw.example.com\"\naddresses = [\"10.0.0.0/8\"]\n";
    service.folder.write("targets.toml", rules);
    assert!(service.scalectl(&["reload"]).status.success());
    assert!(targets().contains("gw.example.com"), "{}", targets());
    for (file, text) in [
        ("targets.toml", "[[target]]\naddresses = [\"10.0.0.0/33\"]\n"),
        ("scaled.toml", "runs_kept_max = \"many\"\n"),
        ("scaled.toml", "log = \"loud\"\n"),
    ] {
        let right = std::fs::read_to_string(service.folder.path(file)).expect("text");
        service.folder.write(file, text);
        let output = service.scalectl(&["reload"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}: {said}");
        assert!(said.contains("nothing has changed"), "{said}");
        service.hear("STATUS=idle; reload failed, nothing has changed");
        assert!(targets().contains("gw.example.com") && service.log().contains("ERROR"), "{}", targets());
        service.folder.write(file, &right);
        assert!(service.scalectl(&["reload"]).status.success());
        until("the line without it", || {
            service.hear("STATUS=idle").last().filter(|word| *word == "STATUS=idle").cloned()
        });
    }
    let same = String::from_utf8(service.scalectl(&["reload"]).stdout).expect("text");
    assert!(same.contains("nothing has changed"), "{same}");
}

#[test]
fn a_list_that_forbids_what_goes_ends_it_with_the_reason_and_one_that_allows_it_does_not() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let service = Service::start("", &[]);
    let allow = |text: &str| {
        service.folder.write("targets.toml", &format!("[[target]]\naddresses = [\"127.0.0.0/8\"]\n{text}"));
        let output = service.scalectl(&["--json", "reload"]);
        serde_json::from_slice::<scale_api::http::Reloaded>(&output.stdout).expect("what it came to")
    };
    service.run(&format!("ws://{}/", sink.address), "10");
    let done = allow("streams_max = 10\n");
    assert!(done.ended.is_none() && done.applied.iter().any(|what| what.contains("10 streams")), "{done:?}");
    service.hear("10 streams open");
    assert!(service.scalectl(&["--json", "status"]).status.success());
    // The cap is lowered below what goes.
    let done = allow("streams_max = 9\n");
    assert!(done.ended.is_some_and(|why| why.contains("9 streams")));
    service.hear("STATUS=idle");
    let verdict = service.report().verdict;
    assert_eq!(verdict.exit_code, 5, "{verdict:?}");
    assert!(verdict.reasons.iter().any(|why| why.contains("the list of targets was changed")), "{verdict:?}");
    // And now it may not be started either.
    let target = format!("ws://{}/", sink.address);
    assert_eq!(service.scalectl(&["start", "--target", &target, "--conns", "10"]).status.code(), Some(3));
}

/// Starts `scaled` with stdin and stdout as descriptors 3 and 4: what systemd does for it.
fn with_passed(folder: &Folder, sockets: [OwnedFd; 2], names: &str, arguments: &[&str]) -> Process {
    const SCRIPT: &str = r#"LISTEN_PID=$$; export LISTEN_PID; exec "$@" 3<&0 4>&1 0</dev/null 1>/dev/null"#;
    let direct = scaled(folder);
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT, "sh"]).arg(program("scaled")).args(direct.get_args()).args(arguments);
    shell.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", names).env_remove("SCALED_LOG");
    let [first, second] = sockets;
    let log = File::create(folder.path("log")).expect("a file");
    Process(shell.stdin(first).stdout(second).stderr(log).spawn().expect("it starts"))
}

#[test]
fn sockets_that_are_passed_are_taken_by_name_and_left_in_the_end() {
    let folder = Folder::new();
    let path = folder.path("control.sock");
    let metrics = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = metrics.local_addr().expect("bound");
    let sockets = [metrics.into(), UnixListener::bind(&path).expect("a socket").into()];
    let mut daemon = with_passed(&folder, sockets, "metrics:control", &[]);
    // It waits in the socket, from before the daemon listens.
    assert!(scalectl(&folder, &["status"]).status.success());
    let mut page = std::net::TcpStream::connect(address).expect("it listens");
    write!(page, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut text = String::new();
    page.read_to_string(&mut text).expect("text");
    assert!(text.contains("scaled_build_info"), "{text}");
    daemon.signal("TERM");
    assert!(daemon.0.wait().expect("it ends").success());
    assert!(path.exists(), "the file is its giver's");
    let log = std::fs::read_to_string(folder.path("log")).expect("text");
    assert!(log.contains("control.sock (passed)") && log.contains(&address.to_string()), "{log}");
}

#[test]
fn a_socket_that_is_asked_for_goes_before_one_that_is_passed() {
    let folder = Folder::new();
    let passed = UnixListener::bind(folder.path("passed.sock")).expect("a socket");
    let other = UnixListener::bind(folder.path("other.sock")).expect("a socket");
    let own = folder.path("control.sock").display().to_string();
    let arguments = ["--socket", own.as_str(), "--metrics", "off"];
    let mut daemon = with_passed(&folder, [passed.into(), other.into()], "control:other", &arguments);
    until("its own socket", || folder.path("control.sock").exists().then_some(()));
    assert!(scalectl(&folder, &["status"]).status.success());
    let log = std::fs::read_to_string(folder.path("log")).expect("text");
    for name in ["`control` that was passed is not used", "`other` that was passed is not used"] {
        assert!(log.contains(name), "{log}");
    }
    daemon.signal("TERM");
    daemon.0.wait().expect("it ends");
    assert!(!folder.path("control.sock").exists() && folder.path("passed.sock").exists());
}

#[test]
fn a_passed_socket_of_the_wrong_kind_ends_the_start_with_a_sentence() {
    let folder = Folder::new();
    let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("a port"));
    let mut daemon = with_passed(&folder, [tcp(), tcp()], "control:metrics", &[]);
    assert_eq!(daemon.0.wait().expect("it ends").code(), Some(2));
    let log = std::fs::read_to_string(folder.path("log")).expect("text");
    assert!(log.contains("`control` is not a Unix stream socket") && log.contains("ListenStream="), "{log}");
}

#[test]
fn the_first_caller_of_a_socket_that_systemd_holds_starts_the_daemon() {
    let Some(activate) = installed("systemd-socket-activate") else { return };
    let folder = Folder::new();
    let direct = scaled(&folder);
    let mut command = Command::new(activate);
    command.arg("--listen").arg(folder.path("control.sock")).arg("--fdname=control");
    command.arg(program("scaled")).args(direct.get_args()).args(["--metrics", "off"]);
    let log = File::create(folder.path("log")).expect("a file");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut daemon = Process(command.spawn().expect("it starts"));
    until("the socket", || folder.path("control.sock").exists().then_some(()));
    let log = || std::fs::read_to_string(folder.path("log")).expect("text");
    assert!(!log().contains("ready"), "nobody has called: {}", log());
    let output = scalectl(&folder, &["--json", "status"]);
    assert!(output.status.success(), "{}: {}", String::from_utf8_lossy(&output.stderr), log());
    assert!(log().contains("control.sock (passed)"), "{}", log());
    daemon.signal("TERM");
    daemon.0.wait().expect("it ends");
    assert!(folder.path("control.sock").exists());
}
