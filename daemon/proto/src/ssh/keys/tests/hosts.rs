//! `known_hosts` files, and hosts held against them.

use proptest::prelude::*;

use super::{blob, fixture, words};
use crate::Fault;
use crate::ssh::Algorithms;
use crate::ssh::keys::known_hosts::is_like;
use crate::ssh::keys::{HASHED_LINES_MAX, HostKeys, KnownHosts, PublicKey};

const ED25519: &[u8] = fixture!("ed25519.pub");
const ECDSA: &[u8] = fixture!("ecdsa.pub");
const RSA: &[u8] = fixture!("rsa2048.pub");
const OTHER: &[u8] = fixture!("ed25519_ctr.pub");

fn known(lines: impl AsRef<[u8]>) -> HostKeys {
    HostKeys::Known(KnownHosts::parse(lines).unwrap())
}

fn judged(hosts: &HostKeys, host: &str, port: u16, line: &[u8]) -> Result<(), String> {
    match hosts.judge(host, port, &blob(line), 0) {
        Ok(key) => {
            assert_eq!(key.blob(), blob(line));
            Ok(())
        }
        Err(Fault::SshHostKey(why)) => Err(why),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_host_is_known_by_each_kind_of_name() {
    let ed25519 = words(ED25519);
    for (names, known_as, not_as) in [
        ("a.example", &[("a.example", 22), ("A.Example", 22)][..], &[("b.example", 22)][..]),
        ("A.example", &[("a.example", 22)], &[]),
        ("a.example,127.0.0.1", &[("a.example", 22), ("127.0.0.1", 22)], &[("127.0.0.11", 22)]),
        ("[a.example]:2222", &[("a.example", 2222)], &[("a.example", 22), ("a.example", 2223)]),
        ("[::1]:2222", &[("::1", 2222), ("[::1]", 2222)], &[("::1", 22)]),
        ("::1", &[("::1", 22), ("[::1]", 22)], &[("::2", 22)]),
        ("*.example", &[("a.example", 22), ("a.b.example", 22)], &[(".exampl", 22), ("example", 22)]),
        ("h?.example", &[("h1.example", 22)], &[("h.example", 22), ("h11.example", 22)]),
        ("*.example,!b.example", &[("a.example", 22)], &[("b.example", 22)]),
        ("!b.example,*.EXAMPLE", &[("a.example", 22)], &[("b.example", 22), ("B.example", 22)]),
        ("!b.example", &[], &[("a.example", 22), ("b.example", 22)]),
        ("[*.example]:2222", &[("a.example", 2222)], &[("a.example", 22)]),
        ("*", &[("a", 22), ("a", 2222), ("::1", 1)], &[]),
        // As OpenSSH: a line without a port helps at any.
        ("a.example", &[("a.example", 2222)], &[]),
    ] {
        let hosts = known(format!("# one\n\n  {names} {ed25519} a comment\r\n"));
        for (host, port) in known_as {
            // Twice: the second time what was found is kept.
            for _ in 0..2 {
                assert_eq!(judged(&hosts, host, *port, ED25519), Ok(()), "{names} for {host} {port}");
            }
            assert!(judged(&hosts, host, *port, RSA).is_err(), "{names} for {host} {port}");
        }
        for (host, port) in not_as {
            let why = judged(&hosts, host, *port, ED25519).unwrap_err();
            assert!(why.contains("is not in the known_hosts file"), "{names} for {host} {port}: {why}");
        }
    }
}

#[test]
fn hashed_names_are_found() {
    let hosts = known(fixture!("known_hosts_hashed"));
    assert_eq!(judged(&hosts, "host.example", 22, ED25519), Ok(()));
    assert_eq!(judged(&hosts, "HOST.example", 2222, ECDSA), Ok(()));
    assert_eq!(judged(&hosts, "::1", 2222, ECDSA), Ok(()));
    assert!(judged(&hosts, "host.example", 22, ECDSA).unwrap_err().contains("line 1"));
    assert!(judged(&hosts, "host.example", 2222, ED25519).unwrap_err().contains("line 2"));
    assert!(judged(&hosts, "::1", 22, ECDSA).unwrap_err().contains("is not in"));
}

#[test]
fn a_host_may_have_several_keys() {
    let hosts = known(format!("a {}\nb {}\na {}\n", words(ED25519), words(OTHER), words(RSA)));
    assert_eq!(judged(&hosts, "a", 22, ED25519), Ok(()));
    assert_eq!(judged(&hosts, "a", 22, RSA), Ok(()));
    let why = judged(&hosts, "a", 22, OTHER).unwrap_err();
    assert!(why.contains("line 1 has ssh-ed25519") && why.contains("line 3 has ssh-rsa"), "{why}");
    assert!(!why.contains("line 2"), "{why}");
}

#[test]
fn a_refusal_says_what_to_do() {
    let hosts = known(format!("a.example {}\n@revoked * {}\n", words(ED25519), words(RSA)));
    let new = PublicKey::from_blob(&blob(OTHER)).unwrap().fingerprint();
    let old = PublicKey::from_blob(&blob(ED25519)).unwrap().fingerprint();
    let why = judged(&hosts, "b.example", 2222, OTHER).unwrap_err();
    for says in ["[b.example]:2222 ", &new, "`ssh-keyscan -p 2222 b.example`", "--accept-new"] {
        assert!(why.contains(says), "{says}: {why}");
    }
    let why = judged(&hosts, "a.example", 22, OTHER).unwrap_err();
    for says in ["a.example ", &new, &old, "line 1", "`ssh-keyscan -p 22 a.example`", "in between"] {
        assert!(why.contains(says), "{says}: {why}");
    }
    for host in ["a.example", "b.example"] {
        let why = judged(&hosts, host, 22, RSA).unwrap_err();
        for says in [host, "line 2", "revokes"] {
            assert!(why.contains(says), "{says}: {why}");
        }
    }
}

#[test]
fn a_key_that_is_known_and_revoked_is_refused() {
    let lines = format!("a {}\n@revoked a {}\n", words(ED25519), words(ED25519));
    assert!(judged(&known(&lines), "a", 22, ED25519).unwrap_err().contains("line 2"));
    // Without a port in the file, at any port.
    assert!(judged(&known(&lines), "a", 2222, ED25519).unwrap_err().contains("line 2"));
    let fresh = HostKeys::AcceptNew(KnownHosts::parse(&lines).unwrap());
    assert!(judged(&fresh, "a", 2222, ED25519).unwrap_err().contains("line 2"));
    assert_eq!(judged(&fresh, "b", 2222, ED25519), Ok(()));
}

#[test]
fn a_new_host_is_held_to_what_it_showed_first() {
    let hosts = HostKeys::AcceptNew(KnownHosts::parse(format!("a {}", words(ED25519))).unwrap());
    assert_eq!(judged(&hosts, "a", 22, ED25519), Ok(()));
    assert!(judged(&hosts, "a", 22, OTHER).unwrap_err().contains("line 1"));
    // What is known is not accepted, and neither is what is refused.
    assert_eq!(hosts.accepted(), []);
    assert_eq!(judged(&hosts, "b", 22, OTHER), Ok(()));
    assert_eq!(judged(&hosts, "B", 22, OTHER), Ok(()));
    assert_eq!(judged(&hosts, "a", 2222, RSA), Ok(()));
    let why = judged(&hosts, "b", 22, ED25519).unwrap_err();
    let [new, old] = [ED25519, OTHER].map(|line| PublicKey::from_blob(&blob(line)).unwrap().fingerprint());
    for says in ["b showed", &new, &old, "ssh-keyscan -p 22 b", "--known-hosts"] {
        assert!(why.contains(says), "{says}: {why}");
    }
    let rsa = PublicKey::from_blob(&blob(RSA)).unwrap().fingerprint();
    assert_eq!(hosts.accepted(), [("[a]:2222".into(), rsa), ("b".into(), old)]);
    // A host is asked for the key that it was believed by.
    assert_eq!(hosts.order("a", 2222, &Algorithms::HOST_KEYS)[..2], ["rsa-sha2-256", "rsa-sha2-512"]);
}

/// All workers share one: whoever comes first decides for all.
#[test]
fn workers_agree_on_the_first_key() {
    let hosts = HostKeys::AcceptNew(KnownHosts::default());
    let believed = std::thread::scope(|scope| {
        let workers: Vec<_> = [ED25519, ECDSA, RSA, OTHER]
            .map(|line| {
                let hosts = &hosts;
                scope.spawn(move || (0..100).filter(|_| judged(hosts, "a", 22, line).is_ok()).count())
            })
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .collect();
        workers
    });
    assert_eq!(believed.iter().filter(|&&count| count == 100).count(), 1, "{believed:?}");
    assert_eq!(believed.iter().sum::<usize>(), 100);
    assert_eq!(hosts.accepted().len(), 1);
}

#[test]
fn anybody_is_believed_where_that_was_asked_for() {
    for line in [ED25519, ECDSA, RSA] {
        assert_eq!(judged(&HostKeys::Any, "a", 22, line), Ok(()));
    }
    assert_eq!(HostKeys::Any.order("a", 22, &Algorithms::HOST_KEYS), Algorithms::HOST_KEYS);
    // A certificate past its time is a key like any.
    let certificate = blob(fixture!("host_ed25519-cert.pub"));
    let key = HostKeys::Any.judge("a", 22, &certificate, u64::MAX).unwrap();
    assert_eq!(key.blob(), blob(ED25519));
    assert!(HostKeys::Any.judge("a", 22, &blob(fixture!("rsa1024.pub")), 0).is_err());
    assert_eq!(HostKeys::Any.accepted(), []);
}

#[test]
fn a_host_is_asked_for_what_is_known_of_it_first() {
    let lines = format!(
        "rsa {}\necdsa {}\nboth,[port]:2222 {}\nboth {}\nport {}\n@cert-authority *.example {}\na.example {}\n",
        words(RSA),
        words(ECDSA),
        words(RSA),
        words(ECDSA),
        words(ECDSA),
        words(fixture!("ca.pub")),
        words(RSA),
    );
    let hosts = known(lines);
    let order = |host, port| {
        let order = hosts.order(host, port, &Algorithms::HOST_KEYS);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        let mut all = Algorithms::HOST_KEYS.to_vec();
        all.sort_unstable();
        assert_eq!(sorted, all, "nothing is lost");
        order
    };
    let rsa = ["rsa-sha2-256", "rsa-sha2-512"];
    assert_eq!(order("rsa", 22)[..3], [rsa[0], rsa[1], "ssh-ed25519"]);
    assert_eq!(order("RSA", 2222)[..2], rsa);
    assert_eq!(order("ecdsa", 22)[..2], ["ecdsa-sha2-nistp256", "ssh-ed25519"]);
    assert_eq!(order("both", 22)[..3], ["ecdsa-sha2-nistp256", rsa[0], rsa[1]]);
    assert_eq!(order("port", 2222)[..2], rsa);
    assert_eq!(order("port", 22)[0], "ecdsa-sha2-nistp256");
    assert_eq!(order("nobody", 22), Algorithms::HOST_KEYS);
    assert_eq!(order("b.example", 22)[..4], Algorithms::HOST_KEYS[4..]);
    assert_eq!(order("a.example", 22)[..6], [&Algorithms::HOST_KEYS[4..], &rsa].concat());
}

/// SSH 1's lines and other kinds of keys are none of ours, but a host that has one is not new.
#[test]
fn other_kinds_of_keys_are_passed_over() {
    let lines = format!(
        "a 1024 35 1234567890\nb ssh-future !!!\nc {}\nc-too {} ",
        words(fixture!("ecdsa384.pub")),
        words(fixture!("rsa1024.pub")),
    );
    let hosts = HostKeys::AcceptNew(KnownHosts::parse(lines).unwrap());
    for host in ["a", "b"] {
        assert_eq!(judged(&hosts, host, 22, ED25519), Ok(()));
    }
    assert!(judged(&hosts, "c", 22, ED25519).unwrap_err().contains("line 3 has ecdsa-sha2-nistp384"));
    assert!(judged(&hosts, "c-too", 22, fixture!("rsa1024.pub")).unwrap_err().contains("1024 bits"));
}

#[test]
fn a_line_that_is_wrong_is_named() {
    let ed25519 = words(ED25519);
    let base64 = ed25519.split(' ').nth(1).unwrap();
    for (line, says) in [
        ("a".to_owned(), "names, a key's type"),
        ("a ssh-ed25519".to_owned(), "names, a key's type"),
        (format!("@unknown a {ed25519}"), "@cert-authority"),
        (format!("@revoked {ed25519}"), "names, a key's type"),
        (format!("a ssh-rsa {base64}"), "not of the type ssh-rsa"),
        ("a ssh-ed25519 AAA!".to_owned(), "base64"),
        (format!("|1|AAAA|AAAA {ed25519}"), "ssh-keygen -H"),
        (format!("|2|x {ed25519}"), "ssh-keygen -H"),
    ] {
        let file = format!("# first\nb {ed25519}\n{line}\n");
        let error = KnownHosts::parse(&file).unwrap_err().to_string();
        assert!(error.starts_with("line 3 of the known_hosts file: ") && error.contains(says), "{error}");
    }
    // Comments may be in any encoding, and the last line need not end.
    KnownHosts::parse([b"# \xe4\na ", ed25519.as_bytes(), b" caf\xe9"].concat()).unwrap();
}

#[test]
fn lines_with_hashed_names_have_a_limit() {
    let line = fixture!("known_hosts_hashed").split(|&byte| byte == b'\n').next().unwrap();
    let lines = |count| [line, b"\n"].concat().repeat(count);
    KnownHosts::parse(lines(HASHED_LINES_MAX)).unwrap();
    let error = KnownHosts::parse(lines(HASHED_LINES_MAX + 1)).unwrap_err().to_string();
    assert!(error.contains("16385 lines") && error.contains("ssh-keyscan"), "{error}");
}

/// A pattern as the words of sshd(8) say it, a character at a time.
fn is_like_by_definition(text: &[u8], pattern: &[u8]) -> bool {
    match (text, pattern) {
        ([], []) => true,
        (_, [b'*', rest @ ..]) => {
            (0..=text.len()).any(|skipped| is_like_by_definition(&text[skipped..], rest))
        }
        ([_, text @ ..], [b'?', pattern @ ..]) => is_like_by_definition(text, pattern),
        ([a, text @ ..], [b, pattern @ ..]) => a == b && is_like_by_definition(text, pattern),
        _ => false,
    }
}

proptest! {
    #[test]
    fn a_pattern_means_what_its_definition_says(text in "[ab.]{0,10}", pattern in "[ab.*?]{0,8}") {
        prop_assert_eq!(is_like(&text, &pattern), is_like_by_definition(text.as_bytes(), pattern.as_bytes()));
    }
}

#[test]
fn a_pattern_of_many_stars_takes_no_time() {
    assert!(!is_like(&"a".repeat(10_000), &("*a".repeat(1_000) + "b")));
    assert!(is_like(&"a".repeat(10_000), &"*a".repeat(1_000)));
}
