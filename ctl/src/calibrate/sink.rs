//! The built-in counterpart: `scale-sink` from the folder of this program, else from `PATH`, on loopback and on cores that
//! are not the workers' where there are enough of them. It ends with us, however we end: its stdin is a pipe of ours.

use std::fs::DirBuilder;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use scale_api::report::Exit;
use scale_api::spec::{File, GroupSpec};
use scale_api::units::parse_cores;

use crate::client::Failure;

const NAME: &str = "scale-sink";
/// It is ready within this.
const READY_TIME_MAX: Duration = Duration::from_secs(5);
/// And has ended within this, or is killed.
const END_TIME_MAX: Duration = Duration::from_secs(3);
const END_LOOK: Duration = Duration::from_millis(10);

/// A sink that is going.
pub struct Sink {
    child: Child,
    folder: PathBuf,
    protocol: &'static str,
    address: String,
    /// Lines of a known_hosts file that say its key.
    host_keys: String,
    /// Some of its cores are the workers'.
    pub shares: bool,
}

fn failure(message: String) -> Failure {
    Failure { message, exit: Exit::Internal }
}

/// The cores for it, of `all`, when workers have `workers`; and whether any is theirs.
fn place(all: &[usize], workers: &[u64]) -> (Vec<usize>, bool) {
    let is_free = |core: &&usize| !workers.contains(&(**core as u64));
    let free: Vec<usize> = all.iter().filter(is_free).copied().take(workers.len()).collect();
    // An echo costs about what a message does: on fewer cores than the workers have, it would be the limit.
    if free.len() >= workers.len().max(1) { (free, false) } else { (all.to_vec(), true) }
}

/// Cores that this process, and so its child, may run on (proc_pid_status(5)).
fn own_cores() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.and_then(|list| parse_cores(list.trim()).ok()).unwrap_or_default()
}

/// A folder that nobody else can look into.
fn folder() -> Result<PathBuf, Failure> {
    let path = std::env::temp_dir().join(format!("scalectl-calibrate-{}", std::process::id()));
    let made = DirBuilder::new().mode(0o700).create(&path);
    made.map_err(|error| failure(format!("cannot make {}: {error}; set TMPDIR", path.display())))?;
    Ok(path)
}

impl Sink {
    /// Starts it for `protocol`, beside workers on `workers`.
    ///
    /// # Errors
    /// It is not there, or does not come up.
    pub fn start(protocol: &'static str, workers: &[u64]) -> Result<Self, Failure> {
        let beside = std::env::current_exe().ok().and_then(|me| Some(me.parent()?.join(NAME)));
        let program = beside.filter(|path| path.exists()).unwrap_or_else(|| NAME.into());
        let (cores, shares) = place(&own_cores(), workers);
        let folder = folder()?;
        let mut command = Command::new(&program);
        command.args(["--listen", "127.0.0.1:0", "--protocol", protocol, "--end-with-stdin"]);
        if !cores.is_empty() {
            let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
            command.args(["--cores", &cores.join(",")]);
        }
        if protocol == "wss" {
            command.arg("--ca-out").arg(folder.join("ca.pem"));
        }
        // In a process group of its own: Ctrl-C is ours to answer, the run ends before the sink does.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| {
            let _ = std::fs::remove_dir_all(&folder);
            let program = program.display();
            failure(format!(
                "cannot start {program}: {error}; install it beside scalectl, or give --target URL"
            ))
        })?;
        let mut sink =
            Self { child, folder, protocol, address: String::new(), host_keys: String::new(), shares };
        sink.wait_until_ready()?;
        Ok(sink)
    }

    fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let (sender, lines) = channel();
        let stderr = self.child.stderr.take().expect("piped");
        thread::spawn(move || {
            // To its end, so that it never waits for a reader.
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        let mut said = Vec::new();
        loop {
            match lines.recv_timeout(READY_TIME_MAX) {
                Ok(line) => match line.strip_prefix("listening on ") {
                    Some(address) => {
                        self.address = address.to_owned();
                        self.host_keys = said.join("\n") + "\n";
                        return Ok(());
                    }
                    None => said.push(line),
                },
                Err(error) => {
                    let how = if error == RecvTimeoutError::Timeout { "is not ready" } else { "ended" };
                    return Err(failure(format!("{NAME} {how}: {}", said.join("; "))));
                }
            }
        }
    }

    /// Makes it the target of a group.
    pub fn write_into(&self, group: &mut GroupSpec) {
        let (user, path) = if self.protocol == "ssh" { ("calibrate@", "") } else { ("", "/") };
        group.target = vec![format!("{}://{user}{}{path}", self.protocol, self.address)];
        match self.protocol {
            "wss" => group.ca = Some(File::new(self.folder.join("ca.pem"))),
            "ssh" => group.known_hosts = Some(File::new(self.folder.join("known_hosts"))),
            _ => {}
        }
    }

    /// Writes what [`Self::write_into`] names.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_files(&self) -> Result<(), Failure> {
        let path = self.folder.join("known_hosts");
        std::fs::write(&path, &self.host_keys)
            .map_err(|error| failure(format!("cannot write {}: {error}; set TMPDIR", path.display())))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        for _ in 0..END_TIME_MAX.as_millis() / END_LOOK.as_millis() {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            thread::sleep(END_LOOK);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sink_takes_cores_of_its_own_where_there_are_as_many_as_workers() {
        assert_eq!(place(&[0, 1], &[1]), (vec![0], false));
        assert_eq!(place(&[0, 1, 2, 3, 4, 5], &[4, 5]), (vec![0, 1], false));
        assert_eq!(place(&[0, 1], &[0, 1]), (vec![0, 1], true));
        assert_eq!(
            place(&[0, 1, 2, 3], &[1, 2, 3]),
            (vec![0, 1, 2, 3], true),
            "one core could not echo for three"
        );
        assert_eq!(place(&[], &[]), (vec![], true), "nothing is known");
    }
}
