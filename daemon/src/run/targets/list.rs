//! The list's file: what it says, and who can have written it.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use scale_api::http::{CoderRule, TargetRule};
use scale_api::target::check_host;
use scale_api::units::{PerSecond, Rate, thousands};
use scale_ring::trusted::{self, Untrusted};
use serde::Deserialize;

use super::caller::{Accounts, Caller};
use super::never;

/// The longest list.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Its rules; each address that a plan has is held against all of them.
const RULES_MAX: usize = 1000;
/// Addresses, ports, users or groups of one rule.
const ENTRIES_MAX: usize = 1000;

/// What may be hit from this host, by whom and how much.
#[derive(Debug)]
pub(super) struct List {
    /// `None`: there is no file.
    pub file: Option<PathBuf>,
    pub rules: Vec<Rule>,
    pub coder: Vec<Pin>,
    /// Whose file it is: who can change it may use every rule.
    pub owner: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    #[serde(default)]
    target: Vec<RuleForm>,
    #[serde(default)]
    coder: Vec<Pin>,
}

/// A Coder deployment that may be used. Where there is any such entry, others may not.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pin {
    /// What its `/api/v2/buildinfo` says it is.
    pub deployment_id: String,
    /// What may be done there.
    pub allow: Vec<Action>,
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

/// One entry, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleForm {
    /// Only for URLs with this host; absent: for any.
    host: Option<String>,
    /// Addresses allowed.
    addresses: Vec<IpNet>,
    /// Ports allowed; empty: all.
    #[serde(default)]
    ports: Vec<u16>,
    streams_max: Option<u64>,
    connects_per_second_max: Option<Connects>,
    bytes_per_second_max: Option<Bytes>,
    /// Absent: everybody, unless there are groups; so for groups.
    users: Option<Vec<Account>>,
    groups: Option<Vec<Account>>,
}

/// `500`, or `"500/s"` as in a run file.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Connects {
    Number(u64),
    Text(PerSecond),
}

/// `400000000`, or `"400MB/s"`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Number(u64),
    Text(Rate),
}

/// A name, or a uid or gid.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Account {
    Id(u32),
    Name(String),
}

impl Account {
    fn text(&self) -> String {
        match self {
            Self::Id(id) => id.to_string(),
            Self::Name(name) => name.clone(),
        }
    }

    fn id(&self, accounts: &Accounts, what: &str) -> Result<u32, String> {
        match self {
            Self::Id(id) => Ok(*id),
            Self::Name(name) => accounts.id(name).ok_or_else(|| {
                format!(
                    "there is no {what} `{name}` in /etc/{}; give the number",
                    if what == "user" { "passwd" } else { "group" }
                )
            }),
        }
    }
}

/// One entry: a name with the addresses that it may have, or addresses alone; how much, and by whom.
#[derive(Debug, Default)]
pub(super) struct Rule {
    /// In lower case, without a dot at its end; begins with `*.` for all names below.
    pub host: Option<String>,
    pub addresses: Vec<IpNet>,
    pub ports: Vec<u16>,
    pub caps: Caps,
    /// By number; both empty: everybody.
    users: Vec<u32>,
    groups: Vec<u32>,
    /// As they are written.
    user_names: Vec<String>,
    group_names: Vec<String>,
}

/// The most that all of a run may take of what one rule allows; `None`: as much as it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// Streams.
    pub streams: Option<u64>,
    /// New connections, in thousandths a second.
    pub connects_milli: Option<u64>,
    /// Payload bytes a second, each way.
    pub bytes_per_second: Option<u64>,
}

impl List {
    /// Without a file: loopback, for everybody.
    pub(super) fn loopback() -> Self {
        let net = |ip: IpAddr, bits| IpNet::new(ip, bits).expect("constant prefixes are valid");
        let addresses =
            vec![net(Ipv4Addr::new(127, 0, 0, 0).into(), 8), net(Ipv6Addr::LOCALHOST.into(), 128)];
        Self { file: None, rules: vec![Rule { addresses, ..Rule::default() }], coder: Vec::new(), owner: 0 }
    }

    /// Reads the list at `path`, which root or this daemon's own user has written and nobody else; absent is fine.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let (file, metadata) = match trusted::open(path, scale_ring::host::effective_uid()) {
            Ok(opened) => opened,
            Err(Untrusted::Absent(_)) => return Ok(Self::loopback()),
            Err(why) => return Err(format!("the list of targets is not to be believed: {why}")),
        };
        let mut text = String::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
        read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("{} is larger than 1MiB, which a list of targets is not", path.display()));
        }
        let owner = std::os::unix::fs::MetadataExt::uid(&metadata);
        Self::parse(path, &text, owner, &Accounts::users(), &Accounts::groups())
    }

    /// A list from its text.
    pub(super) fn parse(
        path: &Path,
        text: &str,
        owner: u32,
        users: &Accounts,
        groups: &Accounts,
    ) -> Result<Self, String> {
        let wrong = |why: String| format!("{}: {why}", path.display());
        let form: FileForm = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if form.target.len() > RULES_MAX {
            return Err(wrong(format!("at most {RULES_MAX} [[target]] entries are looked at")));
        }
        let rule = |(number, form): (usize, RuleForm)| {
            Rule::new(form, users, groups).map_err(|why| wrong(format!("[[target]] {}: {why}", number + 1)))
        };
        let rules = form.target.into_iter().enumerate().map(rule).collect::<Result<_, _>>()?;
        Ok(Self { file: Some(path.to_owned()), rules, coder: form.coder, owner })
    }

    /// Its file, for a person who is to change it.
    pub(super) fn path(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new("/etc/scaled/targets.toml"))
    }

    /// Whether `caller` may use `rule`; `None` is this daemon itself.
    pub(super) fn lets(&self, rule: &Rule, caller: Option<&Caller>) -> bool {
        let Some(caller) = caller else { return true };
        (rule.users.is_empty() && rule.groups.is_empty())
            || [0, self.owner].contains(&caller.uid)
            || rule.users.contains(&caller.uid)
            || rule.groups.iter().any(|&gid| caller.is_of(gid))
    }
}

impl Rule {
    fn new(form: RuleForm, users: &Accounts, groups: &Accounts) -> Result<Self, String> {
        let RuleForm { host, addresses, ports, .. } = form;
        let host = host.map(|host| host.trim_end_matches('.').to_ascii_lowercase());
        if let Some(host) = &host {
            let name = host.strip_prefix("*.").unwrap_or(host);
            let checked = if host.parse::<IpAddr>().is_ok() { Ok(()) } else { check_host(name) };
            checked.map_err(|why| format!("host: {why}; only `*.` at the beginning stands for any name"))?;
        }
        if addresses.is_empty() {
            return Err("addresses is empty; name what the host may resolve to, such as 10.1.0.0/16".into());
        }
        if [&form.users, &form.groups].iter().any(|list| list.as_ref().is_some_and(Vec::is_empty)) {
            return Err("users or groups is empty; take it out for everybody, or the entry for nobody".into());
        }
        let (may, of) = (form.users.unwrap_or_default(), form.groups.unwrap_or_default());
        let lists = [addresses.len(), ports.len(), may.len(), of.len()];
        if lists.iter().any(|&length| length > ENTRIES_MAX) {
            return Err(format!("a list of more than {ENTRIES_MAX} entries; write several [[target]]"));
        }
        for net in &addresses {
            check_net(*net)?;
        }
        if ports.contains(&0) {
            return Err("ports are 1 to 65535".into());
        }
        let connects = form.connects_per_second_max.map(|connects| match connects {
            Connects::Number(number) => number.saturating_mul(1000),
            Connects::Text(per_second) => per_second.milli,
        });
        let bytes = form.bytes_per_second_max.map(|bytes| match bytes {
            Bytes::Number(number) => number,
            Bytes::Text(rate) => rate.0,
        });
        let caps = Caps { streams: form.streams_max, connects_milli: connects, bytes_per_second: bytes };
        if [caps.streams, caps.connects_milli, caps.bytes_per_second].contains(&Some(0)) {
            return Err("a cap of 0 allows nothing; take the whole entry out".into());
        }
        let ids = |of: &[Account], accounts, what| {
            of.iter().map(|account| account.id(accounts, what)).collect::<Result<Vec<u32>, String>>()
        };
        Ok(Self {
            host,
            addresses: addresses.iter().map(IpNet::trunc).collect(),
            ports,
            caps,
            users: ids(&may, users, "user")?,
            groups: ids(&of, groups, "group")?,
            user_names: may.iter().map(Account::text).collect(),
            group_names: of.iter().map(Account::text).collect(),
        })
    }

    /// Whether it is about `host` at `address`, which is canonical.
    pub(super) fn is_about(&self, host: &str, address: SocketAddr) -> bool {
        self.host.as_deref().is_none_or(|name| is_named(name, host))
            && self.addresses.iter().any(|net| net.contains(&address.ip()))
            && (self.ports.is_empty() || self.ports.contains(&address.port()))
    }

    /// Whom it is for, in words; `None`: everybody.
    pub(super) fn whom(&self) -> Option<String> {
        let of = |what: &str, names: &[String]| {
            (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
        };
        let parts = [of("users", &self.user_names), of("groups", &self.group_names)];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(" and "))
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let mut text = format!("{} at {}", self.host.as_deref().unwrap_or("any host"), addresses.join(", "));
        if !self.ports.is_empty() {
            let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
            text += &format!(", ports {}", ports.join(", "));
        }
        let Caps { streams, connects_milli, bytes_per_second } = self.caps;
        if let Some(streams) = streams {
            text += &format!(", at most {} streams", thousands(streams));
        }
        if let Some(milli) = connects_milli {
            text += &format!(", at most {} new connections", PerSecond { milli });
        }
        if let Some(bytes) = bytes_per_second {
            text += &format!(", at most {} each way", Rate(bytes));
        }
        if let Some(whom) = self.whom() {
            text += &format!(", for {whom}");
        }
        text
    }

    /// For a program.
    pub(super) fn wire(&self) -> TargetRule {
        TargetRule {
            host: self.host.clone(),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            ports: self.ports.clone(),
            streams_max: self.caps.streams,
            connects_per_second_max: self.caps.connects_milli.map(|milli| milli as f64 / 1000.0),
            bytes_per_second_max: self.caps.bytes_per_second,
            users: self.user_names.clone(),
            groups: self.group_names.clone(),
            allowed: false,
            used: None,
        }
    }
}

impl Pin {
    /// For a program.
    pub(super) fn wire(&self) -> CoderRule {
        let allow = self.allow.iter().map(|action| action.name().to_owned()).collect();
        CoderRule { deployment_id: self.deployment_id.clone(), allow }
    }
}

/// A list says what it means: no address that is never hit, none in a spelling that is another's.
fn check_net(net: IpNet) -> Result<(), String> {
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= 96
        && v6.addr().to_ipv4_mapped().is_some()
    {
        return Err(format!("{net} is IPv4 in IPv6's clothes; write it as IPv4"));
    }
    if net.prefix_len() == net.max_prefix_len() && never::is_never(net.addr()) {
        return Err(format!("{} is never hit, whatever a list says; take it out", net.addr()));
    }
    Ok(())
}

/// Whether `name`, which may begin with `*.`, means `host`.
pub(super) fn is_named(name: &str, host: &str) -> bool {
    // A dot at the end says that a name is whole, which it is to us anyway.
    let host = host.strip_suffix('.').unwrap_or(host);
    let Some(parent) = name.strip_prefix('*').filter(|rest| rest.starts_with('.')) else {
        return name.eq_ignore_ascii_case(host);
    };
    let Some((first, rest)) = host.split_at_checked(host.len().saturating_sub(parent.len())) else {
        return false;
    };
    !first.is_empty() && rest.eq_ignore_ascii_case(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<List, String> {
        let users = Accounts::of("alice:x:1001:1001::/:\n");
        let groups = Accounts::of("perf:x:2001:alice\n");
        List::parse(Path::new("t.toml"), text, 0, &users, &groups)
    }

    fn entry(more: &str) -> String {
        format!("[[target]]\nhost = \"gw\"\naddresses = [\"10.0.0.0/8\"]\n{more}\n")
    }

    #[test]
    fn a_rule_says_whom_how_much_and_by_whom() {
        let more = "ports = [443]\nstreams_max = 5000\nconnects_per_second_max = 500\nbytes_per_second_max = \"40MB/s\"\nusers = [\"alice\", 1002]\ngroups = [\"perf\"]";
        let list = parse(&entry(more)).unwrap();
        let text = list.rules[0].text();
        assert_eq!(
            text,
            "gw at 10.0.0.0/8, ports 443, at most 5,000 streams, at most 500/s new connections, at most 40MB/s each way, for users alice, 1002 and groups perf"
        );
        let wire = list.rules[0].wire();
        assert_eq!(
            (wire.bytes_per_second_max, wire.connects_per_second_max),
            (Some(40_000_000), Some(500.0))
        );
        assert_eq!(
            (wire.users, wire.groups),
            (vec!["alice".to_owned(), "1002".into()], vec!["perf".to_owned()])
        );
    }

    #[test]
    fn a_rule_is_for_its_users_for_members_of_its_groups_and_for_who_can_change_it() {
        let list = parse(&entry("users = [\"alice\", 1002]\ngroups = [\"perf\"]")).unwrap();
        let lets = |uid, gid, groups: &[u32]| {
            let caller = Caller { pid: 1, uid, gid, groups: groups.into() };
            list.lets(&list.rules[0], Some(&caller))
        };
        assert!(lets(1001, 5, &[]) && lets(1002, 5, &[]) && lets(7, 2001, &[]) && lets(7, 7, &[1, 2001]));
        assert!(!lets(7, 7, &[1, 2]) && !lets(2001, 1001, &[]), "a gid is no uid");
        assert!(lets(0, 0, &[]), "root writes the list");
        assert!(list.lets(&list.rules[0], None), "what this daemon owes it does itself");
        let own = List { owner: 7, ..list };
        let caller = Caller { pid: 1, uid: 7, gid: 7, groups: [].into() };
        assert!(own.lets(&own.rules[0], Some(&caller)), "whoever runs it for himself has written it");
        let open = parse(&entry("")).unwrap();
        let stranger = Caller { pid: 0, uid: u32::MAX, gid: u32::MAX, groups: [].into() };
        assert!(open.lets(&open.rules[0], Some(&stranger)));
    }

    #[test]
    fn each_mistake_is_named_with_its_entry() {
        for (text, word) in [
            (entry("users = [\"bob\"]"), "no user `bob` in /etc/passwd"),
            (entry("groups = [\"x\"]"), "no group `x` in /etc/group"),
            (entry("users = []"), "for nobody"),
            (entry("groups = []\nusers = [5]"), "for nobody"),
            (entry("ports = [0]"), "1 to 65535"),
            (entry("streams_max = 0"), "cap of 0"),
            (entry("bytes_per_second_max = \"40MB\""), "bytes_per_second_max"),
            (entry("connects = 5"), "unknown field"),
            ("[[target]]\naddresses = []".into(), "addresses is empty"),
            ("[[target]]\nhost = \"a.*.b\"\naddresses = [\"10.0.0.0/8\"]".into(), "`*.` at the beginning"),
            ("[[target]]\nhost = \"*\"\naddresses = [\"10.0.0.0/8\"]".into(), "host"),
            ("[[target]]\naddresses = [\"::ffff:10.0.0.0/104\"]".into(), "as IPv4"),
            ("[[target]]\naddresses = [\"169.254.169.254/32\"]".into(), "never hit"),
            ("[[target]]\naddresses = [\"10.0.0.1\"]".into(), "addresses"),
            (format!("{}{}", entry(""), entry("ports = [0]")), "[[target]] 2"),
        ] {
            let error = parse(&text).map(|_| ()).unwrap_err();
            assert!(error.contains(word) && error.starts_with("t.toml"), "{text}: {error}");
        }
    }

    #[test]
    fn a_rule_may_be_for_all_names_below_one() {
        for (host, is_named) in [
            ("a.apps.example.com", true),
            ("a.apps.example.com.", true),
            ("wsec--main--w--u.Apps.example.com", true),
            (".apps.example.com", false),
            ("apps.example.com", false),
            ("example.com", false),
            ("a.apps.example.com.evil", false),
            ("evilapps.example.com", false),
            ("é", false),
        ] {
            assert_eq!(super::is_named("*.apps.example.com", host), is_named, "{host}");
        }
        assert!(!super::is_named("*", "a"));
        assert!(super::is_named("gw", "GW.") && !super::is_named("gw", "gw.."));
    }
}
