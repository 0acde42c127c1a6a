//! Private keys' files that ssh-keygen made, held against the public keys that it wrote beside them.

use super::{blob, fixture};
use crate::Fault;
use crate::ssh::keys::{KEY_FILE_BYTES_MAX, KeyError, PrivateKey, PublicKey, Secret, openssh, pem};
use crate::ssh::wire::Write;

fn passphrase() -> Secret {
    Secret::new(b"correct-horse".to_vec())
}

const PLAIN: [(&[u8], &[u8]); 10] = [
    (fixture!("ed25519"), fixture!("ed25519.pub")),
    (fixture!("ecdsa"), fixture!("ecdsa.pub")),
    (fixture!("rsa2048"), fixture!("rsa2048.pub")),
    (fixture!("ecdsa_short"), fixture!("ecdsa_short.pub")),
    (fixture!("rsa3072"), fixture!("rsa3072.pub")),
    (fixture!("rsa4096"), fixture!("rsa4096.pub")),
    (fixture!("ecdsa_PEM"), fixture!("ecdsa.pub")),
    (fixture!("ecdsa_PKCS8"), fixture!("ecdsa.pub")),
    (fixture!("rsa2048_PEM"), fixture!("rsa2048.pub")),
    (fixture!("rsa2048_PKCS8"), fixture!("rsa2048.pub")),
];

const ENCRYPTED: [(&[u8], &[u8]); 4] = [
    (fixture!("ed25519_ctr"), fixture!("ed25519_ctr.pub")),
    (fixture!("ecdsa_gcm"), fixture!("ecdsa_gcm.pub")),
    (fixture!("ed25519_chacha"), fixture!("ed25519_chacha.pub")),
    (fixture!("rsa_cbc"), fixture!("rsa_cbc.pub")),
];

/// It signs what the public key beside it verifies, and that verifies nothing else.
fn holds(key: &PrivateKey, public: &[u8]) {
    assert_eq!(key.public_blob(), blob(public));
    let public = PublicKey::from_blob(&blob(public)).unwrap();
    assert_eq!(&public, key.public());
    for &algorithm in key.algorithms() {
        let signature = key.sign(algorithm, b"what is signed").unwrap();
        public.verify(algorithm, b"what is signed", &signature).unwrap();
        public.verify_any(b"what is signed", &signature).unwrap();
        assert!(public.verify(algorithm, b"what is signee", &signature).is_err());
        assert!(public.verify("ssh-rsa", b"what is signed", &signature).is_err());
        for index in 0..signature.len() {
            let mut wrong = signature.clone();
            wrong[index] ^= 1 << (index % 8);
            assert!(
                public.verify(algorithm, b"what is signed", &wrong).is_err(),
                "{algorithm}, byte {index}"
            );
            assert!(public.verify(algorithm, b"what is signed", &signature[..index]).is_err());
        }
        let longer = [signature.as_slice(), &[0]].concat();
        assert!(public.verify(algorithm, b"what is signed", &longer).is_err());
    }
}

#[test]
fn a_key_from_each_kind_of_file_signs_what_its_public_key_verifies() {
    for (file, public) in PLAIN {
        holds(&PrivateKey::from_file(file, None).unwrap(), public);
        // A passphrase that nothing asks for does no harm.
        PrivateKey::from_file(file, Some(&passphrase())).unwrap();
    }
    let openssl = PrivateKey::from_file(fixture!("ed25519_PKCS8"), None).unwrap();
    let again = PublicKey::from_blob(openssl.public_blob()).unwrap();
    again.verify("ssh-ed25519", b"x", &openssl.sign("ssh-ed25519", b"x").unwrap()).unwrap();
}

#[test]
fn an_encrypted_key_needs_its_passphrase() {
    for (file, public) in ENCRYPTED {
        holds(&PrivateKey::from_file(file, Some(&passphrase())).unwrap(), public);
        assert_eq!(PrivateKey::from_file(file, None).unwrap_err(), KeyError::Encrypted);
        for wrong in [&b"correct-hors"[..], b"correct-horse\n"] {
            let wrong = Secret::new(wrong.to_vec());
            assert_eq!(PrivateKey::from_file(file, Some(&wrong)).unwrap_err(), KeyError::Passphrase);
        }
        let none = Secret::new(Vec::new());
        assert_eq!(PrivateKey::from_file(file, Some(&none)).unwrap_err(), KeyError::Encrypted);
    }
}

#[test]
fn a_key_that_is_of_no_use_is_refused_with_what_to_do() {
    for (file, says) in [
        (fixture!("rsa1024"), "1024 bits"),
        (fixture!("ecdsa384"), "ecdsa-sha2-nistp384"),
        (fixture!("ecdsa521"), "ssh-keygen -t ed25519"),
        (fixture!("dsa"), "ssh-dss"),
        (fixture!("rsa_legacy"), "ssh-keygen -p -f FILE"),
        (fixture!("rsa_encrypted_pkcs8"), "ssh-keygen -p -f FILE"),
        (fixture!("ed25519.pub"), "without .pub"),
        (b"PuTTY-User-Key-File-3: ssh-ed25519\n", "puttygen"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "CERTIFICATE"),
        (b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n", "nistp256"),
        (b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "2048"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "neither"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n!\n-----END", "before its last line"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n!\n-----END OPENSSH PRIVATE KEY-----", "base64"),
        (&[0xff; 100], "no private key"),
        (b"", "no private key"),
        (&[b'-'; KEY_FILE_BYTES_MAX + 1], "at most"),
    ] {
        let error = PrivateKey::from_file(file, None).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// Whatever byte of an OpenSSH file is damaged, what is read signs as the public key says, or nothing is.
#[test]
fn a_damaged_file_is_refused_or_is_the_same_key() {
    for (file, public) in &PLAIN[..3] {
        let pem = pem::Pem::parse(file).unwrap();
        for index in 0..pem.bytes.len() {
            let mut wrong = pem.bytes.clone();
            wrong[index] ^= 0x41;
            if let Ok(key) = openssh::private_key(&wrong, None) {
                assert_eq!(key.public_blob(), blob(public), "byte {index}");
            }
            assert!(openssh::private_key(&wrong[..index], None).is_err());
        }
    }
}

/// Terraform and Go write lines of 64 characters, Windows other line ends.
#[test]
fn lines_may_be_of_any_length_and_end() {
    let text = String::from_utf8(fixture!("ed25519").to_vec()).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    let (first, last) = (lines.remove(0), lines.pop().unwrap());
    let base64 = lines.concat();
    for width in [1, 64, 76, base64.len()] {
        let lines: Vec<_> =
            base64.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let file = format!("\r\n{first}\r\n{}\r\n{last}", lines.join(" \r\n"));
        let key = PrivateKey::from_file(file.as_bytes(), None).unwrap();
        assert_eq!(key.public_blob(), blob(fixture!("ed25519.pub")));
    }
}

#[test]
fn fingerprints_are_as_ssh_keygen_prints_them() {
    for (public, fingerprint) in [
        (fixture!("ed25519.pub"), "SHA256:Fb7mfpCAZ4ZRXStax1LwYyNTo5Elw6eaw3eRFNdD/kA"),
        (fixture!("ecdsa.pub"), "SHA256:DuIdUtR0gTfc1kthFEbUF9c8Gov5QyG1/4yJQnXbIKA"),
        (fixture!("rsa2048.pub"), "SHA256:I4zIehhaOsl6fLile1kFSWQtKqiuZc5nLBpktdKvbCk"),
    ] {
        assert_eq!(PublicKey::from_blob(&blob(public)).unwrap().fingerprint(), fingerprint);
    }
}

#[test]
fn public_keys_of_other_kinds_are_refused() {
    for (public, says) in [
        (fixture!("rsa1024.pub"), "1024 bits"),
        (fixture!("ecdsa384.pub"), "ecdsa-sha2-nistp384"),
        (fixture!("dsa.pub"), "ssh-dss"),
    ] {
        let Err(Fault::SshHostKey(error)) = PublicKey::from_blob(&blob(public)) else { panic!("{says}") };
        assert!(error.contains(says), "{error}");
    }
    for (_, public) in PLAIN {
        let blob = blob(public);
        for end in 0..blob.len() {
            assert!(PublicKey::from_blob(&blob[..end]).is_err());
        }
        assert!(PublicKey::from_blob(&[&blob[..], &[0]].concat()).is_err());
    }
}

#[test]
fn an_rsa_signature_may_lack_its_leading_zeroes() {
    let key = PrivateKey::from_file(fixture!("rsa2048"), None).unwrap();
    // One in 256 begins with a zero.
    let (message, short) = (0u32..10_000)
        .map(|n| (n.to_be_bytes(), key.sign("rsa-sha2-256", &n.to_be_bytes()).unwrap()))
        .find(|(_, signature)| signature[4 + 12 + 4] == 0)
        .map(|(message, signature)| (message, signature[4 + 12 + 5..].to_vec()))
        .unwrap();
    let mut signature = Vec::new();
    signature.put_string("rsa-sha2-256");
    signature.put_string(&short);
    key.public().verify("rsa-sha2-256", &message, &signature).unwrap();
    signature.clear();
    signature.put_string("rsa-sha2-256");
    signature.put_string([&[0, 0], &short[..]].concat());
    assert!(key.public().verify("rsa-sha2-256", &message, &signature).is_err());
}

/// RFC 8032 §7.1, test 1.
#[test]
fn a_seed_makes_the_key_of_the_rfc() {
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let seed = bytes("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    let key = PrivateKey::from_seed(seed.try_into().unwrap());
    assert_eq!(
        key.public_blob()[19..],
        bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    );
    assert_eq!(
        key.sign("ssh-ed25519", b"").unwrap()[19..],
        bytes(
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        )
    );
}

#[test]
fn a_key_is_printed_without_its_secret() {
    for (file, _) in PLAIN {
        let printed = format!("{:?}", PrivateKey::from_file(file, None).unwrap());
        let (_, fingerprint) = printed.split_once(" SHA256:").unwrap();
        assert_eq!(fingerprint.len(), 43 + 1, "{printed}");
    }
}

/// A file can ask for any time; the rounds stand in clear in front of what is encrypted.
#[test]
fn a_passphrase_that_takes_too_long_to_hash_is_refused_at_once() {
    let mut bytes = pem::Pem::parse(fixture!("ed25519_ctr")).unwrap().bytes;
    let rounds = bytes.windows(4).position(|four| four == [0, 0, 0, 2]).unwrap();
    bytes[rounds..rounds + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    let error = openssh::private_key(&bytes, Some(&passphrase())).unwrap_err().to_string();
    assert!(error.contains("4294967295 times") && error.contains("ssh-keygen -p -a 24"), "{error}");
    bytes[rounds..rounds + 4].copy_from_slice(&0u32.to_be_bytes());
    assert!(openssh::private_key(&bytes, Some(&passphrase())).is_err());
}
