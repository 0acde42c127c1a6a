//! A connection's beginning.

use std::cmp::Reverse;
use std::collections::VecDeque;

use scale_proto::tls::Tls;
use scale_ring::{Ring, Socket, Time, Token};

use super::connection::Connection;
use super::record::Seen;
use super::ssh::Peer;
use super::{ACCEPT, Protocol, RECEIVE, Sink, TIMER_CLOSE, TIMER_PING, TIMER_SEND, Traffic};

impl<R: Ring> Sink<R> {
    pub(super) fn accept_again(&mut self) {
        if let Some(listener) = self.listener {
            self.ring.accept(listener, Token::new(ACCEPT, 0, 0));
        }
    }

    pub(super) fn accepted(&mut self, socket: Socket, now: Time) {
        self.generation = (self.generation + 1) & Token::GENERATION_MASK;
        self.accepted += 1;
        let tls =
            self.settings.tls.clone().map(|config| Box::new(Tls::server(config).expect("checked at start")));
        let ssh = self.settings.ssh.clone().filter(|_| !self.settings.stall);
        let ssh = ssh.map(|config| Box::new(Peer::new(config, &mut self.scratch.ssh)));
        let upgrades = matches!(self.settings.protocol, Protocol::Ws | Protocol::Wss);
        let connection = Box::new(Connection {
            socket,
            generation: self.generation,
            number: self.accepted,
            messages: 0,
            tls,
            carry: Vec::new(),
            head: upgrades.then(Vec::new),
            session: None,
            message: Vec::new(),
            typing: None,
            ssh,
            out: Vec::new(),
            sealed: Vec::new(),
            delayed: VecDeque::new(),
            armed: Time::NEVER,
            stamps: VecDeque::new(),
            handed: 0,
            sending: false,
            receiving: true,
            closing: false,
            ended_by_peer: false,
            ended: false,
            next_send: Time::NEVER,
            seen: Seen::default(),
        });
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            (self.connections.len() - 1) as u32
        });
        self.connections[index as usize] = Some(connection);
        self.ring.receive(socket, Token::new(RECEIVE, self.generation, index));
        match self.settings.protocol {
            Protocol::Tcp => {
                self.counts.connections += 1;
                if let (Some(record), Some(connection)) =
                    (&mut self.record, &mut self.connections[index as usize])
                {
                    record.opened(connection, None, now);
                }
                self.opened(index, now);
            }
            Protocol::Ssh => self.go_on(index, now),
            Protocol::Ws | Protocol::Wss => {}
        }
        if let Some(after) = self.settings.close_after_ns {
            self.timers.push(Reverse((now.plus_ns(after), index, self.generation, TIMER_CLOSE)));
        }
    }

    pub(super) fn opened(&mut self, index: u32, now: Time) {
        if matches!(self.settings.traffic, Traffic::Receive { .. }) {
            let connection = self.connections[index as usize].as_mut().expect("a live connection");
            connection.next_send = now;
            self.timers.push(Reverse((now, index, connection.generation, TIMER_SEND)));
        }
        if let Some(every) = self.settings.ping_ns {
            let generation = self.connections[index as usize].as_ref().expect("a live connection").generation;
            self.timers.push(Reverse((now.plus_ns(every), index, generation, TIMER_PING)));
        }
    }
}
