//! Messages against what Go's rules and a terminal make of them; where the echo begins.

use proptest::prelude::*;

use super::*;
use crate::ws::{self, Role};

fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ state >> 29
    }
}

fn text(form: Form, route: Route) -> &'static Text {
    static TEXTS: [std::sync::OnceLock<Text>; 6] = [const { std::sync::OnceLock::new() }; 6];
    let form_number = match form {
        Form::Line => 0,
        Form::Comment => 1,
        Form::CommentLine => 2,
    };
    let number = form_number * 2 + usize::from(route == Route::App);
    TEXTS[number].get_or_init(|| Text::new(form, route, &mut random(1)))
}

fn route() -> impl Strategy<Value = Route> {
    prop::sample::select(vec![Route::Terminal, Route::App])
}

fn form() -> impl Strategy<Value = Form> {
    prop::sample::select(vec![Form::Line, Form::Comment, Form::CommentLine])
}

/// A message's bytes, spelled out.
fn spelled(form: Form, place: u32, bytes: u32) -> String {
    let mut spelled: Vec<u8> = (0..bytes)
        .map(|at| text(form, Route::Terminal).message(place, bytes + 1).echo_at(Echo::Raw, at).unwrap())
        .collect();
    if form != Form::Comment {
        spelled[bytes as usize - 1] = b'\n';
    }
    String::from_utf8(spelled).expect("the alphabet is ASCII")
}

fn place_and_bytes() -> impl Strategy<Value = (u32, u32)> {
    let near_the_end = (0..40u64).prop_map(|n| (Text::POOL_BYTES / Text::ALIGNMENT) as u64 - 1 - n);
    let bytes = prop_oneof![1..20u32, 1000..1050u32, 1..10_000u32, Just(1024u32), Just(4096u32)];
    (prop_oneof![any::<u64>(), near_the_end].prop_map(Text::place), bytes)
}

#[test]
fn the_alphabets_are_the_originals() {
    let symbols = Form::Line.alphabet();
    assert_eq!((symbols.len(), symbols[0], symbols[1], symbols[94]), (95, b'\t', b' ', b'}'));
    assert!(symbols[1..].windows(2).all(|two| two[1] == two[0] + 1));
    assert_eq!((Form::Comment.alphabet().len(), Form::CommentLine.alphabet().len()), (62, 62));
}

#[test]
fn the_mean_of_the_escaped_text_is_the_originals() {
    let message = text(Form::Line, Route::Terminal).message(0, 200_000);
    let json: usize = (0..message.pieces()).map(|n| message.encoded_bytes(n) - 12).sum();
    let mean = json as f64 / 200_000.0;
    assert!((1.20..1.22).contains(&mean), "{mean} JSON bytes a payload byte");
}

#[test]
fn the_seed_decides_the_text() {
    let bytes = |seed| {
        let text = Text::new(Form::Line, Route::Terminal, &mut random(seed));
        (0..64).map(|at| text.message(0, 100).echo_at(Echo::Raw, at).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(bytes(5), bytes(5));
    assert_ne!(bytes(5), bytes(6));
}

proptest! {
    #[test]
    fn what_is_sent_is_the_message_as_go_escapes_it(
        form in form(), route in route(), (place, bytes) in place_and_bytes(), mask: [u8; 4],
    ) {
        let message = text(form, route).message(place, bytes);
        let mut wire = vec![0xAA; message.wire_bytes() + 5];
        let length = message.write_frames(&mut || mask, &mut wire);
        prop_assert_eq!(length, message.wire_bytes());
        prop_assert!(wire[length..].iter().all(|&byte| byte == 0xAA));

        let spelled = spelled(form, place, bytes);
        let mut expected = Vec::new();
        for (n, piece) in pieces(&spelled).enumerate() {
            let mut sent = piece.as_bytes().to_vec();
            if route == Route::Terminal {
                sent.resize(encoded_bytes(piece), 0);
                encode(piece, &mut sent);
            }
            prop_assert_eq!(sent.len(), message.encoded_bytes(n as u32));
            prop_assert_eq!(piece.len(), message.piece_bytes(n as u32));
            expected.push(sent);
        }
        let mut session = ws::Session::new(Role::Server, Text::FRAME_BYTES_MAX as u64);
        let (mut input, mut got, mut open) = (&wire[..length], Vec::new(), Vec::new());
        while let Some(event) = session.receive(&mut input, &mut || [0; 4]).expect("right frames") {
            let ws::Event::Data { bytes, mask, opcode, message_end } = event else { panic!("{event:?}") };
            prop_assert_eq!(opcode, ws::Opcode::Binary);
            let from = open.len();
            open.resize(from + bytes.len(), 0);
            ws::mask_into(&mut open[from..], bytes, mask.expect("a client masks"));
            if message_end {
                got.push(std::mem::take(&mut open));
            }
        }
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn the_echo_is_what_the_terminal_says(
        form in form(), route in route(), (place, bytes) in place_and_bytes(), cuts in prop::collection::vec(1usize..3000, 1..5), wrong: prop::sample::Index,
    ) {
        let message = text(form, route).message(place, bytes);
        let spelled = spelled(form, place, bytes);
        for (echo, mut terminal) in [(Echo::Cooked, Terminal::new(Command::Discard)), (Echo::Raw, Terminal::raw())] {
            let mut printed = Vec::new();
            terminal.input(&mut spelled.as_bytes(), &mut printed).expect("no key does anything else");
            prop_assert_eq!(printed.len(), message.echo_bytes(echo) as usize);
            prop_assert_eq!(Some(printed.len()), echo.bytes(spelled.as_bytes()));
            let (mut position, mut cuts) = (0, cuts.iter().cycle());
            while position < printed.len() {
                let part = (*cuts.next().unwrap()).min(printed.len() - position);
                prop_assert!(message.echoes(echo, position as u32, &printed[position..position + part]));
                position += part;
            }
            for (at, &byte) in printed.iter().enumerate() {
                prop_assert_eq!(message.echo_at(echo, at as u32), Some(byte));
            }
            prop_assert_eq!(message.echo_at(echo, position as u32), None);
            prop_assert!(message.echoes(echo, position as u32, b"") && !message.echoes(echo, position as u32, b"x"));
            let wrong = wrong.index(printed.len());
            printed[wrong] ^= 1;
            prop_assert!(!message.echoes(echo, 0, &printed));
            prop_assert!(!message.echoes(echo, wrong as u32, &printed[wrong..]));
        }
    }
}

// Where the echo begins.

const MARKER: u64 = 0x1122_3344_5566_7788;

fn aligned(alignment: &mut Alignment, bytes: &[u8], cut: usize) -> (State, usize) {
    let mut used = 0;
    for part in bytes.chunks(cut) {
        let mut input = part;
        let state = alignment.receive(&mut input);
        used += part.len() - input.len();
        if state != State::Preamble {
            return (state, used);
        }
    }
    (State::Preamble, used)
}

#[test]
fn the_markers_echo_is_found_however_it_is_cut() {
    let marker = Marker::from_random(MARKER);
    assert_eq!(marker.line().len(), Marker::BYTES as usize);
    let before = b"Welcome!\r\n\x1b[1;32muser\x1b[0m\x1b[?2004h$ #1122#11223344\r\n";
    let bytes = [&before[..], b"#1122334455667788\r\nabc"].concat();
    for cut in 1..bytes.len() {
        let mut alignment = Alignment::new(&marker, Echo::Cooked);
        assert_eq!(aligned(&mut alignment, &bytes, cut), (State::Aligned, bytes.len() - 3));
        assert_eq!(alignment.preamble_bytes() as usize, before.len());
        assert_eq!(alignment.replayed(), None);
    }
}

#[test]
fn a_marker_that_came_before_stty_was_through_is_not_taken_for_the_raw_echo() {
    let bytes = b"#1122334455667788\r\n#1122334455667788\nabc";
    let mut alignment = Alignment::new(&Marker::from_random(MARKER), Echo::Raw);
    assert_eq!(aligned(&mut alignment, bytes, 7), (State::Aligned, bytes.len() - 3));
}

#[test]
fn a_replay_says_how_much_was_said_while_nobody_listened() {
    let marker = Marker::from_random(MARKER);
    let replay = b"abcabcabd and more\r\n";
    for (tail, missed) in [
        (&b"abcabd"[..], Some(replay.len() as u32 - 9)),
        (b"more\r\n", Some(0)),
        (b"abc", Some(replay.len() as u32 - 6)), // the last place where it stands
        (b"from another session", None),
        (b"8", None), // the marker has it, the replay has not
    ] {
        let bytes = [&replay[..], b"#1122334455667788\r\n"].concat();
        for cut in 1..bytes.len() {
            let mut alignment = Alignment::again(&marker, Echo::Cooked, tail);
            assert_eq!(aligned(&mut alignment, &bytes, cut), (State::Aligned, bytes.len()));
            assert_eq!(alignment.replayed(), missed, "{tail:?}");
            assert_eq!(alignment.ending(), replay, "{tail:?}");
        }
    }
}

#[test]
fn of_a_long_preamble_the_last_bytes_are_kept() {
    let long: Vec<u8> = (0..1000u32).map(|n| (n % 251) as u8 | 0x80).collect();
    for (from, echo) in [(0, Echo::Cooked), (990, Echo::Raw), (1000, Echo::Raw)] {
        let marker = Marker::from_random(MARKER);
        let mut bytes = long[from..].to_vec();
        marker.write_echo(echo, &mut bytes);
        let mut alignment = Alignment::new(&marker, echo);
        assert_eq!(aligned(&mut alignment, &bytes, 7), (State::Aligned, bytes.len()));
        assert_eq!(alignment.ending(), long[from.max(1000 - TAIL_BYTES_MAX)..]);
    }
}

#[test]
fn a_screen_is_known_by_how_it_begins_and_by_an_escape_in_the_echo() {
    // What GNU screen 4.9 says first to an xterm-256color, in parts that are enough each.
    for begin in
        ["\x1b[!p\x1b[?3;4l\x1b[4l\x1b>", "\x1b[?1049h\x1b[22;0;0t", "\x1b[0m\x1b(B\x1b[1;25r\x1b[H\x1b[2J"]
    {
        for cut in 1..begin.len() {
            let mut alignment = Alignment::new(&Marker::from_random(MARKER), Echo::Cooked);
            assert_eq!(aligned(&mut alignment, begin.as_bytes(), cut).0, State::Screen, "{begin:?}");
        }
    }
    // Where it draws a TAB, it moves the cursor instead.
    assert!(is_redraw(b"a\x1b[7Cb<c\r\n") && !is_redraw(b"a\tb<c\r\n^["));
}

#[test]
fn a_marker_without_an_end_leaves_the_comment_open() {
    let marker = Marker::from_random(MARKER).unended();
    assert!(marker.line().starts_with('#') && !marker.line().contains('\n'));
    let shown = format!("$ {}#next", marker.line());
    for cut in 1..shown.len() {
        let mut alignment = Alignment::new(&marker, Echo::Cooked);
        let (state, used) = aligned(&mut alignment, shown.as_bytes(), cut);
        assert_eq!(
            (state, used, alignment.preamble_bytes()),
            (State::Aligned, shown.len() - 5, 2),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_preamble_without_end_is_given_up() {
    let mut alignment = Alignment::new(&Marker::from_random(MARKER), Echo::Cooked);
    let noise = vec![b'#'; PREAMBLE_BYTES_MAX as usize];
    assert_eq!(alignment.receive(&mut &noise[..]), State::Preamble);
    assert_eq!(alignment.receive(&mut &b"##"[..]), State::Lost);
    assert!(size_of::<Alignment>() <= 224);
}

// What a server reads.

fn decoded(json: &[u8]) -> (Vec<(String, Option<Size>)>, Option<Malformed>) {
    let (mut decoder, mut said, mut input) = (Decoder::new(), Vec::new(), json);
    loop {
        match decoder.receive(&mut input) {
            Ok(Some(one)) => said.push((one.typed.to_owned(), one.resize)),
            Ok(None) => return (said, None),
            Err(malformed) => return (said, Some(malformed)),
        }
    }
}

#[test]
fn a_server_reads_as_go_does() {
    let size = |width, height| Some(Size { width, height });
    for (json, typed, resize) in [
        ("{\"data\":\"a\\\"\\\\\\u003c\\t\\n\"}\n", "a\"\\<\t\n", None),
        ("{\"height\":40,\"width\":120}", "", size(120, 40)),
        ("{\"height\":40}", "", None),
        ("{\"height\":40,\"width\":0,\"data\":\"x\"}", "x", None),
        ("{\"DATA\":\"x\",\"Width\":1,\"hEIGHT\":65535}", "x", size(1, 65535)),
        ("{\"data\":\"first\",\"data\":\"last\"}", "last", None),
        ("{\"data\":\"kept\",\"data\":null}", "kept", None),
        ("{\"data\":\"\\ud83d\\ude00\"}", "\u{1f600}", None),
        ("{\"data\":\"\\ud83d\\ud83dx\\udc00\"}", "\u{fffd}\u{fffd}x\u{fffd}", None),
        ("{\"other\":{\"data\":[1,{\"width\":-0.5E+3}]},\"dataset\":7}", "", None),
    ] {
        assert_eq!(decoded(json.as_bytes()), (vec![(typed.to_owned(), resize)], None), "{json}");
    }
    assert_eq!(decoded(b"{\"data\":\"\xE2\x82x\"}").0[0].0, "\u{fffd}\u{fffd}x");
    assert_eq!(decoded(b" null\n").0, []);
}

#[test]
fn what_is_wrong_ends_the_session_and_has_no_effect() {
    let deep = format!("{{\"x\":{}", "[".repeat(DEPTH_MAX as usize));
    let long = format!("{{\"data\":\"{}\"}}", "x".repeat(DATA_BYTES_MAX + 1));
    for (json, malformed) in [
        ("{\"data\":\"x\",}", Malformed::Syntax(b'}')),
        ("{\"data\":\"x\"]", Malformed::Syntax(b']')),
        ("{\"data\":\"\u{1}", Malformed::Syntax(1)),
        ("{\"data\":\"\\x", Malformed::Syntax(b'x')),
        ("{\"width\":01", Malformed::Syntax(b'1')),
        ("{\"data\":7", Malformed::Type),
        ("{\"width\":\"", Malformed::Type),
        ("{\"width\":65536}", Malformed::Type),
        ("{\"width\":25.0}", Malformed::Type),
        ("{\"width\":-1}", Malformed::Type),
        ("[", Malformed::Type),
        (&deep, Malformed::TooDeep),
        (&long, Malformed::TooLong),
    ] {
        let before = format!("{{\"data\":\"good\"}}{json}");
        assert_eq!(decoded(before.as_bytes()), (vec![("good".into(), None)], Some(malformed)), "{json}");
    }
    assert_eq!(decoded(long.replacen('x', "", 1).as_bytes()).1, None, "the limit itself is allowed");
}

#[test]
fn an_interrupt_throws_away_what_a_paused_command_has_not_read() {
    for command in [Command::Copy, Command::Discard] {
        let (mut terminal, mut printed) = (Terminal::new(command), Vec::new());
        terminal.pause();
        terminal.input(&mut &b"whole\npart\x03never"[..], &mut printed).unwrap();
        terminal.resume(&mut printed);
        assert_eq!(printed, b"whole\r\npart^C");
        assert_eq!(terminal.ended(), Some(Ending::Interrupt));
    }
}

#[test]
fn a_key_that_is_not_emulated_is_named_and_left_at_the_front() {
    let (mut terminal, mut printed) = (Terminal::new(Command::Discard), Vec::new());
    let mut input = &b"typo\x7f"[..];
    assert_eq!(terminal.input(&mut input, &mut printed), Err(Refused(0x7F)));
    assert_eq!((input, &printed[..]), (&b"\x7f"[..], &b"typo"[..]));
}

#[test]
fn terminals_are_small() {
    assert!(size_of::<Terminal>() <= 48 && size_of::<Decoder>() <= 80);
}
