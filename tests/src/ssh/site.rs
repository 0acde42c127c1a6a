//! What an SSH server and its clients are given: keys, certificates, `known_hosts`, users.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

use super::Server;
use crate::host::{Folder, installed, installed_library};

/// Who logs in.
pub const USER: &str = "loadtest";
/// That user's password.
pub const PASSWORD: &str = "correct horse";
/// As shadow(5) has it: `openssl passwd -6 -salt tests 'correct horse'`.
const PASSWORD_HASH: &str =
    "$6$tests$NK9nVKc1TdpItMSObKjnYSHgeRyIxFKuqmD0QzldBr3UdU6.LyPPow8nWaw/LPeWNI1/SaPAZkZzR1Ko46OSK0";
/// Which library gives a program its own users.
const WRAPPER: &str = "libnss_wrapper.so";

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `ssh-ed25519`.
    Ed25519,
    /// `ecdsa-sha2-nistp256`.
    Ecdsa,
    /// `ssh-rsa`, 2048 bits; its signatures are `rsa-sha2-256` and `rsa-sha2-512`.
    Rsa,
}

impl Kind {
    /// Each.
    pub const ALL: [Self; 3] = [Self::Ed25519, Self::Ecdsa, Self::Rsa];

    /// As ssh-keygen's `-t` says it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::Ecdsa => "ecdsa",
            Self::Rsa => "rsa",
        }
    }
}

/// A key pair: the private key's file, and the public one beside it.
#[derive(Debug, Clone)]
pub struct Key {
    /// The private key's path; the public one's has `.pub` behind it.
    pub path: String,
    /// The public key: its kind and its base64.
    pub public: String,
}

/// What a `known_hosts` file says of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// `[127.0.0.1]:port` has these keys.
    Plain,
    /// So, with the name hashed.
    Hashed,
    /// Hosts whose key [`Site::authority`] certifies are known.
    Authority,
    /// These keys are the host's, and revoked.
    Revoked,
    /// The host has other keys.
    Changed,
    /// Nothing: other hosts have these keys.
    Others,
}

/// A folder with what servers need.
#[derive(Debug)]
pub struct Site {
    /// Where everything is.
    pub folder: Folder,
    /// Kinds of the keys that servers have.
    pub host_kinds: Vec<Kind>,
    /// Servers show certificates of the authority `hosts` for their keys.
    pub certified: bool,
}

impl Site {
    /// A site at which [`USER`] may come in with a key of each kind, and by [`PASSWORD`]. Servers have an ed25519
    /// key. `None`: what it takes is not installed, which was said.
    pub fn new() -> Option<Self> {
        installed("ssh-keygen")?;
        installed_library(WRAPPER)?;
        let site = Self { folder: Folder::private(), host_kinds: vec![Kind::Ed25519], certified: false };
        site.write_users();
        let keys: String = Kind::ALL.map(|kind| site.user_key(kind).public + "\n").concat();
        fs::create_dir_all(site.folder.path("home/.ssh")).expect("a home");
        for folder in ["home", "home/.ssh"] {
            fs::set_permissions(site.folder.path(folder), fs::Permissions::from_mode(0o700)).expect("ours");
        }
        site.folder.write(AUTHORIZED, &keys);
        fs::set_permissions(site.folder.path(AUTHORIZED), fs::Permissions::from_mode(0o600)).expect("ours");
        Some(site)
    }

    /// The user's `authorized_keys`.
    pub fn authorized(&self) -> String {
        self.path(AUTHORIZED)
    }

    /// A file of the folder's, as an argument.
    pub fn path(&self, file: &str) -> String {
        self.folder.path(file).display().to_string()
    }

    /// A key that lets [`USER`] in.
    pub fn user_key(&self, kind: Kind) -> Key {
        self.key("user", kind)
    }

    /// A key of the servers'.
    pub fn host_key(&self, kind: Kind) -> Key {
        self.key("host", kind)
    }

    /// The key that certifies `what`: `users` or `hosts`.
    pub fn authority(&self, what: &str) -> Key {
        self.key(&format!("authority_of_{what}"), Kind::Ed25519)
    }

    /// The key pair of this name and kind, made where it is not there yet.
    pub fn key(&self, name: &str, kind: Kind) -> Key {
        let path = self.path(&format!("{name}_{}", kind.name()));
        if !PathBuf::from(&path).exists() {
            let bits: &[&str] = if kind == Kind::Rsa { &["-b", "2048"] } else { &[] };
            keygen(&[&["-t", kind.name(), "-N", "", "-C", name, "-f", &path], bits].concat());
        }
        let public = fs::read_to_string(format!("{path}.pub")).expect("ssh-keygen wrote it");
        let mut words = public.split(' ');
        let (kind, blob) = (words.next().expect("a kind"), words.next().expect("a blob"));
        Key { public: format!("{kind} {blob}"), path }
    }

    /// The user's key once more, its file encrypted.
    pub fn encrypted(&self, kind: Kind, passphrase: &str) -> String {
        let path = self.path(&format!("encrypted_{}", kind.name()));
        fs::copy(self.user_key(kind).path, &path).expect("copied");
        keygen(&["-p", "-P", "", "-N", passphrase, "-f", &path]);
        path
    }

    /// A user's certificate for `key` in the name of `principal`, valid as ssh-keygen's `-V` says it: its path.
    pub fn certify_user(&self, key: &Key, principal: &str, validity: &str) -> String {
        let authority = self.authority("users");
        let sign = ["-s", &authority.path, "-I", "a test's", "-n", principal, "-V", validity];
        keygen(&[&sign[..], &[&format!("{}.pub", key.path)]].concat());
        format!("{}-cert.pub", key.path)
    }

    /// A host's certificate for `key` in the name of `principal`: its path.
    pub fn certify_host(&self, key: &Key, principal: &str) -> String {
        let authority = self.authority("hosts");
        keygen(&[
            "-s",
            &authority.path,
            "-I",
            "a test's",
            "-h",
            "-n",
            principal,
            &format!("{}.pub", key.path),
        ]);
        format!("{}-cert.pub", key.path)
    }

    /// A `known_hosts` file about `server`: its path.
    pub fn known_hosts(&self, server: &Server, known: Known) -> String {
        let host = format!("[127.0.0.1]:{}", server.port());
        let lines = |host: &str, keys: &[String]| -> String {
            keys.iter().map(|key| format!("{host} {key}\n")).collect()
        };
        let text = match known {
            Known::Plain | Known::Hashed => lines(&host, &server.host_keys),
            Known::Authority => format!("@cert-authority {host} {}\n", self.authority("hosts").public),
            Known::Revoked => lines(&host, &server.host_keys) + &lines("@revoked *", &server.host_keys),
            Known::Changed => {
                let others: Vec<String> =
                    self.host_kinds.iter().map(|&kind| self.key("other", kind).public).collect();
                lines(&host, &others)
            }
            Known::Others => lines("other.example.com,[127.0.0.1]:1", &server.host_keys),
        };
        let path = self.folder.write(&format!("known_hosts_{known:?}_{}", server.port()), &text);
        if known == Known::Hashed {
            keygen(&["-H", "-f", &path]);
        }
        path
    }

    /// Has `command` know [`USER`], and nobody of the host's users but root.
    pub fn with_users<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("LD_PRELOAD", WRAPPER);
        for (variable, file) in [
            ("NSS_WRAPPER_PASSWD", "passwd"),
            ("NSS_WRAPPER_SHADOW", "shadow"),
            ("NSS_WRAPPER_GROUP", "group"),
        ] {
            command.env(variable, self.folder.path(file));
        }
        command
    }

    fn write_users(&self) {
        let me = fs::metadata("/proc/self").expect("/proc is there");
        let (user, group, home) = (me.uid(), me.gid(), self.path("home"));
        // sshd wants a user of its own to lose its rights to; a shell that reads no file of the user's is quick.
        let users = format!(
            "{USER}:x:{user}:{group}::{home}:/bin/sh\nroot:x:0:0::/:/bin/sh\nsshd:x:65534:65534::/:/bin/false\n"
        );
        self.folder.write("passwd", &users);
        self.folder.write("group", &format!("root:x:0:\nnogroup:x:65534:\n{USER}:x:{group}:\n"));
        self.folder.write("shadow", &format!("{USER}:{PASSWORD_HASH}:1:0:99999:7:::\n"));
    }
}

const AUTHORIZED: &str = "home/.ssh/authorized_keys";

fn keygen(arguments: &[&str]) {
    let output = Command::new("ssh-keygen").arg("-q").args(arguments).output().expect("it starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
