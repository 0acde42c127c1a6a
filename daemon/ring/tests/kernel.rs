//! The ring on the real kernel, over loopback, with every optional feature on and off.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use scale_ring::{
    Completion, Errno, Features, InterfaceName, Kernel, KernelConfig, Outcome, Ring, Socket, SocketOptions,
    Token,
};

const CONNECT: u8 = 0;
const RECEIVE: u8 = 1;
const SEND: u8 = 2;
const CLOSE: u8 = 3;

fn ring(features: Features, receive_buffers: u16, sockets_max: u32) -> Kernel {
    Kernel::new(&KernelConfig { sockets_max, receive_buffers, receive_buffer_bytes: 4096, features })
        .expect("a ring")
}

/// Completions until `enough`, for 5 s at most.
fn until(ring: &mut Kernel, mut enough: impl FnMut(&mut Kernel, Completion) -> bool) {
    let deadline = ring.now().plus_ns(5_000_000_000);
    let mut batch = Vec::new();
    loop {
        let soon = ring.now().plus_ns(10_000_000);
        ring.wait(soon);
        ring.drain(&mut batch, 64);
        let mut done = false;
        for completion in batch.drain(..) {
            done |= enough(ring, completion);
        }
        if done {
            return;
        }
        assert!(ring.now() < deadline, "nothing more completes");
    }
}

fn connected(ring: &mut Kernel, listener: &TcpListener, options: &SocketOptions) -> (Socket, TcpStream) {
    let socket = ring.open(options).expect("a socket");
    ring.connect(socket, listener.local_addr().unwrap(), Token::new(CONNECT, 1, 1));
    until(ring, |_, completion| matches!(completion.outcome, Outcome::Connected));
    (socket, listener.accept().unwrap().0)
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn echo(features: Features, sockets_max: u32) -> Kernel {
    let mut ring = ring(features, 8, sockets_max);
    let listener = listener();
    let (socket, mut peer) = connected(&mut ring, &listener, &SocketOptions::default());
    ring.receive(socket, Token::new(RECEIVE, 1, 1));
    for round in 0..20 {
        let mut buffer = ring.send_buffer(4);
        buffer.extend(&[round, 1, 2, 3]);
        ring.send(socket, buffer, Token::new(SEND, 1, 1));
        until(&mut ring, |ring, completion| match completion.outcome {
            Outcome::Sent { buffer, sent } => {
                assert_eq!(sent, buffer.len());
                ring.recycle(buffer);
                true
            }
            _ => false,
        });
        let mut bytes = [0; 4];
        peer.read_exact(&mut bytes).unwrap();
        peer.write_all(&bytes).unwrap();
        until(&mut ring, |ring, completion| match completion.outcome {
            Outcome::Received { bytes, more } => {
                assert_eq!(ring.received(&bytes), [round, 1, 2, 3]);
                ring.release(bytes);
                if !more {
                    ring.receive(socket, completion.token);
                }
                true
            }
            other => panic!("{other:?}"),
        });
    }
    drop(peer);
    until(&mut ring, |_, completion| matches!(completion.outcome, Outcome::Ended));
    ring.close(socket, Token::new(CLOSE, 1, 1));
    until(&mut ring, |_, completion| matches!(completion.outcome, Outcome::Closed));
    ring
}

#[test]
fn bytes_go_out_and_come_back_with_each_feature_switched_off() {
    echo(Features::ALL, 4);
    for (name, ..) in Features::ALL.table() {
        let features = Features::ALL.without(name).unwrap();
        let ring = echo(features, 4);
        let off = ring.features().table().into_iter().find(|(known, ..)| *known == name);
        assert_eq!(off.map(|(_, on, _)| on), Some(false), "{name}");
    }
    let all: Vec<&str> = Features::ALL.table().iter().map(|(name, ..)| *name).collect();
    echo(Features::ALL.without(&all.join(",")).unwrap(), 4);
    assert!(Features::ALL.without("epoll").unwrap_err().contains("min_wait"));
}

#[test]
fn beyond_the_table_sockets_are_ordinary_ones() {
    let mut ring = ring(Features::ALL, 8, 2);
    let listener = listener();
    let pairs: Vec<_> = (0..5).map(|_| connected(&mut ring, &listener, &SocketOptions::default())).collect();
    assert_eq!(ring.counters().ordinary_descriptors, 3);
    for (socket, mut peer) in pairs {
        ring.receive(socket, Token::new(RECEIVE, 1, 1));
        ring.submit();
        ring.close(socket, Token::new(CLOSE, 1, 1));
        until(&mut ring, |_, completion| matches!(completion.outcome, Outcome::Closed));
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0, "the peer sees FIN though a receive was armed");
    }
    // The slots are free again.
    let before = ring.counters().ordinary_descriptors;
    let _more: Vec<_> = (0..2).map(|_| connected(&mut ring, &listener, &SocketOptions::default())).collect();
    assert_eq!(ring.counters().ordinary_descriptors, before);
}

#[test]
fn an_abort_is_a_reset_for_the_peer_even_with_a_receive_armed_and_a_send_stuck() {
    let mut ring = ring(Features::ALL, 8, 8);
    let listener = listener();
    let small = SocketOptions { send_buffer_bytes: Some(4096), ..SocketOptions::default() };
    for stuck in [false, true] {
        let (socket, mut peer) = connected(&mut ring, &listener, &small);
        ring.receive(socket, Token::new(RECEIVE, 1, 1));
        if stuck {
            let mut buffer = ring.send_buffer(32 << 20);
            let all = buffer.spare_mut().len();
            buffer.commit(all);
            ring.send(socket, buffer, Token::new(SEND, 1, 1));
        }
        ring.submit();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let before = ring.now();
        ring.abort(socket, Token::new(CLOSE, 1, 1));
        let (mut sends, mut closed) = (0, false);
        until(&mut ring, |ring, completion| {
            match completion.outcome {
                Outcome::Sent { buffer, .. } | Outcome::SendFailed { buffer, .. } => {
                    sends += 1;
                    ring.recycle(buffer);
                }
                Outcome::Closed => closed = true,
                _ => {}
            }
            closed && sends == usize::from(stuck)
        });
        assert!(ring.now().ns_since(before) < 1_000_000_000, "an abort does not wait");
        let mut bytes = vec![0; 1 << 20];
        let error = loop {
            match peer.read(&mut bytes) {
                Ok(0) => panic!("FIN instead of RST"),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_refused_connect_a_taken_port_and_a_foreign_address_are_told_apart() {
    let mut ring = ring(Features::ALL, 8, 8);
    let gone = listener().local_addr().unwrap();
    let socket = ring.open(&SocketOptions::default()).unwrap();
    ring.connect(socket, gone, Token::new(CONNECT, 1, 1));
    until(&mut ring, |_, c| matches!(c.outcome, Outcome::Failed(Errno::Refused)));
    let taken = listener();
    let bind = |address: SocketAddr| SocketOptions { bind: Some(address), ..SocketOptions::default() };
    assert_eq!(ring.open(&bind(taken.local_addr().unwrap())), Err(Errno::AddressInUse));
    assert_eq!(ring.open(&bind("192.0.2.1:0".parse().unwrap())), Err(Errno::AddressNotAvailable));
    // A source address and port of ours are what the peer sees.
    let listener = listener();
    let (_, peer) = connected(&mut ring, &listener, &bind("127.0.9.9:0".parse().unwrap()));
    assert_eq!(peer.peer_addr().unwrap().ip().to_string(), "127.0.9.9");
    // Through an interface, with a port of ours, and not through one that is not there.
    let through = |name: &str| {
        let interface = InterfaceName::new(name);
        SocketOptions { interface, ..bind("127.0.9.9:0".parse().unwrap()) }
    };
    let (_, peer) = connected(&mut ring, &listener, &through("lo"));
    assert_eq!(peer.peer_addr().unwrap().ip().to_string(), "127.0.9.9");
    assert_eq!(ring.open(&through("no-such-one")), Err(Errno::AddressNotAvailable));
}

#[test]
fn with_two_buffers_exhaustion_is_reported_and_nothing_is_lost() {
    let mut ring = ring(Features::ALL, 2, 8);
    let listener = listener();
    let (socket, mut peer) = connected(&mut ring, &listener, &SocketOptions::default());
    ring.receive(socket, Token::new(RECEIVE, 1, 1));
    const BYTES: usize = 64 << 10;
    peer.write_all(&vec![7; BYTES]).unwrap();
    let (mut got, mut held) = (0, Vec::new());
    until(&mut ring, |ring, completion| {
        match completion.outcome {
            Outcome::Received { bytes, more } => {
                got += bytes.len();
                held.push(bytes);
                if !more {
                    ring.receive(socket, completion.token);
                }
            }
            Outcome::Failed(Errno::NoBuffers) => {
                held.drain(..).for_each(|bytes| ring.release(bytes));
                ring.receive(socket, completion.token);
            }
            other => panic!("{other:?}"),
        }
        got == BYTES
    });
    assert!(ring.counters().buffers_exhausted > 0);
}

#[test]
fn a_ring_may_go_with_operations_under_way() {
    for _ in 0..20 {
        let mut ring = ring(Features::ALL, 8, 8);
        let listener = listener();
        let (socket, _peer) = connected(&mut ring, &listener, &SocketOptions::default());
        ring.receive(socket, Token::new(RECEIVE, 1, 1));
        let mut buffer = ring.send_buffer(16 << 20);
        let all = buffer.spare_mut().len();
        buffer.commit(all);
        ring.send(socket, buffer, Token::new(SEND, 1, 1));
        ring.submit();
    }
}

#[test]
fn thousands_of_sockets_are_closed_in_time_that_grows_with_their_number_only() {
    const SOCKETS: usize = 5000;
    let mut server = ring(Features::ALL, 64, 2 * SOCKETS as u32);
    let (listener, at) = server.listen("127.0.0.1:0".parse().unwrap(), &SocketOptions::default()).unwrap();
    server.accept(listener, Token::new(CONNECT, 0, 0));
    let mut client = ring(Features::ALL, 64, 2 * SOCKETS as u32);
    let (mut opened, mut accepted) = (Vec::new(), 0);
    let mut batch = Vec::new();
    while opened.len() < SOCKETS {
        for _ in 0..100 {
            let socket = client.open(&SocketOptions::default()).unwrap();
            client.connect(socket, at, Token::new(CONNECT, 1, opened.len() as u32));
            client.receive(socket, Token::new(RECEIVE, 1, opened.len() as u32));
            opened.push(socket);
        }
        let soon = client.now().plus_ns(1_000_000);
        client.wait(soon);
        client.drain(&mut batch, usize::MAX);
        batch.clear();
        server.wait(soon);
        server.drain(&mut batch, usize::MAX);
        accepted += batch.drain(..).filter(|c| matches!(c.outcome, Outcome::Accepted { .. })).count();
    }
    let deadline = server.now().plus_ns(5_000_000_000);
    while accepted < SOCKETS && server.now() < deadline {
        let soon = server.now().plus_ns(1_000_000);
        server.wait(soon);
        server.drain(&mut batch, usize::MAX);
        accepted += batch.drain(..).filter(|c| matches!(c.outcome, Outcome::Accepted { .. })).count();
    }
    assert_eq!(accepted, SOCKETS);
    for (index, socket) in opened.into_iter().enumerate() {
        client.close(socket, Token::new(CLOSE, 1, index as u32));
    }
    let mut closed = 0;
    until(&mut client, |_, completion| {
        closed += usize::from(matches!(completion.outcome, Outcome::Closed));
        closed == SOCKETS
    });
}

#[test]
fn accepts_go_on_with_ordinary_descriptors_when_the_table_is_nearly_full_and_come_back() {
    const TABLE: u32 = 8;
    let mut server = ring(Features::ALL, 8, TABLE);
    let (listener, address) =
        server.listen("127.0.0.1:0".parse().unwrap(), &SocketOptions::default()).expect("it listens");
    server.accept(listener, Token::new(CONNECT, 0, 0));
    let accept = |server: &mut Kernel| {
        let peer = TcpStream::connect(address).unwrap();
        let mut accepted = None;
        until(server, |server, completion| {
            match completion.outcome {
                Outcome::Accepted { socket, more } => {
                    accepted = Some(socket);
                    if !more {
                        server.accept(listener, completion.token);
                    }
                }
                // Stopped, to be armed for the other kind of descriptors.
                Outcome::Failed(Errno::Cancelled) => server.accept(listener, completion.token),
                _ => {}
            }
            accepted.is_some()
        });
        (accepted.unwrap(), peer)
    };
    let many: Vec<_> = (0..3 * TABLE).map(|_| accept(&mut server)).collect();
    let ordinary = server.counters().ordinary_descriptors;
    assert!((2 * u64::from(TABLE)..3 * u64::from(TABLE)).contains(&ordinary), "{ordinary} of 24");
    for (socket, mut peer) in many {
        server.close(socket, Token::new(CLOSE, 1, 1));
        until(&mut server, |server, completion| {
            if matches!(completion.outcome, Outcome::Failed(Errno::Cancelled)) {
                server.accept(listener, completion.token);
            }
            matches!(completion.outcome, Outcome::Closed)
        });
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0, "the peer sees FIN");
    }
    let _again: Vec<_> = (0..2).map(|_| accept(&mut server)).collect();
    assert!(server.counters().ordinary_descriptors <= ordinary + 1, "slots are used again");
}
