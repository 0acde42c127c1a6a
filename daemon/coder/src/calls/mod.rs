//! The calls, one function each: what is sent for which server, and how lists are read whole.

mod builds;
mod templates;
mod users;
mod workspaces;

use std::collections::HashSet;

use futures_util::future::BoxFuture;
use reqwest::Method;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use crate::client::{Call, Client, Outcome};
use crate::error::ApiError;
use crate::types::{AppHost, BuildInfo, DeploymentConfig};

pub use builds::Transition;
pub use users::NewUser;
pub use workspaces::NewWorkspace;
pub(crate) use workspaces::search;

/// Rows a page of a list.
pub const PAGE_ROWS: u64 = 100;
/// Rows of a list that are read at most.
pub const LIST_ROWS_MAX: u64 = 200_000;
/// Readings of a list whose order moved under the paging so that rows were missed.
pub const LIST_READINGS_MAX: u32 = 3;

impl Client {
    /// `GET /buildinfo`: which server this is; needs no valid token. Sets [`Client::version`].
    ///
    /// # Errors
    /// No answer, or not Coder's API.
    pub async fn build_info(&self) -> Result<BuildInfo, ApiError> {
        let info: BuildInfo = self.get("/buildinfo", &[]).await?;
        self.learn_version(&info.version);
        Ok(info)
    }

    /// `GET /applications/host`: the host name of apps with a name of their own, `*.apps.example.com`; `None` where
    /// the deployment has none, so that only apps by path can be reached.
    ///
    /// # Errors
    /// No answer, 401.
    pub async fn app_host(&self) -> Result<Option<String>, ApiError> {
        let host: AppHost = self.get("/applications/host", &[]).await?;
        Ok(Some(host.host).filter(|host| !host.is_empty()))
    }

    /// Whether owners may not open the terminals of others (`GET /deployment/config`,
    /// `disable_owner_workspace_exec`): then each terminal wants its own user's token.
    ///
    /// # Errors
    /// No answer; 403 for others than owners.
    pub async fn owner_exec_is_disabled(&self) -> Result<bool, ApiError> {
        let found: DeploymentConfig = self.get("/deployment/config", &[]).await?;
        Ok(found.config.disable_owner_workspace_exec)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, ApiError> {
        self.call(Call { method: Method::GET, path, query, body: None }).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: Option<&Value>) -> Result<T, ApiError> {
        self.call(Call { method: Method::POST, path, query: &[], body }).await
    }

    /// A post that makes something. `before`: tries of the same in another form of which nobody knows what came.
    async fn make<T: DeserializeOwned>(&self, path: &str, body: &Value, before: u32) -> Outcome<T> {
        let call = Call { method: Method::POST, path, query: &[], body: Some(body) };
        let Outcome { answer, unknown } = self.outcome(call).await;
        Outcome { answer, unknown: unknown + before }
    }

    async fn act(&self, method: Method, path: &str) -> Result<(), ApiError> {
        // Some servers answer with a message, some with nothing.
        let IgnoredAny = self.call(Call { method, path, query: &[], body: None }).await?;
        Ok(())
    }
}

/// `None` where the thing is not there.
fn if_there<T>(answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match answer {
        Ok(thing) => Ok(Some(thing)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A page that is being asked for: its rows, and how many rows there are in all. Boxed, so that flows can be
/// seen to be `Send`.
type Page<'a, T> = BoxFuture<'a, Result<(Vec<T>, u64), ApiError>>;

/// Reads a list whole: pages by row offset until one is short, each row once by its id, in the server's order.
/// Where rows moved between pages so that fewer were seen than there are, reads it again.
async fn whole_list<'a, T>(
    mut page: impl FnMut(u64) -> Page<'a, T>,
    id: impl Fn(&T) -> &str,
) -> Result<Vec<T>, ApiError> {
    let (mut rows, mut ids) = (Vec::new(), HashSet::new());
    for _ in 0..LIST_READINGS_MAX {
        let (mut offset, mut total) = (0, 0);
        while offset < LIST_ROWS_MAX {
            let (found, count) = page(offset).await?;
            let length = found.len() as u64;
            total = total.max(count);
            rows.extend(found.into_iter().filter(|row| ids.insert(id(row).to_owned())));
            offset += length;
            // A server may give fewer rows than asked for, and old ones tell no total.
            if length == 0 || (length < PAGE_ROWS && offset >= total) {
                break;
            }
        }
        if rows.len() as u64 >= total {
            break;
        }
    }
    Ok(rows)
}

/// A value within a query, `key:"value"`; quotes cannot be within.
fn term(key: &str, value: &str) -> String {
    format!("{key}:\"{}\"", value.replace('"', ""))
}
