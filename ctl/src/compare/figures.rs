//! What is compared: each figure with its scale, the change that matters, and the floor of its noise.

use scale_api::report::Report;
use scale_api::threshold::{Better, Metric, Names, Unit};

use super::result::Scale;

/// Figures of the run, in the order in which they are shown.
const SHOWN: [&str; 26] = [
    "response.p50",
    "response.p90",
    "response.p99",
    "response.p999",
    "response.max",
    "service.p50",
    "service.p90",
    "service.p99",
    "service.p999",
    "service.max",
    "lateness.p50",
    "lateness.p90",
    "lateness.p99",
    "lateness.p999",
    "lateness.max",
    "connect.p99",
    "first_byte.p99",
    "reconnect.p99",
    "load.delivered_ratio",
    "load.echoed_ratio",
    "load.open_ratio",
    "load.rate_sent",
    "load.rate_received",
    "disconnects.rate",
    "connect_failures.rate",
    CPU,
];
/// Figures that decide, where they have a value. Few, because each that is looked at may be wrong.
const DECIDING: [&str; 4] = ["response.p50", "response.p99", "load.delivered_ratio", "disconnects.rate"];
/// Decides instead of response where nothing is echoed.
const DECIDING_OF_RECEIVE: &str = "load.rate_received";
/// The generator's own cost; it stands in no threshold.
pub const CPU: &str = "generator.cpu_us_per_message";

/// How much a figure differs between runs of one plan, and how much is a difference.
#[derive(Debug, Clone, Copy)]
pub struct Noise {
    /// Standard deviation between runs, at least: a share, or points of a ratio.
    pub floor: f64,
    /// The same in seconds, of what schedulers do at both ends whatever the time is.
    pub grain: f64,
    /// A smaller change is no difference: a share, or points.
    pub least: f64,
}

/// A figure.
#[derive(Debug, Clone)]
pub struct Figure {
    /// As thresholds name it.
    pub name: String,
    /// Has a say in the verdict.
    pub decides: bool,
    /// What its values are.
    pub scale: Scale,
    /// How its changes are judged.
    pub noise: Noise,
    /// More of it is better.
    pub more_is_better: bool,
    /// `None`: [`CPU`].
    metric: Option<Metric>,
}

impl Figure {
    /// A figure by its name.
    ///
    /// # Errors
    /// There is none, or it has no better or worse.
    pub fn named(name: &str, names: &Names<'_>) -> Result<Self, String> {
        let noise = noise(name);
        if name == CPU {
            let (name, scale) = (name.to_owned(), Scale::Relative);
            return Ok(Self { name, decides: false, scale, noise, more_is_better: false, metric: None });
        }
        let metric = Metric::parse(name, names)?;
        let is_observed = metric.query().is_some();
        if matches!(metric.unit(), Unit::Number | Unit::Bytes) && !is_observed {
            return Err(format!("`{name}` counts, and runs differ in length; compare a rate or a time"));
        }
        // What the target's own figures mean is not known; most are a use of something.
        let better = metric.better().or(is_observed.then_some(Better::Less));
        let Some(better) = better else { return Err(format!("`{name}` has no better and no worse")) };
        Ok(Self {
            name: name.to_owned(),
            decides: false,
            scale: if metric.unit() == Unit::Share { Scale::Points } else { Scale::Relative },
            noise,
            more_is_better: better == Better::More,
            metric: Some(metric),
        })
    }

    /// Every figure that is shown: of the run, then of `groups` where there are several.
    pub fn shown(groups: &[&str], observe: &[&str], echoes: bool) -> Vec<Self> {
        let names = Names { groups, observe };
        let known = |name: String, decides: bool| {
            Self::named(&name, &names).ok().map(|figure| Self { decides, ..figure })
        };
        let decides = |name: &str| DECIDING.contains(&name) || (!echoes && name == DECIDING_OF_RECEIVE);
        let own = SHOWN.iter().filter_map(|name| known((*name).to_owned(), decides(name)));
        let observed = observe
            .iter()
            .flat_map(|name| ["mean", "max"].map(|stat| format!("observe.{name}.{stat}")))
            .filter_map(|name| known(name, false));
        let several = if groups.len() > 1 { groups } else { &[] };
        let of_groups = several.iter().flat_map(|group| {
            SHOWN
                .iter()
                .filter(|name| **name != CPU)
                .filter_map(move |name| Self::named(&format!("{group}.{name}"), &names).ok())
        });
        own.chain(observed).chain(of_groups).collect()
    }

    /// The group that it is of.
    pub fn group(&self) -> Option<&str> {
        self.metric.as_ref()?.group()
    }

    /// Its figure and stat, without the group.
    pub fn parts(&self) -> (&str, &str) {
        self.metric.as_ref().map_or(("generator", "cpu"), |metric| (metric.figure(), metric.stat()))
    }

    /// What a report has of it.
    pub fn read(&self, report: &Report) -> Option<f64> {
        match &self.metric {
            Some(metric) => metric.read(report),
            None => report.generator.cpu_us_per_message,
        }
    }

    /// Its query of `[observe]`.
    pub fn query(&self) -> Option<&str> {
        self.metric.as_ref()?.query()
    }

    /// The unit's name.
    pub fn unit(&self) -> &'static str {
        match self.metric.as_ref().map(Metric::unit) {
            None => "microseconds",
            Some(Unit::Time) => "seconds",
            Some(Unit::Share) => "ratio",
            Some(Unit::Rate) => "bytes_per_second",
            Some(Unit::Bytes) => "bytes",
            Some(Unit::Number) => "none",
        }
    }

    /// A value on the scale on which it is compared; `None`: it has no place there.
    pub fn scaled(&self, value: f64) -> Option<f64> {
        match self.scale {
            Scale::Points => Some(value),
            // Below 1 µs all times are the same.
            Scale::Relative if self.unit() == "seconds" => Some(value.max(1e-6).ln()),
            Scale::Relative => (value > 0.0).then(|| value.ln()),
        }
    }

    /// A value of that scale as it is read.
    pub fn value(&self, scaled: f64) -> f64 {
        if self.scale == Scale::Points { scaled } else { scaled.exp() }
    }

    /// A difference on that scale as a change is stated.
    pub fn change(&self, difference: f64) -> f64 {
        if self.scale == Scale::Points { difference } else { difference.exp_m1() }
    }

    /// The floor of its noise where it is about `value`, on its scale.
    pub fn floor(&self, value: f64) -> f64 {
        let grain = if self.unit() == "seconds" { self.noise.grain / value.max(1e-6) } else { 0.0 };
        // Not f64::hypot: it asks for glibc 2.35, and RHEL 9 has 2.34.
        (self.noise.floor.powi(2) + grain.powi(2)).sqrt()
    }

    /// Whether a difference on its scale is large enough to matter, from `base` on.
    pub fn matters(&self, difference: f64, base: f64) -> bool {
        match self.scale {
            Scale::Points => difference.abs() >= self.noise.least,
            Scale::Relative => {
                let grain = if self.unit() == "seconds" { self.noise.grain } else { 0.0 };
                difference.abs() >= self.noise.least.ln_1p() && (base * difference.exp_m1()).abs() >= grain
            }
        }
    }
}

/// The noise of a figure: floors as found in docs/compare.md, changes that matter as the user sees them.
fn noise(name: &str) -> Noise {
    let mut parts = name.rsplit('.');
    let (stat, figure) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let is_observed = name.starts_with("observe.");
    let of = |floor, grain, least| Noise { floor, grain, least };
    match (figure, stat) {
        _ if is_observed || name == CPU => of(0.03, 0.0, 0.05),
        ("load", "rate_sent" | "rate_received") => of(0.005, 0.0, 0.02),
        ("load", _) => of(0.0005, 0.0, 0.005),
        ("disconnects" | "connect_failures" | "generator", _) => of(0.001, 0.0, 0.005),
        (_, "p50" | "mean" | "min") => of(0.02, 30e-6, 0.05),
        (_, "p90") => of(0.025, 50e-6, 0.08),
        ("response" | "service" | "lateness", "p99") => of(0.025, 100e-6, 0.10),
        (_, "p99" | "p999") => of(0.08, 200e-6, 0.20),
        (_, _) => of(0.25, 1e-3, 0.50),
    }
}
