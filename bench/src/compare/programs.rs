//! Our programs as processes: one sink and one generator at a time, each on cores of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use scale_api::report::Report;

use super::stamps::{self, Apart};

/// Any failure ends the benchmark: a table with holes would be read as one without.
pub type Result<T> = std::result::Result<T, String>;

/// What is compared.
#[derive(Debug, Clone)]
pub struct Load {
    /// `tcp`, `ws`, `wss` or `ssh`.
    pub protocol: &'static str,
    /// Streams.
    pub streams: u32,
    /// Time between two messages of a stream, in ms.
    pub tick_ms: u32,
    /// Bytes of a message.
    pub bytes: u32,
    /// Workers and sink threads; more than one share all cores.
    pub threads: usize,
    /// SCHED_FIFO for the generator.
    pub realtime: bool,
    /// Seconds that count.
    pub seconds: u32,
    /// Streams are web terminals: what is sent is typed into them. Not for the floor.
    pub terminal: bool,
}

impl Load {
    /// The run of it against a sink at `address`, as a run file has it.
    fn run_file(&self, address: &str, ca: &Path) -> String {
        let Self { protocol, streams, tick_ms, bytes, seconds, .. } = self;
        let trust = match *protocol {
            "wss" => format!("ca = {:?}\n", ca.display().to_string()),
            "ssh" => "insecure_host_keys = true\n".to_owned(),
            _ => String::new(),
        };
        // A key exchange takes both sides 0.2 to 0.3 ms.
        let (user, connects) = if *protocol == "ssh" { ("load@", 1000) } else { ("", 10_000) };
        // Behind the slash of an SSH target stands a command.
        let path = if *protocol == "ssh" { "" } else { "/" };
        let typed = if self.terminal { "[group.typed]\n" } else { "" };
        format!(
            r#"
[[group]]
name = "main"
target = ["{protocol}://{user}{address}{path}"]
conns = {streams}
connect_rate = "{connects}/s"
bytes_per_tick = "{bytes}B"
tick_interval = "{tick_ms}ms"
warm_up = "1s"
duration = "{seconds}s"
{trust}{typed}"#
        )
    }
}

/// One run's figures.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Process CPU of the generator in steady state by messages sent.
    pub cpu_us_per_message: f64,
    /// Of it, in user space; by the kernel's ticks. Of peers only: see [`super::ssh`].
    pub cpu_user_us_per_message: f64,
    /// Seconds.
    pub lateness_p50: f64,
    /// Seconds.
    pub lateness_p99: f64,
    /// Sent by due.
    pub delivered_ratio: f64,
    /// Resident memory at its most.
    pub rss_peak: f64,
    /// Of SSH peers: CPU from connect to command, a session, in us.
    pub handshake_cpu_us: f64,
    /// Of SSH peers: what the sessions added to resident memory, by each.
    pub rss_per_stream: f64,
    /// CPU of the sink by the generator's, both of the whole run: opening and closing, too.
    pub sink_by_generator: f64,
    /// The whole report, where there is one.
    pub report: Option<Box<Report>>,
}

impl Sample {
    /// What a report says.
    pub fn of(report: Report) -> Self {
        let lateness = report.latency.lateness.clone().unwrap_or_default();
        Self {
            cpu_us_per_message: report.generator.cpu_us_per_message.unwrap_or(0.0),
            lateness_p50: lateness.p50,
            lateness_p99: lateness.p99,
            delivered_ratio: report.load.delivered_ratio.unwrap_or(0.0),
            rss_peak: report.generator.rss_peak as f64,
            report: Some(Box::new(report)),
            ..Self::default()
        }
    }
}

/// A program that ends with this.
struct Guard(Child);

impl Guard {
    /// Its threads' CPU so far.
    fn cpu_seconds(&self) -> f64 {
        self.cpu_seconds_of("")
    }

    /// CPU so far of its threads whose names begin with `name`.
    fn cpu_seconds_of(&self, name: &str) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).into_iter().flatten().flatten();
        let read = |task: &std::fs::DirEntry, file: &str| {
            std::fs::read_to_string(task.path().join(file)).unwrap_or_default()
        };
        let ns = |task: std::fs::DirEntry| {
            read(&task, "schedstat").split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0)
        };
        tasks.filter(|task| read(task, "comm").starts_with(name)).map(ns).sum::<u64>() as f64 / 1e9
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // SIGTERM by the shell's own kill: this crate has no unsafe code.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// The programs beside this one, and a folder for what they write.
pub struct Programs {
    folder: PathBuf,
    cores: Vec<usize>,
    ssh_sink: String,
}

impl Programs {
    /// `ssh_sink` is the program that stands in for SSH servers.
    ///
    /// # Errors
    /// Where no folder can be made.
    pub fn new(ssh_sink: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("scale-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { folder, cores: scale_ring::host::available_cores(), ssh_sink: ssh_sink.to_owned() })
    }

    fn path(name: &str) -> Result<PathBuf> {
        let me = std::env::current_exe().map_err(|error| error.to_string())?;
        let path = me.parent().unwrap_or(Path::new(".")).join(name);
        if path.exists() { Ok(path) } else { Err(format!("{} is not built: use bench/run", path.display())) }
    }

    /// Whether a peer was built.
    pub fn has(name: &str) -> bool {
        Self::path(name).is_ok()
    }

    /// The generator's cores and the sink's: apart where there are two.
    fn split(&self, threads: usize) -> (String, String) {
        let list = |cores: &[usize]| cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        if threads > 1 || self.cores.len() < 2 {
            let cores = &self.cores[..threads.min(self.cores.len())];
            return (list(cores), list(cores));
        }
        (list(&self.cores[..1]), list(&self.cores[self.cores.len() - 1..]))
    }

    fn sink(&self, protocol: &str, cores: &str, realtime: bool) -> Result<(Guard, String)> {
        self.sink_with(protocol, cores, realtime, &[])
    }

    fn sink_with(
        &self,
        protocol: &str,
        cores: &str,
        realtime: bool,
        more: &[&str],
    ) -> Result<(Guard, String)> {
        let program = if protocol == "ssh" { self.ssh_sink.as_str() } else { "scale-sink" };
        let mut command = Command::new(Self::path(program)?);
        command.args(["--listen", "127.0.0.1:0", "--protocol", protocol, "--cores", cores]);
        command.args(more).stdout(Stdio::null());
        if protocol == "wss" {
            command.arg("--ca-out").arg(self.ca());
        }
        if realtime {
            command.arg("--realtime");
        }
        let (guard, line) = start(&mut command, "listening on ")?;
        Ok((guard, line.trim_start_matches("listening on ").to_owned()))
    }

    fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// One run of a program with the floor's arguments; it speaks SSH or bare TCP.
    ///
    /// # Errors
    /// Where a program fails.
    pub fn floor(&self, program: &str, load: &Load) -> Result<Sample> {
        self.floor_with(program, load, &[])
    }

    /// As [`Self::floor`], with arguments of the program's own.
    ///
    /// # Errors
    /// Where a program fails.
    pub fn floor_with(&self, program: &str, load: &Load, more: &[&str]) -> Result<Sample> {
        let (core, sink_cores) = self.split(1);
        let protocol = if load.protocol == "ssh" { "ssh" } else { "tcp" };
        let (_sink, address) = self.sink(protocol, &sink_cores, load.realtime)?;
        let mut command = Command::new(Self::path(program)?);
        command.args(more);
        command.args(["--target", &address, "--conns", &load.streams.to_string()]);
        command.args(["--bytes", &load.bytes.to_string(), "--tick-interval", &format!("{}ms", load.tick_ms)]);
        command.args(["--duration", &format!("{}s", load.seconds), "--core", &core]);
        if load.realtime {
            command.arg("--realtime");
        }
        let output = command.output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let figures: serde_json::Value = serde_json::from_str(text.trim())
            .map_err(|_| format!("{program}: {}", String::from_utf8_lossy(&output.stderr)))?;
        let figure = |name: &str| figures[name].as_f64().unwrap_or(0.0);
        Ok(Sample {
            cpu_us_per_message: figure("cpu_us_per_message"),
            lateness_p50: figure("lateness_p50"),
            lateness_p99: figure("lateness_p99"),
            delivered_ratio: figure("delivered_ratio"),
            rss_peak: figure("rss_bytes"),
            cpu_user_us_per_message: figure("cpu_user_us_per_message"),
            handshake_cpu_us: figure("handshake_cpu_us"),
            rss_per_stream: figure("rss_per_stream"),
            ..Sample::default()
        })
    }

    /// The worker's stamps beside the sink's, for so many seconds.
    ///
    /// # Errors
    /// Where a program fails, or the two do not speak of the same messages.
    pub fn stamps(&self, seconds: u32) -> Result<Apart> {
        let (core, sink_cores) = self.split(1);
        let times = self.folder.join("times.csv");
        let (sink, address) =
            self.sink_with("ws", &sink_cores, false, &["--times", &times.display().to_string()])?;
        let address = address.parse().map_err(|_| format!("no address: {address}"))?;
        let core = core.parse().map_err(|_| format!("no core: {core}"))?;
        // On a thread of its own: pinning does not outlive the comparison.
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                scale_ring::host::pin_current_thread(core);
                stamps::compare(address, seconds, sink, &times)
            });
            worker.join().map_err(|_| "the worker panicked".to_owned())?
        })
    }

    /// A daemon beside a sink, with nothing going yet. `metrics`: where it listens for scrapes, or `off`.
    ///
    /// # Errors
    /// Where a program fails.
    pub fn daemon(&self, load: &Load, metrics: &str) -> Result<Daemon> {
        let (cores, sink_cores) = self.split(load.threads);
        let traffic = if load.terminal { "terminal" } else { "echo" };
        let (sink, address) =
            self.sink_with(load.protocol, &sink_cores, load.realtime, &["--traffic", traffic])?;
        let path = |name: &str| self.folder.join(name).display().to_string();
        let (socket, run) = (path("control.sock"), path("run.toml"));
        std::fs::write(&run, load.run_file(&address, &self.ca())).map_err(|error| error.to_string())?;
        let mut command = Command::new(Self::path("scaled")?);
        command.args(["--config", &path("scaled.toml"), "--socket", &socket, "--state", &path("runs")]);
        command.args(["--metrics", metrics, "--cores", &cores]).stdout(Stdio::null());
        command.args(["--realtime", if load.realtime { "fifo" } else { "off" }]);
        let (process, line) = start(&mut command, "ready")?;
        let scraped = line.split_once("metrics on http://").and_then(|(_, rest)| rest.split_once("/metrics"));
        let scraped = scraped.map(|(address, _)| address.to_owned());
        Ok(Daemon { process, sink, socket, run, scraped, spare_core: self.cores.last().copied() })
    }

    /// One run of `scaled`.
    ///
    /// # Errors
    /// Where a program fails, or the run has no report.
    pub fn scaled(&self, load: &Load) -> Result<Sample> {
        let daemon = self.daemon(load, "off")?;
        let report = daemon.report(&["start", "--file", &daemon.run])?;
        let cpu_seconds = report.generator.cpu_seconds_user + report.generator.cpu_seconds_system;
        Ok(Sample { sink_by_generator: daemon.sink.cpu_seconds() / cpu_seconds, ..Sample::of(report) })
    }
}

/// A daemon, the sink that it drives, and where both are reached.
pub struct Daemon {
    process: Guard,
    sink: Guard,
    /// Its control socket.
    pub socket: String,
    /// The file of its run.
    pub run: String,
    /// Where it is scraped, if it is.
    pub scraped: Option<String>,
    /// Where whoever watches it is to run: the sink's core.
    pub spare_core: Option<usize>,
}

impl Daemon {
    /// Runs `scalectl` to its end: what it printed.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn scalectl(&self, arguments: &[&str]) -> Result<std::process::Output> {
        let mut command = Command::new(Programs::path("scalectl")?);
        command.args(["--socket", &self.socket, "--json"]).args(arguments).stdin(Stdio::null());
        command.output().map_err(|error| error.to_string())
    }

    /// Runs `scalectl` to its end, where it prints a report.
    ///
    /// # Errors
    /// It printed none.
    pub fn report(&self, arguments: &[&str]) -> Result<Report> {
        let output = self.scalectl(arguments)?;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(text.lines().last().unwrap_or_default())
            .map_err(|_| format!("scalectl: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// CPU seconds of its workers so far, and of everything else in it.
    ///
    /// # Errors
    /// It has gone.
    pub fn cpu_seconds(&self) -> Result<(f64, f64)> {
        /// The kernel's unit for users.
        const TICKS_PER_SECOND: f64 = 100.0;
        let path = format!("/proc/{}/stat", self.process.0.id());
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        // Behind the name, which may have any character: fields 14 and 15 of proc(5). Threads that have ended count.
        let fields: Vec<&str> =
            text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks =
            |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
        let workers = self.process.cpu_seconds_of("worker-");
        Ok((workers, (ticks(11) + ticks(12)) / TICKS_PER_SECOND - workers))
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Starts a program and waits until it says `word` on stderr; returns that line, too.
fn start(command: &mut Command, word: &str) -> Result<(Guard, String)> {
    let name = command.get_program().display().to_string();
    let child = command.stderr(Stdio::piped()).spawn().map_err(|error| format!("{name}: {error}"))?;
    let mut guard = Guard(child);
    let mut lines = BufReader::new(guard.0.stderr.take().expect("piped")).lines();
    let mut seen = Vec::new();
    for line in lines.by_ref().map_while(std::result::Result::ok) {
        if line.contains(word) {
            std::thread::spawn(move || lines.for_each(drop));
            return Ok((guard, line));
        }
        seen.push(line);
    }
    Err(format!("{name} ended early: {}", seen.join("\n")))
}
