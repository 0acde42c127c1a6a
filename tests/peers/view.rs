//! The live view in a real terminal: tmux's, with a shell in it, as a person has it.

use std::path::PathBuf;
use std::process::Command;

use scale_api::http::Status;
use scale_api::report::Event;
use scale_tests::host::{Folder, installed, until};
use scale_tests::{Daemon, Sink, program};

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (200, 50);
/// What the shell in the terminal says when it waits for a line.
const PROMPT: &str = "ready>";

/// A terminal with a shell. It ends with the test.
struct Terminal {
    tmux: PathBuf,
    folder: Folder,
}

impl Terminal {
    /// One of `size`, whose shell knows `scalectl` and where the daemon is. `None`: tmux is not there.
    fn start(daemon: &Daemon, (width, height): (u16, u16)) -> Option<Self> {
        let terminal = Self { tmux: installed("tmux")?, folder: Folder::new() };
        let (width, height) = (width.to_string(), height.to_string());
        let folder = program("scalectl").parent().expect("a folder").display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let variables = [
            format!("SCALED_SOCKET={}", daemon.socket().display()),
            format!("PATH={folder}:{path}"),
            format!("PS1={PROMPT} "),
        ];
        let mut arguments = vec!["new-session", "-d", "-x", &width, "-y", &height];
        arguments.extend(["env", "-u", "ENV", "-u", "NO_COLOR"]);
        arguments.extend(variables.iter().map(String::as_str));
        arguments.extend(["sh", "-i"]);
        terminal.tmux(&arguments);
        terminal.until("the shell", |screen| screen.contains(PROMPT));
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.tmux);
        command.args(["-u", "-f", "/dev/null", "-S"]).arg(self.folder.path("tmux")).args(arguments);
        let output = command.env("LC_ALL", "C.UTF-8").env_remove("TMUX").output().expect("tmux runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Presses keys, by their names or as they are.
    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a line.
    fn line(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.press(&["Enter"]);
    }

    fn resize(&self, (width, height): (u16, u16)) {
        self.tmux(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as `is` says; the screen.
    fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(what, || {
                last = self.screen();
                is(&last).then(|| last.clone())
            })
        }));
        found.unwrap_or_else(|_| panic!("no {what} on\n{last}"))
    }

    /// Waits until all of `words` are on the screen.
    fn shows(&self, words: &[&str]) -> String {
        self.until(&words.join(", "), |screen| words.iter().all(|word| screen.contains(word)))
    }

    /// Waits until the command has ended: its exit code, by the line that its command line prints. The terminal is
    /// the shell's again: no other screen, a cursor, and what is typed is seen.
    fn ended(&self) -> i32 {
        // Not in the command line, where it stands, too.
        let code = |screen: &str| {
            let mut lines = screen.lines().rev();
            lines.find_map(|line| line.strip_prefix("ended with ")?.trim().parse().ok())
        };
        let screen = self.until("an exit code", |screen| code(screen).is_some());
        self.is_the_shells();
        code(&screen).expect("as it was waited for")
    }

    fn is_the_shells(&self) {
        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(state.trim(), "0 1", "another screen, or no cursor");
        self.line("echo back $((40 + 2))");
        self.shows(&["echo back $((40 + 2))", "back 42"]);
    }

    /// Starts a run that lasts until it is ended, and waits for its steady state.
    fn start_run(&self, sink: &Sink, before: &str) -> String {
        self.line(&format!(
            "{before} scalectl start --target ws://{}/ -c 50 --rate 40KB/s --ramp 500ms --warm-up 500ms \
             --duration 10m --drain 5s --name viewed; echo ended with $?",
            sink.address
        ));
        self.shows(&["viewed", "STEADY", "50 of 50 open"])
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut command = Command::new(&self.tmux);
        let _ = command.arg("-S").arg(self.folder.path("tmux")).arg("kill-server").output();
    }
}

/// The run that the daemon has.
fn going(daemon: &Daemon) -> Option<Event> {
    let output = daemon.scalectl(&["--json", "status"]);
    serde_json::from_slice::<Status>(&output.stdout).expect("a status").run
}

#[test]
fn a_run_is_seen_and_driven_by_keys_on_eighty_by_twenty_four() {
    let (sink, daemon) = (Sink::start(&["--protocol", "ws"]), Daemon::start());
    let Some(terminal) = Terminal::start(&daemon, SMALL) else { return };
    let screen = terminal.start_run(&sink, "");
    assert!(
        screen.lines().count() <= 24 && screen.lines().all(|line| line.chars().count() <= 80),
        "{screen}"
    );
    terminal.shows(&[
        "offered",
        "sent",
        "received",
        "response",
        "lateness",
        "Connections",
        "Workers",
        "cpu",
        "? help",
    ]);

    terminal.press(&["p"]);
    terminal.shows(&["PAUSED"]);
    until("a pause", || going(&daemon).filter(|run| run.state == "paused"));
    terminal.press(&["p"]);
    terminal.shows(&["STEADY"]);

    let before = going(&daemon).expect("it goes").now.rate_offered;
    terminal.press(&["r"]);
    terminal.shows(&["rate of a stream"]);
    terminal.line("20");
    terminal.shows(&["`20` is not a rate"]);
    terminal.line("KB/s");
    terminal.shows(&["rate is now 20KB/s"]);
    let is_half = |run: &Event| run.now.rate_offered > 0.0 && run.now.rate_offered < before * 0.75;
    until("the lower rate", || going(&daemon).filter(is_half));

    terminal.press(&["c"]);
    terminal.line("60");
    terminal.shows(&["60 of 60 open"]);
    terminal.press(&["c"]);
    terminal.line("99999999");
    terminal.shows(&["refused: "]);

    terminal.press(&["m"]);
    terminal.line("deploy started");
    terminal.shows(&["marked: deploy started"]);
    terminal.press(&["?"]);
    terminal.shows(&["Help", "Ctrl-C"]);
    terminal.press(&["Escape"]);
    terminal.until("the help to be gone", |screen| !screen.contains("Ctrl-C"));

    terminal.press(&["s"]);
    terminal.shows(&["end the run?"]);
    terminal.press(&["x"]);
    terminal.until("no question", |screen| !screen.contains("end the run?"));
    assert!(going(&daemon).is_some());
    terminal.press(&["s", "d"]);
    let code = terminal.ended();
    let screen = terminal.screen();
    assert!(screen.contains("verdict:") && [0, 6].contains(&code), "{code}:\n{screen}");
}

#[test]
fn it_follows_the_size_of_its_terminal_and_can_be_left_and_watched_again() {
    let (sink, daemon) = (Sink::start(&["--protocol", "ws"]), Daemon::start());
    let Some(terminal) = Terminal::start(&daemon, LARGE) else { return };
    terminal.start_run(&sink, "");
    let screen = terminal.shows(&["Response over time", "Lateness over time", "Streams "]);
    let beside = |line: &str| line.contains("Rate ") && line.contains("Streams ");
    assert!(screen.lines().any(beside), "two columns: {screen}");

    terminal.resize((50, 12));
    terminal.until("a few lines", |screen| screen.contains("panels need") && !screen.contains("Rate ──"));
    terminal.resize(SMALL);
    terminal.until("one column", |screen| screen.contains("Rate ──") && !screen.lines().any(beside));

    // To the shell and back, as with any program.
    terminal.press(&["C-z"]);
    terminal.shows(&[PROMPT]);
    terminal.is_the_shells();
    terminal.line("clear; fg; echo ended with $?");
    terminal.until("the view again", |screen| screen.contains("50 of 50 open") && !screen.contains(PROMPT));

    terminal.press(&["q"]);
    terminal.shows(&["left run", "`scalectl watch` follows it again"]);
    assert_eq!(terminal.ended(), 0);
    assert!(going(&daemon).is_some());
    terminal.line("clear; scalectl watch; echo ended with $?");
    terminal.shows(&["STEADY", "50 of 50 open"]);
    terminal.press(&["C-c"]);
    assert_eq!(terminal.ended(), 5);
    assert!(going(&daemon).is_none());
}

#[test]
fn a_lost_daemon_is_shown_and_the_terminal_given_back() {
    let (sink, mut daemon) = (Sink::start(&["--protocol", "ws"]), Daemon::start());
    let Some(terminal) = Terminal::start(&daemon, SMALL) else { return };
    terminal.start_run(&sink, "NO_COLOR=1");
    let drawn = terminal.tmux(&["capture-pane", "-p", "-e"]);
    assert!(drawn.contains("\x1b[") && !has_colour(&drawn), "NO_COLOR: {drawn:?}");

    let process = daemon.process.take().expect("it runs");
    process.signal("STOP");
    terminal.shows(&["NO WORD FROM THE DAEMON"]);
    drop(process);
    terminal.shows(&["DAEMON LOST", "any key closes"]);
    terminal.press(&["x"]);
    terminal.shows(&["the daemon is lost; `scalectl report`", "response    p50"]);
    assert_eq!(terminal.ended(), 5);
}

#[test]
fn a_signal_ends_it_and_leaves_terminal_and_run_alone() {
    let (sink, daemon) = (Sink::start(&["--protocol", "ws"]), Daemon::start());
    let Some(terminal) = Terminal::start(&daemon, SMALL) else { return };
    terminal.start_run(&sink, "");
    let drawn = terminal.tmux(&["capture-pane", "-p", "-e"]);
    assert!(has_colour(&drawn), "{drawn:?}");
    let shell = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]);
    let children = format!("/proc/{0}/task/{0}/children", shell.trim());
    let view = std::fs::read_to_string(children).expect("the shell's children");
    let sent = Command::new("kill").args(["-TERM", view.trim()]).status().expect("kill runs");
    assert!(sent.success());
    assert_eq!(terminal.ended(), 128 + 15);
    assert!(going(&daemon).is_some());
    daemon.scalectl(&["stop", "--now"]);
}

/// Whether something is drawn in a colour of its own.
fn has_colour(drawn: &str) -> bool {
    let styles = drawn.split("\x1b[").skip(1).filter_map(|rest| rest.split_once('m'));
    let numbers =
        styles.flat_map(|(numbers, _)| numbers.split(';')).filter_map(|number| number.parse::<u8>().ok());
    numbers.into_iter().any(|number| matches!(number, 30..=38 | 40..=48 | 90..=107))
}
