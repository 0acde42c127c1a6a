//! `bench/run`: every comparison of docs/measuring.md, and their table.

#![allow(clippy::print_stdout, reason = "the table is the output")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use scale_bench::compare::programs::{Programs, Result};
use scale_bench::compare::scenarios::{self, Effort};
use scale_bench::compare::table::{self, Row};
use scale_bench::compare::{requests, ssh, viewing};

/// Runs the benchmarks and prints their table.
#[derive(Parser)]
#[command(name = "bench/run")]
struct Arguments {
    /// Few and short runs: is everything in place? The figures say little
    #[arg(long)]
    quick: bool,
    /// Pairs of each comparison; default: 11, or 3 with --quick
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pairs: Option<u8>,
    /// Also write the rows as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these scenarios, by name
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// What SSH runs against: scale-sink, or sink-russh, which is by others and slower
    #[arg(long, value_name = "PROGRAM", default_value = "scale-sink")]
    ssh_sink: String,
}

type Scenario = fn(&Programs, Effort) -> Result<Vec<Row>>;

const SCENARIOS: [(&str, Scenario); 16] = [
    ("5000", |programs, effort| scenarios::plain(programs, effort, 5000, 100)),
    ("20000", |programs, effort| scenarios::plain(programs, effort, 20_000, 400)),
    // Half the rate, for hosts whose floor does not hold the whole.
    ("2500", |programs, effort| scenarios::plain(programs, effort, 2500, 100)),
    ("10000", |programs, effort| scenarios::plain(programs, effort, 10_000, 400)),
    ("realtime", scenarios::without_realtime),
    ("engines", scenarios::engines),
    ("tls", scenarios::tls),
    ("terminals", scenarios::terminals),
    ("sealing", scenarios::sealing),
    ("ssh", ssh::ssh),
    ("viewing", viewing::viewing),
    ("requests", requests::requests),
    ("stamps", scenarios::stamped),
    ("40000", scenarios::many),
    ("memory", scenarios::memory),
    ("connects", scenarios::connects),
];

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench/run: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let names: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = arguments.only.iter().find(|only| !names.contains(&only.as_str())) {
        return Err(format!("no scenario is called {unknown}; there are {}", names.join(", ")));
    }
    let (pairs, seconds) = if arguments.quick { (3, 2) } else { (11, 5) };
    let effort = Effort { pairs: arguments.pairs.map_or(pairs, usize::from), seconds };
    let programs = Programs::new(&arguments.ssh_sink)?;
    let mut rows = Vec::new();
    for (name, scenario) in SCENARIOS {
        if arguments.only.is_empty() || arguments.only.iter().any(|only| only == name) {
            eprintln!("bench/run: {name}");
            rows.extend(scenario(&programs, effort)?);
        }
    }
    println!("{}", table::print(&rows));
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&rows).map_err(|error| error.to_string())?;
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
