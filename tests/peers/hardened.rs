//! The unit's hardening tried for real, without systemd: a read-only root with two folders to write to (bubblewrap), a
//! user that owns nothing and has no capability (setpriv), and the unit's own seccomp filters, made of its words by
//! libseccomp. No user namespace: as under systemd, root's files are root's.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use scale_api::http::DoctorEntry;
use scale_api::report::Report;
use scale_tests::host::{Folder, installed, root, until};
use scale_tests::{Process, Sink, assert_ended_with, command, program};

/// A user and group that own nothing.
const NOBODY: u32 = 64_999;
/// Debian's own Python, which has libseccomp's module (python3-seccomp).
const PYTHON: &str = "/usr/bin/python3";
/// Seconds of steady state.
const DURATION: &str = "10s";
/// Limits as the unit has them; what this machine does not give is left as it is, and said.
const LIMITS: [&str; 3] = ["--nofile=1048576", "--memlock=unlimited", "--core=0"];
/// What the filters and the file system have to refuse, each with its errno's name.
const PROBE: &str = r#"
import ctypes, errno, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
def call(wanted, name, *arguments):
    ctypes.set_errno(0)
    libc.syscall(ctypes.c_long(name), *(ctypes.c_long(a) for a in arguments))
    said = errno.errorcode.get(ctypes.get_errno(), "nothing")
    if said != wanted:
        print(f"system call {name}{arguments}: {said}, not {wanted}")
MMAP, MPROTECT, UNSHARE, PERSONALITY, PTRACE, MOUNT, SCHEDULER, KEXEC, BPF, SOCKET = 9, 10, 272, 135, 101, 165, 144, 246, 321, 41
call("EPERM", MMAP, 0, 4096, 2 | 4, 0x22, -1, 0)
call("EPERM", MPROTECT, 0, 4096, 4)
for flag in (0x10000000, 0x40000000, 0x20000):
    call("EPERM", UNSHARE, flag)
call("EPERM", PERSONALITY, 8)
call("EPERM", MOUNT, 0, 0, 0, 0, 0)
call("EPERM", SCHEDULER, 0, 1, 0)
call("EPERM", KEXEC, 0, 0, 0, 0)
call("EPERM", BPF, 0, 0, 0)
for family in (3, 4, 5, 9, 16, 17, 40):
    call("EAFNOSUPPORT", SOCKET, family, 2, 0)
call("EPERM", 227, 0, 0) # clock_settime
for path in ("/usr/x", "/etc/x", "/var/x", "/proc/sys/kernel/x"):
    try:
        open(path, "w")
        print(f"{path} can be written")
    except OSError:
        pass
try:
    os.chmod("/tmp/run", 0o4755)
    print("a set-uid bit can be set")
except PermissionError:
    pass
# And what the daemon needs is there.
timex = ctypes.create_string_buffer(512)
call("nothing", 159, ctypes.addressof(timex)) # adjtimex, which asks
os.sched_setaffinity(0, os.sched_getaffinity(0))
socket.socket(socket.AF_INET6), socket.socket(socket.AF_UNIX)
open("/proc/sys/net/core/somaxconn"), open("/proc/net/tcp"), open("/sys/devices/system/cpu/online")
open("/tmp/run/x", "w"), os.mkdir("/tmp/state/x")
"#;

/// Where the hardened process is.
struct Cage {
    folder: Folder,
    bwrap: PathBuf,
    limits: Vec<&'static str>,
    /// Capabilities that it has, as setpriv(1) writes them: none.
    capabilities: &'static str,
}

impl Cage {
    /// The unit with a drop-in of its folder, or without. `None`: what it takes is not here, which is said.
    fn make(drop_in: Option<&str>) -> Option<Self> {
        let bwrap = installed("bwrap")?;
        let (_, _) = (installed("systemd-analyze")?, installed("setpriv")?);
        if scale_ring::host::effective_uid() != 0 {
            return installed("root, who alone can become another user").and(None);
        }
        if !Command::new(PYTHON).args(["-c", "import seccomp"]).stderr(Stdio::null()).status().ok()?.success()
        {
            return installed("seccomp for Debian's Python").and(None);
        }
        let folder = Folder::new();
        for (name, owner) in [("bin", 0), ("state", NOBODY), ("run", NOBODY)] {
            std::fs::create_dir(folder.path(name)).expect("a folder");
            chown(folder.path(name), Some(owner), Some(owner)).expect("root may");
        }
        let files = [("scaled", program("scaled")), ("filter.py", root().join("tests/peers/unit_filter.py"))];
        for (name, from) in files {
            std::fs::copy(from, folder.path("bin").join(name)).expect("copied");
        }
        let unit = |name: &str| std::fs::read_to_string(root().join("systemd").join(name)).expect("shipped");
        let more = drop_in.map(|name| unit(&format!("scaled.service.d/{name}"))).unwrap_or_default();
        folder.write("bin/unit", &format!("{}\n{more}", unit("scaled.service")));
        for name in ["", "bin", "bin/scaled", "bin/filter.py", "bin/unit"] {
            std::fs::set_permissions(folder.path(name), PermissionsExt::from_mode(0o755)).expect("ours");
        }
        let limits = LIMITS.into_iter().filter(|limit| may(limit)).collect();
        let cage = Self { limits, folder, bwrap, capabilities: "-all" };
        let tried = cage.command(&[Path::new("/bin/true")]).output().expect("it runs");
        if !tried.status.success() {
            let why = String::from_utf8_lossy(&tried.stderr).into_owned();
            return installed(&format!("a mount namespace ({})", why.trim())).and(None);
        }
        Some(cage)
    }

    /// Lets it have real-time threads, as LimitRTPRIO= of the drop-in does; where this machine gives no such limit, by
    /// the capability.
    fn may_be_real_time(mut self) -> Self {
        match may("--rtprio=10") {
            true => self.limits.push("--rtprio=10"),
            false => self.capabilities = "-all,+sys_nice",
        }
        self
    }

    /// The daemon, once it is ready.
    fn daemon(&self, more: &[&str]) -> Caged {
        let words =
            ["/tmp/bin/scaled", "--config", "/tmp/bin/scaled.toml", "--socket", "/tmp/run/control.sock"];
        let words = words.into_iter().chain(["--state", "/tmp/state", "--metrics", "off"]);
        let words: Vec<&Path> = words.chain(more.iter().copied()).map(Path::new).collect();
        let log = File::create(self.folder.path("log")).expect("a file");
        let mut command = self.command(&words);
        let mut daemon = Process(command.stdout(Stdio::null()).stderr(log).spawn().expect("it starts"));
        until("the daemon", || {
            assert!(daemon.0.try_wait().expect("ours").is_none(), "{}", self.log());
            self.log().contains("ready").then_some(())
        });
        Caged { pid: pid_of(daemon.0.id()), bwrap: daemon }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path("log")).expect("text")
    }

    /// `words` as the unit would have them run: `/tmp/bin` has the daemon, `/tmp/state` and `/tmp/run` can be written.
    fn command(&self, words: &[&Path]) -> Command {
        let mut command = Command::new("prlimit");
        command.args(&self.limits).arg(&self.bwrap).args(["--ro-bind", "/", "/", "--dev", "/dev"]);
        command.args(["--tmpfs", "/tmp", "--tmpfs", "/home", "--tmpfs", "/root"]);
        command.arg("--ro-bind").arg(self.folder.path("bin")).arg("/tmp/bin");
        for name in ["state", "run"] {
            command.arg("--bind").arg(self.folder.path(name)).arg(Path::new("/tmp").join(name));
        }
        command.args(["--chdir", "/", "--new-session", "--die-with-parent", "--unshare-ipc"]);
        let user = NOBODY.to_string();
        command.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs"]);
        for set in ["inh-caps", "ambient-caps", "bounding-set"] {
            command.arg(format!("--{set}={}", self.capabilities));
        }
        command.args([PYTHON, "/tmp/bin/filter.py", "/tmp/bin/unit"]).args(words);
        command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        command
    }

    fn scalectl(&self, arguments: &[&str]) -> Command {
        let mut scalectl = command("scalectl");
        scalectl.arg("--socket").arg(self.folder.path("run/control.sock")).args(arguments);
        scalectl.stdin(Stdio::null());
        scalectl
    }
}

/// The daemon in its cage. It does not end with bwrap: that wish is lost where a process becomes another user (prctl(2),
/// PR_SET_PDEATHSIG).
struct Caged {
    pid: u32,
    bwrap: Process,
}

impl Drop for Caged {
    fn drop(&mut self) {
        // bwrap waits for it: as long as it does, the number is the daemon's.
        if self.bwrap.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = Command::new("kill").args(["-KILL", &self.pid.to_string()]).status();
            let _ = self.bwrap.0.wait();
        }
    }
}

/// Whether this machine gives a process such a limit.
fn may(limit: &str) -> bool {
    let tried = Command::new("prlimit").args([limit, "true"]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// The daemon's own process: `bwrap` waits for it.
fn pid_of(bwrap: u32) -> u32 {
    until("the daemon's process", || {
        let children = std::fs::read_to_string(format!("/proc/{bwrap}/task/{bwrap}/children")).ok()?;
        let names = children.split_whitespace().chain(std::iter::once("")).map(str::parse::<u32>);
        let all = names.flatten().chain(std::iter::once(bwrap));
        all.into_iter().find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "scaled\n")
        })
    })
}

#[test]
fn the_units_filters_and_folders_refuse_what_they_should() {
    let Some(cage) = Cage::make(None) else { return };
    if !cfg!(target_arch = "x86_64") {
        installed("the probe's numbers of system calls on this architecture");
        return;
    }
    let probe =
        cage.command(&[Path::new(PYTHON), Path::new("-c"), Path::new(PROBE)]).output().expect("it runs");
    let said = [probe.stdout, probe.stderr].concat();
    assert_eq!((probe.status.code(), String::from_utf8_lossy(&said)), (Some(0), "".into()));
}

#[test]
fn under_the_units_hardening_it_holds_a_thousand_wss_and_a_thousand_ssh_streams() {
    let Some(cage) = Cage::make(None) else { return };
    let ca = cage.folder.path("ca.pem").display().to_string();
    let wss = Sink::start(&["--protocol", "wss", "--ca-out", &ca]);
    let ssh = Sink::start(&["--protocol", "ssh"]);
    let mut daemon = cage.daemon(&[]);
    assert_is_confined(&format!("/proc/{}", daemon.pid));
    let group = |name: &str, target: &str, more: &str| {
        format!(
            "[[group]]\nname = \"{name}\"\ntarget = [\"{target}\"]\n{more}\nconns = 1000\ntick_interval = \"1s\"\n\
             ramp = \"5s\"\nwarm_up = \"1s\"\nduration = \"{DURATION}\"\ndrain = \"30s\"\nconnect_timeout = \"60s\"\n"
        )
    };
    let run = [
        group("wss", &format!("wss://{}/", wss.address), &format!("ca = \"{ca}\"")),
        group("ssh", &format!("ssh://{}", ssh.address), "insecure_host_keys = true"),
    ];
    let file = cage.folder.write("run.toml", &run.concat());
    let output = cage.scalectl(&["--json", "start", "-f", &file]).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let report: Report = serde_json::from_str(last).expect("a report");
    assert_ended_with(0, (output.status.code().expect("a code"), &report));
    let load = &report.load;
    assert_eq!((load.streams_opened, load.streams_open_at_end), (2000, 2000), "{:?}", load.connect_failures);
    assert!(
        load.connect_failures.is_empty() && load.disconnects.is_empty() && load.messages_sent >= 2000 * 9
    );
    assert_eq!((load.messages_unanswered, load.messages_echoed), (0, load.messages_sent));
    // What it is asked between runs works there, too: facts of the host are seen, and the report is kept.
    let doctor = cage.scalectl(&["--json", "doctor"]).output().expect("it runs");
    let entries: Vec<DoctorEntry> = serde_json::from_slice(&doctor.stdout).expect("what it saw");
    for source in ["/proc/sys/kernel/", "/proc/sys/net/", "/proc/meminfo", "/sys/devices/"] {
        assert!(entries.iter().any(|entry| entry.source.contains(source)), "{source}: {entries:?}");
    }
    let clock =
        entries.iter().find(|entry| entry.source.contains("adjtimex")).expect("how well the clock is held");
    assert_ne!(clock.value, "unknown", "the filter refuses to ask");
    assert!(cage.scalectl(&["reload"]).output().expect("it runs").status.success());
    assert!(!cage.log().contains("ERROR"), "{}", cage.log());
    assert!(cage.folder.path("state").join(&report.run.id).join("report.json").exists());
    let counts = (wss.counts(), ssh.counts());
    let received = |counts: &serde_json::Value| counts["payload_bytes_received"].as_u64().expect("a number");
    assert_eq!(received(&counts.0) + received(&counts.1), report.total.payload_bytes_sent);
    Command::new("kill").arg(daemon.pid.to_string()).status().expect("it runs");
    daemon.bwrap.0.wait().expect("it ends");
}

/// What the kernel says of the process: another user, no capability and none to be had, both filters, no core file.
fn assert_is_confined(process: &str) {
    let status = std::fs::read_to_string(format!("{process}/status")).expect("its status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field of proc(5)");
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let user = NOBODY.to_string();
    assert_eq!(field("Uid:"), [user.as_str(); 4].join(" "));
    for capabilities in ["CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(capabilities), "0000000000000000", "{capabilities}");
    }
    assert_eq!((field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()), ("1", "2"));
    assert_eq!(field("Seccomp_filters:"), "2", "the unit's");
    let limits = std::fs::read_to_string(format!("{process}/limits")).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

#[test]
fn the_drop_in_for_real_time_workers_is_what_they_need() {
    let sink = Sink::start(&["--protocol", "ws"]);
    let target = format!("ws://{}/", sink.address);
    let start = ["start", "--detach", "--target", &target, "--conns", "5", "--duration", "forever"];
    let Some(cage) = Cage::make(None) else { return };
    let cage = cage.may_be_real_time();
    let daemon = cage.daemon(&["--realtime", "fifo"]);
    let output = cage.scalectl(&start).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(4) && said.contains("realtime.conf"), "{said}");
    drop(daemon);
    let cage = Cage::make(Some("realtime.conf.example")).expect("as before").may_be_real_time();
    let daemon = cage.daemon(&["--realtime", "fifo"]);
    let output = cage.scalectl(&start).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid)).expect("a process");
    // Field 41 of stat is the policy: 1 is SCHED_FIFO (proc(5)).
    let stats =
        tasks.map(|task| std::fs::read_to_string(task.expect("a thread").path().join("stat")).expect("text"));
    let workers: Vec<String> = stats.filter(|stat| stat.contains("(worker-")).collect();
    assert!(!workers.is_empty());
    for stat in workers {
        assert_eq!(stat.split_whitespace().nth(40), Some("1"), "{stat}");
    }
    assert_eq!(cage.scalectl(&["stop", "--now"]).output().expect("it runs").status.code(), Some(5));
}
