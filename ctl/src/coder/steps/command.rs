//! A step's command: run by `sh -c` with the caller's own rights, in a process group of its own, so that it can be ended
//! whole. What it writes goes into a file without a name, so that it may outlive this program, and is kept to its last
//! [`OUTPUT_BYTES_MAX`] bytes.
//!
//! The text comes from the caller's own file and from nowhere else.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use scale_api::scenario::step::Step;
use scale_api::scenario::taken::OUTPUT_BYTES_MAX;

const SHELL: &str = "/bin/sh";
/// The command is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// From being told to end until it is killed.
const END_TIME_MAX: Duration = Duration::from_secs(5);
/// A group whose shell has ended on being told to is asked this often whether anybody is left.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Bytes of output on disk; beyond it what is not kept anyway is let go.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// A last word of a variable's name, after which its value is a secret.
const SECRET_WORDS: [&str; 8] =
    ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "KEY", "CREDENTIAL", "CREDENTIALS"];

/// What came of a command.
#[derive(Debug, Default)]
pub struct Ended {
    /// Its own, or 128 and the number of the signal that ended it; `None`: it did not begin.
    pub exit_code: Option<i32>,
    /// What kept it from its own end.
    pub why: Option<String>,
    /// The end of stdout and stderr, in the order in which they were written.
    pub output: String,
    /// How much that was in all.
    pub output_bytes: u64,
}

/// Whether a variable's name says that its value is a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let mut words = name.split('_');
    words.clone().any(|word| word == "SECRET")
        || words.next_back().is_some_and(|word| SECRET_WORDS.contains(&word))
}

/// The variables that a command which passes `passed` does not get.
pub fn withheld(passed: &[String]) -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut names: Vec<String> = names.filter(|name| is_secret(name) && !passed.contains(name)).collect();
    names.sort();
    names
}

/// Runs a step's command to its end, its time, or until `is_cut_off` says so.
pub fn run(step: &Step, is_cut_off: impl Fn() -> bool) -> Ended {
    let started = now();
    let failed = |why: String| Ended { why: Some(format!("it cannot be run: {why}")), ..Ended::default() };
    let mut output = match Output::new() {
        Ok(output) => output,
        Err(error) => {
            let folder = std::env::temp_dir();
            return failed(format!("no file for what it writes in {} (TMPDIR): {error}", folder.display()));
        }
    };
    let child = match begin(step, &output) {
        Ok(child) => child,
        Err(error) => return failed(format!("{SHELL}: {error}")),
    };
    let time_max = Duration::from_nanos(step.time_max().ns());
    let (status, why) = wait(child, (started, time_max), &mut output, is_cut_off);
    let (text, output_bytes) = output.take();
    Ended { exit_code: status.map(code), why, output: text, output_bytes }
}

#[expect(clippy::disallowed_methods, reason = "a command's time is measured here")]
fn now() -> Instant {
    Instant::now()
}

fn begin(step: &Step, output: &Output) -> std::io::Result<Child> {
    let mut command = Command::new(SHELL);
    command.arg("-c").arg(step.run.as_deref().unwrap_or_default());
    for name in withheld(&step.pass_env) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(output.file.try_clone()?).stderr(output.file.try_clone()?);
    command.process_group(0).spawn()
}

/// Waits for the shell's end; with why it did not come by itself.
fn wait(
    mut child: Child,
    (started, time_max): (Instant, Duration),
    output: &mut Output,
    is_cut_off: impl Fn() -> bool,
) -> (Option<ExitStatus>, Option<String>) {
    let mut told: Option<(Instant, String)> = None;
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => {
                if let Some((at, _)) = &told {
                    end_group(&child, *at);
                }
                return (Some(status), told.map(|(_, why)| why));
            }
            Err(error) => return (None, Some(format!("it cannot be waited for: {error}"))),
        }
        match &told {
            Some((at, _)) if at.elapsed() > END_TIME_MAX => _ = signal(&child, "KILL"),
            Some(_) => {}
            None => {
                let why = if is_cut_off() {
                    Some("ended with all of the scenario".to_owned())
                } else if started.elapsed() >= time_max {
                    Some(format!("it took longer than {} s, and was ended", time_max.as_secs_f64()))
                } else {
                    None
                };
                if let Some(why) = why {
                    signal(&child, "TERM");
                    told = Some((now(), why));
                }
            }
        }
        output.look();
        thread::sleep(LOOK_EVERY);
    }
}

/// The shell has ended on being told to, `at` when; what it had started has the rest of its time to do the same.
fn end_group(child: &Child, at: Instant) {
    while signal(child, "0") {
        if at.elapsed() > END_TIME_MAX {
            signal(child, "KILL");
            return;
        }
        thread::sleep(ASK_EVERY);
    }
}

/// Sends a signal to the child's process group, by the shell's own kill(1): there is no other way without `unsafe`.
/// Whether there is such a group; "0" only asks for that.
fn signal(child: &Child, name: &str) -> bool {
    let line = format!("kill -s {name} -- -{}", child.id());
    let mut kill = Command::new(SHELL);
    kill.arg("-c").arg(line).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    kill.status().is_ok_and(|status| status.success())
}

/// As a shell says it (sh(1)).
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// What a command writes.
struct Output {
    /// Without a name, and appended to by all who have it: it goes with the last of them.
    file: File,
    /// Bytes that were let go, and the last of them.
    before: u64,
    last_before: Vec<u8>,
}

impl Output {
    fn new() -> std::io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("scalectl-{}-{number}", std::process::id()));
        let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self { file, before: 0, last_before: Vec::new() })
    }

    /// Keeps the file from growing without end. What is written between the two calls is lost.
    fn look(&mut self) {
        let length = self.file.metadata().map_or(0, |about| about.len());
        if length > FILE_BYTES_MAX {
            self.last_before = self.end(length);
            if self.file.set_len(0).is_ok() {
                self.before += length;
            }
        }
    }

    /// The last bytes of a file of `length`.
    fn end(&self, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; length.min(OUTPUT_BYTES_MAX as u64) as usize];
        let from = length - bytes.len() as u64;
        let read = self.file.read_exact_at(&mut bytes, from);
        if read.is_ok() { bytes } else { Vec::new() }
    }

    /// What was written so far: its end, and how much it was.
    fn take(mut self) -> (String, u64) {
        let length = self.file.metadata().map_or(0, |about| about.len());
        self.last_before.extend(self.end(length));
        let from = self.last_before.len().saturating_sub(OUTPUT_BYTES_MAX);
        (String::from_utf8_lossy(&self.last_before[from..]).into_owned(), self.before + length)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use scale_api::units::Span;

    use super::*;

    fn step(run: &str) -> Step {
        Step { run: Some(run.into()), ..Step::default() }
    }

    /// Whether a process is there, and no zombie (proc(5)).
    fn is_alive(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
    }

    #[test]
    fn a_command_has_its_exit_code_and_both_its_outputs_in_their_order() {
        let ended = run(&step("echo one; echo two >&2; cat; echo three; exit 3"), || false);
        assert_eq!((ended.exit_code, ended.why), (Some(3), None));
        assert_eq!((ended.output.as_str(), ended.output_bytes), ("one\ntwo\nthree\n", 14));
        let ended = run(&step("kill -s KILL $$"), || false);
        assert_eq!((ended.exit_code, ended.output.as_str()), (Some(137), ""));
    }

    #[test]
    fn of_a_long_output_the_end_is_kept() {
        let ended = run(&step("yes 0123456 | head -c 1000000; printf last"), || false);
        assert_eq!((ended.exit_code, ended.output_bytes), (Some(0), 1_000_004));
        assert!(ended.output.len() == OUTPUT_BYTES_MAX && ended.output.ends_with("last"));
    }

    #[test]
    fn a_time_that_is_over_ends_the_whole_group() {
        // A child that does not listen to TERM, and a shell that waits for it.
        let text = "sh -c 'trap \"\" TERM; echo $$; sleep 60 & wait; sleep 60' & wait";
        let ended = run(&Step { timeout: Some(Span::from_ns(300_000_000)), ..step(text) }, || false);
        assert!(ended.why.as_ref().is_some_and(|why| why.contains("longer than 0.3 s")), "{ended:?}");
        assert_ne!(ended.exit_code, Some(0), "{ended:?}");
        let pid = ended.output.lines().next().expect("its pid").to_owned();
        let since = now();
        while is_alive(&pid) {
            assert!(since.elapsed() < Duration::from_secs(10), "{pid} is still there");
            thread::sleep(LOOK_EVERY);
        }
    }

    #[test]
    fn who_listens_has_its_time_to_tidy_up_though_its_shell_has_gone() {
        let text = "sh -c 'trap \"sleep 1; echo tidied up; exit\" TERM; echo here; sleep 60 & wait' & wait";
        let ended = run(&Step { timeout: Some(Span::from_ns(500_000_000)), ..step(text) }, || false);
        assert_eq!(ended.output, "here\ntidied up\n", "{ended:?}");
    }

    #[test]
    fn an_output_without_end_takes_no_more_than_its_room() {
        let mut output = Output::new().expect("a file");
        let more = vec![b'x'; FILE_BYTES_MAX as usize];
        std::io::Write::write_all(&mut &output.file, &more).expect("written");
        std::io::Write::write_all(&mut &output.file, b"end of the first").expect("written");
        output.look();
        assert_eq!(output.file.metadata().expect("it is there").len(), 0);
        std::io::Write::write_all(&mut &output.file, b", last").expect("written");
        let (text, bytes) = output.take();
        assert_eq!((text.len(), bytes), (OUTPUT_BYTES_MAX, FILE_BYTES_MAX + 22));
        assert!(text.ends_with("xend of the first, last"), "{}", &text[text.len() - 40..]);
    }

    #[test]
    fn all_of_the_scenario_ended_ends_it() {
        let is_cut_off = Arc::new(AtomicBool::new(false));
        let cut = is_cut_off.clone();
        let command = thread::spawn(move || run(&step("sleep 60"), || cut.load(Ordering::Relaxed)));
        is_cut_off.store(true, Ordering::Relaxed);
        let ended = command.join().expect("no panic");
        assert_eq!(
            (ended.exit_code, ended.why.as_deref()),
            (Some(143), Some("ended with all of the scenario"))
        );
    }

    #[test]
    fn what_is_left_in_the_background_is_not_waited_for() {
        let ended = run(&step("sleep 30 & echo $!"), || false);
        assert_eq!(ended.exit_code, Some(0));
        assert!(is_alive(&ended.output), "it goes on");
        let mut kill = Command::new(SHELL);
        kill.arg("-c").arg(format!("kill {}", ended.output.trim()));
        assert!(kill.status().is_ok_and(|status| status.success()));
    }

    #[test]
    fn names_say_what_is_secret() {
        for secret in [
            "CODER_SESSION_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "SECRET",
            "db_password",
            "OPENAI_API_KEY",
            "SECRET_ID",
        ] {
            assert!(is_secret(secret), "{secret}");
        }
        for plain in [
            "PATH",
            "HOME",
            "KUBECONFIG",
            "CODER_SESSION_TOKEN_FILE",
            "AWS_ACCESS_KEY_ID",
            "KEYBOARD",
            "TOKENS_MAX",
        ] {
            assert!(!is_secret(plain), "{plain}");
        }
    }
}
