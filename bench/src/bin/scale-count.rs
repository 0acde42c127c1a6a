//! The real worker and the real sink over the simulated ring, for counting instructions: the
//! same run has the same instructions on any machine. `bench/instructions` counts those within
//! [`counted_turn`] and outside the simulation.

#![allow(clippy::print_stdout, reason = "the figure is the output")]

use std::sync::Arc;
use std::sync::mpsc::channel;

use scale_bench::alone::{Alone, Kind};
use scale_bench::sink::{self, Sink};
use scale_proto::ssh::keys::PrivateKey;
use scale_proto::ssh::{Algorithms, RekeyLimit, ServerConfig};
use scale_ring::sim::{Faults, SimRing, World};
use scale_ring::{Ring, SocketOptions, Time};
use scaled::worker::{Inbox, Turn, Worker};

const STREAMS: u32 = 200;
const TICK_NS: u64 = 20_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// What is counted, but for the ring's own functions.
#[inline(never)]
fn counted_turn(worker: &mut Worker<SimRing>) -> Turn {
    worker.turn()
}

fn server() -> ServerConfig {
    ServerConfig {
        algorithms: Algorithms::default(),
        host_keys: vec![Arc::new(PrivateKey::from_seed([1; 32]))],
        rekey: RekeyLimit::default(),
        window_bytes: 2 << 20,
        none: true,
        banner: None,
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [kind, bytes, seconds] = &words[..] else { panic!("scale-count ws|terminal|ssh BYTES SECONDS") };
    let kind = match kind.as_str() {
        "ws" => Kind::Ws,
        "terminal" => Kind::Terminal,
        "ssh" => Kind::Ssh,
        other => panic!("ws, terminal or ssh, not {other}"),
    };
    let bytes = bytes.parse().expect("bytes of a message");
    let seconds: u64 = seconds.parse().expect("seconds that count");
    let world = World::new(1, Faults { buffer_bytes: 8192, ..Faults::NONE });
    let address = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
    let (ring, mut sink_ring) = (world.ring(), world.ring());
    let (handle, sink_handle) = (ring.handle(), sink_ring.handle());
    let (listener, _) = sink_ring.listen(address, &SocketOptions::default()).expect("it listens");
    let settings = sink::Settings {
        protocol: if kind == Kind::Ssh { sink::Protocol::Ssh } else { sink::Protocol::Ws },
        traffic: if kind == Kind::Terminal {
            sink::Traffic::Terminal { raw: false, keeps: false }
        } else {
            sink::Traffic::Echo
        },
        tls: None,
        ssh: (kind == Kind::Ssh).then(|| Arc::new(server())),
        delay_ns: 0,
        close_after_ns: None,
        ping_ns: None,
        stall: false,
        sessions: sink::Sessions::default(),
    };
    let mut sink = Sink::new(sink_ring, listener, settings, None);
    let alone = Alone {
        address,
        start_at: world.now(),
        streams: STREAMS,
        bytes,
        kind,
        tick_ns: TICK_NS,
        opening_ns: SECOND_NS / 10,
        steady_ns: seconds * SECOND_NS,
    };
    let (out, snapshots) = channel();
    let mut worker = Worker::new(ring, alone.share(), Inbox::default(), out);
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
