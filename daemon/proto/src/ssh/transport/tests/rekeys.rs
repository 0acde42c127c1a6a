//! New keys while payloads go both ways.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Act {
    Send { client: bool, bytes: usize },
    Rekey { client: bool },
    Deliver { to_client: bool, bytes: usize },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (any::<bool>(), 1usize..2000).prop_map(|(client, bytes)| Act::Send { client, bytes }),
        1 => any::<bool>().prop_map(|client| Act::Rekey { client }),
        6 => (any::<bool>(), prop_oneof![1usize..40, 1usize..4000]).prop_map(|(to_client, bytes)| Act::Deliver { to_client, bytes }),
    ]
}

/// What one side has sent and the other has not been shown.
#[derive(Default)]
struct Wire(Vec<u8>);

impl Wire {
    fn deliver(&mut self, from: &mut End, to: &mut End, bytes: usize) {
        self.0.append(&mut from.out);
        let rest = self.0.split_off(bytes.min(self.0.len()));
        to.feed(&std::mem::replace(&mut self.0, rest)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_payload_arrives_in_order_whoever_asks_for_keys_and_when(
        which: prop::sample::Index, acts in vec(act(), 0..120), limit in prop_oneof![Just(u64::MAX), 1u64..6000],
    ) {
        let suites = suites();
        let (cipher, mac) = suites[which.index(suites.len())];
        let algorithms = suite(cipher, mac);
        let mut pair = Pair::open_with(&algorithms, limit);
        let Pair { client, server } = &mut pair;
        let (mut up, mut down) = (Wire::default(), Wire::default());
        let (mut to_server, mut to_client) = (VecDeque::new(), VecDeque::new());
        for (number, act) in acts.into_iter().enumerate() {
            match act {
                Act::Send { client: true, bytes } => {
                    to_server.push_back(data(bytes, number as u8));
                    client.send(&data(bytes, number as u8));
                }
                Act::Send { client: false, bytes } => {
                    to_client.push_back(data(bytes, number as u8));
                    server.send(&data(bytes, number as u8));
                }
                Act::Rekey { client: true } => client.rekey(),
                Act::Rekey { client: false } => server.rekey(),
                Act::Deliver { to_client: true, bytes } => down.deliver(server, client, bytes),
                Act::Deliver { to_client: false, bytes } => up.deliver(client, server, bytes),
            }
        }
        loop {
            up.deliver(client, server, usize::MAX);
            down.deliver(server, client, usize::MAX);
            if client.out.is_empty() && server.out.is_empty() {
                break;
            }
        }
        prop_assert!(client.transport.exchange.is_none() && server.transport.exchange.is_none());
        prop_assert_eq!(&server.received, &to_server);
        prop_assert_eq!(&client.received, &to_client);
    }
}

#[test]
fn keys_that_both_ask_for_at_once_are_exchanged_once() {
    let mut pair = Pair::open(&Algorithms::default());
    let id = *pair.client.transport.session_id();
    pair.client.rekey();
    pair.server.rekey();
    assert!(pair.client.transport.is_exchanging() && pair.server.transport.is_exchanging());
    pair.settle(usize::MAX).unwrap();
    assert_eq!(
        (&pair.client.exchanges[..], &pair.server.exchanges[..]),
        (&[false, true][..], &[false, true][..])
    );
    assert_eq!(pair.client.transport.session_id(), &id, "the session keeps its name");
}

#[test]
fn data_on_its_way_when_keys_are_asked_for_arrives() {
    let mut pair = Pair::open(&Algorithms::default());
    pair.server.send(&data(100, 7));
    let early = pair.server.take_out();
    pair.client.rekey();
    pair.client.feed(&early).unwrap();
    assert_eq!(pair.client.received.pop_front(), Some(data(100, 7)));
    // What is sent meanwhile waits for the new keys.
    pair.client.send(&data(50, 8));
    pair.settle(usize::MAX).unwrap();
    assert_eq!(pair.server.received.pop_front(), Some(data(50, 8)));
}

#[test]
fn either_direction_s_bytes_are_enough_for_new_keys() {
    for client_sends in [true, false] {
        let mut pair = Pair::open_with(&Algorithms::default(), 20_000);
        for sent in 1..=100usize {
            let (from, to) = match client_sends {
                true => (&mut pair.client, &mut pair.server),
                false => (&mut pair.server, &mut pair.client),
            };
            from.send(&data(1000, sent as u8));
            to.feed(&from.take_out()).unwrap();
            // The limit is looked at when something comes.
            from.feed(&[]).unwrap();
            pair.settle(usize::MAX).unwrap();
            let again = pair.client.exchanges.len() - 1;
            assert!(again >= sent / 21 && again <= sent / 18, "{again} of {sent} KB");
        }
    }
}

#[test]
fn so_are_packets() {
    for outgoing in [true, false] {
        let mut pair = Pair::open(&Algorithms::default());
        if outgoing {
            pair.client.transport.outgoing.set_used((1 << 31) - 1, 7);
            pair.server.transport.incoming.set_used(0, 7);
        } else {
            pair.client.transport.incoming.set_used((1 << 31) - 1, 7);
            pair.server.transport.outgoing.set_used(0, 7);
        }
        pair.client.feed(&[]).unwrap();
        assert!(!pair.client.transport.is_exchanging());
        if outgoing {
            pair.client.send(&data(9, 0));
        } else {
            pair.server.send(&data(9, 0));
        }
        pair.settle(usize::MAX).unwrap();
        pair.client.feed(&[]).unwrap();
        pair.settle(usize::MAX).unwrap();
        assert_eq!(pair.client.exchanges, [false, true]);
    }
}

#[test]
fn sequence_numbers_wrap_under_every_cipher() {
    for (cipher, mac) in suites() {
        let mut pair = Pair::open(&suite(cipher, mac));
        for end in [&mut pair.client, &mut pair.server] {
            end.transport.outgoing.set_used(5, u32::MAX - 2);
            end.transport.incoming.set_used(5, u32::MAX - 2);
        }
        for seed in 0..6 {
            pair.client.send(&data(100, seed));
            pair.server.send(&data(10, seed));
            pair.settle(1).unwrap();
            assert_eq!(pair.server.received.pop_front(), Some(data(100, seed)));
            assert_eq!(pair.client.received.pop_front(), Some(data(10, seed)));
        }
    }
}

#[test]
fn a_sequence_number_is_never_used_twice_under_a_key() {
    let mut pair = Pair::open(&Algorithms::default());
    pair.client.rekey(); // and the server does not hear it
    pair.client.out.clear();
    pair.client.transport.exchange = None;
    pair.client.transport.outgoing.set_used((1 << 32) - 1, 9);
    let mut out = [0; 64];
    let End { transport, random, .. } = &mut pair.client;
    assert!(transport.seal_in_place(&mut out, 20, random, |place| place.fill(94)).is_ok());
    assert!(transport.seal_in_place(&mut out, 20, random, |place| place.fill(94)).is_err());
    let End { transport, random, out, .. } = &mut pair.server;
    transport.incoming.set_used(1 << 32, 9);
    let mut packet = vec![0; 16 + 4 + 16];
    packet[3] = 16;
    let refused = transport.next(&mut packet, random, out);
    assert!(matches!(refused, Err(Fault::SshProtocol(_))));
}

#[test]
fn what_waits_has_a_limit() {
    let mut pair = Pair::open(&Algorithms::default());
    pair.client.rekey();
    let End { transport, random, out, .. } = &mut pair.client;
    let payload = data(32_000, 0);
    let kept = (0..100).find(|_| transport.seal_payload(&payload, random, out).is_err()).unwrap();
    assert_eq!(kept, WAITING_BYTES_MAX / (payload.len() + 4));
    pair.settle(usize::MAX).unwrap();
    assert_eq!(pair.server.received.len(), kept);
}

#[test]
fn keys_are_not_asked_for_before_the_user_is_authenticated() {
    let mut pair = Pair::new(Algorithms::default(), Algorithms::default(), 1);
    pair.settle(usize::MAX).unwrap();
    pair.client.rekey();
    pair.client.send(&[message::SERVICE_REQUEST]);
    pair.settle(usize::MAX).unwrap();
    assert_eq!((pair.client.exchanges.len(), pair.server.exchanges.len()), (1, 1));
    pair.authenticate();
    assert!(pair.client.exchanges.len() > 1, "and then at once");
}
