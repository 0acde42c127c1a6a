//! What Prometheus reads: a text made once a second from the workers' merged figures. A scrape
//! copies that text and never touches a worker.
//!
//! Counters and gauges go through `metrics` and its exporter. Histograms are written here: they
//! are merged already, and the exporter takes single samples only (docs/decisions).

use std::borrow::Cow;
use std::fmt::Write;

use hdrhistogram::Histogram;
use metrics::{Key, Label, Level, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::run::fleet::{ByWorkspace, Workspace};
use crate::run::supervisor::Supervisor;
use crate::stream::class::Class;
use crate::stream::flow::Standing;
use crate::stream::meter::{Counters, Figure};

const METADATA: Metadata<'static> = Metadata::new("scaled", Level::INFO, None);

/// Upper edges of histogram buckets, in µs: 100 µs to 60 s in steps of 1, 2, 5.
const BUCKETS_US: [u64; 18] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000, 10_000_000, 20_000_000, 60_000_000,
];

/// Name and help of every metric but the histograms.
pub const TABLE: [(&str, &str); 23] = [
    ("scaled_build_info", "Version of this daemon; always 1."),
    ("scaled_run_info", "Id and name of the run that is going; always 1."),
    ("scaled_run_state", "1 for the state that the run is in."),
    ("scaled_streams", "Streams by group and state."),
    ("scaled_connects_total", "Attempts to open a stream, by group and result."),
    ("scaled_disconnects_total", "Open streams lost, by group and class."),
    ("scaled_reconnects_total", "Streams opened again after a loss."),
    ("scaled_ticks_due_total", "Grid points that came."),
    ("scaled_ticks_sent_total", "Grid points at which a message was sent."),
    ("scaled_ticks_missed_total", "Grid points missed, by cause."),
    ("scaled_payload_sent_bytes_total", "Payload handed to the kernel."),
    ("scaled_payload_received_bytes_total", "Payload that came in."),
    ("scaled_messages_sent_total", "Messages handed to the kernel."),
    ("scaled_messages_echoed_total", "Messages whose echo came back whole."),
    ("scaled_verify_failures_total", "Messages whose echo differed."),
    ("scaled_worker_busy_ratio", "CPU time over wall time of a worker's thread in the last second."),
    ("scaled_saturated", "1 while the generator is itself the limit."),
    ("scaled_ring_cq_overflows_total", "Completions that did not fit into the queue at once."),
    ("scaled_ring_buffers_exhausted_total", "Receives that found no buffer."),
    ("coderd_scaletest_bytes_read_total", "Payload that came in, as Coder's dashboards call it."),
    ("coderd_scaletest_bytes_written_total", "Payload handed to the kernel, as Coder's dashboards call it."),
    ("coderd_scaletest_read_errors_total", "Streams lost, as Coder's dashboards call it."),
    (
        "coderd_scaletest_write_errors_total",
        "Messages not sent for back-pressure, as Coder's dashboards call it.",
    ),
];

/// The histograms: name, help, figure.
pub const HISTOGRAMS: [(&str, &str, Figure); 12] = [
    ("scaled_response_time_seconds", "From the due time to the last echoed byte.", Figure::Response),
    ("scaled_service_time_seconds", "From the send to the last echoed byte.", Figure::Service),
    ("scaled_lateness_seconds", "From the due time to the send.", Figure::Lateness),
    ("scaled_connect_time_seconds", "TCP connect.", Figure::Connect),
    ("scaled_tls_handshake_time_seconds", "TLS handshake.", Figure::Tls),
    ("scaled_ssh_banner_time_seconds", "From connected to the SSH server's identification.", Figure::Banner),
    ("scaled_ssh_key_exchange_time_seconds", "First SSH key exchange.", Figure::KeyExchange),
    ("scaled_ssh_authentication_time_seconds", "SSH authentication.", Figure::Authentication),
    (
        "scaled_ssh_channel_time_seconds",
        "From the request for an SSH channel until its command runs.",
        Figure::Channel,
    ),
    (
        "scaled_reconnect_time_seconds",
        "From the loss of a stream's connection to its being open again.",
        Figure::Reconnect,
    ),
    (
        "coderd_scaletest_read_latency_seconds",
        "Response time, as Coder's dashboards call it.",
        Figure::Response,
    ),
    ("coderd_scaletest_write_latency_seconds", "Lateness, as Coder's dashboards call it.", Figure::Lateness),
];

/// The text for a scrape. Counters exist at zero before the first run.
pub fn render(run: Option<&Supervisor>) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    for (name, help) in TABLE {
        let (name, help) = (name.into(), SharedString::from(help));
        recorder.describe_gauge(name, None::<Unit>, help);
    }
    let key = |name: &'static str, labels: &[(&'static str, String)]| {
        let labels: Vec<Label> =
            labels.iter().map(|(name, value)| Label::new(*name, value.clone())).collect();
        Key::from_parts(name, labels)
    };
    let count = |name, labels: &[(&'static str, String)], value: u64| {
        recorder.register_counter(&key(name, labels), &METADATA).absolute(value);
    };
    let gauge = |name, labels: &[(&'static str, String)], value: f64| {
        recorder.register_gauge(&key(name, labels), &METADATA).set(value);
    };
    gauge("scaled_build_info", &[("version", env!("CARGO_PKG_VERSION").into())], 1.0);
    gauge("scaled_saturated", &[], f64::from(run.is_some_and(|run| run.event().saturated)));
    let state = run.map_or("idle", |run| run.event().state.as_str());
    for name in ["idle", "ramping", "warm-up", "steady", "paused", "draining", "done"] {
        gauge("scaled_run_state", &[("state", name.into())], f64::from(name == state));
    }
    let groups = run.map(Supervisor::by_group).unwrap_or_default();
    if let Some(run) = run {
        let name = run.event().name.clone().unwrap_or_default();
        gauge("scaled_run_info", &[("run", run.id.clone()), ("name", name)], 1.0);
        for (core, busy) in run.busy_now() {
            gauge("scaled_worker_busy_ratio", &[("cpu", core.to_string())], busy);
        }
    }
    let (overflows, exhausted) = run.map(Supervisor::ring_counters).unwrap_or_default();
    count("scaled_ring_cq_overflows_total", &[], overflows);
    count("scaled_ring_buffers_exhausted_total", &[], exhausted);
    let mut sum = Counters::default();
    for (group, counters, _, standing) in &groups {
        sum.add(counters);
        let group = ("group", group.to_string());
        for (name, which) in Standing::NAMED {
            gauge(
                "scaled_streams",
                &[group.clone(), ("state", name.into())],
                standing[which as usize] as f64,
            );
        }
        count("scaled_connects_total", &[group.clone(), ("result", "ok".into())], counters.connects);
        for (class, n) in counters.failures.entries() {
            count("scaled_connects_total", &[group.clone(), ("result", class.name().into())], n);
        }
        for &class in Class::ALL {
            count(
                "scaled_disconnects_total",
                &[group.clone(), ("class", class.name().into())],
                counters.disconnects.0[class as usize],
            );
        }
    }
    count("scaled_reconnects_total", &[], sum.reconnects);
    count("scaled_ticks_due_total", &[], sum.ticks_due);
    count("scaled_ticks_sent_total", &[], sum.ticks_sent);
    for (cause, n) in [
        ("generator", sum.missed_generator),
        ("backpressure", sum.missed_backpressure),
        ("disconnected", sum.missed_disconnected),
    ] {
        count("scaled_ticks_missed_total", &[("cause", cause.into())], n);
    }
    count("scaled_payload_sent_bytes_total", &[], sum.payload_sent);
    count("scaled_payload_received_bytes_total", &[], sum.payload_received);
    count("scaled_messages_sent_total", &[], sum.messages_sent);
    count("scaled_messages_echoed_total", &[], sum.messages_echoed);
    count("scaled_verify_failures_total", &[], sum.verify_failures);
    let by_workspace = run.and_then(Supervisor::by_workspace);
    if by_workspace.is_none() {
        count("coderd_scaletest_bytes_read_total", &[], sum.payload_received);
        count("coderd_scaletest_bytes_written_total", &[], sum.payload_sent);
        count("coderd_scaletest_read_errors_total", &[], sum.disconnects.sum());
        count("coderd_scaletest_write_errors_total", &[], sum.missed_backpressure);
    }
    let mut text = handle.render();
    if let Some(workspaces) = by_workspace {
        write_by_workspace(&mut text, &workspaces);
    }
    for (name, help, figure) in HISTOGRAMS {
        let merged = groups.iter().filter_map(|(_, _, histograms, _)| histograms.figure(figure)).fold(
            None,
            |merged: Option<Histogram<u64>>, histogram| match merged {
                None => Some(histogram.clone()),
                Some(mut sum) => {
                    let _ = sum.add(histogram);
                    Some(sum)
                }
            },
        );
        write_histogram(&mut text, name, help, merged.as_ref());
    }
    turns(&mut text, run);
    process(&mut text);
    text
}

/// The original's four counters with the original's labels.
fn write_by_workspace(text: &mut String, workspaces: &[ByWorkspace<'_>]) {
    type Figure = fn(&ByWorkspace<'_>) -> u64;
    let figures: [(&str, Figure); 4] = [
        ("coderd_scaletest_bytes_read_total", |it| it.received),
        ("coderd_scaletest_bytes_written_total", |it| it.sent),
        ("coderd_scaletest_read_errors_total", |it| it.losses),
        ("coderd_scaletest_write_errors_total", |it| it.stalls),
    ];

    let labels: Vec<(String, &ByWorkspace<'_>)> = workspaces
        .iter()
        .map(|it| {
            let Workspace { owner, name, agent } = it.workspace;
            let (owner, name, agent) = (escaped(owner), escaped(name), escaped(agent));
            (format!("username=\"{owner}\",workspace_name=\"{name}\",agent_name=\"{agent}\""), it)
        })
        .collect();
    for (name, figure) in figures {
        let help = TABLE.iter().find(|(known, _)| *known == name).map_or("", |(_, help)| help);
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
        for (labels, it) in &labels {
            let _ = writeln!(text, "{name}{{{labels}}} {}", figure(it));
        }
        text.push('\n');
    }
}

/// A label's value as the text format has it.
fn escaped(value: &str) -> Cow<'_, str> {
    // Names of Coder's are letters, digits and `-`.
    match value.contains(['\\', '"', '\n']) {
        true => value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into(),
        false => value.into(),
    }
}

fn write_histogram(text: &mut String, name: &str, help: &str, histogram: Option<&Histogram<u64>>) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
    for edge in BUCKETS_US {
        let below = histogram.map_or(0, |histogram| histogram.count_between(0, edge));
        let _ = writeln!(text, "{name}_bucket{{le=\"{}\"}} {below}", edge as f64 / 1e6);
    }
    let count = histogram.map_or(0, Histogram::len);
    let sum = histogram.map_or(0.0, |histogram| histogram.mean() * histogram.len() as f64 / 1e6);
    let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n");
}

/// A summary, which the exporter makes from single samples only.
fn turns(text: &mut String, run: Option<&Supervisor>) {
    let name = "scaled_worker_turn_seconds";
    let _ = writeln!(text, "# HELP {name} Length of a worker's turns.\n# TYPE {name} summary");
    for worker in run.map(|run| run.event().workers.as_slice()).unwrap_or_default() {
        for (quantile, value) in [("0.99", worker.turn_p99), ("1", worker.turn_max)] {
            let _ = writeln!(text, "{name}{{cpu=\"{}\",quantile=\"{quantile}\"}} {value}", worker.cpu);
        }
    }
}

fn process(text: &mut String) {
    let (user, system) = scale_ring::host::process_cpu_seconds();
    let rss = scale_ring::host::rss_bytes();
    let _ = writeln!(
        text,
        "# HELP process_cpu_seconds_total CPU time of the daemon.\n# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {}\n# HELP process_resident_memory_bytes Resident memory of the daemon.\n# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {rss}",
        user + system
    );
}
