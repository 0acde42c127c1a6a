//! A stream is open, first or again: which server it found, and what became of what it had lost.

use scale_ring::{Ring, Time};

use crate::stream::flow::Stream;
use crate::stream::lost::Session;
use crate::stream::meter::Figure;

use super::changes::{Back, What};
use super::share::GroupPhase;
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

    /// The stream is open: counts its server's version and replica and, after a loss, how long that took, and
    /// whether the session went on.
    pub(super) fn compare(&mut self, index: u32, now: Time) {
        let Self { connections, streams, groups, share, meter, versions, replicas, changes, .. } = self;
        let connection = connections[index as usize].as_mut().expect("a live connection");
        let flow = &mut streams[connection.stream as usize];
        let number = usize::from(flow.group);
        let versions = &mut versions[number];
        let names = connection.take_names().map(|names| *names).unwrap_or_default();
        flow.version = versions.meet(names.build.as_deref(), now);
        flow.replica = replicas[number].meet(names.replica.as_deref(), now);
        let preamble = connection.take_preamble();
        let is_told = groups[number].phase < GroupPhase::Draining;
        let Some(lost) = flow.lost.take() else {
            if is_told {
                changes.note(flow, now, What::Opened);
            }
            return;
        };
        versions.change(lost.version, flow.version);
        let cell = groups[number].cell_now(flow.target);
        meter.record(cell, Figure::Reconnect, now.ns_since(lost.at));
        let counters = meter.counters(cell);
        counters.reconnects += 1;
        let session =
            preamble.as_ref().and_then(|preamble| lost.judge(preamble, &share.groups[number].payload));
        let replayed = preamble.map_or(0, |preamble| u64::from(preamble.preamble_bytes()));
        let bytes_repeated = if matches!(session, Some(Session::Same { .. })) { replayed } else { 0 };
        let Stream { replica, version, .. } = *flow;
        if is_told {
            changes.note(flow, now, What::Back(Back { replica, version, session, bytes_repeated }));
        }
        match session {
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
                counters.replayed += bytes_repeated;
            }
        }
    }
}
