//! What a run has counted by a moment, and what it counted between two: a step as a small report, which thresholds read as
//! they read any. Times are exact: they come of the histograms' growth.

use std::collections::{BTreeMap, VecDeque};

use scale_api::report::{
    Figure, Generator, Latency, Load, Missed, Observed, Part, Report, SeriesRow, Worker,
};
use scale_api::threshold::{LATENCIES, Metric, Names, TABLE, When};

use super::histogram::Histogram;
use crate::client::{Client, Failure};

/// By group and figure, as the daemon hands them out.
type Histograms = BTreeMap<String, BTreeMap<String, String>>;

/// A run so far.
#[derive(Debug, Default)]
pub struct Reading {
    /// Seconds since its start.
    pub at: f64,
    /// All of it by then.
    pub report: Report,
    histograms: Histograms,
}

impl Reading {
    /// Reads run `id`, of which `at` seconds have passed.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub fn take(client: &Client, id: &str, at: f64) -> Result<Self, Failure> {
        let report = client.report(id)?;
        let histograms = client.get(&format!("/v1/runs/{id}/histograms"))?;
        Ok(Self { at, report: Report { series: Vec::new(), ..report }, histograms })
    }
}

/// What a step has beside its readings.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// The group whose load is set.
    pub group: String,
    /// Streams that it was asked for.
    pub streams: u64,
    /// Of each second the busiest worker, and what queries of `[observe]` answered.
    seconds: VecDeque<(f64, BTreeMap<String, f64>)>,
    /// Figures of time that are needed.
    pub figures: Vec<&'static str>,
}

impl Beside {
    /// For `group`, with `figures` of time.
    pub fn new(group: String, figures: Vec<&'static str>) -> Self {
        Self { group, figures, ..Self::default() }
    }

    /// What is read begins anew.
    pub fn clear(&mut self) {
        self.seconds.clear();
    }

    /// Takes a second; no more than the last `most` are kept.
    pub fn take(&mut self, row: &SeriesRow, most: usize) {
        self.seconds.push_back((row.busy_max, row.observe.clone()));
        while self.seconds.len() > most {
            self.seconds.pop_front();
        }
    }

    fn busy_max(&self) -> f64 {
        self.seconds.iter().map(|(busy, _)| *busy).fold(0.0, f64::max)
    }

    fn observed(&self) -> BTreeMap<String, Observed> {
        let mut values: BTreeMap<&String, Vec<f64>> = BTreeMap::new();
        for (name, value) in self.seconds.iter().flat_map(|(_, observe)| observe) {
            values.entry(name).or_default().push(*value);
        }
        values.into_iter().filter_map(|(name, values)| Some((name.clone(), observed(&values)?))).collect()
    }
}

/// The figures of time that some thresholds are about, and those that each step shows.
pub fn figures<'a>(metrics: impl Iterator<Item = &'a Metric> + Clone) -> Vec<&'static str> {
    const SHOWN: [&str; 3] = ["lateness", "service", "response"];
    let is_needed =
        |name: &&str| SHOWN.contains(name) || metrics.clone().any(|it| it.latency() == Some(name));
    LATENCIES.into_iter().filter(is_needed).collect()
}

/// What came between: `opening` is of before the load was set, `settled` of when it stood. What a whole run has of connects
/// and losses counts from the first, messages from the second.
///
/// # Errors
/// A histogram is of another version.
pub fn between(
    opening: &Reading,
    settled: &Reading,
    now: &Reading,
    beside: &Beside,
) -> Result<Report, Failure> {
    let seconds = (now.at - settled.at).max(1e-3);
    let mut groups = Vec::new();
    for part in &now.report.groups {
        let of = |reading: &Reading| -> Load {
            let known = reading.report.groups.iter().find(|known| known.name == part.name);
            known.map(|known| known.load.clone()).unwrap_or_default()
        };
        let mut load = load(&of(opening), &of(settled), &part.load, seconds);
        if part.name == beside.group {
            load.streams_requested = beside.streams;
        }
        let latency = latency(opening, settled, now, &beside.figures, |name| name == part.name)?;
        groups.push(Part { name: part.name.clone(), load, latency });
    }
    let all = |reading: &Reading| reading.report.load.clone();
    let mut load = load(&all(opening), &all(settled), &now.report.load, seconds);
    // What groups that ask for no echo send is not to come back.
    let echoes = groups.iter().map(|part| &part.load).filter(|load| load.echoed_ratio.is_some());
    let (sent, echoed) = echoes
        .fold((0, 0), |(sent, echoed), load| (sent + load.messages_sent, echoed + load.messages_echoed));
    load.echoed_ratio = ratio(echoed, sent);
    load.streams_requested = groups.iter().map(|part| part.load.streams_requested).sum();
    let busiest = Worker { busy_max: beside.busy_max(), ..Worker::default() };
    let disruptions = now.report.disruptions.iter().filter(|it| it.at >= opening.at);
    Ok(Report {
        load,
        latency: latency(opening, settled, now, &beside.figures, |_| true)?,
        groups,
        generator: Generator { workers: vec![busiest], ..Generator::default() },
        observe: beside.observed(),
        disruptions: disruptions.cloned().collect(),
        ..Report::default()
    })
}

fn load(opening: &Load, settled: &Load, now: &Load, seconds: f64) -> Load {
    let since = |figure: fn(&Load) -> u64| figure(now).saturating_sub(figure(settled));
    let from_opening = |figure: fn(&Load) -> u64| figure(now).saturating_sub(figure(opening));
    let (due, sent) = (since(|it| it.ticks_due), since(|it| it.ticks_sent));
    let (messages, echoed) = (since(|it| it.messages_sent), since(|it| it.messages_echoed));
    let (bytes, received) = (since(|it| it.payload_bytes_sent), since(|it| it.payload_bytes_received));
    let rate = |bytes: f64| Some(bytes / seconds);
    Load {
        streams_requested: now.streams_requested,
        // Of a window these are the streams that are open.
        streams_opened: now.streams_open_at_end,
        streams_open_at_end: now.streams_open_at_end,
        connect_failures: classes(&opening.connect_failures, &now.connect_failures),
        disconnects: classes(&opening.disconnects, &now.disconnects),
        ticks_due: due,
        ticks_sent: sent,
        ticks_missed: Missed {
            generator: since(|it| it.ticks_missed.generator),
            backpressure: since(|it| it.ticks_missed.backpressure),
            disconnected: since(|it| it.ticks_missed.disconnected),
        },
        delivered_ratio: ratio(sent, due),
        echoed_ratio: now.echoed_ratio.and_then(|_| ratio(echoed, messages)),
        messages_sent: messages,
        messages_echoed: echoed,
        payload_bytes_sent: bytes,
        payload_bytes_received: received,
        // A step's messages are all of one length.
        rate_offered: ratio(due, sent).and_then(|more| rate(bytes as f64 * more)),
        rate_sent: rate(bytes as f64),
        rate_received: rate(received as f64),
        verify_failures: from_opening(|it| it.verify_failures),
        unexpected_bytes: from_opening(|it| it.unexpected_bytes),
        ..Load::default()
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

type Classes = BTreeMap<String, u64>;

fn classes(before: &Classes, now: &Classes) -> Classes {
    let more = |(class, count): (&String, &u64)| {
        let more = count - before.get(class).copied().unwrap_or(0).min(*count);
        (more > 0).then(|| (class.clone(), more))
    };
    now.iter().filter_map(more).collect()
}

fn latency(
    opening: &Reading,
    settled: &Reading,
    now: &Reading,
    figures: &[&str],
    of: impl Fn(&str) -> bool,
) -> Result<Latency, Failure> {
    let mut latency = Latency::default();
    for name in figures {
        let row = TABLE.iter().find(|row| row.figure == *name);
        let base = if row.is_some_and(|row| row.when == When::WholeRun) { opening } else { settled };
        let mut sum = Histogram::default();
        for (group, texts) in now.histograms.iter().filter(|(group, _)| of(group)) {
            let read = |texts: Option<&BTreeMap<String, String>>| {
                let text = texts.and_then(|texts| texts.get(*name));
                text.map_or_else(|| Ok(Histogram::default()), |text| Histogram::parse(text)).map_err(other)
            };
            sum.add_since(&read(Some(texts))?, &read(base.histograms.get(group))?);
        }
        if let Some(figure) = sum.figure() {
            latency.set(name, figure);
        }
    }
    Ok(latency)
}

fn other(why: String) -> Failure {
    Failure::usage(format!("the daemon is of another version: {why}; use a scalectl of the same"))
}

fn observed(values: &[f64]) -> Option<Observed> {
    let (&last, count) = (values.last()?, values.len());
    Some(Observed {
        min: values.iter().copied().fold(f64::INFINITY, f64::min),
        mean: values.iter().sum::<f64>() / count as f64,
        max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        last,
        samples: count as u64,
    })
}

/// The same statistic of `service` as a metric on `response` has, and of `lateness`: what of it is the target's, and what
/// the generator's.
pub fn split(metric: &Metric, report: &Report) -> Option<(f64, f64)> {
    if metric.latency() != Some("response") || metric.stat() == "count" {
        return None;
    }
    let groups: Vec<&str> = metric.group().into_iter().collect();
    let part = |figure: &str| {
        let name = metric.to_string().replace("response.", figure);
        Metric::parse(&name, &Names { groups: &groups, observe: &[] }).ok()?.read(report)
    };
    Some((part("service.")?, part("lateness.")?))
}

/// A distribution's 99th percentile.
pub fn p99(figure: Option<&Figure>) -> Option<f64> {
    figure.map(|figure| figure.p99)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at: f64, sent: u64, echoed: u64, failed: u64, open: u64) -> Reading {
        let load = Load {
            streams_requested: 900,
            streams_open_at_end: open,
            ticks_due: sent + 10,
            ticks_sent: sent,
            messages_sent: sent,
            messages_echoed: echoed,
            payload_bytes_sent: sent * 100,
            echoed_ratio: Some(1.0),
            connect_failures: [("refused".into(), failed)].into(),
            ..Load::default()
        };
        let groups = vec![Part { name: "main".into(), load: load.clone(), latency: Latency::default() }];
        let report = Report { load, groups, ..Report::default() };
        let text = include_str!("histogram.txt").trim().to_owned();
        let histograms = [("main".to_owned(), [("response".to_owned(), text)].into())].into();
        Reading { at, report, histograms }
    }

    fn seconds(beside: &mut Beside, seconds: &[(f64, f64)], most: usize) {
        for &(busy_max, cpu) in seconds {
            let observe = [("cpu".to_owned(), cpu)].into();
            beside.take(&SeriesRow { busy_max, observe, ..SeriesRow::default() }, most);
        }
    }

    #[test]
    fn what_was_before_is_no_part_of_the_last_seconds() {
        let mut beside = Beside::default();
        seconds(&mut beside, &[(0.99, 9.0), (0.9, 8.0), (0.2, 1.0), (0.1, 2.0), (0.3, 3.0)], 3);
        let at = |at| reading(at, 0, 0, 0, 100);
        let step = between(&at(1.0), &at(1.0), &at(4.0), &beside).expect("all is there");
        let cpu = &step.observe["cpu"];
        assert_eq!((step.generator.workers[0].busy_max, cpu.max, cpu.samples), (0.3, 3.0, 3));
        beside.clear();
        let step = between(&at(1.0), &at(1.0), &at(4.0), &beside).expect("all is there");
        assert!(step.observe.is_empty() && step.generator.workers[0].busy_max == 0.0);
    }

    #[test]
    fn a_step_counts_connects_from_its_setting_and_messages_from_when_it_stood() {
        let (opening, mut settled) = (reading(10.0, 0, 0, 5, 100), reading(12.0, 1000, 1000, 7, 190));
        settled.histograms.clear();
        let now = reading(16.0, 5000, 4000, 8, 198);
        let mut beside = Beside::new("main".into(), vec!["response"]);
        beside.streams = 200;
        seconds(&mut beside, &[(0.5, 1.0), (0.1, 3.0)], 6);
        let step = between(&opening, &settled, &now, &beside).expect("all is there");
        assert_eq!(step.load.connect_failures, [("refused".into(), 3)].into());
        assert_eq!((step.load.messages_sent, step.load.echoed_ratio), (4000, Some(0.75)));
        assert_eq!((step.load.open_ratio(), step.load.rate_sent), (Some(0.99), Some(100_000.0)));
        assert_eq!(step.load.rate_offered, Some(100_000.0));
        assert_eq!(step.latency.response.as_ref().map(|it| it.count), Some(1010));
        assert_eq!((step.groups[0].load.streams_requested, step.observe["cpu"].mean), (200, 2.0));
        let value = |name: &str| {
            Metric::parse(name, &Names { groups: &["main"], observe: &["cpu"] }).unwrap().read(&step)
        };
        assert_eq!((value("main.response.p99"), value("observe.cpu.max")), (Some(0.001), Some(3.0)));
        assert_eq!((value("generator.busy_max"), value("connect_failures.rate")), (Some(0.5), Some(0.015)));
    }

    #[test]
    fn what_a_group_that_asks_for_no_echo_sends_is_not_to_come_back() {
        let with = |at: f64, sent: u64, echoed: u64| {
            let mut reading = reading(at, sent, echoed, 0, 100);
            let load = Load { messages_sent: 50 * sent, ..Load::default() };
            let report = &mut reading.report;
            report.load.messages_sent += load.messages_sent;
            report.groups.push(Part { name: "sink".into(), load, latency: Latency::default() });
            reading
        };
        let (opening, settled, now) = (with(1.0, 0, 0), with(2.0, 1000, 1000), with(8.0, 5000, 4000));
        let step = between(&opening, &settled, &now, &Beside::default()).expect("all is there");
        assert_eq!((step.load.echoed_ratio, step.load.messages_sent), (Some(0.75), 4000 * 51));
        assert_eq!((step.groups[0].load.echoed_ratio, step.groups[1].load.echoed_ratio), (Some(0.75), None));
    }
}
