//! Every figure that can be named, and its value in a report.

use crate::report::{Figure, Latency, Load, Observed, Part, Report};

use super::{Unit, disruption, near};

/// The figures of time, in the order in which a stream has them.
pub const LATENCIES: [&str; 12] = [
    "connect",
    "tls",
    "upgrade",
    "banner",
    "key_exchange",
    "authentication",
    "channel",
    "first_byte",
    "lateness",
    "service",
    "response",
    "reconnect",
];
const TIMES: &[&str] = &["count", "min", "mean", "p50", "p90", "p99", "p999", "p9999", "max"];
/// The figure whose names the run file makes.
const OBSERVE: &str = crate::spec::observe::FIGURE;
/// The figure of the generator itself.
const GENERATOR: &str = "generator";

/// Which seconds count, for the whole figure and for its windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Steady state.
    Steady,
    /// The whole run.
    WholeRun,
}

/// Which change is an improvement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// A lower value.
    Less,
    /// A higher one.
    More,
}

/// Names that have all but their last word in common.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Up to the dot.
    pub figure: &'static str,
    /// Behind it, each one a name.
    pub stats: &'static [&'static str],
    /// Of every stat but `count` and `samples`.
    pub unit: Unit,
    /// What it covers.
    pub when: When,
    /// A group may stand before it.
    pub of_a_group: bool,
    /// `None`: neither, or nobody knows.
    pub better: Option<Better>,
    /// One sentence.
    pub meaning: &'static str,
}

macro_rules! rows {
    ($($figure:literal $stats:expr, $unit:ident $when:ident $group:literal $better:expr, $meaning:literal;)*) => {
        &[$(Row {
            figure: $figure,
            stats: $stats,
            unit: Unit::$unit,
            when: When::$when,
            of_a_group: $group,
            better: $better,
            meaning: $meaning,
        }),*]
    };
}

const LESS: Option<Better> = Some(Better::Less);
const MORE: Option<Better> = Some(Better::More);

/// Every name.
pub const TABLE: &[Row] = rows! {
    "connect" TIMES, Time WholeRun true LESS, "TCP connect: from the first packet to established.";
    "tls" TIMES, Time WholeRun true LESS, "TLS handshake.";
    "upgrade" TIMES, Time WholeRun true LESS, "HTTP upgrade: from the request to the 101.";
    "banner" TIMES, Time WholeRun true LESS, "SSH: from established to the server's identification.";
    "key_exchange" TIMES, Time WholeRun true LESS, "SSH: from there until keys are in use.";
    "authentication" TIMES, Time WholeRun true LESS, "SSH: from there until a credential is taken.";
    "channel" TIMES, Time WholeRun true LESS, "SSH: from the request for a channel until its command runs.";
    "first_byte" TIMES, Time WholeRun true LESS, "From open, or the first send, to the first payload byte.";
    "lateness" TIMES, Time Steady true LESS, "sent − due: how late the generator itself was.";
    "service" TIMES, Time Steady true LESS, "done − sent.";
    "response" TIMES, Time Steady true LESS, "done − due: the honest latency.";
    "reconnect" TIMES, Time WholeRun true LESS, "From the loss of a stream's connection to its being open again.";
    "load" &["delivered_ratio"], Share Steady true MORE, "Ticks sent / ticks due.";
    "load" &["echoed_ratio"], Share Steady true MORE, "Messages echoed / messages sent, of echo traffic.";
    "load" &["open_ratio"], Share Steady true MORE,
        "Streams opened at least once / asked for; of a window: streams open / asked for, the mean.";
    "load" &["rate_offered", "rate_sent", "rate_received"], Rate Steady true MORE,
        "Payload bytes a second that were due, sent, received.";
    "load" &["stream_rate_sent", "stream_rate_received"], Rate Steady true MORE,
        "The same a stream: divided by the streams asked for.";
    "disconnects" &["count"], Number WholeRun true LESS, "Open streams lost, of all classes.";
    "disconnects" &["rate"], Share WholeRun true LESS, "Open streams lost / streams asked for.";
    "connect_failures" &["count"], Number WholeRun true LESS, "Attempts to open a stream that failed.";
    "connect_failures" &["rate"], Share WholeRun true LESS, "Attempts that failed / streams asked for.";
    "streams" &["open"], Number WholeRun true MORE,
        "Streams open now; at the end, when the drain began; of a window: the mean.";
    "streams" &["away"], Number WholeRun true LESS, "Streams that have been open and are not: the same.";
    "disruption" &["share"], Share WholeRun false LESS, "Streams dropped / streams open when it began.";
    "disruption" &["users_share"], Share WholeRun false LESS,
        "Users who had a stream dropped / users who had one open.";
    "disruption" &["dropped", "never_back"], Number WholeRun false LESS,
        "Streams dropped; of these, not open again.";
    "disruption" &["bytes_lost"], Bytes WholeRun false LESS, "Payload bytes whose echo never came, or that never arrived.";
    "disruption" &["delivered_ratio"], Share WholeRun false MORE, "Ticks sent / ticks due, of the window that was expected.";
    "disruption.recover" &["p50", "p99", "max"], Time WholeRun false LESS, "From a stream's drop until it was open again.";
    "verify_failures" &["count"], Number WholeRun true LESS, "Messages whose echo differed.";
    "unexpected_bytes" &["count"], Number WholeRun true LESS, "Bytes beyond what was sent.";
    "generator" &["busy_max"], Share WholeRun false LESS,
        "The busiest second of any worker's core; of a window: the busiest worker's mean.";
    "observe.NAME" &["min", "mean", "max", "last"], Number Steady false None,
        "What query NAME of `[observe]` answered; windows have every second of the run.";
};

impl Row {
    /// What one of its stats is measured in.
    pub fn unit_of(&self, stat: &str) -> Unit {
        if stat == "count" { Unit::Number } else { self.unit }
    }
}

/// The names that a run adds to [`TABLE`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Names<'a> {
    /// Its groups.
    pub groups: &'a [&'a str],
    /// The queries of `[observe]`.
    pub observe: &'a [&'a str],
}

/// One figure: `[group.]figure.stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    group: Option<String>,
    figure: String,
    stat: String,
    unit: Unit,
    when: When,
    better: Option<Better>,
}

/// What is read of a run, of a group or of a window.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values {
    /// See [`TABLE`].
    pub delivered_ratio: Option<f64>,
    /// See [`TABLE`].
    pub echoed_ratio: Option<f64>,
    /// See [`TABLE`].
    pub open_ratio: Option<f64>,
    /// Bytes a second: offered, sent, received.
    pub rates: [Option<f64>; 3],
    /// Streams asked for.
    pub streams: f64,
    /// Streams open.
    pub open: Option<f64>,
    /// Streams that have been open and are not.
    pub away: Option<f64>,
    /// Open streams lost.
    pub disconnects: u64,
    /// Attempts that failed.
    pub connect_failures: u64,
    /// Messages that differed.
    pub verify_failures: u64,
    /// Bytes beyond what was sent.
    pub unexpected_bytes: u64,
    /// The distribution that the metric is about.
    pub figure: Option<Figure>,
    /// Of the busiest worker.
    pub busy_max: Option<f64>,
    /// Of the query that the metric is about.
    pub observed: Option<Observed>,
}

impl Metric {
    /// Parses a name alone.
    ///
    /// # Errors
    /// What is wrong, with the names that are near.
    pub fn parse(text: &str, names: &Names<'_>) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('.').collect();
        let (group, figure, stat) = match parts[..] {
            [figure, stat] => (None, figure, stat),
            [group, figure, stat] if names.groups.contains(&group) => (Some(group), figure, stat),
            [OBSERVE, name, stat] => return Self::observed(name, stat, names),
            [disruption::FIGURE, _, _] => {
                (None, text.rsplit_once('.').map_or(text, |(figure, _)| figure), parts[2])
            }
            [group, _, _] => {
                return Err(format!("no group is called `{group}`; there are {}", names.groups.join(", ")));
            }
            _ => return Err(format!("`{text}` is no figure; write it as `response.p99`")),
        };
        let is_it = |row: &&Row| row.figure == figure && row.stats.contains(&stat);
        let Some(row) = TABLE.iter().find(is_it) else {
            let name = format!("{figure}.{stat}");
            return Err(format!("there is no `{name}`; the nearest are {}", near::to(&name).join(", ")));
        };
        if let Some(group) = group.filter(|_| !row.of_a_group) {
            return Err(format!("`{figure}.{stat}` is of the whole run; leave out `{group}.`"));
        }
        Ok(Self::of(row, group, figure, stat))
    }

    fn observed(name: &str, stat: &str, names: &Names<'_>) -> Result<Self, String> {
        let row = TABLE.iter().find(|row| row.figure.starts_with(OBSERVE)).expect("it stands in the table");
        if !names.observe.contains(&name) {
            let known = match names.observe {
                [] => "the run file has no [observe]".to_owned(),
                known => format!("there are {}", known.join(", ")),
            };
            return Err(format!("[observe] has no query `{name}`; {known}"));
        }
        if !row.stats.contains(&stat) {
            return Err(format!("`{OBSERVE}.{name}` has {}, and no `{stat}`", row.stats.join(", ")));
        }
        Ok(Self::of(row, None, &format!("{OBSERVE}.{name}"), stat))
    }

    fn of(row: &Row, group: Option<&str>, figure: &str, stat: &str) -> Self {
        Self {
            group: group.map(str::to_owned),
            figure: figure.into(),
            stat: stat.into(),
            unit: row.unit_of(stat),
            when: row.when,
            better: row.better.filter(|_| stat != "count" || row.unit != Unit::Time),
        }
    }

    /// Whose it is; `None`: the whole run's.
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// The words before the last dot, without the group.
    pub fn figure(&self) -> &str {
        &self.figure
    }

    /// The last word.
    pub fn stat(&self) -> &str {
        &self.stat
    }

    /// What it is measured in.
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// Which change is an improvement.
    pub const fn better(&self) -> Option<Better> {
        self.better
    }

    /// Which seconds windows may cover. Of the target's own figures these are all that have one.
    pub fn windows(&self) -> When {
        if self.query().is_some() { When::WholeRun } else { self.when }
    }

    /// Its query of `[observe]`.
    pub fn query(&self) -> Option<&str> {
        self.figure.strip_prefix(OBSERVE)?.strip_prefix('.')
    }

    /// Whether it says something of the generator, and nothing of its target.
    pub fn is_of_the_generator(&self) -> bool {
        self.figure == GENERATOR
    }

    /// Whether it is one of each disruption, and of nothing else.
    pub fn is_of_disruptions(&self) -> bool {
        disruption::is_of(&self.figure)
    }

    /// Its distribution's name, if it is one.
    pub fn latency(&self) -> Option<&str> {
        LATENCIES.contains(&self.figure.as_str()).then_some(&*self.figure)
    }

    /// Its value in a report; of disruptions the worst one's.
    pub fn read(&self, report: &Report) -> Option<f64> {
        if self.is_of_disruptions() {
            return disruption::worst(self, report);
        }
        let (load, latency) = match &self.group {
            None => (&report.load, &report.latency),
            Some(name) => {
                let part: &Part = report.groups.iter().find(|part| part.name == *name)?;
                (&part.load, &part.latency)
            }
        };
        self.value(&Values {
            busy_max: report.generator.workers.iter().map(|worker| worker.busy_max).reduce(f64::max),
            observed: self.query().and_then(|name| report.observe.get(name)).cloned(),
            ..self.values(load, latency)
        })
    }

    fn values(&self, load: &Load, latency: &Latency) -> Values {
        Values {
            delivered_ratio: load.delivered_ratio,
            echoed_ratio: load.echoed_ratio,
            open_ratio: load.open_ratio(),
            rates: [load.rate_offered, load.rate_sent, load.rate_received],
            streams: load.streams_requested as f64,
            open: Some(load.streams_open_at_end as f64),
            away: Some(load.streams_opened.saturating_sub(load.streams_open_at_end) as f64),
            disconnects: load.disconnects.values().sum(),
            connect_failures: load.connect_failures.values().sum(),
            verify_failures: load.verify_failures,
            unexpected_bytes: load.unexpected_bytes,
            figure: latency.figure(&self.figure).cloned(),
            busy_max: None,
            observed: None,
        }
    }

    /// Its value among these.
    pub fn value(&self, values: &Values) -> Option<f64> {
        let share = |count: u64| (values.streams > 0.0).then(|| count as f64 / values.streams);
        let a_stream = |rate: Option<f64>| rate.filter(|_| values.streams > 0.0).map(|r| r / values.streams);
        let [offered, sent, received] = values.rates;
        match (self.figure.as_str(), self.stat.as_str()) {
            ("load", "delivered_ratio") => values.delivered_ratio,
            ("load", "echoed_ratio") => values.echoed_ratio,
            ("load", "open_ratio") => values.open_ratio,
            ("load", "rate_offered") => offered,
            ("load", "rate_sent") => sent,
            ("load", "rate_received") => received,
            ("load", "stream_rate_sent") => a_stream(sent),
            ("load", "stream_rate_received") => a_stream(received),
            ("streams", "open") => values.open,
            ("streams", _) => values.away,
            ("disconnects", "count") => Some(values.disconnects as f64),
            ("disconnects", _) => share(values.disconnects),
            ("connect_failures", "count") => Some(values.connect_failures as f64),
            ("connect_failures", _) => share(values.connect_failures),
            ("verify_failures", _) => Some(values.verify_failures as f64),
            ("unexpected_bytes", _) => Some(values.unexpected_bytes as f64),
            (GENERATOR, _) => values.busy_max,
            (_, stat) if self.query().is_some() => observed(values.observed.as_ref()?, stat),
            (_, stat) => figure(values.figure.as_ref()?, stat),
        }
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(group) = &self.group {
            write!(f, "{group}.")?;
        }
        write!(f, "{}.{}", self.figure, self.stat)
    }
}

fn figure(figure: &Figure, stat: &str) -> Option<f64> {
    Some(match stat {
        "count" => figure.count as f64,
        "min" => figure.min,
        "mean" => figure.mean,
        "p50" => figure.p50,
        "p90" => figure.p90,
        "p99" => figure.p99,
        "p999" => figure.p999,
        "p9999" => figure.p9999,
        "max" => figure.max,
        _ => return None,
    })
}

fn observed(observed: &Observed, stat: &str) -> Option<f64> {
    Some(match stat {
        "min" => observed.min,
        "mean" => observed.mean,
        "max" => observed.max,
        "last" => observed.last,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disruption::{Disruption, Recover};
    use crate::report::{Generator, Worker};

    #[test]
    fn each_name_of_the_table_is_read_from_a_report_that_has_it() {
        let own = Figure {
            count: 1,
            min: 2.0,
            mean: 3.0,
            p50: 4.0,
            p90: 5.0,
            p99: 6.0,
            p999: 7.0,
            p9999: 8.0,
            max: 9.0,
        };
        let all = Some(own);
        let latency = Latency {
            connect: all.clone(),
            tls: all.clone(),
            upgrade: all.clone(),
            banner: all.clone(),
            key_exchange: all.clone(),
            authentication: all.clone(),
            channel: all.clone(),
            first_byte: all.clone(),
            lateness: all.clone(),
            service: all.clone(),
            response: all.clone(),
            reconnect: all,
        };
        let load = Load {
            streams_requested: 100,
            streams_opened: 10,
            streams_open_at_end: 3,
            delivered_ratio: Some(0.2),
            echoed_ratio: Some(0.3),
            rate_offered: Some(4e3),
            rate_sent: Some(5e3),
            rate_received: Some(6e3),
            disconnects: [("reset".into(), 7)].into(),
            connect_failures: [("refused".into(), 8), ("reset".into(), 1)].into(),
            verify_failures: 11,
            unexpected_bytes: 12,
            ..Load::default()
        };
        let part = Part { name: "g".into(), load: load.clone(), latency: latency.clone() };
        let observed = Observed { min: 1.0, mean: 2.0, max: 3.0, last: 4.0, samples: 5 };
        let report = Report {
            load,
            latency,
            groups: vec![part],
            observe: [("cpu".into(), observed)].into(),
            disruptions: vec![Disruption {
                streams_dropped: 3,
                share: Some(0.25),
                users: Some(10),
                users_affected: Some(4),
                never_back: 1,
                bytes_lost: 77,
                delivered_ratio: Some(0.75),
                recover: Some(Recover { p50: 1.0, p99: 2.0, max: 3.0 }),
                ..Disruption::default()
            }],
            generator: Generator {
                workers: vec![
                    Worker { busy_max: 0.4, ..Worker::default() },
                    Worker { busy_max: 0.6, ..Worker::default() },
                ],
                ..Generator::default()
            },
            ..Report::default()
        };
        let names = Names { groups: &["g"], observe: &["cpu"] };
        let expected = [
            ("load", vec![0.2, 0.3, 0.1, 4e3, 5e3, 6e3, 50.0, 60.0]),
            ("disconnects", vec![7.0, 0.07]),
            ("connect_failures", vec![9.0, 0.09]),
            ("streams", vec![3.0, 7.0]),
            ("disruption", vec![0.25, 0.4, 3.0, 1.0, 77.0, 0.75]),
            ("disruption.recover", vec![1.0, 2.0, 3.0]),
            ("verify_failures", vec![11.0]),
            ("unexpected_bytes", vec![12.0]),
            ("generator", vec![0.6]),
            ("observe.NAME", vec![1.0, 2.0, 3.0, 4.0]),
        ];
        let times: Vec<f64> = (1..=9).map(f64::from).collect();
        let mut seen = std::collections::BTreeMap::new();
        for row in TABLE {
            for stat in row.stats {
                let name = format!("{}.{stat}", row.figure.replace("NAME", "cpu"));
                let metric = Metric::parse(&name, &names).unwrap();
                let value = metric.read(&report).unwrap_or_else(|| panic!("{name} has no value"));
                assert_eq!(metric.to_string(), name);
                if row.of_a_group {
                    let of_group = Metric::parse(&format!("g.{name}"), &names).unwrap();
                    assert_eq!((of_group.read(&report), of_group.group()), (Some(value), Some("g")));
                }
                seen.entry(row.figure).or_insert_with(Vec::new).push(value);
            }
        }
        for (figure, values) in seen {
            let known = expected.iter().find(|(name, _)| *name == figure).map(|(_, values)| values);
            assert_eq!(&values, known.unwrap_or(&times), "{figure}");
        }
        assert!(TABLE.iter().all(|row| row.better.is_some() || row.figure.starts_with(OBSERVE)));
    }

    #[test]
    fn names_that_are_not_there_are_refused_with_what_is() {
        let names = Names { groups: &["main", "ssh"], observe: &["cpu", "memory"] };
        for (name, words) in [
            ("response.p98", &["no `response.p98`", "response.p99", "response.p90"][..]),
            ("respnse.p99", &["no `respnse.p99`", "response.p99"]),
            ("disconnects.ratio", &["disconnects.rate"]),
            ("load.delivered", &["load.delivered_ratio"]),
            ("other.response.p99", &["no group is called `other`", "main, ssh"]),
            ("main.generator.busy_max", &["of the whole run", "leave out `main.`"]),
            ("observe.cpus.max", &["no query `cpus`", "cpu, memory"]),
            ("observe.cpu.p99", &["min, mean, max, last"]),
            ("disruption.recover.p90", &["no `disruption.recover.p90`", "disruption.recover.p99"]),
            ("disruption.recovery.max", &["disruption.recover.max"]),
            ("disruption.shares", &["disruption.share"]),
            ("main.disruption.share", &["of the whole run", "leave out `main.`"]),
            ("fast", &["`fast` is no figure", "response.p99"]),
            ("a.b.c.d", &["is no figure"]),
        ] {
            let error = Metric::parse(name, &names).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{name}: {error}");
        }
        let none = Names { groups: &["main"], observe: &[] };
        assert!(Metric::parse("observe.cpu.max", &none).unwrap_err().contains("no [observe]"));
        let odd = Names { groups: &["observe"], observe: &[] };
        assert_eq!(Metric::parse("observe.response.max", &odd).unwrap().group(), Some("observe"));
    }
}
