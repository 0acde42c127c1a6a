//! Whole connections: everything over sealed packets, cut anywhere.

use super::super::keys::PrivateKey;
use super::super::message::*;
use super::super::wire::Write as _;
use super::pair::*;
use super::*;

/// Bytes that are told apart by their place.
fn bytes(count: usize) -> Vec<u8> {
    (0..count as u32).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).take(count).collect()
}

fn usual() -> ClientConfig {
    client_config(Algorithms::default(), 1 << 30, 1 << 20)
}

/// A program from its start to its status, with `count` bytes there and back.
fn run_a_program(pair: &mut Pair, count: usize) {
    let id = pair.open(shell());
    pair.settle();
    assert_eq!(pair.client.seen(), [Seen::Opened(id)]);
    assert_eq!(pair.server.seen(), [Seen::Requested(id, shell())]);
    let sent = bytes(count);
    assert_eq!(pair.client.say(id, &sent), count);
    pair.settle();
    let got = pair.server.data(id);
    assert_eq!(got, sent);
    assert_eq!(pair.server.say(id, &got), count);
    pair.settle();
    assert_eq!(pair.client.data(id), sent);
    let End { role, random, out, .. } = &mut pair.client;
    role.end(id, random, out).unwrap();
    pair.settle();
    assert_eq!(pair.server.seen(), [Seen::Ended(id)]);
    let End { role, random, out, .. } = &mut pair.server;
    role.exit(id, &Exit::Status(3), random, out).unwrap();
    pair.settle();
    let exited = Seen::Exited(id, Exit::Status(3));
    assert_eq!(pair.client.seen(), [Seen::Ended(id), exited, Seen::Closed(id)]);
    assert_eq!(pair.server.seen(), [Seen::Closed(id)]);
    assert_eq!(pair.client.role.channels(), 0);
}

#[test]
fn a_program_runs_whatever_was_negotiated() {
    let all = Algorithms::default();
    let mut offers = Vec::new();
    for cipher in all.ciphers {
        let macs = if cipher.ends_with("ctr") { &Algorithms::MACS[..] } else { &Algorithms::MACS[..1] };
        for mac in macs {
            offers.push(Algorithms { ciphers: vec![cipher], macs: vec![mac], ..Algorithms::default() });
        }
    }
    for kex in all.kex {
        offers.push(Algorithms { kex: vec![kex], ..Algorithms::default() });
    }
    assert_eq!(offers.len(), 3 + 2 * 4 + 4);
    for offer in offers {
        let client = client_config(offer.clone(), 1 << 30, 1 << 20);
        let mut pair = Pair::connected(client, server_config(1 << 30, 1 << 20), usize::MAX);
        let negotiated = pair.client.role.negotiated().unwrap();
        assert_eq!((negotiated.kex, negotiated.cipher), (offer.kex[0], offer.ciphers[0]));
        assert_eq!(pair.server.role.negotiated(), Some(negotiated));
        assert!(negotiated.strict);
        run_a_program(&mut pair, 100_000);
    }
}

#[test]
fn bytes_may_be_cut_anywhere() {
    for cipher in Algorithms::CIPHERS {
        for cut in [1, 2, 3, 4, 5, 15, 16, 17, 31, 61, 1000] {
            let offer = Algorithms { ciphers: vec![cipher], ..Algorithms::default() };
            let client = client_config(offer, 1 << 30, 1 << 20);
            let mut pair = Pair::connected(client, server_config(1 << 30, 1 << 20), cut);
            run_a_program(&mut pair, 5000);
        }
    }
}

#[test]
fn data_is_told_where_it_lies_and_an_answer_costs_nothing() {
    let mut pair = Pair::usual();
    let id = pair.open(cat());
    pair.settle();
    pair.server.seen();
    pair.client.say(id, &bytes(4096));
    let mut input = std::mem::take(&mut pair.client.out);
    let range = input.as_ptr_range();
    let (range, mut told) = (range.start as usize..range.end as usize, 0);
    let End { role, random, .. } = &mut pair.server;
    let mut out = Vec::new();
    let received = role.receive(&mut input, random, &mut out, &mut |event| {
        let Event::Data { bytes, .. } = event else { panic!("{event:?}") };
        assert!(range.contains(&(bytes.as_ptr() as usize)));
        told += bytes.len();
    });
    assert_eq!((received, told, out.capacity()), (Ok(Received { consumed: input.len() }), 4096, 0));
}

#[test]
fn a_connection_is_small() {
    // Two keys, one channel, and where the connection stands.
    assert!(size_of::<Client>() <= 512, "{} bytes", size_of::<Client>());
    assert!(size_of::<Server>() <= 512, "{} bytes", size_of::<Server>());
}

#[test]
fn none_is_enough_where_the_server_says_so() {
    let server = ServerConfig { none: true, banner: None, ..server_config(1 << 30, 1 << 20) };
    let mut pair = Pair::new(usual(), server, login(vec![]), usize::MAX);
    pair.settle();
    assert_eq!(pair.client.seen().last(), Some(&Seen::Authenticated));

    let mut pair = Pair::new(usual(), server_config(1 << 30, 1 << 20), login(vec![]), usize::MAX);
    let fault = loop {
        if let Err(fault) = pair.exchange() {
            break fault;
        }
    };
    let words = "user \"ann\" was refused with none; the server takes publickey,password,keyboard-interactive: \
                 give a credential that is this user's";
    assert_eq!(fault, Fault::SshAuth(words.to_owned()));
    // The server is told, and knows it as what it is.
    let told = std::mem::take(&mut pair.client.out);
    let description = "no more authentication methods available".to_owned();
    assert_eq!(pair.server.take(&told), Err(Fault::SshDisconnected { code: 14, description }));
}

#[test]
fn data_flows_both_ways_while_keys_are_exchanged_again_and_again() {
    let limits = [(1 << 30, 1 << 30), (20_000, 1 << 30), (1 << 30, 20_000), (20_000, 20_000), (1, 1)];
    for (round, (client_bytes, server_bytes)) in limits.into_iter().enumerate() {
        for cut in [usize::MAX, 4000, 97] {
            let client = client_config(Algorithms::default(), client_bytes, 50_000);
            let mut pair = Pair::connected(client, server_config(server_bytes, 30_000), cut);
            let id = pair.open(cat());
            pair.settle();
            pair.forget();
            let (there, back) = (bytes(400_000), bytes(300_000));
            let (mut sent_there, mut sent_back) = (0, 0);
            let (mut got_there, mut got_back) = (Vec::new(), Vec::new());
            let mut exchanging = 0;
            let mut random = words(round as u64);
            for turn in 0.. {
                // Without a limit in bytes either side asks now and then, both at once among others.
                if round == 0 && random().is_multiple_of(4) {
                    pair.client.rekey();
                }
                if round == 0 && random().is_multiple_of(4) {
                    pair.server.rekey();
                }
                let piece = (random() % 9000) as usize;
                sent_there += pair.client.say(id, &there[sent_there..(sent_there + piece).min(there.len())]);
                sent_back += pair.server.say(id, &back[sent_back..(sent_back + piece).min(back.len())]);
                exchanging += usize::from(pair.client.role.is_exchanging());
                pair.exchange().unwrap();
                got_there.extend(pair.server.data(id));
                got_back.extend(pair.client.data(id));
                if got_there.len() == there.len() && got_back.len() == back.len() {
                    break;
                }
                assert!(turn < 10_000, "it gets on: {} and {}", got_there.len(), got_back.len());
            }
            assert!(got_there == there && got_back == back, "each byte in its place");
            assert!(exchanging > 5, "keys were exchanged under way: {exchanging}");
        }
    }
}

#[test]
fn what_is_asked_for_while_keys_are_exchanged_waits() {
    let mut pair = Pair::usual();
    pair.client.rekey();
    assert!(pair.client.role.is_exchanging());
    let before = pair.client.out.len();
    for id in 0..200 {
        assert_eq!(pair.open(shell()), id);
    }
    assert_eq!(pair.client.out.len(), before);
    pair.settle();
    assert_eq!(pair.client.seen(), (0..200).map(Seen::Opened).collect::<Vec<_>>());
    pair.server.seen();
    pair.client.rekey();
    assert_eq!(pair.client.role.room(7), 0, "no data goes (RFC 4253 §7.1)");
    pair.settle();
    assert_eq!(pair.client.role.room(7), 1 << 20);
}

#[test]
fn two_hundred_channels_keep_their_bytes_apart() {
    for cut in [usize::MAX, 501] {
        let mut pair = Pair::usual();
        pair.cut = cut;
        let ids: Vec<ChannelId> = (0..200).map(|_| pair.open(cat())).collect();
        pair.settle();
        pair.forget();
        for round in 0..3u32 {
            for &id in &ids {
                pair.client.say(id, &[id.to_be_bytes(), round.to_be_bytes()].concat());
            }
            pair.settle();
            for seen in pair.server.seen() {
                let Seen::Data(id, bytes) = seen else { panic!("{seen:?}") };
                pair.server.say(id, &bytes);
            }
            pair.settle();
            let expected: Vec<_> = ids
                .iter()
                .map(|&id| Seen::Data(id, [id.to_be_bytes(), round.to_be_bytes()].concat()))
                .collect();
            assert_eq!(pair.client.seen(), expected);
        }
        for &id in &ids {
            let End { role, random, out, .. } = &mut pair.client;
            role.close(id, random, out).unwrap();
        }
        pair.settle();
        assert_eq!(pair.client.role.channels(), 0);
    }
}

#[test]
fn a_window_of_one_byte_lets_one_through_at_a_time() {
    let mut pair = Pair::connected(usual(), server_config(1 << 30, 1), usize::MAX);
    let id = pair.open(forward());
    pair.settle();
    pair.server.seen();
    let (sent, mut got) = (bytes(300), Vec::new());
    while got.len() < sent.len() {
        assert_eq!(pair.client.say(id, &sent[got.len()..]), 1);
        assert_eq!(pair.client.role.room(id), 0);
        pair.settle();
        got.extend(pair.server.data(id));
    }
    assert_eq!(got, sent);
}

#[test]
fn a_servers_signature_algorithms_decide_how_an_rsa_key_signs() {
    for (list, algorithm) in [
        ("ssh-ed25519,rsa-sha2-256", "rsa-sha2-256"),
        ("rsa-sha2-256,rsa-sha2-512", "rsa-sha2-512"),
        ("ssh-rsa", "rsa-sha2-512"),
    ] {
        let key = Arc::new(PrivateKey::from_file(fixture!("rsa2048"), None).unwrap());
        let (mut client, mut peer) = asked_by(vec![Credential::Key { key, certificate: None }]);
        // The transport said all when the first keys came; what is said last is what holds.
        let mut info = vec![EXT_INFO];
        info.put_uint32(1);
        info.put_string("server-sig-algs");
        info.put_string(list);
        peer.say(&info);
        peer.say(b"\x06\0\0\0\x0cssh-userauth");
        let mut failure = vec![USERAUTH_FAILURE];
        failure.put_string("publickey");
        failure.put_boolean(false);
        peer.say(&failure);
        peer.settle(&mut client).unwrap();
        let got = peer.got();
        let mut reader = wire::Reader::new(&got[1][1..]);
        let words = [(); 3].map(|()| reader.text().unwrap());
        assert_eq!((words, reader.boolean()), (["ann", "ssh-connection", "publickey"], Ok(true)));
        assert_eq!(reader.text(), Ok(algorithm), "{list}");
    }
}

/// A client whose peer, a server, says what a test says, and that is asked for the service.
fn asked() -> (End<Client>, Peer) {
    asked_by(vec![user_key(1)])
}

fn asked_by(credentials: Vec<Credential>) -> (End<Client>, Peer) {
    let client = Client::new(Arc::new(usual()), login(credentials), "host".into(), 22);
    let (mut client, mut peer) = (End::new(client, 1), Peer::server());
    client.role.start(&mut client.random, &mut client.out).unwrap();
    peer.settle(&mut client).unwrap();
    assert_eq!(peer.got(), [b"\x05\0\0\0\x0cssh-userauth"]);
    client.seen();
    (client, peer)
}

/// The same with a channel, which the peer knows as 7, takes 250 bytes on, and 100 in a packet.
fn opened() -> (End<Client>, Peer) {
    let (mut client, mut peer) = asked();
    peer.say(b"\x06\0\0\0\x0cssh-userauth");
    peer.say(&[USERAUTH_SUCCESS]);
    peer.settle(&mut client).unwrap();
    let End { role, random, out, .. } = &mut client;
    role.open(Arc::new(cat()), random, out).unwrap();
    peer.settle(&mut client).unwrap();
    let mut confirmation = vec![CHANNEL_OPEN_CONFIRMATION];
    [0, 7, 250, 100].iter().for_each(|&number| confirmation.put_uint32(number));
    peer.say(&confirmation);
    peer.say(&[CHANNEL_SUCCESS, 0, 0, 0, 0]);
    peer.settle(&mut client).unwrap();
    assert_eq!(client.seen(), [Seen::Authenticated, Seen::Opened(0)]);
    peer.got();
    (client, peer)
}

#[test]
fn data_is_split_by_what_the_peer_takes() {
    let (mut client, mut peer) = opened();
    assert_eq!(client.role.room(0), 250);
    let sent = bytes(300);
    assert_eq!(client.say(0, &sent), 250);
    assert_eq!(client.role.room(0), 0);
    peer.settle(&mut client).unwrap();
    let got = peer.got();
    let expected: Vec<Vec<u8>> = [&sent[..100], &sent[100..200], &sent[200..250]]
        .map(|piece| [&[CHANNEL_DATA, 0, 0, 0, 7, 0, 0, 0, piece.len() as u8], piece].concat())
        .into();
    assert_eq!(got, expected);
    assert_eq!(client.say(0, &sent), 0, "nothing is sealed where there is no room");
}

#[test]
fn what_is_not_known_is_answered_by_its_number_and_changes_nothing() {
    let (mut client, mut peer) = opened();
    // Under strict key exchange the count began with the first keys: EXT_INFO, SERVICE_ACCEPT, SUCCESS,
    // confirmation, success.
    for (sequence, number) in (5u32..).zip([8, 19, 54, 59, 62, 79, 83, 101, 192, 255]) {
        peer.say(&[number]);
        let out = std::mem::take(&mut peer.out);
        client.take(&out).unwrap();
        let answer = std::mem::take(&mut client.out);
        let sealed = peer.transport.sealed_bytes(5);
        assert_eq!(answer.len(), sealed, "UNIMPLEMENTED and its sequence number {sequence}");
        peer.take(&answer).unwrap();
        assert_eq!(peer.got(), [] as [Vec<u8>; 0], "it is the transport's own");
    }
    peer.say(&[CHANNEL_DATA, 0, 0, 0, 0, 0, 0, 0, 1, b'x']);
    peer.settle(&mut client).unwrap();
    assert_eq!(client.seen(), [Seen::Data(0, b"x".to_vec())]);
}

#[test]
fn keepalives_and_what_else_a_server_may_ask_are_answered() {
    let (mut client, mut peer) = opened();
    let mut global = vec![GLOBAL_REQUEST];
    global.put_string("keepalive@openssh.com");
    global.put_boolean(true);
    let mut channel = vec![CHANNEL_REQUEST, 0, 0, 0, 0];
    channel.put_string("keepalive@openssh.com");
    channel.put_boolean(true);
    let mut open = vec![CHANNEL_OPEN];
    open.put_string("x11");
    [9, 100, 100].iter().for_each(|&number| open.put_uint32(number));
    let mut refusal = vec![CHANNEL_OPEN_FAILURE, 0, 0, 0, 9, 0, 0, 0, 1];
    refusal.put_string("not taken");
    refusal.put_string("");
    for (asked, answer) in [
        (&global[..], &[REQUEST_FAILURE][..]),
        (&channel, &[CHANNEL_FAILURE, 0, 0, 0, 7]),
        (&open, &refusal),
        (&[IGNORE, 0, 0, 0, 1, 0], &[]),
        (&[DEBUG, 1, 0, 0, 0, 0, 0, 0, 0, 0], &[]),
        (&[UNIMPLEMENTED, 0, 0, 0, 3], &[]),
    ] {
        peer.say(asked);
        peer.settle(&mut client).unwrap();
        assert_eq!(peer.got().concat(), answer);
        assert_eq!(client.seen(), []);
    }
}

/// Says `payload`, which is to end the connection by `fault`, and what the peer is told.
fn ends(mut client: End<Client>, mut peer: Peer, payload: &[u8], fault: &Fault, code: u32) {
    peer.say(payload);
    assert_eq!(peer.settle(&mut client), Err(fault.clone()), "{payload:?}");
    let told = std::mem::take(&mut client.out);
    let told = peer.take(&told);
    assert!(
        matches!(&told, Err(Fault::SshDisconnected { code: told, .. }) if *told == code),
        "{payload:?}: {told:?}"
    );
    // Nothing more is taken, said or sealed.
    peer.say(&[CHANNEL_DATA, 0, 0, 0, 0, 0, 0, 0, 1, b'x']);
    let more = std::mem::take(&mut peer.out);
    client.seen();
    client.take(&more).unwrap();
    let End { role, random, out, seen, .. } = &mut client;
    assert_eq!(role.room(0), 0);
    role.close(0, random, out).unwrap();
    role.disconnect(random, out).unwrap();
    role.rekey(random, out).unwrap();
    assert_eq!((out.len(), seen.len()), (0, 0));
}

#[test]
fn what_breaks_the_rules_ends_the_connection_with_a_reason() {
    let protocol = |what| Fault::SshProtocol(what);
    let absent = "a message for a channel that is not there";
    for (payload, what) in [
        (&[CHANNEL_DATA, 0, 0, 0, 1, 0, 0, 0, 0][..], absent),
        (&[CHANNEL_SUCCESS, 0, 0, 0, 0], "an answer without a request"),
        (&[CHANNEL_WINDOW_ADJUST, 0, 0, 0, 0, 255, 255, 255, 255], "a window beyond 2^32 - 1 bytes"),
        (&[CHANNEL_DATA, 0, 0, 0, 0, 255, 255, 255, 255], "a packet ends within a field"),
    ] {
        let (client, peer) = opened();
        ends(client, peer, payload, &protocol(what), PROTOCOL_ERROR);
    }
    for number in [SERVICE_REQUEST, SERVICE_ACCEPT, USERAUTH_SUCCESS, USERAUTH_BANNER, REQUEST_SUCCESS] {
        let (client, peer) = opened();
        ends(client, peer, &[number], &WRONG_PHASE, PROTOCOL_ERROR);
    }
    for number in [SERVICE_REQUEST, USERAUTH_SUCCESS, GLOBAL_REQUEST, CHANNEL_OPEN, CHANNEL_DATA] {
        let (client, peer) = asked();
        ends(client, peer, &[number], &WRONG_PHASE, PROTOCOL_ERROR);
    }
}

#[test]
fn a_window_is_open_again_before_it_is_used_up() {
    let (mut client, mut peer) = opened();
    for _ in 0..256 {
        peer.say(&[&[CHANNEL_DATA, 0, 0, 0, 0, 0, 0, 0x40, 0][..], &[0; 0x4000]].concat());
    }
    peer.settle(&mut client).unwrap();
    assert_eq!(client.seen().len(), 256);
    let adjust = [CHANNEL_WINDOW_ADJUST, 0, 0, 0, 7, 0, 8, 0, 0].to_vec();
    assert_eq!(peer.got(), vec![adjust; 8], "half a window at a time");
}

#[test]
fn a_packet_that_is_played_again_ends_the_connection() {
    for cipher in Algorithms::CIPHERS {
        let offer = Algorithms { ciphers: vec![cipher], ..Algorithms::default() };
        let mut pair =
            Pair::connected(client_config(offer, 1 << 30, 10), server_config(1 << 30, 10), usize::MAX);
        let id = pair.open(forward());
        pair.settle();
        pair.client.say(id, &[0; 5]);
        let packet = std::mem::take(&mut pair.client.out);
        assert_eq!(pair.server.take(&packet), Ok(()));
        let again = pair.server.take(&packet);
        // Where the length is sealed with the sequence number, it comes out as no length at all.
        let length = Fault::SshProtocol("a packet's length is not one that it can have");
        assert!(again == Err(Fault::SshTampered) || again == Err(length), "{cipher}: {again:?}");
    }
}

#[test]
fn a_disconnect_is_told_with_words_that_harm_no_terminal() {
    let (mut client, mut peer) = opened();
    let mut payload = vec![DISCONNECT];
    payload.put_uint32(11);
    payload.put_string(format!("bye\x1b[2J{}", "x".repeat(10_000)));
    payload.put_string("");
    peer.say(&payload);
    let Err(Fault::SshDisconnected { code: 11, description }) = peer.settle(&mut client) else {
        panic!("a disconnect")
    };
    assert!(description.starts_with("bye"));
    assert!(description.len() <= DESCRIPTION_BYTES_MAX && !description.chars().any(char::is_control));
    assert_eq!(client.out, [] as [u8; 0], "there is nobody to answer");
}

#[test]
fn each_damaged_byte_ends_the_connection() {
    for cipher in Algorithms::CIPHERS {
        let offer = Algorithms { ciphers: vec![cipher], ..Algorithms::default() };
        let client = client_config(offer, 1 << 30, 1 << 20);
        let mut pair = Pair::connected(client, server_config(1 << 30, 1 << 20), usize::MAX);
        let id = pair.open(forward());
        pair.settle();
        pair.client.say(id, b"hello");
        let mut sent = std::mem::take(&mut pair.client.out);
        let at = (pair.client.random)() as usize % (sent.len() - 4) + 4;
        sent[at] ^= 0x10;
        assert_eq!(pair.server.take(&sent), Err(Fault::SshTampered), "{cipher}, byte {at}");
        assert!(!pair.server.out.is_empty(), "a reason is given");
    }
}

#[test]
fn a_client_that_is_done_says_so() {
    let mut pair = Pair::usual();
    pair.open(cat());
    pair.settle();
    pair.server.seen();
    let End { role, random, out, .. } = &mut pair.client;
    role.disconnect(random, out).unwrap();
    role.disconnect(random, out).unwrap();
    assert_eq!(role.room(0), 0);
    let told = std::mem::take(out);
    let description = "done".to_owned();
    assert_eq!(pair.server.take(&told), Err(Fault::SshDisconnected { code: 11, description }));
    assert_eq!(pair.client.take(b"whatever"), Ok(()));
    let open = pair.client.role.open(Arc::new(cat()), &mut pair.client.random, &mut pair.client.out);
    assert_eq!(open, Err(Fault::SshProtocol("the connection is over")));
}

#[test]
fn a_server_takes_no_message_out_of_its_phase() {
    let connected = || {
        let config = ServerConfig { none: true, ..server_config(1 << 30, 1 << 20) };
        let mut server = End::new(Server::new(Arc::new(config)), 1);
        server.role.start(&mut server.random, &mut server.out).unwrap();
        let mut peer = Peer::client();
        peer.settle(&mut server).unwrap();
        (server, peer)
    };
    for number in [SERVICE_ACCEPT, USERAUTH_REQUEST, USERAUTH_INFO_RESPONSE, GLOBAL_REQUEST, CHANNEL_OPEN] {
        let (mut server, mut peer) = connected();
        peer.say(&[number]);
        assert_eq!(peer.settle(&mut server), Err(WRONG_PHASE));
    }
    let mut none = vec![USERAUTH_REQUEST];
    ["ann", "ssh-connection", "none"].iter().for_each(|text| none.put_string(text));
    for number in [SERVICE_REQUEST, USERAUTH_SUCCESS, CHANNEL_OPEN_CONFIRMATION, CHANNEL_SUCCESS] {
        let (mut server, mut peer) = connected();
        peer.say(b"\x05\0\0\0\x0cssh-userauth");
        peer.say(&none);
        peer.say(&none); // RFC 4252 §5.1: ignored behind the success
        peer.settle(&mut server).unwrap();
        assert_eq!(server.seen().last(), Some(&Seen::Authenticated));
        let numbers: Vec<u8> = peer.got().iter().map(|payload| payload[0]).collect();
        assert_eq!(numbers, [SERVICE_ACCEPT, USERAUTH_BANNER, USERAUTH_SUCCESS]);
        peer.say(&[number]);
        assert_eq!(peer.settle(&mut server), Err(WRONG_PHASE), "{number}");
    }
}
