//! The deployment's records: plain data, and where a job, build or agent stands.

use scale_ring::Time;
use uuid::Uuid;

use super::templates::Values;

/// A site role; every user is a member besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Owner,
    UserAdmin,
    TemplateAdmin,
    Auditor,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Owner, Self::UserAdmin, Self::TemplateAdmin, Self::Auditor];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::UserAdmin => "user-admin",
            Self::TemplateAdmin => "template-admin",
            Self::Auditor => "auditor",
        }
    }

    pub const fn display_name(self) -> &'static str {
        match self {
            Self::Owner => "Owner",
            Self::UserAdmin => "User Admin",
            Self::TemplateAdmin => "Template Admin",
            Self::Auditor => "Auditor",
        }
    }
}

/// Whether a user may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UserStatus {
    Active,
    /// Has never been used; the first use makes it active.
    Dormant,
    Suspended,
}

impl UserStatus {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Dormant => "dormant",
            Self::Suspended => "suspended",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct User {
    pub id: Uuid,
    pub username: String,
    pub email: String,
    pub name: String,
    pub password: Option<String>,
    pub login_type: String,
    pub status: UserStatus,
    pub roles: Vec<Role>,
    pub organizations: Vec<Uuid>,
    pub created: Time,
    pub last_seen: Option<Time>,
}

/// A session or a token.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// The token's first part.
    pub id: String,
    /// Its second.
    pub secret: String,
    pub user: Uuid,
    /// Given by whoever made it; empty for sessions.
    pub name: String,
    pub created: Time,
    pub expires: Time,
    pub last_used: Time,
}

#[derive(Debug, Clone)]
pub(super) struct Organization {
    pub id: Uuid,
    pub name: String,
}

/// Where a provisioner's job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobStatus {
    Pending,
    Running,
    Succeeded,
    Canceling,
    Canceled,
    Failed,
}

impl JobStatus {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Canceling => "canceling",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
        }
    }

    pub const fn is_active(self) -> bool {
        matches!(self, Self::Pending | Self::Running | Self::Canceling)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transition {
    Start,
    Stop,
    Delete,
}

impl Transition {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Delete => "delete",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Job {
    pub id: Uuid,
    pub status: JobStatus,
    pub created: Time,
    pub started: Option<Time>,
    pub completed: Option<Time>,
    pub canceled: Option<Time>,
    /// How it ends, if it is left alone: with this error, or well.
    pub failure: Option<String>,
    /// How long it runs.
    pub takes_ns: u64,
}

/// One build of a workspace.
#[derive(Debug, Clone)]
pub(super) struct Build {
    pub id: Uuid,
    /// For the ids of its log lines.
    pub serial: u64,
    pub number: u32,
    pub workspace: Uuid,
    pub transition: Transition,
    pub initiator: Uuid,
    pub reason: String,
    pub parameters: Values,
    pub job: Job,
    /// Resource by resource; made when a start succeeds.
    pub resources: Vec<(Uuid, Vec<Uuid>)>,
}

impl Build {
    /// The workspace's status while this build is its last.
    pub const fn status(&self) -> &'static str {
        match (self.job.status, self.transition) {
            (JobStatus::Pending, _) => "pending",
            (JobStatus::Running, Transition::Start) => "starting",
            (JobStatus::Running, Transition::Stop) => "stopping",
            (JobStatus::Running, Transition::Delete) => "deleting",
            (JobStatus::Succeeded, Transition::Start) => "running",
            (JobStatus::Succeeded, Transition::Stop) => "stopped",
            (JobStatus::Succeeded, Transition::Delete) => "deleted",
            (JobStatus::Canceling, _) => "canceling",
            (JobStatus::Canceled, _) => "canceled",
            (JobStatus::Failed, _) => "failed",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Workspace {
    pub id: Uuid,
    pub name: String,
    pub owner: Uuid,
    pub organization: Uuid,
    pub template: Uuid,
    pub created: Time,
    pub last_used: Time,
    pub automatic_updates: String,
    pub autostart_schedule: Option<String>,
    pub ttl_ms: Option<i64>,
    pub deleted: bool,
    /// Oldest first; never empty.
    pub builds: Vec<Uuid>,
}

impl Workspace {
    pub fn last_build(&self) -> Uuid {
        *self.builds.last().expect("a workspace begins with a build")
    }
}

/// A workspace's agent; its status follows from its times.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub id: Uuid,
    pub name: String,
    pub parent: Option<Uuid>,
    pub build: Uuid,
    pub resource: Uuid,
    pub workspace: Uuid,
    pub created: Time,
    /// `Time::NEVER`: it never connects.
    pub connects: Time,
    pub ready: Time,
    /// `Time::NEVER`: it stays.
    pub lost: Time,
}

impl Agent {
    /// An agent that has not connected by then is `timeout`.
    pub const CONNECTION_TIMEOUT_NS: u64 = 120_000_000_000;
    /// One that is gone reads `connected` for as long.
    pub const INACTIVE_NS: u64 = 30_000_000_000;

    pub fn status(&self, now: Time) -> &'static str {
        if now >= self.lost.plus_ns(Self::INACTIVE_NS) {
            "disconnected"
        } else if now >= self.connects {
            "connected"
        } else if now >= self.created.plus_ns(Self::CONNECTION_TIMEOUT_NS) {
            "timeout"
        } else {
            "connecting"
        }
    }

    pub fn lifecycle(&self, now: Time) -> &'static str {
        if now >= self.ready && self.ready < self.lost {
            "ready"
        } else if now >= self.connects {
            "starting"
        } else {
            "created"
        }
    }

    /// Whether a dial gets through, whatever the status says.
    pub fn is_there(&self, now: Time) -> bool {
        now >= self.connects && now < self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(connects: Time, lost: Time) -> Agent {
        let id = Uuid::nil();
        Agent {
            id,
            name: "main".to_owned(),
            parent: None,
            build: id,
            resource: id,
            workspace: id,
            created: Time::ZERO,
            connects,
            ready: connects.plus_ns(1),
            lost,
        }
    }

    #[test]
    fn a_dead_agent_reads_connected_for_thirty_seconds_more() {
        let second = |s: u64| Time::from_ns(s * 1_000_000_000);
        let lost = agent(second(1), second(10));
        assert_eq!(
            [0, 1, 10, 39, 40].map(|s| lost.status(second(s))),
            ["connecting", "connected", "connected", "connected", "disconnected"]
        );
        assert_eq!([0, 1, 9, 10].map(|s| lost.is_there(second(s))), [false, true, true, false]);
        let never = agent(Time::NEVER, Time::NEVER);
        assert_eq!([119, 120].map(|s| never.status(second(s))), ["connecting", "timeout"]);
        assert_eq!(never.lifecycle(second(500)), "created");
    }
}
