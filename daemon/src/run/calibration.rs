//! What this host was found to offer (`scalectl calibrate`), one result a protocol, kept in the state folder; and whether
//! it still says something: a result of another kernel, version, CPU, set of cores or scheduling does not.
//!
//! What a plan costs by it is `fit`'s to say.

use std::io;
use std::path::Path;

use scale_api::calibration::{Calibration, Calibrations, Host as Here, PROTOCOLS};
use scale_ring::folder::Folder;

use crate::load::Protocol;

/// In the state folder: the kept results as a JSON list.
const FILE: &str = "calibration.json";
/// A result takes less than 4 KiB.
const BYTES_MAX: u64 = 1 << 20;
/// Steps of a result; a search of two minutes has no more than thirty.
const STEPS_MAX: usize = 200;
/// Bytes of the names in it.
const NAME_BYTES_MAX: usize = 4096;

/// What is kept, and this host as it is now.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    here: Here,
    list: Vec<Calibration>,
}

/// The name of `protocol` in a result.
pub const fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Ws => "ws",
        Protocol::Wss => "wss",
        Protocol::Ssh => "ssh",
        Protocol::Tcp => "tcp",
    }
}

/// This host: `root` is `/`; workers on `cores`, `realtime` or not.
pub fn here(root: &Path, cores: &[usize], realtime: bool) -> Here {
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    Here {
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: text("proc/sys/kernel/osrelease").trim().into(),
        cores: cores.iter().map(|&core| core as u64).collect(),
        cpu: model(&text("proc/cpuinfo")),
        realtime,
    }
}

/// The model of the first core in /proc/cpuinfo; on Arm, which names none, its part number.
fn model(cpuinfo: &str) -> String {
    let value = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
    };
    value("model name")
        .or_else(|| Some(format!("implementer {} part {}", value("CPU implementer")?, value("CPU part")?)))
        .unwrap_or_default()
}

impl Kept {
    /// Reads what is kept in the state folder. What cannot be read is as if there were none, and the log says so.
    pub fn read(folder: &Path, here: Here) -> Self {
        let path = folder.join(FILE);
        let list = match Folder::followed(folder).and_then(|folder| folder.content(FILE, BYTES_MAX)) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!("{}: {error}; `scalectl calibrate` makes it anew", path.display());
                Vec::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!("cannot read {}: {error}", path.display());
                Vec::new()
            }
        };
        Self { here, list }
    }

    /// For whoever asks.
    pub fn answer(&self) -> Calibrations {
        Calibrations { host: self.here.clone(), kept: self.list.clone() }
    }

    /// Takes a result that was found here at `unix_s`; it replaces that of its protocol.
    ///
    /// # Errors
    /// It is none: the sentence says why.
    pub fn take(&mut self, mut found: Calibration, unix_s: f64) -> Result<Calibration, String> {
        check(&found)?;
        (found.host, found.at) = (self.here.clone(), unix_s);
        self.list.retain(|kept| kept.protocol != found.protocol);
        self.list.push(found.clone());
        Ok(found)
    }

    /// Writes what is kept into the state folder.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        Folder::followed(folder)?.replace(FILE, &serde_json::to_vec(&self.list)?).map(drop)
    }

    /// The result of `protocol`, if it was measured on what is here.
    pub fn of(&self, protocol: Protocol) -> Option<&Calibration> {
        self.any(protocol).filter(|kept| self.here.differs(&kept.host).is_empty())
    }

    /// The result of `protocol` that says nothing any more, and what is different now.
    pub fn stale(&self, protocol: Protocol) -> Option<(&Calibration, String)> {
        let kept = self.any(protocol)?;
        let differs = self.here.differs(&kept.host);
        (!differs.is_empty()).then(|| (kept, differs.join("; ")))
    }

    fn any(&self, protocol: Protocol) -> Option<&Calibration> {
        self.list.iter().find(|kept| kept.protocol == name(protocol))
    }
}

/// What a later plan is judged by has to be able to judge it.
fn check(found: &Calibration) -> Result<(), String> {
    let positive = |value: f64| value.is_finite() && value > 0.0;
    let figures = [found.tick, found.messages_per_second, found.bytes_per_second, found.cpu_us_per_message];
    let parts = [Some(found.message_us), found.byte_us].into_iter().flatten();
    let names = found.against.len().max(found.run.len());
    if !PROTOCOLS.contains(&found.protocol.as_str()) {
        Err(format!("`{}` is no protocol that is calibrated: {}", found.protocol, PROTOCOLS.join(", ")))
    } else if found.streams == 0 || !figures.into_iter().all(positive) {
        Err("a calibration has streams, a tick, messages, bytes and CPU time above zero".into())
    } else if !parts.into_iter().all(|part| part.is_finite() && part >= 0.0) || !positive(cost_us(found)) {
        Err("a message's cost and a byte's are times, and not both zero".into())
    } else if found.steps.len() > STEPS_MAX || names > NAME_BYTES_MAX {
        Err(format!("a calibration has at most {STEPS_MAX} steps, and names of {NAME_BYTES_MAX} bytes"))
    } else {
        Ok(())
    }
}

/// CPU time of a second of what was held, in µs, by its message's and its byte's cost.
fn cost_us(found: &Calibration) -> f64 {
    found.messages_per_second * found.message_us + found.bytes_per_second * found.byte_us.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(protocol: &str) -> Calibration {
        Calibration {
            protocol: protocol.into(),
            streams: 1000,
            tick: 0.1,
            messages_per_second: 1e4,
            bytes_per_second: 4.096e7,
            cpu_us_per_message: 11.0,
            message_us: 10.0,
            byte_us: Some(0.000_3),
            ..Calibration::default()
        }
    }

    fn here_with(kernel: &str) -> Here {
        Here { version: "0.1.0".into(), kernel: kernel.into(), cores: vec![1], ..Here::default() }
    }

    #[test]
    fn a_result_is_kept_a_protocol_and_says_nothing_on_another_kernel() {
        let folder = std::env::temp_dir().join(format!("scaled-calibration-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut kept = Kept::read(&folder, here_with("6.1"));
        assert!(kept.of(Protocol::Ws).is_none() && kept.stale(Protocol::Ws).is_none());
        kept.take(found("ws"), 1.0).unwrap();
        kept.take(found("wss"), 2.0).unwrap();
        kept.take(Calibration { streams: 2000, ..found("ws") }, 3.0).unwrap();
        kept.write(&folder).unwrap();
        let same = Kept::read(&folder, here_with("6.1"));
        assert_eq!(same.of(Protocol::Ws).map(|kept| (kept.streams, kept.at as u64)), Some((2000, 3)));
        assert_eq!(same.answer().kept.len(), 2);
        let other = Kept::read(&folder, here_with("6.12"));
        assert!(other.of(Protocol::Ws).is_none());
        assert_eq!(other.stale(Protocol::Ws).unwrap().1, "kernel 6.1, and here is 6.12");
        std::fs::write(folder.join(FILE), "[{").unwrap();
        assert!(Kept::read(&folder, here_with("6.1")).answer().kept.is_empty(), "a broken file stops nobody");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_could_judge_nothing_is_refused() {
        let mut kept = Kept::default();
        let mut refused = |found: Calibration| kept.take(found, 1.0).unwrap_err();
        assert!(refused(found("udp")).contains("no protocol"));
        assert!(refused(Calibration { streams: 0, ..found("ws") }).contains("above zero"));
        assert!(refused(Calibration { cpu_us_per_message: f64::NAN, ..found("ws") }).contains("above zero"));
        let free = Calibration { message_us: 0.0, byte_us: None, ..found("ws") };
        assert!(refused(free).contains("not both zero"));
        let negative = Calibration { message_us: -1.0, ..found("ws") };
        assert!(refused(negative).contains("not both zero"));
        let long = Calibration { steps: vec![Default::default(); STEPS_MAX + 1], ..found("ws") };
        assert!(refused(long).contains("at most 200 steps"));
    }

    #[test]
    fn the_cpus_model_is_the_first_cores_and_on_arm_its_part() {
        assert_eq!(model("processor\t: 0\nmodel name\t: EPYC 9000\nmodel name\t: other\n"), "EPYC 9000");
        assert_eq!(model("CPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"), "implementer 0x41 part 0xd0c");
        assert_eq!(model(""), "");
    }
}
