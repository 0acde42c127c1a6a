//! A key exchange from KEXINIT to NEWKEYS, the first one and later ones, in both roles.

use zeroize::Zeroizing;

use super::super::keys::PrivateKey;
use super::super::wire::{Reader, Write};
use super::super::{Algorithms, ClientConfig, Random, ServerConfig, message};
use super::cipher::{Keys, Opening, Sealing};
use super::exchange::{Derivation, Ephemeral, Shared, Transcript};
use super::negotiate::{self, Choice, Proposal};
use super::{Role, Side, Transport, WAITING_BYTES_MAX, extensions, identification};
use crate::Fault;

/// A key exchange that is not over. It begins with this side's KEXINIT.
#[derive(Debug)]
pub(super) struct Exchange {
    /// This side's KEXINIT; empty before the connection is started.
    ours: Vec<u8>,
    stage: Stage,
    /// The peer's next packet of a method is for one that was not chosen.
    skip: bool,
    /// This side has sent NEWKEYS.
    pub(super) sealing_is_new: bool,
    waiting: Waiting,
}

/// What the peer has to say next. Each holds only what is known then.
enum Stage {
    /// KEXINIT.
    KexInit,
    /// A server: the client's share.
    Share { theirs: Vec<u8>, choice: Box<Choice> },
    /// A client: the server's share, its key and its signature.
    Reply { theirs: Vec<u8>, choice: Box<Choice>, ephemeral: Ephemeral, share: Vec<u8> },
    /// NEWKEYS, from which on its packets are opened so.
    NewKeys(Opening),
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::KexInit => "KexInit",
            Self::Share { .. } => "Share",
            Self::Reply { .. } => "Reply",
            Self::NewKeys(_) => "NewKeys",
        })
    }
}

/// Payloads of the layer above that go after NEWKEYS, each behind its length. They may hold a password.
#[derive(Debug, Default)]
struct Waiting(Zeroizing<Vec<u8>>);

impl Waiting {
    fn push(&mut self, payload: &[u8]) -> Result<(), Fault> {
        if self.0.len() + 4 + payload.len() > WAITING_BYTES_MAX {
            return Err(Fault::SshProtocol("too much waits for new keys, which the peer does not exchange"));
        }
        self.0.put_string(payload);
        Ok(())
    }
}

impl Exchange {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            ours: Vec::new(),
            stage: Stage::KexInit,
            skip: false,
            sealing_is_new: false,
            waiting: Waiting::default(),
        })
    }

    /// Whether the peer has sent KEXINIT, so that nothing of the layer above may come.
    pub(super) fn peer_exchanges(&self) -> bool {
        !matches!(self.stage, Stage::KexInit)
    }

    /// Keeps a payload of the layer above.
    pub(super) fn wait(&mut self, payload: &[u8]) -> Result<(), Fault> {
        self.waiting.push(payload)
    }
}

const UNEXPECTED: Fault = Fault::SshProtocol("a message of the key exchange comes out of order");

impl Side {
    fn offer(&self) -> Algorithms {
        match self {
            Self::Client { config, host, port } => {
                let offered = &config.algorithms;
                let host_keys = config.host_keys.order(host, *port, &offered.host_keys);
                Algorithms { host_keys, ..offered.clone() }
            }
            Self::Server(config) => {
                let mut offered = config.algorithms.clone();
                offered.host_keys.retain(|name| host_key(config, name).is_some());
                offered
            }
        }
    }
}

/// The key that signs by `algorithm`.
fn host_key<'a>(config: &'a ServerConfig, algorithm: &str) -> Option<&'a PrivateKey> {
    config.host_keys.iter().map(|key| &**key).find(|key| key.algorithms().contains(&algorithm))
}

impl Transport {
    /// Sends KEXINIT, which begins an exchange.
    pub(super) fn begin(&mut self, random: Random<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        let first = self.negotiated.is_none();
        let ours = negotiate::kexinit(self.side.role(), &self.side.offer(), first, random)?;
        self.outgoing.append(&ours, random, out)?;
        self.exchange.get_or_insert_with(Exchange::new).ours = ours;
        Ok(())
    }

    /// Begins with another KEXINIT than this side would send.
    #[cfg(test)]
    pub(super) fn begin_with(&mut self, ours: Vec<u8>, random: Random<'_>, out: &mut Vec<u8>) {
        self.outgoing.append(&ours, random, out).expect("fresh keys");
        self.exchange.get_or_insert_with(Exchange::new).ours = ours;
    }

    /// The peer's KEXINIT: begins an exchange, or answers this side's, which may have crossed it.
    pub(super) fn on_kexinit(
        &mut self,
        payload: &[u8],
        random: Random<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if self.exchange.is_none() {
            self.begin(random, out)?;
        }
        let (role, first) = (self.side.role(), self.negotiated.is_none());
        let exchange = self.exchange.as_mut().expect("an exchange was begun");
        assert!(!exchange.ours.is_empty(), "a transport is started before it takes anything");
        if exchange.peer_exchanges() {
            return Err(UNEXPECTED);
        }
        let choice = Choice::new(role, &Proposal::read(&exchange.ours)?, &Proposal::read(payload)?)?;
        if first {
            self.strict = choice.strict;
            if self.strict && self.incoming.last_sequence() != 0 {
                return Err(Fault::SshProtocol("KEXINIT is not the first packet under strict key exchange"));
            }
        }
        exchange.skip = choice.wrong_guess;
        let (theirs, choice) = (payload.to_vec(), Box::new(choice));
        exchange.stage = match role {
            Role::Server => Stage::Share { theirs, choice },
            Role::Client => {
                let (ephemeral, share) = choice.method.initiate()?;
                let mut message = vec![message::KEX_ECDH_INIT];
                message.put_string(&share);
                self.outgoing.append(&message, random, out)?;
                Stage::Reply { theirs, choice, ephemeral, share }
            }
        };
        Ok(())
    }

    /// A message of the method: the numbers 30 to 49.
    pub(super) fn on_method(
        &mut self,
        payload: &[u8],
        random: Random<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let exchange = self.exchange.as_mut().ok_or(UNEXPECTED)?;
        if std::mem::take(&mut exchange.skip) {
            return Ok(());
        }
        let mut reader = Reader::new(payload);
        let number = reader.byte()?;
        match (number, std::mem::replace(&mut exchange.stage, Stage::KexInit)) {
            (message::KEX_ECDH_INIT, Stage::Share { theirs, choice }) => {
                let client_share = reader.string()?;
                reader.end()?;
                self.on_share(&theirs, &choice, client_share, random, out)
            }
            (message::KEX_ECDH_REPLY, Stage::Reply { theirs, choice, ephemeral, share }) => {
                let (host_key, server_share, signature) =
                    (reader.string()?, reader.string()?, reader.string()?);
                reader.end()?;
                let shared = ephemeral.finish(server_share)?;
                let hash = Transcript {
                    client_identification: identification::OURS,
                    server_identification: &self.peer_identification,
                    client_kexinit: self.ours(),
                    server_kexinit: &theirs,
                    host_key,
                    client_share: &share,
                    server_share,
                }
                .hash(&shared);
                self.check_server(&choice, host_key, &hash, signature)?;
                self.take_keys(&choice, &shared, hash, random, out)
            }
            _ => Err(UNEXPECTED),
        }
    }

    fn ours(&self) -> &[u8] {
        self.exchange.as_ref().map_or(&[], |exchange| &exchange.ours)
    }

    /// A server has the client's share: it answers and signs.
    fn on_share(
        &mut self,
        theirs: &[u8],
        choice: &Choice,
        client_share: &[u8],
        random: Random<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let Side::Server(config) = &self.side else { return Err(UNEXPECTED) };
        let key = host_key(config, choice.host_key).expect("what is offered has a key");
        let (server_share, shared) = choice.method.respond(client_share)?;
        let hash = Transcript {
            client_identification: &self.peer_identification,
            server_identification: identification::OURS,
            client_kexinit: theirs,
            server_kexinit: self.ours(),
            host_key: key.public_blob(),
            client_share,
            server_share: &server_share,
        }
        .hash(&shared);
        let mut reply = vec![message::KEX_ECDH_REPLY];
        reply.put_string(key.public_blob());
        reply.put_string(&server_share);
        reply.put_string(key.sign(choice.host_key, &hash).map_err(|fault| Fault::SshKex(fault.to_string()))?);
        self.outgoing.append(&reply, random, out)?;
        self.take_keys(choice, &shared, hash, random, out)
    }

    /// Whether the server is the one that was meant, and has said all this.
    fn check_server(
        &self,
        choice: &Choice,
        host_key: &[u8],
        hash: &[u8],
        signature: &[u8],
    ) -> Result<(), Fault> {
        let Side::Client { config, host, port } = &self.side else { return Err(UNEXPECTED) };
        let ClientConfig { host_keys, unix_s, .. } = &**config;
        if Reader::new(host_key).string()? != choice.blob_kind().as_bytes() {
            return Err(Fault::SshKex(format!("the host key is no {}, which was chosen", choice.host_key)));
        }
        let key = host_keys.judge(host, *port, host_key, *unix_s)?;
        key.verify(choice.host_key, hash, signature).map_err(|fault| Fault::SshKex(fault.to_string()))
    }

    /// Sends NEWKEYS, and what waited for them.
    fn take_keys(
        &mut self,
        choice: &Choice,
        shared: &Shared,
        hash: [u8; 32],
        random: Random<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let first = self.negotiated.is_none();
        if first {
            self.session_id = hash;
        }
        let (role, strict) = (self.side.role(), self.strict);
        let derivation = Derivation { shared, hash: &hash, session_id: &self.session_id };
        let keys = |role: Role| {
            let letters = match role {
                Role::Client => *b"ACE",
                Role::Server => *b"BDF",
            };
            Keys::derive(letters, choice.suite(role), |letter, key| derivation.derive(letter, key))
        };
        let sealing = Sealing::new(choice.suite(role), &keys(role));
        let opening = Opening::new(choice.suite(role.other()), &keys(role.other()));
        self.outgoing.append(&[message::NEWKEYS], random, out)?;
        self.outgoing.rekey(sealing, strict);
        self.negotiated = Some(choice.negotiated(role, strict));
        if first && role == Role::Server && choice.ext_info {
            self.outgoing.append(&extensions::ext_info(), random, out)?;
        }
        let exchange = self.exchange.as_mut().expect("keys come of an exchange");
        exchange.stage = Stage::NewKeys(opening);
        exchange.sealing_is_new = true;
        let waiting = std::mem::take(&mut exchange.waiting);
        let mut payloads = Reader::new(&waiting.0);
        while !payloads.is_empty() {
            self.outgoing.append(payloads.string()?, random, out)?;
        }
        Ok(())
    }

    /// The peer's NEWKEYS end the exchange.
    pub(super) fn on_newkeys(&mut self) -> Result<(), Fault> {
        let exchange = self.exchange.take().ok_or(UNEXPECTED)?;
        let Stage::NewKeys(opening) = exchange.stage else { return Err(UNEXPECTED) };
        self.incoming.rekey(opening, self.strict);
        Ok(())
    }
}
