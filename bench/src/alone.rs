//! A worker run by itself, without a daemon around it: one group of echoing websockets, web terminals,
//! or SSH sessions.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use scale_proto::coder::{Echo, Form, Route};
use scale_proto::ssh::keys::HostKeys;
use scale_proto::ssh::{Algorithms, ClientConfig, Login, Program, Purpose, RekeyLimit};
use scale_proto::ws::Opcode;
use scale_ring::Time;
use scaled::load::{
    Endpoint, Group, MessageSize, Payload, Protocol, Reconnect, Ssh, SshEndpoint, Stage, Terminal,
    TickOffset, Traffic, Ways,
};
use scaled::worker::Share;
use scaled::worker::ports::PortTable;

/// What its streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Plain websockets.
    Ws,
    /// Web terminals.
    Terminal,
    /// SSH sessions, one a connection.
    Ssh,
}

/// What it does.
#[derive(Debug, Clone, Copy)]
pub struct Alone {
    /// Where the sink is.
    pub address: SocketAddr,
    /// When it begins.
    pub start_at: Time,
    /// Streams.
    pub streams: u32,
    /// Bytes of a message.
    pub bytes: u32,
    /// What the streams are.
    pub kind: Kind,
    /// Time between two messages of a stream.
    pub tick_ns: u64,
    /// Time in which the streams are opened, and after it time that does not count.
    pub opening_ns: u64,
    /// Time that counts.
    pub steady_ns: u64,
}

impl Alone {
    /// The only worker's share of it.
    pub fn share(self) -> Share {
        Share {
            worker: 0,
            workers: 1,
            start_at: self.start_at,
            seed: 1,
            groups: Arc::new([self.group()]),
            endpoints: Arc::new([Endpoint {
                protocol: if self.kind == Kind::Ssh { Protocol::Ssh } else { Protocol::Ws },
                target: 0,
                addresses: 0,
                tls: None,
                ssh: (self.kind == Kind::Ssh).then(|| Arc::new(self.session())),
                host: "sink".into(),
                path: "/".into(),
                headers: "".into(),
            }]),
            addresses: Arc::new([vec![self.address]]),
            ports: Arc::new(PortTable::new(&[], HashMap::new())),
            gates: Default::default(),
            streams_max: self.streams as usize,
            stream_by_stream: false,
        }
    }

    fn session(self) -> SshEndpoint {
        SshEndpoint {
            host: "sink".into(),
            port: self.address.port(),
            login: Arc::new(Login { user: "load".to_owned(), credentials: Vec::new() }),
            purpose: Arc::new(Purpose::Session {
                environment: Vec::new(),
                pty: None,
                program: Program::Exec("cat".to_owned()),
            }),
        }
    }

    fn group(self) -> Group {
        const SECOND_NS: u64 = 1_000_000_000;
        Group {
            name: "alone".into(),
            targets: vec!["sink".into()],
            pattern: [0].into(),
            first_stream: 0,
            traffic: Traffic::Echo,
            tick_offset: TickOffset::Spread,
            start_ns: 0,
            conns: self.streams,
            ramp_ns: self.opening_ns,
            connect_rate_milli: 1_000_000,
            concurrency: None,
            warm_up_ns: self.opening_ns,
            stages: vec![Stage {
                conns: self.streams,
                tick_ns: self.tick_ns,
                bytes_per_second: None,
                message: MessageSize::fixed(self.bytes),
                over_ns: 0,
                hold_ns: Some(self.steady_ns),
            }],
            drain_ns: SECOND_NS,
            connect_timeout_ns: SECOND_NS,
            reconnect: Reconnect::Never,
            churn_milli: 0,
            breaker_milli: None,
            silence_ns: None,
            verify: false,
            opcode: Opcode::Binary,
            subprotocol: None,
            replica_header: None,
            first_message: None,
            payload: if self.kind == Kind::Terminal {
                Payload::typed(1, Form::Line, Route::Terminal, Echo::Cooked)
            } else {
                Payload::random(1)
            },
            terminal: (self.kind == Kind::Terminal).then_some(Terminal {
                echo: Echo::Cooked,
                comment: false,
                fast_close: false,
            }),
            ssh: (self.kind == Kind::Ssh).then(|| Ssh {
                config: Arc::new(ClientConfig {
                    algorithms: Algorithms::default(),
                    host_keys: HostKeys::Any,
                    rekey: RekeyLimit::default(),
                    window_bytes: Ssh::WINDOW_BYTES,
                    unix_s: 0,
                }),
                channels_per_connection: 1,
                hang_up: false,
                rekey_ns: Ssh::REKEY_NS,
            }),
            late_tick: false,
            ways: Ways::through(&[]),
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
        }
    }
}
