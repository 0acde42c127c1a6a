//! An end in order: who is connected is told to go, and has time to.

use scale_ring::{Ring, Time};

use super::Sink;

/// The server goes away (RFC 6455 §7.4.1).
pub(super) const GOING_AWAY: u16 = 1001;

impl<R: Ring> Sink<R> {
    /// Accepts no more, and closes all there are behind what has been answered: websockets by a Close 1001, raw
    /// TCP by a FIN. What comes behind our Close is counted and not answered, nor is what still waits for its
    /// `--delay`.
    pub fn drain(&mut self, now: Time) {
        self.stop_accepting();
        for index in 0..self.connections.len() as u32 {
            self.close_in_order(index, now);
        }
    }

    /// Begins to close a connection, where it is live and that has not begun.
    pub(super) fn close_in_order(&mut self, index: u32, now: Time) {
        let Some(connection) = self.connections[index as usize].as_mut().filter(|it| !it.ended) else {
            return;
        };
        if let Some(session) = &mut connection.session {
            if session.is_closing() {
                return;
            }
            self.counts.closes += 1;
            session.close(GOING_AWAY, &mut || [0; 4]);
            self.scratch.limits.answered(connection.delayed_bytes());
            connection.delayed.clear();
        } else {
            connection.closing = true;
        }
        self.record_closing(index, now);
        self.go_on(index, now);
    }

    /// Connections that are not over.
    pub fn live_connections(&self) -> usize {
        self.connections.iter().flatten().filter(|connection| !connection.ended).count()
    }
}
