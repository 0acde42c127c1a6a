//! What `doctor` has seen, for people: what is worst first, each with what mends it, within 80 columns.

use std::fmt::Write;
use std::io::IsTerminal;

use scale_api::http::DoctorEntry;

/// Columns of a terminal that nobody has widened.
const WIDTH: usize = 80;
/// Where values begin.
const INDENT: usize = 30;
/// What stands before a command; it is not broken, so that it can be copied.
const MEND: &str = "      mend: ";
/// Worst first, with the colours that underline it (ECMA-48, SGR).
const ORDER: [(&str, &str); 3] = [("fail", "\x1b[1;31m"), ("warn", "\x1b[33m"), ("ok", "\x1b[32m")];
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Whether stdout is a terminal whose user wants colours.
pub fn has_colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// All of it.
pub fn show(entries: &[DoctorEntry], has_colours: bool) -> String {
    let paint = |colour: &str, text: &str| {
        if has_colours { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    };
    let mut text = String::new();
    let mut counts = Vec::new();
    for (status, colour) in ORDER {
        let found: Vec<&DoctorEntry> = entries.iter().filter(|entry| entry.status == status).collect();
        counts.push(format!("{} {status}", found.len()));
        for entry in &found {
            // The name's column is as wide as it has to be, colours apart.
            let _ = write!(text, "{} {}", paint(colour, &format!("{status:<4}")), entry.name);
            let at = 5 + entry.name.chars().count();
            if at < INDENT {
                let _ = write!(text, "{:1$}", "", INDENT - at);
            } else {
                let _ = write!(text, "\n{:INDENT$}", "");
            }
            let mut value = wrapped(&entry.value).into_iter();
            let _ = writeln!(text, "{}", value.next().unwrap_or_default());
            value.for_each(|line| {
                let _ = writeln!(text, "{:INDENT$}{line}", "");
            });
            for line in wrapped(&entry.source) {
                let _ = writeln!(text, "{:INDENT$}{}", "", paint(DIM, &line));
            }
            if let Some(remedy) = &entry.remedy {
                let _ = writeln!(text, "{MEND}{remedy}");
            }
        }
        if !found.is_empty() {
            text.push('\n');
        }
    }
    text + &counts.join(", ")
}

/// Lines that fit beside a name. A word that is longer than a line is broken where it must be.
fn wrapped(text: &str) -> Vec<String> {
    let room = WIDTH - INDENT;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let line = lines.last_mut().expect("there is always one");
            let used = line.chars().count() + usize::from(!line.is_empty());
            if used + word.len() <= room {
                if used > 0 {
                    line.push(' ');
                }
                line.extend(&word);
                break;
            }
            if line.is_empty() {
                line.extend(word.drain(..room));
            }
            lines.push(String::new());
        }
    }
    lines
}

/// What a report says of the host in one line: what was not well when the run began.
pub fn in_report(entries: &[DoctorEntry]) -> Option<String> {
    let names: Vec<&str> =
        entries.iter().filter(|entry| entry.status != "ok").map(|entry| entry.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("host:         not as it should be: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(status: &str, name: &str, value: &str, remedy: Option<&str>) -> DoctorEntry {
        DoctorEntry {
            name: name.into(),
            status: status.into(),
            value: value.into(),
            source: "/proc/here".into(),
            remedy: remedy.map(str::to_owned),
        }
    }

    #[test]
    fn the_worst_comes_first_and_values_stay_within_80_columns() {
        let long = "a value of many words that does not fit beside its name and so goes on below";
        let command =
            "echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor /dev/null";
        let entries = [
            entry("ok", "kernel", "6.12", None),
            entry("warn", "governor", long, Some(command)),
            entry("fail", "a name that is longer than its column", "x", Some("y")),
        ];
        let text = show(&entries, false);
        assert_eq!(
            text,
            [
                "fail a name that is longer than its column",
                "                              x",
                "                              /proc/here",
                "      mend: y",
                "",
                "warn governor                 a value of many words that does not fit beside its",
                "                              name and so goes on below",
                "                              /proc/here",
                &format!("      mend: {command}"),
                "",
                "ok   kernel                   6.12",
                "                              /proc/here",
                "",
                "1 fail, 1 warn, 1 ok",
            ]
            .join("\n")
        );
        let coloured = show(&entries, true);
        assert!(
            coloured.contains("\x1b[1;31mfail\x1b[0m a name")
                && coloured.contains("\x1b[2m/proc/here\x1b[0m")
        );
    }

    #[test]
    fn a_word_longer_than_a_line_is_broken() {
        let lines = wrapped(&format!("ab {}", "x".repeat(120)));
        assert!(lines.iter().all(|line| line.len() <= WIDTH - INDENT), "{lines:?}");
        assert_eq!(lines.concat().replace(' ', ""), format!("ab{}", "x".repeat(120)));
    }

    #[test]
    fn a_report_names_what_was_not_well() {
        let entries = [entry("ok", "kernel", "6", None), entry("warn", "swap", "1", Some("swapoff -a"))];
        assert_eq!(in_report(&entries).unwrap(), "host:         not as it should be: swap");
        assert_eq!(in_report(&entries[..1]), None);
    }
}
