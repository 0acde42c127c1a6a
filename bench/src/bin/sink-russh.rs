//! `sink-russh`: SSH by russh in the place of `scale-sink --protocol ssh`, with its arguments. Slower than
//! ours, and by others: what runs against both is wrong in neither or in both.
//!
//! Prints `listening on ADDR:PORT` on stderr when it is ready and, after SIGTERM, one JSON object of its
//! counts on stdout.
#![expect(clippy::print_stdout, reason = "its counts are its result")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use scale_api::units::{Bytes, Span};
use scale_bench::peers::russh_server::{REKEY_BYTES_MAX, Served, Settings};
use scale_ring::host;

/// An SSH server by russh that gives back what it is sent.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Only this: russh is no other
    #[arg(long, default_value = "ssh", value_parser = ["ssh"])]
    protocol: String,
    /// Only this: a command with of=/dev/null discards
    #[arg(long, default_value = "echo", value_parser = ["echo"])]
    traffic: String,
    /// The core to run on; default: the last one
    #[arg(long, value_name = "CORE")]
    cores: Option<usize>,
    /// SCHED_FIFO
    #[arg(long)]
    realtime: bool,
    /// Methods of authentication; whoever asks for one is let in
    #[arg(long, value_delimiter = ',', default_value = "none,password,publickey")]
    methods: Vec<String>,
    /// Ciphers in order of preference
    #[arg(long, value_delimiter = ',')]
    ciphers: Option<Vec<String>>,
    /// Key exchanges in order of preference
    #[arg(long, value_delimiter = ',')]
    kex: Option<Vec<String>>,
    /// MACs in order of preference
    #[arg(long, value_delimiter = ',')]
    macs: Vec<String>,
    /// Kinds of host key: ssh-ed25519, ecdsa-sha2-nistp256
    #[arg(long, value_delimiter = ',', default_value = "ssh-ed25519")]
    host_keys: Vec<String>,
    /// Ask for new keys after so many bytes in one direction; at most 1 GiB
    #[arg(long)]
    rekey_bytes: Option<Bytes>,
    /// Ask for new keys after this
    #[arg(long, default_value = "1h")]
    rekey_after: Span,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(counts) => {
            println!("{counts}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("sink-russh: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    const LOOK_EACH: Duration = Duration::from_millis(50);
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    host::nofile_limit();
    let defaults = Settings::default();
    let served = Served::start(&Settings {
        listen: arguments.listen,
        methods: arguments.methods,
        ciphers: arguments.ciphers.unwrap_or(defaults.ciphers),
        kex: arguments.kex.unwrap_or(defaults.kex),
        macs: arguments.macs,
        host_keys: arguments.host_keys,
        rekey_bytes: arguments.rekey_bytes.map_or(REKEY_BYTES_MAX, |bytes| bytes.0),
        rekey_after: Duration::from_nanos(arguments.rekey_after.ns()),
        core: arguments.cores.or_else(|| host::available_cores().last().copied()),
        realtime: arguments.realtime,
        ..defaults
    })?;
    eprintln!("listening on {}", served.address());
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK_EACH);
    }
    Ok(served.counts().to_json())
}
