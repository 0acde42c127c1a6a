//! What may be hit from this host: `targets.toml` beside the daemon's configuration. Without it,
//! only loopback. Checked after names are resolved, and on each new resolution.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;

/// The list.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    file: Option<PathBuf>,
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    #[serde(default)]
    target: Vec<Rule>,
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
        self.host.as_deref().is_none_or(|name| name.eq_ignore_ascii_case(host))
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
        Ok(Self { file: Some(path.to_owned()), rules: form.target })
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

    /// For `scalectl targets`.
    pub fn summary(&self) -> scale_api::http::Targets {
        let rules = match &self.file {
            None => vec!["loopback only: 127.0.0.0/8 and ::1".to_owned()],
            Some(_) => self.rules.iter().map(Rule::text).collect(),
        };
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
        let targets = Targets { file: Some("t".into()), rules: form.target };
        let allowed = |host: &str, address: &str, streams| {
            targets.check(host, address.parse().unwrap(), streams).is_ok()
        };
        assert!(allowed("gw", "10.9.9.9:443", 100));
        assert!(!allowed("gw", "10.9.9.9:443", 101) && !allowed("gw", "10.9.9.9:80", 1));
        assert!(
            !allowed("other", "10.9.9.9:443", 1)
                && !allowed("gw", "11.0.0.1:443", 1)
                && !allowed("l", "127.0.0.1:1", 1)
        );
    }
}
