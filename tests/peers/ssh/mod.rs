//! SSH streams against servers by others. What a server is told to be it is: OpenSSH's client says so first.

mod bytes;
mod hosts;
mod logins;
mod proof;
mod sessions;
mod troubles;

use scale_api::report::{Report, Ssh};
use scale_tests::Daemon;
use scale_tests::ssh::{Kind, Known, Server, Site};

use crate::assert_every_byte_came_back;

const CONNS: &str = "20";
/// Long limits: a busy machine is late, and still right. Streams that are slow to be let in are no matter here.
/// Dropbear drops who comes while five are logging in.
const PATIENT: [&str; 10] = [
    "--concurrency",
    "3",
    "--verify",
    "--drain",
    "30s",
    "--connect-timeout",
    "60s",
    "--ramp=300ms",
    "--threshold",
    "load.delivered_ratio > 10%",
];
/// A few streams, for long enough to know that they are there.
const FEW: [&str; 8] = ["--conns", "5", "--tick-interval", "200ms", "--warm-up", "2s", "--duration", "600ms"];

/// A run's exit code and report.
type Ended = (i32, Report);

/// Streams of whoever to `server`.
fn to(server: &Server, arguments: &[&str]) -> Ended {
    Daemon::start().run(&[&["--target", &server.target()], arguments].concat())
}

/// Streams to `server`, which is known.
fn to_known(site: &Site, server: &Server, arguments: &[&str]) -> Ended {
    let known = site.known_hosts(server, Known::Plain);
    to(server, &[&["--known-hosts", &known], arguments].concat())
}

/// Streams of the site's user, by the key, to `server`, which is known.
fn as_user(site: &Site, server: &Server, arguments: &[&str]) -> Ended {
    let key = site.user_key(Kind::Ed25519).path;
    to_known(site, server, &[&["--ssh-identity", &key], arguments].concat())
}

/// Twenty streams of the site's user's, ten messages a second each, for seconds that a busy machine needs to open them:
/// everything comes back.
fn echoes(site: &Site, server: &Server, more: &[&str]) -> Report {
    let load = ["--conns", CONNS, "--rate", "40KB/s", "--warm-up", "2s", "--duration", "2s"];
    let (code, report) = as_user(site, server, &[&load, &PATIENT[..], more].concat());
    assert_every_byte_came_back(CONNS, (code, &report));
    report
}

/// A few streams log in with `login`, and everything comes back.
fn lets_in(site: &Site, server: &Server, login: &[&str]) -> Report {
    let (code, report) = to_known(site, server, &[&FEW, &PATIENT[..], login].concat());
    assert_every_byte_came_back("5", (code, &report));
    report
}

/// A few streams of the site's user's.
fn few(site: &Site, server: &Server, more: &[&str]) -> Ended {
    as_user(site, server, &[&FEW, &PATIENT[..], more].concat())
}

/// None of [`FEW`] was opened, each for `class`.
fn assert_none_opened(class: &str, (code, report): &Ended) {
    let load = &report.load;
    assert_eq!(load.connect_failures, [(class.to_owned(), 5)].into(), "{:?}", report.verdict);
    assert_eq!((*code, load.streams_opened, load.messages_sent), (99, 0, 0), "{:?}", report.verdict);
}

/// What the report says of SSH.
fn spoken(report: &Report) -> &Ssh {
    report.ssh.as_ref().expect("SSH was spoken")
}
