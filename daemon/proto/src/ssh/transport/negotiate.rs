//! KEXINIT (RFC 4253 §7.1): what each side offers, and what comes of it.

use super::super::wire::{Reader, Write, words};
use super::super::{Algorithms, Negotiated, Random, message};
use super::Role;
use super::cipher::{Cipher, Mac, Suite};
use super::exchange::Method;
use crate::Fault;

const COOKIE_BYTES: usize = 16;

/// Names among the key exchanges that are none: RFC 8308 §2.1, OpenSSH's PROTOCOL §1.10.
const MARKERS: [&str; 2] = ["ext-info-", "kex-strict-"];

const fn ext_info(role: Role) -> &'static str {
    match role {
        Role::Client => "ext-info-c",
        Role::Server => "ext-info-s",
    }
}

const fn strict(role: Role) -> &'static str {
    match role {
        Role::Client => "kex-strict-c-v00@openssh.com",
        Role::Server => "kex-strict-s-v00@openssh.com",
    }
}

/// The payload of KEXINIT. The markers belong to the first one.
pub(super) fn kexinit(
    role: Role,
    offer: &Algorithms,
    first: bool,
    random: Random<'_>,
) -> Result<Vec<u8>, Fault> {
    let known = |names: &[&'static str], is_known: fn(&str) -> bool, what: &str| {
        let names: Vec<&str> = names.iter().copied().filter(|name| is_known(name)).collect();
        if names.is_empty() {
            Err(Fault::SshKex(format!("this side has no {what} to offer")))
        } else {
            Ok(names)
        }
    };
    let mut kex = known(&offer.kex, |name| Method::named(name).is_some(), "key exchange")?;
    if first {
        kex.extend([ext_info(role), strict(role)]);
    }
    let host_keys = known(&offer.host_keys, |name| host_key_named(name).is_some(), "kind of host key")?;
    let ciphers = known(&offer.ciphers, |name| Cipher::named(name).is_some(), "cipher")?;
    let macs: Vec<&str> = offer.macs.iter().copied().filter(|name| Mac::named(name).is_some()).collect();
    let mut payload = vec![message::KEXINIT];
    for _ in 0..COOKIE_BYTES / 8 {
        payload.put_uint64(random());
    }
    let (none, no) = (&["none"][..], &[][..]);
    for names in [&kex, &host_keys, &ciphers, &ciphers, &macs, &macs, none, none, no, no] {
        payload.put_string(names.join(","));
    }
    payload.put_boolean(false);
    payload.put_uint32(0);
    Ok(payload)
}

/// One side's KEXINIT. Of pairs, the first is for what the client sends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proposal<'a> {
    kex: &'a str,
    host_keys: &'a str,
    ciphers: [&'a str; 2],
    macs: [&'a str; 2],
    compressions: [&'a str; 2],
    guess_follows: bool,
}

impl<'a> Proposal<'a> {
    /// Reads KEXINIT's payload.
    pub(super) fn read(payload: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        reader.bytes(1 + COOKIE_BYTES)?;
        let proposal = Self {
            kex: reader.text()?,
            host_keys: reader.text()?,
            ciphers: [reader.text()?, reader.text()?],
            macs: [reader.text()?, reader.text()?],
            compressions: [reader.text()?, reader.text()?],
            guess_follows: {
                let _languages = [reader.string()?, reader.string()?];
                reader.boolean()?
            },
        };
        reader.uint32()?;
        Ok(proposal)
    }
}

/// What was settled on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub(super) method: Method,
    pub(super) kex: &'static str,
    pub(super) host_key: &'static str,
    /// What the client sends goes through the first.
    pub(super) suites: [Suite; 2],
    /// Both sides offer it.
    pub(super) strict: bool,
    /// The peer reads EXT_INFO.
    pub(super) ext_info: bool,
    /// The peer sends a packet for a key exchange that was not chosen.
    pub(super) wrong_guess: bool,
}

impl Choice {
    /// From both sides' KEXINIT, for this side's `role`.
    pub(super) fn new(role: Role, ours: &Proposal<'_>, theirs: &Proposal<'_>) -> Result<Self, Fault> {
        let (client, server) = match role {
            Role::Client => (ours, theirs),
            Role::Server => (theirs, ours),
        };
        let (kex, method) = choose("key exchange", client.kex, server.kex, Method::named)?;
        let suite = |way: usize| {
            let cipher = choose("cipher", client.ciphers[way], server.ciphers[way], Cipher::named)?;
            let mac = if cipher.authenticates() {
                None
            } else {
                Some(choose("MAC", client.macs[way], server.macs[way], Mac::named)?)
            };
            let none = |name: &str| (name == "none").then_some(());
            choose("compression", client.compressions[way], server.compressions[way], none)?;
            Ok(Suite { cipher, mac })
        };
        let same_guess =
            guess(client.kex) == guess(server.kex) && guess(client.host_keys) == guess(server.host_keys);
        Ok(Self {
            method,
            kex,
            host_key: choose("kind of host key", client.host_keys, server.host_keys, host_key_named)?,
            suites: [suite(0)?, suite(1)?],
            strict: has(client.kex, strict(Role::Client)) && has(server.kex, strict(Role::Server)),
            ext_info: has(theirs.kex, ext_info(role.other())),
            wrong_guess: theirs.guess_follows && !same_guess,
        })
    }

    /// Of what `role` sends.
    pub(super) fn suite(&self, role: Role) -> Suite {
        self.suites[role as usize]
    }

    pub(super) fn negotiated(&self, role: Role, strict: bool) -> Negotiated {
        let suite = self.suite(role);
        Negotiated {
            kex: self.kex,
            host_key: self.host_key,
            cipher: suite.cipher.name(),
            mac: suite.mac_name(),
            strict,
        }
    }

    /// The name that the host key's blob begins with (RFC 8332 §3: RSA's keys kept their old one).
    pub(super) fn blob_kind(&self) -> &'static str {
        match self.host_key {
            "rsa-sha2-256" | "rsa-sha2-512" => "ssh-rsa",
            "rsa-sha2-256-cert-v01@openssh.com" | "rsa-sha2-512-cert-v01@openssh.com" => {
                "ssh-rsa-cert-v01@openssh.com"
            }
            own => own,
        }
    }
}

fn host_key_named(name: &str) -> Option<&'static str> {
    Algorithms::HOST_KEYS.into_iter().find(|known| *known == name)
}

fn has(list: &str, name: &str) -> bool {
    list.split(',').any(|one| one == name)
}

fn guess(list: &str) -> Option<&str> {
    list.split(',').find(|name| !MARKERS.iter().any(|marker| name.starts_with(marker)))
}

/// The client's first that the server has, too.
fn choose<T>(what: &str, client: &str, server: &str, named: impl Fn(&str) -> Option<T>) -> Result<T, Fault> {
    let chosen = client.split(',').filter(|name| has(server, name)).find_map(named);
    chosen.ok_or_else(|| {
        let (client, server) = (words(client.as_bytes()), words(server.as_bytes()));
        Fault::SshKex(format!("no common {what}: the client offers {client}; the server offers {server}"))
    })
}
