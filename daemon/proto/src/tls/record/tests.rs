//! Against rustls' own records, in every version and cipher, either way round.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

use super::super::{Stage, Tls};
use super::*;

struct Pair {
    ours: Tls,
    carry: Vec<u8>,
    out: Vec<u8>,
    plain: Vec<u8>,
    peer: Connection,
}

fn configs(provider: CryptoProvider) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let provider = Arc::new(provider);
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(issued.signing_key.serialize_pem().as_bytes());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key.unwrap())
        .unwrap();
    server.enable_secret_extraction = true;
    (Arc::new(client), Arc::new(server))
}

impl Pair {
    fn new(provider: CryptoProvider, we_connect: bool) -> Self {
        let (client, server) = configs(provider);
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let (ours, peer) = if we_connect {
            let peer = ServerConnection::new(server).unwrap();
            (Tls::client(client, name).unwrap(), Connection::from(peer))
        } else {
            let peer = ClientConnection::new(client, name).unwrap();
            (Tls::server(server).unwrap(), Connection::from(peer))
        };
        let mut pair = Self { ours, carry: Vec::new(), out: Vec::new(), plain: Vec::new(), peer };
        pair.ours.start(&mut pair.out).unwrap();
        pair.settle(usize::MAX).unwrap();
        assert!(pair.ours.is_established() && !pair.peer.is_handshaking());
        pair
    }

    fn tls13(we_connect: bool) -> Self {
        Self::new(rustls::crypto::aws_lc_rs::default_provider(), we_connect)
    }

    fn records(&mut self) -> &mut Records {
        match &mut self.ours.stage {
            Stage::Open(records) => records,
            _ => panic!("the handshake has not finished"),
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        self.carry.extend_from_slice(bytes);
        let plain = &mut self.plain;
        let received = self.ours.receive(&mut self.carry, &mut self.out, &mut |bytes| {
            plain.extend_from_slice(bytes);
            Ok(())
        })?;
        self.carry.drain(..received.consumed);
        Ok(received.peer_closed)
    }

    /// Carries bytes both ways, ours in pieces of `cut`, until nobody has more to say.
    fn settle(&mut self, cut: usize) -> Result<bool, Fault> {
        let mut closed = false;
        while !self.out.is_empty() || self.peer.wants_write() {
            let out = std::mem::take(&mut self.out);
            let mut rest = out.as_slice();
            while !rest.is_empty() {
                self.peer.read_tls(&mut rest).unwrap();
                self.peer.process_new_packets().expect("rustls understands us");
            }
            let mut wire = Vec::new();
            while self.peer.wants_write() {
                self.peer.write_tls(&mut wire).unwrap();
            }
            for piece in wire.chunks(cut) {
                closed |= self.feed(piece)?;
            }
        }
        Ok(closed)
    }

    fn send(&mut self, plain: &[u8]) {
        let mut sealed = vec![0; Tls::sealed_bytes_max(plain.len())];
        let bytes = self.ours.seal(plain, &mut sealed).unwrap();
        self.out.extend_from_slice(&sealed[..bytes]);
    }

    fn read_peer(&mut self, bytes: usize) -> Vec<u8> {
        let mut plain = vec![0; bytes];
        self.peer.reader().read_exact(&mut plain).unwrap();
        plain
    }

    /// Both ways, in order.
    fn exchange(&mut self, plain: &[u8], cut: usize) {
        self.plain.clear();
        self.peer.writer().write_all(plain).unwrap();
        // rustls takes little at once: read as it comes.
        for piece in plain.chunks(10_000) {
            self.send(piece);
            self.settle(cut).unwrap();
            assert_eq!(self.read_peer(piece.len()), piece);
        }
        self.settle(cut).unwrap();
        assert_eq!(self.plain, plain);
    }

    /// A record as a peer of ours would make it, sealed under the keys by which we open.
    fn forged(&mut self, kind: u8, plain: &[u8]) -> Vec<u8> {
        let records = self.records();
        std::mem::swap(&mut records.tx, &mut records.rx);
        let mut out = vec![0; plain.len() + OVERHEAD_BYTES];
        let sealed = records.seal_as(kind, &mut out, plain.len(), |to| to.copy_from_slice(plain));
        std::mem::swap(&mut records.tx, &mut records.rx);
        // Opening counts on its own.
        records.rx.sequence -= 1;
        out.truncate(sealed.unwrap());
        out
    }
}

fn suites() -> Vec<rustls::SupportedCipherSuite> {
    rustls::crypto::aws_lc_rs::default_provider().cipher_suites
}

#[test]
fn rustls_understands_us_and_we_it_in_every_cipher_and_version() {
    let plain: Vec<u8> = (0..50_000u32).map(|n| (n * 7) as u8).collect();
    for suite in suites() {
        for we_connect in [true, false] {
            let mut provider = rustls::crypto::aws_lc_rs::default_provider();
            provider.cipher_suites = vec![suite];
            if provider.cipher_suites[0].suite().as_str().is_some_and(|name| name.contains("RSA")) {
                continue; // the certificate of this test has an ECDSA key; the records are the same
            }
            let mut pair = Pair::new(provider, we_connect);
            for (bytes, cut) in [(1, 1), (1000, 7), (16_384, 1000), (50_000, usize::MAX)] {
                pair.exchange(&plain[..bytes], cut);
            }
        }
    }
}

#[test]
fn keys_change_when_either_side_wants_it() {
    for we_connect in [true, false] {
        let mut pair = Pair::tls13(we_connect);
        for round in 0..5 {
            pair.peer.refresh_traffic_keys().unwrap();
            pair.exchange(b"under its new keys", usize::MAX);
            pair.records().set_records_max(2 + round % 2);
            pair.exchange(b"and under ours", 3);
            pair.exchange(b"and once more", usize::MAX);
        }
    }
}

#[test]
fn a_key_of_tls_1_2_that_is_used_up_ends_the_connection() {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_none());
    let mut pair = Pair::new(provider, true);
    let sequence = pair.records().tx.sequence;
    pair.records().set_records_max(sequence + 1);
    pair.exchange(b"the last", usize::MAX);
    let used_up = pair.ours.seal(b"x", &mut [0; 200]);
    assert!(matches!(used_up, Err(Fault::TlsProtocol(why)) if why.contains("used up")));
}

#[test]
fn a_server_that_would_negotiate_again_is_told_that_we_do_not() {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_none());
    let mut pair = Pair::new(provider, true);
    let hello_request = pair.forged(HANDSHAKE, &[HELLO_REQUEST, 0, 0, 0]);
    pair.feed(&hello_request).unwrap();
    assert!(!pair.out.is_empty(), "no_renegotiation waits to be sent");
    let out = std::mem::take(&mut pair.out);
    pair.peer.read_tls(&mut out.as_slice()).unwrap();
    // A warning: rustls takes note and goes on.
    pair.peer.process_new_packets().unwrap();
}

#[test]
fn handshake_messages_may_be_cut_and_data_may_be_padded() {
    let mut pair = Pair::tls13(true);
    for piece in [&KEY_UPDATE[..2], &KEY_UPDATE[2..]] {
        let record = pair.forged(HANDSHAKE, piece);
        pair.feed(&record).unwrap();
    }
    assert_eq!(pair.records().rx.sequence, 0, "its key has changed");
    let padded = pair.forged(0, &[b'h', b'i', APPLICATION_DATA, 0, 0, 0]);
    pair.feed(&padded).unwrap();
    assert_eq!(pair.plain, b"hi");
}

#[test]
fn what_must_not_come_is_refused_with_the_right_alert() {
    type Case<'a> = (&'a str, fn(&mut Pair) -> Vec<u8>, AlertDescription);
    let cases: [Case<'_>; 11] = [
        ("an alert of one byte", |pair| pair.forged(ALERT, &[1]), AlertDescription::DecodeError),
        (
            "an empty handshake record",
            |pair| pair.forged(HANDSHAKE, &[]),
            AlertDescription::UnexpectedMessage,
        ),
        (
            "a key update that is neither 0 nor 1",
            |pair| pair.forged(HANDSHAKE, &[MESSAGE_KEY_UPDATE, 0, 0, 1, 2]),
            AlertDescription::IllegalParameter,
        ),
        (
            "data within a handshake message",
            |pair| {
                let piece = pair.forged(HANDSHAKE, &KEY_UPDATE[..2]);
                pair.feed(&piece).unwrap();
                pair.forged(APPLICATION_DATA, b"x")
            },
            AlertDescription::UnexpectedMessage,
        ),
        (
            "a ticket that is none",
            |pair| pair.forged(HANDSHAKE, &[NEW_SESSION_TICKET, 0, 0, 1, 0]),
            AlertDescription::DecodeError,
        ),
        ("nothing but padding", |pair| pair.forged(0, &[0; 9]), AlertDescription::UnexpectedMessage),
        ("an unknown type", |pair| pair.forged(99, b"x"), AlertDescription::UnexpectedMessage),
        (
            "a message behind a key update",
            |pair| pair.forged(HANDSHAKE, &[KEY_UPDATE, KEY_UPDATE].concat()),
            AlertDescription::UnexpectedMessage,
        ),
        (
            "a handshake message that nobody sends now",
            |pair| pair.forged(HANDSHAKE, &[13, 0, 0, 0]),
            AlertDescription::UnexpectedMessage,
        ),
        ("a plain record", |_| vec![ALERT, 3, 3, 0, 2, 1, 0], AlertDescription::UnexpectedMessage),
        (
            "a record that is too long",
            |_| vec![APPLICATION_DATA, 3, 3, 0xFF, 0xFF],
            AlertDescription::RecordOverflow,
        ),
    ];
    for (what, make, alert) in cases {
        let mut pair = Pair::tls13(true);
        let record = make(&mut pair);
        assert!(matches!(pair.feed(&record), Err(Fault::TlsProtocol(_))), "{what}");
        let out = std::mem::take(&mut pair.out);
        // A changed key would not matter: the alert is sealed under ours.
        let mut rest = out.as_slice();
        pair.peer.read_tls(&mut rest).unwrap();
        let said = pair.peer.process_new_packets().unwrap_err();
        assert_eq!(said, rustls::Error::AlertReceived(alert), "{what}");
        assert!(pair.feed(&[]).is_err() && pair.ours.seal(b"x", &mut [0; 99]).is_err(), "it is over");
    }
}

#[test]
fn records_that_bring_nothing_are_cut_off_and_data_begins_their_count_anew() {
    let asking = [MESSAGE_KEY_UPDATE, 0, 0, 1, 1];
    let cases = [(HANDSHAKE, &KEY_UPDATE[..]), (HANDSHAKE, &asking), (APPLICATION_DATA, &[])];
    for (kind, plain) in cases {
        let mut pair = Pair::tls13(true);
        let feed = |pair: &mut Pair, kind: u8, plain: &[u8]| {
            let record = pair.forged(kind, plain);
            pair.feed(&record)
        };
        for _ in 0..3 {
            feed(&mut pair, APPLICATION_DATA, b"data").unwrap();
            for _ in 0..EMPTY_RECORDS_MAX {
                feed(&mut pair, kind, plain).unwrap();
            }
        }
        assert!(feed(&mut pair, kind, plain).is_err());
    }
}

/// Everything of the handshake that is for us, with what the peer says right behind it.
fn coalesced(we_connect: bool, say: impl FnOnce(&mut Connection)) -> Pair {
    let (client, server) = configs(rustls::crypto::aws_lc_rs::default_provider());
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let (ours, peer) = if we_connect {
        let mut server = ServerConfig::clone(&server);
        server.send_half_rtt_data = true;
        let peer = ServerConnection::new(Arc::new(server)).unwrap();
        (Tls::client(client, name).unwrap(), Connection::from(peer))
    } else {
        let peer = ClientConnection::new(client, name).unwrap();
        (Tls::server(server).unwrap(), Connection::from(peer))
    };
    let (carry, out, plain) = (Vec::new(), Vec::new(), Vec::new());
    let mut pair = Pair { ours, carry, out, plain, peer };
    pair.ours.start(&mut pair.out).unwrap();
    if !we_connect {
        let mut hello = Vec::new();
        pair.peer.write_tls(&mut hello).unwrap();
        pair.feed(&hello).unwrap();
    }
    let out = std::mem::take(&mut pair.out);
    pair.peer.read_tls(&mut out.as_slice()).unwrap();
    pair.peer.process_new_packets().unwrap();
    say(&mut pair.peer);
    let mut flight = Vec::new();
    while pair.peer.wants_write() {
        pair.peer.write_tls(&mut flight).unwrap();
    }
    pair.feed(&flight).unwrap();
    assert!(pair.ours.is_established());
    pair
}

#[test]
fn what_comes_along_with_the_handshakes_last_record_is_not_lost() {
    let mut pair = coalesced(false, |peer| {
        peer.refresh_traffic_keys().unwrap();
        peer.writer().write_all(b"at once").unwrap();
    });
    assert_eq!(pair.plain, b"at once");
    pair.settle(usize::MAX).unwrap();
    pair.exchange(b"under keys that both know", 5);
    let mut pair = coalesced(true, |peer| peer.writer().write_all(b"half a trip early").unwrap());
    assert_eq!(pair.plain, b"half a trip early");
    pair.settle(usize::MAX).unwrap();
    pair.exchange(b"and whole", usize::MAX);
}

#[test]
fn a_handshake_message_without_end_is_cut_off() {
    let mut pair = Pair::tls13(true);
    let mut piece = vec![0; PLAIN_BYTES_MAX];
    piece[..4].copy_from_slice(&[NEW_SESSION_TICKET, 0xFF, 0xFF, 0xFF]);
    let fault = (0..20).find_map(|_| {
        let record = pair.forged(HANDSHAKE, &piece);
        pair.feed(&record).err()
    });
    assert!(fault.is_some() && pair.records().handshake.len() <= HANDSHAKE_BYTES_MAX);
}

#[test]
fn what_comes_behind_a_goodbye_is_ignored() {
    let mut pair = Pair::tls13(true);
    pair.peer.send_close_notify();
    assert!(pair.settle(usize::MAX).unwrap());
    assert!(pair.feed(b"anything at all").unwrap());
    assert!(pair.carry.is_empty());
    let mut out = Vec::new();
    pair.ours.close_notify(&mut out).unwrap();
    pair.peer.read_tls(&mut out.as_slice()).unwrap();
    assert!(pair.peer.process_new_packets().unwrap().peer_has_closed());
}
