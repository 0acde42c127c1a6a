//! What may be hit from this host: `targets.toml` beside the daemon's configuration. Without it,
//! only loopback. Checked after names are resolved, and on each new resolution. It may also pin Coder
//! deployments by their ids, and say what is allowed there.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;

/// The list.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    file: Option<PathBuf>,
    rules: Vec<Rule>,
    coder: Vec<Pin>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    #[serde(default)]
    target: Vec<Rule>,
    #[serde(default)]
    coder: Vec<Pin>,
}

/// A Coder deployment that may be used. Where there is any such entry, others may not.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    /// What its `/api/v2/buildinfo` says it is.
    deployment_id: String,
    /// What may be done there.
    allow: Vec<Action>,
}

/// What is done with a Coder deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Users and workspaces are made.
    Create,
    /// Terminals and apps are used.
    Traffic,
    /// Users and workspaces are deleted.
    Delete,
}

impl Action {
    /// As in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Traffic => "traffic",
            Self::Delete => "delete",
        }
    }
}

/// One entry: a host name (as in the URL) with the addresses that it may have, or addresses alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// Only for URLs with this host; absent: for any.
    host: Option<String>,
    /// Addresses allowed.
    addresses: Vec<IpNet>,
    /// Ports allowed; empty: all.
    #[serde(default)]
    ports: Vec<u16>,
    /// Streams allowed.
    streams_max: Option<u64>,
}

impl Rule {
    fn allows(&self, host: &str, address: SocketAddr) -> bool {
        self.host.as_deref().is_none_or(|name| is_named(name, host))
            && self.addresses.iter().any(|net| net.contains(&address.ip()))
            && (self.ports.is_empty() || self.ports.contains(&address.port()))
    }

    fn text(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let mut text = format!("{} at {}", self.host.as_deref().unwrap_or("any host"), addresses.join(", "));
        if !self.ports.is_empty() {
            let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
            text += &format!(", ports {}", ports.join(", "));
        }
        if let Some(streams) = self.streams_max {
            text += &format!(", at most {streams} streams");
        }
        text
    }
}

/// Whether `name`, which may begin with `*.`, means `host`.
fn is_named(name: &str, host: &str) -> bool {
    let Some(parent) = name.strip_prefix('*').filter(|rest| rest.starts_with('.')) else {
        return name.eq_ignore_ascii_case(host);
    };
    let Some((first, rest)) = host.split_at_checked(host.len().saturating_sub(parent.len())) else {
        return false;
    };
    !first.is_empty() && rest.eq_ignore_ascii_case(parent)
}

impl Targets {
    /// Reads the list at `path`; absent is fine.
    ///
    /// # Errors
    /// The file cannot be read or is not such a list.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        let form: FileForm = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { file: Some(path.to_owned()), rules: form.target, coder: form.coder })
    }

    /// A list's text alone.
    ///
    /// # Errors
    /// It is no such list.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form: FileForm = toml::from_str(text).map_err(|error| error.to_string())?;
        Ok(Self { file: None, rules: form.target, coder: form.coder })
    }

    /// The rule that decides about `address`, by its place in the list.
    pub fn rule(&self, host: &str, address: SocketAddr) -> Option<usize> {
        self.rules.iter().position(|rule| rule.allows(host, address))
    }

    /// Whether `streams` streams to `host` at `address` are allowed.
    ///
    /// # Errors
    /// A sentence that names the target and the lines that would allow it.
    pub fn check(&self, host: &str, address: SocketAddr, streams: u64) -> Result<(), String> {
        let ip = address.ip();
        let never = ip.is_unspecified()
            || ip.is_multicast()
            || matches!(ip, IpAddr::V4(v4) if v4.is_broadcast() || v4.is_link_local());
        if never {
            return Err(format!(
                "{host} is {ip}, which is never hit (unspecified, link-local, multicast or broadcast)"
            ));
        }
        let fits = |rule: &&Rule| rule.allows(host, address);
        let allowed = match &self.file {
            None => ip.is_loopback(),
            Some(_) => match self.rules.iter().find(fits) {
                Some(rule) => {
                    if let Some(most) = rule.streams_max.filter(|&most| streams > most) {
                        return Err(format!(
                            "{host} ({address}) may carry {most} streams from here, {streams} were asked for in all; lower --conns or raise streams_max"
                        ));
                    }
                    true
                }
                None => false,
            },
        };
        if allowed {
            return Ok(());
        }
        let file = self.file.clone().unwrap_or_else(|| "/etc/scaled/targets.toml".into());
        let nearest = self.rules.first().map_or("only loopback is allowed".into(), |rule| {
            format!("the nearest allowed one is {}", rule.text())
        });
        let bits = if ip.is_ipv6() { 128 } else { 32 };
        Err(format!(
            "{host} ({address}) is not on this host's list; {nearest}. To allow it, add to {}:\n\n[[target]]\nhost = \"{host}\"\naddresses = [\"{ip}/{bits}\"]\nports = [{}]\n",
            file.display(),
            address.port()
        ))
    }

    /// Whether `actions` are allowed on the Coder deployment of that id.
    ///
    /// # Errors
    /// A sentence with the lines that would allow them.
    pub fn check_deployment(&self, host: &str, id: Option<&str>, actions: &[Action]) -> Result<(), String> {
        if self.coder.is_empty() {
            return Ok(());
        }
        let file = self.file.as_deref().unwrap_or(Path::new("targets.toml")).display();
        let Some(id) = id else {
            return Err(format!(
                "{file} pins Coder deployments by their ids, and {host} is too old to tell its own; take the [[coder]] entries out to use it"
            ));
        };
        let pin = self.coder.iter().find(|pin| pin.deployment_id.eq_ignore_ascii_case(id));
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

    /// For `scalectl targets`.
    pub fn summary(&self) -> scale_api::http::Targets {
        let mut rules = match &self.file {
            None => vec!["loopback only: 127.0.0.0/8 and ::1".to_owned()],
            Some(_) => self.rules.iter().map(Rule::text).collect::<Vec<_>>(),
        };
        rules.extend(self.coder.iter().map(|pin| {
            let allowed: Vec<_> = pin.allow.iter().map(|action| action.name()).collect();
            format!("Coder deployment {}: {}", pin.deployment_id, allowed.join(", "))
        }));
        scale_api::http::Targets { file: self.file.as_ref().map(|path| path.display().to_string()), rules }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_list_only_loopback_is_allowed_and_the_refusal_says_the_lines() {
        let targets = Targets::default();
        assert!(targets.check("localhost", "127.0.0.1:9000".parse().unwrap(), 5).is_ok());
        assert!(targets.check("localhost", "[::1]:9000".parse().unwrap(), 5).is_ok());
        let error = targets.check("gw.example.com", "10.1.2.3:443".parse().unwrap(), 5).unwrap_err();
        assert!(
            error.contains("host = \"gw.example.com\"")
                && error.contains("\"10.1.2.3/32\"")
                && error.contains("[443]")
        );
        assert!(targets.check("x", "0.0.0.0:1".parse().unwrap(), 1).is_err());
    }

    #[test]
    fn a_rule_is_a_name_with_its_addresses_ports_and_cap() {
        let text =
            "[[target]]\nhost = \"gw\"\naddresses = [\"10.0.0.0/8\"]\nports = [443]\nstreams_max = 100\n";
        let form: FileForm = toml::from_str(text).unwrap();
        let targets = Targets { file: Some("t".into()), rules: form.target, coder: form.coder };
        let allowed = |host: &str, address: &str, streams| {
            targets.check(host, address.parse().unwrap(), streams).is_ok()
        };
        assert!(allowed("gw", "10.9.9.9:443", 100));
        assert!(!allowed("gw", "10.9.9.9:443", 101) && !allowed("gw", "10.9.9.9:80", 1));
        assert!(
            !allowed("x.gw", "10.9.9.9:443", 1)
                && !allowed("other", "10.9.9.9:443", 1)
                && !allowed("gw", "11.0.0.1:443", 1)
                && !allowed("l", "127.0.0.1:1", 1)
        );
    }

    #[test]
    fn a_rule_may_be_for_all_names_below_one() {
        for (host, is_named) in [
            ("a.apps.example.com", true),
            ("wsec--main--w--u.Apps.example.com", true),
            (".apps.example.com", false),
            ("apps.example.com", false),
            ("example.com", false),
            ("a.apps.example.com.evil", false),
            ("é", false),
        ] {
            assert_eq!(super::is_named("*.apps.example.com", host), is_named, "{host}");
        }
        assert!(!super::is_named("*", "a"));
    }

    #[test]
    fn a_pinned_deployment_may_be_used_as_its_entry_says_and_others_not_at_all() {
        let text = "[[coder]]\ndeployment_id = \"aa-1\"\nallow = [\"create\"]\n";
        let form: FileForm = toml::from_str(text).unwrap();
        let targets = Targets { file: Some("t.toml".into()), rules: form.target, coder: form.coder };
        let check = |id, actions: &[Action]| targets.check_deployment("c.example.com", id, actions);
        assert_eq!(check(Some("AA-1"), &[Action::Create]), Ok(()));
        let both = check(Some("aa-1"), &[Action::Create, Action::Delete]).unwrap_err();
        assert!(both.contains("to delete") && both.contains("allow = [\"create\", \"delete\"]"), "{both}");
        let other = check(Some("bb-2"), &[Action::Delete]).unwrap_err();
        assert!(other.contains("deployment_id = \"bb-2\"\nallow = [\"delete\"]"), "{other}");
        assert!(check(None, &[Action::Create]).unwrap_err().contains("too old"));
        assert_eq!(Targets::default().check_deployment("c", None, &[Action::Delete]), Ok(()));
    }
}
