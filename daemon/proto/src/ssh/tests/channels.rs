//! The connection protocol by payloads alone.

use super::super::channel::{Channels, DATA_BYTES_MAX};
use super::super::message::*;
use super::super::wire::Write as _;
use super::*;
use proptest::prelude::*;

const WINDOW: u32 = 1000;

/// One side's channels, and what it said and told.
struct Side {
    channels: Channels,
    is_client: bool,
    sent: Vec<Vec<u8>>,
    seen: Vec<Seen>,
}

impl Side {
    fn new(is_client: bool, window: u32) -> Self {
        Self { channels: Channels::new(window), is_client, sent: Vec::new(), seen: Vec::new() }
    }

    fn take(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let Self { channels, is_client, sent, seen } = self;
        let send = &mut |payload: &[u8]| {
            sent.push(payload.to_vec());
            Ok(())
        };
        let event = &mut |event: Event<'_>| seen.push(event.into());
        if channels.receive(payload, send, event)? {
            return Ok(());
        }
        let rest = if *is_client { Channels::receive_as_client } else { Channels::receive_as_server };
        rest(channels, payload, send, event)
    }

    fn act<T>(
        &mut self,
        act: impl FnOnce(&mut Channels, &mut dyn FnMut(&[u8]) -> Result<(), Fault>) -> Result<T, Fault>,
    ) -> T {
        let Self { channels, sent, .. } = self;
        let acted = act(channels, &mut |payload| {
            sent.push(payload.to_vec());
            Ok(())
        });
        acted.expect("it may be said")
    }

    fn open(&mut self, purpose: Purpose) -> ChannelId {
        self.act(|channels, send| channels.open(Arc::new(purpose), send))
    }

    /// Data within the window.
    fn say(&mut self, channel: ChannelId, bytes: &[u8]) {
        let peer = self.channels.take(channel, bytes.len());
        self.sent.push(data(peer, bytes));
    }

    fn seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent)
    }
}

fn message(number: u8, numbers: &[u32]) -> Vec<u8> {
    let mut payload = vec![number];
    numbers.iter().for_each(|&number| payload.put_uint32(number));
    payload
}

fn data(channel: u32, bytes: &[u8]) -> Vec<u8> {
    let mut payload = message(CHANNEL_DATA, &[channel]);
    payload.put_string(bytes);
    payload
}

fn extended(channel: u32, bytes: &[u8]) -> Vec<u8> {
    let mut payload = message(CHANNEL_EXTENDED_DATA, &[channel, 1]);
    payload.put_string(bytes);
    payload
}

fn request(channel: u32, name: &str, wants_reply: bool, rest: &[u8]) -> Vec<u8> {
    let mut payload = message(CHANNEL_REQUEST, &[channel]);
    payload.put_string(name);
    payload.put_boolean(wants_reply);
    payload.extend_from_slice(rest);
    payload
}

/// Brings what each has said to the other until both are silent.
fn settle(client: &mut Side, server: &mut Side) {
    while !(client.sent.is_empty() && server.sent.is_empty()) {
        for payload in client.sent() {
            server.take(&payload).expect("the client keeps the rules");
        }
        for payload in server.sent() {
            client.take(&payload).expect("the server keeps the rules");
        }
    }
}

/// What both were told until here is of no interest.
fn forget(client: &mut Side, server: &mut Side) {
    client.seen.clear();
    server.seen.clear();
}

fn pair(window: u32) -> (Side, Side) {
    (Side::new(true, window), Side::new(false, window))
}

/// A client with a channel 0 that its peer knows as 7, with a window and packets of 100 bytes.
fn open_client() -> Side {
    let mut client = Side::new(true, WINDOW);
    client.open(cat());
    client.take(&message(CHANNEL_OPEN_CONFIRMATION, &[0, 7, 100, 100])).unwrap();
    client.take(&message(CHANNEL_SUCCESS, &[0])).unwrap();
    assert_eq!(client.seen(), [Seen::Opened(0)]);
    client.sent.clear();
    client
}

/// A server with a channel 0, known to its peer as 7, whose program runs.
fn open_server() -> Side {
    let mut server = Side::new(false, WINDOW);
    let mut open = vec![CHANNEL_OPEN];
    open.put_string("session");
    [7, 100, 100].iter().for_each(|&number| open.put_uint32(number));
    server.take(&open).unwrap();
    server.take(&request(0, "exec", true, b"\0\0\0\x03cat")).unwrap();
    assert_eq!(server.seen(), [Seen::Requested(0, cat())]);
    server.sent.clear();
    server
}

const fn broken(what: &'static str) -> Result<(), Fault> {
    Err(Fault::SshProtocol(what))
}

#[test]
fn each_purpose_reaches_the_server_as_it_was_asked_for_and_is_told_open() {
    for purpose in [cat(), shell(), forward()] {
        let (mut client, mut server) = pair(WINDOW);
        let id = client.open(purpose.clone());
        assert_eq!(client.channels.room(id), 0);
        settle(&mut client, &mut server);
        assert_eq!(server.seen(), [Seen::Requested(0, purpose)]);
        assert_eq!(client.seen(), [Seen::Opened(id)]);
        assert_eq!((client.channels.room(id), server.channels.room(0)), (1000, 1000));
        assert_eq!(client.channels.data_bytes_max(id), DATA_BYTES_MAX as usize);
    }
}

#[test]
fn a_program_and_its_terminal_are_asked_for_in_one_go() {
    let mut client = Side::new(true, WINDOW);
    client.open(shell());
    assert_eq!(client.sent().len(), 1);
    client.take(&message(CHANNEL_OPEN_CONFIRMATION, &[0, 7, 100, 100])).unwrap();
    let name = |payload: &Vec<u8>| wire::Reader::new(&payload[5..]).text().unwrap().to_owned();
    let names: Vec<String> = client.sent().iter().map(name).collect();
    assert_eq!(names, ["env", "env", "pty-req", "shell"]);
    // The terminal's answer alone opens nothing.
    client.take(&message(CHANNEL_SUCCESS, &[0])).unwrap();
    assert_eq!(client.seen(), []);
    client.take(&message(CHANNEL_SUCCESS, &[0])).unwrap();
    assert_eq!(client.seen(), [Seen::Opened(0)]);
}

#[test]
fn a_program_runs_its_course() {
    let (mut client, mut server) = pair(WINDOW);
    client.open(cat());
    settle(&mut client, &mut server);
    forget(&mut client, &mut server);
    client.say(0, b"hello");
    client.act(|channels, send| channels.end(0, send));
    client.act(|channels, send| channels.end(0, send));
    assert_eq!(client.channels.room(0), 0, "nothing follows an end");
    settle(&mut client, &mut server);
    assert_eq!(server.seen(), [Seen::Data(0, b"hello".to_vec()), Seen::Ended(0)]);
    server.say(0, b"hello");
    server.act(|channels, send| channels.exit(0, &Exit::Status(3), send));
    server.act(|channels, send| channels.exit(0, &Exit::Status(4), send));
    assert_eq!(server.channels.room(0), 0);
    settle(&mut client, &mut server);
    let exited = Seen::Exited(0, Exit::Status(3));
    assert_eq!(client.seen(), [Seen::Data(0, b"hello".to_vec()), Seen::Ended(0), exited, Seen::Closed(0)]);
    assert_eq!(server.seen(), [Seen::Closed(0)]);
    assert_eq!((client.channels.count(), server.channels.count()), (0, 0));
}

#[test]
fn a_signal_ends_a_program() {
    let (mut client, mut server) = pair(WINDOW);
    client.open(cat());
    settle(&mut client, &mut server);
    client.act(|channels, send| channels.signal(0, "WINCH", send));
    settle(&mut client, &mut server);
    assert_eq!(client.seen(), [Seen::Opened(0)], "it is none that ends a program");
    client.act(|channels, send| channels.signal(0, "HUP", send));
    settle(&mut client, &mut server);
    let exited = Seen::Exited(0, Exit::Signal("HUP".to_owned()));
    assert_eq!(client.seen(), [Seen::Ended(0), exited, Seen::Closed(0)]);
}

#[test]
fn a_forwarding_ends_without_a_status() {
    let (mut client, mut server) = pair(WINDOW);
    client.open(forward());
    settle(&mut client, &mut server);
    client.seen();
    server.act(|channels, send| channels.exit(0, &Exit::Status(0), send));
    settle(&mut client, &mut server);
    assert_eq!(client.seen(), [Seen::Ended(0), Seen::Closed(0)]);
}

#[test]
fn closes_that_cross_are_told_once_on_each_side() {
    let (mut client, mut server) = pair(WINDOW);
    client.open(cat());
    settle(&mut client, &mut server);
    forget(&mut client, &mut server);
    server.say(0, b"late");
    client.act(|channels, send| channels.close(0, send));
    server.act(|channels, send| channels.exit(0, &Exit::Status(0), send));
    settle(&mut client, &mut server);
    assert_eq!(client.seen(), [Seen::Closed(0)], "what was under way is dropped");
    assert_eq!(server.seen(), [Seen::Closed(0)]);
    // What is gone takes no orders.
    client.act(|channels, send| channels.close(0, send));
    client.act(|channels, send| channels.end(0, send));
    client.act(|channels, send| channels.signal(0, "HUP", send));
    server.act(|channels, send| channels.exit(0, &Exit::Status(0), send));
    assert_eq!((client.sent(), client.channels.room(0)), (vec![], 0));
}

#[test]
fn a_channel_that_is_closed_before_it_is_there_is_closed_when_it_is() {
    let (mut client, mut server) = pair(WINDOW);
    client.open(cat());
    client.act(|channels, send| channels.close(0, send));
    assert_eq!((client.sent.len(), client.channels.count()), (1, 1));
    settle(&mut client, &mut server);
    assert_eq!(client.seen(), [Seen::Closed(0)]);
    assert_eq!(server.seen(), [Seen::Closed(0)]);

    client.open(cat());
    client.act(|channels, send| channels.close(0, send));
    let mut failure = message(CHANNEL_OPEN_FAILURE, &[0, 2]);
    failure.put_string("no");
    failure.put_string("");
    client.take(&failure).unwrap();
    assert_eq!(client.seen(), [Seen::Closed(0)]);
}

#[test]
fn a_channel_that_is_refused_is_gone_with_the_peers_words() {
    let mut client = Side::new(true, WINDOW);
    client.open(cat());
    let mut failure = message(CHANNEL_OPEN_FAILURE, &[0, 4]);
    failure.put_string("too \x1b[2Jmany\r\n");
    failure.put_string("en");
    client.take(&failure).unwrap();
    assert_eq!(client.seen(), [Seen::Refused(0, Some(4), "too  [2Jmany".to_owned())]);
    assert_eq!(client.channels.count(), 0);
    assert_eq!(client.take(&failure), broken("an answer about a channel that was not asked for"));
}

#[test]
fn a_program_that_is_refused_closes_the_channel_and_its_number_waits_for_the_peers_close() {
    let mut client = Side::new(true, WINDOW);
    client.open(shell());
    client.take(&message(CHANNEL_OPEN_CONFIRMATION, &[0, 7, 100, 100])).unwrap();
    client.sent.clear();
    client.take(&message(CHANNEL_FAILURE, &[0])).unwrap();
    assert_eq!(client.seen(), [Seen::Refused(0, None, String::new())]);
    assert_eq!(client.sent(), [message(CHANNEL_CLOSE, &[7])]);
    assert_eq!(client.channels.count(), 0);
    assert_eq!(client.open(cat()), 1);
    // The shell's answer, and the rest of what was under way.
    client.take(&message(CHANNEL_SUCCESS, &[0])).unwrap();
    client.take(&data(0, b"$ ")).unwrap();
    client.take(&message(CHANNEL_EOF, &[0])).unwrap();
    client.take(&request(0, "exit-status", false, &[0; 4])).unwrap();
    client.take(&message(CHANNEL_CLOSE, &[0])).unwrap();
    assert_eq!(client.seen(), []);
    assert_eq!(client.open(cat()), 0);
}

#[test]
fn the_window_opens_again_when_half_of_it_is_used() {
    let mut client = open_client();
    client.take(&data(0, &[0; 300])).unwrap();
    client.take(&extended(0, &[0; 199])).unwrap();
    assert_eq!(client.sent(), [] as [Vec<u8>; 0]);
    client.take(&data(0, &[0])).unwrap();
    assert_eq!(client.sent(), [message(CHANNEL_WINDOW_ADJUST, &[7, 500])]);
    client.take(&data(0, &[0; 1000])).unwrap();
    assert_eq!(client.sent(), [message(CHANNEL_WINDOW_ADJUST, &[7, 1000])]);
    client.take(&data(0, &[])).unwrap();
    assert_eq!(client.sent(), [] as [Vec<u8>; 0]);
}

#[test]
fn a_window_that_is_held_opens_when_it_is_let_go() {
    let (mut client, mut server) = pair(100);
    let channel = client.open(cat());
    settle(&mut client, &mut server);
    server.act(|channels, send| channels.hold(0, true, send));
    client.say(channel, &[1; 100]);
    settle(&mut client, &mut server);
    assert_eq!(client.channels.room(channel), 0, "it is used up");
    server.act(|channels, send| channels.hold(0, false, send));
    assert_eq!(server.sent, vec![message(CHANNEL_WINDOW_ADJUST, &[0, 100])]);
    server.act(|channels, send| channels.hold(0, false, send));
    settle(&mut client, &mut server);
    assert_eq!(client.channels.room(channel), 100, "it got back once what it was owed");
}

#[test]
fn a_window_of_one_byte_lets_one_through_at_a_time_and_of_none_nothing() {
    let (mut client, mut server) = pair(1);
    client.open(cat());
    settle(&mut client, &mut server);
    forget(&mut client, &mut server);
    for byte in 0..=99 {
        assert_eq!(client.channels.room(0), 1);
        client.say(0, &[byte]);
        assert_eq!(client.channels.room(0), 0);
        settle(&mut client, &mut server);
        assert_eq!(server.seen(), [Seen::Data(0, vec![byte])]);
    }
    let (mut client, mut server) = pair(0);
    client.open(cat());
    settle(&mut client, &mut server);
    assert_eq!(client.seen(), [Seen::Opened(0)]);
    assert_eq!(client.channels.room(0), 0);
    client.take(&data(0, &[])).unwrap();
    assert_eq!(client.take(&data(0, &[1])), broken("more data than the window allows"));
}

#[test]
fn a_window_grows_to_the_last_byte_and_not_beyond() {
    let mut client = open_client();
    client.take(&message(CHANNEL_WINDOW_ADJUST, &[0, u32::MAX - 100])).unwrap();
    assert_eq!(client.channels.room(0), u32::MAX as usize);
    client.take(&message(CHANNEL_WINDOW_ADJUST, &[0, 0])).unwrap();
    let one_more = message(CHANNEL_WINDOW_ADJUST, &[0, 1]);
    assert_eq!(client.take(&one_more), broken("a window beyond 2^32 - 1 bytes"));
}

#[test]
#[should_panic(expected = "channel 0 has room for fewer than 101 bytes")]
fn more_than_there_is_room_for_is_our_own_fault() {
    open_client().say(0, &[0; 101]);
}

#[test]
fn what_goes_beyond_a_window_or_a_packet_is_refused() {
    for beyond in [data(0, &[0; 1001]), extended(0, &[0; 1001])] {
        assert_eq!(open_client().take(&beyond), broken("more data than the window allows"));
        assert_eq!(open_server().take(&beyond), broken("more data than the window allows"));
    }
    let mut client = Side::new(true, u32::MAX);
    client.open(forward());
    client.take(&message(CHANNEL_OPEN_CONFIRMATION, &[0, 7, 100, 100])).unwrap();
    client.take(&data(0, &[0; DATA_BYTES_MAX as usize])).unwrap();
    let beyond = data(0, &[0; DATA_BYTES_MAX as usize + 1]);
    assert_eq!(client.take(&beyond), broken("more data in a packet than this side takes"));
}

#[test]
fn what_comes_behind_an_end_or_for_no_channel_is_refused() {
    for late in [data(0, b"x"), data(0, b""), extended(0, b"x")] {
        let mut client = open_client();
        client.take(&message(CHANNEL_EOF, &[0])).unwrap();
        assert_eq!(client.take(&late), broken("data behind a channel's end"));
    }
    let mut client = open_client();
    client.take(&message(CHANNEL_EOF, &[0])).unwrap();
    assert_eq!(client.take(&message(CHANNEL_EOF, &[0])), broken("a channel ends twice"));

    let absent = broken("a message for a channel that is not there");
    for channel in [0, 1, 1024, u32::MAX] {
        let all = [
            data(channel, b"x"),
            extended(channel, b"x"),
            message(CHANNEL_WINDOW_ADJUST, &[channel, 1]),
            message(CHANNEL_EOF, &[channel]),
            message(CHANNEL_CLOSE, &[channel]),
            message(CHANNEL_SUCCESS, &[channel]),
            message(CHANNEL_FAILURE, &[channel]),
        ];
        for payload in all {
            let mut client = open_client();
            client.take(&message(CHANNEL_CLOSE, &[0])).unwrap();
            assert_eq!(client.take(&payload), absent, "{payload:?} behind both sides' CLOSE");
            // The peer does not know the number before it has confirmed it.
            let mut client = Side::new(true, WINDOW);
            client.open(cat());
            assert_eq!(client.take(&payload), absent, "{payload:?} before the confirmation");
        }
    }
}

#[test]
fn a_request_that_crosses_a_channels_end_is_let_go() {
    for id in [0, 1, u32::MAX] {
        let keepalive = request(id, "keepalive@openssh.com", true, &[]);
        let mut client = open_client();
        client.take(&message(CHANNEL_CLOSE, &[0])).unwrap();
        client.sent.clear();
        client.take(&keepalive).unwrap();
        client.open(cat());
        client.sent.clear();
        client.take(&keepalive).unwrap();
        assert_eq!((client.sent(), client.seen()), (vec![], vec![Seen::Closed(0)]));
        let mut server = open_server();
        server.take(&message(CHANNEL_CLOSE, &[0])).unwrap();
        assert_eq!(server.take(&keepalive), broken("a message for a channel that is not there"));
    }
}

#[test]
fn answers_that_were_not_asked_for_are_refused() {
    for number in [CHANNEL_SUCCESS, CHANNEL_FAILURE] {
        assert_eq!(open_client().take(&message(number, &[0])), broken("an answer without a request"));
        assert_eq!(open_server().take(&message(number, &[0])), Err(WRONG_PHASE));
    }
    for number in [REQUEST_SUCCESS, REQUEST_FAILURE] {
        assert_eq!(open_client().take(&[number]), Err(WRONG_PHASE));
        assert_eq!(open_server().take(&[number]), Err(WRONG_PHASE));
    }
    let unasked = broken("an answer about a channel that was not asked for");
    let confirmation = message(CHANNEL_OPEN_CONFIRMATION, &[0, 7, 100, 100]);
    assert_eq!(open_client().take(&confirmation), unasked);
    assert_eq!(open_server().take(&confirmation), Err(WRONG_PHASE));
    assert_eq!(open_client().take(&message(CHANNEL_OPEN_FAILURE, &[1, 1, 0, 0])), unasked);
}

#[test]
fn a_packet_of_no_bytes_is_no_packet() {
    let mut client = Side::new(true, WINDOW);
    client.open(cat());
    let confirmation = message(CHANNEL_OPEN_CONFIRMATION, &[0, 7, 100, 0]);
    assert_eq!(client.take(&confirmation), broken("a channel takes packets of no bytes"));
}

#[test]
fn requests_that_want_an_answer_get_one() {
    for (payload, answer) in [
        (request(0, "keepalive@openssh.com", true, &[]), Some(CHANNEL_FAILURE)),
        (request(0, "keepalive@openssh.com", false, &[]), None),
        (request(0, "x11-req", true, b"what follows is not read"), Some(CHANNEL_FAILURE)),
        (request(0, "eow@openssh.com", false, &[]), None),
        (request(0, "eow@openssh.com", true, &[]), Some(CHANNEL_SUCCESS)),
        (request(0, "xon-xoff", false, &[1]), None),
    ] {
        let mut client = open_client();
        client.take(&payload).unwrap();
        let answer: Vec<_> = answer.iter().map(|&number| message(number, &[7])).collect();
        assert_eq!(client.sent(), answer, "{}", String::from_utf8_lossy(&payload));
        assert_eq!(client.seen(), []);
        // Nothing may follow our CLOSE.
        client.act(|channels, send| channels.close(0, send));
        client.sent.clear();
        client.take(&payload).unwrap();
        assert_eq!(client.sent(), [] as [Vec<u8>; 0]);
    }
}

#[test]
fn a_program_ends_once() {
    let mut client = open_client();
    client.take(&request(0, "exit-status", true, &[0, 0, 0, 5])).unwrap();
    assert_eq!(client.sent(), [message(CHANNEL_SUCCESS, &[7])]);
    client.take(&request(0, "exit-signal", false, b"\0\0\0\x04KILL\x01\0\0\0\0\0\0\0\0")).unwrap();
    assert_eq!(client.seen(), [Seen::Exited(0, Exit::Status(5))]);

    let mut client = open_client();
    client.take(&request(0, "exit-signal", false, b"\0\0\0\x04KILL\x01\0\0\0\0\0\0\0\0")).unwrap();
    assert_eq!(client.seen(), [Seen::Exited(0, Exit::Signal("KILL".to_owned()))]);
    let short = broken("a packet ends within a field");
    assert_eq!(client.take(&request(0, "exit-status", false, &[0; 3])), short);
    let long = broken("a packet goes on behind its fields");
    assert_eq!(client.take(&request(0, "exit-status", false, &[0; 5])), long);
}

#[test]
fn global_requests_are_refused_where_they_want_an_answer() {
    for name in ["keepalive@openssh.com", "hostkeys-00@openssh.com", "tcpip-forward"] {
        for wants_reply in [true, false] {
            let mut payload = vec![GLOBAL_REQUEST];
            payload.put_string(name);
            payload.put_boolean(wants_reply);
            payload.put_string("whatever");
            for mut side in [open_client(), open_server()] {
                side.take(&payload).unwrap();
                let answer = if wants_reply { vec![vec![REQUEST_FAILURE]] } else { Vec::new() };
                assert_eq!(side.sent(), answer);
            }
        }
    }
}

#[test]
fn channels_that_are_not_served_are_refused() {
    let open = |kind: &str| {
        let mut payload = vec![CHANNEL_OPEN];
        payload.put_string(kind);
        [9, 100, 100].iter().for_each(|&number| payload.put_uint32(number));
        payload
    };
    let refused = |code| {
        let mut payload = message(CHANNEL_OPEN_FAILURE, &[9, code]);
        payload.put_string("not taken");
        payload.put_string("");
        [payload]
    };
    let mut client = open_client();
    for kind in ["session", "forwarded-tcpip", "auth-agent@openssh.com"] {
        client.take(&open(kind)).unwrap();
        assert_eq!(client.sent(), refused(ADMINISTRATIVELY_PROHIBITED));
    }
    let mut server = open_server();
    server.take(&open("x11")).unwrap();
    assert_eq!(server.sent(), refused(UNKNOWN_CHANNEL_TYPE));
    for _ in 1..CHANNELS_MAX {
        server.take(&open("session")).unwrap();
    }
    server.sent.clear();
    server.take(&open("session")).unwrap();
    assert_eq!(server.sent(), refused(RESOURCE_SHORTAGE));
}

#[test]
fn a_server_serves_one_program_a_channel_and_no_subsystem() {
    let command = b"\0\0\0\x03cat";
    for (name, rest, is_taken) in [
        ("exec", &command[..], false),
        ("shell", &[], false),
        ("subsystem", b"\0\0\0\x04sftp", false),
        ("pty-req", b"\0\0\0\x05xterm\0\0\0\x50\0\0\0\x19\0\0\0\0\0\0\0\0\0\0\0\0", false),
        ("env", b"\0\0\0\x01A\0\0\0\x01B", false),
        ("window-change", &[0; 16], true),
        ("auth-agent-req@openssh.com", &[], false),
    ] {
        let mut server = open_server();
        server.take(&request(0, name, true, rest)).unwrap();
        let answer = if is_taken { CHANNEL_SUCCESS } else { CHANNEL_FAILURE };
        assert_eq!(server.sent(), [message(answer, &[7])], "{name}");
        assert_eq!(server.seen(), []);
    }
}

#[test]
fn an_environment_has_an_end() {
    let (mut client, mut server) = pair(WINDOW);
    let environment = vec![("A".repeat(100), "B".repeat(100)); 1000];
    client.open(Purpose::Session { environment, pty: None, program: Program::Shell });
    settle(&mut client, &mut server);
    let seen = server.seen();
    let [Seen::Requested(0, Purpose::Session { environment, .. })] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(environment.len(), (16 << 10) / 248);
}

#[test]
fn numbers_are_small_and_used_again() {
    let (mut client, mut server) = pair(WINDOW);
    for id in 0..200 {
        assert_eq!(client.open(cat()), id);
    }
    settle(&mut client, &mut server);
    assert_eq!((client.seen().len(), server.seen().len()), (200, 200));
    for id in [150, 3, 199] {
        client.act(|channels, send| channels.close(id, send));
    }
    settle(&mut client, &mut server);
    assert_eq!(client.channels.count(), 197);
    assert_eq!([client.open(cat()), client.open(cat()), client.open(cat())], [3, 150, 199]);
    settle(&mut client, &mut server);
    client.seen();
    for id in 0..200u32 {
        client.say(id, &id.to_be_bytes());
    }
    settle(&mut client, &mut server);
    let mut got: Vec<Vec<u8>> = Vec::new();
    for seen in server.seen() {
        if let Seen::Data(_, bytes) = seen {
            got.push(bytes);
        }
    }
    assert_eq!(got, (0..200u32).map(|id| id.to_be_bytes().to_vec()).collect::<Vec<_>>());
}

#[test]
fn a_connection_has_so_many_channels_and_no_more() {
    let mut client = Side::new(true, WINDOW);
    for _ in 0..CHANNELS_MAX {
        client.open(cat());
    }
    let one_more = client.channels.open(Arc::new(cat()), &mut |_| panic!("nothing to say"));
    assert_eq!(one_more, Err(Fault::SshProtocol("too many channels on one connection")));
}

#[test]
fn messages_that_are_cut_or_too_long_are_refused() {
    let mut confirmation = message(CHANNEL_OPEN_CONFIRMATION, &[0, 7, 100, 100]);
    for bytes in 0..confirmation.len() {
        let mut client = Side::new(true, WINDOW);
        client.open(cat());
        assert_eq!(client.take(&confirmation[..bytes]), broken("a packet ends within a field"));
    }
    confirmation.push(0);
    let mut client = Side::new(true, WINDOW);
    client.open(cat());
    assert_eq!(client.take(&confirmation), broken("a packet goes on behind its fields"));
    for mut payload in [
        data(0, b"abc"),
        extended(0, b"abc"),
        message(CHANNEL_WINDOW_ADJUST, &[0, 1]),
        message(CHANNEL_EOF, &[0]),
        message(CHANNEL_CLOSE, &[0]),
    ] {
        for bytes in 0..payload.len() {
            assert_eq!(open_client().take(&payload[..bytes]), broken("a packet ends within a field"));
        }
        payload.push(0);
        assert_eq!(open_client().take(&payload), broken("a packet goes on behind its fields"));
    }
}

/// A message with a number of the connection protocol, mostly about channel 0, cut or with bytes of its own.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![80u8..=82, 90u8..=100];
    let field = prop_oneof![
        Just(vec![0; 4]),
        any::<[u8; 4]>().prop_map(Vec::from),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| {
            let mut field = Vec::new();
            field.put_string(bytes);
            field
        }),
        prop::sample::select(vec!["session", "direct-tcpip", "exec", "env", "exit-status", "exit-signal"])
            .prop_map(|name| {
                let mut field = Vec::new();
                field.put_string(name);
                field
            }),
        Just(vec![1]),
    ];
    (number, prop::collection::vec(field, 0..6))
        .prop_map(|(number, fields)| [vec![number], fields.concat()].concat())
}

proptest! {
    #[test]
    fn whatever_a_peer_says_is_taken_or_refused(messages in prop::collection::vec(any_message(), 1..40)) {
        for mut side in [open_client(), open_server(), Side::new(true, 3), Side::new(false, 0)] {
            if side.is_client {
                side.open(shell());
            }
            for payload in &messages {
                let taken = side.take(payload);
                let expected = matches!(taken, Ok(()) | Err(Fault::SshProtocol(_)));
                prop_assert!(expected, "{taken:?}");
                prop_assert!(side.channels.count() <= CHANNELS_MAX);
            }
        }
    }
}
