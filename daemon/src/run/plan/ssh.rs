//! SSH in a plan: which servers are believed, who logs in and by what, what each channel is for.

use std::collections::BTreeMap;
use std::sync::Arc;

use scale_api::http::Problem;
use scale_api::spec::{self, File, GroupSpec, Traffic};
use scale_api::target::Target;
use scale_proto::coder::paced_command;
use scale_proto::ssh::keys::{Certificate, HostKeys, KnownHosts, PrivateKey, Secret};
use scale_proto::ssh::{Algorithms, ClientConfig, Credential, Login, Program, Pty, Purpose, RekeyLimit};

use super::invalid;
use super::tables::content;
use crate::load::{MessageSize, Ssh, SshEndpoint};

/// `dd` takes no more at once, however long a message is: a pipe holds no more.
const BLOCK_BYTES_MAX: u32 = 64 << 10;
/// Bytes that a source of random bytes writes at once.
const SOURCE_BLOCK_BYTES: u32 = 16 << 10;

/// What the streams of `group` have in common; `unix_s` is now.
pub(super) fn settings(group: &GroupSpec, unix_s: u64) -> Result<Ssh, Problem> {
    let known = match content(group.known_hosts.as_ref(), "--known-hosts")? {
        None => KnownHosts::default(),
        Some(file) => KnownHosts::parse(file).map_err(|error| invalid(format!("--known-hosts: {error}")))?,
    };
    let all = Algorithms::default();
    let config = ClientConfig {
        algorithms: Algorithms {
            kex: chosen(&group.ssh_kex, all.kex, "--ssh-kex")?,
            ciphers: chosen(&group.ssh_ciphers, all.ciphers, "--ssh-ciphers")?,
            ..Algorithms::default()
        },
        host_keys: match (group.insecure_host_keys, group.accept_new) {
            (true, _) => HostKeys::Any,
            (false, true) => HostKeys::AcceptNew(known),
            (false, false) => HostKeys::Known(known),
        },
        rekey: RekeyLimit::default(),
        window_bytes: Ssh::WINDOW_BYTES,
        unix_s,
    };
    Ok(Ssh {
        config: Arc::new(config),
        channels_per_connection: group.channels(),
        hang_up: group.typed.is_some(),
        rekey_ns: Ssh::REKEY_NS,
    })
}

/// The algorithms named, in their order; all where none is.
fn chosen(names: &[String], known: Vec<&'static str>, word: &str) -> Result<Vec<&'static str>, Problem> {
    if names.is_empty() {
        return Ok(known);
    }
    let find = |name: &String| {
        known.iter().copied().find(|known| known == name).ok_or_else(|| {
            invalid(format!("{word}: `{name}` is not known here; there are {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

/// What is filled in for a stream.
pub(super) type Fill<'a> = &'a dyn Fn(&str) -> Result<String, Problem>;

/// Who logs in and what for, while the rows of a group are filled. What is the same is kept once.
pub(super) struct Sessions<'a> {
    group: &'a GroupSpec,
    /// What runs where the target's URL does not say.
    program: Program,
    environment: Vec<(String, String)>,
    /// Now, for certificates.
    unix_s: u64,
    passphrase: Option<Secret>,
    keys: BTreeMap<String, Arc<PrivateKey>>,
    certificates: BTreeMap<String, Arc<Certificate>>,
    /// By user and files.
    logins: BTreeMap<Vec<String>, Arc<Login>>,
    /// By command or destination.
    purposes: BTreeMap<String, Arc<Purpose>>,
}

impl<'a> Sessions<'a> {
    /// For `group`, whose messages have at most `message` bytes; `unix_s` is now.
    pub(super) fn new(group: &'a GroupSpec, message: MessageSize, unix_s: u64) -> Result<Self, Problem> {
        let pair = |variable: &String| {
            let (name, value) = variable.split_once('=').expect("checked by the spec");
            (name.to_owned(), value.to_owned())
        };
        let program = match &group.ssh_command {
            Some(command) => Program::Exec(command.clone()),
            None if group.ssh_shell => Program::Shell,
            None => Program::Exec(default_command(group, message)),
        };
        let passphrase = match &group.ssh_passphrase_file {
            None => None,
            Some(file) => {
                let content = content(Some(file), "--ssh-passphrase-file")?.unwrap_or_default();
                Some(secret(content, "--ssh-passphrase-file", &file.path.to_string_lossy())?)
            }
        };
        Ok(Self {
            group,
            program,
            environment: group.ssh_env.iter().map(pair).collect(),
            unix_s,
            passphrase,
            keys: BTreeMap::new(),
            certificates: BTreeMap::new(),
            logins: BTreeMap::new(),
            purposes: BTreeMap::new(),
        })
    }

    /// Texts of the group and of `target` in which every place must be a column.
    pub(super) fn strict(&self, target: &Target) -> Vec<String> {
        let files = self.group.login_files().filter_map(|(_, file)| file.path.to_str());
        let files = files.filter(|path| spec::places(path).next().is_some());
        files
            .chain(target.user.as_deref())
            .chain(self.group.ssh_forward.as_deref())
            .map(str::to_owned)
            .collect()
    }

    /// What a session on `target` runs, in which braces may be the command's own.
    pub(super) fn command(&self, target: &Target) -> Option<String> {
        target.command().or_else(|| match &self.program {
            Program::Exec(command) => Some(command.clone()),
            Program::Shell => None,
        })
    }

    /// Whom a stream logs in to and for what: `host` as it is known by, `fill` with its own words.
    pub(super) fn endpoint(
        &mut self,
        target: &Target,
        host: &str,
        fill: Fill<'_>,
    ) -> Result<SshEndpoint, Problem> {
        Ok(SshEndpoint {
            host: host.into(),
            port: target.port,
            login: self.login(target, fill)?,
            purpose: self.purpose(target, fill)?,
        })
    }

    fn login(&mut self, target: &Target, fill: Fill<'_>) -> Result<Arc<Login>, Problem> {
        let user = target.user.as_deref().ok_or_else(|| {
            invalid(format!("{target} does not say who logs in; write ssh://user@{}", target.authority()))
        })?;
        let user = fill(user)?;
        if user.is_empty() {
            return Err(invalid(format!("--rows makes the user of {target} empty; each row needs a name")));
        }
        let mut key = vec![user.clone()];
        for (_, file) in self.group.login_files() {
            key.push(path(file, fill)?);
        }
        if let Some(login) = self.logins.get(&key) {
            return Ok(login.clone());
        }
        let login = Arc::new(Login { user, credentials: self.credentials(fill)? });
        self.logins.insert(key, login.clone());
        Ok(login)
    }

    /// Keys in the order in which they were given, then the password.
    fn credentials(&mut self, fill: Fill<'_>) -> Result<Vec<Credential>, Problem> {
        let group = self.group;
        let keys: Vec<_> =
            group.ssh_identity.iter().map(|file| self.key(file, fill)).collect::<Result<_, _>>()?;
        let mut certificate = None;
        if let (Some(file), Some(first)) = (&group.ssh_certificate, keys.first()) {
            let found = self.certificate(file, fill)?;
            let key = keys.iter().find(|key| found.is_for(key)).unwrap_or(first);
            let path = path(file, fill)?;
            found
                .check_login(key, self.unix_s)
                .map_err(|error| invalid(format!("--ssh-certificate {path}: {error}")))?;
            certificate = Some(found);
        }
        let credential = |key: Arc<PrivateKey>| {
            let certificate = certificate.clone().filter(|certificate| certificate.is_for(&key));
            Credential::Key { key, certificate }
        };
        let mut credentials: Vec<Credential> = keys.into_iter().map(credential).collect();
        if let Some(file) = &group.ssh_password_file {
            let (path, content) = read(file, "--ssh-password-file", fill)?;
            credentials.push(Credential::Password(secret(content, "--ssh-password-file", &path)?));
        }
        Ok(credentials)
    }

    fn key(&mut self, file: &File, fill: Fill<'_>) -> Result<Arc<PrivateKey>, Problem> {
        let (path, content) = read(file, "--ssh-identity", fill)?;
        if let Some(key) = self.keys.get(&path) {
            return Ok(key.clone());
        }
        let key = PrivateKey::from_file(content, self.passphrase.as_ref())
            .map_err(|error| invalid(format!("--ssh-identity {path}: {error}")))?;
        let key = Arc::new(key);
        self.keys.insert(path, key.clone());
        Ok(key)
    }

    fn certificate(&mut self, file: &File, fill: Fill<'_>) -> Result<Arc<Certificate>, Problem> {
        let (path, content) = read(file, "--ssh-certificate", fill)?;
        if let Some(certificate) = self.certificates.get(&path) {
            return Ok(certificate.clone());
        }
        let certificate = Certificate::from_file(content)
            .map_err(|error| invalid(format!("--ssh-certificate {path}: {error}")))?;
        let certificate = Arc::new(certificate);
        self.certificates.insert(path, certificate.clone());
        Ok(certificate)
    }

    fn purpose(&mut self, target: &Target, fill: Fill<'_>) -> Result<Arc<Purpose>, Problem> {
        let forward = self.group.ssh_forward.as_deref();
        let word = match forward {
            Some(to) => fill(to)?,
            None => self.command(target).map(|command| fill(&command)).transpose()?.unwrap_or_default(),
        };
        if let Some(purpose) = self.purposes.get(&word) {
            return Ok(purpose.clone());
        }
        let purpose = if forward.is_some() {
            let (host, port) = spec::connect_to(&word).ok_or_else(|| {
                invalid(format!("--rows makes --ssh-forward to `{word}`; it is to be HOST:PORT"))
            })?;
            Purpose::Forward { host, port }
        } else {
            let pty = Pty { term: "xterm".into(), columns: 80, rows: 25 };
            Purpose::Session {
                environment: self.environment.clone(),
                pty: self.group.ssh_pty.then_some(pty),
                program: match self.program {
                    Program::Shell => Program::Shell,
                    Program::Exec(_) => Program::Exec(word.clone()),
                },
            }
        };
        let purpose = Arc::new(purpose);
        self.purposes.insert(word, purpose.clone());
        Ok(purpose)
    }
}

/// What Coder's own traffic test runs, and a source of bytes.
fn default_command(group: &GroupSpec, message: MessageSize) -> String {
    let block = message.max().min(BLOCK_BYTES_MAX);
    match group.traffic {
        // A terminal's echo is the kernel's.
        Traffic::Echo if group.ssh_pty => paced_command(block),
        Traffic::Echo => format!("dd if=/dev/stdin of=/dev/stdout bs={block} status=none"),
        Traffic::Discard => paced_command(block),
        Traffic::Receive => format!("dd if=/dev/urandom of=/dev/stdout bs={SOURCE_BLOCK_BYTES} status=none"),
    }
}

/// A file's path as a stream's words fill it in.
fn path(file: &File, fill: Fill<'_>) -> Result<String, Problem> {
    let path = file.path.to_string_lossy();
    if file.is_by_row() { fill(&path) } else { Ok(path.into_owned()) }
}

/// A file's path and content for a stream.
fn read<'f>(file: &'f File, word: &str, fill: Fill<'_>) -> Result<(String, &'f [u8]), Problem> {
    let path = path(file, fill)?;
    if !file.is_by_row() {
        return Ok((path, content(Some(file), word)?.unwrap_or_default()));
    }
    match file.by_row.get(&path) {
        Some(content) => Ok((path, content)),
        None => Err(invalid(format!(
            "{word} {path}: send the content of each row's file; the daemon opens no files of its callers"
        ))),
    }
}

/// The one line of a file.
fn secret(file: &[u8], word: &str, path: &str) -> Result<Secret, Problem> {
    Secret::from_file(file.to_vec()).map_err(|error| invalid(format!("{word} {path}: {error}")))
}
