//! `workspace-traffic`: finds the workspaces, and makes a run of them that is like any other: a row a
//! stream, with the path of its terminal or app and the token that opens it, or with the name of its
//! SSH server.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use scale_api::coder::{Backend, SSH_PLACES, Skipped, TrafficBegun, TrafficRequest, WorkspaceTraffic};
use scale_api::http::Problem;
use scale_api::spec::{self, File, GroupSpec, Spec};
use scale_api::typed::{Form, Kind, Profile, Typed};
use scale_coder::client::Client;
use scale_coder::config::Config;
use scale_coder::error::ApiError;
use scale_coder::flows::find::{FoundWorkspace, FoundWorkspaces, Query, find_workspaces};
use scale_coder::secret::Token;
use scale_coder::types::App;
use scale_coder::version::Version;
use scale_proto::coder::{self as proto, RAW_COMMAND, SHELL_COMMAND, TerminalRequest, Uuid};

use super::look::{PACE, many, wire_site};
use super::{in_time, invalid, reach};
use crate::control::caller::Caller;
use crate::control::state::State;
use crate::run::fleet::{Driven, Fleet, Workspace, may_be_labelled};
use crate::run::targets::Action;

/// Tokens minted at once, where each owner needs one.
const MINTS_AT_ONCE: usize = 20;
/// A minted token outlives its run by this.
const TOKEN_MARGIN: Duration = Duration::from_secs(3600);
/// Workspaces that are left out and named one by one.
const SKIPPED_NAMED_MAX: usize = 3;

/// Plans the traffic, and starts it unless that is all that was asked for.
///
/// # Errors
/// Why it cannot be.
pub async fn begin(
    state: &Rc<RefCell<State>>,
    caller: &Caller,
    request: TrafficRequest,
) -> Result<TrafficBegun, Problem> {
    let TrafficRequest { deployment, traffic, mut spec, dry_run } = request;
    spec.name_groups();
    let (here, permit) = state.borrow().prepare(caller, dry_run)?;
    let config = reach::config(&deployment, permit.clone()).await?;
    let looked = async {
        let config = Config { pace: PACE, ..config };
        let planned = length(&spec);
        let (client, mut site) =
            reach::enter(config, &deployment.token, planned, &permit, &[Action::Traffic]).await?;
        let lifetime = length(&spec) + TOKEN_MARGIN;
        let place = Traffic { client: &client, ask: &traffic, url: &deployment.url, lifetime, dry_run };
        let [group] = &mut spec.group[..] else {
            return Err(invalid("workspace traffic is a run of one group"));
        };
        let found = place.find().await?;
        let mut said = place.fill(group, 0, found).await?;
        let version = site.version.map_or_else(|| site.version_text.clone(), |v| v.to_string());
        said.lines[0] += &format!(" on {} ({version})", client.host());
        said.warnings.splice(0..0, std::mem::take(&mut site.warnings));
        said.fleet.site = wire_site(&client, &site);
        Ok::<_, Problem>(said)
    };
    let said = in_time(looked).await?;
    let group = &mut spec.group[0];
    if !group.is_ssh() {
        (group.insecure, group.ca) = (deployment.insecure, deployment.ca);
    }
    let (spec, mut plan) = crate::control::resolve::plan(spec, here, permit).await?;
    plan.stream_by_stream = said.fleet.has_metrics;
    let mut started = state.borrow_mut().start(spec, plan, dry_run)?;
    if let (Some(_), Some(run)) = (&started.id, state.borrow_mut().run()) {
        run.set_fleet(said.fleet);
    }
    started.plan.lines.splice(0..0, said.lines);
    started.plan.warnings.splice(0..0, said.warnings);
    Ok(started)
}

/// From now until the run's last byte, as far as it has an end.
pub fn length(spec: &Spec) -> Duration {
    let of = |group: &GroupSpec| {
        let steady = match group.duration {
            Some(spec::Duration::For(span)) => span,
            Some(spec::Duration::Forever) => return 0,
            None => spec::DEFAULT_DURATION,
        };
        let parts = [group.start, group.ramp, group.warm_up, group.drain].into_iter().flatten();
        parts.map(|span| span.ns()).fold(steady.ns(), u64::saturating_add)
    };
    Duration::from_nanos(spec.group.iter().map(of).max().unwrap_or(0))
}

/// What is to be said of it.
pub struct Said {
    /// What goes where.
    pub lines: Vec<String>,
    /// What does not.
    pub warnings: Vec<String>,
    /// Whose streams they are.
    pub fleet: Fleet,
}

/// Traffic of one group.
pub struct Traffic<'a> {
    /// The owner's client.
    pub client: &'a Client,
    /// What is asked for.
    pub ask: &'a WorkspaceTraffic,
    /// The deployment's.
    pub url: &'a str,
    /// Of tokens that are minted.
    pub lifetime: Duration,
    /// Nothing is to be made on the deployment.
    pub dry_run: bool,
}

impl Traffic<'_> {
    /// Finds the workspaces.
    pub async fn find(&self) -> Result<FoundWorkspaces, Problem> {
        let ask = self.ask;
        let range = ask.range().map_err(|why| invalid(format!("--target-workspaces: {why}")))?;
        let query =
            Query { template: ask.template.clone(), owner: ask.owner.clone(), range, ..Query::default() };
        find_workspaces(self.client, &query).await.map_err(|error| invalid(error.to_string()))
    }

    /// Writes what was found into group number `index` of a run.
    pub async fn fill(
        &self,
        group: &mut GroupSpec,
        index: u8,
        found: FoundWorkspaces,
    ) -> Result<Said, Problem> {
        let ask = self.ask;
        let mut warnings = Vec::new();
        if !found.skipped.is_empty() {
            let named: Vec<String> = found.skipped[..found.skipped.len().min(SKIPPED_NAMED_MAX)]
                .iter()
                .map(|skipped| format!("{}: {}", skipped.name, skipped.why))
                .collect();
            let more = if found.skipped.len() > named.len() { ", …" } else { "" };
            let count = many(found.skipped.len() as u64, "workspace");
            warnings.push(format!("{count} cannot be driven ({}{more})", named.join(", ")));
        }
        if found.workspaces.is_empty() {
            return Err(invalid(format!(
                "none of the workspaces can be driven ({}); wait for their agents, or make others",
                warnings.join("; ")
            )));
        }
        if ask.per_workspace_metrics {
            may_be_labelled(found.workspaces.len()).map_err(invalid)?;
        }
        let all = found.workspaces.len() as u64 * u64::from(ask.streams_per_workspace.max(1));
        let conns = if ask.concurrency == 0 { all } else { all.min(ask.concurrency.into()) };
        if conns < all {
            warnings.push(format!(
                "{} of {} get no traffic: --concurrency {} is how many streams there are at once",
                all - conns,
                many(all, "stream"),
                ask.concurrency
            ));
        }
        let bytes = group.bytes_per_tick.unwrap_or(DEFAULT_BYTES).0;
        group.bytes_per_tick = Some(scale_api::units::Bytes(bytes));
        let ssh_target = ask.ssh().map_err(invalid)?;
        match &ssh_target {
            Some(target) => {
                self.sessions(group, &found.workspaces, conns, target);
                warnings.push(format!(
                    "{target} may be a path past coderd: what is measured need not be coderd (the report's ssh.path is unknown)"
                ));
            }
            None => self.words(group, &found.workspaces, conns, bytes as u32).await?,
        }
        let tick = group.tick_interval.unwrap_or(spec::DEFAULT_TICK);
        let rate = bytes as f64 * 1e9 / tick.ns() as f64;
        let what = match (&ssh_target, &ask.app) {
            (Some(_), _) => "SSH session",
            (None, Some(_)) => "app",
            (None, None) => "web terminal",
        };
        Ok(Said {
            lines: vec![
                format!("{} to {}", many(conns, what), many(found.workspaces.len() as u64, "workspace")),
                format!(
                    "{bytes} B each {tick} are {:.1} KB/s a stream (4,096 B each 100 ms are what the published tables call 40KB/s)",
                    rate / 1000.0
                ),
            ],
            warnings,
            fleet: Fleet { has_metrics: ask.per_workspace_metrics, ..fleet(found, index, conns) },
        })
    }

    /// Target and rows of the group, for SSH. Coder's agent lets everybody in by `none`, and no client of Coder's
    /// looks at its host key.
    fn sessions(&self, group: &mut GroupSpec, workspaces: &[FoundWorkspace], conns: u64, target: &str) {
        let mut rows = SSH_PLACES.join(",") + "\n";
        for FoundWorkspace { owner, name, agent, .. } in workspaces.iter().take(conns as usize) {
            writeln!(rows, "{owner},{name},{}", agent.name).expect("a string takes all");
        }
        group.rows = Some(File::read("workspaces", rows));
        (group.target, group.conns) = (vec![target.to_owned()], Some(conns));
        group.connect_to.clone_from(&self.ask.connect_to);
        group.insecure_host_keys = true;
        group.typed = Some(Typed { kind: Kind::Ssh, profile: self.ask.profile, ..Typed::default() });
    }

    /// Target, rows and token of the group.
    async fn words(
        &self,
        group: &mut GroupSpec,
        workspaces: &[FoundWorkspace],
        conns: u64,
        bytes: u32,
    ) -> Result<(), Problem> {
        let ask = self.ask;
        let base = ask.workspace_proxy_url.as_deref().unwrap_or(self.url).trim().trim_end_matches('/');
        let (scheme, place) = match base.split_once("://") {
            Some(("http", rest)) => ("ws", rest),
            Some(("https", rest)) => ("wss", rest),
            _ => return Err(invalid(format!("`{base}` is no URL of http:// or https://"))),
        };
        let workspaces = &workspaces[..workspaces.len().min(conns as usize)];
        let tokens = self.tokens(workspaces).await?;
        let app_host = self.app_host(workspaces).await?;
        let column = if app_host.is_some() { "host" } else { "path" };
        let mut rows = format!("{column}{}\n", if tokens.is_some() { ",token" } else { "" });
        let streams = workspaces.iter().enumerate().cycle().take(conns as usize);
        for (number, workspace) in streams {
            rows += &match &app_host {
                Some(_) => self.app(workspace)?.subdomain_name.clone(),
                None => self.path(workspace, bytes)?,
            };
            if let Some(tokens) = &tokens {
                write!(rows, ",{}", tokens[number].expose()).expect("a string takes all");
            }
            rows.push('\n');
        }
        let token = if tokens.is_some() { "{token}" } else { self.client.token().expose() };
        group.rows = Some(File::read("workspaces", rows));
        group.header_file = Some(File::read("token", format!("Coder-Session-Token: {token}\n")));
        let target = match &app_host {
            Some(parent) => format!("{scheme}://{{host}}{parent}/"),
            None => format!("{scheme}://{place}/{{path}}"),
        };
        group.connect_to = ask.connect_to.clone();
        if let (Some(parent), None) = (&app_host, &group.connect_to) {
            // A wildcard is one record: all of its names are where the first one is.
            let first = format!("{}{parent}", self.app(&workspaces[0])?.subdomain_name);
            let port = if scheme == "ws" { 80 } else { 443 };
            group.connect_to = Some(if parent.contains(':') { first } else { format!("{first}:{port}") });
        }
        (group.target, group.conns) = (vec![target], Some(conns));
        let kind = if ask.app.is_some() { Kind::App } else { Kind::Terminal };
        let profile =
            if kind == Kind::App && ask.profile == Profile::Raw { Profile::Paced } else { ask.profile };
        group.typed = Some(Typed { kind, profile, form: self.form(), fast_close: ask.fast_close });
        Ok(())
    }

    /// What is typed: as asked for, or as the original does it for a server of this version.
    fn form(&self) -> Form {
        let is_old = self.client.version().is_some_and(Version::types_comments);
        match (&self.ask.app, self.ask.form) {
            (None, Some(form)) => form,
            (None, None) if is_old => Form::Comment,
            // Apps came after the comments.
            _ => Form::Line,
        }
    }

    /// A token of each workspace's owner, where the owner of a site has no way into the workspaces of others: to apps
    /// with a path never, unless the server was told so, to terminals unless it was told not to.
    async fn tokens(&self, workspaces: &[FoundWorkspace]) -> Result<Option<Vec<Token>>, Problem> {
        // A plan is the same with any token.
        if self.dry_run {
            return Ok(None);
        }
        let is_needed = match self.ask.app {
            Some(_) => !self.app(&workspaces[0])?.subdomain,
            None => self.client.owner_exec_is_disabled().await.unwrap_or(false),
        };
        let mine = self.client.me().await.map_err(|error| invalid(error.to_string()))?.id;
        let owners: BTreeSet<&str> = workspaces.iter().map(|one| one.owner_id.as_str()).collect();
        if !is_needed || owners.iter().all(|owner| *owner == mine) {
            return Ok(None);
        }
        let mint = async |owner: &str| (owner.to_owned(), self.client.mint_token(owner, self.lifetime).await);
        let mints = owners.into_iter().map(mint);
        let minted: Vec<_> = futures_util::stream::iter(mints).buffered(MINTS_AT_ONCE).collect().await;
        let tokens = minted.into_iter().map(|(owner, token)| Ok((owner, token?)));
        let tokens: BTreeMap<String, Token> = tokens
            .collect::<Result<_, ApiError>>()
            .map_err(|error| invalid(format!("cannot get tokens of the workspaces' owners: {error}")))?;
        Ok(Some(workspaces.iter().map(|one| tokens[&one.owner_id].clone()).collect()))
    }

    /// The app that was asked for.
    fn app<'w>(&self, workspace: &'w FoundWorkspace) -> Result<&'w App, Problem> {
        let slug = self.ask.app.as_deref().unwrap_or_default();
        let app = workspace.apps.iter().find(|app| app.slug == slug && !app.external);
        app.ok_or_else(|| {
            let known: Vec<_> = workspace.apps.iter().map(|app| format!("`{}`", app.slug)).collect();
            invalid(format!(
                "workspace {} has no app `{slug}`; its template's apps are {}",
                workspace.name,
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            ))
        })
    }

    /// Of an app on host names of its own: what stands behind each workspace's part, `.apps.example.com`.
    async fn app_host(&self, workspaces: &[FoundWorkspace]) -> Result<Option<String>, Problem> {
        if self.ask.app.is_none() || !self.app(&workspaces[0])?.subdomain {
            return Ok(None);
        }
        if self.ask.workspace_proxy_url.is_some() {
            return Err(invalid(
                "through a workspace proxy only apps that have a path can be reached; this one has a host name of its own",
            ));
        }
        let host = self.client.app_host().await.map_err(|error| invalid(error.to_string()))?;
        let parent = host.as_deref().and_then(|host| host.strip_prefix('*'));
        let parent = parent.ok_or_else(|| {
            invalid("the app has a host name of its own, and the deployment has none for it; set CODER_WILDCARD_ACCESS_URL on the server")
        })?;
        if let Some(other) = workspaces.iter().find(|one| self.app(one).is_ok_and(|app| !app.subdomain)) {
            return Err(invalid(format!(
                "the app of {} has a path, and those of others have host names of their own; take workspaces of one template (--template)",
                other.name
            )));
        }
        Ok(Some(parent.to_owned()))
    }

    /// Path and query of one stream, without the first slash.
    fn path(&self, workspace: &FoundWorkspace, bytes: u32) -> Result<String, Problem> {
        let ask = self.ask;
        if let Some(slug) = &ask.app {
            if self.app(workspace)?.subdomain {
                return Err(invalid(format!(
                    "the app `{slug}` of {} has a host name of its own, and those of others have a path; take workspaces of one template (--template)",
                    workspace.name
                )));
            }
            let FoundWorkspace { owner, name, agent, .. } = workspace;
            return Ok(format!("@{owner}/{name}.{}/apps/{slug}/", agent.name));
        }
        let agent = Uuid::parse(&workspace.agent.id)
            .ok_or_else(|| invalid(format!("the agent's id `{}` is no UUID", workspace.agent.id)))?;
        let mut session = [0; 16];
        session[..8].copy_from_slice(&scale_ring::host::random_seed().to_ne_bytes());
        session[8..].copy_from_slice(&scale_ring::host::random_seed().to_ne_bytes());
        let command = match (ask.profile, self.form()) {
            (Profile::Raw, _) => RAW_COMMAND.to_owned(),
            (_, Form::Line) => proto::paced_command(bytes),
            (_, Form::Comment) => SHELL_COMMAND.to_owned(),
        };
        let mut request = TerminalRequest::new(agent, Uuid::from_random(session), &command);
        request.backend = match ask.backend {
            Backend::Auto => proto::Backend::Auto,
            Backend::Buffered => proto::Backend::Buffered,
            Backend::Screen => proto::Backend::Screen,
        };
        Ok(request.path().trim_start_matches('/').to_owned())
    }
}

/// What the run's report says of `found`, which the streams of a group take in turn.
fn fleet(found: FoundWorkspaces, group: u8, conns: u64) -> Fleet {
    let workspaces = found.workspaces.into_iter().take(conns as usize);
    let workspace =
        |found: FoundWorkspace| Workspace { name: found.name, owner: found.owner, agent: found.agent.name };
    let skipped = found.skipped.into_iter();
    Fleet {
        driven: vec![Driven { group, workspaces: workspaces.map(workspace).collect(), streams: conns }],
        skipped: skipped.map(|one| Skipped { name: one.name, owner: one.owner, why: one.why }).collect(),
        ..Fleet::default()
    }
}

/// As the original has it.
const DEFAULT_BYTES: scale_api::units::Bytes = scale_api::units::Bytes(1024);
