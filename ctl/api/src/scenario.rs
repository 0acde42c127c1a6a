//! A scenario: workspaces made, a quiet time measured, groups of traffic, steps, and clean-up, in one run.
//!
//! The file is TOML; what its groups share with a run file has the same words and the same meaning.
//!
//! - [`step`]: what is done to the deployment meanwhile. [`taken`]: how that goes on the wire.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::coder::{self, Backend, CreateWorkspaces, Deployment, Owners, RunCommand, WorkspaceTraffic};
use crate::spec::{self, GroupSpec, Observe, Spec, ThresholdSpec};
use crate::threshold::Preset;
use crate::typed::{self, Form, Profile, Typed};
use crate::units::Span;

pub mod step;
pub mod taken;

/// `POST` [`ScenarioRequest`]: [`crate::coder::Begun`].
pub const CODER_SCENARIO: &str = "/v1/coder/scenario";
/// Made or deleted at once where the file does not say.
pub const DEFAULT_CONCURRENCY: u32 = 10;
/// A quiet time where `[baseline]` does not say how long.
pub const DEFAULT_BASELINE: Span = Span::from_secs(60);

/// Starts a scenario, or only looks at what it would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioRequest {
    /// Where.
    pub deployment: Deployment,
    /// What.
    pub scenario: Scenario,
    /// Look only.
    #[serde(default)]
    pub dry_run: bool,
}

/// A scenario as the user writes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// What the run is called.
    pub name: Option<String>,
    /// Kept in the report.
    pub labels: BTreeMap<String, String>,
    /// Decides payload and random offsets.
    pub seed: Option<u64>,
    /// What is made first; absent: traffic goes to what is there.
    pub create: Option<Create>,
    /// A quiet time in which the API is measured.
    pub baseline: Option<Baseline>,
    /// Traffic.
    pub group: Vec<Group>,
    /// What is done meanwhile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub step: Vec<step::Step>,
    /// After each mark streams are expected to drop for so long, as in a run file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_disruption: Option<Span>,
    /// Thresholds of the traffic by another name.
    pub preset: Vec<Preset>,
    /// What the traffic is judged by.
    pub threshold: Vec<ThresholdSpec>,
    /// Figures of the target's own, while the traffic goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observe: Option<Observe>,
    /// What becomes of what was made.
    pub cleanup: Option<CleanUp>,
    /// What the operator states of the deployment.
    #[serde(deserialize_with = "spec::environment::stated")]
    pub environment: BTreeMap<String, String>,
}

/// What is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Create {
    /// Workspaces.
    pub count: u32,
    /// Their template's name or id.
    pub template: String,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// How many are made at once; 0: all.
    pub concurrency: u32,
    /// Builds after a first one that failed.
    pub retry: u32,
    /// Whose they are.
    pub owners: Owners,
    /// What is run in each then.
    pub run: Option<RunCommand>,
    /// Failures that still pass; with more of them no traffic begins.
    pub max_failures: u64,
    /// For all of it; default [`crate::coder::TIMEOUT`].
    pub timeout: Option<Span>,
    /// For one workspace; default [`crate::coder::JOB_TIMEOUT`].
    pub job_timeout: Option<Span>,
}

impl Default for Create {
    fn default() -> Self {
        Self {
            count: 0,
            template: String::new(),
            parameters: BTreeMap::new(),
            concurrency: DEFAULT_CONCURRENCY,
            retry: 0,
            owners: Owners::New,
            run: None,
            max_failures: 0,
            timeout: None,
            job_timeout: None,
        }
    }
}

impl Create {
    /// The flow that makes them. They stay until the scenario's own clean-up.
    pub fn flow(&self) -> CreateWorkspaces {
        CreateWorkspaces {
            count: self.count,
            template: self.template.clone(),
            parameters: self.parameters.clone(),
            concurrency: self.concurrency,
            retry: self.retry,
            owners: self.owners,
            run: self.run.clone(),
            ..CreateWorkspaces::default()
        }
    }
}

/// A quiet time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Baseline {
    /// How long.
    pub duration: Span,
}

impl Default for Baseline {
    fn default() -> Self {
        Self { duration: DEFAULT_BASELINE }
    }
}

/// What becomes of what was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CleanUp {
    /// When it goes.
    pub when: When,
    /// How many are deleted at once; 0: all.
    pub concurrency: u32,
    /// For all of it; default [`crate::coder::TIMEOUT`].
    pub timeout: Option<Span>,
}

impl Default for CleanUp {
    fn default() -> Self {
        Self { when: When::Always, concurrency: DEFAULT_CONCURRENCY, timeout: None }
    }
}

/// When what was made goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// At the end, whatever came; after a restart of the daemon, too.
    #[default]
    Always,
    /// Where everything passed.
    Success,
    /// It is left to `scalectl cleanup`.
    Never,
}

/// What a group's streams are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Web terminals of workspaces.
    #[default]
    Terminal,
    /// An app of workspaces.
    App,
    /// SSH sessions of workspaces.
    Ssh,
    /// Plain streams, with `target` and `conns` as in a run file.
    Ws,
}

/// A group of traffic: its own words, and those of a run file's group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Group {
    /// Terminals, apps, SSH sessions or plain streams.
    pub kind: Kind,
    /// `a:b`, from 0, without `b`: by number of what `[create]` makes, else by the server's order. Absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspaces: Option<String>,
    /// Only of this template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Only of this user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Streams to each; 0 is 1.
    pub streams_per_workspace: u32,
    /// The app's slug, of `kind = "app"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Where the workspaces' SSH servers are, of `kind = "ssh"`: `ssh://{workspace}.coder` or the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_target: Option<String>,
    /// A workspace proxy's URL, instead of the deployment's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_proxy_url: Option<String>,
    /// How terminals are driven.
    pub profile: Profile,
    /// What is typed; absent: as the original does it for the server's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
    /// What keeps terminals on the agent.
    pub backend: Backend,
    /// Terminals are left without Ctrl-C.
    pub fast_close: bool,
    /// The load.
    #[serde(flatten)]
    pub load: GroupSpec,
}

impl Group {
    /// Which workspaces get traffic, and of which kind; `None` for plain streams.
    pub fn traffic(&self) -> Option<WorkspaceTraffic> {
        if self.kind == Kind::Ws {
            return None;
        }
        Some(WorkspaceTraffic {
            template: self.template.clone(),
            owner: self.owner.clone(),
            target_workspaces: self.workspaces.clone(),
            streams_per_workspace: self.streams_per_workspace,
            concurrency: 0,
            app: self.app.clone(),
            ssh_target: self.ssh_target.clone(),
            workspace_proxy_url: self.workspace_proxy_url.clone(),
            connect_to: self.load.connect_to.clone(),
            profile: self.profile,
            form: self.form,
            backend: self.backend,
            fast_close: self.fast_close,
            per_workspace_metrics: false,
        })
    }

    /// The range of `workspaces`; all where none is given.
    ///
    /// # Errors
    /// It is none.
    pub fn range(&self) -> Result<Option<Range<u32>>, String> {
        let range = self.workspaces.as_deref().map(coder::parse_range).transpose();
        range.map_err(|why| format!("workspaces: {why}"))
    }

    fn check(&self, made: Option<u32>, error: &mut dyn FnMut(String)) {
        let name = &self.load.name;
        let mut wrong = |why: String| error(format!("group `{name}`: {why}"));
        if self.kind == Kind::Ws {
            let own = [
                (self.workspaces.is_some(), "workspaces"),
                (self.app.is_some(), "app"),
                (self.ssh_target.is_some(), "ssh_target"),
                (self.template.is_some(), "template"),
                (self.owner.is_some(), "owner"),
                (self.workspace_proxy_url.is_some(), "workspace_proxy_url"),
                (self.streams_per_workspace > 0, "streams_per_workspace"),
            ];
            for (_, word) in own.iter().filter(|(given, _)| *given) {
                wrong(format!("{word} is about workspaces, and kind is \"ws\"; leave it out"));
            }
            return;
        }
        let theirs = [
            (!self.load.target.is_empty(), "target"),
            (self.load.conns.is_some(), "conns"),
            (self.load.rows.is_some(), "rows"),
            (self.load.user_column.is_some(), "user_column"),
            (self.load.header_file.is_some(), "header_file"),
            (self.load.typed.is_some(), "typed"),
            (!self.load.stage.is_empty(), "stage"),
        ];
        for (_, word) in theirs.iter().filter(|(given, _)| *given) {
            wrong(format!("{word} comes from the workspaces; leave it out, or write kind = \"ws\""));
        }
        match (self.kind, &self.app) {
            (Kind::App, None) => wrong("kind = \"app\" needs the app's slug: app = \"wsec\"".into()),
            (Kind::Terminal, Some(_)) => wrong("app is there, and kind is \"terminal\"".into()),
            _ => {}
        }
        match (self.kind, &self.ssh_target) {
            (Kind::Ssh, None) => {
                wrong("kind = \"ssh\" needs ssh_target = \"ssh://{workspace}.coder\" or the like".into());
            }
            (Kind::Terminal | Kind::App, Some(_)) => {
                wrong("ssh_target is there, and kind is not \"ssh\"".into());
            }
            _ => {}
        }
        if let Some(Err(why)) = self.traffic().map(|traffic| traffic.ssh()) {
            wrong(why);
        }
        match (self.range(), made) {
            (Err(why), _) => wrong(why),
            (Ok(Some(range)), Some(made)) if range.end > made => wrong(format!(
                "workspaces = \"{}:{}\" reaches beyond the {made} that [create] makes",
                range.start, range.end
            )),
            _ => {}
        }
    }
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// File, line, column and what is wrong there.
    pub fn from_toml(text: &str, file: &str) -> Result<Self, String> {
        let mut scenario: Self = toml::from_str(text)
            .map_err(|error| spec::placed(text, file, place(text, &error), error.message()))?;
        let only = scenario.group.len() == 1;
        for (number, group) in scenario.group.iter_mut().enumerate() {
            if group.load.name.is_empty() {
                group.load.name =
                    if only { spec::MAIN_GROUP.to_owned() } else { format!("group{}", number + 1) };
            }
        }
        Ok(scenario)
    }

    /// When what was made goes, and how.
    pub fn cleanup(&self) -> CleanUp {
        self.cleanup.unwrap_or_default()
    }

    /// Checks all that needs no deployment.
    ///
    /// # Errors
    /// Every mistake, each with what to do.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut errors = Vec::new();
        let mut wrong = |message: String| errors.push(message);
        let made = self.create.as_ref().map(|create| create.count);
        if let Some(create) = &self.create {
            if create.count == 0 {
                wrong("[create] makes nothing; give count = N".into());
            }
            if create.template.is_empty() {
                wrong("[create] needs the template's name: template = \"kubernetes\"".into());
            }
        } else if self.cleanup.is_some() {
            wrong("[cleanup] deletes what [create] makes, and there is none; leave it out, or use `scalectl cleanup`".into());
        }
        if self.baseline.is_some_and(|baseline| baseline.duration.ns() == 0) {
            wrong("[baseline] measures nothing in 0s; give duration = \"1m\", or leave it out".into());
        }
        if self.group.is_empty() && self.create.is_none() && self.baseline.is_none() {
            wrong("the scenario does nothing; give [create], [baseline] or [[group]]".into());
        }
        for group in &self.group {
            group.check(made, &mut wrong);
            if group.load.duration == Some(spec::Duration::Forever) {
                wrong(format!(
                    "group `{}`: a scenario has an end; give a duration instead of \"forever\"",
                    group.load.name
                ));
            }
        }
        if self.group.is_empty() && !(self.threshold.is_empty() && self.preset.is_empty()) {
            wrong("thresholds and presets judge traffic, and there is no [[group]]".into());
        }
        if self.group.is_empty() && self.observe.is_some() {
            wrong("[observe] goes with traffic, and there is no [[group]]".into());
        }
        if self.group.is_empty() {
            spec::environment::check(&self.environment, &mut wrong);
        }
        if errors.is_empty() && !self.group.is_empty() {
            errors.extend(self.planned(made).check().err().into_iter().flatten());
        }
        if errors.is_empty() {
            self.check_steps(&self.planned(made), &mut |why| errors.push(why));
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The traffic, as it is planned before its workspaces are known: as many of them as ranges say, of `there`.
    pub fn planned(&self, there: Option<u32>) -> Spec {
        let group = |group: &Group| {
            let mut load = group.load.clone();
            if group.kind != Kind::Ws {
                let range = group.range().ok().flatten();
                let all = range.map_or(there.unwrap_or(1), |range| range.end - range.start);
                load.conns = Some(u64::from(all) * u64::from(group.streams_per_workspace.max(1)));
                load.target = vec!["ws://deployment/".into()];
                if group.kind == Kind::Ssh {
                    load.target = vec!["ssh://coder@workspace/".into()];
                    load.insecure_host_keys = true;
                    load.typed =
                        Some(Typed { kind: typed::Kind::Ssh, profile: group.profile, ..Typed::default() });
                }
            }
            load
        };
        Spec { group: self.group.iter().map(group).collect(), ..self.spec() }
    }

    /// The traffic's run, without its groups.
    pub fn spec(&self) -> Spec {
        Spec {
            name: self.name.clone(),
            labels: self.labels.clone(),
            seed: self.seed,
            preset: self.preset.clone(),
            threshold: self.threshold.clone(),
            observe: self.observe.clone(),
            expect_disruption: self.expect_disruption,
            environment: self.environment.clone(),
            ..Spec::default()
        }
    }
}

/// Where an error is. Of a group serde knows no more than where it begins: the line that is wrong by itself in the
/// same way is looked for from there.
fn place(text: &str, error: &toml::de::Error) -> usize {
    let start = error.span().map_or(0, |span| span.start);
    let mut at = start;
    for line in text[start..].split_inclusive('\n') {
        let is_it = |one: toml::de::Error| one.message() == error.message();
        if line.contains('=') && toml::from_str::<Group>(line).err().is_some_and(is_it) {
            return at + line.len() - line.trim_start().len();
        }
        at += line.len();
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHT: &str = include_str!("../../../docs/examples/scenario-night.toml");

    #[test]
    fn the_example_is_read_whole() {
        let scenario = Scenario::from_toml(NIGHT, "night.toml").unwrap();
        assert_eq!(scenario.check(), Ok(()));
        let create = scenario.create.as_ref().unwrap();
        assert_eq!((create.count, create.parameters["home_disk_size"].as_str()), (1000, "10"));
        let planned = scenario.planned(Some(create.count));
        assert_eq!(planned.group[0].conns, Some(800));
        assert_eq!((planned.group[1].conns, scenario.group[1].kind), (Some(200), Kind::App));
        assert_eq!(scenario.cleanup().when, When::Always);
        let travelled = serde_json::to_string(&scenario).unwrap();
        assert_eq!(serde_json::from_str::<Scenario>(&travelled).unwrap(), scenario);
    }

    #[test]
    fn an_unknown_key_is_said_with_its_place() {
        let text = "[[group]]\nkind = \"terminal\"\nworkspacs = \"0:8\"\n";
        let error = Scenario::from_toml(text, "s.toml").unwrap_err();
        assert!(error.starts_with("s.toml:3:1:") && error.contains("workspacs"), "{error}");
        let error = Scenario::from_toml("[create]\ncont = 5\n", "s.toml").unwrap_err();
        assert!(error.starts_with("s.toml:2:1:") && error.contains("cont"), "{error}");
        let error = Scenario::from_toml("[[group]]\ntick_interval = 5\n", "s.toml").unwrap_err();
        assert!(error.starts_with("s.toml:2:") && error.contains("unit"), "{error}");
    }

    #[test]
    fn each_mistake_says_what_to_do() {
        let errors = |text: &str| Scenario::from_toml(text, "s").unwrap().check().unwrap_err().join("\n");
        let made = "[create]\ncount = 5\ntemplate = \"t\"\n";
        assert!(errors("").contains("does nothing"));
        assert!(errors("[create]\n").contains("count = N"));
        assert!(errors("[baseline]\nduration = \"0s\"\n").contains("1m"));
        assert!(errors("[cleanup]\nwhen = \"always\"\n[[group]]\n").contains("[create]"));
        assert!(errors(&format!("{made}[[group]]\nworkspaces = \"0:6\"\n")).contains("the 5 that"));
        assert!(errors(&format!("{made}[[group]]\nworkspaces = \"6\"\n")).contains("0:100"));
        assert!(errors("[[group]]\nkind = \"app\"\n").contains("slug"));
        assert!(errors("[[group]]\napp = \"x\"\n").contains("terminal"));
        let ssh = "[[group]]\nkind = \"ssh\"\n";
        assert!(errors(ssh).contains("ssh_target = "));
        assert!(errors("[[group]]\nssh_target = \"ssh://{workspace}.coder\"\n").contains("kind is not"));
        assert!(errors(&format!("{ssh}ssh_target = \"ssh://gw\"\n")).contains("one place"));
        let good = format!("{ssh}ssh_target = \"ssh://{{workspace}}.coder\"\n");
        assert_eq!(Scenario::from_toml(&good, "s").unwrap().check(), Ok(()));
        assert!(errors("[[group]]\nconns = 5\n").contains("kind = \"ws\""));
        assert!(errors("[[group]]\nkind = \"ws\"\nworkspaces = \"0:5\"\n").contains("leave it out"));
        assert!(errors("[[group]]\nkind = \"ws\"\n").contains("--target"));
        assert!(errors("[[group]]\nduration = \"forever\"\n").contains("an end"));
        assert!(errors(&format!("{made}[[threshold]]\nexpression = \"x\"\n")).contains("no [[group]]"));
        assert!(errors(&format!("{made}[observe]\n")).contains("no [[group]]"));
        assert!(errors("[[group]]\n[observe]\nprometheus = \"a\"\n").contains("write http://"));
        assert!(errors(&format!("preset = [\"coder-gates\"]\n{made}")).contains("no [[group]]"));
        assert!(
            errors("[[group]]\n[[threshold]]\nexpression = \"other.response.p99 < 1s\"\n").contains("other")
        );
    }
}
