//! The floor: the least that holding these streams costs. One thread, one ring, the daemon's own
//! grid; no TLS, no websocket, no metrics, no verification, one shared payload.

#![allow(clippy::print_stdout, reason = "the figures are the output")]

use std::sync::Arc;

use clap::Parser;
use scale_bench::paced::{Arguments, Figures, QUANTUM_NS, SEND_BATCH, Schedule};
use scale_ring::{
    Completion, Errno, Features, Kernel, KernelConfig, Outcome, Ring, SendBuffer, Socket, SocketOptions,
    Time, Token,
};

const CONNECT: u8 = 0;
const RECEIVE: u8 = 1;
const SEND: u8 = 2;
/// Connects under way at once.
const CONNECTS_MAX: u32 = 512;
const COMPLETIONS_MAX: usize = 1024;
/// The first source port.
const PORT_FIRST: u32 = 2000;

struct Floor {
    ring: Kernel,
    sockets: Vec<Socket>,
    sending: Vec<bool>,
    payload: Arc<[u8]>,
    bytes: usize,
    batch: Vec<Completion>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    arguments.settle()?;
    let bytes = arguments.message_bytes();
    let mut floor = Floor {
        ring: Kernel::new(&KernelConfig {
            sockets_max: arguments.conns,
            receive_buffers: 1024,
            receive_buffer_bytes: (bytes as u32 + 64).next_power_of_two().clamp(4096, 32 << 10),
            features: Features::ALL,
        })?,
        sockets: Vec::new(),
        sending: vec![false; arguments.conns as usize],
        payload: vec![0x5A; bytes].into(),
        bytes,
        batch: Vec::with_capacity(COMPLETIONS_MAX),
    };
    floor.connect(&arguments)?;
    let mut schedule = Schedule::new(&arguments, floor.ring.now());
    let mut figures = Figures::new(&arguments, schedule.start());
    floor.run(&mut schedule, &mut figures);
    println!("{}", figures.to_json());
    Ok(())
}

impl Floor {
    fn connect(&mut self, arguments: &Arguments) -> Result<(), String> {
        let (mut under_way, mut done, mut port) = (0, 0, PORT_FIRST);
        while done < arguments.conns {
            while under_way < CONNECTS_MAX && (self.sockets.len() as u32) < arguments.conns {
                let number = self.sockets.len() as u32;
                let socket = loop {
                    let at = u16::try_from(port).map_err(|_| "no source port is left")?;
                    port += 1;
                    let bind = Some(([0, 0, 0, 0], at).into());
                    match self.ring.open(&SocketOptions { bind, ..SocketOptions::default() }) {
                        Ok(socket) => break socket,
                        Err(Errno::AddressInUse) => {}
                        Err(error) => return Err(format!("port {at}: {error:?}")),
                    }
                };
                self.ring.connect(socket, arguments.target, Token::new(CONNECT, 0, number));
                self.sockets.push(socket);
                under_way += 1;
            }
            let until = self.ring.now().plus_ns(10_000_000);
            self.ring.wait(until);
            self.ring.drain(&mut self.batch, COMPLETIONS_MAX);
            for Completion { token, outcome } in self.batch.drain(..) {
                match outcome {
                    Outcome::Connected => {
                        let socket = self.sockets[token.index() as usize];
                        self.ring.receive(socket, Token::new(RECEIVE, 0, token.index()));
                        (under_way, done) = (under_way - 1, done + 1);
                    }
                    other => return Err(format!("a connect came to {other:?}")),
                }
            }
        }
        Ok(())
    }

    fn run(&mut self, schedule: &mut Schedule, figures: &mut Figures) {
        loop {
            self.completions(figures);
            let now = self.ring.now();
            if !figures.go_on(now) {
                return;
            }
            self.send_due(schedule, figures, now);
            let before = self.ring.now();
            self.ring.wait(schedule.next_due().max(before.plus_ns(QUANTUM_NS)));
        }
    }

    fn completions(&mut self, figures: &mut Figures) {
        self.ring.drain(&mut self.batch, COMPLETIONS_MAX);
        for Completion { token, outcome } in self.batch.drain(..) {
            let index = token.index();
            match outcome {
                Outcome::Received { bytes, more } => {
                    figures.received(bytes.len());
                    self.ring.release(bytes);
                    if !more {
                        self.ring.receive(self.sockets[index as usize], token);
                    }
                }
                Outcome::Sent { buffer, sent } => {
                    assert_eq!(sent, buffer.len(), "MSG_WAITALL sends whole messages");
                    self.sending[index as usize] = false;
                }
                Outcome::Failed(Errno::NoBuffers) => {
                    self.ring.receive(self.sockets[index as usize], token);
                }
                other => panic!("the sink has gone: {other:?}"),
            }
        }
    }

    fn send_due(&mut self, schedule: &mut Schedule, figures: &mut Figures, now: Time) {
        loop {
            let stamp = self.ring.now();
            for _ in 0..SEND_BATCH {
                let Some((stream, due)) = schedule.take(now) else { return };
                let busy = std::mem::replace(&mut self.sending[stream as usize], true);
                figures.tick(due, (!busy).then_some(stamp));
                if !busy {
                    let buffer = SendBuffer::shared(self.payload.clone(), 0..self.bytes);
                    let socket = self.sockets[stream as usize];
                    self.ring.send(socket, buffer, Token::new(SEND, 0, stream));
                }
            }
            self.ring.submit();
        }
    }
}
