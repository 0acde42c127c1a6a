//! A step's command: run by `sh -c` with the caller's own rights, in a process group of its own, so that it can be ended
//! whole. What it writes is kept to its last [`OUTPUT_BYTES_MAX`] bytes.
//!
//! The text comes from the caller's own file and from nowhere else.

use std::collections::VecDeque;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use scale_api::scenario::step::Step;
use scale_api::scenario::taken::OUTPUT_BYTES_MAX;

const SHELL: &str = "/bin/sh";
/// The command is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// From being told to end until it is killed.
const END_TIME_MAX: Duration = Duration::from_secs(5);
/// What a shell that has ended left in the background may go on; what that writes after this is not kept.
const OUTPUT_TIME_MAX: Duration = Duration::from_secs(1);
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
    /// How long it took.
    pub seconds: f64,
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
    match begin(step) {
        Ok((child, output)) => {
            let time_max = Duration::from_nanos(step.time_max().ns());
            let (status, why) = wait(child, (started, time_max), is_cut_off);
            let (text, output_bytes) = output.take();
            Ended {
                exit_code: status.map(code),
                why,
                seconds: started.elapsed().as_secs_f64(),
                output: text,
                output_bytes,
            }
        }
        Err(error) => Ended { why: Some(format!("it cannot be run: {SHELL}: {error}")), ..Ended::default() },
    }
}

#[expect(clippy::disallowed_methods, reason = "a command's time is measured here")]
fn now() -> Instant {
    Instant::now()
}

fn begin(step: &Step) -> std::io::Result<(Child, Output)> {
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new(SHELL);
    command.arg("-c").arg(step.run.as_deref().unwrap_or_default());
    for name in withheld(&step.pass_env) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let child = command.process_group(0).spawn()?;
    // With it our own ends for writing go, without which the pipe would never come to an end.
    drop(command);
    Ok((child, Output::read(reader)))
}

/// Waits for the shell's end; with why it did not come by itself.
fn wait(
    mut child: Child,
    (started, time_max): (Instant, Duration),
    is_cut_off: impl Fn() -> bool,
) -> (Option<ExitStatus>, Option<String>) {
    let mut told: Option<(Instant, String)> = None;
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => {
                if told.is_some() {
                    // Those of its group that did not listen.
                    signal(&child, "KILL");
                }
                return (Some(status), told.map(|(_, why)| why));
            }
            Err(error) => return (None, Some(format!("it cannot be waited for: {error}"))),
        }
        match &told {
            Some((at, _)) if at.elapsed() > END_TIME_MAX => signal(&child, "KILL"),
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
        thread::sleep(LOOK_EVERY);
    }
}

/// Sends a signal to the child's process group, by the shell's own kill(1): there is no other way without `unsafe`.
fn signal(child: &Child, name: &str) {
    let line = format!("kill -s {name} -- -{}", child.id());
    let mut kill = Command::new(SHELL);
    kill.arg("-c").arg(line).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group that has gone meanwhile is what was wanted.
    let _ = kill.status();
}

/// As a shell says it (sh(1)).
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// What a command writes, while a thread reads it.
struct Output {
    kept: Arc<Mutex<Kept>>,
    reader: thread::JoinHandle<()>,
}

#[derive(Default)]
struct Kept {
    last: VecDeque<u8>,
    all: u64,
}

impl Kept {
    fn take(&mut self, bytes: &[u8]) {
        self.all += bytes.len() as u64;
        let bytes = &bytes[bytes.len().saturating_sub(OUTPUT_BYTES_MAX)..];
        let over = (self.last.len() + bytes.len()).saturating_sub(OUTPUT_BYTES_MAX);
        self.last.drain(..over);
        self.last.extend(bytes);
    }
}

fn locked(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Output {
    fn read(mut from: impl Read + Send + 'static) -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let into = kept.clone();
        let reader = thread::spawn(move || {
            let mut bytes = [0; 8192];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                locked(&into).take(&bytes[..length]);
            }
        });
        Self { kept, reader }
    }

    /// What was written, once the shell has ended.
    fn take(self) -> (String, u64) {
        let since = now();
        while !self.reader.is_finished() && since.elapsed() < OUTPUT_TIME_MAX {
            thread::sleep(LOOK_EVERY);
        }
        let mut kept = locked(&self.kept);
        (String::from_utf8_lossy(kept.last.make_contiguous()).into_owned(), kept.all)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

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
        assert!(ended.seconds < 30.0 && ended.exit_code != Some(0), "{ended:?}");
        let pid = ended.output.lines().next().expect("its pid").to_owned();
        let since = now();
        while is_alive(&pid) {
            assert!(since.elapsed() < Duration::from_secs(10), "{pid} is still there");
            thread::sleep(LOOK_EVERY);
        }
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
        assert!(ended.seconds < 25.0);
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
