//! SSH messages: whole ones, ones that are nearly right, and any bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use scale_tests::decoders::ssh;

use super::cuts;

proptest! {
    #[test]
    fn packets_before_keys_mean_the_same_however_they_are_cut(
        switch: u8, cuts in cuts(), first in kexinit(), rest in payloads(),
    ) {
        let bytes = [&(first.len() as u16).to_be_bytes()[..], &first, &rest].concat();
        ssh::check_before_keys(switch | 2, &cuts, &bytes);
        ssh::check_before_keys(switch | 2, &cuts, &rest);
    }

    #[test]
    fn any_bytes_before_keys_are_a_greeting_or_a_fault(
        switch: u8, cuts in cuts(), line in select(vec![&b""[..], b"SSH-2.0-x\r\n", b"hello\r\nSSH-2.0-x\n", b"SSH-"]),
        bytes in vec(any::<u8>(), 0..300),
    ) {
        ssh::check_before_keys(switch & !2, &cuts, &[line, &bytes].concat());
    }

    #[test]
    fn messages_after_keys_mean_the_same_however_they_are_cut(
        switch in prop_oneof![3 => 6u8..8, 1 => any::<u8>()], cuts in cuts(), bytes in payloads(),
    ) {
        ssh::check_after_keys(switch, &cuts, &bytes);
    }

    #[test]
    fn a_packet_that_was_tampered_with_never_comes_out(
        switch: u8, cuts in vec(any::<u8>(), 0..3), at: usize, plain in vec(any::<u8>(), 0..300),
    ) {
        ssh::check_tampering(switch, &cuts, at, &plain);
    }
}

/// Fields that belong into messages, and some that do not.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        "",
        "ssh-userauth",
        "ssh-connection",
        "user",
        "none",
        "password",
        "publickey",
        "keyboard-interactive",
        "password,publickey",
        "session",
        "direct-tcpip",
        "x11",
        "exec",
        "shell",
        "pty-req",
        "env",
        "signal",
        "window-change",
        "subsystem",
        "exit-status",
        "exit-signal",
        "TERM",
        "xterm",
        "keepalive@openssh.com",
        "hostkeys-00@openssh.com",
        "server-sig-algs",
        "rsa-sha2-256,ssh-ed25519",
        "curve25519-sha256,kex-strict-c-v00@openssh.com,ext-info-c",
        "curve25519-sha256,kex-strict-s-v00@openssh.com,ext-info-s",
        "ecdh-sha2-nistp256",
        "ssh-ed25519",
        "aes128-gcm@openssh.com",
        "aes256-ctr",
        "hmac-sha2-256",
        "zlib,none",
    ]);
    let number = prop_oneof![
        8 => select(vec![0u32, 1, 2, 3, 100, 1000, 32_768, 35_000, u32::MAX]),
        1 => any::<u32>(),
    ];
    prop_oneof![
        6 => known.prop_map(text),
        6 => number.prop_map(|number| number.to_be_bytes().to_vec()),
        3 => any::<bool>().prop_map(|value| vec![u8::from(value)]),
        2 => select(vec![0usize, 1, 16, 32, 33, 65, 200, 1120, 1216]).prop_map(|bytes| text(&"\t".repeat(bytes))),
        1 => vec(any::<u8>(), 0..20),
    ]
}

/// A message that is nearly right.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![
        12 => select(vec![1u8, 2, 3, 4, 5, 6, 7, 20, 21, 30, 31, 50, 51, 52, 53, 60, 61, 80, 81, 82]),
        20 => 90u8..=100,
        1 => any::<u8>(),
    ];
    (number, vec(field(), 0..9)).prop_map(|(number, fields)| [vec![number], fields.concat()].concat())
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat()
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A message that has its place on a connection with a channel, and is sometimes damaged.
fn whole_message() -> impl Strategy<Value = Vec<u8>> {
    let request =
        |name: &str, reply: u8, rest: Vec<u8>| [numbers(&[0]), text(name), vec![reply], rest].concat();
    let open = |kind: &str, rest: Vec<u8>| [text(kind), numbers(&[7, 1000, 32_768]), rest].concat();
    let messages = [
        (2, text("ignored")),
        (4, [vec![1], text("told"), text("")].concat()),
        (80, [text("keepalive@openssh.com"), vec![1]].concat()),
        (90, open("session", Vec::new())),
        (90, open("direct-tcpip", [text("host"), numbers(&[22]), text("::1"), numbers(&[5000])].concat())),
        (90, open("x11", Vec::new())),
        (91, numbers(&[0, 7, 1000, 32_768])),
        (91, numbers(&[0, 7, 0, 1])),
        (92, [numbers(&[0, 1]), text("no"), text("")].concat()),
        (93, numbers(&[0, 2000])),
        (93, numbers(&[0, u32::MAX])),
        (94, [numbers(&[0]), text("some bytes")].concat()),
        (94, [numbers(&[0]), text(&"x".repeat(600))].concat()),
        (95, [numbers(&[0, 1]), text("an error")].concat()),
        (96, numbers(&[0])),
        (97, numbers(&[0])),
        (98, request("env", 0, [text("A"), text("b")].concat())),
        (98, request("pty-req", 1, [text("xterm"), numbers(&[80, 25, 0, 0]), text("\0")].concat())),
        (98, request("exec", 1, text("cat"))),
        (98, request("shell", 1, Vec::new())),
        (98, request("signal", 0, text("TERM"))),
        (98, request("window-change", 0, numbers(&[1, 2, 3, 4]))),
        (98, request("exit-status", 0, numbers(&[3]))),
        (98, request("exit-signal", 0, [text("KILL"), vec![0], text(""), text("")].concat())),
        (98, request("unknown", 1, Vec::new())),
        (99, numbers(&[0])),
        (100, numbers(&[0])),
    ];
    let messages: Vec<Vec<u8>> = messages.map(|(number, rest)| [vec![number], rest].concat()).to_vec();
    let damage = prop_oneof![12 => Just(None), 1 => any::<(usize, u8)>().prop_map(Some)];
    (select(messages), damage).prop_map(|(mut message, damage)| {
        match damage {
            Some((at, 0..64)) => message.truncate(at % message.len() + 1),
            Some((at, byte)) => {
                let at = at % message.len();
                message[at] = byte;
            }
            None => {}
        }
        message
    })
}

/// A KEXINIT that is nearly right.
fn kexinit() -> impl Strategy<Value = Vec<u8>> {
    (vec(field(), 0..11), any::<bool>(), any::<[u8; 3]>()).prop_map(|(odd, guess, places)| {
        let lists = [
            "curve25519-sha256,kex-strict-c-v00@openssh.com,kex-strict-s-v00@openssh.com",
            "ssh-ed25519",
            "aes128-gcm@openssh.com,aes256-ctr",
            "aes128-gcm@openssh.com",
            "hmac-sha2-256",
            "hmac-sha2-256",
            "none",
            "none",
            "",
            "",
        ];
        let mut fields = lists.map(text);
        for (place, field) in places.iter().zip(odd) {
            if let Some(one) = fields.get_mut(usize::from(*place % 16)) {
                *one = field;
            }
        }
        [&[20][..], &[7; 16], &fields.concat(), &[u8::from(guess), 0, 0, 0, 0]].concat()
    })
}

/// Payloads, each behind its length.
fn payloads() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![50 => whole_message().boxed(), 4 => message().boxed(), 1 => kexinit().boxed()];
    vec(payload, 0..24).prop_map(|payloads| {
        payloads.iter().flat_map(|one| [&(one.len() as u16).to_be_bytes()[..], one].concat()).collect()
    })
}
