//! Exchanges that were recorded with other people's servers, the client's private key with them: the
//! whole derivation, and the first packets under the keys, byte by byte.

use super::super::cipher::{Keys, Opening, Sealing};
use super::super::exchange::{Derivation, Ephemeral, Transcript};
use super::super::negotiate::{Choice, Proposal};
use super::*;

macro_rules! recorded {
    ($($name:literal),+) => {
        [$(($name, include_str!(concat!("../../../../fixtures/ssh_exchanges/", $name)))),+]
    };
}

/// Both sides' bytes as they went.
struct Recording {
    private: Vec<u8>,
    client: Stream,
    server: Stream,
}

/// One side's bytes, and how they are read.
struct Stream {
    bytes: Vec<u8>,
    incoming: Incoming,
}

impl Stream {
    fn line(&mut self) -> String {
        let (bytes, line) = Greeting::default().read(&self.bytes, true).unwrap();
        let line = line.unwrap().to_owned();
        self.bytes.drain(..bytes);
        line
    }

    /// The next packet's payload, its padding, and the packet as it went.
    fn packet(&mut self) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let sealed = self.bytes.clone();
        let opened = self.incoming.open(&mut self.bytes).unwrap().expect("a whole packet");
        let payload = self.bytes[opened.payload.clone()].to_vec();
        let padding = usize::from(self.bytes[4]);
        let padding = self.bytes[opened.payload.end..][..padding].to_vec();
        self.bytes.drain(..opened.bytes);
        (payload, padding, sealed[..opened.bytes].to_vec())
    }
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

impl Recording {
    fn read(file: &str) -> Self {
        let field = |name: &str| {
            let mut lines = file.lines().filter_map(|line| line.split_once(' '));
            hex(lines.find(|(word, _)| *word == name).unwrap_or_else(|| panic!("{name}")).1)
        };
        let stream = |name| Stream { bytes: field(name), incoming: Incoming::new() };
        Self { private: field("private"), client: stream("client"), server: stream("server") }
    }
}

/// Seals `payload` with the padding that it had.
fn reseal(outgoing: &mut Outgoing, payload: &[u8], padding: &[u8]) -> Vec<u8> {
    let mut pieces = padding.chunks(8).map(|piece| {
        let mut word = [0; 8];
        word[..piece.len()].copy_from_slice(piece);
        u64::from_le_bytes(word)
    });
    let mut out = Vec::new();
    outgoing.append(payload, &mut || pieces.next().expect("as much padding"), &mut out).unwrap();
    out
}

fn replay(name: &str, file: &str) {
    let Recording { private, mut client, mut server } = Recording::read(file);
    let lines = [client.line(), server.line()];
    let (client_kexinit, ..) = client.packet();
    let (server_kexinit, ..) = server.packet();
    let (ours, theirs) = (Proposal::read(&client_kexinit).unwrap(), Proposal::read(&server_kexinit).unwrap());
    let choice = Choice::new(Role::Client, &ours, &theirs).unwrap();
    let (init, ..) = client.packet();
    let (reply, ..) = server.packet();
    let mut init = Reader::new(&init[1..]);
    let mut reply = Reader::new(&reply[1..]);
    let client_share = init.string().unwrap();
    let [host_key, server_share, signature] = [0; 3].map(|_| reply.string().unwrap());
    assert!(init.is_empty() && reply.is_empty());

    let (ephemeral, public) = Ephemeral::known(choice.method, &private);
    assert!(client_share.ends_with(&public), "{name}: the private key is the one that was used");
    let shared = ephemeral.finish(server_share).unwrap();
    let transcript = Transcript {
        client_identification: &lines[0],
        server_identification: &lines[1],
        client_kexinit: &client_kexinit,
        server_kexinit: &server_kexinit,
        host_key,
        client_share,
        server_share,
    };
    let hash = transcript.hash(&shared);
    assert_eq!(Reader::new(host_key).text(), Ok(choice.blob_kind()));
    let key = HostKeys::Any.judge("host", 22, host_key, 0).unwrap();
    key.verify(choice.host_key, &hash, signature).unwrap();

    let derivation = Derivation { shared: &shared, hash: &hash, session_id: &hash };
    let mut sealed_packets = 0;
    for (stream, role, letters) in
        [(&mut client, Role::Client, *b"ACE"), (&mut server, Role::Server, *b"BDF")]
    {
        assert_eq!(stream.packet().0, [message::NEWKEYS]);
        let keys = Keys::derive(letters, choice.suite(role), |letter, key| derivation.derive(letter, key));
        stream.incoming.rekey(Opening::new(choice.suite(role), &keys), choice.strict);
        let mut outgoing = Outgoing::new();
        // KEXINIT, the share and NEWKEYS came before.
        outgoing.set_used(0, 3);
        outgoing.rekey(Sealing::new(choice.suite(role), &keys), choice.strict);
        while !stream.bytes.is_empty() {
            let (payload, padding, sealed) = stream.packet();
            assert!([5, 6, 7].contains(&payload[0]), "{name}: {payload:?}");
            assert_eq!(reseal(&mut outgoing, &payload, &padding), sealed, "{name}");
            sealed_packets += 1;
        }
    }
    assert!(sealed_packets >= 3, "{name}: SERVICE_REQUEST, EXT_INFO and SERVICE_ACCEPT");
}

#[test]
fn exchanges_with_other_servers_are_as_they_were_recorded() {
    for (name, file) in recorded![
        "openssh-aes128-gcm",
        "openssh-aes256-gcm",
        "openssh-chacha20-poly1305",
        "openssh-aes128-ctr-sha256-etm",
        "openssh-aes256-ctr-sha512-etm",
        "openssh-aes128-ctr-sha256",
        "openssh-aes256-ctr-sha512",
        "openssh-ed25519-certificate",
        "openssh-rsa-certificate",
        "asyncssh-mlkem768x25519"
    ] {
        replay(name, file);
    }
}
