//! SSH: packets before keys and after them, to either role. What a side makes of its input does not
//! depend on how it is cut, and what was tampered with never comes out.

use std::sync::{Arc, OnceLock};

use scale_proto::Fault;
use scale_proto::ssh::keys::{HostKeys, PrivateKey, Secret};
use scale_proto::ssh::transport::{Step, Transport};
use scale_proto::ssh::{
    Algorithms, Client, ClientConfig, Credential, Login, PACKET_BYTES_MAX, Program, Purpose, RekeyLimit,
    Server, ServerConfig,
};

use super::{pieces, split};

/// The longest tag is HMAC-SHA-512's.
const SEALED_BYTES_MAX: usize = 4 + PACKET_BYTES_MAX + 64;

fn seed() -> PrivateKey {
    PrivateKey::from_seed([7; 32])
}

fn client_config(algorithms: Algorithms) -> Arc<ClientConfig> {
    Arc::new(ClientConfig {
        algorithms,
        host_keys: HostKeys::Any,
        rekey: RekeyLimit::default(),
        window_bytes: 1000,
        unix_s: 0,
    })
}

fn configs() -> &'static (Arc<ClientConfig>, Arc<ServerConfig>, Arc<Login>) {
    static CONFIGS: OnceLock<(Arc<ClientConfig>, Arc<ServerConfig>, Arc<Login>)> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let server = ServerConfig {
            algorithms: Algorithms::default(),
            host_keys: vec![Arc::new(seed())],
            rekey: RekeyLimit::default(),
            window_bytes: 1000,
            none: true,
            banner: Some("hello".to_owned()),
        };
        let key = Credential::Key { key: Arc::new(seed()), certificate: None };
        let password = Credential::Password(Secret::new(b"secret".to_vec()));
        let login = Login { user: "user".to_owned(), credentials: vec![key, password] };
        (client_config(Algorithms::default()), Arc::new(server), Arc::new(login))
    })
}

/// The same words each time: only padding and cookies are made of them.
fn random() -> u64 {
    0xA5A5_5A5A_3C3C_C3C3
}

/// A whole side of either role.
enum Side {
    Client(Client),
    Server(Server),
}

/// One end with what its caller keeps.
struct End {
    side: Side,
    carry: Vec<u8>,
    out: Vec<u8>,
    /// Events, as they print.
    seen: Vec<String>,
}

impl End {
    fn new(is_client: bool) -> Self {
        let (client, server, login) = configs();
        let mut out = Vec::new();
        let side = if is_client {
            let mut client = Client::new(client.clone(), login.clone(), "host".into(), 22);
            client.start(&mut random, &mut out).expect("something to offer");
            Side::Client(client)
        } else {
            let mut server = Server::new(server.clone());
            server.start(&mut random, &mut out).expect("something to offer");
            Side::Server(server)
        };
        Self { side, carry: Vec::new(), out, seen: Vec::new() }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Self { side, carry, out, seen } = self;
        carry.extend_from_slice(bytes);
        let mut event = |event: scale_proto::ssh::Event<'_>| seen.push(format!("{event:?}"));
        let received = match side {
            Side::Client(client) => client.receive(carry, &mut random, out, &mut event),
            Side::Server(server) => server.receive(carry, &mut random, out, &mut event),
        }?;
        assert!(received.consumed <= carry.len(), "no more is used up than came");
        carry.drain(..received.consumed);
        assert!(carry.len() < SEALED_BYTES_MAX, "what is kept is less than a packet");
        Ok(())
    }
}

/// Takes payloads from bytes, each behind its length.
fn payloads(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut payloads = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(u16::from_be_bytes(*length))));
        bytes = rest;
        // A payload has a number, and a packet its limit.
        if !payload.is_empty() {
            payloads.push(&payload[..payload.len().min(PACKET_BYTES_MAX - 32)]);
        }
    }
    payloads
}

/// A packet before keys (RFC 4253 §6).
fn plain(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (5 + payload.len() + 4) % 8) % 8;
    let length = (1 + payload.len() + padding) as u32;
    [&length.to_be_bytes()[..], &[padding as u8], payload, &vec![0; padding]].concat()
}

/// [`check_before_keys`] by a fuzzer's bytes.
///
/// # Panics
/// See there.
pub fn before_keys(data: &[u8]) {
    let (switch, cuts, bytes) = split(data);
    check_before_keys(switch, cuts, bytes);
}

/// [`check_after_keys`] or [`check_tampering`] by a fuzzer's bytes.
///
/// # Panics
/// See there.
pub fn after_keys(data: &[u8]) {
    let (switch, cuts, bytes) = split(data);
    if switch & 0x10 == 0 {
        check_after_keys(switch, cuts, bytes);
    } else if let Some((at, plain)) = bytes.split_first_chunk::<2>() {
        check_tampering(switch & 0xF, cuts, usize::from(u16::from_le_bytes(*at)), plain);
    }
}

/// Any bytes before keys, or, where `switch` says so, payloads in packets that are right.
///
/// # Panics
/// A side does not hold to its rules.
pub fn check_before_keys(switch: u8, cuts: &[u8], bytes: &[u8]) {
    let is_client = switch & 1 == 0;
    let bytes = match switch & 2 {
        0 => bytes.to_vec(),
        _ => {
            payloads(bytes).into_iter().fold(b"SSH-2.0-x\r\n".to_vec(), |all, one| [all, plain(one)].concat())
        }
    };
    let read = |cuts: &[u8]| {
        let mut end = End::new(is_client);
        let fault = pieces(&bytes, cuts).find_map(|piece| end.feed(piece).err());
        let early = |seen: &String| !seen.starts_with("Identified") && !seen.starts_with("KeysExchanged");
        assert!(!end.seen.iter().any(early), "nothing comes before keys: {:?}", end.seen);
        // What was said depends on keys that are made anew; how much, does not.
        (end.seen, fault, end.out.len())
    };
    let whole = read(&[]);
    assert_eq!(whole, read(cuts), "cut as {cuts:?}");
    assert_eq!(whole, read(&[0]), "byte by byte");
}

/// A transport that stands for the other side, with keys.
struct Peer {
    transport: Transport,
    carry: Vec<u8>,
    out: Vec<u8>,
    /// Payloads that came.
    heard: Vec<Vec<u8>>,
}

impl Peer {
    fn new(mut transport: Transport) -> Self {
        let mut out = Vec::new();
        transport.start(&mut random, &mut out).expect("something to offer");
        Self { transport, carry: Vec::new(), out, heard: Vec::new() }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.carry.extend_from_slice(bytes);
        loop {
            let (consumed, step) = self.transport.next(&mut self.carry, &mut random, &mut self.out)?;
            if let Step::Payload(payload) = &step {
                self.heard.push(self.carry[payload.clone()].to_vec());
            }
            self.carry.drain(..consumed);
            if step == Step::Incomplete {
                return Ok(());
            }
        }
    }

    fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        self.transport.seal_payload(payload, &mut random, &mut sealed).expect("keys that are new");
        sealed
    }
}

/// A side that has keys, with the peer that it has them with.
fn with_keys(is_client: bool) -> (End, Peer) {
    let (client, server, _) = configs();
    let mut end = End::new(is_client);
    let mut peer = Peer::new(if is_client {
        Transport::server(server.clone())
    } else {
        Transport::client(client.clone(), "host".into(), 22)
    });
    while !end.out.is_empty() || !peer.out.is_empty() {
        end.feed(&std::mem::take(&mut peer.out)).expect("a right peer");
        peer.feed(&std::mem::take(&mut end.out)).expect("a right side");
    }
    assert!(end.seen.iter().any(|seen| seen.starts_with("KeysExchanged")));
    (end, peer)
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat()
}

/// Feeds messages of a right peer, and takes what is said to them.
fn hold(end: &mut End, peer: &mut Peer, messages: &[(u8, Vec<u8>)]) {
    for (number, rest) in messages {
        let payload = [&[*number][..], rest].concat();
        end.feed(&peer.seal(&payload)).expect("a right peer");
    }
    peer.feed(&std::mem::take(&mut end.out)).expect("a right side");
}

/// Brings a side through authentication; a client asks for a channel.
fn log_in(end: &mut End, peer: &mut Peer) {
    let login = [string("user"), string("ssh-connection"), string("none")].concat();
    match end.side {
        Side::Client(_) => hold(end, peer, &[(6, string("ssh-userauth")), (52, Vec::new())]),
        Side::Server(_) => hold(end, peer, &[(5, string("ssh-userauth")), (50, login)]),
    }
    assert_eq!(end.seen.last().map(String::as_str), Some("Authenticated"));
    if let Side::Client(client) = &mut end.side {
        let program = Program::Exec("cat".to_owned());
        let purpose = Purpose::Session { environment: Vec::new(), pty: None, program };
        client.open(Arc::new(purpose), &mut random, &mut end.out).expect("a first channel");
    }
    peer.feed(&std::mem::take(&mut end.out)).expect("a right side");
}

/// Opens the first channel, with a program.
fn open(end: &mut End, peer: &mut Peer) {
    let numbers =
        |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let session = [string("session"), numbers(&[7, 1000, 32_768])].concat();
    let exec = [numbers(&[0]), string("exec"), vec![1], string("cat")].concat();
    match end.side {
        Side::Client(_) => hold(end, peer, &[(91, numbers(&[0, 7, 1000, 32_768])), (99, numbers(&[0]))]),
        Side::Server(_) => hold(end, peer, &[(90, session), (98, exec)]),
    }
    let last = end.seen.last().expect("an event");
    assert!(last.starts_with("Opened") || last.starts_with("Requested"), "{last}");
}

/// Any payloads after keys, before or behind authentication, without or with a channel.
///
/// # Panics
/// A side does not hold to its rules.
pub fn check_after_keys(switch: u8, cuts: &[u8], bytes: &[u8]) {
    let is_client = switch & 1 == 0;
    let payloads = payloads(bytes);
    let read = |cuts: &[u8]| {
        let (mut end, mut peer) = with_keys(is_client);
        if switch & 2 != 0 {
            log_in(&mut end, &mut peer);
            if switch & 4 != 0 {
                open(&mut end, &mut peer);
            }
        }
        let sealed: Vec<u8> = payloads.iter().flat_map(|payload| peer.seal(payload)).collect();
        let fault = pieces(&sealed, cuts).find_map(|piece| end.feed(piece).err());
        if fault.is_none() {
            assert!(end.carry.is_empty(), "whole packets are taken");
        }
        // What a side says, its peer can open and finds in order.
        let heard = match peer.feed(&end.out) {
            Ok(()) | Err(Fault::SshDisconnected { .. } | Fault::SshKex(_) | Fault::SshProtocol(_)) => {
                peer.heard
            }
            Err(fault) => panic!("the peer finds {fault}"),
        };
        (
            end.seen,
            fault,
            end.out.len(),
            heard.into_iter().filter(|payload| payload[0] != 50).collect::<Vec<_>>(),
        )
    };
    assert_eq!(read(&[]), read(cuts), "cut as {cuts:?}");
}

/// A packet of which one bit is not as it was sealed, `at` places from the front.
///
/// # Panics
/// It comes out, or what came before it does not.
pub fn check_tampering(switch: u8, cuts: &[u8], at: usize, plain: &[u8]) {
    let cipher = Algorithms::CIPHERS[usize::from(switch >> 1) % Algorithms::CIPHERS.len()];
    let mac = Algorithms::MACS[cuts.first().map_or(0, |&cut| usize::from(cut)) % Algorithms::MACS.len()];
    let algorithms = Algorithms { ciphers: vec![cipher], macs: vec![mac], ..Algorithms::default() };
    let mut client = Peer::new(Transport::client(client_config(algorithms), "host".into(), 22));
    let mut server = Peer::new(Transport::server(configs().1.clone()));
    while !client.out.is_empty() || !server.out.is_empty() {
        server.feed(&std::mem::take(&mut client.out)).expect("a right client");
        client.feed(&std::mem::take(&mut server.out)).expect("a right server");
    }
    let (from, to) = if switch & 1 == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
    let (whole, damaged) = ([&[94][..], b"as it was"].concat(), [&[94][..], plain].concat());
    let mut bytes = from.seal(&whole);
    let start = bytes.len();
    bytes.extend(from.seal(&damaged[..damaged.len().min(PACKET_BYTES_MAX - 32)]));
    let bit = at % ((bytes.len() - start) * 8);
    bytes[start + bit / 8] ^= 1 << (bit % 8);
    // Where a length grew, its packet is waited for; then more must show what it is.
    bytes.extend(std::iter::repeat_n(0, SEALED_BYTES_MAX));
    let fault = pieces(&bytes, cuts).find_map(|piece| to.feed(piece).err());
    assert!(matches!(fault, Some(Fault::SshTampered | Fault::SshProtocol(_))), "a changed bit is found");
    assert_eq!(to.heard, [whole]);
}
