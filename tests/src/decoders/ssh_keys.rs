//! The readers of SSH keys: any file is a key, a certificate, known hosts, or refused with a sentence.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use scale_proto::Fault;
use scale_proto::ssh::Algorithms;
use scale_proto::ssh::keys::{Certificate, HostKeys, KnownHosts, PrivateKey, PublicKey};

/// A time at which the certificates among the fixtures are valid.
const UNIX_S: u64 = 1_720_000_000;
/// Hosts as the fixtures have them, and one that they do not have.
const HOSTS: [(&str, u16); 4] =
    [("host.example", 22), ("host.example", 2222), ("::1", 2222), ("other.example", 22)];
/// Blobs out of one file that are shown as a host's.
const BLOBS_MAX: usize = 8;

/// Any bytes, as each kind of file, and as what a server presents.
///
/// # Panics
/// A reader does not hold to its rules.
pub fn check(file: &[u8]) {
    check_private_key(file);
    check_certificate(file);
    check_blob(file);
    check_known_hosts(file);
}

fn is_sentence(error: &str) {
    assert!(!error.is_empty() && !error.contains(char::is_control), "{error:?}");
}

/// Without a passphrase: hashing one takes its time on purpose.
fn check_private_key(file: &[u8]) {
    match PrivateKey::from_file(file, None) {
        Ok(key) => {
            let public = PublicKey::from_blob(key.public_blob()).expect("a key's own blob");
            for &algorithm in key.algorithms() {
                let signature = key.sign(algorithm, file).expect("a key signs");
                public.verify(algorithm, file, &signature).expect("a key's own signature");
                public.verify(algorithm, b"", &signature).expect_err("a signature of something else");
            }
        }
        Err(error) => is_sentence(&error.to_string()),
    }
}

fn check_certificate(file: &[u8]) {
    match Certificate::from_file(file) {
        Ok(certificate) => {
            assert!(contains(file, certificate.blob()), "a certificate is what the file holds");
            let stranger = PrivateKey::from_seed([7; 32]);
            assert!(!certificate.is_for(&stranger));
            is_sentence(&certificate.check_login(&stranger, UNIX_S).expect_err("another's").to_string());
        }
        Err(error) => is_sentence(&error.to_string()),
    }
}

fn check_blob(blob: &[u8]) {
    match PublicKey::from_blob(blob) {
        Ok(key) => {
            assert_eq!(key.blob(), blob);
            assert_eq!(HostKeys::Any.judge("host.example", 22, blob, UNIX_S).as_ref(), Ok(&key));
            for algorithm in key.algorithms() {
                key.verify(algorithm, b"", blob).expect_err("a key is no signature");
            }
        }
        Err(Fault::SshHostKey(why)) => is_sentence(&why),
        Err(other) => panic!("{other}"),
    }
}

/// Whether a text has these bytes in it, in base64.
fn contains(file: &[u8], bytes: &[u8]) -> bool {
    let base64 = STANDARD.encode(bytes);
    file.windows(base64.len()).any(|window| window == base64.as_bytes())
}

fn check_known_hosts(file: &[u8]) {
    let parse = || match KnownHosts::parse(file) {
        Ok(known) => Some(known),
        Err(error) => {
            is_sentence(&error.to_string());
            None
        }
    };
    let (Some(known), Some(fresh)) = (parse(), parse()) else { return };
    let (known, accepting) = (HostKeys::Known(known), HostKeys::AcceptNew(fresh));
    let words = file.split(u8::is_ascii_whitespace).filter_map(|word| STANDARD.decode(word).ok());
    let blobs: Vec<_> = words.filter(|blob| blob.len() > 4).take(BLOBS_MAX).chain([file.to_vec()]).collect();
    for (host, port) in HOSTS {
        for hosts in [&known, &accepting] {
            let mut order = hosts.order(host, port, &Algorithms::HOST_KEYS);
            order.sort_unstable();
            let mut all = Algorithms::HOST_KEYS;
            all.sort_unstable();
            assert_eq!(order, all, "an order loses nothing");
        }
        for blob in &blobs {
            let judged = known.judge(host, port, blob, UNIX_S);
            assert_eq!(judged, known.judge(host, port, blob, UNIX_S), "a second look");
            match &judged {
                Ok(key) => {
                    let is_certified = file.windows(15).any(|window| window == b"@cert-authority");
                    assert!(is_certified || contains(file, key.blob()), "a stranger is believed: {key:?}");
                }
                Err(Fault::SshHostKey(why)) => is_sentence(why),
                Err(other) => panic!("{other}"),
            }
            check_accepting(&accepting, host, port, blob, &judged);
        }
    }
}

/// At first sight more is believed, and what was believed stays so.
fn check_accepting(hosts: &HostKeys, host: &str, port: u16, blob: &[u8], known: &Result<PublicKey, Fault>) {
    let before = hosts.accepted();
    let judged = hosts.judge(host, port, blob, UNIX_S);
    let after = hosts.accepted();
    match (known, &judged) {
        (Ok(_), _) => assert_eq!((known, &before), (&judged, &after), "what is known is not accepted anew"),
        (Err(_), Ok(key)) => {
            assert!(after.iter().any(|(_, fingerprint)| *fingerprint == key.fingerprint()));
            assert_eq!(hosts.judge(host, port, blob, UNIX_S).as_ref(), Ok(key));
        }
        (Err(_), Err(_)) => assert_eq!(before, after, "what is refused is not accepted"),
    }
    assert!(before.iter().all(|accepted| after.contains(accepted)));
}
