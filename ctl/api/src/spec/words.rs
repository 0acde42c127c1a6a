//! What a run says beside its load: names, words of the upgrade, sockets; and its defaults.

use super::observe::DEFAULT_INTERVAL;
use super::{
    Breaker, DEFAULT_BYTES_PER_TICK, DEFAULT_CONNECT_RATE, DEFAULT_CONNECT_TIMEOUT, DEFAULT_DRAIN,
    DEFAULT_DURATION, DEFAULT_TICK, DEFAULT_WARM_UP, Duration, GroupSpec, Opcode, Spec, ThresholdSpec,
    Traffic,
};
use crate::target::Target;
use crate::units::{Bytes, PerSecond};

/// Bytes of a run's name, and of a label's key or value.
pub const NAME_BYTES_MAX: usize = 200;
/// Labels of a run.
pub const LABELS_MAX: usize = 64;
/// The largest socket buffer that can be asked for.
pub const SOCKET_BUFFER_MAX: u64 = 1 << 30;

/// The host and port of `--connect-to`; IPv6 without brackets.
pub fn connect_to(text: &str) -> Option<(String, u16)> {
    // As a target's, which knows about brackets, ports and what a host may be.
    let target = Target::parse(&format!("tcp://{text}")).ok().filter(|target| target.path == "/")?;
    (!text.ends_with('/')).then_some((target.host, target.port))
}

/// Whether what is kept and shown is short, and of one line.
pub(super) fn fits(word: &str) -> bool {
    word.len() <= NAME_BYTES_MAX && !word.contains(char::is_control)
}

impl Spec {
    /// What is only kept and shown: short, and of one line.
    pub(super) fn check_words(&self, error: &mut dyn FnMut(String)) {
        if self.name.as_deref().is_some_and(|name| !fits(name)) {
            error(format!("--name: a name is one line of at most {NAME_BYTES_MAX} bytes"));
        }
        if self.labels.len() > LABELS_MAX {
            error(format!("{} labels; a run has at most {LABELS_MAX}", self.labels.len()));
        }
        if let Some((key, _)) = self.labels.iter().find(|(key, value)| !fits(key) || !fits(value)) {
            let key: String = key.chars().filter(|c| !c.is_control()).take(20).collect();
            error(format!(
                "--label {key}: key and value are one line of at most {NAME_BYTES_MAX} bytes each"
            ));
        }
    }

    /// With every default written out, as `workers` workers run it.
    #[must_use]
    pub fn filled(&self, seed: u64, workers: u64) -> Self {
        let mut spec = self.clone();
        spec.seed = Some(seed);
        if let Some(observe) = &mut spec.observe {
            observe.interval.get_or_insert(DEFAULT_INTERVAL);
        }
        spec.threshold =
            self.thresholds().into_iter().map(|expression| ThresholdSpec { expression }).collect();
        for group in &mut spec.group {
            if group.traffic != Traffic::Receive {
                group.tick_interval.get_or_insert(DEFAULT_TICK);
                if group.rate.is_none() && group.message_file.is_none() {
                    group.bytes_per_tick.get_or_insert(DEFAULT_BYTES_PER_TICK);
                }
            }
            if group.ramp.is_none() {
                let all = PerSecond { milli: DEFAULT_CONNECT_RATE * 1000 * workers };
                group.connect_rate.get_or_insert(all);
            }
            // With steps, the base load has a time of its own only where one was given.
            if group.stage.is_empty() {
                group.duration.get_or_insert(Duration::For(DEFAULT_DURATION));
            }
            if group.is_ssh() {
                group.channels_per_connection.get_or_insert(1);
            }
            group.start.get_or_insert_default();
            group.concurrency.get_or_insert(0);
            group.warm_up.get_or_insert(DEFAULT_WARM_UP);
            group.drain.get_or_insert(DEFAULT_DRAIN);
            group.connect_timeout.get_or_insert(DEFAULT_CONNECT_TIMEOUT);
            group.breaker.get_or_insert(Breaker::ON);
            group.silence = Some(group.silence_or_default());
            group.reconnect = group.reconnect_named();
        }
        spec
    }
}

impl GroupSpec {
    /// What goes into the upgrade, and to the socket.
    pub(super) fn check_words(&self, error: &mut dyn FnMut(String)) {
        let plain =
            ["tcp://", "ssh://"].into_iter().find(|plain| self.target.iter().any(|it| it.starts_with(plain)));
        let websocket = |target: &String| target.starts_with("ws://") || target.starts_with("wss://");
        if let Some(plain) = plain.filter(|_| !self.target.iter().any(websocket)) {
            let words = [
                ("--header", !self.header.is_empty()),
                ("--header-file", self.header_file.is_some()),
                ("--subprotocol", self.subprotocol.is_some()),
                ("--replica-header", self.replica_header.is_some()),
                ("--opcode text", self.opcode == Opcode::Text),
            ];
            for (word, _) in words.iter().filter(|(_, given)| *given) {
                error(format!(
                    "{word} belongs to websockets and {plain} has none; leave it out, or write ws://"
                ));
            }
        }
        let sealed = |target: &String| target.starts_with("wss://");
        if !self.target.is_empty() && !self.target.iter().any(sealed) {
            let words = [
                ("--ca", self.ca.is_some()),
                ("--cert", self.cert.is_some()),
                ("--key", self.key.is_some()),
                ("--insecure", self.insecure),
            ];
            for (word, _) in words.iter().filter(|(_, given)| *given) {
                error(format!("{word} is for TLS and no target has it; leave it out, or write wss://"));
            }
        }
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if self.subprotocol.as_deref().is_some_and(|name| name.is_empty() || !name.bytes().all(token)) {
            error("--subprotocol is one name of letters, digits and -._ such as graphql-ws".into());
        }
        if let Some(to) = &self.connect_to
            && connect_to(to).is_none()
        {
            error(format!("--connect-to {to}: write HOST:PORT, such as 127.0.0.1:9000 or [::1]:9000"));
        }
        for (word, size) in [("--sndbuf", self.sndbuf), ("--rcvbuf", self.rcvbuf)] {
            if size.is_some_and(|size| size.0 == 0 || size.0 > SOCKET_BUFFER_MAX) {
                error(format!("{word} is 1B to {}", Bytes(SOCKET_BUFFER_MAX)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::StageSpec;
    use crate::spec::tests::{errors, group};
    use crate::units::{Rate, Span};

    #[test]
    fn words_of_the_upgrade_and_sizes_of_sockets_are_checked() {
        for wrong in ["a\r\nX-Admin: yes", "a, b", ""] {
            assert!(errors(|g| g.subprotocol = Some(wrong.into())).contains("--subprotocol"));
        }
        for wrong in ["here", "here:0", "here:", "::1:80", "[::1]", "here:80/", "here:80/x", ":80"] {
            assert!(errors(|g| g.connect_to = Some(wrong.into())).contains("HOST:PORT"), "{wrong}");
        }
        assert_eq!(connect_to("[::1]:80"), Some(("::1".into(), 80)));
        assert!(errors(|g| g.sndbuf = Some(Bytes(0))).contains("--sndbuf"));
        assert!(errors(|g| g.rcvbuf = Some(Bytes(u64::MAX))).contains("--rcvbuf"));
        let tcp = errors(|g| {
            g.target = vec!["tcp://a:1".into()];
            g.header.push("A: b".into());
        });
        assert!(tcp.contains("--header belongs to websockets"), "{tcp}");
    }

    #[test]
    fn names_and_labels_are_short_and_of_one_line() {
        let error = |change: fn(&mut Spec)| {
            let mut spec = Spec { group: vec![group()], ..Spec::default() };
            change(&mut spec);
            spec.check().expect_err("a mistake").join("\n")
        };
        assert!(error(|spec| spec.name = Some("x".repeat(201))).contains("--name"));
        assert!(error(|spec| spec.name = Some("a\nb".into())).contains("one line"));
        assert!(error(|spec| drop(spec.labels.insert("k".into(), "\u{1b}[2J".into()))).contains("--label k"));
        assert!(
            error(|spec| spec.labels = (0..65).map(|n| (n.to_string(), String::new())).collect())
                .contains("at most 64")
        );
    }

    #[test]
    fn defaults_are_written_out_and_what_was_given_stays() {
        let spec = Spec { group: vec![group()], ..Spec::default() }.filled(7, 2);
        let filled = &spec.group[0];
        assert_eq!((spec.seed, filled.bytes_per_tick, filled.rate), (Some(7), Some(Bytes(4096)), None));
        assert_eq!(filled.connect_rate, Some(PerSecond { milli: 2_000_000 }));
        assert_eq!(filled.duration, Some(Duration::For(Span::from_secs(60))));
        assert!(spec.check().is_ok(), "what was understood can be run again");
        assert_eq!(spec.filled(7, 2), spec);
        let given = GroupSpec {
            rate: Some(Rate(40_000)),
            ramp: Some(Span::default()),
            stage: vec![StageSpec { hold: Some(Span::from_secs(1)), ..StageSpec::default() }],
            ..group()
        };
        let spec = Spec { group: vec![given], ..Spec::default() }.filled(7, 2);
        let filled = &spec.group[0];
        assert_eq!((filled.bytes_per_tick, filled.connect_rate, filled.duration), (None, None, None));
        let receive = GroupSpec { traffic: Traffic::Receive, ..group() };
        let spec = Spec { group: vec![receive], ..Spec::default() }.filled(7, 2);
        assert_eq!((spec.group[0].bytes_per_tick, spec.group[0].tick_interval), (None, None));
        assert!(spec.check().is_ok());
    }
}
