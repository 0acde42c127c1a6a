//! Each server is what its tests say it is, by the word of OpenSSH's client.

use scale_tests::ssh::client::{Client, assert_echoes, assert_refused};
use scale_tests::ssh::{Kind, Known, Server, Site};

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
