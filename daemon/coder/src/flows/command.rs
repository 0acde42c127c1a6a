//! A command in a workspace's web terminal: connected, run, its output held against what is expected.
//!
//! The terminal tells no exit code. A command has succeeded if it ended, and the server closed in order, within its
//! time, having printed what is expected of it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};
use tokio::time::{Instant, timeout_at};

use crate::class::{Class, Failure};
use crate::client::Client;
use crate::error::ApiError;
use crate::ledger::{FILE_MODE, FOLDER_MODE};
use crate::terminal::{End, Key, Terminal};
use crate::time::{Clock, between};

/// The longest command: it travels in the request's first line.
pub const COMMAND_BYTES_MAX: usize = 2_000;
/// Of a command's output, its end: what is kept, and the longest text that an expectation can match.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Of a command's output, its end: what reports repeat.
pub const OUTPUT_BYTES_REPORTED: usize = 1 << 10;
/// Of a command's output, its end: what a failure repeats.
const OUTPUT_BYTES_QUOTED: usize = 200;
/// From a terminal's 101 to its first byte; servers dial an agent for up to 30 s.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);
/// What a terminal prints for [`Key::Reprint`].
const REPRINTED: &[u8] = b"^R\r\n";
/// A compiled expectation's size.
const EXPECT_BYTES_MAX: usize = 1 << 20;

/// What is run in each workspace.
#[derive(Debug)]
pub struct Command {
    text: String,
    timeout: Duration,
    expect: Option<Regex>,
    log: Option<Log>,
}

/// A command that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Nothing.
    #[error("the command is empty; say what is to be run, or leave --run-command out")]
    Empty,
    /// More than [`COMMAND_BYTES_MAX`].
    #[error("the command has {0} bytes, more than {COMMAND_BYTES_MAX}; put it into the template as a script")]
    TooLong(usize),
    /// No time to run in.
    #[error("--run-timeout is more than nothing; leave it out for 5s")]
    NoTime,
    /// Not a regular expression.
    #[error(
        "--run-expect-output `{text}` is no regular expression ({why}); a plain text has a \\ before each of .^$*+?()[]{{}}|\\"
    )]
    Expect {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Where outputs are written to: a file each, one after the other.
#[derive(Debug)]
struct Log {
    folder: PathBuf,
    gate: tokio::sync::Mutex<()>,
}

impl Command {
    /// `text` as the user's shell takes it, for at most `timeout` from the terminal's first byte on.
    ///
    /// # Errors
    /// None, or too long; no time.
    pub fn new(text: &str, timeout: Duration) -> Result<Self, CommandError> {
        match text.len() {
            _ if text.trim().is_empty() => Err(CommandError::Empty),
            length if length > COMMAND_BYTES_MAX => Err(CommandError::TooLong(length)),
            _ if timeout.is_zero() => Err(CommandError::NoTime),
            _ => Ok(Self { text: text.to_owned(), timeout, expect: None, log: None }),
        }
    }

    /// It has to print something that matches `text`; `^` and `$` are a line's.
    ///
    /// # Errors
    /// Not a regular expression.
    pub fn expecting(mut self, text: &str) -> Result<Self, CommandError> {
        let expect = RegexBuilder::new(text).multi_line(true).crlf(true).size_limit(EXPECT_BYTES_MAX).build();
        let wrong = |error: regex::Error| {
            // The last line says what; those before it point into the text.
            let why =
                error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            CommandError::Expect { text: text.to_owned(), why }
        };
        self.expect = Some(expect.map_err(wrong)?);
        Ok(self)
    }

    /// Each workspace's output, at most [`OUTPUT_BYTES_MAX`], goes into a file in `folder`, with the workspace's name.
    pub fn logging(mut self, folder: PathBuf) -> Self {
        self.log = Some(Log { folder, gate: tokio::sync::Mutex::default() });
        self
    }

    /// Whether outputs are written down.
    pub const fn is_logged(&self) -> bool {
        self.log.is_some()
    }

    /// Writes one down, where that is asked for.
    ///
    /// # Errors
    /// Why it cannot be, as a sentence.
    pub(super) async fn write_down(&self, workspace: &str, output: &Output) -> Result<(), String> {
        let Some(log) = &self.log else { return Ok(()) };
        let _turn = log.gate.lock().await;
        let (folder, path) = (log.folder.clone(), log.folder.join(format!("{workspace}.log")));
        let (content, shown) = (output.file(), path.display().to_string());
        let written = tokio::task::spawn_blocking(move || write_anew(&folder, &path, &content));
        let wrong = |why: String| format!("cannot write a command's output to {shown}: {why}");
        written.await.map_err(|error| wrong(error.to_string()))?.map_err(|error| wrong(error.to_string()))
    }
}

/// Writes a file in `folder`, which is made where it is missing. A link in place of either is not followed: a file that
/// is made anew is none.
fn write_anew(folder: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    if !fs::symlink_metadata(folder)?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is a link, or no folder"));
    }
    let new = path.with_extension("log.new");
    // What a former try has left, or somebody planted.
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&new)?;
    file.write_all(content)?;
    fs::rename(new, path)
}

/// What a command printed: its end, and whether what is expected was in it.
#[derive(Debug, Default)]
pub(super) struct Output {
    kept: Vec<u8>,
    dropped: u64,
    is_found: bool,
    is_reprint_gone: bool,
}

impl Output {
    fn push(&mut self, bytes: &[u8], expect: Option<&Regex>) {
        self.kept.extend_from_slice(bytes);
        self.drop_reprint();
        if self.kept.len() > 2 * OUTPUT_BYTES_MAX {
            // What is cut off was looked through together with all that is kept.
            self.look(expect);
            let cut = self.kept.len() - OUTPUT_BYTES_MAX;
            self.kept.drain(..cut);
            self.dropped += cut as u64;
        }
    }

    /// The echo of our own key is none of the command's.
    fn drop_reprint(&mut self) {
        if self.is_reprint_gone {
            return;
        }
        if let Some(at) = self.kept.windows(REPRINTED.len()).position(|bytes| bytes == REPRINTED) {
            self.kept.drain(at..at + REPRINTED.len());
            self.is_reprint_gone = true;
        }
        // It comes at the beginning or never.
        self.is_reprint_gone |= self.kept.len() > OUTPUT_BYTES_REPORTED;
    }

    fn look(&mut self, expect: Option<&Regex>) {
        self.is_found = self.is_found || expect.is_none_or(|expect| expect.is_match(&self.kept));
    }

    /// The last [`OUTPUT_BYTES_MAX`], and how much there was before.
    fn file(&self) -> Vec<u8> {
        let cut = self.kept.len().saturating_sub(OUTPUT_BYTES_MAX);
        let dropped = self.dropped + cut as u64;
        let head = if dropped > 0 {
            format!("[{dropped} bytes before this were not kept]\n")
        } else {
            String::new()
        };
        [head.as_bytes(), &self.kept[cut..]].concat()
    }

    /// Its last `most` bytes, lines ended by LF.
    fn tail(&self, most: usize) -> String {
        let from = self.kept.len().saturating_sub(most);
        String::from_utf8_lossy(&self.kept[from..]).replace("\r\n", "\n")
    }

    /// What a report has of it.
    pub(super) fn reported(&self) -> String {
        self.tail(OUTPUT_BYTES_REPORTED)
    }
}

/// What came of a command in one workspace.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// From the request until the terminal's first byte, or its end in order without any; in seconds.
    pub connect: Option<f64>,
    /// From there until the terminal's end.
    pub command: Option<f64>,
    /// What was printed.
    pub output: Output,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// One workspace's turn.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub command: &'a Command,
    /// The owner's.
    pub client: &'a Client,
    pub agent: &'a str,
    pub clock: Clock,
    /// The job's.
    pub deadline: Instant,
    /// An agent that cannot be reached is tried again until then.
    pub waits_for_agent: bool,
}

impl Session<'_> {
    /// Connects, runs, and closes. `connected` is told once the terminal has said something.
    pub(super) async fn run(&self, connected: impl Fn()) -> Ran {
        let (began, mut tries) = (self.clock.now(), 0);
        loop {
            let mut ran = Ran::default();
            let note_connected = |ran: &mut Ran| {
                ran.connect = Some(between(began, self.clock.now()).as_secs_f64());
                connected();
            };
            ran.failure = self.once(&mut ran, note_connected).await.err();
            let is_unreachable =
                ran.failure.as_ref().is_some_and(|failure| failure.class == Class::AgentUnreachable);
            tries += 1;
            let again = timeout_at(self.deadline, self.client.back_off(tries, None));
            if !(self.waits_for_agent && is_unreachable && again.await.is_ok()) {
                return ran;
            }
        }
    }

    async fn once(&self, ran: &mut Ran, connected: impl Fn(&mut Ran)) -> Result<(), Failure> {
        let opened = timeout_at(self.deadline, self.client.terminal(self.agent, &self.command.text)).await;
        let mut terminal = match opened {
            Ok(opened) => opened.map_err(|error| refused(&error))?,
            Err(_) => return Err(Failure::of(Class::TerminalSilent)),
        };
        // A command may print nothing for long: this makes its terminal say something at once.
        let silent_until = self.deadline.min(Instant::now() + SILENCE_MAX);
        let first = timeout_at(silent_until, async {
            terminal.press(Key::Reprint).await;
            terminal.read().await
        });
        let bytes = match first.await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(end)) => {
                terminal.finish().await;
                let is_over = is_normal(&end);
                if is_over {
                    connected(ran);
                    ran.command = Some(0.0);
                }
                return if is_over { self.judge(&mut ran.output) } else { Err(unreached(&end)) };
            }
            Err(_) => {
                terminal.leave().await;
                return Err(Failure::of(Class::TerminalSilent));
            }
        };
        connected(ran);
        ran.output.push(&bytes, self.command.expect.as_ref());
        let began = self.clock.now();
        let until = self.deadline.min(Instant::now() + self.command.timeout);
        let end = timeout_at(until, self.read(&mut terminal, &mut ran.output)).await;
        match end {
            Ok(end) => {
                ran.command = Some(between(began, self.clock.now()).as_secs_f64());
                terminal.finish().await;
                if !is_normal(&end) {
                    return Err(Failure::seen(Class::TerminalLost, end));
                }
                self.judge(&mut ran.output)
            }
            Err(_) => {
                terminal.leave().await;
                Err(Failure::seen(Class::CommandTimeout, quoted(&ran.output)))
            }
        }
    }

    /// Reads to the end.
    async fn read(&self, terminal: &mut Terminal, output: &mut Output) -> End {
        loop {
            match terminal.read().await {
                Ok(bytes) => output.push(&bytes, self.command.expect.as_ref()),
                Err(end) => return end,
            }
        }
    }

    /// Holds what was printed against what is expected.
    fn judge(&self, output: &mut Output) -> Result<(), Failure> {
        output.look(self.command.expect.as_ref());
        if output.is_found { Ok(()) } else { Err(Failure::seen(Class::CommandOutput, quoted(output))) }
    }
}

fn quoted(output: &Output) -> String {
    match output.tail(OUTPUT_BYTES_QUOTED) {
        tail if tail.is_empty() => "it printed nothing".into(),
        tail => format!("it printed {tail:?}"),
    }
}

/// The command's end. Without a code it is one, too.
const fn is_normal(end: &End) -> bool {
    matches!(end, End::Closed { code: 1000 | 1005, .. })
}

/// Why nothing came of a terminal. The server dials the agent behind the 101, and says 1011 where it cannot.
fn unreached(end: &End) -> Failure {
    match end {
        End::Closed { code: 1011, .. } => Failure::seen(Class::AgentUnreachable, end),
        _ => Failure::seen(Class::TerminalSilent, end),
    }
}

/// Why there is no terminal at all: a status, or no answer to the end.
fn refused(error: &ApiError) -> Failure {
    let class = match error.class() {
        Class::Unreachable | Class::RequestTimeout => Class::TerminalSilent,
        _ => Class::TerminalRefused,
    };
    Failure::seen(class, error.seen())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_output_is_written_where_it_belongs_and_through_no_link() {
        let root = std::env::temp_dir().join(format!("scale-coder-outputs-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let (folder, outside) = (root.join("commands"), root.join("outside"));
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("a.log"), "theirs").unwrap();
        let written = |name: &str| write_anew(&folder, &folder.join(name), b"ours");
        written("a.log").unwrap();
        symlink(outside.join("a.log"), folder.join("b.log")).unwrap();
        symlink(outside.join("a.log"), folder.join("c.log.new")).unwrap();
        written("b.log").unwrap();
        written("c.log").unwrap();
        for name in ["a.log", "b.log", "c.log"] {
            assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), "ours");
        }
        fs::rename(&folder, root.join("moved")).unwrap();
        symlink(&outside, &folder).unwrap();
        assert!(written("a.log").is_err());
        assert_eq!(fs::read_to_string(outside.join("a.log")).unwrap(), "theirs");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        fs::remove_dir_all(root).unwrap();
    }
}
