//! OpenSSH's certificates (its PROTOCOL.certkeys): a key, whom it is for, when, and who says so.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::wire::Reader;
use super::known_hosts::is_like;
use super::public::{CERTIFICATE_SUFFIX, RSA_NAME, blob_type, shown};
use super::{KEY_FILE_BYTES_MAX, KeyError, PrivateKey, PublicKey};
use crate::Fault;

/// Names that a certificate may be for; as many as OpenSSH takes.
pub const PRINCIPALS_MAX: usize = 256;

/// Whose certificate it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    User,
    Host,
}

/// OpenSSH's certificate of a user or a host. That its authority has signed it was checked when it was read,
/// as far as its key is of a kind that is known here, and it does not sign by SHA-1.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    blob: Box<[u8]>,
    key: PublicKey,
    whose: Whose,
    id: String,
    principals: Vec<String>,
    /// Seconds since 1970; the first in which it is valid.
    valid_after: u64,
    /// The first in which it no longer is; `u64::MAX`: always.
    valid_before: u64,
    /// Names of options that must be understood, or the certificate refused.
    critical_options: Vec<String>,
    authority: Box<[u8]>,
    /// What was signed is the blob up to here.
    signed_bytes: usize,
    signature: Box<[u8]>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({:?} {} of {:?})", self.whose, shown(&self.id), self.key)
    }
}

impl Certificate {
    /// Reads a user's `…-cert.pub` file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_file(file: &[u8]) -> Result<Self, KeyError> {
        let certificate = Self::from_line(file).map_err(|why| {
            KeyError::malformed(format!(
                "{why}: give the file whose name ends with -cert.pub, which `ssh-keygen -s` made"
            ))
        })?;
        if certificate.whose == Whose::User {
            Ok(certificate)
        } else {
            Err(KeyError::malformed(
                "the certificate is a host's, and a user's is wanted: make one by `ssh-keygen -s` without -h",
            ))
        }
    }

    /// The first line that says something, as in a `.pub` file.
    fn from_line(file: &[u8]) -> Result<Self, String> {
        const NONE: &str = "the file holds no certificate";
        const DAMAGED: &str = "the certificate is damaged";
        if file.len() > KEY_FILE_BYTES_MAX {
            let bytes = file.len();
            return Err(format!(
                "the file has {bytes} bytes, and a certificate has at most {KEY_FILE_BYTES_MAX}"
            ));
        }
        let text = std::str::from_utf8(file).map_err(|_| NONE)?;
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let mut words = line.unwrap_or_default().split_ascii_whitespace();
        let (name, base64) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if !name.ends_with(CERTIFICATE_SUFFIX) {
            return Err(NONE.to_owned());
        }
        let blob = STANDARD.decode(base64).map_err(|_| DAMAGED)?;
        if blob_type(&blob).ok() != Some(name) {
            return Err(DAMAGED.to_owned());
        }
        let certificate = Self::from_blob(&blob).map_err(|fault| match fault {
            Fault::SshHostKey(why) => format!("the certificate cannot be used, {why}"),
            _ => DAMAGED.to_owned(),
        })?;
        // Who may sign, and how, the server judges; a damaged file is better found here.
        let by = Reader::new(&certificate.signature).text().map_err(|_| DAMAGED)?;
        let is_damaged = PublicKey::from_blob(&certificate.authority)
            .is_ok_and(|authority| by != RSA_NAME && certificate.verify_by(&authority).is_err());
        if is_damaged { Err(DAMAGED.to_owned()) } else { Ok(certificate) }
    }

    /// Reads a blob; its signature is not verified.
    pub(super) fn from_blob(blob: &[u8]) -> Result<Self, Fault> {
        let name = blob_type(blob)?;
        let key_name = name
            .strip_suffix(CERTIFICATE_SUFFIX)
            .ok_or_else(|| Fault::SshHostKey(format!("{} is no certificate", shown(name))))?;
        let mut reader = Reader::new(blob);
        Self::read(key_name, blob, &mut reader).map_err(|fault| match fault {
            Fault::SshProtocol(why) => Fault::SshHostKey(format!("a certificate that is malformed: {why}")),
            other => other,
        })
    }

    fn read(key_name: &str, blob: &[u8], reader: &mut Reader<'_>) -> Result<Self, Fault> {
        reader.string()?; // the type's name
        reader.string()?; // the nonce
        let key = PublicKey::read(key_name, reader)?;
        reader.uint64()?; // the serial number
        let whose = match reader.uint32()? {
            1 => Whose::User,
            2 => Whose::Host,
            _ => return Err(Fault::SshProtocol("a certificate of neither a user nor a host")),
        };
        let id = String::from_utf8_lossy(reader.string()?).into_owned();
        let principals = principals(reader.string()?)?;
        let (valid_after, valid_before) = (reader.uint64()?, reader.uint64()?);
        let critical_options = option_names(reader.string()?)?;
        reader.string()?; // extensions: permissions that the server grants
        reader.string()?; // reserved
        let authority = reader.string()?.into();
        let signed_bytes = blob.len() - reader.rest().len();
        let signature = reader.string()?.into();
        if !reader.is_empty() {
            return Err(Fault::SshProtocol("bytes behind the end of a certificate"));
        }
        Ok(Self {
            blob: blob.into(),
            key,
            whose,
            id,
            principals,
            valid_after,
            valid_before,
            critical_options,
            authority,
            signed_bytes,
            signature,
        })
    }

    fn verify_by(&self, authority: &PublicKey) -> Result<(), Fault> {
        authority.verify_any(&self.blob[..self.signed_bytes], &self.signature)
    }

    /// As it goes over the wire.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The key that it is about.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The blob of the key that has signed it.
    pub(super) fn authority(&self) -> &[u8] {
        &self.authority
    }

    /// Whether it is a user's certificate for this key.
    pub fn is_for(&self, key: &PrivateKey) -> bool {
        self.whose == Whose::User && &self.key == key.public()
    }

    /// The name for authentication by a signature `algorithm`: `rsa-sha2-512` gives
    /// `rsa-sha2-512-cert-v01@openssh.com`.
    pub fn algorithm(&self, algorithm: &'static str) -> &'static str {
        match algorithm {
            "ssh-ed25519" => "ssh-ed25519-cert-v01@openssh.com",
            "ecdsa-sha2-nistp256" => "ecdsa-sha2-nistp256-cert-v01@openssh.com",
            "rsa-sha2-256" => "rsa-sha2-256-cert-v01@openssh.com",
            "rsa-sha2-512" => "rsa-sha2-512-cert-v01@openssh.com",
            other => other,
        }
    }

    /// Whether somebody can log in by it now, with `key`; whom it names, the server judges.
    ///
    /// # Errors
    /// It is another key's, not valid yet, or no longer.
    pub fn check_login(&self, key: &PrivateKey, unix_s: u64) -> Result<(), KeyError> {
        if !self.is_for(key) {
            return Err(KeyError::malformed(format!(
                "the certificate is for the key {}, and the identity's is {}: give the certificate that was made \
                 for the identity's .pub file",
                self.key.fingerprint(),
                key.public().fingerprint(),
            )));
        }
        self.check_time(unix_s).map_err(|why| {
            KeyError::malformed(format!("the certificate {why}: have a new one made by `ssh-keygen -s`"))
        })
    }

    fn check_time(&self, unix_s: u64) -> Result<(), String> {
        if unix_s < self.valid_after {
            return Err(format!("is valid in {} only", Time(self.valid_after - unix_s)));
        }
        if unix_s >= self.valid_before {
            return Err(format!("expired {} ago", Time(unix_s - self.valid_before)));
        }
        Ok(())
    }

    /// Whether `host` may be believed because of it, given that its authority is.
    pub(super) fn check_host(&self, host: &str, unix_s: u64) -> Result<(), String> {
        if self.whose != Whose::Host {
            return Err("is a user's: make the host's by `ssh-keygen -s … -h`".to_owned());
        }
        PublicKey::from_blob(&self.authority)
            .and_then(|authority| self.verify_by(&authority))
            .map_err(|_| "is not signed by its authority as it says: have a new one made".to_owned())?;
        self.check_time(unix_s)
            .map_err(|why| format!("{why}: have a new one made by `ssh-keygen -s … -h`"))?;
        if let Some(option) = self.critical_options.first() {
            return Err(format!(
                "has the critical option {}, which no host's may have: have a new one made",
                shown(option)
            ));
        }
        if self.principals.iter().any(|principal| is_like(host, &principal.to_ascii_lowercase())) {
            return Ok(());
        }
        // An empty list is for nobody, as OpenSSH has it since 10.3.
        let named = self.principals.iter().map(|name| shown(name)).take(4).collect::<Vec<_>>().join(", ");
        Err(format!(
            "is for {}: have one made by `ssh-keygen -s … -h -n {host}`",
            if named.is_empty() { "no host by name" } else { &named },
        ))
    }
}

fn principals(packed: &[u8]) -> Result<Vec<String>, Fault> {
    let mut reader = Reader::new(packed);
    let mut principals = Vec::new();
    while !reader.is_empty() {
        if principals.len() == PRINCIPALS_MAX {
            return Err(Fault::SshProtocol("more names than a certificate may have"));
        }
        principals.push(reader.text()?.to_owned());
    }
    Ok(principals)
}

/// Names and values, one after the other.
fn option_names(packed: &[u8]) -> Result<Vec<String>, Fault> {
    let mut reader = Reader::new(packed);
    let mut names = Vec::new();
    while !reader.is_empty() {
        names.push(reader.text()?.to_owned());
        reader.string()?;
    }
    Ok(names)
}

/// Seconds, in the unit in which they are a small number.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match self.0 {
            seconds @ 0..120 => (seconds, "seconds"),
            seconds @ 120..7_200 => (seconds / 60, "minutes"),
            seconds @ 7_200..172_800 => (seconds / 3_600, "hours"),
            seconds => (seconds / 86_400, "days"),
        };
        write!(f, "{count} {unit}")
    }
}
