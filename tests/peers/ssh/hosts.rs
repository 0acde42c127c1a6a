//! Which servers are believed.

use std::process::Command;

use scale_tests::Daemon;
use scale_tests::ssh::{Kind, Known, Server, Site};

use super::{Ended, FEW, PATIENT, assert_none_opened, few, spoken, to};
use crate::assert_every_byte_came_back;

/// A few streams of the site's user's, who believes `server` for what `belief` says.
fn believing(site: &Site, server: &Server, belief: &[&str]) -> Ended {
    let key = site.user_key(Kind::Ed25519).path;
    to(server, &[&["--ssh-identity", &key], &FEW[..], &PATIENT, belief].concat())
}

/// The kind of key by which a server has proved itself to a few streams, to which everything came back.
fn proved_by(site: &Site, server: &Server) -> String {
    let (code, report) = few(site, server, &[]);
    assert_every_byte_came_back("5", (code, &report));
    spoken(&report).negotiated[0].host_key.clone()
}

#[test]
fn each_kind_of_host_key_is_verified() {
    let Some(mut site) = Site::new() else { return };
    for kind in Kind::ALL {
        site.host_kinds = vec![kind];
        let servers = [site.openssh(""), site.dropbear(&[]), site.asyncssh(&[]), site.node(&[])];
        for server in servers.into_iter().flatten() {
            let of = proved_by(&site, &server);
            let names: &[&str] = match kind {
                Kind::Ed25519 => &["ssh-ed25519"],
                Kind::Ecdsa => &["ecdsa-sha2-nistp256"],
                Kind::Rsa => &["rsa-sha2-512", "rsa-sha2-256"],
            };
            assert!(names.contains(&of.as_str()), "{of} by a key of {kind:?}");
        }
    }
}

/// Of several the one that is known is asked for.
#[test]
fn a_server_with_several_keys_is_believed_for_the_one_that_is_known() {
    let Some(mut site) = Site::new() else { return };
    site.host_kinds = Kind::ALL.to_vec();
    let Some(mut server) = site.openssh("") else { return };
    server.host_keys.retain(|key| key.starts_with("ssh-rsa "));
    let of = proved_by(&site, &server);
    assert!(of.starts_with("rsa-sha2-"), "{of}");
}

#[test]
fn known_hosts_files_of_every_form_are_understood() {
    let Some(mut site) = Site::new() else { return };
    site.certified = true;
    for kind in Kind::ALL {
        site.host_kinds = vec![kind];
        let servers = [site.openssh(""), site.asyncssh(&[])];
        for server in servers.into_iter().flatten() {
            for known in [Known::Plain, Known::Hashed, Known::Authority] {
                let file = site.known_hosts(&server, known);
                let (code, report) = believing(&site, &server, &["--known-hosts", &file]);
                assert_every_byte_came_back("5", (code, &report));
            }
        }
    }
}

#[test]
fn hosts_that_are_revoked_changed_or_unknown_are_refused() {
    let Some(site) = Site::new() else { return };
    let Some(server) = site.openssh("") else { return };
    for known in [Known::Revoked, Known::Changed, Known::Others] {
        let file = site.known_hosts(&server, known);
        assert_none_opened("host_key_refused", &believing(&site, &server, &["--known-hosts", &file]));
    }
    // An authority's word is for the names in its certificate, and only while it is the authority.
    let Some(mut site) = Site::new() else { return };
    site.certified = true;
    let Some(server) = site.openssh("") else { return };
    let another = site.key("another_authority", Kind::Ed25519).public;
    let file = site.folder.write("another", &format!("@cert-authority * {another}\n"));
    assert_none_opened("host_key_refused", &believing(&site, &server, &["--known-hosts", &file]));
    let key = site.host_key(Kind::Ed25519);
    site.certify_host(&key, "elsewhere.example.com");
    site.certified = false; // its own would be made anew
    let settings = format!("HostCertificate {}-cert.pub", key.path);
    let Some(server) = site.openssh(&settings) else { return };
    let file = site.known_hosts(&server, Known::Authority);
    assert_none_opened("host_key_refused", &believing(&site, &server, &["--known-hosts", &file]));
}

#[test]
fn new_hosts_are_accepted_where_that_is_asked_for_and_held_to_it() {
    let Some(site) = Site::new() else { return };
    let Some(server) = site.openssh("") else { return };
    let (code, report) = believing(&site, &server, &["--accept-new"]);
    assert_every_byte_came_back("5", (code, &report));
    let [accepted] = &spoken(&report).accepted_host_keys[..] else { panic!("{:?}", report.ssh) };
    let printed = Command::new("ssh-keygen")
        .args(["-l", "-f", &format!("{}.pub", site.host_key(Kind::Ed25519).path)])
        .output()
        .expect("it starts");
    let printed = String::from_utf8(printed.stdout).expect("text");
    assert!(
        printed.contains(&accepted.key) && accepted.key.starts_with("SHA256:"),
        "{accepted:?}, {printed}"
    );
    // What is known otherwise is no new host.
    let file = site.known_hosts(&server, Known::Changed);
    assert_none_opened(
        "host_key_refused",
        &believing(&site, &server, &["--known-hosts", &file, "--accept-new"]),
    );
    let file = site.known_hosts(&server, Known::Revoked);
    assert_none_opened(
        "host_key_refused",
        &believing(&site, &server, &["--known-hosts", &file, "--accept-new"]),
    );
}

#[test]
fn any_host_is_believed_where_that_is_asked_for_and_the_report_says_so() {
    let Some(site) = Site::new() else { return };
    let Some(server) = site.openssh("") else { return };
    let (code, report) = believing(&site, &server, &["--insecure-host-keys"]);
    assert_every_byte_came_back("5", (code, &report));
    assert!(spoken(&report).insecure_host_keys);
    // It is said once for all who is believed.
    let output = Daemon::start().scalectl(&["start", "--conns", "1", "--target", &server.target()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("--known-hosts"), "{said}");
}
