//! Recorded hosts: `tests/hosts/NAME/tree` is many small files in one, as `head` prints them, and `doctor` beside it what
//! is said of them. `SNAPSHOTS=write` writes those anew: look at the difference before it is committed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;

/// Time between a recorded tree's two samples, in seconds.
const RECORDED_SECONDS: f64 = 0.15;

/// A recorded tree, unpacked.
struct Recorded(PathBuf);

impl Drop for Recorded {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn hosts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/hosts")
}

impl Recorded {
    /// `change`: of a file's path and text.
    fn new(name: &str, change: &dyn Fn(&str, &str) -> String) -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("scaled-doctor-{}-{next}", std::process::id()));
        let tree = std::fs::read_to_string(hosts().join(name).join("tree")).unwrap();
        for file in tree.split("==> ").skip(1) {
            let (path, text) = file.split_once(" <==\n").unwrap();
            let at = root.join(path);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(at, change(path, text)).unwrap();
        }
        Self(root)
    }

    fn examine(&self, cores: &[usize]) -> Vec<DoctorEntry> {
        let facts = Facts::read(&self.0);
        let others = Facts::sample(&self.0.join("later")).since(&facts.sample, RECORDED_SECONDS);
        let features = features(&Facts::recorded(&self.0, "io_uring").unwrap());
        examine(&Seen { facts: &facts, features: &features, cores, others: &others })
    }
}

fn features(words: &str) -> Result<Features, SetupError> {
    match words.split_once(' ') {
        None if words == "usable" => Ok(Features::ALL),
        None if words == "forbidden" => Err(SetupError::Forbidden),
        Some(("disabled", value)) => Err(SetupError::Disabled(value.parse().unwrap())),
        Some(("usable", rest)) => Ok(Features::ALL.without(rest.strip_prefix("without ").unwrap()).unwrap()),
        _ => panic!("{words}"),
    }
}

fn said(entries: &[DoctorEntry]) -> String {
    let line = |entry: &DoctorEntry| {
        let mend = entry.remedy.as_ref().map_or(String::new(), |remedy| format!("\n     mend: {remedy}"));
        format!("{:<4} {}: {}\n     from: {}{mend}\n", entry.status, entry.name, entry.value, entry.source)
    };
    entries.iter().map(line).collect()
}

fn assert_said(name: &str, cores: &[usize]) -> Vec<DoctorEntry> {
    let entries = Recorded::new(name, &|_, text| text.into()).examine(cores);
    let (said, path) = (said(&entries), hosts().join(name).join("doctor"));
    if std::env::var_os("SNAPSHOTS").is_some_and(|what| what == "write") {
        std::fs::write(&path, &said).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(said, wanted, "{name}");
    for entry in &entries {
        assert_eq!(entry.status == "ok", entry.remedy.is_none(), "{entry:?}");
        assert!(!entry.value.is_empty() && !entry.source.is_empty(), "{entry:?}");
        assert!(entry.remedy.as_ref().is_none_or(|remedy| !remedy.is_empty()), "{entry:?}");
    }
    entries
}

fn named<'a>(entries: &'a [DoctorEntry], status: &str) -> Vec<&'a str> {
    entries.iter().filter(|entry| entry.status == status).map(|entry| entry.name.as_str()).collect()
}

#[test]
fn a_host_that_was_prepared_has_nothing_to_mend() {
    let entries = assert_said("bare-metal", &[1, 2, 3]);
    // The card is on the first socket, two of three workers on the second: all but that is well.
    assert_eq!((named(&entries, "fail"), named(&entries, "warn")), (vec![], vec!["ens1f0np0 NUMA node"]));
    let entries = Recorded::new("bare-metal", &|_, text| text.into()).examine(&[1]);
    // One worker of three isolated cores.
    assert_eq!(named(&entries, "warn"), Vec::<&str>::new());
}

#[test]
fn a_host_out_of_the_box_is_warned_of_everything_that_can_be_mended() {
    let entries = assert_said("out-of-the-box", &[1, 3, 4, 5, 7]);
    let warned: BTreeSet<&str> = named(&entries, "warn").into_iter().collect();
    let fine: BTreeSet<&str> = named(&entries, "ok").into_iter().collect();
    for name in [
        "io_uring min_wait",
        "open files",
        "locked memory",
        "core files",
        "memory",
        "swap",
        "SMT siblings",
        "isolated cores",
        "governor",
        "C-states",
        "clock source",
        "wall clock",
        "TIME_WAIT",
        "TCP memory",
        "TCP buffers",
        "listen backlog",
        "packet backlog",
        "connection tracking",
        "NIC eno1",
        "ens1f0np0 queues",
        "ens1f0np0 interrupts",
        "ens1f0np0 NUMA node",
        "ens1f0np0 offloads",
        "ens1f0np0 receive ring",
        "load generators",
        "busy processes",
        "load",
    ] {
        assert!(warned.contains(name), "{name}: {warned:?}");
    }
    for name in ["io_uring", "io_uring switch", "seccomp", "CPU quota", "boost", "IPv6"] {
        assert!(fine.contains(name), "{name}");
    }
}

#[test]
fn where_io_uring_is_off_forbidden_or_a_quota_too_small_the_host_fails() {
    let entries = assert_said("rhel-9", &[1]);
    assert_eq!(named(&entries, "fail"), ["io_uring", "io_uring switch"]);
    let entries = assert_said("container", &[0, 1, 2]);
    assert_eq!(named(&entries, "fail"), ["io_uring", "seccomp", "workers", "CPU quota"]);
    assert!(named(&entries, "warn").contains(&"virtual machine"));
}

#[test]
fn a_small_virtual_machine_is_told_that_a_fact_does_not_apply() {
    let entries = assert_said("cloud", &[0, 1]);
    assert_eq!(named(&entries, "fail"), Vec::<&str>::new());
    assert_eq!(named(&entries, "warn"), ["control thread", "CPU quota"]);
    let value = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap().value.clone();
    assert!(value("governor").contains("no cpufreq") && value("C-states").contains("not this kernel's"));
}

#[test]
fn each_of_the_rest_can_be_otherwise() {
    let status = |host: &str, cores: &[usize], of: &str, file: &str, text: &str| {
        let tree = Recorded::new(host, &|path, was| if path == file { text.into() } else { was.into() });
        let entries = tree.examine(cores);
        let found = entries.iter().find(|entry| entry.name == of).unwrap_or_else(|| panic!("{of}"));
        found.status.clone()
    };
    let here = "bare-metal";
    let cases = [
        ("kernel", "proc/sys/kernel/osrelease", "", "warn"),
        // Open while this ring was made, and shut for the next.
        ("io_uring switch", "proc/sys/kernel/io_uring_disabled", "2\n", "warn"),
        ("io_uring switch", "proc/sys/kernel/io_uring_disabled", "1\n", "ok"),
        ("control thread", "proc/self/status", "Cpus_allowed_list:\t0-7\n", "warn"),
        ("CPU quota", "sys/fs/cgroup/system.slice/scaled.service/cpu.max", "50000 100000\n", "fail"),
        ("CPU quota", "sys/fs/cgroup/system.slice/scaled.service/cpu.max", "150000 100000\n", "warn"),
        ("CPU quota", "sys/fs/cgroup/system.slice/scaled.service/cpu.max", "400000 100000\n", "ok"),
        ("workers", "sys/fs/cgroup/cpuset.cpus.effective", "2-7\n", "fail"),
        ("NIC ens1f0np0", "sys/class/net/ens1f0np0/operstate", "down\n", "warn"),
        ("ens1f0np0 interrupts", "proc/412/stat", "412 (irqbalance) S 1 1 1 0 -1 0 0 0 0 0 1 1 0\n", "warn"),
        ("load", "proc/loadavg", "8.50 1.00 1.00 1/1 1\n", "warn"),
        // A file of another shape than expected is as none.
        ("TCP buffers", "proc/sys/net/ipv4/tcp_rmem", "what\n", "ok"),
    ];
    for (of, file, text, wanted) in cases {
        assert_eq!(status(here, &[1], of, file, text), wanted, "{of} by {file} = {text:?}");
    }
    let steal = "cpu  81008 0 20252 292018 120 0 40 99 0 0\n";
    assert_eq!(status("cloud", &[0, 1], "virtual machine", "later/proc/stat", steal), "warn");
    assert_eq!(status("cloud", &[0, 1, 2, 3], "eth0 queues", "calls", "io_uring usable\n"), "warn");
    let spread = "sys/class/net/eth0/queues/rx-0/rps_cpus";
    assert_eq!(status("cloud", &[0, 1, 2, 3], "eth0 queues", spread, "00000003\n"), "ok");
}

#[test]
fn a_start_names_the_first_warnings_in_one_line() {
    let entries = |count: usize| {
        (0..count).map(|n| entry(format!("w{n}"), Is::Warn, "v", "s", "r")).collect::<Vec<_>>()
    };
    assert_eq!(summary(&[ok("a", "b", "c")]), None);
    assert_eq!(
        summary(&entries(1)).unwrap(),
        "doctor has 1 warning of this host (w0); see `scalectl doctor`"
    );
    let six = "doctor has 6 warnings of this host (w0, w1, w2, w3 and 2 others); see `scalectl doctor`";
    assert_eq!(summary(&entries(6)).unwrap(), six);
    let worse = [entries(1), vec![entry("f", Is::Fail, "v", "s", "r")]].concat();
    let said = "doctor has 1 failure and 1 warning of this host (f, w0); see `scalectl doctor`";
    assert_eq!(summary(&worse).unwrap(), said);
}

#[test]
fn cards_that_only_a_plan_uses_are_judged_with_it() {
    let tree = Recorded::new("out-of-the-box", &|_, text| text.into());
    let facts = Facts::read(&tree.0);
    let judged = |interface: &str| {
        let lines = cards::towards(&[1], &facts, &[interface.to_owned()].into());
        lines.into_iter().map(|line| line.name).collect::<Vec<_>>()
    };
    // By default a bond is taken, whose card is among the host's own lines.
    assert_eq!((judged("lo"), judged("bond0")), (vec![], vec![]));
    let own = ["queues", "interrupts", "NUMA node", "offloads", "receive ring"];
    assert_eq!(judged("eno1"), own.map(|what| format!("eno1 {what}")));
}

#[test]
fn cores_are_listed_as_the_flag_takes_them() {
    assert_eq!(
        (list(&[]), list(&[3]), list(&[0, 1, 2, 5, 7, 8])),
        ("none".into(), "3".into(), "0-2,5,7-8".into())
    );
}

#[test]
fn a_look_at_this_machine_is_complete_and_serves_the_next_one() {
    let doctor = Doctor::new(host::available_cores());
    assert!(doctor.kept().is_empty());
    let look = doctor.look();
    assert_eq!(look.entries, doctor.kept());
    assert!(look.entries.len() > 35, "{}", said(&look.entries));
    let doctor = Arc::new(doctor);
    let mut looking = Looking::start(&doctor);
    let seen = looking.0.as_ref().unwrap().recv().unwrap();
    let names = |entries: &[DoctorEntry]| entries.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&seen), names(&look.entries));
    assert!(looking.done().is_none(), "what was taken is not there again");
}
