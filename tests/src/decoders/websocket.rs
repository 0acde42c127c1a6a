//! The frame decoder: what it makes of bytes does not depend on how they are cut.

use scale_proto::Fault;
use scale_proto::ws::{Event, OUTBOX_BYTES_MAX, Opcode, Role, Session, mask_into};

use super::pieces;

/// Small, so that messages that are too big are tried, too.
const MESSAGE_BYTES_MAX: u64 = 4096;

/// What a session made of its input, but for pieces of a message that never ended.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    messages: Vec<(Opcode, Vec<u8>)>,
    pongs: u32,
    closed: Option<(Option<u16>, bool)>,
    fault: Option<Fault>,
    outbox: Vec<u8>,
}

fn read(bytes: &[u8], role: Role, cuts: &[u8], close_first: bool) -> Seen {
    let mut session = Session::new(role, MESSAGE_BYTES_MAX);
    let (mut seen, mut open) = (Seen::default(), Vec::new());
    let mut random = || [0xA5, 0x5A, 0x3C, 0xC3];
    if close_first {
        session.close(1000, &mut random);
    }
    'input: for mut piece in pieces(bytes, cuts) {
        loop {
            match session.receive(&mut piece, &mut random) {
                Ok(Some(event)) => note(event, &mut open, &mut seen),
                Ok(None) => break,
                Err(fault) => {
                    seen.fault = Some(fault);
                    break 'input;
                }
            }
        }
        assert!(piece.is_empty(), "all of an input is used up");
        assert!(session.outbox().len() <= OUTBOX_BYTES_MAX, "the outbox has its limit");
    }
    seen.outbox = session.outbox().to_vec();
    seen
}

fn note(event: Event<'_>, open: &mut Vec<u8>, seen: &mut Seen) {
    assert!(seen.closed.is_none(), "nothing comes behind the closing handshake");
    match event {
        Event::Data { bytes, mask, opcode, message_end } => {
            let from = open.len();
            open.resize(from + bytes.len(), 0);
            mask_into(&mut open[from..], bytes, mask.unwrap_or_default());
            assert!(open.len() as u64 <= MESSAGE_BYTES_MAX, "a message has its limit");
            if message_end {
                let message = std::mem::take(open);
                assert!(opcode != Opcode::Text || std::str::from_utf8(&message).is_ok(), "text is UTF-8");
                seen.messages.push((opcode, message));
            }
        }
        Event::Pong => seen.pongs += 1,
        Event::Closed { code, by_us } => seen.closed = Some((code, by_us)),
    }
}

/// Any bytes, to either role, cut as `cuts` says.
///
/// # Panics
/// A session does not hold to its rules.
pub fn check(switch: u8, cuts: &[u8], bytes: &[u8]) {
    let role = if switch & 1 == 0 { Role::Client } else { Role::Server };
    let close_first = switch & 2 != 0;
    let whole = read(bytes, role, &[], close_first);
    assert_eq!(whole, read(bytes, role, cuts, close_first), "cut as {cuts:?}");
    assert_eq!(whole, read(bytes, role, &[0], close_first), "byte by byte");
    // What a session says of its own accord, the other side finds no fault with.
    let other = if role == Role::Client { Role::Server } else { Role::Client };
    let heard = read(&whole.outbox, other, &[], true);
    assert_eq!(heard.fault, None, "of {:?}", whole.outbox);
}
