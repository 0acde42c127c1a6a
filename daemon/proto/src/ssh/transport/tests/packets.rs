//! Packets under fixed keys: only what was sealed comes out, in order.

use proptest::prelude::*;

use super::super::cipher::{Cipher, Keys, Mac, Opening, Sealing, Suite};
use super::*;

fn all() -> impl Iterator<Item = Suite> {
    suites().into_iter().map(|(cipher, mac)| {
        let cipher = Cipher::named(cipher).unwrap();
        Suite { cipher, mac: (!cipher.authenticates()).then(|| Mac::named(mac).unwrap()) }
    })
}

fn keys(suite: Suite) -> Keys {
    Keys::derive(*b"ACE", suite, |letter, key| {
        key.iter_mut().enumerate().for_each(|(at, byte)| *byte = letter ^ (at as u8).wrapping_mul(151));
    })
}

fn outgoing(suite: Suite) -> Outgoing {
    let mut outgoing = Outgoing::new();
    outgoing.rekey(Sealing::new(suite, &keys(suite)), true);
    outgoing
}

fn incoming(suite: Suite) -> Incoming {
    let mut incoming = Incoming::new();
    incoming.rekey(Opening::new(suite, &keys(suite)), true);
    incoming
}

/// Packets with `payloads`, each apart.
fn seal(suite: Suite, payloads: &[&[u8]]) -> Vec<Vec<u8>> {
    let (mut outgoing, mut random) = (outgoing(suite), seeded(4));
    let seal = |payload: &&[u8]| {
        let mut out = Vec::new();
        outgoing.append(payload, &mut random, &mut out).unwrap();
        out
    };
    payloads.iter().map(seal).collect()
}

/// What comes out of `bytes`, and the fault at its end.
fn open(suite: Suite, bytes: &[u8]) -> (Vec<Vec<u8>>, Option<Fault>) {
    let (mut incoming, mut bytes, mut at, mut payloads) = (incoming(suite), bytes.to_vec(), 0, Vec::new());
    loop {
        match incoming.open(&mut bytes[at..]) {
            Ok(Some(opened)) => {
                payloads.push(bytes[at + opened.payload.start..at + opened.payload.end].to_vec());
                at += opened.bytes;
            }
            Ok(None) => return (payloads, None),
            Err(fault) => return (payloads, Some(fault)),
        }
    }
}

#[test]
fn a_flipped_bit_never_comes_out() {
    // Where a length grew, its packet is waited for; then more must show what it is.
    let filler = vec![0; 40_000];
    for suite in all() {
        let packets = seal(suite, &[b"first", b"a payload that is damaged", b"third"]);
        for bit in 0..packets[1].len() * 8 {
            let mut damaged = packets[1].clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let (payloads, fault) = open(suite, &[&packets[0], &damaged, &packets[2], &filler[..]].concat());
            assert_eq!(payloads, [b"first"], "{suite:?} bit {bit}");
            assert!(matches!(fault, Some(Fault::SshTampered | Fault::SshProtocol(_))), "{suite:?} bit {bit}");
            assert!(bit < 32 || suite.mac.is_some() || fault == Some(Fault::SshTampered));
        }
    }
}

#[test]
fn replayed_dropped_and_reordered_packets_are_found() {
    let filler = vec![0; 40_000];
    for suite in all() {
        let packets = seal(suite, &[b"one", b"two", b"three"]);
        for (order, right) in [(&[0, 0][..], 1), (&[1], 0), (&[0, 2], 1), (&[2, 1, 0], 0), (&[0, 1, 1], 2)] {
            let mut bytes: Vec<u8> = order.iter().flat_map(|&which| packets[which].clone()).collect();
            bytes.extend_from_slice(&filler);
            let (payloads, fault) = open(suite, &bytes);
            assert_eq!(payloads.len(), right, "{suite:?} {order:?}");
            assert!(fault.is_some());
        }
        // Cut within: the bytes that follow do not complete it.
        for cut in 1..packets[1].len() {
            let bytes = [&packets[0], &packets[1][..cut], &packets[2], &filler].concat();
            let (payloads, fault) = open(suite, &bytes);
            assert_eq!((payloads.len(), fault.is_some()), (1, true), "{suite:?} {cut}");
        }
        // Cut off at the end: nothing more comes.
        let all = packets.concat();
        for cut in 0..packets[2].len() {
            let (payloads, fault) = open(suite, &all[..packets[0].len() + packets[1].len() + cut]);
            assert_eq!((payloads.len(), fault), (2, None));
        }
    }
}

#[test]
fn padding_fills_blocks_and_is_at_least_four() {
    for suite in all() {
        let sealing = Sealing::new(suite, &keys(suite));
        let framing = sealing.framing();
        let etm = suite.mac.is_some_and(|mac| mac.name().contains("etm"));
        let counted = if suite.cipher.authenticates() || etm { 1 } else { 5 };
        let block = if suite.cipher == Cipher::ChaCha20Poly1305 { 8 } else { 16 };
        for payload in 1..300 {
            let padding = framing.padding_bytes(payload);
            assert!((4..4 + block).contains(&padding), "{suite:?}");
            assert_eq!((counted + payload + padding) % block, 0);
            assert!(framing.allows(1 + payload + padding));
            let (bytes, _) = (seal(suite, &[&vec![9; payload]]), ());
            assert_eq!(bytes[0].len(), 5 + payload + padding + framing.tag);
        }
    }
}

#[test]
fn padding_that_leaves_no_payload_is_a_fault() {
    for (padding, fits) in [(3u8, false), (4, true), (10, true), (11, false), (255, false)] {
        let mut packet = [0; 16];
        (packet[3], packet[4]) = (12, padding);
        let opened = Incoming::new().open(&mut packet);
        assert_eq!(opened.is_ok(), fits, "{padding}");
    }
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened(
        which: prop::sample::Index, payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..3000), 0..8),
    ) {
        let suites: Vec<Suite> = all().collect();
        let suite = suites[which.index(suites.len())];
        let refs: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(open(suite, &seal(suite, &refs).concat()), (payloads, None));
    }

    #[test]
    fn any_bytes_are_waited_for_or_a_fault(which: prop::sample::Index, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let suites: Vec<Suite> = all().collect();
        let (payloads, _) = open(suites[which.index(suites.len())], &bytes);
        prop_assert!(payloads.is_empty());
    }
}
