//! Every byte, through each server and each cipher and key exchange that it has in common with us.

use scale_api::report::{Negotiated, Report};
use scale_tests::ssh::{Server, Site};

use super::{CONNS, PATIENT, as_user, echoes, spoken};
use crate::assert_every_byte_came_back;

/// What the connections settled on; all on the same.
fn negotiated(report: &Report) -> &Negotiated {
    let sets = &spoken(report).negotiated;
    let [set] = &sets[..] else { panic!("they settled on different things: {sets:?}") };
    assert_eq!(set.connections.to_string(), CONNS);
    set
}

/// A cipher, its MAC, a key exchange.
type Set = (&'static str, &'static str, &'static str);

/// AEADs have no MAC of their own.
const NO_MAC: &str = "";
const SETS: [Set; 7] = [
    ("aes128-gcm@openssh.com", NO_MAC, "curve25519-sha256"),
    ("aes256-gcm@openssh.com", NO_MAC, "curve25519-sha256@libssh.org"),
    ("chacha20-poly1305@openssh.com", NO_MAC, "ecdh-sha2-nistp256"),
    ("aes128-ctr", "hmac-sha2-256-etm@openssh.com", "curve25519-sha256"),
    ("aes256-ctr", "hmac-sha2-512-etm@openssh.com", "curve25519-sha256"),
    ("aes128-ctr", "hmac-sha2-256", "curve25519-sha256"),
    ("aes256-ctr", "hmac-sha2-512", "curve25519-sha256"),
];

/// Each of `sets` with a server that `start` makes offer it.
fn through_each(sets: &[Set], start: impl Fn(&Site, Set) -> Option<Server>) {
    let Some(site) = Site::new() else { return };
    for &set in sets {
        let Some(server) = start(&site, set) else { return };
        let (cipher, mac, kex) = set;
        let report = echoes(&site, &server, &["--ssh-ciphers", cipher, "--ssh-kex", kex]);
        let found = negotiated(&report);
        assert_eq!([&found.cipher, &found.kex, &found.host_key], [cipher, kex, "ssh-ed25519"]);
        assert!(mac.is_empty() || found.mac == mac, "{found:?}");
    }
}

/// All servers, at what the two sides like best.
#[test]
fn every_server_echoes_every_byte_of_twenty_streams() {
    let Some(site) = Site::new() else { return };
    let servers = [site.openssh(""), site.dropbear(&[]), site.tinyssh(), site.asyncssh(&[]), site.node(&[])];
    for server in servers.into_iter().flatten() {
        let report = echoes(&site, &server, &[]);
        negotiated(&report);
        let latency = &report.latency;
        let phases = [
            &latency.connect,
            &latency.banner,
            &latency.key_exchange,
            &latency.authentication,
            &latency.channel,
            &latency.first_byte,
        ];
        for phase in phases {
            assert_eq!(
                phase.as_ref().map(|phase| phase.count.to_string()).as_deref(),
                Some(CONNS),
                "{latency:?}"
            );
        }
    }
}

#[test]
fn openssh_echoes_every_byte_by_each_cipher_and_key_exchange() {
    through_each(&SETS, |site, (cipher, mac, kex)| {
        let macs = if mac.is_empty() { String::new() } else { format!("MACs {mac}\n") };
        site.openssh(&format!("Ciphers {cipher}\nKexAlgorithms {kex}\n{macs}"))
    });
}

/// It is the one that has ML-KEM.
#[test]
fn asyncssh_echoes_every_byte_by_each_cipher_and_key_exchange() {
    let with_mlkem = SETS.map(|(cipher, mac, kex)| {
        (cipher, mac, if cipher.starts_with("aes128-gcm") { "mlkem768x25519-sha256" } else { kex })
    });
    through_each(&with_mlkem, |site, (cipher, mac, kex)| {
        let macs: &[&str] = if mac.is_empty() { &[] } else { &["--macs", mac] };
        site.asyncssh(&[&["--ciphers", cipher, "--kex", kex], macs].concat())
    });
}

#[test]
fn ssh2_in_node_echoes_every_byte_by_each_cipher_and_key_exchange() {
    through_each(&SETS, |site, (cipher, mac, kex)| {
        let macs: &[&str] = if mac.is_empty() { &[] } else { &["--macs", mac] };
        site.node(&[&["--ciphers", cipher, "--kex", kex], macs].concat())
    });
}

#[test]
fn russh_echoes_every_byte_by_each_cipher_and_key_exchange() {
    let with_mlkem = SETS.map(|(cipher, mac, kex)| {
        (cipher, mac, if cipher.starts_with("aes256-ctr") { "mlkem768x25519-sha256" } else { kex })
    });
    through_each(&with_mlkem, |site, (cipher, mac, kex)| {
        let macs: &[&str] = if mac.is_empty() { &[] } else { &["--ssh-macs", mac] };
        Some(site.russh(&[&["--ssh-ciphers", cipher, "--ssh-kex", kex], macs].concat()))
    });
}

/// It has no GCM, and its MACs are of what was said, not of what is sent. It cannot be told what to offer.
#[test]
fn dropbear_echoes_every_byte_by_each_cipher_and_key_exchange() {
    let sets = [
        ("aes128-ctr", "hmac-sha2-256", "curve25519-sha256"),
        ("aes256-ctr", "hmac-sha2-256", "ecdh-sha2-nistp256"),
        ("chacha20-poly1305@openssh.com", NO_MAC, "curve25519-sha256@libssh.org"),
    ];
    through_each(&sets, |site, _| site.dropbear(&[]));
}

/// An exchange of keys takes a server that many bytes and more.
const EXCHANGE_BYTES: u64 = 1000;

/// New keys are agreed on many times in every stream's life, by each kind of cipher.
#[test]
fn keys_are_exchanged_under_load_as_often_as_openssh_wants() {
    let Some(site) = Site::new() else { return };
    for (cipher, _, kex) in [SETS[0], SETS[2], SETS[3], SETS[5]] {
        let settings = format!("RekeyLimit 16K\nCiphers {cipher}\nKexAlgorithms {kex}");
        let Some(server) = site.openssh(&settings) else { return };
        let often = ["--conns", CONNS, "--tick-interval", "50ms", "--bytes-per-tick", "2000"];
        let time = ["--warm-up", "2s", "--duration", "2s"];
        let (code, report) = as_user(&site, &server, &[&often, &time[..], &PATIENT].concat());
        assert_every_byte_came_back(CONNS, (code, &report));
        let total = &report.total;
        let beside = total.wire_bytes_received - total.payload_bytes_received;
        assert!(beside > 20 * 20 * EXCHANGE_BYTES, "twenty exchanges a stream, by {cipher}: {total:?}");
    }
}

#[test]
fn keys_are_exchanged_under_load_as_often_as_asyncssh_ssh2_in_node_and_russh_want() {
    let Some(site) = Site::new() else { return };
    let servers = [
        site.asyncssh(&["--rekey-bytes", "20000"]),
        site.asyncssh(&[
            "--rekey-bytes",
            "20000",
            "--ciphers",
            "aes256-ctr",
            "--kex",
            "mlkem768x25519-sha256",
        ]),
        site.node(&["--rekey-ms", "100"]),
        site.node(&["--rekey-ms", "100", "--ciphers", "aes128-ctr", "--kex", "ecdh-sha2-nistp256"]),
        Some(site.russh(&["--ssh-rekey-bytes", "20000"])),
        Some(site.russh(&["--ssh-rekey-after", "100ms", "--ssh-ciphers", "aes128-ctr"])),
    ];
    for server in servers.into_iter().flatten() {
        echoes(&site, &server, &[]);
    }
}
