//! What a group says of SSH: how its streams log in, which servers are believed, what runs.

use super::words::connect_to;
use super::{File, GroupSpec, Traffic, places};
use crate::target::Target;

/// Streams that may share a connection.
pub const CHANNELS_MAX: u32 = 1000;
/// Bytes of a command.
pub const COMMAND_BYTES_MAX: usize = 16 << 10;
/// Variables of a session's environment, and bytes of each.
pub const ENV_MAX: usize = 64;
/// See [`ENV_MAX`].
pub const ENV_BYTES_MAX: usize = 4096;
/// Keys that are tried; few servers let a client try as many.
pub const IDENTITIES_MAX: usize = 16;

impl GroupSpec {
    /// Whether streams are channels of SSH connections.
    pub fn is_ssh(&self) -> bool {
        self.target.iter().any(|target| target.starts_with("ssh://"))
    }

    /// Streams that share a connection.
    pub fn channels(&self) -> u32 {
        self.channels_per_connection.unwrap_or(1)
    }

    /// Files that may have a `{column}` in their path: each row may log in with its own.
    pub fn login_files(&self) -> impl Iterator<Item = (&'static str, &File)> {
        let identities = self.ssh_identity.iter().map(|file| ("--ssh-identity", file));
        let certificate = self.ssh_certificate.iter().map(|file| ("--ssh-certificate", file));
        let password = self.ssh_password_file.iter().map(|file| ("--ssh-password-file", file));
        identities.chain(certificate).chain(password)
    }

    /// The words that are about SSH alone, and whether they are given.
    fn ssh_words(&self) -> [(&'static str, bool); 15] {
        [
            ("--ssh-command", self.ssh_command.is_some()),
            ("--ssh-pty", self.ssh_pty),
            ("--ssh-shell", self.ssh_shell),
            ("--ssh-env", !self.ssh_env.is_empty()),
            ("--ssh-forward", self.ssh_forward.is_some()),
            ("--channels-per-connection", self.channels_per_connection.is_some()),
            ("--ssh-identity", !self.ssh_identity.is_empty()),
            ("--ssh-certificate", self.ssh_certificate.is_some()),
            ("--ssh-password-file", self.ssh_password_file.is_some()),
            ("--ssh-passphrase-file", self.ssh_passphrase_file.is_some()),
            ("--known-hosts", self.known_hosts.is_some()),
            ("--accept-new", self.accept_new),
            ("--insecure-host-keys", self.insecure_host_keys),
            ("--ssh-ciphers", !self.ssh_ciphers.is_empty()),
            ("--ssh-kex", !self.ssh_kex.is_empty()),
        ]
    }
}

/// What goes together with SSH, and what does not.
pub(super) fn check(group: &GroupSpec, error: &mut dyn FnMut(String)) {
    let others = group.target.iter().filter(|target| !target.starts_with("ssh://")).count();
    if !group.is_ssh() {
        for (word, _) in group.ssh_words().iter().filter(|(_, given)| *given && others > 0) {
            error(format!(
                "{word} is for ssh:// and no target has it; leave it out, or write ssh://user@host"
            ));
        }
        return;
    }
    if others > 0 {
        error(format!(
            "group `{}` has targets of ssh:// and others; give each kind a [[group]] of its own in a run file",
            group.name
        ));
    }
    check_program(group, error);
    check_payload(group, error);
    check_login(group, error);
    check_host_keys(group, error);
    check_channels(group, error);
}

/// What a channel is for, said once.
fn check_program(group: &GroupSpec, error: &mut dyn FnMut(String)) {
    let targets = || group.target.iter().filter_map(|target| Target::parse(target).ok());
    let in_url = targets().any(|target| target.command().is_some());
    let commands = targets().filter_map(|target| target.command()).chain(group.ssh_command.clone());
    if in_url && group.ssh_command.is_some() {
        error("--ssh-command and the target's URL both say what runs; give one".into());
    }
    if group.ssh_shell && (in_url || group.ssh_command.is_some()) {
        error("--ssh-shell has no command; leave it or the command out".into());
    }
    for command in commands {
        if command.trim().is_empty() || command.len() > COMMAND_BYTES_MAX || command.contains('\0') {
            error(format!("--ssh-command is 1 to {COMMAND_BYTES_MAX} bytes without NUL, such as `cat`"));
        }
    }
    if group.ssh_env.len() > ENV_MAX {
        error(format!("--ssh-env: {} variables; a session takes at most {ENV_MAX}", group.ssh_env.len()));
    }
    for variable in &group.ssh_env {
        let name = variable.split_once('=').map_or("", |(name, _)| name);
        if name.is_empty() || variable.len() > ENV_BYTES_MAX || variable.contains(char::is_control) {
            let name: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
            error(format!(
                "--ssh-env {name}: write it as NAME=value, one line of at most {ENV_BYTES_MAX} bytes"
            ));
        }
    }
    let Some(to) = &group.ssh_forward else { return };
    if connect_to(to).is_none() {
        error(format!(
            "--ssh-forward {to}: write HOST:PORT as the SSH server reaches it, such as 10.0.0.5:80"
        ));
    }
    let session = [
        ("--ssh-command", group.ssh_command.is_some()),
        ("a command in the target's URL", in_url),
        ("--ssh-pty", group.ssh_pty),
        ("--ssh-shell", group.ssh_shell),
        ("--ssh-env", !group.ssh_env.is_empty()),
    ];
    for (word, _) in session.iter().filter(|(_, given)| *given) {
        error(format!("{word} is of a session, and --ssh-forward opens none; leave one of them out"));
    }
}

/// What is written and read back.
fn check_payload(group: &GroupSpec, error: &mut dyn FnMut(String)) {
    if group.ssh_pty && group.traffic == Traffic::Discard {
        error("--ssh-pty: a terminal always echoes; leave out --traffic discard, or --ssh-pty".into());
    }
    if group.verify && group.traffic != Traffic::Echo {
        error("--verify compares an echo; leave it out, or give --traffic echo".into());
    }
    if group.ssh_pty || group.ssh_shell {
        let own = [
            ("--message-file", group.message_file.is_some()),
            ("--first-message", group.first_message.is_some()),
        ];
        for (word, _) in own.iter().filter(|(_, given)| *given) {
            error(format!(
                "{word}: a terminal makes something else of it, and a shell may run it; leave out --ssh-pty and --ssh-shell, and give --ssh-command"
            ));
        }
    }
}

fn check_login(group: &GroupSpec, error: &mut dyn FnMut(String)) {
    if group.ssh_identity.len() > IDENTITIES_MAX {
        error(format!(
            "--ssh-identity: {} keys, of which at most {IDENTITIES_MAX} are tried; servers end a login after 6 (sshd's MaxAuthTries)",
            group.ssh_identity.len()
        ));
    }
    let key = [
        ("--ssh-certificate", &group.ssh_certificate, "for"),
        ("--ssh-passphrase-file", &group.ssh_passphrase_file, "of"),
    ];
    for (word, file, of) in key {
        if file.is_some() && group.ssh_identity.is_empty() {
            error(format!("{word} is {of} a private key; give the key with --ssh-identity FILE"));
        }
    }
    let by_row = |file: &File| file.is_by_row();
    for (word, file) in group.login_files().filter(|(_, file)| by_row(file)) {
        if group.rows.is_none() {
            error(format!(
                "{word} {}: a {{column}} is one of --rows, which is not given; give it, or name one file",
                file.path.display()
            ));
        }
        if file.path.to_str().is_some_and(|path| places(path).any(|name| name == "n")) {
            error(format!(
                "{word} {}: a row's file is named by a {{column}} of --rows; {{n}} is none",
                file.path.display()
            ));
        }
    }
    if group.ssh_passphrase_file.is_some() && group.ssh_identity.iter().any(by_row) {
        error(
            "--ssh-passphrase-file opens one key; write keys of --rows without a passphrase (ssh-keygen -p)"
                .into(),
        );
    }
}

fn check_host_keys(group: &GroupSpec, error: &mut dyn FnMut(String)) {
    let (known, new, any) = (group.known_hosts.is_some(), group.accept_new, group.insecure_host_keys);
    if any && (known || new) {
        error(
            "--insecure-host-keys believes every server; leave it out, or --known-hosts and --accept-new"
                .into(),
        );
    }
    if !(known || new || any) {
        error(
            "which SSH servers are to be believed? give --known-hosts FILE (such as ~/.ssh/known_hosts), --accept-new to believe each at first sight, or --insecure-host-keys to believe all".into(),
        );
    }
}

fn check_channels(group: &GroupSpec, error: &mut dyn FnMut(String)) {
    let channels = group.channels();
    if channels == 0 || channels > CHANNELS_MAX {
        error(format!(
            "--channels-per-connection {channels}: 1 to {CHANNELS_MAX} streams share a connection"
        ));
    }
    let texts = group.target.iter().chain(&group.ssh_command).chain(&group.ssh_forward);
    if channels > 1 && (group.rows.is_some() || texts.into_iter().any(|text| text.contains("{n}"))) {
        error(
            "--channels-per-connection: streams that share a connection are alike; leave out --rows and {n}, or give each a connection of its own".into(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Spec;
    use crate::spec::tests::{errors, group};

    fn ssh() -> GroupSpec {
        GroupSpec { target: vec!["ssh://ann@a".into()], accept_new: true, ..group() }
    }

    fn why(change: impl FnOnce(&mut GroupSpec)) -> String {
        errors(|group| {
            *group = ssh();
            change(group);
        })
    }

    fn passes(change: impl FnOnce(&mut GroupSpec)) -> Result<(), Vec<String>> {
        let mut group = ssh();
        change(&mut group);
        Spec { group: vec![group], ..Spec::default() }.check()
    }

    #[test]
    fn words_of_ssh_are_refused_where_no_target_is_of_it() {
        let words = |g: &mut GroupSpec| {
            g.ssh_command = Some("cat".into());
            (g.ssh_pty, g.ssh_shell, g.accept_new, g.insecure_host_keys) = (true, true, true, true);
            g.ssh_env.push("A=b".into());
            g.ssh_forward = Some("a:1".into());
            g.channels_per_connection = Some(2);
            g.ssh_identity.push(File::new("id"));
            let file = || Some(File::new("f"));
            (g.ssh_certificate, g.ssh_password_file) = (file(), file());
            (g.ssh_passphrase_file, g.known_hosts) = (file(), file());
            (g.ssh_ciphers, g.ssh_kex) = (vec!["c".into()], vec!["k".into()]);
        };
        let refused = errors(words);
        for (word, _) in ssh().ssh_words() {
            assert!(refused.contains(&format!("{word} is for ssh://")), "{word}: {refused}");
        }
        let mixed = why(|g| g.target.push("ws://a".into()));
        assert!(mixed.contains("[[group]] of its own"), "{mixed}");
    }

    #[test]
    fn what_runs_is_said_once() {
        let url = |g: &mut GroupSpec| g.target = vec!["ssh://ann@a/cat".into()];
        assert_eq!(passes(url), Ok(()));
        assert_eq!(passes(|g| g.ssh_command = Some("awk '{print}'".into())), Ok(()));
        assert!(
            why(|g| {
                url(g);
                g.ssh_command = Some("cat".into());
            })
            .contains("give one")
        );
        assert!(
            why(|g| {
                url(g);
                g.ssh_shell = true;
            })
            .contains("has no command")
        );
        assert!(why(|g| g.ssh_command = Some(" ".into())).contains("such as `cat`"));
        assert!(
            why(|g| g.ssh_command = Some("x".repeat(COMMAND_BYTES_MAX + 1))).contains("bytes without NUL")
        );
        assert!(why(|g| g.ssh_env = vec!["=x".into()]).contains("NAME=value"));
        assert!(why(|g| g.ssh_env = vec!["A=b\nc".into()]).contains("one line"));
        assert!(why(|g| g.ssh_env = vec!["A=b".into(); 65]).contains("at most 64"));
    }

    #[test]
    fn a_forward_is_no_session() {
        let forward = |g: &mut GroupSpec| g.ssh_forward = Some("10.0.0.5:80".into());
        assert_eq!(passes(forward), Ok(()));
        assert!(why(|g| g.ssh_forward = Some("10.0.0.5".into())).contains("HOST:PORT"));
        type Change = fn(&mut GroupSpec);
        let changes: [(&str, Change); 5] = [
            ("--ssh-pty", |g| g.ssh_pty = true),
            ("--ssh-shell", |g| g.ssh_shell = true),
            ("--ssh-command", |g| g.ssh_command = Some("cat".into())),
            ("--ssh-env", |g| g.ssh_env = vec!["A=b".into()]),
            ("a command in the target's URL", |g| g.target = vec!["ssh://ann@a/cat".into()]),
        ];
        for (word, change) in changes {
            let why = why(|g| {
                forward(g);
                change(g);
            });
            assert!(why.contains(&format!("{word} is of a session")), "{why}");
        }
    }

    #[test]
    fn what_a_terminal_or_shell_would_make_something_else_of_is_refused() {
        assert!(why(|g| (g.ssh_pty, g.traffic) = (true, Traffic::Discard)).contains("always echoes"));
        assert!(why(|g| (g.verify, g.traffic) = (true, Traffic::Receive)).contains("compares an echo"));
        assert!(
            why(|g| (g.ssh_pty, g.message_file) = (true, Some(File::new("m")))).contains("--message-file")
        );
        assert!(
            why(|g| (g.ssh_shell, g.first_message) = (true, Some(File::new("m")))).contains("may run it")
        );
        for websocket in [("--opcode text"), ("--subprotocol"), ("--header ")] {
            let why = why(|g| {
                g.opcode = crate::spec::Opcode::Text;
                g.subprotocol = Some("x".into());
                g.header.push("A: b".into());
            });
            assert!(why.contains(&format!("{} belongs to websockets and ssh://", websocket.trim())), "{why}");
        }
        assert!(why(|g| g.insecure = true).contains("--insecure is for TLS"));
    }

    #[test]
    fn logins_and_host_keys_are_complete_and_do_not_contradict() {
        assert!(why(|g| g.accept_new = false).contains("~/.ssh/known_hosts"));
        assert!(why(|g| g.insecure_host_keys = true).contains("leave it out"));
        let file = || Some(File::new("f"));
        assert!(why(|g| g.ssh_certificate = file()).contains("give the key"));
        assert!(why(|g| g.ssh_passphrase_file = file()).contains("--ssh-identity"));
        assert!(why(|g| g.ssh_identity = vec![File::new("id"); 17]).contains("MaxAuthTries"));
        assert!(why(|g| g.ssh_password_file = Some(File::new("pw/{user}"))).contains("--rows"));
        let rows = |g: &mut GroupSpec| {
            g.rows = Some(File::new("rows.csv"));
            g.ssh_identity.push(File::new("keys/{user}"));
        };
        assert_eq!(passes(rows), Ok(()));
        assert!(
            why(|g| {
                rows(g);
                g.ssh_password_file = Some(File::new("pw/{n}"));
            })
            .contains("{n} is none")
        );
        assert!(
            why(|g| {
                rows(g);
                g.ssh_passphrase_file = file();
            })
            .contains("ssh-keygen -p")
        );
        assert!(
            why(|g| {
                rows(g);
                g.channels_per_connection = Some(2);
            })
            .contains("are alike")
        );
    }

    #[test]
    fn streams_share_a_connection_within_bounds_and_alike() {
        assert_eq!(passes(|g| g.channels_per_connection = Some(1000)), Ok(()));
        for wrong in [0, 1001] {
            assert!(why(|g| g.channels_per_connection = Some(wrong)).contains("1 to 1000"));
        }
        let users = |g: &mut GroupSpec| {
            g.target = vec!["ssh://u{n}@a".into()];
            g.channels_per_connection = Some(4);
        };
        assert!(why(users).contains("are alike"));
    }

    #[test]
    fn secrets_of_ssh_are_redacted_and_their_files_known() {
        let mut group = ssh();
        let read = |path: &str| File::read(path, *b"canary");
        group.ssh_identity =
            vec![read("id"), File { by_row: [("k".into(), (*b"canary").into())].into(), ..File::new("{k}") }];
        (group.ssh_certificate, group.known_hosts) = (Some(read("c")), Some(read("h")));
        (group.ssh_password_file, group.ssh_passphrase_file) = (Some(read("p")), Some(read("pp")));
        assert_eq!(group.files_mut().count(), 6);
        let spec = Spec { group: vec![group], ..Spec::default() };
        let travelled: Spec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(travelled, spec);
        let shown = serde_json::to_string(&spec.redacted()).unwrap();
        assert!(!shown.contains("canary") && !shown.contains("63616e617279"), "{shown}");
        assert!(!format!("{spec:?}").contains("canary"));
    }
}
