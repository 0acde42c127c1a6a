//! `scale-sink`: a counterpart for trying and calibrating `scaled`, faster than it is.
//!
//! Prints `listening on ADDR:PORT` on stderr when it is ready and, within 5 s of SIGTERM, one
//! JSON object of its counts on stdout.
#![expect(clippy::print_stdout, reason = "its counts are its result")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use clap::{Parser, ValueEnum};
use scale_api::units::{Rate, Span};
use scale_bench::coder;
use scale_bench::sink::limit::{Limit, Limits, Struck};
use scale_bench::sink::{Counts, Protocol, Sessions, Settings, Sink, Traffic, ssh};
use scale_ring::{Features, Kernel, KernelConfig, Ring, SocketOptions, host};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A server that takes what the generator offers.
#[derive(Debug, Parser)]
#[command(name = "scale-sink", version)]
struct Arguments {
    /// Where to listen; port 0 lets the kernel choose.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// What is spoken.
    #[arg(long)]
    protocol: ProtocolName,
    /// echo: send back; discard: count; receive: send on our own; terminal: each websocket is a web
    /// terminal, emulated, whose kernel echoes; terminal-raw: it gives back what is typed.
    #[arg(long, default_value = "echo")]
    traffic: TrafficName,
    /// With `--traffic receive`: payload a second and connection.
    #[arg(long, default_value = "40KB/s")]
    rate: Rate,
    /// With `--traffic receive`: time between two messages.
    #[arg(long, default_value = "100ms")]
    tick_interval: Span,
    /// Cores to run on, such as 0,2-3; default: the last one. A core named twice gets two rings.
    #[arg(long)]
    cores: Option<String>,
    /// Write the certificate that clients are to trust here (wss).
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,
    /// Write connection, message and receive time (CLOCK_MONOTONIC, ns) of each message here.
    #[arg(long, value_name = "FILE")]
    times: Option<PathBuf>,
    /// Answer each message this much later.
    #[arg(long, default_value = "0ms")]
    delay: Span,
    /// Close each connection in order after this; ssh: by DISCONNECT.
    #[arg(long)]
    close_after: Option<Span>,
    /// Ping each open websocket so often
    #[arg(long, value_name = "D")]
    ping: Option<Span>,
    /// Accept and upgrade, and never answer; ssh: say nothing at all.
    #[arg(long)]
    stall: bool,
    /// On SIGTERM close what is open in order, websockets with 1001, and wait so long for it to be over.
    #[arg(long, value_name = "D")]
    drain: Option<Span>,
    /// Name this version in the answer to an upgrade, as Coder does (X-Coder-Build-Version).
    #[arg(long, value_name = "VERSION")]
    server_version: Option<String>,
    /// Header of the answer to an upgrade; may be given again.
    #[arg(long, value_name = "NAME: VALUE")]
    response_header: Vec<String>,
    /// Append what becomes of each connection here, a line of JSON a fact; what is written survives SIGKILL.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Be able to do no more than this, exactly (bench/README.md): rate=5000/s or 20MB/s, conns=500, queue=5000/s or
    /// 20MB/s, knee=500 or 5000/s, drop=500 or 5000/s. May be given again, each kind once. Websockets with echo, one core.
    #[arg(long, value_name = "KIND=VALUE[,KEY=VALUE]")]
    limit: Vec<Limit>,
    /// Run the rings with SCHED_FIFO.
    #[arg(long)]
    realtime: bool,
    /// End when stdin does: with the program at its other end, however that ends.
    #[arg(long)]
    end_with_stdin: bool,
    #[command(flatten)]
    ssh: ssh::command::Flags,
    #[command(flatten)]
    coder: coder::command::Flags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProtocolName {
    Ws,
    Wss,
    Tcp,
    Ssh,
    Coder,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TrafficName {
    Echo,
    Discard,
    Receive,
    Terminal,
    TerminalRaw,
}

impl TrafficName {
    const fn is_terminal(self) -> bool {
        matches!(self, Self::Terminal | Self::TerminalRaw)
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(counts) => {
            println!("{counts}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("scale-sink: {error}");
            ExitCode::from(2)
        }
    }
}

/// What it says at its end.
#[derive(serde::Serialize)]
struct Word {
    #[serde(flatten)]
    counts: Counts,
    /// Where there are limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Struck>,
}

/// Serves until a signal comes; what was counted, as JSON.
fn run(arguments: &Arguments) -> Result<String, Box<dyn std::error::Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    if arguments.end_with_stdin {
        let stop = stop.clone();
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            stop.store(true, Ordering::Relaxed);
        })?;
    }
    let cores = match &arguments.cores {
        Some(text) => scale_api::units::parse_cores(text)?,
        None => host::available_cores().last().map(|&core| vec![core]).unwrap_or_default(),
    };
    if let Some(flag) = arguments.ssh.given()
        && arguments.protocol != ProtocolName::Ssh
    {
        return Err(format!("{flag} goes with --protocol ssh only; leave it out").into());
    }
    if arguments.protocol == ProtocolName::Coder {
        refuse(&of_a_replica(arguments), "--protocol coder, whose replicas are its own")?;
        return run_coder(arguments, cores.first().copied(), &stop);
    }
    if let Some(flag) = arguments.coder.given() {
        return Err(format!("{flag} goes with --protocol coder only; leave it out").into());
    }
    let settings = settings(arguments)?;
    let headers = headers(arguments)?;
    check_limits(arguments, cores.len())?;
    let mut limits = Some(Limits::new(&arguments.limit)?); // of the one core, where there are any
    let (ready, all_ready) = mpsc::channel();
    let (send_counts, all_counts) = mpsc::channel();
    // The first ring chooses the port where that was left open; the others share it.
    let mut address = arguments.listen;
    let mut threads = Vec::new();
    for (number, &core) in cores.iter().enumerate() {
        let (settings, stop, ready, send_counts) =
            (settings.clone(), stop.clone(), ready.clone(), send_counts.clone());
        let times = arguments.times.as_ref().map(|path| times_file(path, number)).transpose()?;
        let record = arguments.record.as_ref().map(|path| record_file(path, number)).transpose()?;
        let limits = limits.take().unwrap_or_default();
        let more = More { limits, headers: headers.clone(), drain: arguments.drain, times, record };
        let realtime = arguments.realtime;
        threads.push(std::thread::Builder::new().name(format!("sink-{core}")).spawn(move || {
            host::pin_current_thread(core);
            if realtime {
                let _ = host::set_realtime_fifo(10);
            }
            match serve(address, settings, more, &stop, &ready) {
                Ok(counts) => drop(send_counts.send(counts)),
                Err(error) => drop(ready.send(Err(error))),
            }
        })?);
        address = all_ready.recv()??;
    }
    drop(send_counts);
    if let Some(config) = &settings.ssh {
        ssh::command::known_hosts(config, address).iter().for_each(|line| eprintln!("{line}"));
    }
    eprintln!("listening on {address}");
    let mut word = Word { counts: Counts::default(), limits: None };
    for (counts, struck) in &all_counts {
        word.counts += counts;
        word.limits = (!arguments.limit.is_empty()).then_some(struck);
    }
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(serde_json::to_string(&word)?)
}

/// The stand-in deployment, on one core.
fn run_coder(
    arguments: &Arguments,
    core: Option<usize>,
    stop: &AtomicBool,
) -> Result<String, Box<dyn std::error::Error>> {
    if arguments.realtime {
        return Err("--realtime would be passed on to every shell; leave it out with --protocol coder".into());
    }
    let seen = std::thread::scope(|scope| {
        let serving = std::thread::Builder::new().name("coder".to_owned()).spawn_scoped(scope, || {
            if let Some(core) = core {
                host::pin_current_thread(core);
            }
            arguments.coder.run(arguments.listen, stop, |address| eprintln!("listening on {address}"))
        })?;
        serving
            .join()
            .map_err(|_| "the deployment's thread has failed; see above")?
            .map_err(Box::<dyn std::error::Error>::from)
    })?;
    Ok(serde_json::to_string(&seen)?)
}

/// Each ring has a file of its own.
fn ring_file(path: &std::path::Path, number: usize, extension: &str) -> PathBuf {
    if number == 0 { path.to_owned() } else { path.with_extension(format!("{number}.{extension}")) }
}

fn record_file(path: &std::path::Path, number: usize) -> Result<File, String> {
    let path = ring_file(path, number, "jsonl");
    let file = File::options().create(true).append(true).open(&path);
    file.map_err(|error| format!("cannot write {}: {error}; choose another --record", path.display()))
}

fn times_file(path: &std::path::Path, number: usize) -> std::io::Result<Box<dyn Write + Send>> {
    let path = ring_file(path, number, "csv");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    writeln!(file, "connection,message,received_ns,sent_ns")?;
    Ok(Box::new(file))
}

fn settings(arguments: &Arguments) -> Result<Settings, Box<dyn std::error::Error>> {
    let protocol = match arguments.protocol {
        ProtocolName::Ws => Protocol::Ws,
        ProtocolName::Wss => Protocol::Wss,
        ProtocolName::Tcp => Protocol::Tcp,
        ProtocolName::Ssh => Protocol::Ssh,
        ProtocolName::Coder => unreachable!("it is served elsewhere"),
    };
    if arguments.traffic.is_terminal() {
        check_terminal(arguments, protocol)?;
    }
    if protocol == Protocol::Ssh {
        check_ssh(arguments)?;
    }
    let tick_ns = arguments.tick_interval.ns();
    let traffic = match arguments.traffic {
        TrafficName::Echo => Traffic::Echo,
        TrafficName::Discard => Traffic::Discard,
        TrafficName::Receive => {
            let bytes = u128::from(arguments.rate.0) * u128::from(tick_ns) / 1_000_000_000;
            if bytes == 0 || bytes > 16 << 20 {
                return Err(
                    "rate × tick must be 1 byte to 16 MiB a message; change --rate or --tick-interval".into(),
                );
            }
            Traffic::Receive { bytes: bytes as u32, tick_ns }
        }
        TrafficName::Terminal => Traffic::Terminal { raw: false, keeps: false },
        TrafficName::TerminalRaw => Traffic::Terminal { raw: true, keeps: false },
    };
    let tls = if protocol == Protocol::Wss {
        let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let issued = rcgen::generate_simple_self_signed(names)?;
        if let Some(path) = &arguments.ca_out {
            std::fs::write(path, issued.cert.pem())?;
        }
        let key = issued.signing_key.serialize_pem();
        Some(scale_proto::tls::server_config(issued.cert.pem().as_bytes(), key.as_bytes())?)
    } else {
        None
    };
    Ok(Settings {
        protocol,
        traffic,
        tls,
        ssh: if protocol == Protocol::Ssh { Some(Arc::new(arguments.ssh.config()?)) } else { None },
        delay_ns: arguments.delay.ns(),
        close_after_ns: arguments.close_after.map(Span::ns),
        ping_ns: arguments.ping.map(Span::ns),
        stall: arguments.stall,
        sessions: Sessions::default(),
    })
}

/// What answers to upgrades say besides.
fn headers(arguments: &Arguments) -> Result<Vec<(String, String)>, String> {
    let version =
        arguments.server_version.as_ref().map(|version| format!("X-Coder-Build-Version: {version}"));
    let header = |line: String| {
        let split =
            line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        let valid = split.filter(|(name, value)| scale_proto::http::header_is_valid(name, value));
        valid.ok_or_else(|| format!("\"{line}\" is no header; write it as 'NAME: VALUE'"))
    };
    version.into_iter().chain(arguments.response_header.iter().cloned()).map(header).collect()
}

/// What goes with a terminal.
fn check_terminal(arguments: &Arguments, protocol: Protocol) -> Result<(), String> {
    if !matches!(protocol, Protocol::Ws | Protocol::Wss) {
        return Err("a terminal is a websocket; take --protocol ws or wss".into());
    }
    let given = [("--delay", arguments.delay.ns() > 0), ("--times", arguments.times.is_some())];
    refuse(&given, "--traffic terminal")
}

/// What goes with SSH: no single message can be followed through channels and their windows.
fn check_ssh(arguments: &Arguments) -> Result<(), String> {
    let given = [("--times", arguments.times.is_some()), ("--ping", arguments.ping.is_some())];
    refuse(&given, "--protocol ssh")?;
    refuse(&of_a_replica(arguments), "--protocol ssh")
}

/// What goes with a limit: it holds over all connections, which one ring alone sees, and is about messages and their echo.
fn check_limits(arguments: &Arguments, cores: usize) -> Result<(), String> {
    if arguments.limit.is_empty() {
        return Ok(());
    }
    if !matches!(arguments.protocol, ProtocolName::Ws | ProtocolName::Wss)
        || !matches!(arguments.traffic, TrafficName::Echo)
    {
        return Err(
            "--limit is for websockets that echo; take --protocol ws or wss and --traffic echo".into()
        );
    }
    match cores {
        1 => Ok(()),
        _ => Err("--limit holds over all connections of one ring; give --cores one core".into()),
    }
}

/// What makes a sink one of several replicas.
fn of_a_replica(arguments: &Arguments) -> [(&'static str, bool); 4] {
    [
        ("--drain", arguments.drain.is_some()),
        ("--record", arguments.record.is_some()),
        ("--server-version", arguments.server_version.is_some()),
        ("--response-header", !arguments.response_header.is_empty()),
    ]
}

fn refuse(given: &[(&str, bool)], with: &str) -> Result<(), String> {
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(format!("{flag} is not for {with}; leave it out")),
        None => Ok(()),
    }
}

type Ready = mpsc::Sender<Result<SocketAddr, String>>;

/// What a ring is told besides its settings.
struct More {
    limits: Limits,
    headers: Vec<(String, String)>,
    drain: Option<Span>,
    times: Option<Box<dyn Write + Send>>,
    record: Option<File>,
}

/// One ring, on this thread, until `stop`.
fn serve(
    address: SocketAddr,
    settings: Settings,
    more: More,
    stop: &AtomicBool,
    ready: &Ready,
) -> Result<(Counts, Struck), String> {
    const TURN_NS: u64 = 50_000_000;
    const DRAIN_NS: u64 = 500_000_000;
    let config = KernelConfig {
        sockets_max: u32::try_from(host::nofile_limit()).unwrap_or(u32::MAX).min(100_000),
        receive_buffers: 2048,
        receive_buffer_bytes: 8192,
        features: Features::ALL,
    };
    let mut ring = Kernel::new(&config).map_err(|error| error.to_string())?;
    let (listener, bound) = ring
        .listen(address, &SocketOptions::default())
        .map_err(|error| format!("cannot listen on {address}: {error:?}; choose another --listen"))?;
    let now = ring.now();
    let More { limits, headers, drain, times, record } = more;
    let times = times.map(|times| times as Box<dyn Write>);
    let mut sink = Sink::new(ring, listener, settings, times).with_limits(limits);
    sink.answer_with(headers);
    if let Some(file) = record {
        sink.record(Box::new(file));
    }
    sink.turn(now);
    drop(ready.send(Ok(bound)));
    while !stop.load(Ordering::Relaxed) {
        sink.turn(host::monotonic_now().plus_ns(TURN_NS));
    }
    if drain.is_some() {
        sink.drain(host::monotonic_now());
    } else {
        sink.stop_accepting();
    }
    // What is under way is still taken, so that counts agree with the other side's.
    let until = host::monotonic_now().plus_ns(drain.map_or(DRAIN_NS, Span::ns));
    loop {
        sink.turn(until.min(host::monotonic_now().plus_ns(TURN_NS)));
        if host::monotonic_now() >= until || (drain.is_some() && sink.live_connections() == 0) {
            break;
        }
    }
    match sink.record_failed() {
        Some(error) => Err(format!("the record is not whole: {error}")),
        None => Ok((sink.counts(), sink.struck())),
    }
}
