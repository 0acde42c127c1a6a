//! TLS settings from what the user gave.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};

/// Servers whose sessions are kept for resumption, over all streams of a target.
const RESUMPTION_SERVERS_MAX: usize = 1024;

/// What the user gave.
#[derive(Debug, Clone)]
pub struct ClientSettings<'a> {
    /// Roots to start from: see [`native_roots`].
    pub roots: RootCertStore,
    /// Further roots.
    pub ca_pem: Option<&'a [u8]>,
    /// A client certificate chain.
    pub cert_pem: Option<&'a [u8]>,
    /// Its key.
    pub key_pem: Option<&'a [u8]>,
    /// Accept any certificate.
    pub insecure: bool,
}

impl Default for ClientSettings<'_> {
    fn default() -> Self {
        Self { roots: RootCertStore::empty(), ca_pem: None, cert_pem: None, key_pem: None, insecure: false }
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A PEM text that cannot be read.
    #[error("{what} is not readable PEM ({detail}); give a file that begins with -----BEGIN")]
    Pem {
        /// Which option's content.
        what: &'static str,
        /// What the parser says.
        detail: String,
    },
    /// No certificate in it.
    #[error("{what} has no certificate in it; give a file with -----BEGIN CERTIFICATE-----")]
    Empty {
        /// Which option's content.
        what: &'static str,
    },
    /// One without the other.
    #[error("--cert and --key go together; give both or neither")]
    Half,
    /// No roots at all.
    #[error("this host has no root certificates; install ca-certificates or give --ca FILE")]
    NoRoots,
    /// rustls refuses.
    #[error("the certificate and key cannot be used together: {0}")]
    Rustls(#[from] rustls::Error),
    /// rustls refuses the roots.
    #[error("the roots cannot be used: {0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// This host's root certificates; those that cannot be parsed are left out.
pub fn native_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// AES-128 first, as browsers and Go's clients offer it: 10 rounds a block instead of 14.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    let later = |suite: CipherSuite| {
        !matches!(
            suite,
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    };
    provider.cipher_suites.sort_by_key(|suite| later(suite.suite()));
    Arc::new(provider)
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| ConfigError::Pem { what, detail: error.to_string() })?;
    if certificates.is_empty() { Err(ConfigError::Empty { what }) } else { Ok(certificates) }
}

fn key(what: &'static str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, ConfigError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| ConfigError::Pem { what, detail: error.to_string() })
}

/// TLS 1.2 and 1.3, ALPN http/1.1, sessions resumed from one bounded store.
///
/// # Errors
/// What cannot be used, by the option that gave it.
pub fn client_config(settings: &ClientSettings<'_>) -> Result<Arc<ClientConfig>, ConfigError> {
    let mut roots = settings.roots.clone();
    if let Some(pem) = settings.ca_pem {
        for certificate in certificates("--ca", pem)? {
            roots.add(certificate)?;
        }
    }
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = if settings.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())))
    } else {
        if roots.is_empty() {
            return Err(ConfigError::NoRoots);
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
        builder.with_webpki_verifier(verifier)
    };
    let mut config = match (settings.cert_pem, settings.key_pem) {
        (Some(cert), Some(pem)) => {
            builder.with_client_auth_cert(certificates("--cert", cert)?, key("--key", pem)?)?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(ConfigError::Half),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(RESUMPTION_SERVERS_MAX);
    config.enable_secret_extraction = true; // the records are ours after the handshake
    Ok(Arc::new(config))
}

/// A server with one certificate, for the sink and for tests.
///
/// # Errors
/// What cannot be used.
pub fn server_config(cert_pem: &[u8], key_pem: &[u8]) -> Result<Arc<ServerConfig>, ConfigError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates("the certificate", cert_pem)?, key("the key", key_pem)?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// Accepts any certificate, but the peer must still hold its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
