//! TLS: garbage is a fault and nothing else; what was tampered with never comes out.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use scale_proto::Fault;
use scale_proto::tls::{ClientSettings, Tls, client_config, server_config};

use super::pieces;

fn configs() -> &'static (Arc<ClientConfig>, Arc<ServerConfig>) {
    static CONFIGS: OnceLock<(Arc<ClientConfig>, Arc<ServerConfig>)> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let (cert, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
        let settings = ClientSettings { ca_pem: Some(cert.as_bytes()), ..ClientSettings::default() };
        let server = server_config(cert.as_bytes(), key.as_bytes()).expect("its server");
        (client_config(&settings).expect("its client"), server)
    })
}

/// Plain bytes that one record holds.
const RECORD_BYTES_MAX: usize = 16 << 10;

/// What a record begins with.
const TYPE_AND_VERSION_BYTES: usize = 3;

/// One end with what its caller keeps.
struct End {
    tls: Tls,
    carry: Vec<u8>,
    out: Vec<u8>,
    plain: Vec<u8>,
}

impl End {
    fn new(tls: Result<Tls, Fault>) -> Self {
        Self { tls: tls.expect("usable settings"), carry: Vec::new(), out: Vec::new(), plain: Vec::new() }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Self { tls, carry, out, plain } = self;
        carry.extend_from_slice(bytes);
        let received = tls.receive(carry, out, &mut |bytes| {
            plain.extend_from_slice(bytes);
            Ok(())
        })?;
        assert!(received.consumed <= carry.len(), "no more is used up than came");
        carry.drain(..received.consumed);
        Ok(())
    }

    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut sealed = vec![0; Tls::sealed_bytes_max(plain.len())];
        let bytes = self.tls.seal(plain, &mut sealed).expect("an open session");
        sealed.truncate(bytes);
        sealed
    }
}

fn client() -> End {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut end = End::new(Tls::client(configs().0.clone(), name));
    end.tls.start(&mut end.out).expect("a hello");
    end
}

fn server() -> End {
    End::new(Tls::server(configs().1.clone()))
}

fn open() -> (End, End) {
    let (mut client, mut server) = (client(), server());
    while !client.out.is_empty() || !server.out.is_empty() {
        server.feed(&std::mem::take(&mut client.out)).expect("a right client");
        client.feed(&std::mem::take(&mut server.out)).expect("a right server");
    }
    assert!(client.tls.is_established() && server.tls.is_established());
    (client, server)
}

/// Any bytes instead of a handshake: refused or waited for, the same however they are cut.
///
/// # Panics
/// A session does not hold to its rules.
pub fn check_garbage(switch: u8, cuts: &[u8], bytes: &[u8]) {
    let read = |cuts: &[u8]| {
        let mut end = if switch & 1 == 0 { client() } else { server() };
        let fault = pieces(bytes, cuts).find_map(|piece| end.feed(piece).err());
        assert!(end.plain.is_empty() && !end.tls.is_established(), "garbage opens nothing");
        fault
    };
    // The words of a fault may differ where a record was seen in part; whether it is one may not.
    assert_eq!(read(&[]).is_some(), read(cuts).is_some(), "cut as {cuts:?}");
}

/// A record of which one bit is not as it was sealed, `at` places from the front, behind the
/// outer type and version: those say nothing in TLS 1.3 (RFC 8446 §5.2), and rustls ignores them.
///
/// # Panics
/// It comes out, or what came before it does not.
pub fn check_tampering(switch: u8, cuts: &[u8], at: usize, plain: &[u8]) {
    if plain.is_empty() {
        return; // nothing makes no record
    }
    let (mut client, mut server) = open();
    let (from, to) = if switch & 1 == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
    to.plain.clear();
    let mut bytes = from.seal(b"as it was");
    let whole = bytes.len();
    bytes.extend(from.seal(&plain[..plain.len().min(RECORD_BYTES_MAX)]));
    let at = whole + (at % (bytes.len() - whole)).max(TYPE_AND_VERSION_BYTES);
    bytes[at] ^= 1 << (switch >> 1 & 7);
    // Where a length grew, its record is waited for; then more must show what it is.
    bytes.extend(std::iter::repeat_n(0, 1 << 17));
    let fault = pieces(&bytes, cuts).find_map(|piece| to.feed(piece).err());
    assert!(fault.is_some(), "a changed bit is found");
    assert_eq!(to.plain, b"as it was");
}
