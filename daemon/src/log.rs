//! The daemon's log: the journal's own fields where systemd has started it, else lines on stderr.
//!
//! - `SCALED_LOG`, else `log` of the settings file, says what of it: a level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or parts and their
//!   levels, `info,streams=off`.
//! - Where stderr is the journal's ([`JOURNAL_STREAM`]) and its socket is there, an entry has fields (`SCALED_RUN`,
//!   `SCALED_CLASS`) that `journalctl` finds; where the socket is not there, a line has its priority in front as
//!   sd-daemon(3) has it. Elsewhere a line has its time.
//!
//! Streams that fail are the part `streams`: one line a second and class.

use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use tracing::{Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{MakeWriter, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, registry, reload};

/// The variable that says what is logged.
pub const SCALED_LOG: &str = "SCALED_LOG";
/// Device and inode of the journal's end of a stream (systemd.exec(5)).
pub const JOURNAL_STREAM: &str = "JOURNAL_STREAM";
/// In front of the names of an event's fields in the journal.
const FIELD_PREFIX: &str = "SCALED";

/// What is logged, which a reload may change.
static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Begins to log, as this process's environment says.
///
/// # Errors
/// `SCALED_LOG` is no filter; what to write instead.
pub fn begin() -> Result<(), String> {
    let text = of_environment()?.unwrap_or_default();
    let (filter, handle) = reload::Layer::new(filter(SCALED_LOG, &text)?);
    let _ = FILTER.set(handle);
    let stream = std::env::var(JOURNAL_STREAM).unwrap_or_default();
    // What stderr is, whatever it is called.
    let stderr = std::fs::metadata("/proc/self/fd/2").ok();
    registry().with(output(is_journal(&stream, stderr.as_ref())).with_filter(filter)).init();
    Ok(())
}

fn of_environment() -> Result<Option<String>, String> {
    match std::env::var(SCALED_LOG) {
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("{SCALED_LOG} is no text")),
    }
}

/// What the settings file says of the log, checked; [`Change::apply`] makes it so.
pub struct Change(Targets);

/// Looks at `text`, the file's `log`: absent, it is the default. `None`: `SCALED_LOG` is above it.
///
/// # Errors
/// It is no filter; what to write instead.
pub fn change(text: Option<&str>) -> Result<Option<Change>, String> {
    let wanted = filter("log", text.unwrap_or_default())?;
    Ok(of_environment()?.is_none().then_some(Change(wanted)))
}

impl Change {
    /// From now on this is logged.
    pub fn apply(self) {
        // There is none where a test logs nothing.
        if let Some(handle) = FILTER.get() {
            handle.reload(self.0).expect("the subscriber lives as long as the process");
        }
    }
}

fn output<S: Subscriber + for<'a> LookupSpan<'a>>(is_journal: bool) -> Box<dyn Layer<S> + Send + Sync> {
    if !is_journal {
        return Box::new(layer().with_writer(io::stderr).with_target(false));
    }
    match tracing_journald::layer() {
        Ok(journal) => Box::new(
            journal
                .with_field_prefix(Some(FIELD_PREFIX.into()))
                .with_syslog_identifier("scaled".into())
                .with_priority_mappings(PriorityMappings {
                    info: Priority::Informational,
                    debug: Priority::Debug,
                    ..PriorityMappings::new()
                }),
        ),
        Err(_) => Box::new(layer().with_writer(Prefixed).without_time().with_level(false).with_target(false)),
    }
}

/// What is logged, where `word` says `text`.
///
/// # Errors
/// A word that is no level. A name alone is none, so that `inf` does not silence everything else.
fn filter(word: &str, text: &str) -> Result<Targets, String> {
    let level = |level: &str| {
        let known = ["off", "error", "warn", "info", "debug", "trace"];
        // The library takes numbers, too, and those are of no use to a reader.
        let known = known.iter().any(|known| known.eq_ignore_ascii_case(level));
        let parsed = if known { level.parse::<LevelFilter>().ok() } else { None };
        parsed.ok_or_else(|| {
            format!(
                "{word}={text}: `{level}` is no level; write error, warn, info, debug, trace or off, or parts such as info,streams=off"
            )
        })
    };
    let mut targets = Targets::new().with_default(LevelFilter::INFO);
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        targets = match part.split_once('=') {
            None => targets.with_default(level(part)?),
            Some((target, of)) => targets.with_target(target.trim(), level(of.trim())?),
        };
    }
    Ok(targets)
}

/// Whether `stream` (`device:inode`) is what stderr is.
fn is_journal(stream: &str, stderr: Option<&Metadata>) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    let named = stream.split_once(':').and_then(|(device, inode)| Some((number(device)?, number(inode)?)));
    named.is_some() && named == stderr.map(|stderr| (stderr.dev(), stderr.ino()))
}

/// Stderr, with a line's priority in front.
struct Prefixed;

struct Line(u8);

impl Write for Line {
    /// One call a line, as the layer makes them.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let prefixed = [format!("<{}>", self.0).as_bytes(), line].concat();
        io::stderr().write_all(&prefixed)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Prefixed {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(6)
    }

    fn make_writer_for(&'a self, of: &tracing::Metadata<'_>) -> Line {
        // syslog(3): error, warning, informational, debug.
        Line(match *of.level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_levels_and_everything_else_is_refused_with_what_to_write() {
        let shows = |text: &str, target: &str, level: Level| {
            filter(SCALED_LOG, text).unwrap().would_enable(target, &level)
        };
        assert!(shows("", "scaled::control", Level::INFO) && !shows("", "scaled::control", Level::DEBUG));
        assert!(shows("WARN", "x", Level::WARN) && !shows("warn", "x", Level::INFO));
        assert!(!shows("info, streams=off", "streams", Level::ERROR));
        assert!(shows("info, streams=off", "scaled::control::state", Level::INFO));
        assert!(
            shows("off,scaled=trace", "scaled::main", Level::TRACE)
                && !shows("off,scaled=trace", "hyper", Level::ERROR)
        );
        for wrong in ["inf", "streams", "streams=loud", "5", "info,=", "[span]=info,x"] {
            let said = filter(SCALED_LOG, wrong).unwrap_err();
            assert!(said.contains("no level") && said.contains("info,streams=off"), "{wrong}: {said}");
        }
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let file = std::fs::metadata("/proc/self/exe").unwrap();
        let stream = format!("{}:{}", file.dev(), file.ino());
        assert!(is_journal(&stream, Some(&file)));
        for other in
            ["", ":", "1", "x:y", &format!("{}:{}", file.dev(), file.ino() + 1), &format!("{stream}:1")]
        {
            assert!(!is_journal(other, Some(&file)), "{other}");
        }
        assert!(!is_journal("", None) && !is_journal(&stream, None));
    }
}
