//! SSH servers that no honest program is: each misbehaves in one way, at one point.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::server::serve;

const IDENTIFICATION: &[u8] = b"SSH-2.0-Wrong_1.0\r\n";
const MESSAGE_DISCONNECT: u8 = 1;
const MESSAGE_KEXINIT: u8 = 20;

/// What a server does instead of what it should.
#[derive(Debug, Clone, Copy)]
pub enum Wrong {
    /// Says nothing, and listens.
    Silent,
    /// Ends the connection before a word, as sshd does with those beyond MaxStartups.
    Drops,
    /// Says this, and ends the connection.
    DropsWith(&'static str),
    /// Says bytes that are no text.
    Garbage,
    /// Says a megabyte without an end of line.
    EndlessLine,
    /// Says a megabyte of lines before it would say what it is.
    EndlessGreeting,
    /// Identifies itself, then says nothing.
    StallsAfterBanner,
    /// Says which algorithms it has, then nothing.
    StallsInKeyExchange,
    /// Has no algorithm that anyone else has.
    NothingInCommon,
    /// Disconnects with this code right after its identification.
    Disconnects(u32),
    /// Announces a packet of 4 GiB.
    HugePacket,
    /// Announces a packet of less bytes than its padding.
    PaddingBeyond,
}

impl Wrong {
    /// A server that does it to everybody: its address.
    pub fn serve(self) -> String {
        serve(move |_, mut stream| {
            // The client may be gone at any moment: that is its right here.
            let _ = stream.write_all(&self.first_words());
            if matches!(self, Self::Drops | Self::DropsWith(_)) {
                // With bytes of the client's unread the kernel would say RST: they are read first.
                let _ = stream.shutdown(Shutdown::Write);
            }
            while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
        })
    }

    fn first_words(self) -> Vec<u8> {
        match self {
            Self::Silent | Self::Drops => Vec::new(),
            Self::DropsWith(text) => text.as_bytes().to_vec(),
            Self::Garbage => (0..=255).rev().cycle().take(2000).collect(),
            Self::EndlessLine => vec![b'x'; 1 << 20],
            Self::EndlessGreeting => b"A line of a very long greeting.\r\n".repeat((1 << 20) / 33),
            Self::StallsAfterBanner => IDENTIFICATION.to_vec(),
            Self::StallsInKeyExchange => said(&kexinit(&KNOWN)),
            Self::NothingInCommon => said(&kexinit(&["what-only-we-have"; 8])),
            Self::Disconnects(code) => said(&disconnect(code)),
            Self::HugePacket => [IDENTIFICATION, &[0xFF; 64]].concat(),
            Self::PaddingBeyond => [IDENTIFICATION, &12_u32.to_be_bytes(), &[200; 12]].concat(),
        }
    }
}

/// Lists of a KEXINIT, RFC 4253 §7.1; those of languages are empty.
const KNOWN: [&str; 8] = [
    "curve25519-sha256,kex-strict-s-v00@openssh.com",
    "ssh-ed25519",
    "aes128-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-256",
    "none",
    "none",
];

fn kexinit(lists: &[&str; 8]) -> Vec<u8> {
    let mut payload = vec![MESSAGE_KEXINIT];
    payload.extend([7; 16]); // the cookie
    lists.iter().copied().chain(["", ""]).for_each(|list| string(&mut payload, list));
    payload.extend([0; 5]); // no guess follows; reserved
    payload
}

fn disconnect(code: u32) -> Vec<u8> {
    let mut payload = vec![MESSAGE_DISCONNECT];
    payload.extend(code.to_be_bytes());
    string(&mut payload, "Too many of you.");
    string(&mut payload, "");
    payload
}

fn string(payload: &mut Vec<u8>, text: &str) {
    payload.extend((text.len() as u32).to_be_bytes());
    payload.extend(text.as_bytes());
}

/// The identification and one packet, as it is before there are keys (RFC 4253 §6).
fn said(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (5 + payload.len() + 4) % 8) % 8;
    let length = (1 + payload.len() + padding) as u32;
    [IDENTIFICATION, &length.to_be_bytes(), &[padding as u8], payload, &vec![0; padding]].concat()
}

/// What lies between a client and a server and changes what the server says.
#[derive(Debug, Clone, Copy)]
pub enum Between {
    /// One bit of the byte at this place is turned over.
    Flips(u64),
    /// Bytes from this place on come a second time after those of this length.
    Repeats(u64, usize),
    /// The connection ends (FIN) after so many bytes.
    Cuts(u64),
}

impl Between {
    /// In front of 127.0.0.1:`port`: its own address.
    pub fn serve(self, port: u16) -> String {
        serve(move |_, client| {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            let (to_server, from_client) = (&server, &client);
            std::thread::scope(|scope| {
                scope.spawn(move || pass(from_client, to_server, |_, bytes| Some(bytes.to_vec())));
                pass(&server, &client, |from, bytes| self.change(from, bytes));
                let _ = server.shutdown(Shutdown::Both);
            });
        })
    }

    /// What becomes of `bytes`, the first of which is the connection's number `from`; `None`: its end.
    fn change(self, from: u64, bytes: &[u8]) -> Option<Vec<u8>> {
        let to = from + bytes.len() as u64;
        let mut bytes = bytes.to_vec();
        match self {
            Self::Flips(place) if (from..to).contains(&place) => bytes[(place - from) as usize] ^= 1,
            Self::Repeats(place, length) if (from..to).contains(&place) => {
                let start = (place - from) as usize;
                let end = (start + length).min(bytes.len());
                let again = bytes[start..end].to_vec();
                bytes.splice(end..end, again);
            }
            Self::Cuts(place) if to > place => return None,
            _ => {}
        }
        Some(bytes)
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, mut change: impl FnMut(u64, &[u8]) -> Option<Vec<u8>>) {
    let mut place = 0;
    let mut piece = [0; 16 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut piece) {
        let Some(changed) = change(place, &piece[..bytes]) else { break };
        if to.write_all(&changed).is_err() {
            break;
        }
        place += bytes as u64;
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Counts connections on their way to 127.0.0.1:`port`: its own address, and the count.
pub fn counted(port: u16) -> (String, std::sync::Arc<AtomicU64>) {
    let count = std::sync::Arc::new(AtomicU64::new(0));
    let counter = count.clone();
    let address = serve(move |_, client| {
        counter.fetch_add(1, Ordering::Relaxed);
        let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
        let (to_server, from_client) = (&server, &client);
        std::thread::scope(|scope| {
            scope.spawn(move || pass(from_client, to_server, |_, bytes| Some(bytes.to_vec())));
            pass(&server, &client, |_, bytes| Some(bytes.to_vec()));
        });
    });
    (address, count)
}
