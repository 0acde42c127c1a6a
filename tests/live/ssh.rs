//! SSH servers, and what lies before them, that do what no honest one does: each has its class.

use std::collections::BTreeMap;

use scale_api::report::Report;
use scale_tests::host::Folder;
use scale_tests::ssh::wrong::{Between, Wrong};
use scale_tests::{Daemon, Sink};

const CONNS: u64 = 5;

/// A few streams to `address`; what they were lost for, whether they were open or not.
fn lost(daemon: &Daemon, address: &str, more: &[&str]) -> (i32, Report, BTreeMap<String, u64>) {
    let target = format!("ssh://somebody@{address}");
    let own = ["--conns", "5", "--target", &target, "--insecure-host-keys", "--rate", "40KB/s", "--verify"];
    let time = ["--ramp", "100ms", "--warm-up", "0s", "--duration", "2s", "--drain", "2s"];
    let (code, report) = daemon.run(&[&own[..], &time, more].concat());
    let mut all = report.load.connect_failures.clone();
    report.load.disconnects.iter().for_each(|(class, n)| *all.entry(class.clone()).or_default() += n);
    (code, report, all)
}

fn each(class: &str) -> BTreeMap<String, u64> {
    [(class.to_owned(), CONNS)].into()
}

#[test]
fn each_wrong_ssh_server_has_its_class() {
    let daemon = Daemon::start();
    for (wrong, class) in [
        (Wrong::DropsWith("SSH-1.5-of_old\r\n"), "ssh_protocol"),
        (Wrong::Garbage, "ssh_protocol"),
        (Wrong::EndlessLine, "ssh_protocol"),
        (Wrong::EndlessGreeting, "ssh_protocol"),
        (Wrong::HugePacket, "ssh_protocol"),
        (Wrong::PaddingBeyond, "ssh_protocol"),
        (Wrong::NothingInCommon, "kex_failed"),
        (Wrong::Disconnects(2), "disconnected_2"),
        (Wrong::Disconnects(12), "disconnected_12"),
        (Wrong::Disconnects(1000), "disconnected_other"),
    ] {
        let (code, report, found) = lost(&daemon, &wrong.serve(), &[]);
        assert_eq!((code, report.load.streams_opened), (99, 0), "{wrong:?}");
        assert_eq!(report.load.connect_failures, each(class), "{wrong:?}: {found:?}");
    }
}

/// A server that is too busy to greet is asked again, later each time.
#[test]
fn ssh_servers_that_drop_before_their_banner_are_asked_again_and_less_often() {
    let daemon = Daemon::start();
    for drop in [
        Wrong::Drops,
        Wrong::DropsWith("Exceeded MaxStartups\r\n"),
        Wrong::DropsWith("Not allowed at this time\r\n"),
    ] {
        let (code, report, found) = lost(&daemon, &drop.serve(), &[]);
        assert_eq!((code, report.load.streams_opened), (99, 0), "{drop:?}");
        let drops = found.get("dropped_before_banner").copied().unwrap_or_default();
        assert!(found.len() == 1 && (2 * CONNS..8 * CONNS).contains(&drops), "{drop:?}: {found:?}");
    }
}

#[test]
fn an_ssh_server_that_stalls_before_there_are_keys_is_given_up() {
    let daemon = Daemon::start();
    for wrong in [Wrong::Silent, Wrong::StallsAfterBanner, Wrong::StallsInKeyExchange] {
        let (code, report, found) = lost(&daemon, &wrong.serve(), &["--connect-timeout", "500ms"]);
        assert_eq!((code, report.load.streams_opened), (99, 0), "{wrong:?}");
        assert_eq!(found, each("timeout"), "{wrong:?}");
        // It says how far it came.
        let banners = report.latency.banner.map_or(0, |figure| figure.count);
        assert_eq!(banners, if matches!(wrong, Wrong::Silent) { 0 } else { CONNS }, "{wrong:?}");
    }
}

/// The handshake passes unharmed: what is done to the bytes is done to a stream under way.
#[test]
fn packets_that_are_damaged_repeated_or_cut_on_their_way_end_the_stream() {
    let daemon = Daemon::start();
    for cipher in ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr"] {
        let sink = Sink::start(&["--protocol", "ssh"]);
        let port = sink.address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let ciphers = ["--ssh-ciphers", cipher];
        let (code, report, found) = lost(&daemon, &sink.address, &ciphers);
        assert!([0, 6].contains(&code) && found.is_empty(), "{found:?}");
        assert_eq!((report.load.verify_failures, report.load.streams_opened), (0, CONNS));
        for (between, class) in [
            (Between::Flips(20_000), "ssh_tampered"),
            (Between::Repeats(20_000, 64), "ssh_tampered"),
            (Between::Cuts(20_000), "closed"),
        ] {
            let (code, report, found) = lost(&daemon, &between.serve(port), &ciphers);
            assert_eq!((code, report.load.streams_opened), (99, CONNS), "{between:?} by {cipher}");
            assert_eq!(found, each(class), "{between:?} by {cipher}");
            assert_eq!(report.load.verify_failures, 0, "nothing false was believed");
        }
    }
}

#[test]
fn each_row_logs_in_by_files_of_its_own_and_a_missing_one_is_named() {
    let (daemon, server) = (Daemon::start(), Sink::start(&["--protocol", "ssh"]));
    let folder = Folder::new();
    folder.write("rows.csv", "user\nann\nbob\n");
    folder.write("password-ann", "canary-a\n");
    let target = format!("target = ['ssh://{{user}}@{}']\n", server.address);
    let rest = "rows = 'rows.csv'\nssh_password_file = 'password-{user}'\naccept_new = true\nverify = true\n\
        conns = 4\nwarm_up = '1s'\nduration = '1s'\n";
    let file = folder.write("run.toml", &format!("[[group]]\n{target}{rest}"));
    let refused = daemon.scalectl(&["start", "--file", &file]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && error.contains("password-bob"), "{error}");
    folder.write("password-bob", "canary-b\n");
    let (code, report) = daemon.run(&["--file", &file]);
    assert_eq!((code, report.load.streams_opened), (0, 4), "{:?}", report.verdict);
    let kept = serde_json::to_string(&report).expect("plain words");
    assert!(!kept.contains("canary") && !kept.contains("63616e617279"));
    assert_eq!(report.ssh.expect("a run of SSH").accepted_host_keys.len(), 1);
}
