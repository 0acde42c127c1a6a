//! A connection's SSH side: what comes is opened, what goes is sealed.

use std::sync::Arc;

use scale_proto::Fault;
use scale_proto::ssh::{ChannelId, Server, ServerConfig};
use scale_ring::{Ring, SendBuffer, Time};
use scaled::load::Random;

use super::channel::{Channel, Manner};
use super::listen::{Channels, Delayed, Listener, Piece, Said};
use super::{Desk, PIECE, QUEUE_BYTES_MAX};
use crate::sink::{Counts, Settings};

/// A connection's SSH side.
pub(in crate::sink) struct Peer {
    server: Server,
    channels: Channels,
    /// Sealed bytes that wait: they go before what is sealed later.
    out: Vec<u8>,
    /// Nothing more is taken or sealed; what is in `out` still goes.
    pub(super) over: bool,
}

impl Peer {
    /// A connection that was accepted; what is said first waits in it.
    pub fn new(config: Arc<ServerConfig>, desk: &mut Desk) -> Self {
        let channels = Channels::new(config.window_bytes as usize);
        let (mut server, mut out) = (Server::new(config), Vec::new());
        let over = server.start(&mut || desk.random.next(), &mut out).is_err();
        Self { server, channels, out, over }
    }

    /// Bytes that wait sealed.
    pub(super) fn out_bytes(&self) -> usize {
        self.out.len()
    }

    /// Opens what came, and does what that asks for; what goes back as it is becomes pieces.
    pub(super) fn listen(
        &mut self,
        input: &mut [u8],
        (settings, counts): (&Settings, &mut Counts),
        now: Time,
        desk: &mut Desk,
    ) -> Said {
        let Self { server, channels, out, over } = self;
        let Desk { random, pieces, printed, .. } = desk;
        pieces.clear();
        let range = input.as_ptr_range();
        let mut listener = Listener {
            channels,
            settings,
            counts,
            pieces,
            printed,
            input: range.start.addr()..range.end.addr(),
            answer_at: now.plus_ns(settings.delay_ns),
            said: Said::default(),
        };
        let received = server.receive(input, &mut || random.next(), out, &mut |event| listener.take(event));
        let mut said = listener.said;
        match received {
            Ok(received) => said.consumed = received.consumed,
            Err(_) => {
                (*over, said.consumed) = (true, input.len());
                pieces.clear();
            }
        }
        said
    }

    /// Bytes that `pieces` may have when sealed, with what goes before them.
    pub(super) fn answer_bytes_max(&self, pieces: &[Piece]) -> usize {
        let runs = pieces.chunk_by(|one, next| one.channel == next.channel);
        runs.map(|run| self.server.sealed_bytes_max(run[0].channel, bytes(run))).sum::<usize>()
            + self.out.len()
    }

    /// Seals what `pieces` of `input` are into `buffer`, where there is one, behind what waits sealed.
    /// What may not go waits in its channel. How many bytes have gone.
    pub(super) fn answer(
        &mut self,
        input: &[u8],
        mut buffer: Option<&mut SendBuffer>,
        desk: &mut Desk,
    ) -> u64 {
        let Desk { random, pieces, .. } = desk;
        if let Some(buffer) = &mut buffer {
            buffer.extend(&std::mem::take(&mut self.out));
        }
        let mut gone = 0;
        for run in pieces.chunk_by(|one, next| one.channel == next.channel) {
            let channel = run[0].channel;
            let Some(kept) = self.channels.all.get(&channel) else { continue };
            let mut now = 0;
            if let Some(buffer) = &mut buffer
                && kept.queue.is_empty()
            {
                now = bytes(run).min(self.server.room(channel));
                let fill = &mut |from: usize, to: &mut [u8]| gather(input, run, from, to);
                let sealed = seal(&mut self.server, (channel, now), buffer, random, fill);
                self.over |= sealed.is_err();
                gone += sealed.unwrap_or(0);
            }
            self.channels.queue(channel, |kept| {
                let mut skip = now;
                for Piece { at, .. } in run {
                    let skipped = skip.min(at.len());
                    skip -= skipped;
                    kept.queue.extend(&input[at.start + skipped..at.end]);
                }
            });
        }
        self.stop_heavy(random);
        gone
    }

    /// The next send: what waits sealed, and a [`PIECE`] of what waits and may go, which is how many bytes
    /// that count.
    pub(super) fn next_out<R: Ring>(&mut self, ring: &mut R, desk: &mut Desk) -> Option<(SendBuffer, u64)> {
        desk.shares.clear();
        if !self.over {
            if self.server.wants_rekey() {
                let asked = self.server.rekey(&mut || desk.random.next(), &mut self.out);
                self.over |= asked.is_err();
            }
            self.stop_heavy(&mut desk.random);
            self.say_ends(&mut desk.random);
            self.share(&mut desk.shares);
        }
        let of = |&(channel, share): &(ChannelId, usize)| self.server.sealed_bytes_max(channel, share);
        let bytes_max = self.out.len() + desk.shares.iter().map(of).sum::<usize>();
        if bytes_max == 0 {
            return None;
        }
        let mut buffer = ring.send_buffer(bytes_max);
        buffer.extend(&std::mem::take(&mut self.out));
        let mut gone = 0;
        for &(channel, share) in &desk.shares {
            let kept = self.channels.all.get_mut(&channel).expect("it has a share");
            let fill = &mut |from: usize, to: &mut [u8]| kept.copy(from, to);
            let sealed = seal(&mut self.server, (channel, share), &mut buffer, &mut desk.random, fill);
            self.over |= sealed.is_err();
            gone += if kept.counted { 0 } else { sealed.unwrap_or(0) };
            kept.went(share);
        }
        if !self.over {
            self.say_ends(&mut desk.random);
        }
        self.mind_windows(desk.shares.iter().map(|&(channel, _)| channel), &mut desk.random);
        Some((buffer, gone))
    }

    /// Whose turn it is, and how much of each may go.
    fn share(&mut self, shares: &mut Vec<(ChannelId, usize)>) {
        let mut left = PIECE;
        for _ in 0..self.channels.waiting.len() {
            if left == 0 {
                break;
            }
            let Some(channel) = self.channels.waiting.pop_front() else { break };
            let kept = self.channels.all.get_mut(&channel).expect("it has left with its channel");
            let share = kept.queue.len().min(self.server.room(channel)).min(left);
            kept.listed = share < kept.queue.len();
            if kept.listed {
                self.channels.waiting.push_back(channel);
            }
            if share > 0 {
                shares.push((channel, share));
                left -= share;
            }
        }
    }

    /// Says how programs have ended all of whose output has gone.
    fn say_ends(&mut self, random: &mut Random) {
        let Self { server, channels, out, over } = self;
        let Channels { all, ended, .. } = channels;
        ended.retain(|channel| {
            let kept = all.get_mut(channel).expect("it has left with its channel");
            let Some(exit) = &kept.exit else { return false };
            if kept.kept_bytes() > 0 {
                return true;
            }
            kept.manner = Manner::Discard;
            *over |= server.exit(*channel, exit, &mut || random.next(), out).is_err();
            false
        });
    }

    /// Stops the peer by the windows of channels in which much waits, and lets it go on in others.
    fn mind_windows(&mut self, of: impl Iterator<Item = ChannelId>, random: &mut Random) {
        let most = self.channels.kept_bytes_max;
        for channel in of {
            let Some(kept) = self.channels.all.get_mut(&channel) else { continue };
            let held = kept.kept_bytes() > if kept.held { most / 2 } else { most };
            if std::mem::replace(&mut kept.held, held) != held {
                let done = self.server.hold(channel, held, &mut || random.next(), &mut self.out);
                self.over |= done.is_err();
            }
        }
    }

    /// As [`Self::mind_windows`], of channels in which more waits than before.
    fn stop_heavy(&mut self, random: &mut Random) {
        let mut heavy = std::mem::take(&mut self.channels.heavy);
        self.mind_windows(heavy.drain(..), random);
        self.channels.heavy = heavy;
    }

    /// DISCONNECT: nothing is said behind it.
    pub(super) fn leave(&mut self, random: &mut Random) {
        let _ = self.server.disconnect(&mut || random.next(), &mut self.out);
        self.over = true;
    }

    /// Answers whose time has come go into their channels' queues; of how many receives they are.
    pub(super) fn release(&mut self, now: Time) -> u64 {
        let mut count = 0;
        while self.channels.delayed.front().is_some_and(|delayed| delayed.at <= now) {
            let Some(Delayed { channel, bytes, first, .. }) = self.channels.delayed.pop_front() else {
                break;
            };
            count += u64::from(first);
            self.channels.queue(channel, |kept| {
                kept.delayed_bytes -= bytes.len();
                kept.queue.extend(&bytes);
            });
        }
        count
    }

    /// Each channel that sends gets `payload` into its queue, where there is room; how many these are.
    pub(super) fn send(&mut self, payload: &[u8]) -> u64 {
        let sends = |kept: &Channel| {
            matches!(kept.manner, Manner::Send) && kept.exit.is_none() && kept.queue.len() < QUEUE_BYTES_MAX
        };
        let senders = self.channels.all.iter().filter(|(_, kept)| sends(kept));
        let senders: Vec<ChannelId> = senders.map(|(&channel, _)| channel).collect();
        senders.iter().for_each(|&channel| self.channels.queue(channel, |kept| kept.queue.extend(payload)));
        senders.len() as u64
    }
}

/// Seals a channel's `share` at the end of `buffer`; its bytes.
fn seal(
    server: &mut Server,
    (channel, share): (ChannelId, usize),
    buffer: &mut SendBuffer,
    random: &mut Random,
    fill: &mut dyn FnMut(usize, &mut [u8]),
) -> Result<u64, Fault> {
    if share > 0 {
        let sealed = server.seal(channel, share, &mut || random.next(), buffer.spare_mut(), fill)?;
        buffer.commit(sealed);
    }
    Ok(share as u64)
}

/// Payload of a run of pieces.
fn bytes(run: &[Piece]) -> usize {
    run.iter().map(|piece| piece.at.len()).sum()
}

/// Copies what the pieces of a run are, from its byte `from` on.
fn gather(input: &[u8], run: &[Piece], mut from: usize, mut to: &mut [u8]) {
    for Piece { at, .. } in run {
        let skipped = from.min(at.len());
        from -= skipped;
        let piece = &input[at.start + skipped..at.end];
        let (now, rest) = to.split_at_mut(piece.len().min(to.len()));
        now.copy_from_slice(&piece[..now.len()]);
        to = rest;
    }
}
