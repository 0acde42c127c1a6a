//! A group whose target answers nothing: since when, and whether that is long enough to end the run.

/// A second of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Second {
    /// How many seconds it covers.
    pub seconds: u64,
    /// Messages are expected back.
    pub is_echo: bool,
    /// Grid points that came, but for those that we were too late for.
    pub asked: u64,
    /// Payload bytes that came.
    pub received: u64,
    /// Streams that are open at its end.
    pub open: u64,
    /// Streams that opened.
    pub opened: u64,
    /// Attempts to open one that failed, but for the generator's own fault.
    pub failed: u64,
}

/// Why it is called silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silent {
    /// Nothing comes back of what is sent.
    Mute,
    /// No stream is open, and none can be opened.
    Down,
}

/// One group's silence.
#[derive(Debug, Clone, Default)]
pub struct Silence {
    /// Seconds since something was asked that nothing has come back of; `None`: something has.
    mute_s: Option<u64>,
    /// Seconds since an attempt failed while no stream was open, and since when none has been.
    down_s: Option<u64>,
    /// While it was mute a stream was open, or the target failed an attempt: it is not this host that keeps it from us.
    is_targets: bool,
}

impl Silence {
    /// Takes a second of a group that is to send and receive. After `limit_s` seconds of silence: which.
    pub fn take(&mut self, second: &Second, limit_s: u64) -> Option<Silent> {
        let Second { seconds, is_echo, asked, received, open, opened, failed } = *second;
        if received > 0 {
            (self.mute_s, self.is_targets) = (None, false);
        } else if let Some(mute_s) = &mut self.mute_s {
            *mute_s += seconds;
            self.is_targets |= open > 0 || failed > 0;
        } else if is_echo && asked > 0 {
            (self.mute_s, self.is_targets) = (Some(0), open > 0 || failed > 0);
        }
        if open > 0 || opened > 0 {
            self.down_s = None;
        } else if let Some(down_s) = &mut self.down_s {
            *down_s += seconds;
        } else if failed > 0 {
            self.down_s = Some(0);
        }
        let is_over = |since: Option<u64>| since.is_some_and(|since| since >= limit_s);
        if is_over(self.down_s) {
            return Some(Silent::Down);
        }
        (is_over(self.mute_s) && self.is_targets).then_some(Silent::Mute)
    }

    /// The group is paused, not begun or over: what was asked is forgotten.
    pub fn rest(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEADY: Second =
        Second { seconds: 1, is_echo: true, asked: 100, received: 4096, open: 10, opened: 0, failed: 0 };

    /// The second after which a run of such seconds ends, of the first hundred.
    fn ends(second: Second) -> Option<u64> {
        let mut silence = Silence::default();
        (0..100).find(|_| silence.take(&second, 30).is_some())
    }

    #[test]
    fn silence_is_counted_from_the_first_question_that_is_not_answered() {
        assert_eq!(ends(STEADY), None);
        assert_eq!(ends(Second { received: 0, ..STEADY }), Some(30));
        assert_eq!(ends(Second { received: 0, is_echo: false, ..STEADY }), None, "nothing is to come back");
        assert_eq!(ends(Second { received: 0, asked: 0, ..STEADY }), None, "nothing was asked");
        // A question a minute, each answered within its second or the next one.
        let mut silence = Silence::default();
        for second in 0..600 {
            let asked = u64::from(second % 60 == 0);
            let received = u64::from(second % 60 == second / 60 % 2);
            assert_eq!(silence.take(&Second { asked, received, ..STEADY }, 30), None, "second {second}");
        }
    }

    #[test]
    fn a_target_that_lets_nobody_in_is_down_whatever_flows() {
        let down = Second { received: 0, open: 0, failed: 3, asked: 0, ..STEADY };
        for is_echo in [true, false] {
            assert_eq!(ends(Second { is_echo, ..down }), Some(30));
        }
        assert_eq!(ends(Second { opened: 1, ..down }), None, "some get in");
        let mut silence = Silence::default();
        silence.take(&down, 30);
        // The breaker holds connects: nothing fails any more, and nothing opens.
        let held = Second { failed: 0, ..down };
        assert_eq!((1..100).find(|_| silence.take(&held, 30).is_some()), Some(30));
    }

    #[test]
    fn what_the_generator_could_not_do_is_not_the_targets_silence() {
        // Every tick is missed for want of connections, which fail here: no descriptors.
        assert_eq!(ends(Second { received: 0, open: 0, ..STEADY }), None);
    }

    #[test]
    fn rest_begins_anew() {
        let mut silence = Silence::default();
        let mute = Second { received: 0, ..STEADY };
        for _ in 0..20 {
            assert!((0..29).all(|_| silence.take(&mute, 30).is_none()));
            silence.rest();
        }
    }
}
