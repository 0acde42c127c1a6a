//! Every decoder with any input: bytes at random, and bytes that are nearly right. The rules are
//! `scale_tests::decoders`; `tests/fuzz` holds a fuzzer to the same ones.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
mod files;
mod listeners;
mod ssh;

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use scale_tests::decoders::{heads, ssh_keys, terminal, tls, websocket, words};

fn cuts() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![0u8..8, any::<u8>()], 0..4)
}

/// A frame whose every part may be wrong, and mostly is not.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => select(vec![0x81u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A]),
        1 => Just(0x88u8),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        4 => vec(any::<u8>(), 0..6),
        4 => "[a-zé€𐍈]{0,40}".prop_map(String::into_bytes),
        2 => vec(0x20u8..0x7F, 100..300),
        1 => select(vec![1000u16, 1005, 3000, 4999, 5000]).prop_map(|code| code.to_be_bytes().to_vec()),
        1 => Just(vec![b'x'; 3000]),
    ];
    let length = prop_oneof![20 => Just(None), 1 => any::<u64>().prop_map(Some)];
    (first, payload, length, any::<[u8; 4]>(), prop_oneof![Just(true), Just(false)]).prop_map(
        |(first, payload, length, mask, masked)| {
            let bit = u8::from(masked) << 7;
            let mut frame = vec![first];
            match length.unwrap_or(payload.len() as u64) {
                short @ 0..=125 => frame.push(bit | short as u8),
                middle @ 126..=0xFFFF => {
                    frame.push(bit | 126);
                    frame.extend((middle as u16).to_be_bytes());
                }
                long => {
                    frame.push(bit | 127);
                    frame.extend(long.to_be_bytes());
                }
            }
            if masked {
                frame.extend(mask);
            }
            let key = if masked { mask } else { [0; 4] };
            frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
            frame
        },
    )
}

/// A head of lines that belong into one and lines that do not.
fn head() -> impl Strategy<Value = Vec<u8>> {
    let line = select(vec![
        "GET / HTTP/1.1",
        "GET /a?b HTTP/1.1",
        "POST / HTTP/1.0",
        "HTTP/1.1 101 Switching Protocols",
        "HTTP/1.1 429 Too Many Requests",
        "HTTP/1.0 200 OK",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "Sec-WebSocket-Protocol: chat, other",
        "Sec-WebSocket-Protocol: chat\rX: y",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "Retry-After: 7",
        " folded",
        "no colon",
        "\u{e9}: \u{e9}",
        "",
    ]);
    let end = prop_oneof![9 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")];
    let padding = prop_oneof![9 => Just(0usize), 1 => 16_000usize..17_000];
    (vec((line, end), 0..12), padding, vec(any::<u8>(), 0..20)).prop_map(|(lines, padding, rest)| {
        let mut text: String = lines.iter().flat_map(|(line, end)| [*line, *end]).collect();
        if padding > 0 {
            text += &format!("X-Padding: {}\r\n", "x".repeat(padding));
        }
        [text.as_bytes(), b"\r\n", &rest].concat()
    })
}

/// JSON as terminals are sent it, and what is nearly so.
fn typed() -> impl Strategy<Value = Vec<u8>> {
    let whole = select(vec![
        r#"{"data":"ls -l\n"}"#,
        r#"{"data":"a\"\\\u003c\t\n"}"#,
        r#"{"height":40,"width":120}"#,
        r#"{"Data":"\u0003","HEIGHT":1,"width":65535}"#,
        r#"{"data":"\ud83d\ude00 \ud83d x \udc00"}"#,
        r#"{"unknown":[{"data":1},[-1.5e+3,true,false,null,""]],"data":"é"}"#,
        "{}",
    ]);
    let part = select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\\u",
        "00",
        "1",
        "-",
        "e",
        ".",
        "null",
        "true",
        "\"data\":",
        "\"height\":",
        "\"width\":",
        "\"datas\":",
        "\"x\"",
        "65535",
        "65536",
        "25.0",
        "1e2",
        "-0",
        " ",
        "\n",
    ]);
    let bytes = prop_oneof![
        6 => whole.prop_map(|text| text.as_bytes().to_vec()),
        12 => part.prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..3),
        1 => (1usize..40).prop_map(|deep| [br#"{"x":"#.as_slice(), &vec![b'['; deep]].concat()),
        1 => (0usize..3).prop_map(|n| 65_535 + n).prop_map(|long| format!("{{\"data\":\"{}\"}}", "x".repeat(long)).into_bytes()),
    ];
    vec(bytes, 0..12).prop_map(|parts| parts.concat())
}

const TIMES: &[&str] =
    &["\"0s\"", "\"1ms\"", "\"100ms\"", "\"10s\"", "\"1m30s\"", "\"400h\"", "\"18446744073s\""];
const SIZES: &[&str] = &["\"1B\"", "\"4096B\"", "\"40KB\"", "\"1GiB\"", "\"1000000000.000000001GB\""];
const RATES: &[&str] = &["\"1B/s\"", "\"40KB/s\"", "\"1MiB/s\"", "\"999999999GB/s\"", "\"0B/s\""];
const COUNTS_A_SECOND: &[&str] = &["\"500/s\"", "\"0.001/s\"", "\"0/s\"", "\"999999999999/s\""];
const NUMBERS: &[&str] = &["0", "1", "7", "300", "9223372036854775807", "-1"];
const SWITCHES: &[&str] = &["true", "false"];

/// A word and its value.
type Line = (&'static str, &'static str);

/// The words of a run file, each with values of its kind.
fn lines() -> impl Strategy<Value = Vec<Line>> {
    let of_a_kind: [(&[&str], &[&str]); 11] = [
        (&["tick_interval", "start", "ramp", "warm_up", "duration", "drain", "connect_timeout"], TIMES),
        (&["over", "hold"], TIMES),
        (&["bytes_per_tick", "sndbuf", "rcvbuf"], SIZES),
        (&["rate"], RATES),
        (&["connect_rate", "churn"], COUNTS_A_SECOND),
        (&["conns", "concurrency"], NUMBERS),
        (&["verify", "insecure"], SWITCHES),
        (&["traffic"], &["\"discard\"", "\"receive\""]),
        (&["header", "source", "target"], &["[\"X: {n}\"]", "[\"127.0.0.0/8\"]", "[\"wss://[::1]/{n},7\"]"]),
        (&["reconnect", "opcode", "tick_offset"], &["\"backoff\"", "\"text\"", "\"aligned\"", "\"\""]),
        (&["breaker", "silence"], &["\"on\"", "\"off\"", "\"30%\"", "\"0.5%\"", "\"45s\"", "\"1ms\""]),
    ];
    let mut known = Vec::new();
    for (words, values) in of_a_kind {
        known.extend(words.iter().flat_map(|word| values.iter().map(move |value| (*word, *value))));
    }
    let (words, values): (Vec<_>, Vec<_>) = known.iter().copied().unzip();
    vec(prop_oneof![15 => select(known), 1 => (select(words), select(values))], 0..3)
}

/// A run file that could nearly run: a group, and behind it what else there may be.
fn run_file() -> impl Strategy<Value = String> {
    const GROUP: &str = "[[group]]\nname = \"NAME\"\ntarget = [\"ws://127.0.0.1:9000/\"]\nconns = 5\n";
    let own = |words: &'static [&'static str], among: bool| {
        lines().prop_map(move |mut lines| {
            lines.retain(|(word, _)| words.contains(word) == among);
            lines
        })
    };
    let group = (Just(GROUP), own(&["over", "hold"], false)).boxed();
    let stage = (Just("[[group.stage]]\nhold = \"1s\"\n"), own(&["conns", "rate", "over", "hold"], true));
    let threshold = (Just("[[threshold]]\nexpression = \"load.open_ratio > 9%\"\n"), Just(Vec::new()));
    let further = vec(prop_oneof![2 => group.clone(), 3 => stage, 1 => threshold], 0..4);
    (group, further).prop_map(|(first, further)| {
        let part = |(number, (table, lines)): (usize, (&str, Vec<Line>))| {
            // A word that is there already is replaced, or the file would end at its second one.
            let mut words: Vec<(&str, &str)> =
                table.lines().filter_map(|line| line.split_once(" = ")).collect();
            for (word, value) in lines {
                words.retain(|(other, _)| *other != word);
                words.push((word, value));
            }
            let words: String = words.iter().map(|(word, value)| format!("{word} = {value}\n")).collect();
            let head = table.lines().next().unwrap_or_default();
            format!("{head}\n{}", words.replace("NAME", &format!("g{number}")))
        };
        std::iter::once(first).chain(further).enumerate().map(part).collect()
    })
}

/// A small word, nearly right.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{1,20}(\\.[0-9]{1,10})?(GiB|MiB|KiB|GB|MB|KB|B|h|m|s|ms|us|ns|)(/s|)",
        "([0-9]{1,6}(h|m|s|ms|us|ns)){1,4}",
        "(ws|wss|tcp|ssh)://(\\[::1\\]|[a-z\\[\\]@]{0,4}|127\\.0\\.0\\.1)(:[0-9]{0,6}|[a-z]{0,2})(/[a-z?#,]{0,5})?(,[0-9]{1,4})?",
        "(main\\.|x\\.|a\\.b\\.|)(response|load|disconnects|tls|observe\\.cpu)\\.(p99|count|rate_sent|open_ratio|rate|max) ?(<|<=|>|>=|==|=) ?[0-9]{1,3}(ms|%|KB/s|)( over [0-9]{1,3}(s|ms|m|))?( abort( after [0-9]{1,2}s)?)?",
        "[0-9,-]{0,12}",
        ".{0,40}",
    ]
}

/// Files that ssh-keygen made.
fn ssh_files() -> Vec<Vec<u8>> {
    let folder = scale_tests::host::root().join("daemon/proto/fixtures/ssh");
    let entries = std::fs::read_dir(folder).expect("fixtures").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = entries.filter(|path| !path.ends_with("README.md")).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a fixture")).collect()
}

/// Key, type and base64 of those that are public keys or certificates.
fn ssh_public() -> Vec<(String, Vec<u8>)> {
    let files = ssh_files().into_iter().filter_map(|file| String::from_utf8(file).ok());
    let of = |file: String| {
        let mut words = file.split(' ');
        let (name, base64) = (words.next()?, words.next()?);
        let blob = STANDARD.decode(base64).ok()?;
        Some((name.to_owned(), blob))
    };
    files.filter_map(of).collect()
}

/// What is put where into something, at most two bytes.
fn slips(byte: impl Strategy<Value = u8>) -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    vec((any::<prop::sample::Index>(), byte), 0..3)
}

fn slipped(mut bytes: Vec<u8>, slips: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (at, byte) in slips {
        let length = bytes.len().max(1);
        if let Some(one) = bytes.get_mut(at.index(length)) {
            *one = *byte;
        }
    }
    bytes
}

/// A file of ssh-keygen's in which a little is wrong.
fn ssh_file() -> impl Strategy<Value = Vec<u8>> {
    let byte = select(b"AAAAQgwB09+/=\n\r ,*?!|@[]-:".to_vec());
    (
        select(ssh_files()),
        slips(byte),
        prop_oneof![9 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)],
    )
        .prop_map(|(mut file, slips, end)| {
            file.truncate(end.map_or(file.len(), |end| end.index(file.len())));
            slipped(file, &slips)
        })
}

/// A public key or a certificate in which a little is wrong.
fn ssh_blob() -> impl Strategy<Value = (String, Vec<u8>)> {
    (select(ssh_public()), slips(any::<u8>())).prop_map(|((name, blob), slips)| (name, slipped(blob, &slips)))
}

/// Lines of a known_hosts file.
fn known_hosts() -> impl Strategy<Value = Vec<u8>> {
    let marker = prop_oneof![4 => Just(""), 2 => Just("@cert-authority "), 1 => Just("@revoked "), 1 => Just("@other ")];
    let names = select(vec![
        "host.example",
        "*",
        "host.example,other.example",
        "[host.example]:2222",
        "*.example,!other.example",
        "!host.example",
        "[::1]:2222",
        "|1|AAAAAAAAAAAAAAAAAAAAAAAAAAA=|AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "|1||",
        "",
    ]);
    let end = select(vec!["\n", " comment\r\n", "", "\n\n# comment\n"]);
    vec((marker, names, ssh_blob(), end), 0..5).prop_map(|lines| {
        let line = |(marker, names, (name, blob), end): (&str, &str, (String, Vec<u8>), &str)| {
            let base64 = STANDARD.encode(blob);
            format!("{marker}{names} {name} {base64}{end}")
        };
        lines.into_iter().map(line).collect::<String>().into_bytes()
    })
}

proptest! {
    #[test]
    fn frames_mean_the_same_however_they_are_cut(
        switch: u8, cuts in cuts(), frames in vec(frame(), 0..8), flip in vec((any::<usize>(), any::<u8>()), 0..2),
    ) {
        let mut bytes = frames.concat();
        for (at, byte) in flip {
            let length = bytes.len().max(1);
            if let Some(one) = bytes.get_mut(at % length) { *one = byte; }
        }
        websocket::check(switch, &cuts, &bytes);
    }

    #[test]
    fn any_bytes_are_frames_or_a_fault(switch: u8, cuts in cuts(), bytes in vec(any::<u8>(), 0..600)) {
        websocket::check(switch, &cuts, &bytes);
    }

    #[test]
    fn what_is_typed_means_the_same_however_it_is_cut(cuts in cuts(), bytes in typed()) {
        terminal::check(&cuts, &bytes);
    }

    #[test]
    fn any_bytes_are_typed_or_malformed(cuts in cuts(), bytes in vec(prop_oneof![3 => 0x20u8..0x7F, 1 => any::<u8>()], 0..200)) {
        terminal::check(&cuts, &[&b"{\"data\":\""[..], &bytes, b"\"}"].concat());
    }

    #[test]
    fn a_head_means_the_same_however_it_is_cut(cuts in cuts(), head in head()) {
        heads::check(&cuts, &head);
    }

    #[test]
    fn any_bytes_are_a_head_or_a_fault(cuts in cuts(), bytes in vec(any::<u8>(), 0..600)) {
        heads::check(&cuts, &bytes);
    }

    #[test]
    fn small_words_are_read_as_they_are_printed(word in word()) {
        words::check_small(&word);
    }

    #[test]
    fn a_run_file_becomes_a_plan_or_a_refusal(text in prop_oneof![9 => run_file(), 1 => ".{0,200}"]) {
        words::check_run_file(&text);
    }

    #[test]
    fn a_body_becomes_a_request_or_a_refusal(text in run_file(), cut: prop::sample::Index, byte: u8) {
        words::check_bodies(text.as_bytes());
        if let Ok(spec) = scale_api::spec::Spec::from_toml(&text, "") {
            let mut body = serde_json::to_vec(&serde_json::json!({ "spec": spec })).expect("plain values");
            words::check_bodies(&body);
            let at = cut.index(body.len());
            body[at] = byte;
            words::check_bodies(&body);
        }
    }
}

proptest! {
    // Each makes keys: fewer of them.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_of_keys_is_read_or_refused(file in prop_oneof![3 => ssh_file(), 1 => vec(any::<u8>(), 0..300)]) {
        ssh_keys::check(&file);
    }

    #[test]
    fn what_a_server_presents_is_a_key_or_refused((name, blob) in ssh_blob()) {
        ssh_keys::check(&blob);
        let base64 = STANDARD.encode(&blob);
        ssh_keys::check(format!("{name} {base64} comment\n").as_bytes());
    }

    #[test]
    fn known_hosts_believe_nobody_else(file in known_hosts()) {
        ssh_keys::check(&file);
    }

    #[test]
    fn garbage_is_no_handshake(
        switch: u8, cuts in cuts(), garbage in vec(any::<u8>(), 0..300),
        header in select(vec![&[][..], &[0x16, 3, 1, 0, 40], &[0x16, 3, 3, 0, 200, 2, 0, 0, 190], &[0x15, 3, 3, 0, 2], &[0x17, 3, 3, 0, 9]]),
    ) {
        tls::check_garbage(switch, &cuts, &[header, &garbage].concat());
    }

    #[test]
    fn a_changed_bit_never_comes_out(switch: u8, cuts in vec(100u8..255, 0..3), at: usize, plain in vec(any::<u8>(), 0..2000)) {
        tls::check_tampering(switch, &cuts, at, &plain);
    }
}

#[test]
fn what_the_fuzzer_starts_with_holds() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (target, check) in [
        ("ssh_before_keys", scale_tests::decoders::ssh::before_keys as fn(&[u8])),
        ("ssh_after_keys", scale_tests::decoders::ssh::after_keys),
    ] {
        let files = fs::read_dir(seeds.join(target)).expect("seeds").map(|file| file.expect("a file").path());
        let checked = files.map(|path| check(&fs::read(&path).expect("a seed"))).count();
        assert!(checked > 5, "{target} has {checked}");
    }
}
