//! The versions that can be played, and what differs between them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// A release of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u16,
    minor: u16,
}

impl Version {
    /// June 2023.
    pub const V0_24: Self = Self { major: 0, minor: 24 };
    /// Tailnet 2.0.
    pub const V2_8: Self = Self { major: 2, minor: 8 };
    /// The last with a message limit on terminals.
    pub const V2_18: Self = Self { major: 2, minor: 18 };
    /// September 2025.
    pub const V2_26: Self = Self { major: 2, minor: 26 };
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::V0_24, Self::V2_8, Self::V2_18, Self::V2_26];

    /// The build as `buildinfo` and `X-Coder-Build-Version` name it.
    pub fn build(self) -> String {
        format!("v{}.{}.{}+standin", self.major, self.minor, u8::from(self == Self::V0_24))
    }

    const fn since(self, major: u16, minor: u16) -> bool {
        self.major > major || (self.major == major && self.minor >= minor)
    }

    /// `POST /users/{user}/workspaces`, and `organization_ids` when users are made.
    pub const fn has_users_workspaces(self) -> bool {
        self.since(2, 15)
    }

    /// `user_status` is read when users are made.
    pub const fn reads_user_status(self) -> bool {
        self.since(2, 18)
    }

    /// `template_version_id` may stand for `template_id`; automatic updates.
    pub const fn has_template_version_id(self) -> bool {
        self.since(2, 0)
    }

    /// `GET /templates` over all organizations.
    pub const fn has_templates_list(self) -> bool {
        self.since(2, 15)
    }

    /// `GET /workspacebuilds/{id}/timings`.
    pub const fn has_timings(self) -> bool {
        self.since(2, 16)
    }

    /// `Authorization: Bearer` and `access_token`: July 2025.
    pub const fn reads_bearer(self) -> bool {
        self.since(2, 25)
    }

    /// Workspace apps take the session token from its header.
    pub const fn apps_read_header(self) -> bool {
        self.since(2, 0)
    }

    /// `has-agent` takes several states with commas between.
    pub const fn has_agent_lists(self) -> bool {
        self.since(2, 24)
    }

    /// Agents within agents, with `parent_id`.
    pub const fn has_sub_agents(self) -> bool {
        self.since(2, 24)
    }

    /// `backend_type` of a terminal is read.
    pub const fn reads_backend_type(self) -> bool {
        self.since(2, 21)
    }

    /// The longest message of a terminal's websocket, if there is a limit.
    pub const fn terminal_message_bytes_max(self) -> Option<u64> {
        if self.since(2, 19) { None } else { Some(32_768) }
    }

    /// A terminal whose pong does not come is closed with 1001.
    pub const fn closes_without_pong(self) -> bool {
        self.since(2, 17)
    }

    /// `expect_status` of a cancel is read.
    pub const fn reads_expect_status(self) -> bool {
        self.since(2, 26)
    }

    /// A user's deletion is answered with a sentence; before that with nothing.
    pub const fn answers_user_delete(self) -> bool {
        self.since(2, 8)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}", self.major, self.minor)
    }
}

/// Not one of [`Version::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of the versions that can be played: v0.24, v2.8, v2.18, v2.26")]
pub struct UnknownVersion(String);

impl FromStr for Version {
    type Err = UnknownVersion;
    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let found = Self::ALL.into_iter().find(|version| {
            let name = version.to_string();
            text == name || text == &name[1..]
        });
        found.ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
