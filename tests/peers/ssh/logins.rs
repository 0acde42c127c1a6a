//! Who is let in, and by what.

use scale_tests::Daemon;
use scale_tests::ssh::{Kind, Known, PASSWORD, Server, Site, USER};

use super::{FEW, PATIENT, assert_none_opened, lets_in, to_known};
use crate::assert_every_byte_came_back;

fn identity(path: &str) -> [&str; 2] {
    ["--ssh-identity", path]
}

/// A few streams are not let in with `login`.
fn keeps_out(site: &Site, server: &Server, login: &[&str]) {
    assert_none_opened("auth_failed", &to_known(site, server, &[&FEW, &PATIENT[..], login].concat()));
}

#[test]
fn each_server_lets_each_kind_of_key_in_and_no_other() {
    let Some(site) = Site::new() else { return };
    for server in
        [site.openssh(""), site.dropbear(&[]), site.asyncssh(&[]), site.node(&[])].into_iter().flatten()
    {
        for kind in Kind::ALL {
            lets_in(&site, &server, &identity(&site.user_key(kind).path));
        }
        // The second of two keys is tried where the first is not taken.
        let stranger = site.key("stranger", Kind::Ed25519);
        keeps_out(&site, &server, &identity(&stranger.path));
        let right = site.user_key(Kind::Ecdsa);
        lets_in(&site, &server, &[identity(&stranger.path), identity(&right.path)].concat());
    }
    let Some(server) = site.tinyssh() else { return };
    lets_in(&site, &server, &identity(&site.user_key(Kind::Ed25519).path));
    keeps_out(&site, &server, &identity(&site.key("stranger", Kind::Ed25519).path));
}

#[test]
fn encrypted_keys_are_opened_with_their_passphrase_alone() {
    let Some(site) = Site::new() else { return };
    let Some(server) = site.openssh("") else { return };
    let right = site.folder.write("passphrase", "of a test\n");
    for kind in Kind::ALL {
        let key = site.encrypted(kind, "of a test");
        lets_in(&site, &server, &[&identity(&key)[..], &["--ssh-passphrase-file", &right]].concat());
    }
    let key = site.encrypted(Kind::Ed25519, "of another test");
    let target = server.target();
    let daemon = Daemon::start();
    let start = ["start", "--conns", "1", "--target", &target, "--accept-new", "--ssh-identity", &key];
    for more in [&[][..], &["--ssh-passphrase-file", &right]] {
        let output = daemon.scalectl(&[&start, more].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("--ssh-passphrase-file"), "{said}");
    }
}

#[test]
fn certificates_let_in_whom_their_authority_names() {
    let Some(site) = Site::new() else { return };
    let authority = site.authority("users");
    let line = format!("cert-authority {}\n", authority.public);
    let authorities = site.folder.write("authorities", &line);
    let servers = [
        site.openssh(&format!("TrustedUserCAKeys {}.pub", authority.path)),
        site.asyncssh(&["--authorized", &authorities]),
    ];
    for server in servers.into_iter().flatten() {
        for kind in Kind::ALL {
            let key = site.key("certified", kind);
            let certificate = site.certify_user(&key, USER, "always:forever");
            let login = [&identity(&key.path)[..], &["--ssh-certificate", &certificate]].concat();
            lets_in(&site, &server, &login);
            keeps_out(&site, &server, &identity(&key.path));
            site.certify_user(&key, "somebody", "always:forever");
            keeps_out(&site, &server, &login);
        }
    }
}

#[test]
fn passwords_are_said_as_servers_ask_for_them() {
    let Some(site) = Site::new() else { return };
    let (right, wrong) =
        (site.folder.write("right", &format!("{PASSWORD}\n")), site.folder.write("wrong", "x\n"));
    let servers = [
        site.openssh(""),
        site.dropbear(&[]),
        site.asyncssh(&["--password", PASSWORD]),
        site.asyncssh(&["--keyboard", PASSWORD]),
        site.node(&["--password", PASSWORD]),
        site.node(&["--keyboard", PASSWORD]),
    ];
    for server in servers.into_iter().flatten() {
        lets_in(&site, &server, &["--ssh-password-file", &right]);
        keeps_out(&site, &server, &["--ssh-password-file", &wrong]);
    }
}

#[test]
fn a_server_that_wants_a_key_and_a_password_gets_both() {
    let Some(site) = Site::new() else { return };
    let Some(server) = site.openssh("AuthenticationMethods publickey,password") else { return };
    let password = site.folder.write("right", &format!("{PASSWORD}\n"));
    let key = site.user_key(Kind::Ed25519).path;
    lets_in(&site, &server, &[&identity(&key)[..], &["--ssh-password-file", &password]].concat());
    keeps_out(&site, &server, &identity(&key));
    keeps_out(&site, &server, &["--ssh-password-file", &password]);
}

#[test]
fn a_server_that_lets_anyone_in_is_entered_without_a_proof() {
    let Some(site) = Site::new() else { return };
    let servers = [site.asyncssh(&["--anyone"]), site.node(&["--anyone"])];
    for server in servers.into_iter().flatten() {
        lets_in(&site, &server, &[]);
    }
    let Some(server) = site.openssh("") else { return };
    keeps_out(&site, &server, &[]);
}

#[test]
fn each_row_has_its_own_user_and_key() {
    let Some(site) = Site::new() else { return };
    let Some(server) = site.openssh("LogLevel VERBOSE") else { return };
    let key = |kind| site.user_key(kind).path;
    let rows = format!(
        "user,key\n{USER},{}\n{USER},{}\nroot,{}\n",
        key(Kind::Rsa),
        key(Kind::Ecdsa),
        key(Kind::Ed25519)
    );
    let rows = site.folder.write("rows.csv", &rows);
    let target = format!("ssh://{{user}}@127.0.0.1:{}", server.port());
    let known = site.known_hosts(&server, Known::Plain);
    let arguments = ["--conns", "3", "--target", &target, "--rows", &rows, "--ssh-identity", "{key}"];
    let more = ["--known-hosts", &known, "--warm-up", "0s", "--duration", "1s"];
    let (code, report) = Daemon::start().run(&[&arguments[..], &more, &PATIENT].concat());
    assert_every_byte_came_back("3", (code, &report));
    let said = server.peer.said();
    for accepted in [
        format!("Accepted publickey for {USER} from 127.0.0.1"),
        "Accepted publickey for root from 127.0.0.1".to_owned(),
        "RSA SHA256:".to_owned(),
        "ECDSA SHA256:".to_owned(),
    ] {
        assert!(said.contains(&accepted), "{accepted}: {said}");
    }
}
