//! A client against a server in memory, and each against a peer that breaks the rules.

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../fixtures/ssh/", $name)).as_slice()
    };
}

mod auth;
mod channels;
mod connection;
mod pair;

use std::sync::Arc;

use super::*;
use crate::Fault;

/// An event that outlives its input.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Identified(String),
    Keys(Negotiated),
    Authenticated,
    Requested(ChannelId, Purpose),
    Opened(ChannelId),
    Refused(ChannelId, Option<u32>, String),
    Data(ChannelId, Vec<u8>),
    Extended(ChannelId, Vec<u8>),
    Exited(ChannelId, Exit),
    Ended(ChannelId),
    Closed(ChannelId),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Identified(line) => Self::Identified(line.to_owned()),
            Event::KeysExchanged(negotiated) => Self::Keys(negotiated),
            Event::Authenticated => Self::Authenticated,
            Event::Requested { channel, purpose } => Self::Requested(channel, (*purpose).clone()),
            Event::Opened(channel) => Self::Opened(channel),
            Event::Refused { channel, code, description } => {
                Self::Refused(channel, code, description.to_owned())
            }
            Event::Data { channel, bytes } => Self::Data(channel, bytes.to_vec()),
            Event::ExtendedData { channel, bytes } => Self::Extended(channel, bytes.to_vec()),
            Event::Exited { channel, exit } => Self::Exited(channel, exit),
            Event::Ended(channel) => Self::Ended(channel),
            Event::Closed(channel) => Self::Closed(channel),
        }
    }
}

/// Runs `cat`.
fn cat() -> Purpose {
    Purpose::Session { environment: Vec::new(), pty: None, program: Program::Exec("cat".to_owned()) }
}

/// A shell on a terminal with an environment.
fn shell() -> Purpose {
    Purpose::Session {
        environment: vec![("LANG".to_owned(), "C".to_owned()), ("A".to_owned(), "é\n".to_owned())],
        pty: Some(Pty { term: "xterm".to_owned(), columns: 80, rows: 25 }),
        program: Program::Shell,
    }
}

/// A forwarding.
fn forward() -> Purpose {
    Purpose::Forward { host: "db.internal".to_owned(), port: 5432 }
}
