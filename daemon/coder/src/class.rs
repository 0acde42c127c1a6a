//! Failure classes: what went wrong with one user or workspace, bounded in number, one sentence each.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! classes {
    ($($variant:ident $name:literal $sentence:literal)*) => {
        /// Why a thing failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Class {
            $(#[doc = $sentence] $variant,)*
        }

        impl Class {
            /// Every class.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// Its name in reports and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it means and what to do, as one sentence.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }
        }
    };
}

classes! {
    Unreachable "unreachable"
        "the server could not be reached or broke off; look at the network between, the balancer and the server's health"
    RequestTimeout "request_timeout"
        "a request had no answer in time; the API is overloaded or something between swallows it"
    RateLimited "rate_limited"
        "the server's rate limiter refused to the end; set CODER_DANGEROUS_DISABLE_RATE_LIMITS=true on the server or lower --concurrency"
    ServerError "server_error"
        "the server answered 5xx to the end; its log at this time says why"
    NotCoder "not_coder"
        "the answer is no JSON of Coder's API; give the deployment's access URL, without a path"
    Unauthorized "unauthorized"
        "the token is not valid (any more); make one with `coder tokens create --lifetime 24h`"
    Forbidden "forbidden"
        "the token's user may not do this; use a token of a user with the role owner"
    NotFound "not_found"
        "it is not there, or the token's user may not see it"
    NameTaken "name_taken"
        "the name belongs to something else already; clean up what bears it"
    Rejected "rejected"
        "the server refused the request as invalid; its message says which part"
    UserOwnsWorkspaces "user_owns_workspaces"
        "the user still owns workspaces, so that it cannot be deleted; delete those first"
    QueueTimeout "queue_timeout"
        "no provisioner took the build in time; add provisioners or raise --job-timeout"
    BuildTimeout "build_timeout"
        "the build did not end in time; look at the build's log or raise --job-timeout"
    BuildFailed "build_failed"
        "the build failed; its log in the dashboard says why"
    BuildCanceled "build_canceled"
        "the build was canceled, not by this run"
    NoAgent "no_agent"
        "the template gave the workspace no agent, so that nothing can connect to it"
    AgentTimeout "agent_timeout"
        "the agent never connected in time; look at the workspace's own log and its way to the access URL"
    AgentLost "agent_lost"
        "the agent had connected and was lost; look at the node that the workspace runs on"
    AgentStart "agent_start"
        "the agent connected but its start-up script did not end in time"
    TerminalRefused "terminal_refused"
        "the server refused the web terminal; its status and message say why"
    AgentUnreachable "agent_unreachable"
        "the server could not reach the workspace's agent; look at the agent's log and at the network between the two"
    TerminalSilent "terminal_silent"
        "nothing came of the web terminal; look at the workspace's node, its agent may be overloaded, and at the server's health"
    TerminalLost "terminal_lost"
        "the web terminal ended before its command did; look at the server's health and the balancer's idle timeout"
    CommandTimeout "command_timeout"
        "the command did not end in time; raise --run-timeout or look at what it waits for"
    CommandOutput "command_output"
        "the command ended, and what it printed is not what --run-expect-output asks for"
    Unsettled "unsettled"
        "its create had no answer and may still come true at the server, the time was up before that could be ruled out; clean up again, or raise --timeout"
    Ledger "ledger"
        "the ledger could not be written, so nothing more was made; look at the disk that holds the state folder"
    Stopped "stopped"
        "it was stopped before it was done"
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One failure: its class and what was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Its class.
    pub class: Class,
    /// What was seen, as a sentence: request, status, the server's words.
    pub message: String,
}

impl Failure {
    /// A failure of `class` that needs no words beyond the class's own.
    pub fn of(class: Class) -> Self {
        Self { class, message: class.sentence().to_owned() }
    }

    /// A failure of `class` with what was seen, followed by what the class means.
    pub fn seen(class: Class, seen: impl fmt::Display) -> Self {
        Self { class, message: format!("{seen}: {}", class.sentence()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_labels_and_sentences_are_one_line() {
        let names: BTreeSet<_> = Class::ALL.iter().map(|class| class.name()).collect();
        assert_eq!(names.len(), Class::ALL.len());
        for class in Class::ALL {
            assert!(class.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
            assert!(class.sentence().len() > 20 && !class.sentence().contains('\n'), "{class}");
        }
    }
}
