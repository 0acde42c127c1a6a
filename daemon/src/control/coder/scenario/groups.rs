//! The groups of a scenario's traffic, with the workspaces that they go to.

use std::time::Duration;

use scale_api::coder::Deployment;
use scale_api::http::Problem;
use scale_api::scenario::Group;
use scale_api::spec::{GroupSpec, Spec};
use scale_coder::flows::find::{FoundWorkspaces, Query, find_workspaces};
use scale_coder::names::Names;

use super::look::Looked;
use crate::control::coder::invalid;
use crate::control::coder::look::wire_site;
use crate::control::coder::traffic::{self, Traffic};
use crate::run::fleet::Fleet;

/// A minted token outlives its run by this.
const TOKEN_MARGIN: Duration = Duration::from_secs(3600);

/// Traffic whose workspaces are known.
pub struct Found {
    /// The run.
    pub spec: Spec,
    /// Whose streams they are.
    pub fleet: Fleet,
    /// What is not as it was asked for.
    pub warnings: Vec<String>,
}

/// How the deployment's certificates are judged.
pub fn trust(group: &mut GroupSpec, deployment: &Deployment) {
    if !group.is_ssh() && (deployment.insecure || deployment.ca.is_some()) {
        (group.insecure, group.ca) = (deployment.insecure, deployment.ca.clone());
    }
}

/// Finds the workspaces of each group: of those that `made` names, by number, or of all that are there. `dry_run`:
/// no token is made for it.
///
/// # Errors
/// A group has none.
pub async fn find(looked: &Looked, made: Option<&Names>, dry_run: bool) -> Result<Found, Problem> {
    let scenario = &looked.scenario;
    let lifetime = traffic::length(&scenario.planned(Some(1))) + TOKEN_MARGIN;
    let ours = match made {
        None => None,
        Some(names) => {
            let query = Query { stem: Some(names.stem().to_owned()), ..Query::default() };
            let found = find_workspaces(&looked.client, &query).await;
            Some((names, found.map_err(|error| invalid(error.to_string()))?))
        }
    };
    let mut found = Found {
        spec: scenario.spec(),
        fleet: Fleet { site: wire_site(&looked.client, &looked.site), ..Fleet::default() },
        warnings: Vec::new(),
    };
    for (index, group) in scenario.group.iter().enumerate() {
        let mut load = group.load.clone();
        if let Some(ask) = group.traffic() {
            let name = &group.load.name;
            let place =
                Traffic { client: &looked.client, ask: &ask, url: &looked.deployment.url, lifetime, dry_run };
            let mine = match &ours {
                Some((names, all)) => chosen(group, names, all),
                None => place.find().await?,
            };
            let said = place.fill(&mut load, index as u8, mine).await.map_err(|why| {
                let detail = format!("group `{name}`: {}", why.detail);
                Problem { detail, ..why }
            })?;
            trust(&mut load, &looked.deployment);
            found.warnings.extend(said.warnings.into_iter().map(|why| format!("group `{name}`: {why}")));
            found.fleet.driven.extend(said.fleet.driven);
            found.fleet.skipped.extend(said.fleet.skipped);
        }
        found.spec.group.push(load);
    }
    Ok(found)
}

/// Those of our own that a group goes to, in the order of their numbers.
fn chosen(group: &Group, names: &Names, all: &FoundWorkspaces) -> FoundWorkspaces {
    let range = group.range().ok().flatten();
    let number = |name: &str| name.strip_prefix(names.stem()).and_then(|rest| rest.parse::<u32>().ok());
    let is_in = |name: &str| {
        number(name).is_some_and(|number| range.as_ref().is_none_or(|range| range.contains(&number)))
    };
    let mut found = all.clone();
    found.workspaces.retain(|one| {
        is_in(&one.name)
            && group.template.as_ref().is_none_or(|template| *template == one.template)
            && group.owner.as_ref().is_none_or(|owner| *owner == one.owner)
    });
    found.workspaces.sort_by_key(|one| number(&one.name));
    found.skipped.retain(|one| is_in(&one.name));
    found
}
