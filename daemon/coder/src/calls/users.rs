//! Users, their tokens, and organizations (the protocol's users and authentication).

use std::time::Duration;

use futures_util::FutureExt;
use reqwest::Method;
use serde_json::{Value, json};

use super::{PAGE_ROWS, if_there, whole_list};
use crate::client::{Client, Outcome};
use crate::error::ApiError;
use crate::random;
use crate::time::Timestamp;
use crate::types::{Key, KeyInfo, Organization, User, Users};

/// A user to be made. It gets a random password that nobody keeps; tokens are minted for it instead.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Its name.
    pub username: String,
    /// Its address.
    pub email: String,
    /// Where it becomes a member.
    pub organization_id: String,
}

impl Client {
    /// `GET /users/me`.
    ///
    /// # Errors
    /// No answer; a token that is not valid.
    pub async fn me(&self) -> Result<User, ApiError> {
        self.get("/users/me", &[]).await
    }

    /// `GET /users/{user}` by id or name; `None` where there is none. Servers differ in how they say so (404 or
    /// 400).
    ///
    /// # Errors
    /// Anything else.
    pub async fn user(&self, user: &str) -> Result<Option<User>, ApiError> {
        match if_there(self.get(&format!("/users/{user}"), &[]).await) {
            Err(error) if error.status() == Some(400) => Ok(None),
            answer => answer,
        }
    }

    /// `GET /users?q=…`, every page.
    ///
    /// # Errors
    /// The first page that fails.
    pub async fn users(&self, query: &str) -> Result<Vec<User>, ApiError> {
        let page = |offset: u64| {
            let page = self.users_page(query, offset);
            page.map(|page| page.map(|page| (page.users.unwrap_or_default(), page.count))).boxed()
        };
        whole_list(page, |user: &User| &user.id).await
    }

    pub(crate) async fn users_page(&self, query: &str, offset: u64) -> Result<Users, ApiError> {
        let rows =
            [("q", query.to_owned()), ("limit", PAGE_ROWS.to_string()), ("offset", offset.to_string())];
        self.get("/users", &rows).await
    }

    /// `POST /users`. A server whose version is not known is asked in the new form first, and in the old one if
    /// it calls that invalid. Errors: 409 where name or address is taken; 400, 403.
    pub async fn create_user(&self, new: &NewUser) -> Outcome<User> {
        let (password, mut before) = (random::password(), 0);
        let version = self.version();
        if version.is_none_or(|version| version.takes_organization_lists()) {
            let mut body = json!({
                "email": new.email, "username": new.username, "name": "", "password": password,
                "login_type": "password", "organization_ids": [new.organization_id],
            });
            if version.is_none_or(|version| version.takes_user_status()) {
                body["user_status"] = json!("active");
            }
            match self.make("/users", &body, 0).await {
                Outcome { answer: Err(error), unknown }
                    if version.is_none() && error.status() == Some(400) =>
                {
                    before = unknown;
                }
                outcome => return outcome,
            }
        }
        let body = json!({
            "email": new.email, "username": new.username, "password": password,
            "organization_id": new.organization_id,
        });
        self.make("/users", &body, before).await
    }

    /// `DELETE /users/{id}`. False where it was gone already.
    ///
    /// # Errors
    /// 417 while it owns workspaces; 403.
    pub async fn delete_user(&self, id: &str) -> Result<bool, ApiError> {
        Ok(if_there(self.act(Method::DELETE, &format!("/users/{id}")).await)?.is_some())
    }

    /// A token for another user without a login: `POST /users/{user}/keys/tokens`, named so that it can be told
    /// from the user's own. A server that does not give one of this lifetime is asked for a plain session key.
    ///
    /// # Errors
    /// 403, 404; the key is no token.
    pub async fn mint_token(&self, user: &str, lifetime: Duration) -> Result<crate::secret::Token, ApiError> {
        let lifetime_ns = u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX).min(i64::MAX as u64);
        let name = format!("scaled-{}", random::word(10));
        let body = json!({ "lifetime": lifetime_ns, "scope": "all", "token_name": name });
        let path = format!("/users/{user}/keys");
        let key: Key = match self.post(&format!("{path}/tokens"), Some(&body)).await {
            Err(error) if error.status() == Some(400) => self.post(&path, None).await?,
            answer => answer?,
        };
        crate::secret::Token::new(&key.key).map_err(|error| ApiError {
            method: "POST".into(),
            path: format!("/api/v2{path}"),
            cause: Box::new(crate::error::Cause::Shape(error.to_string())),
        })
    }

    /// When this client's own token ends, by `GET /users/me/keys/{id}`; `None` where the server does not tell.
    ///
    /// # Errors
    /// No answer, 401.
    pub async fn token_expiry(&self) -> Result<Option<Timestamp>, ApiError> {
        let Some(id) = self.token().id().filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        else {
            return Ok(None);
        };
        match self.get::<KeyInfo>(&format!("/users/me/keys/{id}"), &[]).await {
            Ok(key) => Ok(key.expires_at),
            Err(error) if error.is_passing() || error.status() == Some(401) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// `GET /users/{user}/organizations`.
    ///
    /// # Errors
    /// No answer, 401.
    pub async fn organizations(&self, user: &str) -> Result<Vec<Organization>, ApiError> {
        let found: Option<Vec<Organization>> = self.get(&format!("/users/{user}/organizations"), &[]).await?;
        Ok(found.unwrap_or_default())
    }

    /// `POST /organizations/{org}/members/{user}`: makes a user a member. True also where it was one already.
    ///
    /// # Errors
    /// 403, 404.
    pub async fn join_organization(&self, organization: &str, user: &str) -> Result<(), ApiError> {
        let path = format!("/organizations/{organization}/members/{user}");
        match self.post::<Option<Value>>(&path, None).await {
            Err(error) if error.status() != Some(409) => Err(error),
            _ => Ok(()),
        }
    }
}
