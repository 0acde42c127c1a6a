//! How far a plan may go before this host or its list refuses it.

use scale_api::calibration::Limit;
use scale_api::http::{RUNS, StartRequest, Started};
use scale_api::report::Exit;
use scale_api::spec::Spec;

use crate::client::{Client, Failure};

/// Where the bound of what may be planned is known this well, it is known.
const PRECISION: f64 = 1.02;

/// How much a plan may have, up to `most`, and what it is bound by. `spec` makes the run that begins with so much and may
/// grow to so much; `first` at least is to be possible.
///
/// # Errors
/// Not even the first is, or the run is wrong.
pub fn bound(
    client: &Client,
    first: u64,
    most: u64,
    spec: impl Fn(u64, u64) -> Result<Spec, Failure>,
) -> Result<(u64, Limit), Failure> {
    let plan = |most: u64| -> Result<Result<(), Limit>, Failure> {
        let request = StartRequest { spec: spec(first.min(most), most)?, dry_run: true };
        match client.send::<Started>("POST", RUNS, &request) {
            Ok(started) => Ok(started.plan.cannot.first().map_or(Ok(()), |why| Err(cannot(why)))),
            // The first step's plan has shown that the target is allowed.
            Err(failure) if failure.exit == Exit::TargetRefused && most > first => Ok(Err(Limit::Cap)),
            Err(failure) => Err(failure),
        }
    };
    let request = StartRequest { spec: spec(first, first)?, dry_run: true };
    let started: Started = client.send("POST", RUNS, &request)?;
    if !started.plan.cannot.is_empty() {
        return Err(Failure { message: started.plan.cannot.join("\n"), exit: Exit::HostCannotCarry });
    }
    let of_the_plan = |warning: &&String| !warning.starts_with("plan: ");
    started.plan.warnings.iter().filter(of_the_plan).for_each(|it| eprintln!("scalectl: warning: {it}"));
    let Err(mut why) = plan(most)? else { return Ok((most, Limit::Streams)) };
    let (mut can, mut not) = (first, most);
    while not as f64 > can as f64 * PRECISION && not > can + 1 {
        let middle = ((can as f64 * not as f64).sqrt() as u64).clamp(can + 1, not - 1);
        match plan(middle)? {
            Ok(()) => can = middle,
            Err(limit) => (not, why) = (middle, limit),
        }
    }
    Ok((can, why))
}

/// The limit that a sentence of a plan's `cannot` names, which begins with the line's name.
pub fn cannot(why: &str) -> Limit {
    match why.strip_prefix("plan: ").and_then(|rest| rest.split(':').next()) {
        Some("source ports" | "source addresses") => Limit::Ports,
        Some("memory") => Limit::Memory,
        Some("open files") => Limit::Files,
        _ => Limit::Cores,
    }
}
