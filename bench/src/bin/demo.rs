//! `cargo demo`: builds everything, starts a sink and a daemon, runs 1,000 streams × 40KB/s for
//! 15 s with a live view each second, and prints the report.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// Ends its program when it goes.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // SIGTERM by the shell's own kill: this crate has no unsafe code.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            eprintln!("demo: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Waits until a program says `word` on stderr; returns that line and keeps reading behind it.
fn said(child: &mut Child, word: &'static str) -> Result<String, String> {
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut seen = Vec::new();
    for line in lines.by_ref() {
        let line = line.map_err(|error| error.to_string())?;
        if line.contains(word) {
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(line);
        }
        seen.push(line);
    }
    Err(format!("a program ended early: {}", seen.join("\n")))
}

fn start(program: &Path, arguments: &[&str]) -> Result<Child, String> {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().map_err(|error| format!("cannot start {}: {error}", program.display()))
}

fn run() -> Result<u8, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    eprintln!("demo: building scaled, scalectl and scale-sink (release); the first time takes a few minutes");
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--release", "-p", "scaled", "-p", "scalectl", "-p", "scale-bench"])
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !built.success() {
        return Err("the build failed; a Rust toolchain and a C compiler are needed".into());
    }
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    let programs = me.parent().ok_or("this program has no folder")?;
    let folder: PathBuf = std::env::temp_dir().join(format!("scaled-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let socket = folder.join("control.sock");
    let (socket_text, state) = (socket.display().to_string(), folder.join("runs").display().to_string());
    let config = folder.join("scaled.toml").display().to_string();

    // Sink and worker on cores of their own where there are two.
    let cores = scale_ring::host::available_cores();
    let (first, last) = (cores[0].to_string(), cores[cores.len() - 1].to_string());
    let mut sink = Guard(start(
        &programs.join("scale-sink"),
        &["--listen", "127.0.0.1:0", "--protocol", "ws", "--cores", &last],
    )?);
    let line = said(&mut sink.0, "listening on ")?;
    let address = line.trim_start_matches("listening on ").to_owned();
    let mut daemon = Guard(start(
        &programs.join("scaled"),
        &[
            "--config",
            &config,
            "--socket",
            &socket_text,
            "--state",
            &state,
            "--metrics",
            "off",
            "--cores",
            &first,
        ],
    )?);
    said(&mut daemon.0, "ready")?;
    std::thread::sleep(Duration::from_millis(10));
    let status = Command::new(programs.join("scalectl"))
        .args(["--socket", &socket_text, "start", "--conns", "1000", "--rate", "40KB/s"])
        .args([
            "--target",
            &format!("ws://{address}/"),
            "--warm-up",
            "1s",
            "--duration",
            "15s",
            "--name",
            "demo",
        ])
        .status()
        .map_err(|error| format!("cannot run scalectl: {error}"))?;
    drop((daemon, sink));
    let _ = std::fs::remove_dir_all(&folder);
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
