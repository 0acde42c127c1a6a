//! `sink-russh`: SSH by russh in the place of `scale-sink --protocol ssh`, with its arguments. Slower than
//! ours, and by others: what runs against both is wrong in neither or in both.
//!
//! Prints `listening on ADDR:PORT` on stderr when it is ready and, after SIGTERM, one JSON object of its
//! counts on stdout.
#![expect(clippy::print_stdout, reason = "its counts are its result")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use scale_api::units::Span;
use scale_bench::peers::russh_server::{HostKey, REKEY_BYTES_MAX, Served, Settings};
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
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_value = "none,password,publickey")]
    ssh_methods: Vec<String>,
    /// What is offered, best first
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    ssh_ciphers: Option<Vec<String>>,
    /// What is offered, best first
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    ssh_kex: Option<Vec<String>>,
    /// What is offered, best first
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    ssh_macs: Vec<String>,
    /// A private key by which the server is known, for each kind of key; default: a new one, ed25519
    #[arg(long, value_name = "FILE")]
    ssh_host_key: Vec<PathBuf>,
    /// Ask for new keys after so many bytes in either direction; at most 1 GiB
    #[arg(long, value_name = "N", default_value_t = REKEY_BYTES_MAX)]
    ssh_rekey_bytes: u64,
    /// Ask for new keys after this
    #[arg(long, value_name = "D", default_value = "1h")]
    ssh_rekey_after: Span,
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
    let files = arguments.ssh_host_key.into_iter().map(HostKey::File).collect::<Vec<_>>();
    let served = Served::start(&Settings {
        listen: arguments.listen,
        methods: arguments.ssh_methods,
        ciphers: arguments.ssh_ciphers.unwrap_or(defaults.ciphers),
        kex: arguments.ssh_kex.unwrap_or(defaults.kex),
        macs: arguments.ssh_macs,
        host_keys: if files.is_empty() { defaults.host_keys } else { files },
        rekey_bytes: arguments.ssh_rekey_bytes,
        rekey_after: Duration::from_nanos(arguments.ssh_rekey_after.ns()),
        core: arguments.cores.or_else(|| host::available_cores().last().copied()),
        realtime: arguments.realtime,
        ..Settings::default()
    })?;
    served.host_keys().iter().for_each(|key| eprintln!("{key}"));
    eprintln!("listening on {}", served.address());
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK_EACH);
    }
    Ok(served.counts().to_json())
}
