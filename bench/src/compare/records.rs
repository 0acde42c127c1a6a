//! What a message costs in TLS records alone: sealed and its echo opened, in many sessions in turn
//! (so that keys are as far away as in a run), without a kernel between.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, ServerConfig};
use scale_proto::tls::{self, ClientSettings, Tls};
use scale_proto::ws;
use scale_ring::host;

/// Microseconds of CPU a message, medians over rounds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Masked only, as a plain websocket.
    pub plain: f64,
    /// Masked and sealed by rustls' unbuffered API, and its echo opened.
    pub rustls: f64,
    /// As `scaled` does it.
    pub ours: f64,
}

const MASK: [u8; 4] = [1, 2, 3, 4];

fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
    let settings = ClientSettings { ca_pem: Some(cert.as_bytes()), ..ClientSettings::default() };
    let server = tls::server_config(cert.as_bytes(), key.as_bytes()).expect("its server");
    (tls::client_config(&settings).expect("its client"), server)
}

/// A session that is open, and the server's side of it.
struct Session<T> {
    client: T,
    server: Tls,
}

fn name() -> rustls::pki_types::ServerName<'static> {
    "localhost".try_into().expect("a name")
}

/// Runs a handshake; `receive` is the client's side: input in, output out, bytes used up.
fn open<T>(
    mut client: T,
    server: &Arc<ServerConfig>,
    receive: impl Fn(&mut T, &mut [u8], &mut Vec<u8>) -> usize,
) -> Session<T> {
    let mut server = Tls::server(server.clone()).expect("settings that fit");
    let (mut up, mut down) = (Vec::new(), Vec::new());
    receive(&mut client, &mut [], &mut up);
    while !up.is_empty() || !down.is_empty() {
        let used = server.receive(&mut up, &mut down, &mut |_| Ok(())).expect("an honest client").consumed;
        up.drain(..used);
        let used = receive(&mut client, &mut down, &mut up);
        down.drain(..used);
    }
    assert!(server.is_established());
    Session { client, server }
}

/// One round over all sessions: CPU of the client's side a message, in µs.
fn round<T>(
    sessions: &mut [Session<T>],
    payload: &[u8],
    mut seal: impl FnMut(&mut T, &[u8], &mut [u8]) -> usize,
    mut open: impl FnMut(&mut T, &mut [u8]) -> usize,
) -> f64 {
    // As many as a worker has between two waits, so that buffers stay warm and sessions do not.
    const BATCH: usize = 32;
    let room = Tls::sealed_bytes_max(payload.len() + ws::HEADER_BYTES_MAX);
    let mut wires = vec![(vec![0; room], 0); BATCH];
    let mut spent = 0;
    for batch in sessions.chunks_mut(BATCH) {
        let from = host::thread_cpu_ns();
        for (session, (wire, sealed)) in batch.iter_mut().zip(&mut wires) {
            *sealed = seal(&mut session.client, payload, wire);
        }
        spent += host::thread_cpu_ns() - from;
        for (session, (wire, sealed)) in batch.iter_mut().zip(&mut wires) {
            let mut plain = Vec::new();
            let received = session.server.receive(&mut wire[..*sealed], &mut Vec::new(), &mut |piece| {
                plain.extend_from_slice(piece);
                Ok(())
            });
            assert_eq!(received.expect("an honest client").consumed, *sealed);
            *sealed = session.server.seal(&plain, wire).expect("an open session");
        }
        let from = host::thread_cpu_ns();
        for (session, (wire, sealed)) in batch.iter_mut().zip(&mut wires) {
            let got = open(&mut session.client, &mut wire[..*sealed]);
            assert!(got >= payload.len(), "the echo came whole");
        }
        spent += host::thread_cpu_ns() - from;
    }
    spent as f64 / 1e3 / sessions.len() as f64
}

/// A masked frame into `out`; its bytes.
fn frame(payload: &[u8], out: &mut [u8]) -> usize {
    let header = ws::write_header(out, ws::Opcode::Binary, true, payload.len() as u64, Some(MASK));
    ws::mask_into(&mut out[header..header + payload.len()], payload, MASK);
    header + payload.len()
}

fn rustls_receive(client: &mut UnbufferedClientConnection, input: &mut [u8], out: &mut Vec<u8>) -> usize {
    let mut used = 0;
    loop {
        let UnbufferedStatus { discard, state, .. } = client.process_tls_records(&mut input[used..]);
        match state.expect("an honest server") {
            ConnectionState::EncodeTlsData(mut data) => {
                let from = out.len();
                out.resize(from + (16 << 10), 0);
                let bytes = data.encode(&mut out[from..]).expect("room");
                out.truncate(from + bytes);
            }
            ConnectionState::TransmitTlsData(transmit) => transmit.done(),
            _ => return used + discard,
        }
        used += discard;
    }
}

fn rustls_open(client: &mut UnbufferedClientConnection, input: &mut [u8]) -> usize {
    let mut bytes = 0;
    let UnbufferedStatus { state, .. } = client.process_tls_records(input);
    if let Ok(ConnectionState::ReadTraffic(mut traffic)) = state {
        while let Some(record) = traffic.next_record() {
            bytes += std::hint::black_box(record.expect("an honest server").payload).len();
        }
    }
    bytes
}

/// Measures `sessions` sessions with messages of `bytes`, `rounds` times each, in turns.
pub fn cost(sessions: usize, bytes: usize, rounds: usize) -> Cost {
    let (client, server) = configs();
    let payload: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
    let mut ours: Vec<_> = (0..sessions)
        .map(|_| {
            let tls = Tls::client(client.clone(), name()).expect("settings that fit");
            open(tls, &server, |tls, input, out| {
                tls.receive(input, out, &mut |_| Ok(())).expect("an honest server").consumed
            })
        })
        .collect();
    let mut theirs: Vec<_> = (0..sessions)
        .map(|_| {
            let tls = UnbufferedClientConnection::new(client.clone(), name()).expect("settings that fit");
            open(tls, &server, rustls_receive)
        })
        .collect();
    let mut scratch = vec![0; bytes + ws::HEADER_BYTES_MAX];
    let (mut plain, mut by_rustls, mut by_us) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        by_us.push(round(
            &mut ours,
            &payload,
            |tls, payload, out| {
                let mut header = [0; ws::HEADER_BYTES_MAX];
                let len =
                    ws::write_header(&mut header, ws::Opcode::Binary, true, payload.len() as u64, Some(MASK));
                tls.seal_with(out, len + payload.len(), |to| {
                    to[..len].copy_from_slice(&header[..len]);
                    ws::mask_into(&mut to[len..], payload, MASK);
                })
                .expect("an open session")
            },
            |tls, input| {
                let mut bytes = 0;
                let received = tls.receive(input, &mut Vec::new(), &mut |piece| {
                    bytes += std::hint::black_box(piece).len();
                    Ok(())
                });
                received.expect("an honest server");
                bytes
            },
        ));
        by_rustls.push(round(
            &mut theirs,
            &payload,
            |tls, payload, out| {
                let bytes = frame(payload, &mut scratch);
                match tls.process_tls_records(&mut []).state {
                    Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                        traffic.encrypt(&scratch[..bytes], out).expect("room")
                    }
                    _ => panic!("an open session"),
                }
            },
            rustls_open,
        ));
        let from = host::thread_cpu_ns();
        for _ in 0..sessions {
            std::hint::black_box(frame(std::hint::black_box(&payload), &mut scratch));
        }
        plain.push((host::thread_cpu_ns() - from) as f64 / 1e3 / sessions as f64);
    }
    Cost { plain: super::median(plain), rustls: super::median(by_rustls), ours: super::median(by_us) }
}
