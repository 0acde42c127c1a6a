//! Over TLS: only what the settings trust, and HTTP/2 only where it is asked for.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use scale_coder::class::Class;
use scale_coder::client::Client;
use scale_coder::config::{Config, Connections};
use scale_coder::secret::Token;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::pace;

/// A server on TLS that speaks both; its version is the protocol that it was asked in.
async fn server() -> (String, RootCertStore) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let certificate = made.cert.der().clone();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // Clients that do not trust it break off.
            let Ok(stream) = acceptor.accept(socket).await else { continue };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let (stream, service) = (TokioIo::new(stream), service_fn(answer));
            tokio::spawn(async move {
                let ended = if is_http2 {
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(stream, service)
                        .await
                } else {
                    hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await
                };
                ended.unwrap_or(());
            });
        }
    });
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    (url, roots)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = format!("{{\"version\":\"{:?}\"}}", request.version());
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    Ok(response)
}

fn client(url: &str, roots: RootCertStore, connections: Connections) -> Client {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let pace = scale_coder::config::Pace { tries_max: 2, ..pace() };
    let config = Config { pace, connections, tls: Some(Arc::new(tls)), ..Config::new(url) };
    Client::new(config, Token::new("a-b").unwrap()).unwrap()
}

#[tokio::test]
async fn http_2_is_spoken_only_where_it_is_asked_for() {
    let (url, roots) = server().await;
    for (connections, version) in [
        (Connections::PerUser, "HTTP/1.1"),
        (Connections::Pooled, "HTTP/1.1"),
        (Connections::PooledHttp2, "HTTP/2.0"),
    ] {
        let client = client(&url, roots.clone(), connections);
        assert_eq!(client.build_info().await.unwrap().version, version);
        // Another user's client has the same trust.
        let other = client.for_user(Token::new("c-d").unwrap()).unwrap();
        assert_eq!(other.build_info().await.unwrap().version, version);
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_not_spoken_to() {
    let (url, _) = server().await;
    let (_, others) = server().await;
    let error = client(&url, others, Connections::PerUser).build_info().await.unwrap_err();
    assert_eq!(error.class(), Class::Unreachable);
    assert!(error.to_string().contains("certificate"), "{error}");
}
