//! A run as a run file: what is kept of it beside its results, to repeat it.

use std::fmt::Write;

use super::{File, Observe, Spec};

/// Stands for what is left out of a URL; no target may have it, so that such a run is not started by mistake.
pub const LEFT_OUT: &str = "…";

impl Spec {
    /// The run as a run file that `scalectl start -f` takes, without secrets: what is left out stands in comments above it.
    pub fn to_toml(&self) -> String {
        let mut spec = self.redacted();
        let mut text = String::new();
        // TOML's integers are of 63 bits (TOML 1.0, Integer).
        if let Some(seed) = spec.seed.take_if(|seed| i64::try_from(*seed).is_err()) {
            let _ = writeln!(text, "# TOML has no number as large as its seed: start it with --seed {seed}.");
        }
        let named = |text: &mut String, whose: &str, word: &str, file: &File| {
            let (word, path) = (word.replace('-', "_"), file.path.display());
            let _ = writeln!(
                text,
                "# {word} of {whose} is read again from {path:?}: a relative path counts from this file's folder."
            );
        };
        for group in &mut spec.group {
            let whose = format!("group {}", group.name);
            if group.target.iter().any(|target| target.contains(LEFT_OUT)) {
                let _ = writeln!(
                    text,
                    "# The queries of {whose}'s targets are left out: write them where `?{LEFT_OUT}` stands."
                );
            }
            group.files_mut().for_each(|(word, file)| named(&mut text, &whose, word, file));
        }
        let observe = spec.observe.iter_mut().flat_map(Observe::files_mut);
        observe.for_each(|(word, file)| named(&mut text, "[observe]", word, file));
        match toml::to_string(&spec) {
            Ok(toml) => text + &toml,
            Err(error) => format!("{text}# This run cannot be written as TOML: {error}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::GroupSpec;

    #[test]
    fn a_run_without_secrets_is_the_same_when_it_is_read_again() {
        let text = r#"
name = "nightly"
labels = { team = "a b", "k.x" = "\"quoted\"" }
seed = 7
[[group]]
name = "one"
target = ["wss://a/x?y=1,3", "ws://b"]
conns = 5
rate = "40KB/s"
duration = "forever"
source = ["10.0.0.0/28"]
interface = ["eth0", "eth1"]
header = ["X-A: b"]
[[group]]
target = ["ssh://c"]
conns = 2
ssh_command = "cat"
insecure_host_keys = true
[[group.stage]]
conns = 4
over = "2m"
hold = "1.5s"
[[group.stage]]
rate = "1KB/s"
hold = "1s"
[[threshold]]
expression = "one.response.p99 < 250ms"
[environment]
name = "Kubernetes (GKE)"
[observe]
prometheus = "http://p:9090"
header_file = "token"
[observe.query]
coderd_cpu = "max(rate(x{a=\"b\"}[1m]))"
"#;
        let spec = Spec::from_toml(text, "run.toml").unwrap();
        let mut plain = spec.clone();
        plain.group[0].target[0] = "wss://a/x,3".into();
        let written = plain.to_toml();
        assert_eq!(Spec::from_toml(&written, "run.toml").unwrap(), plain);
        let comments: Vec<&str> = written.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(comments.len(), 1, "nothing else is left out: {written}");
        assert!(comments[0].contains("header_file of [observe]"));
        // As the report has it, with every default, too.
        let filled = plain.filled(7, 2);
        assert_eq!(Spec::from_toml(&filled.to_toml(), "run.toml").unwrap(), filled);
    }

    #[test]
    fn what_is_left_out_is_said_and_a_run_that_lacks_it_is_refused() {
        let group = GroupSpec {
            target: vec!["wss://a/x?token=canary".into()],
            conns: Some(1),
            header_file: Some(File::read("secret \"head\".txt", *b"X-Token: canary")),
            ..GroupSpec::default()
        };
        let mut spec = Spec { group: vec![group], seed: Some(u64::MAX), ..Spec::default() };
        spec.name_groups();
        let written = spec.to_toml();
        for word in [
            "The queries of group main's targets",
            "header_file of group main",
            r#""secret \"head\".txt""#,
            "--seed 18446744073709551615",
        ] {
            assert!(written.contains(word), "{word}: {written}");
        }
        assert!(!written.contains("canary"));
        let read = Spec::from_toml(&written, "run.toml").unwrap();
        assert_eq!(
            (read.seed, read.group[0].header_file.as_ref().map(|file| file.content.is_some())),
            (None, Some(false))
        );
        let errors = read.check().unwrap_err().join("\n");
        assert!(errors.contains("left out"), "{errors}");
    }
}
