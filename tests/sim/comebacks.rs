//! Streams that try again while very many others have to wait on.

use scale_ring::Time;
use scale_ring::sim::{Faults, World};
use scaled::worker::changes::{Change, What};
use scaled::worker::share::Command;

use crate::breaker::{hand, plan_of, sink};

const SECOND_NS: u64 = 1_000_000_000;
/// Streams that look again a second after their launch, all within 200 ms: at eight a turn that would take 780 ms.
const HELD: u32 = 25_000;
/// Streams that lose their connection behind them, and when.
const LOST: u32 = 40;
const LOST_AT_NS: u64 = 1_250_000_000;

/// One worker with the run `text`, all of whose connections are cut at `cut_ns` after its start. `held`: its first group gets no
/// connects. `turn` hears of each turn that the worker asked for, by the time since the cut.
fn cut_once(text: &str, cut_ns: u64, held: bool, mut turn: impl FnMut(Option<u64>)) -> (Time, Vec<Change>) {
    let world = World::new(1, Faults { latency_ns: (200_000, 3_000_000), ..Faults::NONE });
    let start = world.now().plus_ns(50_000_000);
    let plan = plan_of(text, 1, 1);
    let (mut sink, sink_wakes) = sink(&world);
    let mut hand = hand(&world, &plan, (0, 1), start);
    if held {
        hand.inbox.push(Command::Connects { group: 0, target: 0, permits: Some(0) });
    }
    let cut_at = start.plus_ns(cut_ns);
    let mut next_cut = cut_at;
    while !hand.is_done {
        world.advance(hand.handle.wake_at().min(sink_wakes()).min(world.next()).min(next_cut));
        let now = world.now();
        if now >= next_cut {
            next_cut = Time::NEVER;
            hand.handle.cut();
        }
        if hand.handle.wake_at() <= now {
            turn((now >= cut_at).then(|| now.ns_since(cut_at)));
        }
        hand.turn(now);
        if sink_wakes() <= now {
            sink.turn(now.plus_ns(SECOND_NS));
        }
    }
    (cut_at, hand.changes)
}

#[test]
fn who_comes_back_at_once_does_so_while_tens_of_thousands_are_held() {
    let text = format!(
        "seed = 1\n[[group]]\nname = \"held\"\ntarget = [\"ws://127.0.0.1:80/\"]\nconns = {HELD}\nramp = \"200ms\"\n\
         warm_up = \"0s\"\nduration = \"5s\"\ntick_interval = \"60s\"\nbytes_per_tick = \"64B\"\nreconnect = \"client:vscode\"\n\
         [[group]]\nname = \"lost\"\ntarget = [\"ws://127.0.0.1:80/\"]\nconns = {LOST}\nramp = \"100ms\"\nwarm_up = \"0s\"\n\
         duration = \"5s\"\ntick_interval = \"1s\"\nbytes_per_tick = \"64B\"\nreconnect = \"client:vscode\"\n"
    );
    let (_, changes) = cut_once(&text, LOST_AT_NS, true, |_| ());
    let of = |is_one: fn(&What) -> bool| -> Vec<&Change> {
        changes.iter().filter(|change| is_one(&change.what)).collect()
    };
    let (lost, back) = (of(|what| matches!(what, What::Lost(_))), of(|what| matches!(what, What::Back(_))));
    assert_eq!((lost.len(), back.len()), (LOST as usize, LOST as usize), "all are lost, and all come back");
    let last = back.iter().map(|change| change.at).max().expect("there is one");
    // Forty take five turns, and each a few ms of the network.
    let took_ms = last.ns_since(lost[0].at) / 1_000_000;
    assert!(took_ms < 100, "the last one came back after {took_ms} ms");
}

/// Streams that all lose their connection, and come back at the ramp's rate: ten seconds of it.
const ALL: u32 = 1000;
const RATE: u32 = 100;
const ALL_LOST_AT_NS: u64 = 11 * SECOND_NS;

#[test]
fn who_is_held_by_the_ramps_rate_waits_without_being_looked_at() {
    let text = format!(
        "seed = 1\n[[group]]\nname = \"lost\"\ntarget = [\"ws://127.0.0.1:80/\"]\nconns = {ALL}\nconnect_rate = \"{RATE}/s\"\n\
         warm_up = \"0s\"\nduration = \"30s\"\ntick_interval = \"60s\"\nbytes_per_tick = \"64B\"\nreconnect = \"backoff\"\n"
    );
    let mut turns = 0;
    let storm = SECOND_NS..9 * SECOND_NS;
    let (cut_at, changes) = cut_once(&text, ALL_LOST_AT_NS, false, |since_cut| {
        turns += u32::from(since_cut.is_some_and(|since| storm.contains(&since)));
    });
    let mut back: Vec<Time> = Vec::new();
    back.extend(changes.iter().filter(|change| matches!(change.what, What::Back(_))).map(|it| it.at));
    back.sort_unstable();
    assert_eq!(back.len(), ALL as usize, "all are back");
    // The network makes two of them a few milliseconds closer than they were begun.
    let fast =
        back.windows(RATE as usize + 2).find(|some| some[RATE as usize + 1].ns_since(some[0]) < SECOND_NS);
    assert!(fast.is_none(), "more than {RATE} in a second: {fast:?}");
    let took = back[back.len() - 1].ns_since(cut_at) as f64 / 1e9;
    assert!((9.9..11.5).contains(&took), "the last was back after {took} s");
    // A turn to begin each, some to hear what comes of it, and a hundred a second in any case.
    assert!(turns < 8 * (RATE * 5 + 100), "{turns} turns in 8 s");
}
