//! Workspaces: made, looked at, listed (the protocol's workspaces).

use futures_util::FutureExt;
use serde_json::json;

use super::{PAGE_ROWS, if_there, term, whole_list};
use crate::client::{Client, Outcome};
use crate::error::ApiError;
use crate::types::{ParameterValue, Workspace, Workspaces};

/// A workspace to be made.
#[derive(Debug, Clone)]
pub struct NewWorkspace<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is built from.
    pub template_id: &'a str,
    /// The template's organization, for servers that have only the route through it.
    pub organization_id: &'a str,
    /// The template's parameters.
    pub parameters: &'a [ParameterValue],
}

impl Client {
    /// `POST /users/{owner}/workspaces`, before v2.15 `POST /organizations/{org}/members/{owner}/workspaces`. A
    /// server whose version is not known is asked the new way first, and the old way if that is not there.
    /// The answer's `latest_build` is the start that is queued now. Errors: 409 where the name is taken; 400 for
    /// parameters; 403.
    pub async fn create_workspace(&self, owner: &str, new: &NewWorkspace<'_>) -> Outcome<Workspace> {
        let mut before = 0;
        let body = json!({
            "template_id": new.template_id, "name": new.name, "rich_parameter_values": new.parameters,
        });
        let version = self.version();
        if version.is_none_or(|version| version.has_short_workspace_route()) {
            match self.make(&format!("/users/{owner}/workspaces"), &body, 0).await {
                Outcome { answer: Err(error), unknown }
                    if version.is_none() && matches!(error.status(), Some(404 | 405)) =>
                {
                    before = unknown;
                }
                outcome => return outcome,
            }
        }
        let path = format!("/organizations/{}/members/{owner}/workspaces", new.organization_id);
        self.make(&path, &body, before).await
    }

    /// `GET /workspaces/{id}`; `None` once it is deleted (410) or where it was never seen (404).
    ///
    /// # Errors
    /// Anything else.
    pub async fn workspace(&self, id: &str) -> Result<Option<Workspace>, ApiError> {
        if_there(self.get(&format!("/workspaces/{id}"), &[]).await)
    }

    /// `GET /workspaces?q=…`, every page, in the server's order.
    ///
    /// # Errors
    /// The first page that fails.
    pub async fn workspaces(&self, query: &str) -> Result<Vec<Workspace>, ApiError> {
        let page = |offset: u64| {
            let page = self.workspaces_page(query, offset);
            page.map(|page| page.map(|page| (page.workspaces.unwrap_or_default(), page.count))).boxed()
        };
        whole_list(page, |workspace: &Workspace| &workspace.id).await
    }

    async fn workspaces_page(&self, query: &str, offset: u64) -> Result<Workspaces, ApiError> {
        let rows =
            [("q", query.to_owned()), ("limit", PAGE_ROWS.to_string()), ("offset", offset.to_string())];
        self.get("/workspaces", &rows).await
    }

    /// The workspace `name` of the user `owner`, found by search: names within a search are parts of names, so
    /// the whole name is compared here.
    ///
    /// # Errors
    /// As [`Client::workspaces`].
    pub async fn workspace_named(&self, owner: &str, name: &str) -> Result<Option<Workspace>, ApiError> {
        let found = self.workspaces(&format!("{} {}", term("owner", owner), term("name", name))).await?;
        Ok(found.into_iter().find(|workspace| workspace.name == name))
    }
}

/// The search terms for workspaces whose names contain `name`.
pub(crate) fn search(name: &str, template: Option<&str>, owner: Option<&str>) -> String {
    let terms = [
        Some(term("name", name)),
        template.map(|it| term("template", it)),
        owner.map(|it| term("owner", it)),
    ];
    terms.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
