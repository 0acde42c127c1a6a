//! Every metric: name, kind, labels and meaning. Scrapes, docs/metrics.md and the checks of
//! dashboards and alerts all come from this one table.

use crate::stream::meter::Figure;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; begins at zero with each run, or with the daemon.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution in buckets.
    Histogram,
    /// Quantiles.
    Summary,
}

impl Kind {
    /// As the text format and the docs say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, with its base unit.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Names of its labels, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($id:ident $kind:ident $name:literal [$($label:ident)*] $help:literal)*) => {
        $(
            #[doc = $help]
            pub const $id: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$(stringify!($label)),*],
                help: $help,
            };
        )*

        /// All of them.
        pub const TABLE: &[Metric] = &[$($id),*];
    };
}

metrics! {
    BUILD_INFO Gauge "scaled_build_info" [version] "Version of this daemon; always 1."
    RUNS Counter "scaled_runs_total" [outcome] "Runs that have ended since the daemon started, by outcome."
    STATE_WRITABLE Gauge "scaled_state_writable" [] "1 while the state folder takes what it is given in time; 0: it is full, read-only, slow or not there."
    STATE_ERRORS Counter "scaled_state_errors_total" [] "What the state folder did not take since the daemon started."
    RUN_INFO Gauge "scaled_run_info" [run name] "Id and name of the run that is going, or was the last; always 1."
    RUN_STATE Gauge "scaled_run_state" [state] "1 for the state that the run is in."
    RUN_STARTED Gauge "scaled_run_start_timestamp_seconds" [] "When the run started, since 1970; 0 without a run."
    RUN_ELAPSED Gauge "scaled_run_elapsed_seconds" [] "Time since the run's start."
    RUN_REMAINING Gauge "scaled_run_remaining_seconds" [] "Time until the run's planned end; absent where it has none."
    STAGE_STARTED Gauge "scaled_stage_start_timestamp_seconds" [group stage] "When the group entered the stage it is in, since 1970."
    MARKS Counter "scaled_marks_total" [] "Marks put on the run's time line."
    MARK_INFO Gauge "scaled_mark_info" [text] "Text of the newest mark; always 1."
    MARK_AT Gauge "scaled_mark_timestamp_seconds" [] "When the newest mark was put, since 1970; 0 without one."
    THRESHOLD_OK Gauge "scaled_threshold_ok" [threshold] "1 while the run meets the threshold; the first 64."
    OBSERVE Gauge "scaled_observe" [name] "Newest figure of the target's own, by its name in the run file."
    STREAMS Gauge "scaled_streams" [group state] "Streams by group and state."
    CONNECTS Counter "scaled_connects_total" [group result] "Attempts to open a stream, by group and result."
    DISCONNECTS Counter "scaled_disconnects_total" [group class] "Open streams lost, by group and class."
    BREAKER_OPEN Gauge "scaled_breaker_open" [group] "1 while the circuit breaker of the group holds connects, or lets only probes through."
    DISRUPTIONS Counter "scaled_disruptions_total" [] "Disruptions of the run: what was marked, and where many streams dropped at once."
    DISRUPTION_DROPPED Counter "scaled_disruption_streams_dropped_total" [] "Streams that were dropped in disruptions; each once in each."
    STREAMS_AWAY Gauge "scaled_streams_away" [] "Streams that were dropped in a disruption and are not open again."
    RECONNECTS Counter "scaled_reconnects_total" [] "Streams opened again after a loss."
    TICKS_DUE Counter "scaled_ticks_due_total" [] "Grid points that came."
    TICKS_SENT Counter "scaled_ticks_sent_total" [] "Grid points at which a message was sent."
    TICKS_MISSED Counter "scaled_ticks_missed_total" [cause] "Grid points missed, by cause."
    PAYLOAD_SENT Counter "scaled_payload_sent_bytes_total" [] "Payload handed to the kernel."
    PAYLOAD_RECEIVED Counter "scaled_payload_received_bytes_total" [] "Payload that came in."
    MESSAGES_SENT Counter "scaled_messages_sent_total" [] "Messages handed to the kernel."
    MESSAGES_ECHOED Counter "scaled_messages_echoed_total" [] "Messages whose echo came back whole."
    VERIFY_FAILURES Counter "scaled_verify_failures_total" [] "Messages whose echo differed."
    UNEXPECTED Counter "scaled_unexpected_bytes_total" [] "Bytes that came in beyond what was sent."
    GROUP_DUE Counter "scaled_group_ticks_due_total" [group] "Grid points that came, by group."
    GROUP_SENT Counter "scaled_group_ticks_sent_total" [group] "Grid points at which a message was sent, by group."
    GROUP_RESPONSE Histogram "scaled_group_response_time_seconds" [group] "Response time, by group."
    RESPONSE Histogram "scaled_response_time_seconds" [] "From the due time to the last echoed byte."
    SERVICE Histogram "scaled_service_time_seconds" [] "From the send to the last echoed byte."
    LATENESS Histogram "scaled_lateness_seconds" [] "From the due time to the send."
    CONNECT Histogram "scaled_connect_time_seconds" [] "TCP connect."
    TLS Histogram "scaled_tls_handshake_time_seconds" [] "TLS handshake."
    UPGRADE Histogram "scaled_upgrade_time_seconds" [] "From the request for a websocket to its 101."
    SSH_BANNER Histogram "scaled_ssh_banner_time_seconds" [] "From connected to the SSH server's identification."
    SSH_KEY_EXCHANGE Histogram "scaled_ssh_key_exchange_time_seconds" [] "First SSH key exchange."
    SSH_AUTHENTICATION Histogram "scaled_ssh_authentication_time_seconds" [] "SSH authentication."
    SSH_CHANNEL Histogram "scaled_ssh_channel_time_seconds" [] "From the request for an SSH channel until its command runs."
    FIRST_BYTE Histogram "scaled_first_byte_time_seconds" [] "From open, or the first send where we speak first, to the first payload byte."
    RECONNECT Histogram "scaled_reconnect_time_seconds" [] "From the loss of a stream's connection to its being open again."
    SATURATED Gauge "scaled_saturated" [] "1 while the generator is itself the limit of a run that is going."
    WORKER_BUSY Gauge "scaled_worker_busy_ratio" [cpu] "CPU time over wall time of a worker's thread in the last second."
    WORKER_TURN Summary "scaled_worker_turn_seconds" [cpu] "Length of a worker's turns: p99 of the last second, and (quantile 1) the longest of the run."
    RING_OVERFLOWS Counter "scaled_ring_cq_overflows_total" [] "Completions that did not fit into the queue at once."
    RING_EXHAUSTED Counter "scaled_ring_buffers_exhausted_total" [] "Receives that found no buffer."
    PORTS_SKIPPED Counter "scaled_source_ports_skipped_total" [] "Source ports that others held when a connection was to have them; the next one was taken."
    CODER_READ Counter "coderd_scaletest_bytes_read_total" [] "Payload that came in, as Coder's dashboards call it."
    CODER_WRITTEN Counter "coderd_scaletest_bytes_written_total" [] "Payload handed to the kernel, as Coder's dashboards call it."
    CODER_READ_ERRORS Counter "coderd_scaletest_read_errors_total" [] "Streams lost, as Coder's dashboards call it."
    CODER_WRITE_ERRORS Counter "coderd_scaletest_write_errors_total" [] "Messages not sent for back-pressure, as Coder's dashboards call it."
    CODER_READ_LATENCY Histogram "coderd_scaletest_read_latency_seconds" [] "Response time, as Coder's dashboards call it."
    CODER_WRITE_LATENCY Histogram "coderd_scaletest_write_latency_seconds" [] "Lateness, as Coder's dashboards call it."
    PROCESS_CPU Counter "process_cpu_seconds_total" [] "CPU time of the daemon, user and system."
    PROCESS_STARTED Gauge "process_start_time_seconds" [] "When the daemon started, since 1970."
    PROCESS_RESIDENT Gauge "process_resident_memory_bytes" [] "Resident memory of the daemon."
    PROCESS_VIRTUAL Gauge "process_virtual_memory_bytes" [] "Virtual memory of the daemon."
    PROCESS_THREADS Gauge "process_threads" [] "Threads of the daemon."
    PROCESS_FDS Gauge "process_open_fds" [] "Open descriptors of the daemon; its streams' sockets are in the rings' own tables and need none."
    PROCESS_FDS_MAX Gauge "process_max_fds" [] "Most descriptors that the daemon may open."
}

/// Histograms of the whole run, and the figure that each shows.
pub const HISTOGRAMS: [(Metric, Figure); 14] = [
    (RESPONSE, Figure::Response),
    (SERVICE, Figure::Service),
    (LATENESS, Figure::Lateness),
    (CONNECT, Figure::Connect),
    (TLS, Figure::Tls),
    (UPGRADE, Figure::Upgrade),
    (SSH_BANNER, Figure::Banner),
    (SSH_KEY_EXCHANGE, Figure::KeyExchange),
    (SSH_AUTHENTICATION, Figure::Authentication),
    (SSH_CHANNEL, Figure::Channel),
    (FIRST_BYTE, Figure::FirstByte),
    (RECONNECT, Figure::Reconnect),
    (CODER_READ_LATENCY, Figure::Response),
    (CODER_WRITE_LATENCY, Figure::Lateness),
];
