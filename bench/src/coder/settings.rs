//! How a deployment is: what is in it at the start, how fast its builds are, what it forbids.

use scale_api::units::Span;
use serde::Deserialize;

use super::replicas::Balance;
use super::version::Version;

/// A deployment as the user wants it; the file of `--coder-settings` has the same names.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whose behaviour is imitated.
    pub version: Version,
    /// Servers behind the one address.
    pub replicas: u16,
    /// Which of them gets the next connection.
    pub balance: Balance,
    /// There is no user yet: the first is made by a request.
    pub first_boot: bool,
    /// Users besides the owner: `member-1`, ….
    pub users: u32,
    /// Templates besides the built-in ones: `template-1`, …, without parameters.
    pub templates: u32,
    /// Builds that run at once; the others wait in order.
    pub provisioners: u32,
    /// The least time from a build's creation to its start.
    pub acquire_time: Span,
    /// From a build's start to its end, without the jitter.
    pub build_time: Span,
    /// Up to so much is added to each build's time.
    pub build_jitter: Span,
    /// From a build's end to its agent's connection.
    pub agent_time: Span,
    /// From an agent's connection to its lifecycle `ready`.
    pub script_time: Span,
    /// From the cancellation of a build that runs to its end.
    pub cancel_time: Span,
    /// From a terminal's 101 to the news that its agent cannot be reached.
    pub dial_time: Span,
    /// `*.apps.example.com`; nothing: no subdomain apps.
    pub app_host: String,
    /// Whose limiter: see [`RateLimits`].
    pub rate_limits: RateLimits,
    /// Requests a minute, identity and path.
    pub api_rate_limit: u32,
    /// Logins a minute and client address.
    pub login_rate_limit: u32,
    /// Owners may not open terminals of others' workspaces.
    pub disable_owner_workspace_exec: bool,
    /// Apps by path: see [`PathApps`].
    pub path_apps: PathApps,
    /// What runs behind a terminal: see [`Terminals`].
    pub terminals: Terminals,
    /// Unix time, in ns, at the clock's start: what the timestamps are made from.
    #[serde(skip)]
    pub wall_at_zero_ns: u64,
}

/// Whose limiter counts the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateLimits {
    /// Until February 2026: by client address; the bypass header is ignored.
    Old,
    /// Since: by user; owners may bypass it.
    New,
    /// As with `CODER_DANGEROUS_DISABLE_RATE_LIMITS`.
    Off,
}

/// Who may use workspace apps by path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathApps {
    /// The workspace's owner.
    Own,
    /// The site's owner, too: `CODER_DANGEROUS_ALLOW_PATH_APP_SITE_OWNER_ACCESS`.
    SiteOwner,
    /// Nobody.
    Disabled,
}

/// What runs behind a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Terminals {
    /// A shell on a pseudo-terminal.
    Real,
    /// For the commands of a load and simple scripts a terminal without a kernel, for thousands; otherwise a shell.
    Emulated,
}

impl Default for Settings {
    fn default() -> Self {
        const fn ms(ms: u64) -> Span {
            Span::from_ns(ms * 1_000_000)
        }
        Self {
            version: Version::V2_26,
            replicas: 1,
            balance: Balance::Turn,
            first_boot: false,
            users: 0,
            templates: 0,
            provisioners: 50,
            acquire_time: ms(20),
            build_time: ms(500),
            build_jitter: ms(250),
            agent_time: ms(300),
            script_time: ms(100),
            cancel_time: ms(100),
            dial_time: ms(50),
            app_host: String::new(),
            rate_limits: RateLimits::Old,
            api_rate_limit: 512,
            login_rate_limit: 60,
            disable_owner_workspace_exec: false,
            path_apps: PathApps::Own,
            terminals: Terminals::Real,
            wall_at_zero_ns: 1_767_225_600_000_000_000, // 2026-01-01
        }
    }
}

impl Settings {
    /// From the file of `--coder-settings`.
    ///
    /// # Errors
    /// What is wrong with it, with its line.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// What cannot work, as a sentence.
    ///
    /// # Errors
    /// The first that was found.
    pub fn check(&self) -> Result<(), String> {
        let Self { replicas, provisioners, app_host, .. } = self;
        if *replicas == 0 {
            return Err("a deployment has at least one replica; give --coder-replicas 1 or more".into());
        }
        if *provisioners == 0 {
            return Err(
                "without a provisioner no build would ever start; set provisioners to 1 or more".into()
            );
        }
        if !app_host.is_empty() && !app_host.starts_with("*.") {
            return Err(format!(
                "app_host is `{app_host}`, and must begin with `*.`, such as *.apps.localhost"
            ));
        }
        Ok(())
    }
}
