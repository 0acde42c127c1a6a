//! The real worker and the real sink over the simulated ring, for counting instructions: the
//! same run has the same instructions on any machine. `bench/instructions` counts those within
//! [`counted_turn`] and outside the simulation.

#![allow(clippy::print_stdout, reason = "the figure is the output")]

use std::sync::Arc;
use std::sync::mpsc::channel;

use scale_bench::sink::{self, Sink};
use scale_proto::ws::Opcode;
use scale_ring::sim::{Faults, SimRing, World};
use scale_ring::{Ring, SocketOptions, Time};
use scaled::load::{Endpoint, Group, MessageSize, Payload, Protocol, Reconnect, Stage, TickOffset, Traffic};
use scaled::worker::{Inbox, Share, Turn, Worker};

const STREAMS: u32 = 200;
const BYTES: u32 = 4096;
const TICK_NS: u64 = 20_000_000;
const SECOND_NS: u64 = 1_000_000_000;

fn group(seconds: u64) -> Group {
    let message = MessageSize::fixed(BYTES);
    Group {
        name: "count".into(),
        targets: vec!["sink".into()],
        pattern: [0].into(),
        first_stream: 0,
        traffic: Traffic::Echo,
        tick_offset: TickOffset::Spread,
        start_ns: 0,
        conns: STREAMS,
        ramp_ns: SECOND_NS / 10,
        connect_rate_milli: 1_000_000,
        concurrency: None,
        warm_up_ns: SECOND_NS / 10,
        stages: vec![Stage {
            conns: STREAMS,
            tick_ns: TICK_NS,
            bytes_per_second: None,
            message,
            over_ns: 0,
            hold_ns: Some(seconds * SECOND_NS),
        }],
        drain_ns: SECOND_NS,
        connect_timeout_ns: SECOND_NS,
        reconnect: Reconnect::Never,
        churn_milli: 0,
        verify: false,
        opcode: Opcode::Binary,
        subprotocol: None,
        first_message: None,
        payload: Payload::random(1),
        sources: [].into(),
        send_buffer_bytes: None,
        receive_buffer_bytes: None,
    }
}

/// What is counted, but for the ring's own functions.
#[inline(never)]
fn counted_turn(worker: &mut Worker<SimRing>) -> Turn {
    worker.turn()
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    let world = World::new(1, Faults { buffer_bytes: 8192, ..Faults::NONE });
    let address = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
    let (ring, mut sink_ring) = (world.ring(), world.ring());
    let (handle, sink_handle) = (ring.handle(), sink_ring.handle());
    let (listener, _) = sink_ring.listen(address, &SocketOptions::default()).expect("it listens");
    let settings = sink::Settings {
        protocol: sink::Protocol::Ws,
        traffic: sink::Traffic::Echo,
        tls: None,
        delay_ns: 0,
        close_after_ns: None,
        ping_ns: None,
        stall: false,
    };
    let mut sink = Sink::new(sink_ring, listener, settings, None);
    let share = Share {
        worker: 0,
        workers: 1,
        start_at: world.now(),
        seed: 1,
        groups: Arc::new([group(seconds)]),
        endpoints: Arc::new([Endpoint {
            protocol: Protocol::Ws,
            target: 0,
            addresses: 0,
            tls: None,
            host: "sink".into(),
            path: "/".into(),
            headers: "".into(),
        }]),
        addresses: Arc::new([vec![address]]),
        ports: (2000, 60_000),
        ports_reserved: [].into(),
        streams_max: STREAMS as usize,
    };
    let (out, snapshots) = channel();
    let mut worker = Worker::new(ring, share, Inbox::default(), out);
    loop {
        let wakes = [handle.wake_at(), sink_handle.wake_at()];
        world.advance(wakes.into_iter().fold(world.next(), Time::min));
        if wakes[0] <= world.now() && counted_turn(&mut worker) == Turn::Finished {
            break;
        }
        if wakes[1] <= world.now() {
            sink.turn(world.now().plus_ns(SECOND_NS));
        }
    }
    let last = snapshots.try_iter().last().expect("a worker hands over at its end");
    println!("{}", last.cells.iter().map(|cell| cell.counters.messages_echoed).sum::<u64>());
}
