//! OpenSSH's client, by which a server is known to be right before ours talks to it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::{Kind, Known, Server, Site, USER};
use crate::host::installed;

/// What it runs to have everything back: exactly what was written, and no terminal.
pub const ECHO: &str = "dd if=/dev/stdin of=/dev/stdout bs=4096 status=none";

/// `ssh` to a server; `None`: it is not installed, which was said.
pub struct Client(Command);

impl Client {
    /// Believes what [`Known::Plain`] says, and logs in with the user's ed25519 key; `options` come before,
    /// and an identity among them is the only one.
    pub fn new(site: &Site, server: &Server, options: &[&str]) -> Option<Self> {
        let mut command = Command::new(installed("ssh")?);
        command.env_remove("SSH_AUTH_SOCK");
        command.args(["-F", "none", "-T", "-p", &server.port().to_string()]);
        let known = format!("UserKnownHostsFile={}", site.known_hosts(server, Known::Plain));
        let own_key = format!("IdentityFile={}", site.user_key(Kind::Ed25519).path);
        let given = options.iter().copied().find(|option| option.starts_with("IdentityFile="));
        let identity = given.unwrap_or(&own_key);
        let own =
            ["BatchMode=yes", "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=none", "IdentitiesOnly=yes"];
        for option in options.iter().copied().chain(own).chain([known.as_str(), identity]) {
            command.args(["-o", option]);
        }
        Some(Self(command))
    }

    /// As [`Self::new`], by the password alone.
    pub fn by_password(site: &Site, server: &Server, method: &str) -> Option<Self> {
        use std::os::unix::fs::PermissionsExt;
        let ask = site.folder.write("ask", &format!("#!/bin/sh\necho '{}'\n", super::PASSWORD));
        std::fs::set_permissions(&ask, std::fs::Permissions::from_mode(0o700)).expect("ours");
        let method = format!("PreferredAuthentications={method}");
        let mut client = Self::new(site, server, &["BatchMode=no", &method])?;
        client.0.env("SSH_ASKPASS", ask).env("SSH_ASKPASS_REQUIRE", "force");
        Some(client)
    }

    /// Runs `command` there with `input`.
    pub fn run(mut self, command: &str, input: &[u8]) -> Output {
        self.0.arg(format!("{USER}@127.0.0.1")).arg(command);
        self.0.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.0.spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("piped");
        std::thread::scope(|scope| {
            // One that does not let us in reads nothing: that is seen in what it returns.
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output().expect("it ends")
        })
    }
}

/// Has 300 KB echoed, and compares every byte.
pub fn assert_echoes(client: Client) {
    let sent: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let output = client.run(ECHO, &sent);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout.len(), sent.len());
    assert!(output.stdout == sent, "it echoes other bytes than it was sent");
}

/// The client is not let in, or not believed: its words have `why`.
pub fn assert_refused(client: Client, why: &str) {
    let output = client.run(ECHO, b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(why), "{said}");
}
