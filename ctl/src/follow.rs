//! Following a run to its end: the live view on a terminal, else a line or a JSON object a second.

use std::io::{BufRead, BufReader, IsTerminal};

use scale_api::http::StopRequest;
use scale_api::report::{Event, Exit, Report};
use serde_json::{Value, json};

use crate::client::{Body, Client, Failure};
use crate::commands::Cli;
use crate::disruption::Told;
use crate::export::Exports;
use crate::{print, render, say, show, view};

/// Follows a run to its end, and shows the report.
///
/// # Errors
/// As for [`to_report`].
pub fn follow(cli: &Cli, client: &Client, id: &str, quiet: bool, exports: &Exports) -> Result<u8, Failure> {
    exports.check(true)?;
    let report = to_report(cli, client, id, quiet)?;
    show(cli.json, &report, || render::report(&report));
    Ok(exports.report(&report))
}

/// Follows a run to its end. A first Ctrl-C ends it in order, a second at once. `quiet`: nothing is shown meanwhile.
///
/// # Errors
/// There is no such run, or the daemon is lost.
pub fn to_report(cli: &Cli, client: &Client, id: &str, quiet: bool) -> Result<Report, Failure> {
    if !cli.json && !quiet && view::is_possible() {
        return view::follow(client, id, Lines::open(client, id)?);
    }
    end_on_interrupts(client, id)?;
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !quiet {
        leave_on_q(id);
    }
    let mut lines = Lines::open(client, id)?;
    let mut printer = Printer::default();
    loop {
        match lines.wait()? {
            Said::Report(report) => {
                printer.end();
                return Ok(*report);
            }
            _ if cli.json => say(&lines.raw),
            Said::Second(event) if !quiet => printer.second(&event),
            Said::Second(_) | Said::Unknown => {}
        }
    }
}

/// What a line of a run's events says.
pub enum Said {
    /// How it went in a second.
    Second(Box<Event>),
    /// How it ended: the last line.
    Report(Box<Report>),
    /// Something of another version.
    Unknown,
}

/// A run's events.
pub struct Lines {
    lines: std::io::Lines<BufReader<Body>>,
    raw: String,
}

impl Lines {
    /// Asks for them.
    ///
    /// # Errors
    /// There is no such run, or no daemon.
    pub fn open(client: &Client, id: &str) -> Result<Self, Failure> {
        let lines = client.lines(&format!("/v1/runs/{id}/events"))?.lines();
        Ok(Self { lines, raw: String::new() })
    }

    /// Waits for the next.
    ///
    /// # Errors
    /// The daemon is lost, or its report is of another version.
    pub fn wait(&mut self) -> Result<Said, Failure> {
        self.raw = self.lines.next().and_then(Result::ok).ok_or_else(Failure::lost)?;
        match self.raw.strip_prefix("{\"report\":").and_then(|rest| rest.strip_suffix('}')) {
            Some(report) => serde_json::from_str(report).map(Said::Report).map_err(|error| Failure {
                message: format!("the report is of another version: {error}"),
                exit: Exit::Internal,
            }),
            None => Ok(serde_json::from_str(&self.raw).map_or(Said::Unknown, Said::Second)),
        }
    }
}

/// Seconds as lines. Those of a Coder flow are one line that is drawn again, where there is a terminal.
#[derive(Default)]
pub struct Printer {
    is_redrawn: bool,
    steps: crate::coder::steps::render::Told,
    told: Told,
}

impl Printer {
    /// Prints a second.
    pub fn second(&mut self, event: &Event) {
        let line = render::event(event);
        for news in self.steps.news(event) {
            self.end();
            say(&news);
        }
        if event.coder.is_some() && std::io::stdout().is_terminal() {
            self.is_redrawn = true;
            // Cut off at the terminal's edge instead of wrapped, so that it is one line to be redrawn.
            print(format!("\r\x1b[?7l{line}\x1b[K\x1b[?7h").as_bytes());
        } else {
            self.end();
            say(&line);
        }
        self.told.new_of(event).iter().for_each(|line| say(line));
    }

    /// What comes next begins a line.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.is_redrawn) {
            print(b"\n");
        }
    }
}

fn end_on_interrupts(client: &Client, id: &str) -> Result<(), Failure> {
    let mut interrupts = 0;
    let (client, run) = (client.clone(), id.to_owned());
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT])
        .map_err(|error| Failure { message: error.to_string(), exit: Exit::Internal })?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            let _: Result<Value, Failure> = if std::mem::replace(&mut interrupts, 1) == 0 {
                eprintln!("scalectl: {}", view::INTERRUPTED);
                client.send("POST", &format!("/v1/runs/{run}/abort"), &json!({}))
            } else {
                client.send("POST", &format!("/v1/runs/{run}/stop"), &StopRequest { now: true })
            };
        }
    });
    Ok(())
}

/// What is said to who leaves.
pub fn left(id: &str) -> String {
    let steps = crate::coder::steps::left(id);
    format!("scalectl: left run {id} going; `scalectl watch` follows it again{steps}")
}

/// On a terminal, `q` and Enter leave the run and end this program.
fn leave_on_q(id: &str) {
    let id = id.to_owned();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if line.trim() == "q" {
                eprintln!("{}", left(&id));
                std::process::exit(0);
            }
        }
    });
}
