//! A client against a server in memory.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::*;

struct Pki {
    cert: String,
    key: String,
}

fn pki(name: &str, expired: bool) -> Pki {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    if expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    Pki { cert: cert.pem(), key: key.serialize_pem() }
}

fn configs(pki: &Pki) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let settings = ClientSettings { ca_pem: Some(pki.cert.as_bytes()), ..ClientSettings::default() };
    (client_config(&settings).unwrap(), server_config(pki.cert.as_bytes(), pki.key.as_bytes()).unwrap())
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// One end with its carry, as a caller keeps it.
struct End {
    tls: Tls,
    carry: Vec<u8>,
    out: Vec<u8>,
    plain: Vec<u8>,
    peer_closed: bool,
}

impl End {
    fn new(tls: Tls) -> Self {
        Self { tls, carry: Vec::new(), out: Vec::new(), plain: Vec::new(), peer_closed: false }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.carry.extend_from_slice(bytes);
        let plain = &mut self.plain;
        let received = self.tls.receive(&mut self.carry, &mut self.out, &mut |bytes| {
            plain.extend_from_slice(bytes);
            Ok(())
        })?;
        self.carry.drain(..received.consumed);
        self.peer_closed |= received.peer_closed;
        Ok(())
    }

    fn seal(&mut self, plain: &[u8]) {
        let mut sealed = vec![0; Tls::sealed_bytes_max(plain.len())];
        let bytes = self.tls.seal(plain, &mut sealed).unwrap();
        self.out.extend_from_slice(&sealed[..bytes]);
    }
}

fn exchange(a: &mut End, b: &mut End, cut: usize) -> Result<(), Fault> {
    while !a.out.is_empty() || !b.out.is_empty() {
        for part in std::mem::take(&mut a.out).chunks(cut) {
            b.feed(part)?;
        }
        for part in std::mem::take(&mut b.out).chunks(cut) {
            a.feed(part)?;
        }
    }
    Ok(())
}

fn pair(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> (End, End) {
    let mut a = End::new(Tls::client(client.clone(), name()).unwrap());
    let b = End::new(Tls::server(server.clone()).unwrap());
    a.tls.start(&mut a.out).unwrap();
    (a, b)
}

fn only(version: &'static rustls::SupportedProtocolVersion, pki: &Pki) -> Arc<ServerConfig> {
    use rustls::pki_types::pem::PemObject;
    let cert = rustls::pki_types::CertificateDer::from_pem_slice(pki.cert.as_bytes()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(pki.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![cert], key).unwrap();
    config.enable_secret_extraction = true;
    Arc::new(config)
}

#[test]
fn both_versions_carry_data_both_ways_however_it_is_cut() {
    let pki = pki("localhost", false);
    let (client, _) = configs(&pki);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = only(version, &pki);
        for cut in [1, 2, 5, 6, 100, 1000, usize::MAX] {
            let (mut a, mut b) = pair(&client, &server);
            exchange(&mut a, &mut b, cut).unwrap();
            assert!(a.tls.is_established() && b.tls.is_established());
            assert_eq!(a.tls.version(), Some(version.version));
            let big: Vec<u8> = (0..70_000u32).map(|n| n as u8).collect();
            a.seal(&big);
            a.seal(b"small");
            b.seal(b"answer");
            exchange(&mut a, &mut b, cut).unwrap();
            assert_eq!(b.plain, [&big[..], b"small"].concat());
            assert_eq!(a.plain, b"answer");
            assert!(a.carry.is_empty() && b.carry.is_empty());
        }
    }
}

#[test]
fn goodbye_is_seen_by_the_peer() {
    let (client, server) = configs(&pki("localhost", false));
    let (mut a, mut b) = pair(&client, &server);
    exchange(&mut a, &mut b, usize::MAX).unwrap();
    let mut out = Vec::new();
    a.tls.close_notify(&mut out).unwrap();
    b.feed(&out).unwrap();
    assert!(b.peer_closed);
}

#[test]
fn the_second_connection_resumes_the_first_ones_session() {
    let (client, server) = configs(&pki("localhost", false));
    for expected in [false, true] {
        let (mut a, mut b) = pair(&client, &server);
        exchange(&mut a, &mut b, usize::MAX).unwrap();
        assert_eq!(a.tls.is_resumed(), expected);
    }
}

#[test]
fn a_certificate_that_does_not_verify_is_told_apart_and_the_server_is_told() {
    let good = pki("localhost", false);
    let cases = [
        (pki("localhost", true), None, "expired"),
        (pki("other.example", false), None, "another name"),
        (pki("localhost", false), Some(&good), "issuer"),
    ];
    for (pki, trusted, word) in cases {
        let (_, server) = configs(&pki);
        let (client, _) = configs(trusted.unwrap_or(&pki));
        let (mut a, mut b) = pair(&client, &server);
        let fault = exchange(&mut a, &mut b, usize::MAX).unwrap_err();
        assert!(matches!(&fault, Fault::TlsCertificate(why) if why.contains(word)), "{fault:?}");
        assert!(!a.out.is_empty(), "an alert waits to be sent");
        assert!(matches!(b.feed(&std::mem::take(&mut a.out)), Err(Fault::TlsAlert(_))));
    }
}

#[test]
fn insecure_accepts_any_certificate() {
    let (_, server) = configs(&pki("other.example", true));
    let client = client_config(&ClientSettings { insecure: true, ..ClientSettings::default() }).unwrap();
    let (mut a, mut b) = pair(&client, &server);
    exchange(&mut a, &mut b, usize::MAX).unwrap();
    assert!(a.tls.is_established());
}

#[test]
fn a_peer_that_does_not_speak_tls_is_a_fault() {
    let (client, server) = configs(&pki("localhost", false));
    let (mut a, _) = pair(&client, &server);
    assert!(matches!(a.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Err(Fault::TlsProtocol(_))));
}

#[test]
fn settings_that_cannot_be_used_name_their_option() {
    let text = |settings: ClientSettings<'_>| client_config(&settings).unwrap_err().to_string();
    assert!(text(ClientSettings { ca_pem: Some(b"x"), ..Default::default() }).contains("--ca"));
    assert!(
        text(ClientSettings { cert_pem: Some(b"x"), insecure: true, ..Default::default() }).contains("--key")
    );
    assert!(text(ClientSettings { roots: RootCertStore::empty(), ..Default::default() }).contains("--ca"));
}
