//! Everything that is looked at, and refused, before anything is made: the server, the token, the template,
//! the parameters, the names.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::calls::PAGE_ROWS;
use crate::class::Class;
use crate::client::Client;
use crate::error::ApiError;
use crate::names::{Names, PREFIX};
use crate::parameters::{self, ParameterError, list};
use crate::time::{Timestamp, between, later};
use crate::types::{ParameterValue, Template, User};
use crate::version::Version;

/// Who was seen within this time is active.
pub const ACTIVE_WITHIN: Duration = Duration::from_secs(600);
/// Users that are looked at for that; beyond it the count is "at least".
pub const ACTIVE_ROWS_MAX: u64 = 10_000;
/// What clean-up may need beyond the planned time, before the token ends.
pub const TOKEN_MARGIN: Duration = Duration::from_secs(300);

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// What time it is.
    pub now: Timestamp,
    /// How long everything may take, clean-up included.
    pub planned: Duration,
    /// The id that the deployment has to have, where that is pinned.
    pub deployment: Option<&'a str>,
}

/// The server and who we are there.
#[derive(Debug, Clone)]
pub struct Site {
    /// The version as the server writes it.
    pub version_text: String,
    /// The version; `None` for a build without one.
    pub version: Option<Version>,
    /// The deployment's own id; newer servers only.
    pub deployment: Option<String>,
    /// Whose token it is.
    pub me: User,
    /// When the token ends; `None` where the server does not tell.
    pub token_ends: Option<Timestamp>,
    /// What should be said, though nothing is refused for it.
    pub warnings: Vec<String>,
}

/// How many people are at work there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Active {
    /// Users seen within [`ACTIVE_WITHIN`], without us and without test users.
    pub users: u64,
    /// Whether all users were looked at; otherwise it is at least that many.
    pub is_whole: bool,
}

/// The template that workspaces are made of.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Itself.
    pub template: Template,
    /// Its parameters as given, checked.
    pub parameters: Vec<ParameterValue>,
    /// What should be said, though nothing is refused for it.
    pub warnings: Vec<String>,
}

/// Why nothing is made.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// What answers there is not Coder.
    #[error("{url} is not Coder's API ({error}); give the deployment's access URL as CODER_URL or --url")]
    WrongUrl {
        /// Where.
        url: String,
        /// What was seen.
        error: ApiError,
    },
    /// The token is not valid.
    #[error(
        "{host} does not accept the token: it has expired or belongs to another deployment; make one with `coder tokens create --lifetime 24h`"
    )]
    Token {
        /// Where.
        host: String,
    },
    /// The token's user is no owner.
    #[error("`{username}` has {roles}, the role `owner` is needed on {host}; use an owner's token")]
    NotOwner {
        /// Whose token it is.
        username: String,
        /// What roles there are.
        roles: String,
        /// Where.
        host: String,
    },
    /// The token ends too early.
    #[error(
        "the token ends at {ends}, before everything could be cleaned up ({needed}); make one with `coder tokens create --lifetime 24h`, or plan less time"
    )]
    TokenEnds {
        /// When it ends.
        ends: Timestamp,
        /// When it is last needed.
        needed: Timestamp,
    },
    /// Another deployment than the one that is pinned.
    #[error(
        "{host} is deployment {found}, {pinned} is pinned in targets.toml; give the right URL or change the pin"
    )]
    Deployment {
        /// Where.
        host: String,
        /// What it says it is.
        found: String,
        /// What it should be.
        pinned: String,
    },
    /// No such template.
    #[error("there is no template `{name}`{place}; there are {known}")]
    NoTemplate {
        /// What was asked for.
        name: String,
        /// In which organization, where that was asked for.
        place: String,
        /// Those that there are.
        known: String,
    },
    /// No such organization.
    #[error("`{name}` is none of your organizations; they are {known}")]
    NoOrganization {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// Parameters that do not fit.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Parameters(Vec<ParameterError>),
    /// Names that are there already.
    #[error(
        "{count} names of this run are taken on {host}, {first} for one; clean up what an earlier run left, or use --username-infix"
    )]
    NamesTaken {
        /// How many.
        count: usize,
        /// One of them.
        first: String,
        /// Where.
        host: String,
    },
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Looks at the server and the token, and takes the rate limits off for the owner that it is.
///
/// # Errors
/// Not Coder, not that deployment, a token that is not valid, no owner's, or ends too early.
pub async fn site(client: &mut Client, ask: &Ask<'_>) -> Result<Site, Refusal> {
    let host = client.host();
    let info = client.build_info().await.map_err(|error| match error.class() {
        Class::NotCoder | Class::NotFound => Refusal::WrongUrl { url: client.url().to_owned(), error },
        _ => Refusal::Api(error),
    })?;
    if let Some(pinned) = ask.deployment {
        let found = info.deployment_id.as_deref().unwrap_or("without an id");
        if found != pinned {
            let (found, pinned) = (found.to_owned(), pinned.to_owned());
            return Err(Refusal::Deployment { host, found, pinned });
        }
    }
    let me = client.me().await.map_err(|error| match error.class() {
        Class::Unauthorized => Refusal::Token { host: host.clone() },
        _ => Refusal::Api(error),
    })?;
    if !me.is_owner() {
        let roles = match me.roles.is_empty() {
            true => "no role".to_owned(),
            false => format!("the role {}", list(me.roles.iter().map(|role| role.name.as_str()))),
        };
        return Err(Refusal::NotOwner { username: me.username, roles, host });
    }
    client.bypass_rate_limits(true);
    let mut warnings = Vec::new();
    let token_ends = client.token_expiry().await?;
    let needed = later(ask.now, ask.planned + TOKEN_MARGIN);
    match token_ends {
        Some(ends) if ends < needed => return Err(Refusal::TokenEnds { ends, needed }),
        Some(_) => {}
        None => {
            warnings.push(format!("{host} does not tell when the token ends; it is needed until {needed}"));
        }
    }
    let version = Version::parse(&info.version);
    match version {
        Some(version) if version < Version::OLDEST => {
            warnings.push(format!(
                "{version} is older than {}, the oldest that this is made for",
                Version::OLDEST
            ));
        }
        None => warnings.push(format!(
            "the server's version `{}` says nothing; each call is tried in its newest form first",
            info.version
        )),
        Some(_) => {}
    }
    let deployment = info.deployment_id.filter(|id| !id.is_empty());
    Ok(Site { version, version_text: info.version, deployment, me, token_ends, warnings })
}

/// Counts who is at work, so that whoever starts a test knows whom it may disturb.
///
/// # Errors
/// A page of users that cannot be had.
pub async fn active(client: &Client, site: &Site, now: Timestamp) -> Result<Active, Refusal> {
    let (mut offset, mut users) = (0, 0);
    while offset < ACTIVE_ROWS_MAX {
        let page = client.users_page("status:active", offset).await?;
        let rows = page.users.unwrap_or_default();
        let counts = |user: &&User| {
            user.id != site.me.id
                && !user.username.starts_with(PREFIX)
                && user.last_seen_at.is_some_and(|seen| between(seen, now) < ACTIVE_WITHIN)
        };
        users += rows.iter().filter(counts).count() as u64;
        offset += rows.len() as u64;
        if rows.is_empty() || (offset >= page.count && (rows.len() as u64) < PAGE_ROWS) {
            return Ok(Active { users, is_whole: true });
        }
    }
    Ok(Active { users, is_whole: false })
}

/// Finds the template by its id or name, in `organization` (name or id) or in all of the caller's, in their
/// order; and checks the parameters against it.
///
/// # Errors
/// None of that name; parameters that do not fit.
pub async fn template(
    client: &Client,
    name_or_id: &str,
    organization: Option<&str>,
    given: &BTreeMap<String, String>,
) -> Result<Chosen, Refusal> {
    let mut organizations = client.organizations("me").await?;
    if let Some(name) = organization {
        let known = list(organizations.iter().map(|organization| organization.name.as_str()));
        organizations.retain(|organization| organization.name == name || organization.id == name);
        if organizations.is_empty() {
            return Err(Refusal::NoOrganization { name: name.to_owned(), known });
        }
    }
    let (mut fitting, mut known) = (Vec::new(), Vec::new());
    for organization in &organizations {
        for template in client.templates(&organization.id).await? {
            if template.id == name_or_id || template.name == name_or_id {
                fitting.push((organization, template));
            } else {
                known.push(template.name);
            }
        }
    }
    let mut warnings = Vec::new();
    if fitting.len() > 1 {
        warnings.push(format!(
            "`{name_or_id}` is a template of {}; the first is taken, --organization chooses",
            list(fitting.iter().map(|(organization, _)| organization.name.as_str()))
        ));
    }
    let Some((_, template)) = fitting.into_iter().next() else {
        known.sort();
        known.dedup();
        return Err(Refusal::NoTemplate {
            name: name_or_id.to_owned(),
            place: organization.map(|name| format!(" in `{name}`")).unwrap_or_default(),
            known: list(known.iter().map(String::as_str)),
        });
    };
    if template.deprecated {
        warnings.push(format!(
            "the template `{}` is deprecated; the server may refuse new workspaces",
            template.name
        ));
    }
    let rich = client.rich_parameters(&template.active_version_id).await?;
    let parameters = parameters::check(&rich, given).map_err(Refusal::Parameters)?;
    Ok(Chosen { template, parameters, warnings })
}

/// Makes sure that none of the run's names is there yet.
///
/// # Errors
/// Some are.
pub async fn names_free(client: &Client, names: &Names) -> Result<(), Refusal> {
    let stem = names.stem();
    let users = client.users(stem).await?.into_iter().map(|user| user.username);
    let workspaces = client.workspaces(&crate::calls::search(stem, None, None)).await?;
    let workspaces = workspaces.into_iter().map(|workspace| workspace.name);
    let taken: Vec<String> = users.chain(workspaces).filter(|name| name.starts_with(stem)).collect();
    match taken.first() {
        None => Ok(()),
        Some(first) => {
            Err(Refusal::NamesTaken { count: taken.len(), first: format!("`{first}`"), host: client.host() })
        }
    }
}
