//! The emulated terminal prints what a real one does, byte for byte: the same input, cut at random,
//! goes to both; and the echo that a client expects is what a real terminal says.

mod pty;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use scale_proto::coder::{
    Alignment, Command, Echo, Ending, Form, LINE_BYTES_MAX, Marker, RAW_COMMAND, Route, State, Terminal,
    Text, paced_command,
};
use scale_tests::decoders::pieces;

use pty::{Pty, ending};

const CAT: &[&str] = &["cat"];
const SLEEP: &[&str] = &["sleep", "1000"];
const RAW_CAT: &[&str] = &["sh", "-c", "stty raw -echo; printf R; exec cat"];

/// Bytes that may be printed and not yet read: a kernel drops echo that nobody takes.
const UNREAD_MAX: usize = 2000;

/// The original's command.
fn dd() -> Vec<&'static str> {
    static COMMAND: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| paced_command(1024));
    COMMAND.split(' ').collect()
}

/// A real terminal and an emulated one, to which the same is done.
struct Both {
    real: Pty,
    emulated: Terminal,
    printed: Vec<u8>,
    expected: Vec<u8>,
}

impl Both {
    fn start(words: &[&str], command: Command) -> Self {
        let (real, emulated) = (Pty::start(words), Terminal::new(command));
        Self { real, emulated, printed: Vec::new(), expected: Vec::new() }
    }

    fn raw() -> Self {
        let mut both = Self { emulated: Terminal::raw(), ..Self::start(RAW_CAT, Command::Copy) };
        both.real.read_until(&mut both.printed, 1);
        assert_eq!(std::mem::take(&mut both.printed), b"R", "stty is through");
        both
    }

    /// Types one piece, all of which finds room.
    fn type_in(&mut self, piece: &[u8]) {
        let mut rest = piece;
        self.emulated.input(&mut rest, &mut self.expected).expect("no key is refused");
        assert!(rest.is_empty(), "it finds room");
        self.real.type_in(piece);
        self.real.read_until(&mut self.printed, self.expected.len().saturating_sub(UNREAD_MAX));
    }

    /// Waits until the command itself reads, and not what is to become it.
    fn wait_until_it_runs(&mut self) {
        self.type_in(b"it runs\n");
        self.settle();
        self.real.wait_until_read();
    }

    /// Waits until all that is expected is there.
    fn settle(&mut self) {
        self.real.read_until(&mut self.printed, self.expected.len());
    }

    fn compare(&mut self) {
        self.settle();
        self.real.read_rest(&mut self.printed);
        assert_same(&self.printed, &self.expected);
    }
}

/// Says where they part instead of printing all.
fn assert_same(printed: &[u8], expected: &[u8]) {
    let at = printed.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let near = |bytes: &[u8]| {
        bytes[at.saturating_sub(8)..].escape_ascii().to_string().chars().take(80).collect::<String>()
    };
    assert!(
        printed == expected,
        "at byte {at} of {} and {}: the terminal printed …{}, the emulation …{}",
        printed.len(),
        expected.len(),
        near(printed),
        near(expected)
    );
}

/// What may be typed: words, control bytes, lines that are too long.
fn typed() -> impl Strategy<Value = Vec<u8>> {
    let control = select(
        (0..0x20u8)
            .filter(|byte| !b"\x03\x04\x11\x12\x13\x15\x16\x17\x1a\x1c".contains(byte))
            .collect::<Vec<_>>(),
    );
    let symbols = vec(select(Form::Line.alphabet()), 1..300);
    let part = prop_oneof![
        4 => symbols,
        2 => Just(b"\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        2 => control.prop_map(|byte| vec![byte]),
        1 => vec(0x80u8.., 1..20),
        1 => (LINE_BYTES_MAX - 3..LINE_BYTES_MAX + 4, 0..26u8).prop_map(|(length, first)| {
            (0..length).map(|at| b'a' + (first + (at % 23) as u8) % 26).collect()
        }),
    ];
    vec(part, 0..10).prop_map(|parts| parts.concat())
}

/// Short pieces of lines, and keys that show or hand over a line.
fn line_part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => vec(select(Form::Line.alphabet()), 1..100),
        1 => vec(0x80u8.., 1..20),
        2 => select(vec![b"\n", b"\r", b"\t", b"\x01", b"\x1b", b"\x04"]).prop_map(|byte| byte.to_vec()),
        3 => Just(b"\x12".to_vec()),
    ]
}

fn cuts() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..5)
}

/// `bytes` in pieces that end with a line at the latest.
fn pieces_of_lines<'a>(bytes: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    bytes.split_inclusive(|byte| b"\n\r\x04".contains(byte)).flat_map(move |line| pieces(line, cuts))
}

proptest! {
    // Each starts a process or two.
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_command_that_discards_lets_the_kernel_echo(typed in typed(), cuts in cuts()) {
        let mut both = Both::start(&dd(), Command::Discard);
        pieces(&typed, &cuts).for_each(|piece| both.type_in(piece));
        both.compare();
    }

    #[test]
    fn a_command_that_copies_prints_each_line_behind_its_echo(
        lines in vec((typed(), prop_oneof![4 => Just(b"\n"), 1 => Just(b"\x04")]), 0..3), cuts in cuts(),
    ) {
        let mut both = Both::start(CAT, Command::Copy);
        let typed: Vec<u8> = lines.into_iter().flat_map(|(typed, end)| [&typed, b"-".as_slice(), end].concat()).collect();
        for piece in pieces_of_lines(&typed, &cuts) {
            both.type_in(piece);
            // What comes first, the echo of a line or the line before it, is up to the scheduler.
            if b"\n\r\x04".contains(piece.last().expect("it is not empty")) {
                both.settle();
            }
        }
        both.compare();
    }

    #[test]
    fn a_raw_terminal_gives_back_every_byte(typed in vec(any::<u8>(), 0..9000), cuts in cuts()) {
        let mut both = Both::raw();
        pieces(&typed, &cuts).for_each(|piece| both.type_in(piece));
        both.compare();
    }

    #[test]
    fn a_command_that_does_not_read_is_typed_full(
        lines in vec(typed(), 0..6), cuts in cuts(), raw: bool,
    ) {
        // The terminal's own queue takes a few thousand bytes more before typing blocks.
        let mut typed: Vec<u8> = lines.into_iter().flat_map(|line| [line, b"\n".to_vec()].concat()).collect();
        typed.truncate(LINE_BYTES_MAX + 4000);
        let mut both = if raw { Both::raw() } else { Both::start(&dd(), Command::Discard) };
        if !raw {
            both.wait_until_it_runs();
        }
        both.real.pause();
        both.emulated.pause();
        let mut rest = &typed[..];
        both.emulated.input(&mut rest, &mut both.expected).expect("no key is refused");
        for piece in pieces(&typed, &cuts) {
            both.real.type_in(piece);
            both.real.read_ready(&mut both.printed);
        }
        both.compare();
        both.emulated.resume(&mut both.expected);
        both.emulated.input(&mut rest, &mut both.expected).expect("no key is refused");
        assert!(rest.is_empty());
        both.real.resume();
        both.compare();
    }

    #[test]
    fn what_was_typed_before_stty_is_echoed_and_then_read(typed in typed(), cuts in cuts()) {
        let mut both = Both::start(&["sh", "-c", "kill -STOP $$; stty raw -echo; exec cat"], Command::Copy);
        both.real.wait_until_stopped();
        both.emulated.pause();
        let typed = &typed[..typed.len().min(LINE_BYTES_MAX)];
        pieces(typed, &cuts).for_each(|piece| both.type_in(piece));
        both.settle();
        both.real.resume();
        both.emulated.make_raw();
        both.emulated.resume(&mut both.expected);
        both.compare();
    }

    #[test]
    fn ctrl_r_prints_the_line_so_far_again(
        typed in vec(line_part(), 0..12), cuts in cuts(), reads: bool,
    ) {
        let mut both =
            if reads { Both::start(CAT, Command::Copy) } else { Both::start(SLEEP, Command::Sleep) };
        // What is there for a command that does not read stays; for one that does it would be its end.
        let end: &[u8] = if reads { b"-\x04" } else { b"\x04" };
        let typed: Vec<u8> =
            typed.concat().split(|&byte| byte == 0x04).collect::<Vec<_>>().join(end);
        for piece in pieces_of_lines(&typed, &cuts) {
            both.type_in(piece);
            if reads && b"\n\r\x04".contains(piece.last().expect("it is not empty")) {
                both.settle();
            }
        }
        both.compare();
    }

    #[test]
    fn a_key_that_ends_the_command_ends_both(typed in typed(), key in select(vec![
        (b"\x03".as_slice(), Ending::Interrupt, (Some(2), None)),
        (b"\x1c", Ending::Quit, (Some(3), None)),
        (b"\n\x04", Ending::EndOfInput, (None, Some(0))),
        (b"x\x04\x04", Ending::EndOfInput, (None, Some(0))),
    ]), copy: bool) {
        let (key, why, how) = key;
        let mut both =
            if copy { Both::start(CAT, Command::Copy) } else { Both::start(&dd(), Command::Discard) };
        both.wait_until_it_runs();
        for piece in pieces_of_lines(&typed, &[]).chain(key.chunks(1)) {
            both.type_in(piece);
            if both.emulated.ended().is_none() {
                both.settle();
            }
        }
        prop_assert_eq!(both.emulated.ended(), Some(why));
        let status = both.real.read_to_end(&mut both.printed);
        prop_assert_eq!(ending(status), how);
        assert_same(&both.printed, &both.expected);
    }
}

/// Types a marker, finds its echo, then types messages and compares their echo in place.
fn follow(words: &[&str], echo: Echo, form: Form, bytes: u32) {
    let mut seed = u64::from(bytes);
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed
    };
    let text = Text::new(form, Route::Terminal, &mut random);
    let (real, marker, mut printed) = (Pty::start(words), Marker::from_random(random()), Vec::new());
    // Before the command runs, and before `stty` is through.
    real.type_in(marker.line().as_bytes());
    let mut alignment = Alignment::new(&marker, echo);
    while alignment.state() == State::Preamble {
        real.read_until(&mut printed, 1);
        let mut input = &printed[..];
        alignment.receive(&mut input);
        printed = input.to_vec();
    }
    assert_eq!(alignment.state(), State::Aligned);
    for _ in 0..20 {
        let message = text.message(Text::place(random() >> 11), bytes);
        let typed: Vec<u8> =
            (0..bytes).map(|at| message.echo_at(Echo::Raw, at).expect("its bytes")).collect();
        let mut position = 0;
        for piece in typed.chunks(UNREAD_MAX) {
            real.type_in(piece);
            let due = message.echo_bytes(echo).min(position + piece.len() as u32);
            while position < due {
                real.read_until(&mut printed, 1);
                assert!(message.echoes(echo, position, &printed), "{echo:?}, byte {position} of {bytes}");
                position += printed.len() as u32;
                printed.clear();
            }
        }
        real.read_until(&mut printed, (message.echo_bytes(echo) - position) as usize);
        assert!(message.echoes(echo, position, &printed), "{echo:?}, the end of {bytes}");
        printed.clear();
    }
    real.read_rest(&mut printed);
    assert_eq!(printed, b"", "nothing comes behind the last message");
}

#[test]
fn ctrl_c_ends_the_raw_command_without_a_trace() {
    let mut real = Pty::start(&["sh", "-c", RAW_COMMAND]);
    let mut emulated = Terminal::raw_with_signals();
    let (mut printed, mut expected) = (Vec::new(), Vec::new());
    // Lines until one comes back as it is: `stty` is through.
    let mut tries = 0;
    while !printed.ends_with(b"\nready\n") {
        tries += 1;
        assert!(tries < 1000, "stty never came through: {printed:?}");
        real.type_in(b"\nready\n");
        std::thread::sleep(std::time::Duration::from_millis(10));
        real.read_rest(&mut printed);
    }
    printed.clear();
    real.type_in(b"abc\n");
    real.read_until(&mut printed, 4);
    real.type_in(b"\x03");
    let status = real.read_to_end(&mut printed);
    emulated.input(&mut &b"abc\n\x03def"[..], &mut expected).expect("no key is refused");
    assert_eq!((printed, emulated.ended()), (expected, Some(Ending::Interrupt)));
    assert_eq!(ending(status), (Some(2), None), "SIGINT");
}

#[test]
fn the_echo_of_messages_is_what_a_real_terminal_says() {
    for bytes in [1, 2, 128, 1024, 4096] {
        follow(&dd(), Echo::Cooked, Form::Line, bytes);
        follow(&dd(), Echo::Cooked, Form::Comment, bytes);
        follow(&["sh", "-c", RAW_COMMAND], Echo::Raw, Form::Line, bytes);
    }
}
