//! A stream is open, first or again: which server it found, and what became of what it had lost.

use scale_ring::{Ring, Time};

use crate::stream::lost::Session;
use crate::stream::meter::Figure;

use super::turn::Worker;

impl<R: Ring> Worker<R> {
    /// An open connection is about to be lost: what is needed to compare it with the next one.
    pub(super) fn remember(&mut self, index: u32, now: Time) {
        let Self { connections, streams, share, pool, .. } = self;
        let connection = connections[index as usize].as_ref().expect("a live connection");
        let flow = &mut streams[connection.stream as usize];
        let group = &share.groups[usize::from(flow.group)];
        let terminal = group.terminal.and_then(|terminal| Some((connection.marker()?, terminal.echo)));
        flow.lose(now, terminal, &group.payload, pool);
    }

    /// The stream is open: counts its server's version and, after a loss, how long that took, and
    /// whether the session went on.
    pub(super) fn compare(&mut self, index: u32, now: Time) {
        let Self { connections, streams, groups, share, meter, versions, .. } = self;
        let connection = connections[index as usize].as_mut().expect("a live connection");
        let flow = &mut streams[connection.stream as usize];
        let number = usize::from(flow.group);
        let versions = &mut versions[number];
        flow.version = versions.meet(connection.take_build().as_deref(), now);
        let preamble = connection.take_preamble();
        let Some(lost) = flow.lost.take() else { return };
        versions.change(lost.version, flow.version);
        let cell = groups[number].cell_now(flow.target);
        meter.record(cell, Figure::Reconnect, now.ns_since(lost.at));
        let counters = meter.counters(cell);
        counters.reconnects += 1;
        let Some(preamble) = preamble else { return };
        match lost.judge(&preamble, &share.groups[number].payload) {
            None => {}
            Some(Session::Unknown) => counters.sessions_unknown += 1,
            Some(Session::New { bytes_lost }) => {
                counters.sessions_new += 1;
                counters.typed_lost += bytes_lost;
            }
            Some(Session::Same { bytes_lost }) => {
                counters.sessions_same += 1;
                counters.sessions_intact += u64::from(bytes_lost == Some(0));
                counters.sessions_cut += u64::from(bytes_lost.is_none());
                counters.typed_lost += bytes_lost.unwrap_or(0);
                counters.replayed += u64::from(preamble.preamble_bytes());
            }
        }
    }
}
