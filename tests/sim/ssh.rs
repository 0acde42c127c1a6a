//! What a seed makes of SSH: who logs in how, what each channel is for, and how narrow it all is.

use std::sync::Arc;

use scale_bench::sink::ssh::command::known_hosts;
use scale_proto::ssh::keys::{HostKeys, KnownHosts, PrivateKey, Secret};
use scale_proto::ssh::{
    Algorithms, ClientConfig, Credential, Login, Program, Pty, Purpose, RekeyLimit, ServerConfig,
};
use scaled::load::{Ssh, SshEndpoint, Traffic};

use crate::scenario::{Dice, MS, Weather};

/// A group's words, its row's, and its servers'.
pub struct Parts {
    pub group: Ssh,
    pub row: Arc<SshEndpoint>,
    pub server: Arc<ServerConfig>,
}

/// Whether and how a group's programs have terminals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Pipe,
    Terminal,
}

/// SSH for a group whose messages have `bytes` bytes.
pub fn parts(dice: &mut Dice, weather: Weather, (traffic, on): (Traffic, On), bytes: u32) -> Parts {
    let stormy = weather == Weather::Stormy;
    let none = dice.chance(60);
    let rekey = |dice: &mut Dice| {
        let few = u64::from(bytes) * dice.between(3, 30) + 2000;
        RekeyLimit { bytes: dice.of(&[few, RekeyLimit::default().bytes]) }
    };
    // However narrow, a message needs no more than some round trips.
    let window = |dice: &mut Dice, widest: u32| dice.of(&[widest, widest, 16 << 10, 1000]).max(bytes / 8 + 1);
    let algorithms = |dice: &mut Dice| {
        let mut algorithms = Algorithms::default();
        let cipher = dice.between(0, algorithms.ciphers.len() as u64 - 1) as usize;
        algorithms.ciphers.rotate_left(cipher);
        let mac = dice.between(0, algorithms.macs.len() as u64 - 1) as usize;
        algorithms.macs.rotate_left(mac);
        let kex = dice.between(0, algorithms.kex.len() as u64 - 1) as usize;
        algorithms.kex.rotate_left(kex);
        algorithms
    };
    let server = Arc::new(ServerConfig {
        algorithms: Algorithms::default(),
        host_keys: vec![Arc::new(PrivateKey::from_seed([1; 32]))],
        rekey: rekey(dice),
        window_bytes: window(dice, 2 << 20),
        none,
        banner: dice.chance(20).then(|| "Nothing here is real.\r\n".to_owned()),
    });
    let (host, port) = ("127.0.0.1", 80);
    let known = || {
        let lines = known_hosts(&server, ([127, 0, 0, 1], port).into()).join("\n");
        KnownHosts::parse(&lines).expect("a line for the server's key")
    };
    let host_keys = match dice.between(0, 3) {
        0 => HostKeys::Any,
        1 => HostKeys::AcceptNew(KnownHosts::default()),
        2 if stormy && dice.chance(10) => HostKeys::Known(KnownHosts::default()), // refused
        _ => HostKeys::Known(known()),
    };
    let config = ClientConfig {
        algorithms: algorithms(dice),
        host_keys,
        rekey: rekey(dice),
        window_bytes: window(dice, Ssh::WINDOW_BYTES),
        unix_s: 1_800_000_000,
    };
    let group = Ssh {
        config: Arc::new(config),
        channels_per_connection: dice.of(&[1, 1, 2, 3, 10]),
        hang_up: on == On::Pipe && dice.chance(20),
        rekey_ns: dice.of(&[Ssh::REKEY_NS, Ssh::REKEY_NS, 40 * MS, 400 * MS]),
    };
    let credentials = match dice.between(0, 2) {
        0 if none || (stormy && dice.chance(20)) => Vec::new(),
        1 => vec![Credential::Password(Secret::new(b"secret".to_vec()))],
        _ => vec![Credential::Key { key: Arc::new(PrivateKey::from_seed([2; 32])), certificate: None }],
    };
    let row = SshEndpoint {
        host: host.into(),
        port,
        login: Arc::new(Login { user: "load".to_owned(), credentials }),
        purpose: Arc::new(purpose(dice, stormy, traffic, on)),
    };
    Parts { group, row: Arc::new(row), server }
}

fn purpose(dice: &mut Dice, stormy: bool, traffic: Traffic, on: On) -> Purpose {
    let exec = |command: &str| Program::Exec(command.to_owned());
    let program = match (traffic, on) {
        _ if stormy && dice.chance(5) => exec("exit 3"),
        (_, On::Terminal) => dice.of(&[Some("dd of=/dev/null"), None]).map_or(Program::Shell, exec),
        (Traffic::Discard, _) => exec("dd of=/dev/null"),
        (Traffic::Receive, _) => exec("dd if=/dev/urandom"),
        (Traffic::Echo, _) => dice.of(&[Some("cat"), None]).map_or(Program::Shell, exec),
    };
    if on == On::Pipe && dice.chance(20) {
        return Purpose::Forward { host: "10.0.0.1".to_owned(), port: 80 };
    }
    let pty = (on == On::Terminal).then(|| Pty { term: "xterm".to_owned(), columns: 80, rows: 25 });
    let environment = if dice.chance(20) { vec![("A".to_owned(), "b".to_owned())] } else { Vec::new() };
    Purpose::Session { environment, pty, program }
}
