//! What goes wrong on purpose, by rule: a file of `[[fault]]` tables.
//!
//! A rule says what happens (`kind`), to what (`on` for requests, `workspace` for builds, agents and
//! terminals), and how often (`share`, `skip`, `times`, `from`, `until`).

use scale_api::units::Span;
use scale_ring::Time;
use scaled::load::random::Random;
use serde::Deserialize;

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// 429, with `Retry-After` where `retry_after` is given.
    TooManyRequests,
    /// The answer is `status` (500 by default).
    Status,
    /// The answer, 101 included, comes after `delay`.
    Slow,
    /// RST instead of an answer; with `after`, of a websocket so long after its 101.
    Reset,
    /// What a `reset` with `after` becomes.
    #[serde(skip)]
    ResetLater,
    /// A terminal's websocket is closed 1011, "dial workspace agent", `after` its 101.
    Dial,
    /// A websocket's pings are not answered.
    NoPong,
    /// Nothing more is read from a websocket, `after` its 101.
    Stall,
    /// A build ends as failed, with `message`.
    BuildFails,
    /// An agent never connects.
    AgentNever,
    /// An agent connects `delay` later than it would.
    AgentLate,
    /// An agent is gone `after` its connection: its terminals fall silent.
    AgentLost,
    /// The answer, 101 included, names `message` as the server's build.
    Version,
}

/// A rule as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: Kind,
    on: Option<String>,
    workspace: Option<String>,
    #[serde(default = "one")]
    share: f64,
    #[serde(default)]
    skip: u64,
    times: Option<u64>,
    #[serde(default)]
    from: Option<Span>,
    until: Option<Span>,
    after: Option<Span>,
    delay: Option<Span>,
    retry_after: Option<Span>,
    status: Option<u16>,
    message: Option<String>,
}

const fn one() -> f64 {
    1.0
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "fault")]
    faults: Vec<Written>,
}

/// A rule, and how often it has been met and has struck.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    written: Written,
    met: u64,
    struck: u64,
}

impl Rule {
    pub fn after_ns(&self) -> Option<u64> {
        self.written.after.map(Span::ns)
    }

    pub fn delay_ns(&self) -> u64 {
        self.written.delay.map_or(0, Span::ns)
    }

    pub fn retry_after_s(&self) -> Option<u64> {
        self.written.retry_after.map(|after| after.ns().div_ceil(1_000_000_000))
    }

    pub fn status(&self) -> u16 {
        self.written.status.unwrap_or(500)
    }

    pub fn message(&self) -> Option<&str> {
        self.written.message.as_deref()
    }
}

/// All rules.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    rules: Vec<Rule>,
    /// What `from` and `until` count from.
    began: Time,
}

impl Faults {
    /// From the file of `--faults`.
    ///
    /// # Errors
    /// What is wrong with it: a place in the text, or a rule's number and a sentence.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut rules = Vec::new();
        for (index, mut written) in file.faults.into_iter().enumerate() {
            check(&written).map_err(|what| format!("fault {}: {what}", index + 1))?;
            if written.kind == Kind::Reset && written.after.is_some() {
                written.kind = Kind::ResetLater;
            }
            rules.push(Rule { written, met: 0, struck: 0 });
        }
        Ok(Self { rules, began: Time::ZERO })
    }

    /// Times in rules count from `now` on.
    pub(super) const fn begin(&mut self, now: Time) {
        self.began = now;
    }

    /// The first rule of `kinds` that strikes the request or workspace now.
    pub(super) fn strike(
        &mut self,
        kinds: &[Kind],
        at: Time,
        request: Option<(&str, &str)>,
        workspace: Option<&str>,
        random: &mut Random,
    ) -> Option<(Kind, &Rule)> {
        for index in 0..self.rules.len() {
            let Rule { written, met, struck } = &mut self.rules[index];
            let matches = kinds.contains(&written.kind)
                && written.from.is_none_or(|from| at.ns_since(self.began) >= from.ns())
                && written.until.is_none_or(|until| at.ns_since(self.began) < until.ns())
                && fits_request(written.on.as_deref(), request)
                && written.workspace.as_ref().is_none_or(|pattern| {
                    workspace.is_some_and(|name| fits(pattern.as_bytes(), name.as_bytes()))
                });
            if !matches {
                continue;
            }
            *met += 1;
            let due = *met > written.skip && written.times.is_none_or(|times| *struck < times);
            // 2^32 steps are finer than any share a person writes.
            if due && (random.below(1 << 32) as f64) < written.share * 4_294_967_296.0 {
                *struck += 1;
                return Some((self.rules[index].written.kind, &self.rules[index]));
            }
        }
        None
    }

    /// How often each rule has struck, in the file's order.
    pub fn struck(&self) -> impl Iterator<Item = u64> {
        self.rules.iter().map(|rule| rule.struck)
    }
}

fn check(written: &Written) -> Result<(), String> {
    use Kind::{
        AgentLate, AgentLost, AgentNever, BuildFails, Dial, NoPong, Reset, Slow, Stall, Status,
        TooManyRequests, Version,
    };
    let kind = written.kind;
    let one_of = |kinds: &[Kind]| kinds.contains(&kind);
    if !(0.0..=1.0).contains(&written.share) {
        return Err(format!("share is {}, and must be from 0 to 1", written.share));
    }
    for (key, given, allowed) in [
        (
            "workspace",
            written.workspace.is_some(),
            one_of(&[Dial, NoPong, Stall, Reset, BuildFails, AgentNever, AgentLate, AgentLost]),
        ),
        (
            "on",
            written.on.is_some(),
            one_of(&[TooManyRequests, Status, Slow, Reset, Dial, NoPong, Stall, Version]),
        ),
        ("retry_after", written.retry_after.is_some(), kind == TooManyRequests),
        ("status", written.status.is_some(), kind == Status),
        ("delay", written.delay.is_some(), one_of(&[Slow, AgentLate])),
        ("after", written.after.is_some(), one_of(&[Reset, Dial, Stall, AgentLost])),
        ("message", written.message.is_some(), one_of(&[Status, BuildFails, Dial, Version])),
    ] {
        if given && !allowed {
            return Err(format!("`{key}` means nothing for this kind; leave it out"));
        }
    }
    if one_of(&[Slow, AgentLate]) && written.delay.is_none() {
        return Err("`delay` is missing: by how much, such as delay = \"2s\"".to_owned());
    }
    if kind == Version && written.message.is_none() {
        return Err("`message` is missing: the build, such as message = \"v2.27.0\"".to_owned());
    }
    if written.workspace.is_some() && kind == Reset && written.after.is_none() {
        return Err(
            "a RST of a workspace's websocket comes `after` its 101; give after = \"0s\" or more".to_owned()
        );
    }
    if written.status.is_some_and(|status| !(400..=599).contains(&status)) {
        return Err("status must be from 400 to 599".to_owned());
    }
    match written.on.as_deref().map(|on| on.split_once(' ')) {
        Some(Some((_, path))) if path.starts_with('/') || path == "**" => Ok(()),
        None => Ok(()),
        _ => {
            Err("`on` is a method (or *) and a path, such as \"POST /api/v2/users/*/workspaces\"".to_owned())
        }
    }
}

fn fits_request(on: Option<&str>, request: Option<(&str, &str)>) -> bool {
    let Some((method, path)) = on.and_then(|on| on.split_once(' ')) else { return true };
    let Some((asked, of)) = request else { return false };
    (method == "*" || method == asked) && fits(path.as_bytes(), of.as_bytes())
}

/// `*` stands for anything but `/`, `**` for anything.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=text.len()).any(|from| fits(rest, &text[from..])),
        [b'*', rest @ ..] => {
            let part = text.iter().position(|&byte| byte == b'/').unwrap_or(text.len());
            (0..=part).any(|from| fits(rest, &text[from..]))
        }
        [first, rest @ ..] => {
            text.split_first().is_some_and(|(byte, tail)| byte == first && fits(rest, tail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(text: &str, at_s: u64, request: (&str, &str)) -> bool {
        let mut faults = Faults::from_toml(text).expect("right");
        let at = Time::from_ns(at_s * 1_000_000_000);
        faults.strike(&[Kind::Status], at, Some(request), None, &mut Random::new(1)).is_some()
    }

    #[test]
    fn a_pattern_takes_a_star_for_a_part_and_two_for_a_rest() {
        for (pattern, text, expected) in [
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a/b/b/c", false),
            ("/a/**", "/a/b/b/c", true),
            ("/a/*", "/a/", true),
            ("scaletest-*-7", "scaletest-x-7", true),
            ("scaletest-*-7", "scaletest-x-71", false),
            ("**", "", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_rule_strikes_where_and_when_it_says() {
        let rule = "[[fault]]\nkind = 'status'\non = 'POST /api/v2/users'\nfrom = '10s'\nuntil = '20s'";
        assert!(strikes(rule, 10, ("POST", "/api/v2/users")));
        assert!(!strikes(rule, 9, ("POST", "/api/v2/users")));
        assert!(!strikes(rule, 20, ("POST", "/api/v2/users")));
        assert!(!strikes(rule, 15, ("GET", "/api/v2/users")));
        assert!(!strikes(rule, 15, ("POST", "/api/v2/users/login")));
    }

    #[test]
    fn skip_times_and_share_say_how_often() {
        let count = |text: &str| {
            let mut faults = Faults::from_toml(text).expect("right");
            let mut random = Random::new(7);
            let met = ("GET", "/x");
            let mut strike =
                |_| faults.strike(&[Kind::Status], Time::ZERO, Some(met), None, &mut random).is_some();
            (0..1_000).map(&mut strike).map(u32::from).sum::<u32>()
        };
        assert_eq!(count("[[fault]]\nkind = 'status'\nskip = 990"), 10);
        assert_eq!(count("[[fault]]\nkind = 'status'\ntimes = 3"), 3);
        assert_eq!(count("[[fault]]\nkind = 'status'\nshare = 0"), 0);
        assert!((200..300).contains(&count("[[fault]]\nkind = 'status'\nshare = 0.25")));
    }

    #[test]
    fn a_rule_that_cannot_mean_anything_is_refused_with_its_number() {
        for (text, word) in [
            ("kind = 'slow'", "`delay` is missing"),
            ("kind = 'slow'\ndelay = '1s'\nstatus = 500", "`status` means nothing"),
            ("kind = 'status'\nstatus = 200", "from 400"),
            ("kind = 'version'", "`message` is missing"),
            ("kind = 'status'\nshare = 2", "from 0 to 1"),
            ("kind = 'status'\non = '/x'", "a method"),
            ("kind = 'reset'\nworkspace = 'x'", "after"),
        ] {
            let error = Faults::from_toml(&format!("[[fault]]\n{text}")).expect_err(text);
            assert!(error.contains("fault 1") && error.contains(word), "{text}: {error}");
        }
        assert!(
            Faults::from_toml("[[fault]]\nkind = 'slow'\ndelai = '1s'").expect_err("typo").contains("delai")
        );
    }
}
