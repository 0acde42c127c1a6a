//! `workspace-traffic`: which workspaces, which load; then it is a run like any other.

use std::ops::ControlFlow;

use clap::Args;
use clap::builder::FalseyValueParser;
use scale_api::coder::{Backend, CODER_TRAFFIC, TrafficBegun, TrafficRequest, WorkspaceTraffic};
use scale_api::spec::{self, GroupSpec, Spec, ThresholdSpec};
use scale_api::threshold::Preset;
use scale_api::typed::{Form, Profile};
use scale_api::units::{Bytes, PerSecond, Span};

use super::flags::{Handling, Place};
use crate::client::{Client, Failure};
use crate::commands::{Cli, OffsetWord, labels};

/// Drives the web terminals, an app, or SSH of the workspaces whose names begin with `scaletest-`.
#[derive(Debug, Args)]
pub struct WorkspaceTrafficFlags {
    #[command(flatten)]
    pub place: Place,
    /// Only workspaces of this template.
    #[arg(short, long, env = "CODER_SCALETEST_TEMPLATE", value_name = "NAME")]
    pub template: Option<String>,
    /// Only workspaces of this user.
    #[arg(long, value_name = "NAME")]
    pub owner: Option<String>,
    /// Only those at a:b of the server's order, counted from 0, without b.
    #[arg(long, value_name = "A:B")]
    pub target_workspaces: Option<String>,
    /// Streams to each workspace.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub streams_per_workspace: u32,
    /// Streams at once; 0: all. (`coder` has 1 by default, and drives workspaces one after the other.)
    #[arg(long, env = "CODER_SCALETEST_CONCURRENCY", value_name = "N", default_value_t = 0)]
    pub concurrency: u32,
    /// An app by its slug, instead of the web terminal.
    #[arg(long, value_name = "SLUG")]
    pub app: Option<String>,
    /// SSH instead of the web terminal; it needs --ssh-target.
    #[arg(long)]
    pub ssh: bool,
    /// Where the workspaces' SSH servers are, such as 'ssh://{workspace}.coder'; also {owner}, {agent}.
    #[arg(long, value_name = "TEMPLATE", requires = "ssh")]
    pub ssh_target: Option<String>,
    /// A workspace proxy's URL, instead of the deployment's.
    #[arg(long, value_name = "URL")]
    pub workspace_proxy_url: Option<String>,
    /// Connect streams here; host name and TLS name stay the URL's.
    #[arg(long, value_name = "HOST:PORT")]
    pub connect_to: Option<String>,
    /// paced: the original's bytes, on time; exact: late ticks as the original has them; raw: an exact echo.
    #[arg(long, value_name = "WORD", default_value = "paced")]
    pub profile: ProfileWord,
    /// What is typed: line, to dd; comment, to a shell (default: as the original does for the server's version).
    #[arg(long, value_name = "WORD")]
    pub form: Option<FormWord>,
    /// What keeps a terminal on its agent; screen's echo cannot be followed, buffered is there since v2.21.
    #[arg(long, value_name = "WORD", default_value = "auto")]
    pub backend: BackendWord,
    /// Leave terminals without Ctrl-C; their commands stay on the agents for a while.
    #[arg(long)]
    pub fast_close: bool,
    /// Counters `coderd_scaletest_*` by user, workspace and agent, as the original has them.
    #[arg(long, env = "CODER_SCALETEST_PER_WORKSPACE_METRICS", value_parser = FalseyValueParser::new())]
    pub per_workspace_metrics: bool,
    /// Payload a tick and stream.
    #[arg(
        long,
        alias = "byes-per-tick",
        env = "CODER_SCALETEST_WORKSPACE_TRAFFIC_BYTES_PER_TICK",
        value_parser = Bytes::parse_bare,
        default_value = "1024"
    )]
    pub bytes_per_tick: Bytes,
    /// Time between two messages of a stream.
    #[arg(long, env = "CODER_SCALETEST_WORKSPACE_TRAFFIC_TICK_INTERVAL", default_value = "100ms")]
    pub tick_interval: Span,
    /// How streams share a tick (default spread).
    #[arg(long)]
    pub tick_offset: Option<OffsetWord>,
    /// Time over which the streams are opened.
    #[arg(long)]
    pub ramp: Option<Span>,
    /// Streams opened a second, in all (default 1000/s a worker).
    #[arg(long)]
    pub connect_rate: Option<PerSecond>,
    /// Time after the ramp that does not count (default 5s).
    #[arg(long)]
    pub warm_up: Option<Span>,
    /// Steady state (default 1m), or `forever`.
    #[arg(long)]
    pub duration: Option<spec::Duration>,
    /// The original's word for --duration, which wins.
    #[arg(long, env = "CODER_SCALETEST_TIMEOUT", value_name = "D")]
    pub timeout: Option<Span>,
    /// As --timeout; of both the shorter holds, as in the original.
    #[arg(long, env = "CODER_SCALETEST_JOB_TIMEOUT", value_name = "D")]
    pub job_timeout: Option<Span>,
    /// Nothing is asked here; taken, as the other flows take it.
    #[arg(short, long)]
    pub yes: bool,
    /// Longest wait for answers after the end (default 10s).
    #[arg(long)]
    pub drain: Option<Span>,
    /// From the first packet until a terminal has said something (default 10s).
    #[arg(long)]
    pub connect_timeout: Option<Span>,
    /// After a loss: never (default), backoff, client, or client: and web-terminal, ssh, autossh, vscode, jetbrains.
    #[arg(long, value_name = "WORD")]
    pub reconnect: Option<spec::Reconnect>,
    /// Streams replaced a second, in all.
    #[arg(long)]
    pub churn: Option<PerSecond>,
    /// Decides payload and random offsets.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Compare every echoed byte.
    #[arg(long)]
    pub verify: bool,
    /// Source addresses of this host, or ranges.
    #[arg(long, value_name = "ADDR|CIDR")]
    pub source: Vec<String>,
    /// Interfaces that connections are spread over.
    #[arg(long, value_name = "NAME[,NAME]", value_delimiter = ',')]
    pub interface: Vec<String>,
    /// Header of the upgrade's answer that names the server's replica.
    #[arg(long, value_name = "HEADER")]
    pub replica_header: Option<String>,
    /// For so long after each mark streams are expected to drop: what is due then is judged by itself.
    #[arg(long, value_name = "TIME")]
    pub expect_disruption: Option<Span>,
    /// What the run is judged by, such as 'response.p99 < 250ms'.
    #[arg(long, value_name = "EXPR")]
    pub threshold: Vec<String>,
    /// Thresholds by one name: coder-gates, coder-table.
    #[arg(long, value_name = "NAME")]
    pub preset: Vec<Preset>,
    /// What the run is called.
    #[arg(long)]
    pub name: Option<String>,
    /// Kept in the report, k=v.
    #[arg(long, value_name = "K=V")]
    pub label: Vec<String>,
    #[command(flatten)]
    pub handling: Handling,
}

/// [`Profile`] on the command line.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum ProfileWord {
    /// See [`Profile::Paced`].
    Paced,
    /// See [`Profile::Exact`].
    Exact,
    /// See [`Profile::Raw`].
    Raw,
}

/// [`Form`] on the command line.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum FormWord {
    /// See [`Form::Line`].
    Line,
    /// See [`Form::Comment`].
    Comment,
}

/// [`Backend`] on the command line.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum BackendWord {
    /// See [`Backend::Auto`].
    Auto,
    /// See [`Backend::Buffered`].
    Buffered,
    /// See [`Backend::Screen`].
    Screen,
}

impl WorkspaceTrafficFlags {
    fn duration(&self) -> Option<spec::Duration> {
        let shorter = [self.timeout, self.job_timeout].into_iter().flatten().min();
        self.duration.or(shorter.map(spec::Duration::For))
    }

    fn group(&self) -> GroupSpec {
        GroupSpec {
            name: "workspaces".into(),
            bytes_per_tick: Some(self.bytes_per_tick),
            tick_interval: Some(self.tick_interval),
            tick_offset: self.tick_offset.map(Into::into).unwrap_or_default(),
            ramp: self.ramp,
            connect_rate: self.connect_rate,
            warm_up: self.warm_up,
            duration: self.duration(),
            drain: self.drain,
            connect_timeout: self.connect_timeout,
            reconnect: self.reconnect.unwrap_or_default(),
            churn: self.churn,
            verify: self.verify,
            replica_header: self.replica_header.clone(),
            source: self.source.clone(),
            interface: self.interface.clone(),
            ..GroupSpec::default()
        }
    }

    fn request(&self) -> Result<TrafficRequest, Failure> {
        if self.ssh && self.ssh_target.is_none() {
            return Err(Failure::usage(
                "--ssh by itself goes through Coder's own network (tailnet), which is not built yet; give --ssh-target 'ssh://{workspace}.coder', or where else this host reaches workspaces by SSH",
            ));
        }
        let threshold = |expression: &String| ThresholdSpec { expression: expression.clone() };
        let traffic = WorkspaceTraffic {
            template: self.template.clone(),
            owner: self.owner.clone(),
            target_workspaces: self.target_workspaces.clone(),
            streams_per_workspace: self.streams_per_workspace,
            concurrency: self.concurrency,
            app: self.app.clone(),
            ssh_target: self.ssh_target.clone(),
            workspace_proxy_url: self.workspace_proxy_url.clone(),
            connect_to: self.connect_to.clone(),
            profile: match self.profile {
                ProfileWord::Paced => Profile::Paced,
                ProfileWord::Exact => Profile::Exact,
                ProfileWord::Raw => Profile::Raw,
            },
            form: self.form.map(|form| match form {
                FormWord::Line => Form::Line,
                FormWord::Comment => Form::Comment,
            }),
            backend: match self.backend {
                BackendWord::Auto => Backend::Auto,
                BackendWord::Buffered => Backend::Buffered,
                BackendWord::Screen => Backend::Screen,
            },
            fast_close: self.fast_close,
            per_workspace_metrics: self.per_workspace_metrics,
        };
        traffic.ssh().map_err(Failure::usage)?;
        Ok(TrafficRequest {
            deployment: self.place.deployment(None)?,
            traffic,
            spec: Spec {
                name: self.name.clone(),
                seed: self.seed,
                labels: labels(&self.label)?,
                preset: self.preset.clone(),
                threshold: self.threshold.iter().map(threshold).collect(),
                expect_disruption: self.expect_disruption,
                group: vec![self.group()],
                ..Spec::default()
            },
            dry_run: self.handling.dry_run,
        })
    }
}

/// `workspace-traffic`.
///
/// # Errors
/// Why it cannot be.
pub fn workspace_traffic(cli: &Cli, client: &Client, flags: &WorkspaceTrafficFlags) -> Result<u8, Failure> {
    if std::env::args().any(|word| word.starts_with("--byes-per-tick")) {
        eprintln!("scalectl: --byes-per-tick is taken for --bytes-per-tick");
    }
    let exports = &flags.handling.exports;
    exports.ending(exports.check(!flags.handling.detach).and_then(|()| drive(cli, client, flags)))
}

fn drive(cli: &Cli, client: &Client, flags: &WorkspaceTrafficFlags) -> Result<u8, Failure> {
    let begun: TrafficBegun =
        client.send_within("POST", CODER_TRAFFIC, &flags.request()?, super::look_time_max())?;
    let is_quiet = super::is_json_on_stdout(&flags.handling.output);
    match crate::announce(cli, &begun, flags.handling.dry_run, flags.handling.detach, is_quiet) {
        ControlFlow::Break(code) => Ok(code),
        ControlFlow::Continue(id) => {
            let report = crate::follow::to_report(cli, client, id, is_quiet && !cli.json)?;
            let code = flags.handling.exports.report(&report);
            super::write_outputs(cli, &flags.handling.output, &report)?;
            Ok(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::commands::Command;

    #[test]
    fn bare_ssh_says_what_is_missing_and_a_target_what_is_wrong_with_it() {
        let why = |flags: &[&str]| {
            let words = [&["scalectl", "workspace-traffic"], flags].concat();
            let Command::WorkspaceTraffic(flags) = Cli::parse_from(words).command else { panic!("it is") };
            let failure = flags.request().expect_err("a mistake");
            (failure.exit as u8, failure.message)
        };
        let (exit, bare) = why(&["--ssh"]);
        assert!(exit == 2 && bare.contains("not built yet") && bare.contains("--ssh-target"), "{bare}");
        let (exit, place) = why(&["--ssh", "--ssh-target", "ssh://gw.example.com"]);
        assert!(exit == 2 && place.contains("one place"), "{place}");
        let (_, app) = why(&["--ssh", "--ssh-target", "ssh://{workspace}.coder", "--app", "wsec"]);
        assert!(app.contains("--app is not about SSH"), "{app}");
        let alone = ["scalectl", "workspace-traffic", "--ssh-target", "ssh://{workspace}.coder"];
        assert!(Cli::try_parse_from(alone).is_err());
    }

    #[test]
    fn the_originals_timeouts_are_a_duration_and_ours_wins() {
        let duration = |flags: &[&str]| {
            let words = [&["scalectl", "workspace-traffic"], flags].concat();
            let Command::WorkspaceTraffic(flags) = Cli::parse_from(words).command else { panic!("it is") };
            flags.group().duration.map(|duration| match duration {
                spec::Duration::For(span) => span.ns() / 1_000_000_000,
                spec::Duration::Forever => u64::MAX,
            })
        };
        assert_eq!(duration(&[]), None);
        assert_eq!(duration(&["--timeout", "30m"]), Some(1800));
        assert_eq!(duration(&["--timeout", "30m", "--job-timeout", "5m"]), Some(300));
        assert_eq!(duration(&["--job-timeout", "5m", "--duration", "10m", "--yes"]), Some(600));
    }
}
