//! What a terminal's bytes cost, in ns a payload byte: sent from the escaped pool and by escaping
//! each time, compared when they come back; and what they cost a stand-in server.
//!
//! `cargo run --release -p scale-bench --bin scale-encode`

#![allow(clippy::print_stdout, reason = "the table is the output")]

use std::hint::black_box;
use std::time::Instant;

use scale_proto::coder::{
    Command, Decoder, Echo, Form, Message, PIECE_BYTES_MAX, Route, Terminal, Text, encode, pieces,
};
use scale_proto::ws::{Opcode, mask_into, write_header};

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
const SIZES: [u32; 3] = [128, 1024, 4096];
/// Payload bytes of one measurement, and how many are made; the quickest counts.
const BYTES: u64 = 100 << 20;
const ROUNDS: usize = 5;

/// ns a payload byte of `work` on one message after another, each at a place of its own.
fn measure(text: &Text, bytes: u32, mut work: impl FnMut(Message<'_>) -> usize) -> f64 {
    #[expect(clippy::disallowed_methods, reason = "it measures this program, not a run")]
    let now = Instant::now;
    let messages = BYTES / u64::from(bytes) / 10;
    let round = |work: &mut dyn FnMut(Message<'_>) -> usize| {
        let began = now();
        for n in 0..messages {
            let place = Text::place(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20);
            black_box(work(text.message(place, bytes)));
        }
        began.elapsed().as_nanos() as f64 / (messages * u64::from(bytes)) as f64
    };
    (0..ROUNDS).map(|_| round(&mut work)).fold(f64::INFINITY, f64::min)
}

fn main() {
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 8
    };
    let text = Text::new(Form::Line, Route::Terminal, &mut random);
    let mut wire = vec![0; 8 * Text::FRAME_BYTES_MAX];
    let mut scratch = vec![0; Text::FRAME_BYTES_MAX];
    println!("ns a payload byte, quickest of {ROUNDS}; a message of");
    println!("{:48}{:>8}{:>8}{:>8}", "", "128 B", "1 KiB", "4 KiB");
    let row = |name: &str, work: &mut dyn FnMut(u32) -> f64| {
        let figures: String = SIZES.iter().map(|&bytes| format!("{:8.3}", work(bytes))).collect();
        println!("{name:48}{figures}");
    };

    // The same for each message of a size, so that only the work at hand is measured.
    let typed: Vec<(u32, String)> =
        SIZES.iter().map(|&bytes| (bytes, typed(text.message(0, bytes)))).collect();
    let typed = |bytes: u32| typed.iter().find(|(size, _)| *size == bytes).map(|(_, typed)| typed.as_str());
    let typed = |bytes: u32| typed(bytes).expect("of a measured size");

    row("length: marks of the pool", &mut |bytes| measure(&text, bytes, |message| message.wire_bytes()));
    row("send: slice of the escaped pool, masked", &mut |bytes| {
        measure(&text, bytes, |message| message.write_frames(&mut || MASK, &mut wire))
    });
    row("send: escaped each time, then masked", &mut |bytes| {
        let plain = typed(bytes);
        measure(&text, bytes, |_| {
            let mut at = 0;
            for piece in pieces(plain) {
                let json = encode(piece, &mut scratch);
                at += write_header(&mut wire[at..], Opcode::Binary, true, json as u64, Some(MASK));
                mask_into(&mut wire[at..at + json], &scratch[..json], MASK);
                at += json;
            }
            at
        })
    });
    row("echo: compared in place", &mut |bytes| {
        let plain = typed(bytes);
        let received = [&plain.as_bytes()[..plain.len() - 1], b"\r\n"].concat();
        let mine = text.message(0, bytes);
        measure(&text, bytes, |_| usize::from(black_box(mine).echoes(Echo::Cooked, 0, black_box(&received))))
    });
    row("server: JSON decoded", &mut |bytes| {
        // More of them than a core remembers branches of.
        const MESSAGES: u32 = 64;
        let message = |n: u32| json(&self::typed(text.message(Text::place(u64::from(n * 37)), bytes)));
        let all: Vec<Vec<u8>> = (0..MESSAGES).map(message).collect();
        let (mut decoder, mut all) = (Decoder::new(), all.iter().cycle());
        measure(&text, bytes, |_| {
            let (mut input, mut said_bytes) = (&all.next().expect("it has no end")[..], 0);
            while let Some(said) = decoder.receive(&mut input).expect("what we encode") {
                said_bytes += said.typed.len();
            }
            said_bytes
        })
    });
    row("server: the terminal's echo", &mut |bytes| {
        let plain = typed(bytes);
        let (mut terminal, mut printed) = (Terminal::new(Command::Discard), Vec::new());
        measure(&text, bytes, |_| {
            printed.clear();
            terminal.input(&mut plain.as_bytes(), &mut printed).expect("no key is refused");
            printed.len()
        })
    });
}

/// A message spelled out.
fn typed(message: Message<'_>) -> String {
    (0..message.echo_bytes(Echo::Raw))
        .filter_map(|at| message.echo_at(Echo::Raw, at))
        .map(char::from)
        .collect()
}

/// A message as JSON, a piece behind the other.
fn json(typed: &str) -> Vec<u8> {
    let mut json = Vec::new();
    for piece in pieces(typed) {
        let mut one = vec![0; 6 * PIECE_BYTES_MAX + 12];
        let bytes = encode(piece, &mut one);
        json.extend_from_slice(&one[..bytes]);
    }
    json
}
