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

#[test]
fn who_comes_back_at_once_does_so_while_tens_of_thousands_are_held() {
    let text = format!(
        "seed = 1\n[[group]]\nname = \"held\"\ntarget = [\"ws://127.0.0.1:80/\"]\nconns = {HELD}\nramp = \"200ms\"\n\
         warm_up = \"0s\"\nduration = \"5s\"\ntick_interval = \"60s\"\nbytes_per_tick = \"64B\"\nreconnect = \"client:vscode\"\n\
         [[group]]\nname = \"lost\"\ntarget = [\"ws://127.0.0.1:80/\"]\nconns = {LOST}\nramp = \"100ms\"\nwarm_up = \"0s\"\n\
         duration = \"5s\"\ntick_interval = \"1s\"\nbytes_per_tick = \"64B\"\nreconnect = \"client:vscode\"\n"
    );
    let world = World::new(1, Faults { latency_ns: (200_000, 3_000_000), ..Faults::NONE });
    let start = world.now().plus_ns(50_000_000);
    let plan = plan_of(&text, 1, 1);
    let (mut sink, sink_wakes) = sink(&world);
    let mut hand = hand(&world, &plan, (0, 1), start);
    hand.inbox.push(Command::Connects { group: 0, target: 0, permits: Some(0) });
    let mut is_cut = false;
    while !hand.is_done {
        let cut_at = if is_cut { Time::NEVER } else { start.plus_ns(LOST_AT_NS) };
        world.advance(hand.handle.wake_at().min(sink_wakes()).min(world.next()).min(cut_at));
        if world.now() >= cut_at {
            is_cut = true;
            hand.handle.cut();
        }
        hand.turn(world.now());
        if sink_wakes() <= world.now() {
            sink.turn(world.now().plus_ns(SECOND_NS));
        }
    }
    let of = |is_one: fn(&What) -> bool| -> Vec<&Change> {
        hand.changes.iter().filter(|change| is_one(&change.what)).collect()
    };
    let (lost, back) = (of(|what| matches!(what, What::Lost(_))), of(|what| matches!(what, What::Back(_))));
    assert_eq!((lost.len(), back.len()), (LOST as usize, LOST as usize), "all are lost, and all come back");
    let last = back.iter().map(|change| change.at).max().expect("there is one");
    // Forty take five turns, and each a few ms of the network.
    let took_ms = last.ns_since(lost[0].at) / 1_000_000;
    assert!(took_ms < 100, "the last one came back after {took_ms} ms");
}
