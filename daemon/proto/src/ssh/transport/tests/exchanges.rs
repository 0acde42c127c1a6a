//! What both sides settle on, and that it carries payloads both ways.

use super::super::super::keys::KnownHosts;
use super::super::negotiate;
use super::*;

/// Sends both ways, in sizes around every block's border, and takes what came.
fn talk(pair: &mut Pair, piece: usize) {
    for bytes in (1..40).chain([255, 4096, 32_768]) {
        pair.client.send(&data(bytes, 1));
        pair.server.send(&data(bytes, 2));
        pair.settle(piece.max(bytes / 64)).unwrap();
        assert_eq!(pair.server.received.pop_front(), Some(data(bytes, 1)));
        assert_eq!(pair.client.received.pop_front(), Some(data(bytes, 2)));
    }
    assert!(pair.client.carry.is_empty() && pair.server.carry.is_empty());
}

#[test]
fn every_exchange_cipher_mac_and_host_key_works_in_both_roles() {
    for kex in Algorithms::KEX {
        for host_key in &Algorithms::HOST_KEYS[..4] {
            for (cipher, mac) in suites() {
                let client = Algorithms { kex: vec![kex], host_keys: vec![host_key], ..suite(cipher, mac) };
                let mut pair = Pair::new(client, Algorithms::default(), u64::MAX);
                pair.settle(usize::MAX).unwrap();
                talk(&mut pair, usize::MAX);
                let mac = if cipher.ends_with("-ctr") { mac } else { "implicit" };
                let expected = Negotiated { kex, host_key, cipher, mac, strict: true };
                assert_eq!(pair.client.transport.negotiated(), Some(expected));
                assert_eq!(pair.server.transport.negotiated(), Some(expected));
                assert_eq!(pair.client.transport.session_id(), pair.server.transport.session_id());
                assert_ne!(pair.client.transport.session_id(), &[0; 32]);
            }
        }
    }
}

#[test]
fn input_may_be_cut_anywhere() {
    for (cipher, mac) in suites() {
        for piece in [1, 2, 3, 5, 17] {
            let mut pair = Pair::new(suite(cipher, mac), Algorithms::default(), u64::MAX);
            pair.settle(piece).unwrap();
            talk(&mut pair, piece);
            pair.authenticate();
            pair.client.rekey();
            pair.settle(piece).unwrap();
            talk(&mut pair, piece);
        }
    }
}

#[test]
fn the_client_says_what_is_preferred() {
    let client = Algorithms {
        kex: vec!["mlkem768x25519-sha256", "curve25519-sha256"],
        host_keys: vec!["ssh-ed25519-cert-v01@openssh.com", "rsa-sha2-512", "ssh-ed25519"],
        ciphers: vec!["aes256-ctr", "aes128-gcm@openssh.com"],
        macs: vec!["hmac-sha2-512", "hmac-sha2-256"],
    };
    let mut pair = Pair::new(client, Algorithms::default(), u64::MAX);
    pair.settle(usize::MAX).unwrap();
    let expected = Negotiated {
        kex: "mlkem768x25519-sha256",
        host_key: "rsa-sha2-512",
        cipher: "aes256-ctr",
        mac: "hmac-sha2-512",
        strict: true,
    };
    assert_eq!(pair.client.transport.negotiated(), Some(expected));
}

#[test]
fn the_server_says_which_signatures_it_takes() {
    let pair = Pair::open(&Algorithms::default());
    let taken = pair.client.transport.server_sig_algs().expect("EXT_INFO has come");
    for name in ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-256", "rsa-sha2-512"] {
        assert!(taken.contains(name));
    }
    assert!(!taken.contains("ssh-rsa"));
    assert_eq!(pair.server.transport.server_sig_algs(), None);
}

#[test]
fn a_kind_of_host_key_that_is_known_is_asked_for_first() {
    for (key, expected) in
        [(fixture!("ecdsa.pub"), "ecdsa-sha2-nistp256"), (fixture!("rsa2048.pub"), "rsa-sha2-256")]
    {
        let known = KnownHosts::parse([b"host ", key].concat()).unwrap();
        let mut pair = Pair::known(HostKeys::Known(known));
        pair.settle(usize::MAX).unwrap();
        assert_eq!(pair.client.transport.negotiated().unwrap().host_key, expected);
    }
}

#[test]
fn both_sides_are_named_when_nothing_is_common() {
    let default = Algorithms::default();
    for (client, server, words) in [
        (
            Algorithms { ciphers: vec!["aes256-ctr"], ..default.clone() },
            Algorithms { ciphers: vec!["aes128-ctr", "aes128-gcm@openssh.com"], ..default.clone() },
            "no common cipher: the client offers aes256-ctr; the server offers aes128-ctr,aes128-gcm@openssh.com",
        ),
        (
            suite("aes128-ctr", "hmac-sha2-256"),
            suite("aes128-ctr", "hmac-sha2-512"),
            "no common MAC: the client offers hmac-sha2-256; the server offers hmac-sha2-512",
        ),
        (
            Algorithms { host_keys: vec!["ssh-ed25519"], ..default.clone() },
            Algorithms { host_keys: vec!["rsa-sha2-256"], ..default.clone() },
            "no common kind of host key: the client offers ssh-ed25519; the server offers rsa-sha2-256",
        ),
    ] {
        let mut pair = Pair::new(client, server, u64::MAX);
        assert_eq!(pair.settle(usize::MAX), Err(Fault::SshKex(words.to_owned())));
        let heard = pair.client.feed(&pair.server.take_out());
        assert_eq!(heard, Err(Fault::SshKex(words.to_owned())), "the client finds the same by itself");
    }
}

#[test]
fn nothing_to_offer_is_a_fault() {
    let nothing = Algorithms { kex: vec!["diffie-hellman-group1-sha1"], ..Algorithms::default() };
    let mut pair = Pair::unstarted(nothing, Algorithms::default(), u64::MAX);
    let mut out = Vec::new();
    let started = pair.client.transport.start(&mut pair.client.random, &mut out);
    assert_eq!(started, Err(Fault::SshKex("this side has no key exchange to offer".to_owned())));
}

/// KEXINIT with some of its text replaced, length fields and all.
fn kexinit(role: Role, replace: &[(&str, &str)], guess_follows: bool) -> Vec<u8> {
    let mut random = seeded(3);
    let own = negotiate::kexinit(role, &Algorithms::default(), true, &mut random).unwrap();
    let mut reader = Reader::new(&own);
    let mut edited = reader.bytes(17).unwrap().to_vec();
    for _ in 0..10 {
        let mut names = reader.text().unwrap().to_owned();
        for (from, to) in replace {
            names = names.replace(from, to);
        }
        edited.put_string(names);
    }
    edited.put_boolean(guess_follows);
    edited.put_uint32(0);
    edited
}

/// A pair whose server or client sends another KEXINIT than it would.
fn pair_with(role: Role, kexinit: Vec<u8>, server: Algorithms) -> Pair {
    let mut pair = Pair::unstarted(Algorithms::default(), server, u64::MAX);
    let (odd, other) = match role {
        Role::Client => (&mut pair.client, &mut pair.server),
        Role::Server => (&mut pair.server, &mut pair.client),
    };
    odd.out.extend_from_slice(b"SSH-2.0-scaled_");
    odd.out.extend_from_slice(concat!(env!("CARGO_PKG_VERSION"), "\r\n").as_bytes());
    odd.transport.begin_with(kexinit, &mut odd.random, &mut odd.out);
    other.start();
    pair
}

#[test]
fn a_peer_without_strict_key_exchange_is_taken_and_told() {
    for role in [Role::Client, Role::Server] {
        let marker = if role == Role::Client {
            ",kex-strict-c-v00@openssh.com"
        } else {
            ",kex-strict-s-v00@openssh.com"
        };
        let mut pair = pair_with(role, kexinit(role, &[(marker, "")], false), Algorithms::default());
        // What is allowed then.
        pair.client.send_raw(&[message::IGNORE, 0, 0, 0, 0]);
        pair.server.send_raw(&[message::DEBUG, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        pair.settle(usize::MAX).unwrap();
        assert_eq!(pair.client.transport.negotiated().map(|of| of.strict), Some(false));
        assert_eq!(pair.server.transport.negotiated().map(|of| of.strict), Some(false));
        talk(&mut pair, usize::MAX);
        pair.authenticate();
        pair.server.rekey();
        pair.settle(usize::MAX).unwrap();
        talk(&mut pair, usize::MAX);
    }
}

#[test]
fn ext_info_before_the_first_keys_is_refused_without_strict_key_exchange_too() {
    let lax = kexinit(Role::Server, &[(",kex-strict-s-v00@openssh.com", "")], false);
    let mut pair = pair_with(Role::Server, lax, Algorithms::default());
    pair.server.send_raw(&[message::EXT_INFO, 0, 0, 0, 0]);
    let refused = pair.client.feed(&pair.server.take_out());
    assert_eq!(refused, Err(Fault::SshProtocol("EXT_INFO comes before the first keys")));
}

#[test]
fn markers_belong_to_the_first_exchange() {
    for role in [Role::Client, Role::Server] {
        for first in [true, false] {
            let payload = negotiate::kexinit(role, &Algorithms::default(), first, &mut seeded(3)).unwrap();
            let text = String::from_utf8_lossy(&payload);
            assert_eq!((text.contains("kex-strict-"), text.contains("ext-info-")), (first, first));
        }
    }
}

#[test]
fn a_wrong_guess_is_skipped_and_a_right_one_is_taken() {
    let only = |kex: &'static str| Algorithms { kex: vec![kex], ..Algorithms::default() };
    for (server, guessed, right) in [
        (only("curve25519-sha256"), "curve25519-sha256", true),
        (only("ecdh-sha2-nistp256"), "curve25519-sha256", false),
        // The first of both lists counts, not what is chosen.
        (
            Algorithms { kex: vec!["ecdh-sha2-nistp256", "curve25519-sha256"], ..only("") },
            "curve25519-sha256",
            false,
        ),
    ] {
        let mut pair = pair_with(Role::Client, kexinit(Role::Client, &[], true), server);
        let (client, server) = (&mut pair.client, &mut pair.server);
        if right {
            // Its own packet comes as if it had been guessed.
            client.feed(&server.take_out()).unwrap();
        } else {
            client.send_raw(&[message::KEX_ECDH_INIT, 0, 0, 0, 3, 1, 2, 3]);
        }
        pair.settle(usize::MAX).unwrap();
        talk(&mut pair, usize::MAX);
        let kex = pair.server.transport.negotiated().unwrap().kex;
        assert_eq!(kex == guessed, right || kex == "curve25519-sha256");
    }
}

#[test]
fn markers_are_no_guess() {
    let edit = [("curve25519-sha256,", "ext-info-c,kex-strict-c-v00@openssh.com,curve25519-sha256,")];
    let mut pair = pair_with(Role::Client, kexinit(Role::Client, &edit, true), Algorithms::default());
    pair.client.feed(&pair.server.take_out()).unwrap();
    pair.settle(usize::MAX).unwrap();
    talk(&mut pair, usize::MAX);
}

#[test]
fn a_peer_that_compresses_only_has_nothing_in_common() {
    let mut pair = pair_with(
        Role::Server,
        kexinit(Role::Server, &[("none", "zlib@openssh.com")], false),
        Algorithms::default(),
    );
    let Err(Fault::SshKex(words)) = pair.client.feed(&pair.server.take_out()) else {
        panic!("it is refused")
    };
    assert_eq!(words, "no common compression: the client offers none; the server offers zlib@openssh.com");
}

#[test]
fn an_idle_connection_is_small() {
    /// Of one key of AES-GCM, which the library allocates: aws-lc's EVP_AEAD_CTX.
    const KEY_BYTES: usize = 592;
    let pair = Pair::open(&Algorithms::default());
    assert!(pair.client.transport.exchange.is_none() && pair.server.transport.exchange.is_none());
    assert!(size_of::<Transport>() + 2 * KEY_BYTES < 1600, "{} bytes", size_of::<Transport>());
}
