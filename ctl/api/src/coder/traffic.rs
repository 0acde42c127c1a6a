//! Traffic to workspaces on the wire: which of them, and what flows.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Deployment;
use crate::spec::{Spec, places};
use crate::target::{Scheme, Target};
use crate::typed::{Form, Profile};

/// Starts traffic to workspaces, or only plans it; answered by [`TrafficBegun`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficRequest {
    /// Where.
    pub deployment: Deployment,
    /// To which workspaces, and how.
    pub traffic: WorkspaceTraffic,
    /// The load, in one group without targets.
    pub spec: Spec,
    /// Plan only.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a start answers.
pub type TrafficBegun = crate::http::Started;

/// Which workspaces get traffic, and of which kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkspaceTraffic {
    /// Only of this template.
    pub template: Option<String>,
    /// Only of this user.
    pub owner: Option<String>,
    /// Only those at `a:b` of the server's order, from 0, without `b`.
    pub target_workspaces: Option<String>,
    /// Streams to each; 0 is 1.
    pub streams_per_workspace: u32,
    /// Streams at once; 0: all.
    pub concurrency: u32,
    /// An app instead of the web terminal.
    pub app: Option<String>,
    /// SSH instead of the web terminal, to `ssh://{workspace}.coder` or the like: see [`SSH_PLACES`].
    pub ssh_target: Option<String>,
    /// A workspace proxy's URL, instead of the deployment's.
    pub workspace_proxy_url: Option<String>,
    /// Where streams connect to, `host:port`, instead of what their URL's host resolves to.
    pub connect_to: Option<String>,
    /// How terminals are driven.
    pub profile: Profile,
    /// What is typed; absent: what the original types to a server of that version.
    pub form: Option<Form>,
    /// What keeps terminals on the agent.
    pub backend: Backend,
    /// Terminals are left without Ctrl-C.
    pub fast_close: bool,
    /// The `coderd_scaletest_*` counters are by workspace.
    pub per_workspace_metrics: bool,
}

/// What a workspace puts into [`WorkspaceTraffic::ssh_target`].
pub const SSH_PLACES: [&str; 3] = ["owner", "workspace", "agent"];
/// Who logs in where the target does not say: Coder's agent takes any name.
const SSH_USER: &str = "coder";

impl WorkspaceTraffic {
    /// The target of SSH sessions, with a user in it; `None`: there are none.
    ///
    /// # Errors
    /// It is none of ssh://, or names no workspace.
    pub fn ssh(&self) -> Result<Option<String>, String> {
        let Some(text) = &self.ssh_target else { return Ok(None) };
        let wrong =
            |why: String| Err(format!("--ssh-target {text}: {why}, such as ssh://{{workspace}}.coder"));
        let target = match Target::parse(text) {
            Ok(target) if target.scheme == Scheme::Ssh => target,
            Ok(_) => return wrong("write a target of ssh://".into()),
            Err(why) => return Err(format!("--ssh-target: {why}")),
        };
        if target.command().is_some() || target.weight > 1 {
            return wrong("it has neither a command nor a weight".into());
        }
        let places = [target.user.as_deref().unwrap_or_default(), &target.host].map(places);
        let mut places = places.into_iter().flatten();
        if let Some(other) = places.find(|place| !SSH_PLACES.contains(place)) {
            return wrong(format!("{{{other}}} is none of {{owner}}, {{workspace}} and {{agent}}"));
        }
        if !target.host.contains("{workspace}") {
            return wrong("without {workspace} in its host all streams go to one place".into());
        }
        let clashes = [
            (self.app.is_some(), "--app"),
            (self.workspace_proxy_url.is_some(), "--workspace-proxy-url"),
            (self.profile == Profile::Raw, "--profile raw"),
            (self.form.is_some(), "--form"),
            (self.backend != Backend::Auto, "--backend"),
            (self.fast_close, "--fast-close"),
        ];
        if let Some((_, word)) = clashes.iter().find(|(given, _)| *given) {
            return Err(format!("{word} is not about SSH; leave it or --ssh out"));
        }
        Ok(Some(Target::with_user(text, SSH_USER).unwrap_or_else(|| text.clone())))
    }

    /// The range of `target_workspaces`; `None`: all.
    ///
    /// # Errors
    /// It is none.
    pub fn range(&self) -> Result<Option<Range<u32>>, String> {
        self.target_workspaces.as_deref().map(parse_range).transpose()
    }
}

/// Parses `a:b`, where `b` is not included.
///
/// # Errors
/// Anything else, or a range of nothing.
pub fn parse_range(text: &str) -> Result<Range<u32>, String> {
    let range = text.split_once(':').and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range
        .filter(|range: &Range<u32>| !range.is_empty())
        .ok_or_else(|| format!("`{text}` is no range; write 0:100 for the first hundred"))
}

/// What keeps a terminal on the agent while nobody is attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The agent's choice: `screen` where it is installed.
    #[default]
    Auto,
    /// A ring buffer; since v2.21.
    Buffered,
    /// GNU screen: its echo cannot be followed.
    Screen,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_half_open_and_never_empty() {
        assert_eq!(parse_range("0:800"), Ok(0..800));
        for text in ["", "5", "5:5", "9:3", "a:b", "-1:4", "1:2:3"] {
            assert!(parse_range(text).unwrap_err().contains("0:100"), "{text}");
        }
    }

    #[test]
    fn an_ssh_target_names_the_workspace_and_nothing_that_is_not_there() {
        let ssh = |target: &str| {
            WorkspaceTraffic { ssh_target: Some(target.into()), ..WorkspaceTraffic::default() }.ssh()
        };
        assert_eq!(WorkspaceTraffic::default().ssh(), Ok(None));
        assert_eq!(ssh("ssh://{workspace}.coder"), Ok(Some("ssh://coder@{workspace}.coder".into())));
        let whole = "ssh://{owner}@{agent}.{workspace}.{owner}.coder:2222";
        assert_eq!(ssh(whole), Ok(Some(whole.into())));
        for (target, word) in [
            ("ws://{workspace}.coder", "of ssh://"),
            ("{workspace}.coder", "no URL"),
            ("ssh://gw.example.com", "one place"),
            ("ssh://{workspace}.{user}.coder", "{user} is none of"),
            ("ssh://{workspace}.coder/cat", "neither a command"),
            ("ssh://{workspace}.coder,2", "nor a weight"),
        ] {
            let why = ssh(target).unwrap_err();
            assert!(why.contains(word) && why.contains("--ssh-target"), "{target}: {why}");
        }
        let target = || Some("ssh://{workspace}.coder".to_owned());
        let app =
            WorkspaceTraffic { ssh_target: target(), app: Some("x".into()), ..WorkspaceTraffic::default() };
        assert!(app.ssh().unwrap_err().contains("--app is not about SSH"));
        let raw =
            WorkspaceTraffic { ssh_target: target(), profile: Profile::Raw, ..WorkspaceTraffic::default() };
        assert!(raw.ssh().unwrap_err().contains("--profile raw"));
    }
}
