//! Load as Coder's own traffic test makes it: what is typed into web terminals, or sent to a
//! workspace's app or its SSH server.

use serde::{Deserialize, Serialize};

use crate::spec::{GroupSpec, Opcode, Traffic};
use crate::target::{Scheme, Target};

/// What a group's streams are, if they are no plain ones. Absent means the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Typed {
    /// Terminals, apps or SSH sessions.
    pub kind: Kind,
    /// On whose timetable, and how it comes back.
    pub profile: Profile,
    /// What is typed.
    pub form: Form,
    /// A terminal's websocket is closed at once; else Ctrl-C is typed and the server closes.
    pub fast_close: bool,
}

/// Where a typed message goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A web terminal: pieces of at most 1,024 bytes as JSON, each a binary frame.
    #[default]
    Terminal,
    /// A workspace's app: the pieces as they are.
    App,
    /// A workspace's SSH server: lines as they are, to a command that gives them back; HUP ends it.
    Ssh,
}

/// How a terminal is driven.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// The original's bytes on our timetable; the kernel echoes a line with CR LF.
    #[default]
    Paced,
    /// As `Paced`, and a tick waits while a message is under way, as the original's ticker does.
    Exact,
    /// `stty raw -echo isig; exec cat`: byte for byte.
    Raw,
}

/// What is typed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// 95 symbols and LF at the end, as the original has it since v2.6.
    #[default]
    Line,
    /// `#` and letters and digits, as it was before.
    Comment,
}

/// What goes together with typed load, and what does not.
pub(crate) fn check(group: &GroupSpec, error: &mut dyn FnMut(String)) {
    let Some(typed) = group.typed else { return };
    let of_ssh = typed.kind == Kind::Ssh;
    let scheme = |target: &String| Target::parse(target).ok().map(|target| target.scheme);
    match group.target.iter().find_map(scheme) {
        Some(plain @ (Scheme::Tcp | Scheme::Ssh)) if !of_ssh => error(format!(
            "group `{}`: terminals and apps are websockets; the target is {}://",
            group.name,
            plain.name()
        )),
        Some(other) if of_ssh && other != Scheme::Ssh => error(format!(
            "group `{}`: sessions of SSH need a target of ssh://; it is {}://",
            group.name,
            other.name()
        )),
        _ => {}
    }
    if typed.kind == Kind::Terminal && group.traffic != Traffic::Echo {
        error(format!(
            "group `{}`: a terminal always echoes; leave out traffic, or take an app that discards",
            group.name
        ));
    }
    if typed.kind != Kind::Terminal && typed.profile == Profile::Raw {
        error(format!(
            "group `{}`: profile raw is of terminals; apps and SSH sessions echo byte for byte",
            group.name
        ));
    }
    if of_ssh && (group.ssh_pty || group.ssh_shell || group.ssh_forward.is_some()) {
        error(format!(
            "group `{}`: Coder's own SSH traffic has a command and no terminal; leave out ssh_pty, ssh_shell and ssh_forward",
            group.name
        ));
    }
    let words = [
        (group.message_file.is_some(), "message-file"),
        (group.first_message.is_some(), "first-message"),
        (group.subprotocol.is_some(), "subprotocol"),
        (group.opcode == Opcode::Text, "opcode text"),
    ];
    for (_, word) in words.iter().filter(|(given, _)| *given) {
        error(format!(
            "group `{}`: {word} does not go with terminals, apps and sessions; leave it out",
            group.name
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::errors;

    #[test]
    fn what_does_not_go_with_terminals_is_said() {
        let terminal = Some(Typed::default());
        assert!(errors(|g| (g.typed, g.traffic) = (terminal, Traffic::Discard)).contains("always echoes"));
        assert!(
            errors(|g| (g.typed, g.target) = (terminal, vec!["tcp://a:1".into()])).contains("websockets")
        );
        assert!(errors(|g| (g.typed, g.opcode) = (terminal, Opcode::Text)).contains("opcode text"));
        let app = Typed { kind: Kind::App, profile: Profile::Raw, ..Typed::default() };
        assert!(errors(|g| g.typed = Some(app)).contains("byte for byte"));
        let ssh = Some(Typed { kind: Kind::Ssh, ..Typed::default() });
        assert!(errors(|g| g.typed = ssh).contains("ssh://"));
        let target = || vec!["ssh://coder@a".into()];
        assert!(errors(|g| (g.typed, g.target) = (terminal, target())).contains("websockets"));
        let terminal = errors(|g| {
            (g.typed, g.target) = (ssh, target());
            (g.ssh_pty, g.insecure_host_keys) = (true, true);
        });
        assert!(terminal.contains("no terminal"), "{terminal}");
    }
}
