//! What breaks the transport's rules ends the connection, by its class, and the peer is told.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::super::keys::KnownHosts;
use super::super::exchange::Method;
use super::*;

/// The code of the DISCONNECT that `from` has said last, as `to` hears it.
fn code(from: &mut End, to: &mut End) -> Option<u32> {
    match to.feed(&from.take_out()) {
        Err(Fault::SshDisconnected { code, .. }) => Some(code),
        _ => None,
    }
}

fn text(fault: Result<(), Fault>) -> String {
    fault.expect_err("a fault").to_string()
}

/// A plain packet, as somebody in between makes one.
fn plain(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Outgoing::new().append(payload, &mut seeded(9), &mut out).unwrap();
    out
}

/// Where the identification line ends.
fn line_bytes(out: &[u8]) -> usize {
    out.iter().position(|&byte| byte == b'\n').unwrap() + 1
}

const IGNORE: [u8; 5] = [message::IGNORE, 0, 0, 0, 0];

#[test]
fn a_damaged_packet_is_told_by_a_mac_error() {
    let mut pair = Pair::open(&Algorithms::default());
    pair.client.send(&data(100, 0));
    let mut bytes = pair.client.take_out();
    bytes[50] ^= 1;
    assert_eq!(pair.server.feed(&bytes), Err(Fault::SshTampered));
    assert_eq!(code(&mut pair.server, &mut pair.client), Some(message::MAC_ERROR));
    assert!(pair.server.feed(&[]).is_err(), "nothing more is taken");
    assert!(pair.server.received.is_empty());
}

#[test]
fn a_packet_put_before_kexinit_is_found() {
    for from_client in [true, false] {
        let mut pair = Pair::new(Algorithms::default(), Algorithms::default(), u64::MAX);
        let (from, to) = match from_client {
            true => (&mut pair.client, &mut pair.server),
            false => (&mut pair.server, &mut pair.client),
        };
        let out = from.take_out();
        let (line, kexinit) = out.split_at(line_bytes(&out));
        to.feed(line).unwrap();
        to.feed(&plain(&IGNORE)).unwrap();
        assert!(text(to.feed(kexinit)).contains("not the first packet"));
        assert_eq!(code(to, from), Some(message::PROTOCOL_ERROR));
    }
}

#[test]
fn a_packet_put_into_the_first_exchange_is_found() {
    for payload in [
        &IGNORE[..],
        &[message::DEBUG, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[message::UNIMPLEMENTED, 0, 0, 0, 0],
        &[message::EXT_INFO, 0, 0, 0, 0],
        &[message::SERVICE_REQUEST],
        &[message::CHANNEL_DATA],
        &[200],
        &[15],
    ] {
        let mut pair = Pair::new(Algorithms::default(), Algorithms::default(), u64::MAX);
        pair.client.feed(&pair.server.take_out()).unwrap();
        assert!(matches!(pair.client.feed(&plain(payload)), Err(Fault::SshProtocol(_))), "{payload:?}");
    }
}

#[test]
fn a_prefix_cannot_be_cut_off_unseen() {
    // The attack called Terrapin: a packet more before NEWKEYS, one less behind it. Strict key exchange
    // refuses the first; and because numbers begin anew, without the first the second is found, too.
    for (cipher, mac) in suites() {
        let mut pair = Pair::new(suite(cipher, mac), Algorithms::default(), u64::MAX);
        pair.server.feed(&pair.client.take_out()).unwrap();
        pair.client.feed(&pair.server.take_out()).unwrap();
        pair.server.feed(&pair.client.take_out()).unwrap();
        let out = pair.server.take_out();
        let newkeys_end = {
            let reply = u32::from_be_bytes(out[..4].try_into().unwrap()) as usize + 4;
            reply + u32::from_be_bytes(out[reply..reply + 4].try_into().unwrap()) as usize + 4
        };
        let (exchange, sealed) = out.split_at(newkeys_end);
        let ext_info = sealed.len();
        pair.server.send(&data(300, 0));
        pair.server.send(&data(300, 1));
        pair.client.feed(exchange).unwrap();
        assert_eq!(pair.client.exchanges, [false]);
        let rest = pair.server.take_out();
        assert!(ext_info > 16, "EXT_INFO is what is cut off");
        // A wrong length may be waited for: what follows shows it.
        let fault = pair.client.feed(&rest).err().or_else(|| pair.client.feed(&[0; 80_000]).err());
        assert!(fault.is_some(), "{cipher} {mac}");
        assert!(pair.client.received.is_empty());
    }
}

#[test]
fn what_is_out_of_order_is_a_fault() {
    let fresh = || {
        let mut pair = Pair::new(Algorithms::default(), Algorithms::default(), u64::MAX);
        pair.client.feed(&pair.server.take_out()).unwrap();
        pair.client
    };
    for payload in [
        &[message::NEWKEYS][..],
        &[message::KEXINIT],
        &[message::KEX_ECDH_INIT, 0, 0, 0, 0],
        &[message::KEX_ECDH_REPLY, 0],
        &[34],
    ] {
        assert!(matches!(fresh().feed(&plain(payload)), Err(Fault::SshProtocol(_))), "{payload:?}");
    }
    // And when the keys are there.
    for payload in
        [&[message::NEWKEYS][..], &[message::KEX_ECDH_INIT, 0, 0, 0, 0], &[message::KEX_ECDH_REPLY]]
    {
        let mut pair = Pair::open(&Algorithms::default());
        pair.client.send_raw(payload);
        assert!(matches!(pair.settle(usize::MAX), Err(Fault::SshProtocol(_))), "{payload:?}");
        assert_eq!(code(&mut pair.server, &mut pair.client), Some(message::PROTOCOL_ERROR));
    }
}

#[test]
fn nothing_of_the_layer_above_comes_between_kexinit_and_newkeys() {
    for payload in [&data(9, 0)[..], &[message::SERVICE_REQUEST], &[200]] {
        let mut pair = Pair::open(&Algorithms::default());
        pair.client.rekey();
        pair.client.send_raw(payload);
        assert!(matches!(pair.settle(usize::MAX), Err(Fault::SshProtocol(_))));
    }
    // But what may.
    let mut pair = Pair::open(&Algorithms::default());
    pair.client.rekey();
    pair.client.send_raw(&IGNORE);
    pair.client.send_raw(&[message::DEBUG, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    pair.settle(usize::MAX).unwrap();
    assert_eq!(pair.client.exchanges, [false, true]);
}

/// A point of P-256 in the form that this side does not take.
fn compressed_point() -> Vec<u8> {
    let (_, point) = Method::NistP256.initiate().unwrap();
    [&[2 + (point[64] & 1)], &point[1..33]].concat()
}

#[test]
fn shares_that_a_method_does_not_allow_are_refused() {
    let point = |first: u8, fill: u8| [vec![first], vec![fill; 64]].concat();
    for (kex, share) in [
        ("curve25519-sha256", vec![0; 32]),
        ("curve25519-sha256", [vec![1], vec![0; 31]].concat()),
        ("curve25519-sha256", vec![9; 31]),
        ("curve25519-sha256", vec![9; 33]),
        ("curve25519-sha256", Vec::new()),
        ("ecdh-sha2-nistp256", point(4, 1)),
        ("ecdh-sha2-nistp256", point(4, 0)),
        ("ecdh-sha2-nistp256", compressed_point()),
        ("ecdh-sha2-nistp256", vec![0]),
        ("mlkem768x25519-sha256", vec![0; 1216]),
        ("mlkem768x25519-sha256", [vec![0xff; 1184], vec![9; 32]].concat()),
        ("mlkem768x25519-sha256", vec![0; 1215]),
        ("mlkem768x25519-sha256", vec![9; 1120]),
    ] {
        let algorithms = Algorithms { kex: vec![kex], ..Algorithms::default() };
        // From a client, and from a server, whose share is as long but for the hybrid's.
        let mut pair = Pair::new(algorithms.clone(), algorithms.clone(), u64::MAX);
        pair.server.feed(&pair.client.take_out()).unwrap();
        let mut init = vec![message::KEX_ECDH_INIT];
        init.put_string(&share);
        assert!(matches!(pair.server.feed(&plain(&init)), Err(Fault::SshKex(_))), "{kex} {}", share.len());
        let mut pair = Pair::new(algorithms.clone(), algorithms, u64::MAX);
        pair.client.feed(&pair.server.take_out()).unwrap();
        let mut reply = vec![message::KEX_ECDH_REPLY];
        reply.put_string(host_keys()[0].public_blob());
        reply.put_string(&share);
        reply.put_string("signature");
        assert!(matches!(pair.client.feed(&plain(&reply)), Err(Fault::SshKex(_))), "{kex} {}", share.len());
    }
}

/// The blob in a `.pub` file's line.
fn blob(line: &[u8]) -> Vec<u8> {
    let line = std::str::from_utf8(line).unwrap();
    STANDARD.decode(line.split(' ').nth(1).unwrap()).unwrap()
}

/// The client's verdict on a server's answer that was changed.
fn with_reply(host_key: &'static str, change: impl Fn(&mut [Vec<u8>; 3])) -> Result<(), Fault> {
    let algorithms = Algorithms { host_keys: vec![host_key], ..Algorithms::default() };
    let mut pair = Pair::new(algorithms.clone(), algorithms, u64::MAX);
    pair.client.feed(&pair.server.take_out()).unwrap();
    pair.server.feed(&pair.client.take_out()).unwrap();
    let mut out = pair.server.take_out();
    let opened = Incoming::new().open(&mut out).unwrap().unwrap();
    let mut reader = Reader::new(&out[opened.payload]);
    reader.byte().unwrap();
    let mut parts = [0; 3].map(|_| reader.string().unwrap().to_vec());
    change(&mut parts);
    let mut reply = vec![message::KEX_ECDH_REPLY];
    parts.iter().for_each(|part| reply.put_string(part));
    pair.client.feed(&plain(&reply))
}

#[test]
fn a_server_that_has_not_signed_this_exchange_is_refused() {
    with_reply("ssh-ed25519", |_| ()).unwrap();
    for change in [
        (|[_, _, signature]: &mut [Vec<u8>; 3]| *signature.last_mut().unwrap() ^= 1) as fn(&mut [Vec<u8>; 3]),
        |[_, share, _]| share[3] ^= 1,
        |[key, _, _]| *key.last_mut().unwrap() ^= 1,
        |[_, _, signature]| signature.truncate(5),
        |[key, _, _]| key.truncate(2),
    ] {
        let refused = with_reply("ssh-ed25519", change);
        assert!(
            matches!(refused, Err(Fault::SshKex(_) | Fault::SshHostKey(_) | Fault::SshProtocol(_))),
            "{refused:?}"
        );
    }
    // Another kind of key than was chosen, and a certificate for the right one.
    for other in [host_keys()[1].public_blob().to_vec(), blob(fixture!("host_ed25519-cert.pub"))] {
        let refused = with_reply("ssh-ed25519", |[key, _, _]| key.clone_from(&other));
        assert_eq!(text(refused), "SSH key exchange: the host key is no ssh-ed25519, which was chosen");
    }
    // Another signature of the right key.
    let refused = with_reply("rsa-sha2-512", |[_, _, signature]| {
        *signature = host_keys()[2].sign("rsa-sha2-256", b"anything").unwrap();
    });
    assert!(matches!(refused, Err(Fault::SshKex(_))));
}

#[test]
fn a_server_that_is_not_the_one_that_is_known_is_refused_and_told() {
    let other = PrivateKey::from_seed([1; 32]);
    let line = format!("host ssh-ed25519 {}", STANDARD.encode(other.public_blob()));
    for known in ["", &line] {
        let mut pair = Pair::known(HostKeys::Known(KnownHosts::parse(known).unwrap()));
        pair.client.feed(&pair.server.take_out()).unwrap();
        pair.server.feed(&pair.client.take_out()).unwrap();
        let refused = pair.client.feed(&pair.server.take_out());
        assert!(matches!(refused, Err(Fault::SshHostKey(_))), "{refused:?}");
        assert_eq!(pair.client.transport.negotiated(), None, "no key is made of it");
        assert_eq!(code(&mut pair.client, &mut pair.server), Some(message::HOST_KEY_NOT_VERIFIABLE));
    }
}

#[test]
fn a_disconnect_says_why_and_is_not_answered() {
    let mut pair = Pair::open(&Algorithms::default());
    let End { transport, random, out, .. } = &mut pair.client;
    let long = "€\n".repeat(300);
    transport.disconnect(message::BY_APPLICATION, &long, random, out).unwrap();
    let Err(Fault::SshDisconnected { code, description }) = pair.server.feed(&pair.client.take_out()) else {
        panic!("it is over")
    };
    assert_eq!(code, message::BY_APPLICATION);
    assert!(
        description.len() <= super::super::super::DESCRIPTION_BYTES_MAX && description.starts_with("€ €")
    );
    assert!(pair.server.out.is_empty());
    assert!(pair.server.feed(&[]).is_err());
}

#[test]
fn messages_that_are_not_known_are_answered() {
    let mut pair = Pair::open(&Algorithms::default());
    let before = pair.client.transport.outgoing.packet_bytes(5);
    pair.client.send_raw(&[19, 1, 2]);
    pair.server.feed(&pair.client.take_out()).unwrap();
    assert_eq!(pair.server.out.len(), before);
    pair.settle(usize::MAX).unwrap();
    // By the layer above, about the packet that it was handed.
    pair.client.send(&[200]);
    pair.settle(usize::MAX).unwrap();
    let End { transport, random, out, .. } = &mut pair.server;
    transport.unimplemented(random, out).unwrap();
    let mut out = pair.server.take_out();
    let opened = pair.client.transport.incoming.open(&mut out).unwrap().unwrap();
    assert_eq!(out[opened.payload], [message::UNIMPLEMENTED, 0, 0, 0, 1]);
}

#[test]
fn lengths_that_no_packet_has_are_refused_at_once() {
    for length in [0u32, 1, 5, 11, 13, 8, 35_001, 36_004, u32::MAX, 1 << 31] {
        let mut pair = Pair::new(Algorithms::default(), Algorithms::default(), u64::MAX);
        pair.client.feed(b"SSH-2.0-x\r\n").unwrap();
        let refused = pair.client.feed(&length.to_be_bytes());
        assert!(matches!(refused, Err(Fault::SshProtocol(_))), "{length}");
        assert!(!pair.client.out.is_empty(), "and told");
    }
}
