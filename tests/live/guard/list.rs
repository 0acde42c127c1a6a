//! The list's own file: only who keeps it can have written it.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use scale_tests::host::Folder;
use scale_tests::{Daemon, command};

use super::{assert_ends, is_root, with_list};

const LOOPBACK: &str = "[[target]]\naddresses = [\"127.0.0.0/8\"]\n";

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
}

/// Starts a daemon that is not to come up, with its configuration in `folder`.
fn start(folder: &Path) -> Output {
    let mut daemon = command("scaled");
    daemon.arg("--config").arg(folder.join("scaled.toml")).arg("--socket").arg(folder.join("c.sock"));
    daemon.arg("--state").arg(folder.join("runs")).args(["--metrics", "off"]);
    // One that comes up all the same is ended by timeout(1), with another code.
    let mut limited = Command::new("timeout");
    limited.arg("20").arg(daemon.get_program()).args(daemon.get_args());
    limited.output().expect("timeout runs")
}

fn list() -> (Folder, PathBuf) {
    let folder = Folder::new();
    folder.write("targets.toml", LOOPBACK);
    let (home, list) = (folder.path(""), folder.path("targets.toml"));
    mode(&home, 0o755);
    mode(&list, 0o644);
    (folder, list)
}

#[test]
fn a_list_that_others_can_write_ends_the_start_with_the_command_that_mends_it() {
    let (folder, list) = list();
    for bits in [0o664, 0o646, 0o666] {
        mode(&list, bits);
        assert_ends(
            &start(&folder.path("")),
            2,
            &format!("chmod go-w {}", list.display()),
            "a writable list",
        );
    }
    mode(&list, 0o644);
    mode(&folder.path(""), 0o777);
    assert_ends(&start(&folder.path("")), 2, "chmod go-w", "a writable folder");
    mode(&folder.path(""), 0o755);
    if is_root("a list that belongs to somebody else") {
        chown(&list, Some(65534), Some(65534)).expect("root may");
        assert_ends(&start(&folder.path("")), 2, "chown root:root", "somebody else's list");
    }
}

#[test]
fn what_is_no_plain_file_is_no_list_and_a_link_is_followed_as_long_as_its_way_is_safe() {
    let (folder, list) = list();
    std::fs::remove_file(&list).expect("ours");
    std::fs::create_dir(&list).expect("ours");
    assert_ends(&start(&folder.path("")), 2, "no regular file", "a folder");
    std::fs::remove_dir(&list).expect("ours");
    let made = Command::new("mkfifo").arg(&list).status().expect("mkfifo runs");
    assert!(made.success());
    assert_ends(&start(&folder.path("")), 2, "no regular file", "a pipe that nobody writes to");
    std::fs::remove_file(&list).expect("ours");

    let unsafe_folder = folder.path("open");
    std::fs::create_dir(&unsafe_folder).expect("ours");
    folder.write("open/list", LOOPBACK);
    mode(&unsafe_folder.join("list"), 0o644);
    mode(&unsafe_folder, 0o777);
    symlink("open/list", &list).expect("ours");
    assert_ends(&start(&folder.path("")), 2, "open", "a link into a folder that everybody can write");
    mode(&unsafe_folder, 0o755);
    mode(&unsafe_folder.join("list"), 0o666);
    assert_ends(&start(&folder.path("")), 2, "chmod go-w", "a link to a list that everybody can write");

    let mut daemon = Daemon::start();
    daemon.process.take().expect("running").end();
    daemon.allow_by_link(LOOPBACK);
    daemon.begin();
    let seen = daemon.scalectl(&["targets"]);
    assert!(String::from_utf8_lossy(&seen.stdout).contains("127.0.0.0/8"), "a safe link is followed");
}

#[test]
fn a_list_with_a_mistake_ends_the_start_and_says_where() {
    let (folder, list) = list();
    for (text, word) in [
        ("[[target]]\naddresses = []\n", "addresses is empty"),
        (
            "[[target]]\nhost = \"gw\"\naddresses = [\"10.0.0.0/8\"]\nusers = [\"no-such-user\"]\n",
            "no-such-user",
        ),
        ("[[target]]\nadresses = [\"10.0.0.0/8\"]\n", "adresses"),
        ("[[target]]\naddresses = [\"169.254.169.254/32\"]\n", "never hit"),
        ("not TOML", "targets.toml"),
    ] {
        std::fs::write(&list, text).expect("ours");
        assert_ends(&start(&folder.path("")), 2, word, text);
    }
    std::fs::write(&list, "#".repeat((1 << 20) + 1)).expect("ours");
    assert_ends(&start(&folder.path("")), 2, "larger than 1MiB", "a list without end");
}

#[test]
fn targets_shows_what_may_be_hit_how_much_by_whom_and_what_a_run_takes_of_it() {
    let text = format!(
        "{LOOPBACK}streams_max = 50\nconnects_per_second_max = 25\nbytes_per_second_max = \"1MB/s\"\n[[target]]\nhost = \"gw.example.com\"\naddresses = [\"192.0.2.0/24\"]\nports = [443]\nusers = [4242]\n[[coder]]\ndeployment_id = \"aa-1\"\nallow = [\"traffic\"]\n"
    );
    let daemon = with_list(&text);
    let sink = scale_tests::Sink::start(&["--protocol", "ws"]);
    let target = format!("ws://{}/", sink.address);
    crate::faults::start(&daemon, &["--conns", "5", "--target", &target, "--bytes-per-tick", "100"]);
    let output = daemon.scalectl(&["--json", "targets"]);
    let seen: scale_api::http::Targets = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((seen.list.len(), seen.coder[0].deployment_id.as_str()), (2, "aa-1"));
    let (first, second) = (&seen.list[0], &seen.list[1]);
    assert_eq!((first.streams_max, first.connects_per_second_max), (Some(50), Some(25.0)));
    assert_eq!((first.bytes_per_second_max, first.allowed), (Some(1_000_000), true));
    let used = first.used.expect("a run goes");
    assert_eq!((used.streams, used.bytes_per_second), (5, 5000.0));
    assert_eq!((second.used, second.users[0].as_str(), &second.ports[..]), (None, "4242", &[443][..]));
    let me = scale_ring::host::effective_uid();
    // Root and whoever keeps the list may use all of it; here that is the same one.
    assert!(second.allowed && seen.caller.as_ref().is_some_and(|caller| caller.uid == me));
    let table = String::from_utf8_lossy(&daemon.scalectl(&["targets"]).stdout).into_owned();
    for word in [
        "127.0.0.0/8",
        "25",
        "1.0 MB/s",
        "users 4242",
        "a run takes",
        "5.0 KB/s",
        "Coder deployment aa-1",
        "you are",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
    crate::faults::stop(&daemon);
}
