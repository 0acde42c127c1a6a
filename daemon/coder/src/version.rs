//! Which server this is, and what it therefore understands (the protocol's table of differences).

use std::fmt;

/// A server's version, `v2.26.0+abc` without what follows the three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third.
    pub patch: u32,
}

impl Version {
    /// The oldest server that the flows are made for.
    pub const OLDEST: Self = Self::new(0, 24);

    const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor, patch: 0 }
    }

    /// Parses `v2.26.0+abc`, `2.8.3`, `v0.24.1-devel+x`. `None` for anything else, such as a build without a
    /// version: then the newest form is tried first and the old one after it.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let numbers = text.split(['+', '-']).next()?;
        let mut parts = numbers.split('.').map(|part| part.parse::<u32>().ok());
        let version = Self { major: parts.next()??, minor: parts.next()??, patch: parts.next()?? };
        parts.next().is_none().then_some(version)
    }

    /// `POST /users` takes `organization_ids`, `login_type` and `name`; before that one `organization_id`.
    pub fn takes_organization_lists(self) -> bool {
        self >= Self::new(2, 15)
    }

    /// `POST /users` takes `user_status`; before that new users are dormant, which does for tokens.
    pub fn takes_user_status(self) -> bool {
        self >= Self::new(2, 18)
    }

    /// `POST /users/{user}/workspaces` is there; before that only the route through the organization.
    pub fn has_short_workspace_route(self) -> bool {
        self >= Self::new(2, 15)
    }

    /// Its own traffic test types comments to a shell; since v2.6 lines to `dd`.
    pub fn types_comments(self) -> bool {
        (Self::OLDEST..Self::new(2, 6)).contains(&self)
    }

    /// `GET /workspacebuilds/{id}/timings` is there.
    pub fn has_timings(self) -> bool {
        self >= Self::new(2, 16)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_write_them() {
        let text = |text: &str| Version::parse(text).map(|version| version.to_string());
        assert_eq!(text("v2.26.0+abc1234").as_deref(), Some("v2.26.0"));
        assert_eq!(text("v0.24.1-devel+0a1b2c3").as_deref(), Some("v0.24.1"));
        assert_eq!(text("2.8.3").as_deref(), Some("v2.8.3"));
        for wrong in ["", "v2", "v2.1", "(devel)", "v2.x.1", "v1.2.3.4"] {
            assert_eq!(text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_server_is_spoken_to_in_its_own_way() {
        let of = |text: &str| {
            let version = Version::parse(text).unwrap();
            (version.takes_organization_lists(), version.takes_user_status(), version.has_timings())
        };
        assert_eq!(of("v0.24.1"), (false, false, false));
        assert_eq!(of("v2.14.9"), (false, false, false));
        assert_eq!(of("v2.15.0"), (true, false, false));
        assert_eq!(of("v2.18.0+x"), (true, true, true));
        assert_eq!(of("v3.0.0"), (true, true, true));
    }
}
