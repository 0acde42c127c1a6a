//! Certificates by `ssh-keygen -s`.

use super::{blob, fixture, words};
use crate::Fault;
use crate::ssh::keys::{Certificate, HostKeys, KnownHosts, PrivateKey, PublicKey};

/// Within and around the window of those that have one.
const WITHIN: u64 = 1_720_000_000;
const BEGIN: u64 = 1_704_067_200;
const END: u64 = 1_735_689_600;

fn key(file: &[u8]) -> PrivateKey {
    PrivateKey::from_file(file, None).unwrap()
}

#[test]
fn a_users_certificate_is_for_its_key() {
    for (certificate, own, other, algorithm) in [
        (fixture!("user_ed25519-cert.pub"), fixture!("ed25519"), fixture!("ecdsa"), "ssh-ed25519"),
        (fixture!("user_ecdsa-cert.pub"), fixture!("ecdsa"), fixture!("ecdsa_short"), "ecdsa-sha2-nistp256"),
        // Signed by an authority of a kind that is not known here: the server judges.
        (fixture!("user_rsa-cert.pub"), fixture!("rsa2048"), fixture!("rsa3072"), "rsa-sha2-512"),
    ] {
        let read = Certificate::from_file(certificate).unwrap();
        assert_eq!(read.blob(), blob(certificate));
        assert!(read.is_for(&key(own)) && !read.is_for(&key(other)));
        assert_eq!(read.algorithm(algorithm), format!("{algorithm}-cert-v01@openssh.com"));
        read.check_login(&key(own), WITHIN).unwrap();
        let refusal = read.check_login(&key(other), WITHIN).unwrap_err().to_string();
        assert!(
            refusal.contains(".pub") && refusal.contains(&key(other).public().fingerprint()),
            "{refusal}"
        );
    }
}

#[test]
fn a_users_certificate_is_valid_in_its_window() {
    let certificate = Certificate::from_file(fixture!("user_ecdsa-cert.pub")).unwrap();
    let key = key(fixture!("ecdsa"));
    let says = |unix_s| certificate.check_login(&key, unix_s).map_err(|error| error.to_string());
    assert!(says(BEGIN).is_ok() && says(END - 1).is_ok());
    for (unix_s, why) in [
        (BEGIN - 1, "valid in 1 seconds"),
        (BEGIN - 7_200, "valid in 2 hours"),
        (END, "expired 0 seconds ago"),
        (END + 600, "expired 10 minutes ago"),
        (END + 864_000, "expired 10 days ago"),
    ] {
        let says = says(unix_s).unwrap_err();
        assert!(says.contains(why) && says.contains("ssh-keygen -s"), "{says}");
    }
}

#[test]
fn a_file_that_is_no_users_certificate_is_refused_with_what_to_do() {
    let long = [b' '; crate::ssh::keys::KEY_FILE_BYTES_MAX + 1];
    for (file, says) in [
        (fixture!("host_rsa-cert.pub"), "without -h"),
        (fixture!("ed25519.pub"), "-cert.pub"),
        (fixture!("ed25519"), "-cert.pub"),
        (b"ssh-ed25519-cert-v01@openssh.com AAAA x", "damaged"),
        (b"ssh-ed25519-cert-v01@openssh.com", "damaged"),
        (b"ssh-dss-cert-v01@openssh.com AAAAHHNzaC1kc3MtY2VydC12MDFAb3BlbnNzaC5jb20=", "-cert.pub"),
        (&[0xff, 0xfe], "-cert.pub"),
        (b"", "-cert.pub"),
        (&long, "at most"),
    ] {
        let error = Certificate::from_file(file).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// Every bit is either signed, or the signature, or the frame around both.
#[test]
fn a_damaged_certificate_is_refused() {
    use base64::Engine;
    let blob = blob(fixture!("user_ed25519-cert.pub"));
    let file = |blob: &[u8]| {
        let base64 = base64::engine::general_purpose::STANDARD.encode(blob);
        format!("ssh-ed25519-cert-v01@openssh.com {base64} comment\n")
    };
    Certificate::from_file(file(&blob).as_bytes()).unwrap();
    for index in 0..blob.len() {
        let mut wrong = blob.clone();
        wrong[index] ^= 1 << (index % 8);
        // One whose authority is of no known kind is not verified.
        let is_refused = Certificate::from_file(file(&wrong).as_bytes()).is_err();
        let names_authority = PublicKey::from_blob(authority(&wrong)).is_ok();
        assert!(is_refused || !names_authority, "byte {index}");
        assert!(Certificate::from_file(file(&wrong[..index]).as_bytes()).is_err());
    }
}

/// The signing key's blob: the last string but one.
fn authority(certificate: &[u8]) -> &[u8] {
    const AUTHORITY_BYTES: usize = 4 + 11 + 4 + 32;
    const SIGNATURE_BYTES: usize = 4 + 4 + 11 + 4 + 64;
    let end = certificate.len() - SIGNATURE_BYTES;
    &certificate[end - AUTHORITY_BYTES..end]
}

/// What a host is judged that presents a certificate, where the file has `lines`.
fn judged(lines: &str, host: &str, certificate: &[u8], unix_s: u64) -> Result<PublicKey, String> {
    let known = HostKeys::Known(KnownHosts::parse(lines).unwrap());
    known.judge(host, 22, &blob(certificate), unix_s).map_err(|fault| match fault {
        Fault::SshHostKey(why) => why,
        other => panic!("{other}"),
    })
}

#[test]
fn a_hosts_certificate_is_believed_where_its_authority_is() {
    let ca = format!("@cert-authority *.example,*.lab.example {}", words(fixture!("ca.pub")));
    let ca_rsa = format!("@cert-authority host.example {}", words(fixture!("ca_rsa.pub")));
    for (lines, host, certificate, key) in [
        (&ca, "host.example", fixture!("host_ed25519-cert.pub"), fixture!("ed25519.pub")),
        (&ca, "a.lab.example", fixture!("host_ed25519-cert.pub"), fixture!("ed25519.pub")),
        (&ca, "HOST.Example", fixture!("host_ed25519-cert.pub"), fixture!("ed25519.pub")),
        (&ca, "host.example", fixture!("host_rsa-cert.pub"), fixture!("rsa2048.pub")),
        (&ca_rsa, "host.example", fixture!("host_ecdsa-cert.pub"), fixture!("ecdsa.pub")),
    ] {
        let key = PublicKey::from_blob(&blob(key)).unwrap();
        assert_eq!(judged(lines, host, certificate, WITHIN), Ok(key));
    }
}

#[test]
fn a_hosts_certificate_that_does_not_hold_is_refused_with_the_reason() {
    let ca = format!("@cert-authority * {}", words(fixture!("ca.pub")));
    let ca_rsa = format!("@cert-authority * {}", words(fixture!("ca_rsa.pub")));
    let revoked = format!("{ca}\n@revoked * {}", words(fixture!("ca.pub")));
    let other = format!("@cert-authority *.other {}", words(fixture!("ca.pub")));
    for (lines, host, certificate, unix_s, says) in [
        (&ca, "host.example", fixture!("host_ed25519-cert.pub"), BEGIN - 1, "valid in 1 seconds"),
        (&ca, "host.example", fixture!("host_ed25519-cert.pub"), END, "expired 0 seconds ago"),
        (&ca, "b.example", fixture!("host_ed25519-cert.pub"), WITHIN, "is for host.example, *.lab.example"),
        (&ca, "lab.example", fixture!("host_ed25519-cert.pub"), WITHIN, "-h -n lab.example"),
        (&ca, "host.example", fixture!("host_nobody-cert.pub"), WITHIN, "no host by name"),
        (&ca, "host.example", fixture!("host_critical-cert.pub"), WITHIN, "surprise@example.com"),
        (&ca, "host.example", fixture!("user_as_host-cert.pub"), WITHIN, "is a user's"),
        (&ca_rsa, "host.example", fixture!("host_sha1-cert.pub"), WITHIN, "not signed by its authority"),
        (&ca_rsa, "host.example", fixture!("host_ed25519-cert.pub"), WITHIN, "no @cert-authority line"),
        (&ca, "host.example", fixture!("host_384-cert.pub"), WITHIN, "no @cert-authority line"),
        (&other, "host.example", fixture!("host_ed25519-cert.pub"), WITHIN, "no @cert-authority line"),
        (&revoked, "host.example", fixture!("host_ed25519-cert.pub"), WITHIN, "line 2"),
    ] {
        let why = judged(lines, host, certificate, unix_s).unwrap_err();
        assert!(why.contains(says), "{why}");
    }
}

#[test]
fn a_hosts_certificate_whose_signature_is_wrong_is_refused() {
    let known = HostKeys::Known(
        KnownHosts::parse(format!("@cert-authority * {}", words(fixture!("ca.pub")))).unwrap(),
    );
    let blob = blob(fixture!("host_ed25519-cert.pub"));
    known.judge("host.example", 22, &blob, WITHIN).unwrap();
    for index in 0..blob.len() {
        let mut wrong = blob.clone();
        wrong[index] ^= 1 << (index % 8);
        assert!(known.judge("host.example", 22, &wrong, WITHIN).is_err(), "byte {index}");
        assert!(known.judge("host.example", 22, &blob[..index], WITHIN).is_err());
    }
}

/// As OpenSSH: a certificate that nobody is known to sign is its key and no more.
#[test]
fn the_key_within_a_certificate_may_be_known_by_itself() {
    let key = format!("host.example {}", words(fixture!("ed25519.pub")));
    let certificate = fixture!("host_ed25519-cert.pub");
    assert!(judged(&key, "host.example", certificate, END).is_ok());
    let other = format!("host.example {}", words(fixture!("ecdsa.pub")));
    let why = judged(&other, "host.example", certificate, WITHIN).unwrap_err();
    assert!(why.contains("line 1 has ecdsa-sha2-nistp256"), "{why}");
    // At first sight, too; but not where the authority is known and the certificate is past its time.
    let blob = blob(certificate);
    let fresh = HostKeys::AcceptNew(KnownHosts::default());
    fresh.judge("host.example", 22, &blob, END).unwrap();
    let ca = format!("@cert-authority * {}", words(fixture!("ca.pub")));
    let known = HostKeys::AcceptNew(KnownHosts::parse(ca).unwrap());
    assert!(known.judge("host.example", 22, &blob, END).is_err());
    assert!(known.accepted().is_empty());
    known.judge("host.example", 22, &blob, WITHIN).unwrap();
    assert!(known.accepted().is_empty());
}
