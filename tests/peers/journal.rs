//! The journal: a socket where the real one is, in a mount namespace of its own.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use scale_tests::host::{Folder, installed, until};
use scale_tests::{Process, program};

/// Where a process of its own sees `journal` as the journal's folder, and stderr as the journal's.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs none /run
mkdir -p /run/systemd/journal
mount --bind "$1" /run/systemd/journal
export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)
shift
exec "$@"
"#;

/// `unshare`, where this user may use it.
fn unshare() -> Option<PathBuf> {
    let unshare = installed("unshare")?;
    let mut tried = Command::new(&unshare);
    tried.args(["--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/run"]);
    let may = tried.output().is_ok_and(|output| output.status.success());
    if may { Some(unshare) } else { installed("mount namespaces for this user") }
}

/// A daemon that systemd has started, as far as it can tell; its stderr is a file.
fn begin(folder: &Folder, unshare: &Path) -> Process {
    let mut command = Command::new(unshare);
    command.args(["--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh"]).arg(folder.path("journal"));
    command.arg(program("scaled")).arg("--config").arg(folder.path("scaled.toml"));
    command.arg("--socket").arg(folder.path("control.sock")).arg("--state").arg(folder.path("runs"));
    command.args(["--metrics", "off"]).env_remove("SCALED_LOG");
    let log = std::fs::File::create(folder.path("log")).expect("a file");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let process = Process(command.spawn().expect("it starts"));
    until("the control socket", || folder.path("control.sock").exists().then_some(()));
    process
}

/// A run that fails at once.
fn run(folder: &Folder) {
    let mut scalectl = Command::new(program("scalectl"));
    scalectl.arg("--socket").arg(folder.path("control.sock")).args(["start", "--conns", "3"]);
    scalectl.args(["--target", "ws://127.0.0.1:9/", "--warm-up", "0s", "--duration", "1s"]);
    let output = scalectl.stdin(Stdio::null()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(99), "{}", String::from_utf8_lossy(&output.stderr));
}

fn log(folder: &Folder) -> String {
    std::fs::read_to_string(folder.path("log")).expect("text")
}

/// The fields of an entry (systemd.io/JOURNAL_NATIVE_PROTOCOL): `NAME=value`, or the name, the value's length as 64
/// bits in little endian, and the value.
fn fields(mut entry: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let mut fields = Vec::new();
    while let Some(end) = entry.iter().position(|&byte| byte == b'\n') {
        let (line, rest) = (text(&entry[..end]), &entry[end + 1..]);
        let (field, rest) = match line.split_once('=') {
            Some((name, value)) => ((name.to_owned(), value.to_owned()), rest),
            None => {
                let (length, rest) = rest.split_first_chunk::<8>().expect("a length");
                let (value, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
                ((line, text(value)), rest.strip_prefix(b"\n").expect("an end"))
            }
        };
        fields.push(field);
        entry = rest;
    }
    fields
}

#[test]
fn under_systemd_an_entry_of_the_journal_has_its_fields() {
    let Some(unshare) = unshare() else { return };
    let folder = Folder::new();
    std::fs::create_dir(folder.path("journal")).expect("a folder");
    let journal = UnixDatagram::bind(folder.path("journal/socket")).expect("a socket");
    journal.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    let daemon = begin(&folder, &unshare);
    run(&folder);
    let mut entries = Vec::new();
    let has = |entries: &[Vec<(String, String)>], message: &str| {
        entries
            .iter()
            .any(|entry| entry.iter().any(|(name, value)| name == "MESSAGE" && value.starts_with(message)))
    };
    while !has(&entries, "run ended") {
        let mut piece = [0; 8192];
        let bytes = journal.recv(&mut piece).expect("an entry");
        entries.push(fields(&piece[..bytes]));
    }
    drop(daemon);
    assert!(has(&entries, "ready: control on ") && has(&entries, "run began"), "{entries:?}");
    let entry =
        entries.iter().find(|entry| has(&[(*entry).clone()], "streams not opened")).expect("an entry");
    let value = |name: &str| entry.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(
        (value("SCALED_CLASS"), value("SCALED_COUNT"), value("SCALED_GROUP")),
        (Some("refused"), Some("3"), Some("main"))
    );
    assert_eq!((value("PRIORITY"), value("SYSLOG_IDENTIFIER")), (Some("6"), Some("scaled")), "{entry:?}");
    assert!(value("SCALED_RUN").is_some_and(|run| run.starts_with('r')), "{entry:?}");
    assert_eq!(log(&folder), "", "nothing is said twice");
}

#[test]
fn where_the_journals_socket_is_not_there_a_line_has_its_priority() {
    let Some(unshare) = unshare() else { return };
    let folder = Folder::new();
    std::fs::create_dir(folder.path("journal")).expect("a folder");
    let daemon = begin(&folder, &unshare);
    run(&folder);
    drop(daemon);
    let log = log(&folder);
    assert!(log.lines().all(|line| line.starts_with("<6>")), "{log}");
    assert!(log.contains("<6>streams not opened run=r") && log.contains("class=\"refused\""), "{log}");
}
