//! Plans of SSH streams.

use scale_api::spec::File;
use scale_proto::coder::Echo;
use scale_proto::ssh::keys::HostKeys;
use scale_proto::ssh::{Credential, Program, Purpose};

use super::*;
use crate::load::{Protocol, SshEndpoint};

fn ssh(change: impl FnOnce(&mut GroupSpec)) -> Result<Plan, Problem> {
    plan(|group| {
        group.target = vec!["ssh://ann@127.0.0.1:2222".into()];
        group.accept_new = true;
        change(group);
    })
}

fn why(change: impl FnOnce(&mut GroupSpec)) -> String {
    ssh(change).expect_err("a mistake").detail
}

fn first(plan: &Plan) -> &SshEndpoint {
    plan.endpoints[0].ssh.as_deref().expect("a row of SSH")
}

/// What the first row's streams run.
fn command(change: impl FnOnce(&mut GroupSpec)) -> String {
    match &*first(&ssh(change).unwrap()).purpose {
        Purpose::Session { program: Program::Exec(command), .. } => command.clone(),
        other => panic!("{other:?}"),
    }
}

/// A file of the keys for tests.
fn fixture(name: &str) -> File {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/fixtures/ssh/");
    File::read(name, std::fs::read(format!("{folder}{name}")).expect("it is there"))
}

fn rows(text: &str) -> Option<File> {
    Some(File::read("rows.csv", text))
}

#[test]
fn without_a_command_dd_does_what_the_traffic_asks_for() {
    assert_eq!(command(|_| {}), "dd if=/dev/stdin of=/dev/stdout bs=4096 status=none");
    let bytes = |group: &mut GroupSpec| group.bytes_per_tick = Some(scale_api::units::Bytes(128));
    assert_eq!(command(bytes), "dd if=/dev/stdin of=/dev/stdout bs=128 status=none");
    let discard = |group: &mut GroupSpec| group.traffic = spec::Traffic::Discard;
    assert_eq!(command(discard), "dd if=/dev/stdin of=/dev/null bs=4096 status=none");
    let receive = |group: &mut GroupSpec| group.traffic = spec::Traffic::Receive;
    assert!(command(receive).starts_with("dd if=/dev/urandom of=/dev/stdout bs="));
    assert_eq!(command(|group| group.ssh_command = Some("cat".into())), "cat");
    let in_url = |group: &mut GroupSpec| group.target = vec!["ssh://ann@127.0.0.1/exec%20cat".into()];
    assert_eq!(command(in_url), "exec cat");
    let large = |group: &mut GroupSpec| group.bytes_per_tick = Some(scale_api::units::Bytes(16 << 20));
    assert!(command(large).contains("bs=65536"), "a server's memory is not ours to take");
}

#[test]
fn a_terminal_echoes_as_the_kernel_does_and_a_shell_reads_comments() {
    let payload = |change: fn(&mut GroupSpec)| {
        let plan = ssh(change).unwrap();
        let payload = plan.groups[0].payload.clone();
        let mut bytes = vec![0; 64];
        payload.write(0, 64, 0, &mut bytes);
        (bytes, payload.echo_bytes(64))
    };
    let (line, echo) = payload(|group| group.ssh_pty = true);
    assert_eq!((line.last(), echo), (Some(&b'\n'), 65));
    assert_eq!(Echo::Cooked.bytes(&line), Some(65));
    let (comment, echo) = payload(|group| group.ssh_shell = true);
    assert_eq!((comment.first(), comment.last(), echo), (Some(&b'#'), Some(&b'\n'), 64));
    let (comment, echo) = payload(|group| (group.ssh_pty, group.ssh_shell) = (true, true));
    assert_eq!((comment.first(), echo), (Some(&b'#'), 65));
    let plan = ssh(|group| group.ssh_pty = true).unwrap();
    let Purpose::Session { pty: Some(pty), program: Program::Exec(command), .. } = &*first(&plan).purpose
    else {
        panic!("{:?}", first(&plan).purpose)
    };
    assert_eq!((pty.term.as_str(), pty.columns, pty.rows), ("xterm", 80, 25));
    assert_eq!(command, "dd if=/dev/stdin of=/dev/null bs=4096 status=none");
    let plan = ssh(|group| group.ssh_shell = true).unwrap();
    assert!(matches!(&*first(&plan).purpose, Purpose::Session { pty: None, program: Program::Shell, .. }));
    assert!(plan.summary.warnings[0].contains("--traffic discard"), "{:?}", plan.summary.warnings);
}

#[test]
fn a_forward_is_tcp_through_the_server() {
    let plan = ssh(|group| group.ssh_forward = Some("[fe80::1]:80".into())).unwrap();
    assert_eq!(*first(&plan).purpose, Purpose::Forward { host: "fe80::1".into(), port: 80 });
    assert_eq!(plan.endpoints[0].protocol, Protocol::Ssh);
}

#[test]
fn who_logs_in_has_keys_in_order_and_then_a_password() {
    let plan = ssh(|group| {
        group.ssh_identity = vec![fixture("ecdsa_PEM"), fixture("ed25519"), fixture("rsa2048")];
        group.ssh_certificate = Some(fixture("user_ed25519-cert.pub"));
        group.ssh_password_file = Some(File::read("pw", *b"canary \n"));
        group.ssh_env = vec!["A=b=c".into()];
    });
    let plan = plan.unwrap();
    let row = first(&plan);
    assert_eq!((&*row.host, row.port, row.login.user.as_str()), ("127.0.0.1", 2222, "ann"));
    let [
        Credential::Key { certificate: None, .. },
        Credential::Key { certificate: Some(_), .. },
        Credential::Key { certificate: None, .. },
        Credential::Password(password),
    ] = &row.login.credentials[..]
    else {
        panic!("{:?}", row.login.credentials)
    };
    assert_eq!(password.expose(), b"canary ");
    assert!(!format!("{plan:?}").contains("canary"));
    let Purpose::Session { environment, .. } = &*row.purpose else { panic!("a session") };
    assert_eq!(environment[..], [("A".to_owned(), "b=c".to_owned())]);
}

#[test]
fn an_encrypted_key_needs_its_passphrase() {
    let opened = |passphrase: Option<&[u8]>| {
        ssh(|group| {
            group.ssh_identity = vec![fixture("ed25519_ctr")];
            group.ssh_passphrase_file = passphrase.map(|text| File::read("pp", text));
        })
        .map(|plan| first(&plan).login.credentials.len())
        .map_err(|problem| problem.detail)
    };
    assert_eq!(opened(Some(b"correct-horse\n")), Ok(1));
    let without = opened(None).unwrap_err();
    assert!(without.starts_with("--ssh-identity ed25519_ctr:") && without.contains("--ssh-passphrase-file"));
    assert!(opened(Some(b"wrong")).unwrap_err().contains("does not open"));
}

#[test]
fn what_cannot_log_in_is_refused_before_anything_is_sent() {
    assert!(why(|group| group.target = vec!["ssh://127.0.0.1".into()]).contains("ssh://user@127.0.0.1"));
    assert!(why(|group| group.ssh_identity = vec![File::new("id")]).contains("send the file's content"));
    assert!(why(|group| group.ssh_identity = vec![File::read("id", *b"x")]).contains("--ssh-identity id:"));
    let other = why(|group| {
        group.ssh_identity = vec![fixture("ed25519")];
        group.ssh_certificate = Some(fixture("user_rsa-cert.pub"));
    });
    assert!(other.contains("--ssh-certificate user_rsa-cert.pub:"), "{other}");
    let expired = why(|group| {
        group.ssh_identity = vec![fixture("ecdsa")];
        group.ssh_certificate = Some(fixture("user_ecdsa-cert.pub"));
    });
    assert!(expired.contains("expired"), "{expired}");
    assert!(why(|group| group.ssh_password_file = Some(File::read("pw", *b""))).contains("one line"));
    let cipher = why(|group| group.ssh_ciphers = vec!["3des-cbc".into()]);
    assert!(cipher.contains("3des-cbc") && cipher.contains("chacha20-poly1305@openssh.com"), "{cipher}");
    assert!(why(|group| group.ssh_kex = vec!["x".into()]).contains("curve25519-sha256"));
    let refused = ssh(|group| group.target = vec!["ssh://ann@far".into()]).unwrap_err();
    assert_eq!(refused.code, ProblemCode::TargetRefused);
}

#[test]
fn algorithms_and_host_keys_are_as_asked_for() {
    let config = |change: fn(&mut GroupSpec)| ssh(change).unwrap().groups[0].ssh.clone().unwrap().config;
    let plain = config(|_| {});
    assert_eq!(plain.algorithms, scale_proto::ssh::Algorithms::default());
    assert!(matches!(plain.host_keys, HostKeys::AcceptNew(_)));
    let chosen = config(|group| {
        group.ssh_ciphers = vec!["aes256-ctr".into(), "aes128-gcm@openssh.com".into()];
        group.ssh_kex = vec!["mlkem768x25519-sha256".into()];
        group.accept_new = false;
        group.known_hosts = Some(fixture("known_hosts_hashed"));
    });
    assert_eq!(chosen.algorithms.ciphers, ["aes256-ctr", "aes128-gcm@openssh.com"]);
    assert_eq!(chosen.algorithms.kex, ["mlkem768x25519-sha256"]);
    assert!(matches!(chosen.host_keys, HostKeys::Known(_)));
    let plan = ssh(|group| (group.accept_new, group.insecure_host_keys) = (false, true)).unwrap();
    assert!(plan.summary.warnings[0].contains("HOST KEYS ARE NOT VERIFIED"), "{:?}", plan.summary.warnings);
    let ssh = plan.groups[0].ssh.as_ref().unwrap();
    assert!(matches!(ssh.config.host_keys, HostKeys::Any) && !ssh.hang_up);
}

#[test]
fn rows_log_in_as_themselves() {
    let key = |name: &str| (format!("keys/{name}"), fixture(name).content.unwrap());
    let plan = ssh(|group| {
        group.conns = Some(4);
        group.target = vec!["ssh://{user}@{host}.example:2222".into()];
        group.connect_to = Some("two:7".into());
        group.rows = rows("user,host,key,word\nann,a,ed25519,x y\nbob,b,ecdsa,z\nann,c,ed25519,z\n");
        group.ssh_identity =
            vec![File { by_row: [key("ed25519"), key("ecdsa")].into(), ..File::new("keys/{key}") }];
        group.ssh_command = Some("awk '{print}' {word} {n}".into());
    });
    let plan = plan.unwrap();
    let row = |number: usize| plan.endpoints[number].ssh.as_deref().unwrap();
    let all: Vec<_> = (0..4).map(|n| format!("{}@{}", row(n).login.user, row(n).host)).collect();
    assert_eq!(all, ["ann@a.example", "bob@b.example", "ann@c.example", "ann@a.example"]);
    assert!(Arc::ptr_eq(&row(0).login, &row(2).login), "one login for the same user and key");
    let Purpose::Session { program: Program::Exec(command), .. } = &*row(3).purpose else {
        panic!("a session")
    };
    assert_eq!(command, "awk '{print}' x y 3");
    let missing = why(|group| {
        group.rows = rows("user\nann\n");
        group.ssh_identity = vec![File::new("keys/{user}")];
    });
    assert!(missing.contains("keys/ann: send the content"), "{missing}");
    let unknown = why(|group| {
        group.target = vec!["ssh://{usr}@127.0.0.1".into()];
        group.rows = rows("user\nann\n");
    });
    assert!(unknown.contains("{usr} is no column"), "{unknown}");
    let nobody = why(|group| {
        group.target = vec!["ssh://{user}@127.0.0.1".into()];
        group.rows = rows("user,x\n\"\",x\n");
    });
    assert!(nobody.contains("each row needs a name"), "{nobody}");
}

#[test]
fn each_host_of_the_rows_is_resolved_and_judged_by_the_list() {
    let hosts = |text: &str| {
        ssh(|group| {
            group.conns = Some(3);
            group.target = vec!["ssh://ann@{host}:2222".into()];
            group.rows = rows(text);
        })
    };
    let plan = hosts("host\ntwo\n127.0.0.9\n").unwrap();
    let row = |number: usize| {
        let endpoint = &plan.endpoints[number];
        let known_as = &endpoint.ssh.as_ref().unwrap().host;
        (known_as.to_string(), plan.addresses[endpoint.addresses as usize].len())
    };
    assert_eq!([row(0), row(1), row(2)], [("two".into(), 2), ("127.0.0.9".into(), 1), ("two".into(), 2)]);
    let names = plan.places.iter().map(|place| (place.host.clone(), place.port, place.demand.streams));
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, [("127.0.0.9".to_owned(), 2222, 1), ("two".to_owned(), 2222, 2)], "with their streams");
    assert_eq!(hosts("host\ntwo\nfar\n").unwrap_err().code, ProblemCode::TargetRefused);
    assert!(hosts("host\nnowhere\n").unwrap_err().detail.contains("does not resolve"));
    assert!(hosts("host\na b\n").unwrap_err().detail.contains("no host name"));
}

#[test]
fn channels_share_connections_within_their_worker_and_row() {
    let shared = |conns: u64, channels: u32| {
        let plan = ssh(|group| (group.conns, group.channels_per_connection) = (Some(conns), Some(channels)));
        let plan = plan.unwrap();
        (fit::connections(&plan, &plan.groups[0]), plan.summary.source_ports, plan.summary.lines.join("\n"))
    };
    assert_eq!(shared(100, 1).0, 100);
    let (connections, ports, lines) = shared(100, 7);
    assert_eq!((connections, ports), (16, 16), "two workers with 50 streams: 8 each");
    assert!(lines.contains("main: 16 connections of at most 7 channels each"), "{lines}");
    assert_eq!(shared(3, 1000).0, 2);
    let weighted = ssh(|group| {
        group.target = vec!["ssh://ann@127.0.0.1,3".into(), "ssh://ann@127.0.0.2".into()];
        group.channels_per_connection = Some(10);
    });
    let weighted = weighted.unwrap();
    assert_eq!(fit::connections(&weighted, &weighted.groups[0]), 5 + 3 + 3);
    // What 70,000 connections could not have, 7,000 with ten channels can.
    let many = ssh(|group| (group.conns, group.channels_per_connection) = (Some(70_000), Some(10)));
    assert!(many.unwrap().summary.cannot.is_empty());
}

#[test]
fn coders_own_session_types_lines_and_hangs_up() {
    let plan = ssh(|group| {
        let kind = scale_api::typed::Kind::Ssh;
        group.typed = Some(scale_api::typed::Typed { kind, ..Default::default() });
    });
    let plan = plan.unwrap();
    let group = &plan.groups[0];
    assert!(group.ssh.as_ref().unwrap().hang_up && group.terminal.is_none());
    let mut line = [0; 16];
    group.payload.write(0, 16, 0, &mut line);
    assert_eq!((line[15], group.payload.echo_bytes(16)), (b'\n', 16));
}
