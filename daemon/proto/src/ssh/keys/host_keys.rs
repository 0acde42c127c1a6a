//! Which servers are believed, judged as ssh judges them.

use std::sync::Arc;

use super::known_hosts::{Line, Meaning, bare, keyscan, name};
use super::public::{CERTIFICATE_SUFFIX, RSA_NAME, blob_type, fingerprint, shown};
use super::{Certificate, KnownHosts, PublicKey, signature_algorithm};
use crate::Fault;

/// Lines of a file that a refusal names.
const LINES_NAMED_MAX: usize = 3;

/// Which servers are believed. One for a group: all workers' connections share it.
#[derive(Debug)]
pub enum HostKeys {
    /// Any.
    Any,
    /// What a `known_hosts` file says.
    Known(KnownHosts),
    /// As `Known`; a host that is not in it is believed at first sight, and held to that for the run.
    AcceptNew(KnownHosts),
}

/// What the lines about a host say of what it shows.
enum Verdict<'a> {
    Believed,
    Refused(String),
    /// Other keys are the host's.
    Changed(Vec<&'a Line>),
    Unknown,
}

impl HostKeys {
    /// The algorithms of `offered` in the order in which a server known as `host` should be asked for
    /// them: first those for which something is known, as OpenSSH does; certificates that nobody is known
    /// to sign come last.
    pub fn order(&self, host: &str, port: u16, offered: &[&'static str]) -> Vec<&'static str> {
        let known = match self {
            Self::Any => return offered.to_vec(),
            Self::Known(known) | Self::AcceptNew(known) => known,
        };
        let (exact, plain) = (name(host, port), bare(host));
        let seen = match self {
            Self::AcceptNew(known) => known.accepted.key_type(&exact),
            Self::Any | Self::Known(_) => None,
        };
        let lines = || {
            let about = known.about(&exact);
            if seen.is_some() || about.clone().next().is_some() { about } else { known.about(&plain) }
        };
        let has_authority = lines().any(|line| line.meaning == Meaning::Authority);
        let mut ordered = offered.to_vec();
        ordered.sort_by_cached_key(|algorithm| {
            let key_type = key_type(algorithm);
            let is_known = || {
                seen == Some(key_type)
                    || lines().any(|line| line.meaning == Meaning::Key && line.key_type() == key_type)
            };
            match algorithm.ends_with(CERTIFICATE_SUFFIX) {
                true if has_authority => 0,
                true => 3,
                false if is_known() => 1,
                false => 2,
            }
        });
        ordered
    }

    /// Judges the key or certificate that a server presents, and returns the key that must have signed.
    ///
    /// A certificate is believed where an `@cert-authority` line names the host and the certificate holds;
    /// else its key is judged as if it had come alone. A host at another port than 22 that is not in the file
    /// with its port is believed by a line without one, as by OpenSSH.
    ///
    /// # Errors
    /// `SshHostKey`: unknown, changed, revoked, a certificate that is not valid; each with what to do.
    pub fn judge(&self, host: &str, port: u16, blob: &[u8], unix_s: u64) -> Result<PublicKey, Fault> {
        let presented = Presented::read(blob)?;
        let (known, accepted) = match self {
            Self::Any => return Ok(presented.key),
            Self::Known(known) => (known, None),
            Self::AcceptNew(known) => (known, Some(&known.accepted)),
        };
        let (exact, plain) = (name(host, port), bare(host));
        let verdict = match presented.judge(known.about(&exact), &plain, unix_s) {
            // A line without the port may believe or revoke, but a host at another port may have another key.
            Verdict::Unknown => match presented.judge(known.about(&plain), &plain, unix_s) {
                Verdict::Changed(_) => Verdict::Unknown,
                other => other,
            },
            other => other,
        };
        match (verdict, accepted) {
            (Verdict::Believed, _) => {}
            (Verdict::Unknown, Some(accepted)) => {
                accepted.judge(host, port, &presented.key).map_err(Fault::SshHostKey)?;
            }
            (Verdict::Unknown, None) => return refuse(presented.unknown(&exact, host, port)),
            (Verdict::Changed(lines), _) => return refuse(presented.changed(&exact, host, port, &lines)),
            (Verdict::Refused(why), _) => return refuse(format!("{exact}: {why}")),
        }
        Ok(presented.key)
    }

    /// Hosts that were believed at first sight, with their keys' fingerprints, in the order of their names.
    pub fn accepted(&self) -> Vec<(Arc<str>, String)> {
        match self {
            Self::Any | Self::Known(_) => Vec::new(),
            Self::AcceptNew(known) => known.accepted.list(),
        }
    }
}

/// What a server presents.
struct Presented {
    key: PublicKey,
    certificate: Option<Certificate>,
}

impl Presented {
    fn read(blob: &[u8]) -> Result<Self, Fault> {
        if blob_type(blob)?.ends_with(CERTIFICATE_SUFFIX) {
            let certificate = Certificate::from_blob(blob)?;
            Ok(Self { key: certificate.key().clone(), certificate: Some(certificate) })
        } else {
            Ok(Self { key: PublicKey::from_blob(blob)?, certificate: None })
        }
    }

    /// `host` is without its port, as certificates name it.
    fn judge<'a>(
        &self,
        lines: impl Iterator<Item = &'a Line> + Clone,
        host: &str,
        unix_s: u64,
    ) -> Verdict<'a> {
        let authority = self.certificate.as_ref().map(Certificate::authority);
        let is_authority = |line: &&Line| authority.is_some_and(|blob| *line.blob == *blob);
        let is_key = |line: &&Line| *line.blob == *self.key.blob();
        let of = |meaning| lines.clone().filter(move |line| line.meaning == meaning);

        if let Some(line) = of(Meaning::Revoked).find(|line| is_key(line) || is_authority(line)) {
            return Verdict::Refused(format!(
                "line {} of the known_hosts file revokes the key {}: do not go there before the host has another \
                 key, and the file that one",
                line.number,
                line.fingerprint(),
            ));
        }
        let mut is_certified = of(Meaning::Authority).filter(is_authority);
        let refusal = match (is_certified.next(), &self.certificate) {
            (Some(_), Some(certificate)) => match certificate.check_host(host, unix_s) {
                Ok(()) => return Verdict::Believed,
                Err(why) => Some(why),
            },
            _ => None,
        };
        let others: Vec<_> = of(Meaning::Key).collect();
        match refusal {
            _ if others.iter().any(is_key) => Verdict::Believed,
            Some(why) => Verdict::Refused(format!("its certificate {why}")),
            None if others.is_empty() => Verdict::Unknown,
            None => Verdict::Changed(others),
        }
    }

    fn unknown(&self, name: &str, host: &str, port: u16) -> String {
        let certified = self.certificate.as_ref().map_or(String::new(), |certificate| {
            format!(
                ", certified by {}, which no @cert-authority line has for it",
                fingerprint(certificate.authority())
            )
        });
        format!(
            "{name} is not in the known_hosts file and shows the {} key {}{certified}: compare it with the host's \
             own (`ssh-keygen -lf /etc/ssh/ssh_host_….pub`) and add what `{}` prints, or give --accept-new",
            self.key.type_name(),
            self.key.fingerprint(),
            keyscan(host, port),
        )
    }

    fn changed(&self, name: &str, host: &str, port: u16, lines: &[&Line]) -> String {
        let named: Vec<_> = lines
            .iter()
            .take(LINES_NAMED_MAX)
            .map(|line| format!("line {} has {} {}", line.number, shown(line.key_type()), line.fingerprint()))
            .collect();
        format!(
            "{name} shows the {} key {}, and the known_hosts file says otherwise ({}): somebody may be in between; \
             if the host has a new key, replace its lines by what `{}` prints",
            self.key.type_name(),
            self.key.fingerprint(),
            named.join(", "),
            keyscan(host, port),
        )
    }
}

fn refuse<T>(why: String) -> Result<T, Fault> {
    Err(Fault::SshHostKey(why))
}

/// The type of the key that an algorithm's signatures are by.
fn key_type(algorithm: &str) -> &str {
    match signature_algorithm(algorithm) {
        "rsa-sha2-256" | "rsa-sha2-512" => RSA_NAME,
        other => other,
    }
}
