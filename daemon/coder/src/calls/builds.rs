//! Builds of workspaces: started, looked at, cancelled (the protocol's builds).

use reqwest::Method;
use serde_json::json;

use super::if_there;
use crate::client::Client;
use crate::error::ApiError;
use crate::types::Build;

/// What a build does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Builds the workspace and lets it run.
    Start,
    /// Takes it down for good.
    Delete,
}

impl Transition {
    /// As servers write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Delete => "delete",
        }
    }
}

impl Client {
    /// `GET /workspacebuilds/{id}`; `None` where its workspace is gone.
    ///
    /// # Errors
    /// Anything but 404 and 410.
    pub async fn build(&self, id: &str) -> Result<Option<Build>, ApiError> {
        if_there(self.get(&format!("/workspacebuilds/{id}"), &[]).await)
    }

    /// `POST /workspaces/{id}/builds`.
    ///
    /// # Errors
    /// 409 while another build is active; 404 and 410 where the workspace is gone.
    pub async fn start_build(&self, workspace: &str, transition: Transition) -> Result<Build, ApiError> {
        let body = json!({ "transition": transition.name() });
        self.post(&format!("/workspaces/{workspace}/builds"), Some(&body)).await
    }

    /// `PATCH /workspacebuilds/{id}/cancel`. The job is `canceling` for a while, then `canceled`.
    ///
    /// # Errors
    /// 400 where it has ended meanwhile; 403 where the template does not let users cancel.
    pub async fn cancel_build(&self, id: &str) -> Result<(), ApiError> {
        self.act(Method::PATCH, &format!("/workspacebuilds/{id}/cancel")).await
    }
}
