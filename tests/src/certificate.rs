//! Certificates of an authority made for the test, and which TLS a server speaks.

use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, SupportedProtocolVersion};

/// A server's certificate and key, and who is to be trusted for it; all in PEM.
pub struct Certificate {
    /// The authority's certificate.
    pub authority: String,
    /// The server's certificate.
    pub certificate: String,
    /// The server's key.
    pub key: String,
}

impl Certificate {
    /// For `names`.
    pub fn new(names: &[&str]) -> Self {
        Self::with(names, |_| {})
    }

    /// For `names`, after `change`.
    pub fn with(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer_key = KeyPair::generate().expect("a key");
        let authority_pem = authority.self_signed(&issuer_key).expect("signed").pem();
        let issuer = Issuer::new(authority, issuer_key);
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut server = CertificateParams::new(names).expect("names");
        change(&mut server);
        let key = KeyPair::generate().expect("a key");
        let certificate = server.signed_by(&key, &issuer).expect("signed").pem();
        Self { authority: authority_pem, certificate, key: key.serialize_pem() }
    }

    /// Handshakes with 127.0.0.1:`port` as `localhost`, offering `version` alone: what was agreed on.
    ///
    /// # Errors
    /// The server refused.
    pub fn handshake(
        &self,
        port: u16,
        version: &'static SupportedProtocolVersion,
    ) -> Result<Option<ProtocolVersion>, rustls::Error> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.as_bytes()).expect("PEM");
        roots.add(authority).expect("an authority");
        let config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        while connection.is_handshaking() {
            if let Err(error) = connection.complete_io(&mut stream) {
                let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
                return Err(tls.unwrap_or_else(|| panic!("no TLS there: {error}")).clone());
            }
        }
        Ok(connection.protocol_version())
    }
}
