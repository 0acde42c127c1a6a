//! The floor's load on epoll: edge-triggered, non-blocking sockets, one system call a read and a
//! write. To keep the choice of io_uring checkable (docs/decisions/raw-io-uring.md).

#![allow(clippy::print_stdout, reason = "the figures are the output")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use clap::Parser;
use rustix::event::{Timespec, epoll};
use scale_bench::paced::{Arguments, Figures, QUANTUM_NS, SEND_BATCH, Schedule};
use scale_ring::{Time, host};

const EVENTS_MAX: usize = 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    arguments.settle()?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut sockets = Vec::with_capacity(arguments.conns as usize);
    for number in 0..arguments.conns {
        let socket = TcpStream::connect(arguments.target)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(u64::from(number));
        epoll::add(&epoll, &socket, data, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        sockets.push(socket);
    }
    let payload = vec![0x5A; arguments.message_bytes()];
    let mut buffer = vec![0; arguments.message_bytes().max(4096)];
    let mut events = Vec::with_capacity(EVENTS_MAX);
    let mut schedule = Schedule::new(&arguments, host::monotonic_now());
    let mut figures = Figures::new(&arguments, schedule.start());
    loop {
        let now = host::monotonic_now();
        if !figures.go_on(now) {
            break;
        }
        send_due(&mut schedule, &mut figures, &mut sockets, &payload, now)?;
        let before = host::monotonic_now();
        let wait_ns = schedule.next_due().max(before.plus_ns(QUANTUM_NS)).ns_since(before);
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait_ns.min(999_999_999) as _ };
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout))?;
        for event in &events {
            let socket = &mut sockets[event.data.u64() as usize];
            loop {
                match socket.read(&mut buffer) {
                    Ok(0) => return Err("the sink has gone".into()),
                    Ok(bytes) => figures.received(bytes),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    println!("{}", figures.to_json());
    Ok(())
}

fn send_due(
    schedule: &mut Schedule,
    figures: &mut Figures,
    sockets: &mut [TcpStream],
    payload: &[u8],
    now: Time,
) -> std::io::Result<()> {
    loop {
        let stamp = host::monotonic_now();
        for _ in 0..SEND_BATCH {
            let Some((stream, due)) = schedule.take(now) else { return Ok(()) };
            // A message is far smaller than the socket's buffer: it goes whole, or it is missed.
            let sent = match sockets[stream as usize].write(payload) {
                Ok(bytes) => bytes == payload.len(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                Err(error) => return Err(error),
            };
            figures.tick(due, sent.then_some(stamp));
        }
    }
}
