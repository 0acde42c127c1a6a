//! Connections by kind: what a run's groups opened, and at which rate.

use std::collections::BTreeMap;

use scale_api::report::{Part, Report};
use scale_api::spec::GroupSpec;
use scale_api::typed;
use serde::Serialize;

/// What connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Coder's web terminals.
    WebTerminals,
    /// Apps of workspaces.
    Apps,
    /// SSH sessions, of workspaces or of any server.
    SshSessions,
    /// Plain websockets.
    Websockets,
    /// Plain TCP.
    TcpConnections,
    /// Of a run file that this version does not know.
    Connections,
}

impl Kind {
    /// Those that have columns of their own.
    pub const ALL: [Self; 5] =
        [Self::WebTerminals, Self::Apps, Self::SshSessions, Self::Websockets, Self::TcpConnections];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebTerminals => "web terminals",
            Self::Apps => "apps",
            Self::SshSessions => "SSH sessions",
            Self::Websockets => "websockets",
            Self::TcpConnections => "TCP connections",
            Self::Connections => "connections",
        }
    }

    /// Of a group.
    fn of(group: Option<&GroupSpec>) -> Self {
        let Some(group) = group else { return Self::Connections };
        match (group.typed.map(|typed| typed.kind), group.target.first().map_or("", String::as_str)) {
            (Some(typed::Kind::Terminal), _) => Self::WebTerminals,
            (Some(typed::Kind::App), _) => Self::Apps,
            (Some(typed::Kind::Ssh), _) => Self::SshSessions,
            (None, target) if target.starts_with("ssh:") => Self::SshSessions,
            (None, target) if target.starts_with("tcp:") => Self::TcpConnections,
            (None, _) => Self::Websockets,
        }
    }
}

/// Connections of a kind, asked for or measured.
#[derive(Debug, Clone, Serialize)]
pub struct Connections {
    pub kind: Kind,
    /// At once.
    pub count: u64,
    /// Payload a second in steady state, each way where it is echoed, of all of them: due, or sent.
    pub bytes_per_second: Option<f64>,
    /// Seconds; of several groups the worst one's, which all of them together do not exceed. Measured alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo_p99: Option<f64>,
    /// What the rate is of: groups that took turns are counted one by one. `None`: it was a mean over different numbers.
    #[serde(skip)]
    sending: Option<u64>,
}

impl Connections {
    fn none(kind: Kind) -> Self {
        Self { kind, count: 0, bytes_per_second: None, echo_p99: None, sending: Some(0) }
    }

    fn add(&mut self, (count, is_even): (u64, bool), rate: Option<f64>, p99: Option<f64>) {
        self.count += count;
        self.sending = self.sending.filter(|_| is_even).map(|sending| sending + count);
        self.bytes_per_second = self.bytes_per_second.into_iter().chain(rate).reduce(|a, b| a + b);
        self.echo_p99 = self.echo_p99.into_iter().chain(p99).reduce(f64::max);
    }

    /// Of one; `None` too where there were more at one time than at another.
    pub fn rate_each(&self) -> Option<f64> {
        let sending = self.sending.filter(|sending| *sending > 0)?;
        self.bytes_per_second.map(|rate| rate / sending as f64)
    }
}

/// A run's connections, asked for and measured, by kind. Those of one kind may have been open at different times: then
/// the sum over groups is more than there were at once, and the whole run's own figure bounds it.
pub fn connections(report: &Report) -> Vec<(Connections, Connections)> {
    let mut kinds = BTreeMap::<Kind, (Connections, Connections)>::new();
    for part in &report.groups {
        let group = report.spec.group.iter().find(|group| group.name == part.name);
        let kind = Kind::of(group);
        let is_even = group.is_none_or(|group| {
            group.stage.iter().all(|stage| stage.conns.is_none_or(|conns| group.conns == Some(conns)))
        });
        let (asked, measured) =
            kinds.entry(kind).or_insert_with(|| (Connections::none(kind), Connections::none(kind)));
        let Part { load, latency, .. } = part;
        asked.add((load.streams_requested, is_even), load.rate_offered, None);
        let open = load.streams_open_max.unwrap_or(load.streams_open_at_end);
        measured.add((open, is_even), load.rate_sent, latency.response.as_ref().map(|response| response.p99));
    }
    if let Some(most) = report.load.streams_open_max {
        kinds.values_mut().for_each(|(_, measured)| measured.count = measured.count.min(most));
    }
    kinds.into_values().collect()
}
