//! Other people's programs: started in the foreground, ready when their port answers.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Process;
use crate::host::{Folder, until};

/// A program that listens on a port of 127.0.0.1, and what it says goes into a file.
pub struct Peer {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub port: u16,
    log: PathBuf,
}

impl Peer {
    /// Starts it and waits until it takes connections on `port`.
    ///
    /// # Panics
    /// It ends before; with what it said.
    pub fn start(command: &mut Command, port: u16, folder: &Folder) -> Self {
        let log = folder.path(&format!("{port}.log"));
        let file = File::create(&log).expect("a log file");
        command.stdin(Stdio::null()).stderr(file.try_clone().expect("a second handle")).stdout(file);
        scale_ring::host::heed_interrupts(); // a server's commands inherit what is ignored here
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut peer = Self { process: Process(child), port, log };
        until("a peer's port", || {
            let connected = TcpStream::connect(("127.0.0.1", port)).is_ok();
            let ended = peer.process.0.try_wait().expect("it is ours");
            assert!(ended.is_none(), "{command:?} ended: {}", peer.said());
            connected.then_some(())
        });
        peer
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        std::fs::read(&self.log).map(|said| String::from_utf8_lossy(&said).into_owned()).unwrap_or_default()
    }
}

/// GETs `path`: the body of a 200.
///
/// # Errors
/// What came instead.
pub fn get(address: &str, path: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    // 1.0: the body ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no head")?;
    if head.split(' ').nth(1) == Some("200") { Ok(body.to_owned()) } else { Err(answer) }
}
