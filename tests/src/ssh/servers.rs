//! The servers: OpenSSH, Dropbear, TinySSH, AsyncSSH, ssh2 for Node.js, russh.

use std::fs;
use std::process::Command;

use super::{Site, USER};
use crate::host::{free_port, in_repository, installed, python_with, root};
use crate::peer::Peer;
use crate::program;

const SCRIPTS: &str = "tests/peers";

/// An SSH server that ends with the test.
pub struct Server {
    /// The process and what it says.
    pub peer: Peer,
    /// Its public keys, each its kind and its base64.
    pub host_keys: Vec<String>,
}

impl Server {
    /// Where it listens.
    pub const fn port(&self) -> u16 {
        self.peer.port
    }

    /// It as a target, for [`USER`].
    pub fn target(&self) -> String {
        format!("ssh://{USER}@127.0.0.1:{}", self.port())
    }
}

impl Site {
    /// OpenSSH's sshd, with `settings` before those that every test needs; unless it is in them, `MaxStartups` is
    /// out of the way.
    pub fn openssh(&self, settings: &str) -> Option<Server> {
        let program = installed("sshd")?;
        // As root it wants this folder to be there, wherever it was built to look for it.
        let _ = fs::create_dir_all("/run/sshd");
        let port = free_port();
        let hosts: Vec<String> = self.host_kinds.iter().map(|&kind| self.openssh_host(kind)).collect();
        let startups = if settings.contains("MaxStartups") { "" } else { "MaxStartups 1000" };
        let config = format!(
            "{settings}
{startups}
ListenAddress 127.0.0.1:{port}
{}
PidFile none
AuthorizedKeysFile {}
StrictModes no
UsePAM no
PermitRootLogin yes
",
            hosts.concat(),
            self.authorized(),
        );
        let config = self.folder.write(&format!("sshd_{port}"), &config);
        let mut command = Command::new(program);
        command.args(["-D", "-e", "-f", &config]);
        // Newer ones shut those out who fail; the tests that want that say so.
        let penalties = ["-o", "PerSourcePenalties=no"];
        if command_is_fine(Command::new(command.get_program()).args(["-t", "-f", &config]).args(penalties)) {
            command.args(penalties);
        }
        Some(self.start(self.with_users(&mut command), port))
    }

    fn openssh_host(&self, kind: super::Kind) -> String {
        let key = self.host_key(kind);
        let mut lines = format!("HostKey {}\n", key.path);
        if self.certified {
            lines += &format!("HostCertificate {}\n", self.certify_host(&key, "127.0.0.1"));
        }
        lines
    }

    /// Dropbear.
    pub fn dropbear(&self, arguments: &[&str]) -> Option<Server> {
        let program = installed("dropbear")?;
        let port = free_port();
        let mut command = Command::new(program);
        for &kind in &self.host_kinds {
            let key = self.path(&format!("dropbear_{}_{port}", kind.name()));
            let mut convert = Command::new(installed("dropbearconvert")?);
            convert.args(["openssh", "dropbear", &self.host_key(kind).path, &key]);
            assert!(command_is_fine(&mut convert), "{convert:?}");
            command.args(["-r", &key]);
        }
        command.args(["-F", "-E", "-p", &format!("127.0.0.1:{port}"), "-P", &self.path("dropbear.pid")]);
        command.args(arguments);
        Some(self.start(self.with_users(&mut command), port))
    }

    /// TinySSH behind tcpserver. Its key is its own; it has no others than ed25519 ones.
    pub fn tinyssh(&self) -> Option<Server> {
        let (tcpserver, tinysshd) = (installed("tcpserver")?, installed("tinysshd")?);
        let (port, keys) = (free_port(), self.path("tinyssh"));
        if fs::metadata(&keys).is_err() {
            let mut make = Command::new(installed("tinysshd-makekey")?);
            assert!(command_is_fine(make.arg(&keys)), "{make:?}");
        }
        let printed = Command::new(installed("tinysshd-printkey")?).arg(&keys).output().expect("it starts");
        let mut command = Command::new(tcpserver);
        command.args(["-HRDl0", "127.0.0.1", &port.to_string()]).arg(tinysshd).args(["-v", &keys]);
        let peer = Peer::start(self.with_users(&mut command), port, &self.folder);
        let printed = String::from_utf8(printed.stdout).expect("text");
        Some(Server { peer, host_keys: printed.lines().map(str::to_owned).collect() })
    }

    /// AsyncSSH: `tests/peers/ssh.py` with `arguments`, of which its `--help` tells.
    pub fn asyncssh(&self, arguments: &[&str]) -> Option<Server> {
        let python = python_with("asyncssh")?;
        let port = free_port();
        let mut command = Command::new(python);
        command.arg(root().join(SCRIPTS).join("ssh.py"));
        self.give_script(&mut command, port);
        if self.certified {
            for &kind in &self.host_kinds {
                let certificate = self.certify_host(&self.host_key(kind), "127.0.0.1");
                command.args(["--host-certificate", &certificate]);
            }
        }
        command.args(arguments);
        Some(self.start(&mut command, port))
    }

    /// ssh2 for Node.js: `tests/peers/ssh.js` with `arguments`, of which its first lines tell.
    pub fn node(&self, arguments: &[&str]) -> Option<Server> {
        let node = installed("node")?;
        let modules = in_repository("tests/.peers/node_modules/ssh2")?;
        let port = free_port();
        let mut command = Command::new(node);
        command.arg(root().join(SCRIPTS).join("ssh.js"));
        command.env("NODE_PATH", modules.parent().expect("node_modules"));
        self.give_script(&mut command, port);
        command.args(arguments);
        Some(self.start(&mut command, port))
    }

    /// russh: `sink-russh` with `arguments`. It lets in everybody, and has no RSA keys.
    pub fn russh(&self, arguments: &[&str]) -> Server {
        let port = free_port();
        let mut command = Command::new(program("sink-russh"));
        command.args(["--listen", &format!("127.0.0.1:{port}")]).args(arguments);
        for &kind in &self.host_kinds {
            command.args(["--ssh-host-key", &self.host_key(kind).path]);
        }
        self.start(&mut command, port)
    }

    fn give_script(&self, command: &mut Command, port: u16) {
        command.args(["--port", &port.to_string(), "--authorized", &self.authorized()]);
        for &kind in &self.host_kinds {
            command.args(["--host-key", &self.host_key(kind).path]);
        }
    }

    fn start(&self, command: &mut Command, port: u16) -> Server {
        let peer = Peer::start(command, port, &self.folder);
        Server { peer, host_keys: self.host_kinds.iter().map(|&kind| self.host_key(kind).public).collect() }
    }
}

fn command_is_fine(command: &mut Command) -> bool {
    command.output().expect("it starts").status.success()
}
