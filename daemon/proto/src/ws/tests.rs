//! A client against a server in memory, and each rule of the RFC.

use super::*;
use crate::Fault;
use proptest::prelude::*;

fn mask() -> [u8; 4] {
    [1, 2, 3, 4]
}

fn frame(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; HEADER_BYTES_MAX + payload.len()];
    let key = (role == Role::Client).then(mask);
    let header = write_header(&mut out, Opcode::Binary, true, payload.len() as u64, key);
    out[0] = first;
    mask_into(&mut out[header..header + payload.len()], payload, key.unwrap_or_default());
    out.truncate(header + payload.len());
    out
}

#[derive(Debug, PartialEq, Clone)]
enum Seen {
    Message(Opcode, Vec<u8>),
    Pong,
    Closed(Option<u16>, bool),
}

fn read(
    session: &mut Session,
    mut input: &[u8],
    open: &mut Vec<u8>,
    seen: &mut Vec<Seen>,
) -> Result<(), Fault> {
    while let Some(event) = session.receive(&mut input, &mut mask)? {
        match event {
            Event::Data { bytes, mask, opcode, message_end } => {
                let from = open.len();
                open.resize(from + bytes.len(), 0);
                mask_into(&mut open[from..], bytes, mask.unwrap_or_default());
                if message_end {
                    seen.push(Seen::Message(opcode, std::mem::take(open)));
                }
            }
            Event::Pong => seen.push(Seen::Pong),
            Event::Closed { code, by_us } => seen.push(Seen::Closed(code, by_us)),
        }
    }
    Ok(())
}

fn read_all(role: Role, input: &[u8], cut: usize) -> (Result<Vec<Seen>, Fault>, Session) {
    let mut session = Session::new(role, 1 << 20);
    let (mut open, mut seen) = (Vec::new(), Vec::new());
    for part in input.chunks(cut.max(1)) {
        if let Err(fault) = read(&mut session, part, &mut open, &mut seen) {
            return (Err(fault), session);
        }
    }
    (Ok(seen), session)
}

#[test]
fn a_reason_goes_with_the_close_and_is_cut_at_a_character_to_fit() {
    for (reason, expected) in [("dial", "dial".to_owned()), (&"é".repeat(70), "é".repeat(61))] {
        let mut session = Session::new(Role::Server, 1024);
        session.close_with(1011, reason, &mut mask);
        session.close_with(1000, "never", &mut mask);
        let payload = [&1011u16.to_be_bytes(), expected.as_bytes()].concat();
        assert_eq!(session.outbox(), frame(Role::Server, 0x88, &payload));
    }
}

#[test]
fn ping_is_answered_with_its_payload_and_close_with_its_code() {
    let mut bytes = frame(Role::Server, 0x89, b"are you there");
    bytes.extend(frame(Role::Server, 0x88, &[0x03, 0xE8, b'b', b'y', b'e']));
    for cut in 1..bytes.len() {
        let (seen, session) = read_all(Role::Client, &bytes, cut);
        assert_eq!(seen, Ok(vec![Seen::Closed(Some(1000), false)]));
        assert_eq!(session.close_reason(), "bye");
        let (answers, _) = read_all(Role::Server, session.outbox(), 3);
        assert_eq!(answers, Ok(vec![Seen::Pong, Seen::Closed(Some(1000), false)]));
    }
}

#[test]
fn after_our_close_data_still_arrives_and_the_peers_close_ends_it() {
    let mut session = Session::new(Role::Client, 100);
    session.close(1000, &mut mask);
    session.close(1001, &mut mask);
    assert_eq!(session.outbox().len(), 2 + 4 + 2);
    let mut bytes = frame(Role::Server, 0x82, b"late");
    bytes.extend(frame(Role::Server, 0x88, &[0x03, 0xE8]));
    bytes.extend(frame(Role::Server, 0x82, b"too late"));
    let (mut open, mut seen) = (Vec::new(), Vec::new());
    read(&mut session, &bytes, &mut open, &mut seen).unwrap();
    assert_eq!(seen, [Seen::Message(Opcode::Binary, b"late".to_vec()), Seen::Closed(Some(1000), true)]);
}

#[test]
fn each_rule_of_the_rfc_is_kept() {
    let wrong: &[(&str, Vec<u8>, u16)] = &[
        ("reserved bit", frame(Role::Server, 0xC2, b"x"), 1002),
        ("reserved opcode", frame(Role::Server, 0x83, b"x"), 1002),
        ("reserved control opcode", frame(Role::Server, 0x8B, b""), 1002),
        ("masked by a server", frame(Role::Client, 0x82, b"x"), 1002),
        ("fragmented ping", frame(Role::Server, 0x09, b"x"), 1002),
        ("long ping", frame(Role::Server, 0x89, &[0; 126]), 1002),
        ("continuation of nothing", frame(Role::Server, 0x80, b"x"), 1002),
        (
            "message within a message",
            [frame(Role::Server, 0x02, b"x"), frame(Role::Server, 0x82, b"y")].concat(),
            1002,
        ),
        ("length not shortest, 16 bits", vec![0x82, 126, 0, 5, 1, 2, 3, 4, 5], 1002),
        ("length not shortest, 64 bits", vec![0x82, 127, 0, 0, 0, 0, 0, 0, 1, 0], 1002),
        ("length's highest bit", vec![0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], 1002),
        ("close of one byte", frame(Role::Server, 0x88, &[3]), 1002),
        ("close with 1005", frame(Role::Server, 0x88, &1005u16.to_be_bytes()), 1002),
        ("close with 999", frame(Role::Server, 0x88, &999u16.to_be_bytes()), 1002),
        ("close with 5000", frame(Role::Server, 0x88, &5000u16.to_be_bytes()), 1002),
        ("close reason not UTF-8", frame(Role::Server, 0x88, &[3, 0xE8, 0xFF]), 1007),
        ("text not UTF-8", frame(Role::Server, 0x81, &[0xC0, 0x80]), 1007),
        ("text cut within a code point", frame(Role::Server, 0x81, &[0xE2, 0x82]), 1007),
        ("message too big", frame(Role::Server, 0x82, &vec![0; (1 << 20) + 1]), 1009),
    ];
    for (name, bytes, code) in wrong {
        for cut in [1, 2, 3, 7, usize::MAX] {
            let (seen, session) = read_all(Role::Client, bytes, cut);
            assert!(seen.is_err(), "{name}: {seen:?}");
            let (told, _) = read_all(Role::Server, session.outbox(), usize::MAX);
            assert_eq!(told, Ok(vec![Seen::Closed(Some(*code), false)]), "{name}");
        }
    }
    let (unmasked, _) = read_all(Role::Server, &frame(Role::Server, 0x82, b"x"), 1);
    assert_eq!(unmasked, Err(Fault::WsProtocol("a client's frame is not masked")));
}

#[test]
fn text_fails_at_the_first_wrong_byte_not_at_the_message_end() {
    let first = frame(Role::Client, 0x01, &[b'a', 0xF4, 0x90]);
    assert_eq!(read_all(Role::Server, &first, 1).0, Err(Fault::WsUtf8));
}

#[test]
fn pings_without_end_keep_the_outbox_bounded() {
    let mut session = Session::new(Role::Client, 100);
    for n in 0..1000u32 {
        let ping = frame(Role::Server, 0x89, &n.to_be_bytes());
        let mut input = &ping[..];
        session.receive(&mut input, &mut mask).unwrap();
        assert!(session.outbox().len() <= OUTBOX_BYTES_MAX);
    }
    session.clear_outbox();
    assert!(session.outbox().is_empty() && session.rare_is_gone());
}

#[test]
fn a_session_is_small() {
    assert!(size_of::<Session>() <= 88, "{} bytes", size_of::<Session>());
}

impl Session {
    fn rare_is_gone(&self) -> bool {
        format!("{self:?}").contains("rare: None")
    }
}

proptest! {
    /// Any messages, fragmented and cut anywhere, with pings between the fragments.
    #[test]
    fn what_is_written_is_read(
        messages in prop::collection::vec((prop::bool::ANY, prop::collection::vec(prop::collection::vec(0x20u8..0x7F, 0..300), 1..4)), 0..6),
        cut in 1usize..200,
        client: bool,
    ) {
        let role = if client { Role::Client } else { Role::Server };
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (text, fragments) in &messages {
            let opcode = if *text { Opcode::Text } else { Opcode::Binary };
            for (n, fragment) in fragments.iter().enumerate() {
                let last = n + 1 == fragments.len();
                let first = u8::from(last) << 7 | if n == 0 { opcode as u8 } else { 0 };
                bytes.extend(frame(role, first, fragment));
                if !last { bytes.extend(frame(role, 0x8A, b"pong")); expected.push(Seen::Pong); }
            }
            expected.push(Seen::Message(opcode, fragments.concat()));
        }
        let reader = if client { Role::Server } else { Role::Client };
        prop_assert_eq!(read_all(reader, &bytes, cut).0, Ok(expected));
    }

    #[test]
    fn masking_twice_is_nothing_and_turns_with_the_position(bytes in prop::collection::vec(any::<u8>(), 0..200), key: [u8; 4], at in 0usize..200) {
        let at = at.min(bytes.len());
        let mut masked = vec![0; bytes.len()];
        mask_into(&mut masked[..at], &bytes[..at], key);
        mask_into(&mut masked[at..], &bytes[at..], rotate_mask(key, at));
        let mut plain = vec![0; bytes.len()];
        mask_into(&mut plain, &masked, key);
        prop_assert_eq!(plain, bytes.clone());
        prop_assert!(is_masked(&masked, &bytes, key));
        if at < bytes.len() {
            masked[at] ^= 1;
            prop_assert!(!is_masked(&masked, &bytes, key));
        }
    }

    #[test]
    fn any_bytes_are_parsed_or_refused_never_worse(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 1usize..50, client: bool) {
        let _ = read_all(if client { Role::Client } else { Role::Server }, &bytes, cut);
    }
}
