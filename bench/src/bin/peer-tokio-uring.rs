//! The floor's load on tokio-uring: a task that reads and a task that writes for each stream,
//! each write at its grid point by tokio's timer. To keep the choice of the raw ring checkable
//! (docs/decisions/raw-io-uring.md).

#![allow(clippy::print_stdout, reason = "the figures are the output")]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use scale_bench::paced::{Arguments, Figures, Schedule};
use scale_ring::{Time, host};
use scaled::load::TickOffset;
use tokio_uring::net::TcpStream;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    arguments.settle()?;
    tokio_uring::start(run(arguments))
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let mut sockets = Vec::with_capacity(arguments.conns as usize);
    for _ in 0..arguments.conns {
        let socket = TcpStream::connect(arguments.target).await?;
        socket.set_nodelay(true)?;
        sockets.push(Rc::new(socket));
    }
    let start = Schedule::new(&arguments, host::monotonic_now()).start();
    let figures = Rc::new(RefCell::new(Figures::new(&arguments, start)));
    let end = figures.borrow().end();
    let tick_ns = arguments.tick_interval.ns();
    for (number, socket) in sockets.into_iter().enumerate() {
        let offset = TickOffset::Spread.of(number as u64, tick_ns, 0);
        let bytes = arguments.message_bytes();
        tokio_uring::spawn(read(socket.clone(), bytes, figures.clone()));
        tokio_uring::spawn(write(socket, vec![0x5A; bytes], start.plus_ns(offset), tick_ns, figures.clone()));
    }
    let mut now = host::monotonic_now();
    while figures.borrow_mut().go_on(now) {
        let warm = start.plus_ns(arguments.warm_up.ns());
        sleep_until(if now < warm { warm } else { end }).await;
        now = host::monotonic_now();
    }
    println!("{}", figures.borrow().to_json());
    // Sockets with reads under way would be waited for.
    std::process::exit(0);
}

async fn sleep_until(at: Time) {
    tokio::time::sleep(Duration::from_nanos(at.ns_since(host::monotonic_now()))).await;
}

async fn read(socket: Rc<TcpStream>, bytes: usize, figures: Rc<RefCell<Figures>>) {
    let mut buffer = vec![0; bytes];
    loop {
        let (result, back) = socket.read(buffer).await;
        buffer = back;
        match result {
            Ok(bytes) if bytes > 0 => figures.borrow_mut().received(bytes),
            _ => return,
        }
    }
}

async fn write(
    socket: Rc<TcpStream>,
    mut message: Vec<u8>,
    first: Time,
    tick_ns: u64,
    figures: Rc<RefCell<Figures>>,
) {
    let mut due = first;
    loop {
        if host::monotonic_now() < due {
            sleep_until(due).await;
        }
        let stamp = host::monotonic_now();
        // What was slept through is missed, not caught up with.
        while stamp.ns_since(due) >= tick_ns {
            figures.borrow_mut().tick(due, None);
            due = due.plus_ns(tick_ns);
        }
        figures.borrow_mut().tick(due, Some(stamp));
        let (result, back) = socket.write_all(message).await;
        message = back;
        if result.is_err() {
            return;
        }
        due = due.plus_ns(tick_ns);
    }
}
