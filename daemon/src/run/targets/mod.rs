//! What may be hit from this host: `targets.toml` beside the daemon's configuration, which only root or the daemon's
//! own user can have written. Without it, only loopback.
//!
//! - [`list`]: the file, its rules and their words.
//! - [`never`]: addresses that no list allows, and what an address really is.
//! - [`caller`]: who asks.
//! - [`tally`]: what a run takes of each rule's caps, all groups and stages together.
//!
//! Holds always: nobody asks the list itself whether an address may be hit, but a [`Permit`], which knows for whom;
//! and an address is asked for after it was resolved, in the form in which it is connected to.

mod caller;
mod list;
mod never;
mod tally;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use scale_api::http::{Problem, ProblemCode};
use scale_api::report::StartedBy;

pub use caller::Caller;
use list::List;
pub use list::{Action, Caps};
pub use never::canonical;
pub use tally::{Demand, Tally};

use super::plan::Plan;

/// The list, as the daemon has it.
#[derive(Debug, Clone)]
pub struct Targets(Arc<List>);

/// What one caller may hit.
#[derive(Debug, Clone)]
pub struct Permit {
    list: Arc<List>,
    /// `None`: the daemon itself, for what it owes after a restart.
    caller: Option<Caller>,
    by: Option<StartedBy>,
    /// What of the caps somebody else takes.
    reserved: Caps,
}

impl Default for Targets {
    /// Without a list: loopback, for everybody.
    fn default() -> Self {
        Self(Arc::new(List::loopback()))
    }
}

impl Default for Permit {
    fn default() -> Self {
        Targets::default().own()
    }
}

impl Targets {
    /// Reads the list at `path`; absent is fine.
    ///
    /// # Errors
    /// The file cannot be read, others may have written it, or it is not such a list; the sentence says the cure.
    pub fn read(path: &Path) -> Result<Self, String> {
        List::read(path).map(|list| Self(Arc::new(list)))
    }

    /// A list from its text alone, as root's.
    ///
    /// # Errors
    /// It is no such list; the sentence says the cure.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (users, groups) = (caller::Accounts::users(), caller::Accounts::groups());
        List::parse(Path::new("targets.toml"), text, 0, &users, &groups).map(|list| Self(Arc::new(list)))
    }

    /// What `caller` may hit.
    pub fn permit(&self, caller: Caller) -> Permit {
        let by = Some(caller.started_by());
        Permit { list: self.0.clone(), caller: Some(caller), by, reserved: Caps::default() }
    }

    /// What this daemon may hit for itself.
    pub fn own(&self) -> Permit {
        Permit { list: self.0.clone(), caller: None, by: None, reserved: Caps::default() }
    }

    /// Whether a plan that was made under another list could be made under this one: for the run that goes when a list
    /// is read again.
    ///
    /// # Errors
    /// The first target that is not allowed any more, or whose caps are too low now.
    pub fn still_allows(&self, plan: &Plan) -> Result<(), String> {
        plan.permit.under(self).all(plan).map(drop)
    }

    /// For `scalectl targets`, as `caller` sees it while `plan` goes.
    pub fn summary(&self, caller: Option<&Caller>, plan: Option<&Plan>) -> scale_api::http::Targets {
        let list = &self.0;
        let used = plan.map(|plan| Tally::of(&plan.permit.under(self), plan)).unwrap_or_default();
        let rules = list.rules.iter().enumerate().map(|(index, rule)| scale_api::http::TargetRule {
            allowed: list.lets(rule, caller),
            used: used.takes(index),
            ..rule.wire()
        });
        let mut words = match list.file {
            None => vec!["loopback only: 127.0.0.0/8 and ::1".to_owned()],
            Some(_) => list.rules.iter().map(list::Rule::text).collect(),
        };
        words.extend(list.coder.iter().map(|pin| {
            let allowed: Vec<_> = pin.allow.iter().map(|action| action.name()).collect();
            format!("Coder deployment {}: {}", pin.deployment_id, allowed.join(", "))
        }));
        scale_api::http::Targets {
            file: list.file.as_ref().map(|path| path.display().to_string()),
            rules: words,
            list: rules.collect(),
            coder: list.coder.iter().map(list::Pin::wire).collect(),
            caller: caller.map(Caller::started_by),
        }
    }
}

impl Permit {
    /// Who asks, for a report; `None`: the daemon itself.
    pub fn started_by(&self) -> Option<StartedBy> {
        self.by.clone()
    }

    /// The rule by which `host` at `address`, which is [`canonical`], may be hit: its place in the list.
    ///
    /// # Errors
    /// A sentence that names the target and the lines that would allow it.
    pub fn rule(&self, host: &str, address: SocketAddr) -> Result<usize, String> {
        let ip = address.ip();
        if let Some(why) = never::why_never(address) {
            return Err(format!("{host} is {ip}, which is never hit ({why})"));
        }
        let about = |rule: &&list::Rule| rule.is_about(host, address);
        let lets = |rule: &list::Rule| about(&rule) && self.list.lets(rule, self.caller.as_ref());
        if let Some(rule) = self.list.rules.iter().position(lets) {
            return Ok(rule);
        }
        let path = self.list.path().display();
        if let Some(whom) = self.list.rules.iter().find(about).and_then(list::Rule::whom) {
            let caller = self.by.as_ref().map_or_else(String::new, |by| match &by.user {
                Some(user) => format!("{user} (uid {})", by.uid),
                None => format!("uid {}", by.uid),
            });
            return Err(format!(
                "{host} ({address}) is for {whom}, and you are {caller}; ask who keeps {path} for an entry in its users or groups"
            ));
        }
        let nearest = match &self.list.file {
            None => "only loopback is allowed".to_owned(),
            Some(_) => self.list.rules.first().map_or_else(
                || "the list allows nothing".to_owned(),
                |rule| format!("the nearest allowed one is {}", rule.text()),
            ),
        };
        let bits = if ip.is_ipv6() { 128 } else { 32 };
        Err(format!(
            "{host} ({address}) is not on this host's list; {nearest}. To allow it, add to {path}:\n\n[[target]]\nhost = \"{host}\"\naddresses = [\"{ip}/{bits}\"]\nports = [{}]\n",
            address.port()
        ))
    }

    /// The rules that each place of a plan falls under.
    ///
    /// # Errors
    /// An address that may not be hit; a cap that is passed.
    pub fn all(&self, plan: &Plan) -> Result<Vec<Vec<usize>>, String> {
        let mut tally = Tally::default();
        let places = plan.places.iter().zip(plan.addresses.iter());
        places.map(|(place, addresses)| tally.add(self, place, addresses)).collect()
    }

    /// The same caller under another list.
    #[must_use]
    pub fn under(&self, targets: &Targets) -> Self {
        Self { list: targets.0.clone(), ..self.clone() }
    }

    /// The same, for a run of somebody who is not there any more.
    #[must_use]
    pub fn in_the_name_of(self, by: Option<StartedBy>) -> Self {
        Self { by, ..self }
    }

    /// The same, where somebody else takes that much of each cap.
    #[must_use]
    pub fn beside(self, reserved: Caps) -> Self {
        Self { reserved, ..self }
    }

    /// The caps of a rule.
    pub(super) fn caps(&self, rule: usize) -> Caps {
        let less = |cap: Option<u64>, by: Option<u64>| cap.map(|cap| cap.saturating_sub(by.unwrap_or(0)));
        let (caps, by) = (self.list.rules[rule].caps, self.reserved);
        Caps {
            streams: less(caps.streams, by.streams),
            connects_milli: less(caps.connects_milli, by.connects_milli),
            bytes_per_second: less(caps.bytes_per_second, by.bytes_per_second),
        }
    }

    /// Whether one connection to `host` at `address` is allowed.
    ///
    /// # Errors
    /// As [`Self::rule`].
    pub fn check(&self, host: &str, address: SocketAddr) -> Result<(), Problem> {
        self.rule(host, address).map(drop).map_err(refused)
    }

    /// Whether `actions` are allowed on the Coder deployment of that id.
    ///
    /// # Errors
    /// A sentence with the lines that would allow them.
    pub fn check_deployment(&self, host: &str, id: Option<&str>, actions: &[Action]) -> Result<(), String> {
        if self.list.coder.is_empty() {
            return Ok(());
        }
        let file = self.list.path().display();
        let Some(id) = id else {
            return Err(format!(
                "{file} pins Coder deployments by their ids, and {host} is too old to tell its own; take the [[coder]] entries out to use it"
            ));
        };
        let pin = self.list.coder.iter().find(|pin| pin.deployment_id.eq_ignore_ascii_case(id));
        let allowed = pin.map_or(&[][..], |pin| &pin.allow);
        let missing = actions.iter().find(|action| !allowed.contains(action));
        let Some(missing) = missing else { return Ok(()) };
        let (what, cure) = match pin {
            None => ("is none of the Coder deployments of this host's list".to_owned(), "add"),
            Some(_) => {
                (format!("may not be used to {} from this host", missing.name()), "change its entry in")
            }
        };
        let mut words: Vec<Action> = allowed.to_vec();
        words.extend(actions.iter().filter(|action| !allowed.contains(action)));
        let words: Vec<String> = words.iter().map(|action| format!("\"{}\"", action.name())).collect();
        let cure = if pin.is_none() { format!("{cure} to {file}") } else { format!("{cure} {file} to") };
        Err(format!(
            "{host} (deployment {id}) {what}. To allow it, {cure}:\n\n[[coder]]\ndeployment_id = \"{id}\"\nallow = [{}]\n",
            words.join(", ")
        ))
    }
}

/// A refusal of the list's.
pub fn refused(why: String) -> Problem {
    Problem::new(ProblemCode::TargetRefused, why)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::caller::Accounts;
    use super::*;

    /// A list of that text, in which alice is 1001 and perf is 2001.
    pub fn targets(text: &str) -> Targets {
        let (users, groups) = (Accounts::of("alice:x:1001:1001::/:\n"), Accounts::of("perf:x:2001:\n"));
        Targets(Arc::new(List::parse(Path::new("t.toml"), text, 0, &users, &groups).expect("a list")))
    }

    /// Somebody.
    pub fn caller(uid: u32) -> Caller {
        Caller { pid: 7, uid, gid: uid, groups: [].into() }
    }

    fn rule(permit: &Permit, host: &str, address: &str) -> Result<usize, String> {
        permit.rule(host, canonical(address.parse().unwrap()))
    }

    #[test]
    fn without_a_list_only_loopback_is_allowed_and_the_refusal_says_the_lines() {
        let permit = Targets::default().permit(caller(1001));
        assert_eq!(rule(&permit, "localhost", "127.0.0.1:9000"), Ok(0));
        assert_eq!(rule(&permit, "localhost", "[::1]:9000"), Ok(0));
        assert_eq!(rule(&permit, "x", "[::ffff:127.0.0.1]:9000"), Ok(0), "it is 127.0.0.1");
        let error = rule(&permit, "gw.example.com", "10.1.2.3:443").unwrap_err();
        assert!(
            error.contains("host = \"gw.example.com\"")
                && error.contains("\"10.1.2.3/32\"")
                && error.contains("[443]")
        );
        assert!(rule(&permit, "x", "0.0.0.0:1").unwrap_err().contains("never"));
    }

    #[test]
    fn the_lines_of_a_refusal_allow_what_was_refused() {
        for (host, address) in
            [("gw.example.com", "10.1.2.3:443"), ("::1", "[::1]:9"), ("10.0.0.1", "10.0.0.1:9")]
        {
            let none = targets("[[target]]\naddresses = [\"192.0.2.1/32\"]\n");
            let error = rule(&none.own(), host, address).unwrap_err();
            let (_, lines) = error.split_once("\n\n").unwrap();
            let mended = Targets::parse(lines).unwrap();
            assert_eq!(rule(&mended.own(), host, address), Ok(0), "{lines}");
            assert!(
                rule(&mended.own(), "x", address).is_err()
                    && rule(&mended.own(), host, "10.0.0.2:9").is_err()
            );
        }
    }

    #[test]
    fn a_rule_is_a_name_with_its_addresses_and_ports() {
        let targets = targets("[[target]]\nhost = \"gw\"\naddresses = [\"10.0.0.0/8\"]\nports = [443]\n");
        let allowed = |host: &str, address: &str| rule(&targets.own(), host, address).is_ok();
        assert!(allowed("gw", "10.9.9.9:443") && allowed("GW.", "10.9.9.9:443"));
        assert!(allowed("gw", "[::ffff:10.9.9.9]:443"), "it is 10.9.9.9");
        assert!(
            !allowed("gw", "10.9.9.9:80")
                && !allowed("x.gw", "10.9.9.9:443")
                && !allowed("other", "10.9.9.9:443")
                && !allowed("gw", "11.0.0.1:443")
                && !allowed("gw", "[64:ff9b::10.9.9.9]:443")
                && !allowed("l", "127.0.0.1:1")
        );
    }

    #[test]
    fn no_list_allows_what_is_never_hit() {
        let targets = targets("[[target]]\naddresses = [\"0.0.0.0/0\", \"::/0\"]\n");
        for address in [
            "169.254.169.254:80",
            "[::ffff:a9fe:a9fe]:80",
            "[fe80::1]:80",
            "[64:ff9b::a9fe:a9fe]:80",
            "0.0.0.0:80",
            "224.0.0.1:80",
            "100.100.100.200:80",
        ] {
            assert!(rule(&targets.own(), "x", address).unwrap_err().contains("never"), "{address}");
        }
        assert!(rule(&targets.own(), "x", "8.8.8.8:80").is_ok());
    }

    #[test]
    fn a_rule_for_some_is_not_for_others_who_are_told_whom_to_ask() {
        let text = "[[target]]\nhost = \"gw\"\naddresses = [\"10.0.0.0/8\"]\nusers = [\"alice\"]\nstreams_max = 5\n[[target]]\naddresses = [\"10.0.0.1/32\"]\ngroups = [\"perf\"]\n";
        let targets = targets(text);
        let asks = |uid| rule(&targets.permit(caller(uid)), "gw", "10.0.0.1:80");
        assert_eq!(asks(1001), Ok(0));
        assert_eq!(asks(2001), Ok(1), "the first rule that is for the caller decides");
        let error = asks(1002).unwrap_err();
        assert!(
            error.contains("for users alice") && error.contains("uid 1002") && error.contains("t.toml"),
            "{error}"
        );
        assert_eq!(asks(0), Ok(0));
        let seen = targets.summary(Some(&caller(2001)), None);
        assert_eq!(seen.list.iter().map(|rule| rule.allowed).collect::<Vec<_>>(), [false, true]);
        assert_eq!(seen.caller.map(|caller| caller.uid), Some(2001));
    }

    #[test]
    fn a_pinned_deployment_may_be_used_as_its_entry_says_and_others_not_at_all() {
        let permit = targets("[[coder]]\ndeployment_id = \"aa-1\"\nallow = [\"create\"]\n").own();
        let check = |id, actions: &[Action]| permit.check_deployment("c.example.com", id, actions);
        assert_eq!(check(Some("AA-1"), &[Action::Create]), Ok(()));
        let both = check(Some("aa-1"), &[Action::Create, Action::Delete]).unwrap_err();
        assert!(both.contains("to delete") && both.contains("allow = [\"create\", \"delete\"]"), "{both}");
        let other = check(Some("bb-2"), &[Action::Delete]).unwrap_err();
        assert!(other.contains("deployment_id = \"bb-2\"\nallow = [\"delete\"]"), "{other}");
        assert!(check(None, &[Action::Create]).unwrap_err().contains("too old"));
        assert_eq!(Permit::default().check_deployment("c", None, &[Action::Delete]), Ok(()));
    }
}
