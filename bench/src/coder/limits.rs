//! The rate limiter: a window of a minute, each replica its own.

use std::collections::HashMap;

use scale_ring::Time;

const WINDOW_NS: u64 = 60_000_000_000;

/// Requests of this minute.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    window: u64,
    counts: HashMap<(u16, String, String), u32>,
}

/// What the limiter says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub allowed: bool,
    pub limit: u32,
    pub remaining: u32,
    /// Until the window's end.
    pub left_ns: u64,
}

impl Limiter {
    /// Counts a request of `identity` for `path`.
    pub fn take(&mut self, now: Time, replica: u16, identity: String, path: String, limit: u32) -> Verdict {
        let window = now.ns() / WINDOW_NS;
        if window != self.window {
            (self.window, self.counts) = (window, HashMap::new());
        }
        let count = self.counts.entry((replica, identity, path)).or_default();
        *count = count.saturating_add(1);
        Verdict {
            allowed: *count <= limit,
            limit,
            remaining: limit.saturating_sub(*count),
            left_ns: WINDOW_NS - now.ns() % WINDOW_NS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_replica_identity_and_path_has_its_own_count_and_each_minute_begins_anew() {
        let mut limiter = Limiter::default();
        let mut take = |at: u64, replica, who: &str, path: &str| {
            limiter.take(Time::from_ns(at), replica, who.into(), path.into(), 2).allowed
        };
        assert_eq!(
            [take(0, 0, "a", "/x"), take(1, 0, "a", "/x"), take(2, 0, "a", "/x")],
            [true, true, false]
        );
        assert!(take(3, 1, "a", "/x") && take(3, 0, "b", "/x") && take(3, 0, "a", "/y"));
        assert!(take(WINDOW_NS, 0, "a", "/x"));
    }
}
