//! Each server is what its tests say it is, by the word of OpenSSH's client.

use std::process::Command;

use scale_tests::host::installed;
use scale_tests::ssh::client::{Client, ECHO, assert_echoes, assert_refused};
use scale_tests::ssh::wrong::Wrong;
use scale_tests::ssh::{Kind, Known, PASSWORD, Server, Site, USER};

/// How a site starts a server with its defaults.
type Start = fn(&Site) -> Option<Server>;

const SERVERS: [Start; 5] = [
    |site| site.openssh(""),
    |site| site.dropbear(&[]),
    Site::tinyssh,
    |site| site.asyncssh(&[]),
    |site| site.node(&[]),
];

/// Everything back from `server` through a client with `options`.
fn echoes(site: &Site, server: &Server, options: &[&str]) {
    if let Some(client) = Client::new(site, server, options) {
        assert_echoes(client);
    }
}

fn refuses(site: &Site, server: &Server, options: &[&str], why: &str) {
    if let Some(client) = Client::new(site, server, options) {
        assert_refused(client, why);
    }
}

/// An option by which the client believes what `known` says, instead of the plain truth.
fn believing(site: &Site, server: &Server, known: Known) -> String {
    format!("UserKnownHostsFile={}", site.known_hosts(server, known))
}

#[test]
fn each_server_echoes_to_openssh() {
    let Some(site) = Site::new() else { return };
    for server in SERVERS.iter().filter_map(|start| start(&site)) {
        echoes(&site, &server, &[]);
        refuses(
            &site,
            &server,
            &[&believing(&site, &server, Known::Changed)],
            "Host key verification failed",
        );
    }
}

#[test]
fn each_server_that_has_several_kinds_of_keys_proves_itself_by_each_and_takes_each_of_a_users() {
    let Some(mut site) = Site::new() else { return };
    site.host_kinds = Kind::ALL.to_vec();
    let of_host = [
        "HostKeyAlgorithms=ssh-ed25519",
        "HostKeyAlgorithms=ecdsa-sha2-nistp256",
        "HostKeyAlgorithms=rsa-sha2-512,rsa-sha2-256",
    ];
    let with_several = SERVERS.iter().enumerate().filter(|(number, _)| *number != 2);
    for server in with_several.filter_map(|(_, start)| start(&site)) {
        for (host, kind) in of_host.into_iter().zip(Kind::ALL) {
            echoes(&site, &server, &[host, &format!("IdentityFile={}", site.user_key(kind).path)]);
        }
    }
}

#[test]
fn known_hosts_files_say_what_they_are_meant_to() {
    let Some(mut site) = Site::new() else { return };
    site.certified = true;
    for server in [site.openssh(""), site.asyncssh(&[])].into_iter().flatten() {
        for known in [Known::Plain, Known::Hashed, Known::Authority] {
            echoes(&site, &server, &[&believing(&site, &server, known)]);
        }
        for (known, why) in [(Known::Revoked, "REVOKED"), (Known::Others, "No ED25519")] {
            refuses(&site, &server, &[&believing(&site, &server, known)], why);
        }
    }
}

#[test]
fn servers_take_the_passwords_that_they_are_meant_to() {
    let Some(site) = Site::new() else { return };
    let right = |flag| [flag, PASSWORD];
    let with = [
        ("password", site.openssh("")),
        ("password", site.dropbear(&[])),
        ("password", site.asyncssh(&right("--password"))),
        ("keyboard-interactive", site.asyncssh(&right("--keyboard"))),
        ("password", site.node(&right("--password"))),
        ("keyboard-interactive", site.node(&right("--keyboard"))),
    ];
    for (method, server) in with {
        let Some(client) = server.as_ref().and_then(|server| Client::by_password(&site, server, method))
        else {
            return;
        };
        assert_echoes(client);
    }
    for server in [site.asyncssh(&["--keyboard", "another"]), site.node(&["--password", "another"])] {
        for method in ["password", "keyboard-interactive"] {
            let Some(client) = server.as_ref().and_then(|server| Client::by_password(&site, server, method))
            else {
                return;
            };
            assert_refused(client, "Permission denied");
        }
    }
}

#[test]
fn servers_take_certificates_of_their_authority_alone() {
    let Some(site) = Site::new() else { return };
    let authority = site.authority("users");
    let line = format!("cert-authority {}\n", authority.public);
    let (authorities, trusted) = (site.folder.write("authorities", &line), format!("{}.pub", authority.path));
    for server in [
        site.openssh(&format!("TrustedUserCAKeys {trusted}")),
        site.asyncssh(&["--authorized", &authorities]),
    ]
    .into_iter()
    .flatten()
    {
        for kind in Kind::ALL {
            let key = site.key("certified", kind);
            let identity = format!("IdentityFile={}", key.path);
            for (principal, validity, lets_in) in [
                (USER, "always:forever", true),
                ("somebody", "always:forever", false),
                (USER, "20200101:20200201", false),
            ] {
                let certificate = format!("CertificateFile={}", site.certify_user(&key, principal, validity));
                let options = [identity.as_str(), certificate.as_str()];
                if lets_in {
                    echoes(&site, &server, &options);
                } else {
                    refuses(&site, &server, &options, "Permission denied");
                }
            }
        }
    }
}

#[test]
fn servers_exchange_keys_as_often_as_they_are_told_to() {
    let Some(site) = Site::new() else { return };
    let servers = [
        (site.openssh("RekeyLimit 16K"), 4),
        (site.asyncssh(&["--rekey-bytes", "30000"]), 4),
        // By time, of which a quiet host takes little.
        (site.node(&["--rekey-ms", "20"]), 2),
    ];
    for (server, least) in servers {
        let Some(server) = server else { return };
        echoes(&site, &server, &[]);
        let Some(client) = Client::new(&site, &server, &["LogLevel=DEBUG2"]) else { return };
        let output = client.run(ECHO, &[7; 2_000_000]);
        let said = String::from_utf8_lossy(&output.stderr);
        let exchanges = said.matches("SSH2_MSG_NEWKEYS received").count();
        assert!(output.status.success() && exchanges >= least, "{exchanges} exchanges: {said}");
    }
}

#[test]
fn commands_end_as_they_are_told_to() {
    let Some(site) = Site::new() else { return };
    let exits = ["--after", "10", "--exit-code", "3"];
    for (server, command) in [
        (site.openssh(""), "exit 3"),
        (site.dropbear(&[]), "exit 3"),
        (site.tinyssh(), "exit 3"),
        (site.asyncssh(&[]), "exit 3"),
        (site.asyncssh(&exits), ECHO),
    ] {
        let Some(client) = server.as_ref().and_then(|server| Client::new(&site, server, &[])) else { return };
        assert_eq!(client.run(command, b"more than ten").status.code(), Some(3));
    }
    for (server, why) in [
        (site.openssh("MaxSessions 0"), "open failed"),
        (site.asyncssh(&["--after", "10", "--disconnect", "12"]), ":12: "),
        (site.node(&["--refuse", "channel"]), "open failed"),
        (site.node(&["--refuse", "command"]), "exec request failed"),
    ] {
        let Some(client) = server.as_ref().and_then(|server| Client::new(&site, server, &[])) else { return };
        let output = client.run(ECHO, b"more than ten");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{why}: {said}");
    }
}

#[test]
fn windows_and_packets_are_as_small_as_servers_are_told_to_make_them() {
    let Some(site) = Site::new() else { return };
    for (arguments, said) in [
        (["--window", "1", "--max-packet", "1000"], "rwindow 1 rmax 1000"),
        (["--window", "0", "--max-packet", "1000"], "rwindow 0 rmax 1000"),
    ] {
        let Some(server) = site.asyncssh(&arguments) else { return };
        let Some(client) = Client::new(&site, &server, &["LogLevel=DEBUG2"]) else { return };
        // Nothing is sent: it would wait for a window for ever.
        let output = client.run("exit 0", b"");
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{output:?}");
    }
}

#[test]
fn what_is_wrong_with_a_server_is_seen_by_openssh() {
    let Some(program) = installed("ssh") else { return };
    for (wrong, why) in [
        (Wrong::Drops, "Connection closed by remote host"),
        (Wrong::DropsWith("Exceeded MaxStartups\r\n"), "Exceeded MaxStartups"),
        (Wrong::Garbage, "banner line contains invalid characters"),
        (Wrong::EndlessLine, "banner line too long"),
        (Wrong::EndlessGreeting, "No SSH version received in first 1024 lines"),
        (Wrong::NothingInCommon, "no matching key exchange method found. Their offer: what-only-we-have"),
        (Wrong::Disconnects(12), ":12: Too many of you."),
        (Wrong::HugePacket, "Bad packet length 4294967295"),
        (Wrong::PaddingBeyond, "incomplete message"),
        (Wrong::Silent, "timed out during banner exchange"),
    ] {
        let address = wrong.serve();
        let port = address.rsplit(':').next().expect("a port");
        let output = Command::new(&program)
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=1", "-o", "LogLevel=DEBUG1"])
            .args(["-o", "StrictHostKeyChecking=no", "-p", port, "127.0.0.1", "true"])
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(255) && said.contains(why), "{wrong:?}: {said}");
    }
}
