//! The real worker and the real sink in a simulated world: thousands of runs, each from a seed.
//!
//! - [`scenario`]: a seed becomes groups, servers, faults, and commands at any time.
//! - [`drive`]: gives everybody their turns until the run is over.
//! - [`check`]: what must hold afterwards, whatever went wrong.
//! - `ssh`: what a seed makes of SSH.
//! - `closes`: servers that close in the midst of it. `breaker`: a target that refuses half. `comebacks`: who tries again while
//!   very many have to wait on.
//! - `ports`: source ports that others hold. `cuts`: servers that are killed or cut off, and who comes back; `changes`: what is told of
//!   streams one by one, and windows that are expected to be disrupted.
//!
//! `SIM_SEEDS=N` sets how many seeds run, `SIM_SEED=N` runs that one and prints what it is.

#![allow(clippy::print_stdout, reason = "a test's output")]

mod breaker;
mod changes;
mod check;
mod closes;
mod comebacks;
mod cuts;
mod drive;
mod ports;
mod scenario;
mod ssh;

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use drive::Ran;
use scenario::Scenario;

/// Seeds of a usual run of the tests.
const SEEDS: u64 = 2000;
/// Every so many seeds one runs twice, to compare traces.
const TWICE_EVERY: u64 = 20;
/// Failures shown; the rest are counted.
const FAILURES_SHOWN: usize = 5;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn run(seed: u64) -> (Scenario, Ran) {
    let scenario = Scenario::new(seed);
    let ran = drive::drive(&scenario);
    check::check(&scenario, &ran);
    (scenario, ran)
}

/// What went wrong with `seed`, if anything did.
fn outcome(seed: u64) -> Result<(Scenario, Ran), String> {
    let (scenario, first) = catch_unwind(|| run(seed)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
    })?;
    if seed.is_multiple_of(TWICE_EVERY) {
        let (_, second) = run(seed);
        if first.trace != second.trace {
            return Err(format!("two runs left traces {:x} and {:x}", first.trace, second.trace));
        }
    }
    Ok((scenario, first))
}

#[test]
fn whatever_happens_every_tick_and_byte_is_accounted_for_and_the_run_ends() {
    if let Some(seed) = number("SIM_SEED") {
        println!("{:#?}", Scenario::new(seed));
        let (_, ran) = run(seed);
        println!("seed {seed}: trace {:x}, {:#?}", ran.trace, ran.sum());
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let totals = Mutex::new(check::Coverage::default());
    // A panic's message is kept; its backtrace would hide the seeds.
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    match outcome(seed) {
                        Ok((scenario, ran)) => {
                            totals.lock().unwrap_or_else(PoisonError::into_inner).add(&scenario, &ran);
                        }
                        Err(why) => {
                            failures.lock().unwrap_or_else(PoisonError::into_inner).push((seed, why));
                        }
                    }
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort();
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{seeds} seeds: {totals:?}");
    for (seed, why) in failures.iter().take(FAILURES_SHOWN) {
        println!("seed {seed} failed: {why}");
        println!("  replay: SIM_SEED={seed} cargo test -p scale-tests --test sim -- --nocapture");
    }
    assert!(
        failures.is_empty(),
        "{} of {seeds} seeds failed: {:?}",
        failures.len(),
        failures.iter().map(|f| f.0).take(50).collect::<Vec<_>>()
    );
    if seeds >= SEEDS {
        totals.assert_everything_happened();
    }
}
