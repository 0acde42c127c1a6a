//! Facts that no file says: limits, the kernel's clock discipline, a network card's settings. A recorded tree has them in
//! its file `calls`, a name and a value a line.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::limits;

/// STA_UNSYNC of adjtimex(2).
const UNSYNC: i32 = 0x0040;
/// include/uapi/linux/sockios.h.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// include/uapi/linux/ethtool.h: commands that answer one number.
const SWITCHES: [(&str, u32); 3] = [("gro", 0x2b), ("gso", 0x23), ("tso", 0x1e)];
const GET_RING: u32 = 0x10;
const GET_CHANNELS: u32 = 0x3c;

/// Where the answers of system calls come from.
pub(super) enum Calls {
    /// From this machine.
    Live,
    /// From the file `calls` of a recorded tree.
    Recorded(BTreeMap<String, String>),
}

/// What getrlimit(2) and prctl(2) say of this process; `None` within: unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Open files.
    pub files: Option<u64>,
    /// Locked memory, in bytes.
    pub memlock: Option<u64>,
    /// Core files, in bytes.
    pub core: Option<u64>,
    /// Whether memory may be dumped at all.
    pub is_dumpable: bool,
}

/// How well the wall clock is held (adjtimex(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Discipline {
    /// Something disciplines it.
    pub is_synchronised: bool,
    /// The largest error that it may have, in µs.
    pub error_max_us: u64,
    /// The estimated error, in µs.
    pub error_us: u64,
}

/// What a network card is set to (the ioctls of ethtool(8)); `None`: it does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Offloads by ethtool's short names: whether they are on.
    pub offloads: Vec<(&'static str, bool)>,
    /// Slots of each receive ring, and how many there may be.
    pub ring: Option<(u32, u32)>,
    /// Queue pairs, and how many there may be.
    pub channels: Option<(u32, u32)>,
}

impl Calls {
    /// Those below `root`, where it has a file `calls`; this machine's below `/`.
    pub fn new(root: &Path) -> Self {
        if root == Path::new("/") {
            return Self::Live;
        }
        let text = std::fs::read_to_string(root.join("calls")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split('#').next()?.trim().split_once(' '));
        Self::Recorded(lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    pub fn limits(&self) -> Option<Limits> {
        let Self::Recorded(recorded) = self else {
            return Some(Limits {
                files: Some(limits::nofile_limit()),
                memlock: limits::memlock_limit(),
                core: limits::core_limit(),
                // SAFETY: plain values only.
                is_dumpable: unsafe { libc::prctl(libc::PR_GET_DUMPABLE) } == 1,
            });
        };
        let number = |name: &str| recorded.get(name)?.parse().ok();
        recorded.contains_key("nofile").then(|| Limits {
            files: number("nofile"),
            memlock: number("memlock"),
            core: number("core"),
            is_dumpable: number("dumpable") == Some(1),
        })
    }

    pub fn discipline(&self) -> Option<Discipline> {
        let Self::Recorded(recorded) = self else {
            // The call itself: the C library asks clock_adjtime, which the unit forbids.
            // SAFETY: all-zero is a valid timex that asks and sets nothing; it lives across the call.
            let (result, clock) = unsafe {
                let mut clock: libc::timex = std::mem::zeroed();
                (libc::syscall(libc::SYS_adjtimex, &raw mut clock), clock)
            };
            let us = |figure: i64| u64::try_from(figure).unwrap_or(0);
            return (result >= 0).then(|| Discipline {
                is_synchronised: clock.status & UNSYNC == 0,
                error_max_us: us(clock.maxerror),
                error_us: us(clock.esterror),
            });
        };
        let number = |name: &str| recorded.get(name)?.parse().ok();
        let status: i32 = recorded.get("clock.status")?.parse().ok()?;
        Some(Discipline {
            is_synchronised: status & UNSYNC == 0,
            error_max_us: number("clock.maxerror_us")?,
            error_us: number("clock.esterror_us")?,
        })
    }

    pub fn card(&self, name: &str) -> Settings {
        let Self::Recorded(recorded) = self else { return live_card(name).unwrap_or_default() };
        let number = |what: &str| recorded.get(&format!("{name}.{what}"))?.parse::<u32>().ok();
        let pair = |now: &str, most: &str| Some((number(now)?, number(most)?));
        Settings {
            offloads: SWITCHES
                .iter()
                .filter_map(|&(offload, _)| Some((offload, number(offload)? == 1)))
                .collect(),
            ring: pair("ring", "ring_max"),
            channels: pair("channels", "channels_max"),
        }
    }

    /// A recorded answer that the ring's own tries have on a live machine.
    pub fn word(&self, name: &str) -> Option<String> {
        match self {
            Self::Live => None,
            Self::Recorded(recorded) => recorded.get(name).cloned(),
        }
    }
}

fn live_card(name: &str) -> Option<Settings> {
    // Any socket will do (netdevice(7)); this one takes no port, of which there may be none left.
    let socket = std::os::unix::net::UnixDatagram::unbound().ok()?;
    let one = |command| ask::<2>(&socket, name, command).map(|answer| answer[1]);
    Some(Settings {
        offloads: SWITCHES
            .iter()
            .filter_map(|&(offload, command)| Some((offload, one(command)? != 0)))
            .collect(),
        // struct ethtool_ringparam: rx_max_pending is the second word, rx_pending the sixth.
        ring: ask::<9>(&socket, name, GET_RING).map(|answer| (answer[5], answer[1])),
        // struct ethtool_channels: max_rx and max_combined are the second and fifth word, rx_count
        // and combined_count the sixth and ninth.
        channels: ask::<9>(&socket, name, GET_CHANNELS)
            .map(|answer| (answer[5] + answer[8], answer[1] + answer[4])),
    })
}

/// One question of ethtool; `None`: the driver does not answer it.
fn ask<const WORDS: usize>(socket: &impl AsRawFd, name: &str, command: u32) -> Option<[u32; WORDS]> {
    let mut answer = [0u32; WORDS];
    answer[0] = command;
    if name.len() >= libc::IFNAMSIZ {
        return None;
    }
    // SAFETY: all-zero is a valid ifreq; its name is shorter than its room and so ends with zero. The
    // kernel writes as many words as the command's struct has, which `WORDS` is, and both live across the call.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = answer.as_mut_ptr().cast();
        libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request)
    };
    (result == 0).then_some(answer)
}
