//! Who asks decides, by what the kernel says of him.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use scale_tests::host::{Folder, installed};
use scale_tests::{Daemon, Sink, program};

use super::{Forbidden, assert_ends, is_root, with_list};
use crate::SHORT;

/// `scalectl` as another user, who has a copy of it where he can read it.
struct Other<'a> {
    daemon: &'a Daemon,
    folder: Folder,
    uid: &'static str,
    groups: &'static str,
}

impl<'a> Other<'a> {
    fn new(daemon: &'a Daemon, uid: &'static str, groups: &'static str) -> Self {
        let folder = Folder::new();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
        };
        std::fs::copy(program("scalectl"), folder.path("scalectl")).expect("a copy");
        mode(&folder.path(""), 0o755);
        mode(&folder.path("scalectl"), 0o755);
        // As if he were of the group that may use the socket.
        mode(&daemon.socket(), 0o666);
        Self { daemon, folder, uid, groups }
    }

    fn scalectl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", self.uid, "--regid", self.uid]);
        if self.groups.is_empty() {
            command.arg("--clear-groups");
        } else {
            command.args(["--groups", self.groups]);
        }
        command.arg(self.folder.path("scalectl")).arg("--socket").arg(self.daemon.socket());
        command.args(arguments).current_dir("/").output().expect("setpriv runs")
    }
}

#[test]
fn another_user_may_hit_what_the_list_gives_him_and_his_name_stands_on_it() {
    if !is_root("another user") || installed("setpriv").is_none() {
        return;
    }
    let (ours, his, theirs) =
        (Forbidden::at("127.0.0.1"), Sink::start(&["--protocol", "ws"]), Sink::start(&["--protocol", "ws"]));
    let port = |address: &str| address.rsplit(':').next().expect("a port").to_owned();
    let rule = |port: &str, who: &str| {
        format!("[[target]]\nhost = \"127.0.0.1\"\naddresses = [\"127.0.0.1/32\"]\nports = [{port}]\n{who}\n")
    };
    let (his_port, their_port) = (port(&his.address), port(&theirs.address));
    let list = [
        rule(&ours.port.to_string(), "users = [\"root\"]"),
        rule(&his_port, "users = [\"nobody\"]\nstreams_max = 5"),
        rule(&their_port, "groups = [4343]"),
    ];
    let daemon = with_list(&list.concat());
    let nobody = Other::new(&daemon, "65534", "");
    let start = |other: &Other<'_>, port: &str, conns: &str| {
        let target = format!("ws://127.0.0.1:{port}/");
        other.scalectl(&[&["--json", "start", "--conns", conns, "--target", &target][..], &SHORT].concat())
    };
    let refused = start(&nobody, &ours.port.to_string(), "1");
    assert_ends(&refused, 3, "for users root, and you are nobody (uid 65534)", "somebody else's rule");
    assert_ends(&start(&nobody, &his_port, "6"), 3, "5 streams", "more than his rule has");
    assert_ends(&start(&nobody, &their_port, "1"), 3, "for groups 4343", "a group that he is not of");
    let ran = start(&nobody, &his_port, "5");
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    let last = text.lines().last().unwrap_or_else(|| panic!("{}", crate::error(&ran)));
    let report: scale_api::report::Report = serde_json::from_str(last).expect("a report");
    scale_tests::assert_ended_with(0, (ran.status.code().expect("a code"), &report));
    let by = report.run.started_by.expect("somebody started it");
    assert_eq!((by.uid, by.gid, by.user.as_deref()), (65534, 65534, Some("nobody")));
    assert!(by.pid > 0);
    let listed = String::from_utf8_lossy(&daemon.scalectl(&["runs"]).stdout).into_owned();
    assert!(listed.lines().last().is_some_and(|line| line.contains("nobody")), "{listed}");
    let shown = String::from_utf8_lossy(&daemon.scalectl(&["report"]).stdout).into_owned();
    assert!(shown.contains("(started by nobody)"), "{shown}");
    // Of the group 4343 by a supplementary group, as SO_PEERGROUPS says.
    drop(nobody);
    let member = Other::new(&daemon, "65534", "4242,4343");
    let ran = start(&member, &their_port, "1");
    assert_eq!(ran.status.code(), Some(0), "{}", crate::error(&ran));
    let seen = member.scalectl(&["--json", "targets"]);
    let seen: scale_api::http::Targets = serde_json::from_slice(&seen.stdout).expect("JSON");
    assert_eq!(seen.list.iter().map(|rule| rule.allowed).collect::<Vec<_>>(), [false, true, true]);
    ours.assert_nobody_came("another user");
}

#[test]
fn another_user_may_not_set_a_run_to_more_than_his_own_rules_let_him() {
    if !is_root("another user") || installed("setpriv").is_none() {
        return;
    }
    let sink = Sink::start(&["--protocol", "ws"]);
    let daemon =
        with_list("[[target]]\naddresses = [\"127.0.0.1/32\"]\nusers = [\"root\"]\nstreams_max = 20\n");
    let target = format!("ws://{}/", sink.address);
    crate::faults::start(&daemon, &["--conns", "5", "--target", &target]);
    let nobody = Other::new(&daemon, "65534", "");
    assert_ends(&nobody.scalectl(&["set", "--conns", "6"]), 3, "for users root", "a run of root's");
    assert!(daemon.scalectl(&["set", "--conns", "6"]).status.success());
    let (_, report) = crate::faults::stop(&daemon);
    assert_eq!(report.run.started_by.map(|by| by.uid), Some(0));
}
