//! A client against a server in memory.

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../../fixtures/ssh/", $name)).as_slice()
    };
}

mod exchanges;
mod faults;
mod packets;
mod recorded;
mod rekeys;

use std::collections::VecDeque;

use super::super::keys::{HostKeys, PrivateKey};
use super::super::{Algorithms, RekeyLimit};
use super::*;

/// Words that look random and are the same each time.
fn seeded(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ mixed >> 27
    }
}

/// One end with what its caller keeps.
struct End {
    transport: Transport,
    random: Box<dyn FnMut() -> u64>,
    carry: Vec<u8>,
    out: Vec<u8>,
    /// What came for the layer above.
    received: VecDeque<Vec<u8>>,
    exchanges: Vec<bool>,
}

impl End {
    fn new(transport: Transport, seed: u64) -> Self {
        Self {
            transport,
            random: Box::new(seeded(seed)),
            carry: Vec::new(),
            out: Vec::new(),
            received: VecDeque::new(),
            exchanges: Vec::new(),
        }
    }

    fn start(&mut self) {
        self.transport.start(&mut self.random, &mut self.out).unwrap();
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.carry.extend_from_slice(bytes);
        let mut done = 0;
        let end = loop {
            let input = &mut self.carry[done..];
            let (consumed, step) = match self.transport.next(input, &mut self.random, &mut self.out) {
                Ok(taken) => taken,
                Err(fault) => break Err(fault),
            };
            match step {
                Step::Incomplete => {
                    done += consumed;
                    break Ok(());
                }
                Step::Identified => assert!(!self.transport.peer_identification().is_empty()),
                Step::KeysExchanged { again } => {
                    assert_eq!(again, !self.exchanges.is_empty());
                    self.exchanges.push(again);
                }
                Step::Payload(range) => {
                    assert!(range.end <= consumed);
                    self.received.push_back(input[range].to_vec());
                }
            }
            done += consumed;
        };
        self.carry.drain(..done);
        end
    }

    /// Sends as a layer above does: in place where it may, else what has to wait.
    fn send(&mut self, payload: &[u8]) {
        let Self { transport, random, out, .. } = self;
        if transport.is_exchanging() {
            return transport.seal_payload(payload, random, out).unwrap();
        }
        let (start, bytes) = (out.len(), transport.sealed_bytes(payload.len()));
        out.resize(start + bytes, 0);
        let fill = |place: &mut [u8]| place.copy_from_slice(payload);
        let sealed = transport.seal_in_place(&mut out[start..], payload.len(), random, fill).unwrap();
        assert_eq!(sealed, bytes);
    }

    fn rekey(&mut self) {
        self.transport.request_rekey(&mut self.random, &mut self.out).unwrap();
    }

    /// A packet that no transport would send now.
    fn send_raw(&mut self, payload: &[u8]) {
        self.transport.outgoing.append(payload, &mut self.random, &mut self.out).unwrap();
    }

    fn take_out(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

struct Pair {
    client: End,
    server: End,
}

impl Pair {
    /// Started, and nothing delivered.
    fn new(client: Algorithms, server: Algorithms, bytes_before_rekey: u64) -> Self {
        let mut pair = Self::unstarted(client, server, bytes_before_rekey);
        pair.client.start();
        pair.server.start();
        pair
    }

    /// With a client that believes only these.
    fn known(host_keys: HostKeys) -> Self {
        let mut pair = Self::unstarted(Algorithms::default(), Algorithms::default(), u64::MAX);
        let Side::Client { config, .. } = &mut pair.client.transport.side else { unreachable!("a client") };
        Arc::get_mut(config).expect("nobody else has it").host_keys = host_keys;
        pair.client.start();
        pair.server.start();
        pair
    }

    fn unstarted(client: Algorithms, server: Algorithms, bytes_before_rekey: u64) -> Self {
        let rekey = RekeyLimit { bytes: bytes_before_rekey };
        let client =
            ClientConfig { algorithms: client, host_keys: HostKeys::Any, rekey, window_bytes: 0, unix_s: 0 };
        let server = ServerConfig {
            algorithms: server,
            host_keys: host_keys(),
            rekey,
            window_bytes: 0,
            none: true,
            banner: None,
        };
        Self {
            client: End::new(Transport::client(Arc::new(client), "host".into(), 22), 1),
            server: End::new(Transport::server(Arc::new(server)), 2),
        }
    }

    fn open(algorithms: &Algorithms) -> Self {
        Self::open_with(algorithms, u64::MAX)
    }

    /// With keys, and a user that is authenticated.
    fn open_with(algorithms: &Algorithms, bytes_before_rekey: u64) -> Self {
        let mut pair = Self::new(algorithms.clone(), algorithms.clone(), bytes_before_rekey);
        pair.settle(usize::MAX).unwrap();
        pair.authenticate();
        pair
    }

    fn authenticate(&mut self) {
        let End { transport, random, out, .. } = &mut self.server;
        transport.seal_payload(&[message::USERAUTH_SUCCESS], random, out).unwrap();
        self.settle(usize::MAX).unwrap();
        assert_eq!(self.client.received.pop_front().as_deref(), Some(&[message::USERAUTH_SUCCESS][..]));
    }

    /// Delivers all, in pieces, until nobody has anything to say.
    fn settle(&mut self, piece: usize) -> Result<(), Fault> {
        while !self.client.out.is_empty() || !self.server.out.is_empty() {
            for bytes in self.client.take_out().chunks(piece) {
                self.server.feed(bytes)?;
            }
            for bytes in self.server.take_out().chunks(piece) {
                self.client.feed(bytes)?;
            }
        }
        Ok(())
    }
}

/// One of each kind, read once.
fn host_keys() -> Vec<Arc<PrivateKey>> {
    static KEYS: std::sync::OnceLock<Vec<Arc<PrivateKey>>> = std::sync::OnceLock::new();
    KEYS.get_or_init(|| {
        [fixture!("ed25519"), fixture!("ecdsa"), fixture!("rsa2048")]
            .map(|file| Arc::new(PrivateKey::from_file(file, None).unwrap()))
            .to_vec()
    })
    .clone()
}

/// The default with one cipher and one MAC.
fn suite(cipher: &'static str, mac: &'static str) -> Algorithms {
    Algorithms { ciphers: vec![cipher], macs: vec![mac], ..Algorithms::default() }
}

/// Every cipher, with every MAC where it needs one.
fn suites() -> Vec<(&'static str, &'static str)> {
    let macs = |cipher: &'static str| {
        let count = if cipher.ends_with("-ctr") { Algorithms::MACS.len() } else { 1 };
        Algorithms::MACS[..count].iter().map(move |&mac| (cipher, mac))
    };
    Algorithms::CIPHERS.into_iter().flat_map(macs).collect()
}

/// A payload of the layer above.
fn data(bytes: usize, seed: u8) -> Vec<u8> {
    let mut payload: Vec<u8> = (0..bytes).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect();
    payload[0] = message::CHANNEL_DATA;
    payload
}
