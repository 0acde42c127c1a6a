//! What streams do after a loss or a failed attempt, and how long real clients wait before they come back.
//!
//! `docs/reconnects.md` has the source of every wait below, and says which of them are assumed.

use super::Random;

/// What happens after a stream's connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconnect {
    /// It stays lost.
    Never,
    /// Full-jitter exponential back-off, at most at the ramp's own connect rate.
    Backoff,
    /// As this client does, at no rate but its own and the caps of the list.
    Client(&'static Client),
}

/// How a client comes back.
#[derive(Debug, PartialEq, Eq)]
pub struct Client {
    /// As in `--reconnect client:NAME`.
    pub name: &'static str,
    /// What it waits before each attempt after a loss; the last wait is that of all further attempts.
    pub waits: &'static [Wait],
    /// A connection that stood so long makes it begin with the first wait again.
    pub settled_ns: u64,
    /// It gives up at the first attempt that fails so long after the loss.
    pub gives_up_ns: Option<u64>,
}

/// One wait: even between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    least_ns: u64,
    most_ns: u64,
}

const SECOND_NS: u64 = 1_000_000_000;

/// Exactly so many seconds.
const fn after(seconds: u64) -> Wait {
    between(seconds * 1000, seconds * 1000)
}

/// Within so many ms.
const fn between(least_ms: u64, most_ms: u64) -> Wait {
    Wait { least_ns: least_ms * 1_000_000, most_ns: most_ms * 1_000_000 }
}

/// Seconds whose standard deviation is a tenth: an even spread has it at 17.3 % to both sides.
const fn about(seconds: u64) -> Wait {
    between(seconds * 827, seconds * 1173)
}

/// Coder's web terminal: `ExponentialBackoff(1000, 6)` of websocket-ts, which doubles before the first wait.
pub static WEB_TERMINAL: Client = Client {
    name: "web-terminal",
    waits: &[after(2), after(4), after(8), after(16), after(32), after(64)],
    settled_ns: 0,
    gives_up_ns: None,
};

/// A person whose `ssh` has ended: sees it, calls the command back, and is less patient each time. Assumed.
pub static SSH: Client = Client {
    name: "ssh",
    waits: &[between(2_000, 10_000), between(5_000, 15_000), between(5_000, 15_000), between(15_000, 45_000)],
    settled_ns: 0,
    gives_up_ns: None,
};

/// autossh: six starts at once, then 2 n² seconds up to its poll interval of ten minutes; a start that lasted
/// for a tenth of that begins anew.
pub static AUTOSSH: Client = Client {
    name: "autossh",
    waits: &{
        let mut waits = [after(0); 24];
        let mut n = 1;
        while n <= 18 {
            let seconds = 2 * n * n;
            waits[n as usize + 5] = after(if seconds < 600 { seconds } else { 600 });
            n += 1;
        }
        waits
    },
    settled_ns: 60 * SECOND_NS,
    gives_up_ns: None,
};

/// VS Code's remote connection: at once, then by its list, for three hours.
pub static VSCODE: Client = Client {
    name: "vscode",
    waits: &[after(0), after(5), after(5), after(10), after(10), after(10), after(10), after(10), after(30)],
    settled_ns: 0,
    gives_up_ns: Some(3 * 3600 * SECOND_NS),
};

/// Coder's plugin for JetBrains Gateway: at once, then 5 s doubling to 3 minutes.
pub static JETBRAINS: Client = Client {
    name: "jetbrains",
    waits: &[after(0), after(5), about(10), about(20), about(40), about(80), about(160), about(180)],
    settled_ns: 0,
    gives_up_ns: None,
};

impl Client {
    /// Every one of them.
    pub const ALL: [&'static Self; 5] = [&WEB_TERMINAL, &SSH, &AUTOSSH, &VSCODE, &JETBRAINS];

    /// ns before the next attempt, after `before` waits since its count began.
    pub fn wait(&self, before: u32, random: &mut Random) -> u64 {
        let Wait { least_ns, most_ns } = self.waits[(before as usize).min(self.waits.len() - 1)];
        least_ns + random.below(most_ns - least_ns + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first waits of a client in seconds, the least and the most over many seeds, to the nearest.
    fn seconds(client: &Client, count: u32) -> (Vec<u64>, Vec<u64>) {
        let nearest = |wait: u64| (wait + SECOND_NS / 2) / SECOND_NS;
        let waits = |before| -> Vec<u64> {
            (0..5000).map(|seed| nearest(client.wait(before, &mut Random::new(seed)))).collect()
        };
        (0..count).map(waits).map(|all| (*all.iter().min().unwrap(), *all.iter().max().unwrap())).unzip()
    }

    #[test]
    fn waits_are_those_that_were_read_in_the_clients_own_sources() {
        let exactly = |client: &Client, expected: &[u64]| {
            let (least, most) = seconds(client, expected.len() as u32);
            assert_eq!((&least[..], &most[..]), (expected, expected), "{}", client.name);
        };
        exactly(&WEB_TERMINAL, &[2, 4, 8, 16, 32, 64, 64, 64]);
        exactly(&VSCODE, &[0, 5, 5, 10, 10, 10, 10, 10, 30, 30, 30]);
        exactly(&AUTOSSH, &[0, 0, 0, 0, 0, 0, 2, 8, 18, 32, 50, 72, 98, 128]);
        assert_eq!(AUTOSSH.waits[21..24], [after(512), after(578), after(600)]);
        assert_eq!(AUTOSSH.wait(u32::MAX, &mut Random::new(1)), 600 * SECOND_NS);
    }

    #[test]
    fn spread_waits_fill_their_range_evenly_and_no_more() {
        let (least, most) = seconds(&SSH, 5);
        assert_eq!((least, most), (vec![2, 5, 5, 15, 15], vec![10, 15, 15, 45, 45]));
        let mut random = Random::new(7);
        let mean = (0..20_000).map(|_| SSH.wait(0, &mut random) as f64).sum::<f64>() / 20_000.0;
        assert!((5.9e9..6.1e9).contains(&mean), "{mean}");
        // Gateway's normal jitter has a standard deviation of a tenth.
        let waits: Vec<f64> = (0..20_000).map(|_| JETBRAINS.wait(2, &mut random) as f64 / 1e10).collect();
        let deviation =
            (waits.iter().map(|wait| (wait - 1.0).powi(2)).sum::<f64>() / waits.len() as f64).sqrt();
        assert!((0.098..0.102).contains(&deviation), "{deviation}");
    }
}
