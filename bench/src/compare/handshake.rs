//! What a TLS client's handshake costs in rustls alone: no sockets, no other layer of ours.

use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use scale_ring::host;

/// CPU of the client's side of one full handshake, in µs: the median of `count`. The certificate
/// is as the sink's; nothing is resumed.
pub fn client_cpu_us(count: usize) -> f64 {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).expect("our own certificate");
    let mut client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    client.resumption = rustls::client::Resumption::disabled();
    let key = rustls::pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).expect("a key");
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .expect("a pair that fits");
    let (client, server) = (Arc::new(client), Arc::new(server));
    super::median((0..count).map(|_| one(&client, &server)).collect())
}

fn one(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> f64 {
    let mut server = ServerConnection::new(server.clone()).expect("settings that fit");
    let mut client_ns = 0;
    let name = "localhost".try_into().expect("a name");
    let mut from = host::thread_cpu_ns();
    let mut client = ClientConnection::new(client.clone(), name).expect("settings that fit");
    let mut wire = Vec::new();
    while client.is_handshaking() || client.wants_write() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory");
        }
        client_ns += host::thread_cpu_ns() - from;
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("memory");
            server.process_new_packets().expect("an honest client");
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory");
        }
        from = host::thread_cpu_ns();
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("memory");
            client.process_new_packets().expect("an honest server");
        }
    }
    client_ns += host::thread_cpu_ns() - from;
    client_ns as f64 / 1e3
}
