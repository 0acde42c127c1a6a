//! Workspaces for traffic: searched, read whole, each with the agent that its traffic goes to.

use std::ops::Range;

use serde::Serialize;

use super::create::AgentRef;
use crate::calls::search;
use crate::client::Client;
use crate::error::ApiError;
use crate::names::{PREFIX, bears_prefix};
use crate::types::App;

/// Which ones.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only of the template of this name.
    pub template: Option<String>,
    /// Only of the user of this name.
    pub owner: Option<String>,
    /// Only those whose names begin so, as a run's do.
    pub stem: Option<String>,
    /// Only these, by their place in the server's order (running first, then owner, then name), counted from 0.
    pub range: Option<Range<u32>>,
}

/// Why none can be chosen.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// Beyond what is there.
    #[error("--target-workspaces {}:{} reaches beyond the {found} workspaces that are there; make more or take a smaller range", range.start, range.end)]
    Beyond {
        /// What was asked for.
        range: Range<u32>,
        /// How many there are.
        found: usize,
    },
    /// Nothing.
    #[error(
        "no workspace bears the prefix {PREFIX}{what}; make some with scalectl create-workspaces --no-cleanup"
    )]
    Nothing {
        /// The rest of the search.
        what: String,
    },
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// A workspace that traffic can go to.
#[derive(Debug, Clone)]
pub struct FoundWorkspace {
    /// UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its owner's name.
    pub owner: String,
    /// Its owner's id.
    pub owner_id: String,
    /// Its template's name.
    pub template: String,
    /// The first agent of the last resource that has any; sub-agents do not count.
    pub agent: AgentRef,
    /// What that agent serves.
    pub apps: Vec<App>,
}

/// A workspace that it cannot go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Its owner's name.
    pub owner: String,
    /// Why not.
    pub why: String,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct FoundWorkspaces {
    /// In the server's order.
    pub workspaces: Vec<FoundWorkspace>,
    /// Those within the range that traffic cannot go to.
    pub skipped: Vec<Skipped>,
}

/// Finds the workspaces that bear the prefix and fit the query.
///
/// # Errors
/// None fits, the range reaches beyond them, a call failed.
pub async fn find_workspaces(client: &Client, query: &Query) -> Result<FoundWorkspaces, FindError> {
    let stem = query.stem.as_deref().unwrap_or(PREFIX);
    let terms = search(stem, query.template.as_deref(), query.owner.as_deref());
    let mut all = client.workspaces(&terms).await?;
    // The search finds parts of names, whatever their case.
    all.retain(|workspace| bears_prefix(&workspace.name) && workspace.name.starts_with(stem));
    if all.is_empty() {
        let template = query.template.as_ref().map(|name| format!(" with the template `{name}`"));
        let owner = query.owner.as_ref().map(|name| format!(" and the owner `{name}`"));
        let what = [template, owner].into_iter().flatten().collect();
        return Err(FindError::Nothing { what });
    }
    if let Some(range) = &query.range {
        if range.end as usize > all.len() {
            return Err(FindError::Beyond { range: range.clone(), found: all.len() });
        }
        all.truncate(range.end as usize);
        all.drain(..range.start as usize);
    }
    let mut found = FoundWorkspaces { workspaces: Vec::new(), skipped: Vec::new() };
    for workspace in all {
        let build = &workspace.latest_build;
        let why = match (build.status.as_str(), build.traffic_agent()) {
            ("running", Some(agent)) if agent.status == "connected" => {
                found.workspaces.push(FoundWorkspace {
                    agent: AgentRef { id: agent.id.clone(), name: agent.name.clone() },
                    apps: agent.apps.clone(),
                    id: workspace.id,
                    name: workspace.name,
                    owner: workspace.owner_name,
                    owner_id: workspace.owner_id,
                    template: workspace.template_name,
                });
                continue;
            }
            ("running", Some(agent)) => format!("its agent is {}", agent.status),
            ("running", None) => "it has no agent".to_owned(),
            (status, _) => format!("it is {status}"),
        };
        found.skipped.push(Skipped { name: workspace.name, owner: workspace.owner_name, why });
    }
    Ok(found)
}
