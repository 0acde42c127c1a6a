//! What users write: units, targets, thresholds, run files, bodies of the control API.

use std::fmt::{Debug, Display};
use std::net::SocketAddr;
use std::str::FromStr;

use scale_api::http::{MarkRequest, SetRequest, StartRequest, StopRequest};
use scale_api::spec::{Duration, Spec};
use scale_api::target::Target;
use scale_api::threshold::{Names, Threshold};
use scale_api::units::{Bytes, PerSecond, Rate, Span, parse_cores};
use scale_ring::host::Facts;
use scaled::run::plan::{Host, Plan};
use scaled::run::targets::Permit;

/// A plan of more streams takes longer than its words are worth.
const STREAMS_MAX: u64 = 10_000;

/// What is printed is read again as the same.
fn round_trip<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Debug,
{
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        assert_eq!(printed.parse::<T>().expect("what we print"), value, "{text:?} is printed as {printed:?}");
    }
}

/// Any text as each of the small words.
///
/// # Panics
/// A parser does, or prints what it does not read.
pub fn check_small(text: &str) {
    round_trip::<Bytes>(text);
    round_trip::<Rate>(text);
    round_trip::<Span>(text);
    round_trip::<PerSecond>(text);
    let _ = (Bytes::parse_bare(text), text.parse::<Duration>(), parse_cores(text));
    if let Ok(target) = Target::parse(text) {
        let again = Target::parse(&target.to_string()).expect("what we print");
        let key = |target: &Target| (target.scheme, target.host.clone(), target.port);
        assert_eq!(key(&again), key(&target), "{text:?} is printed as {target}");
        assert!(target.path.starts_with('/') && !target.host.is_empty() && target.port > 0);
    }
    let names = Names { groups: &["main", "a.b"], observe: &["cpu"] };
    if let Ok(threshold) = Threshold::parse(text, &names) {
        assert_eq!(Threshold::parse(threshold.expression(), &names), Ok(threshold));
    }
}

/// Any text as a run file: what is read travels as JSON unchanged, and what passes its checks
/// becomes a plan or a refusal.
///
/// # Panics
/// Something of it does.
pub fn check_run_file(text: &str) {
    let Ok(spec) = Spec::from_toml(text, "run.toml") else { return };
    let json = serde_json::to_string(&spec).expect("plain values");
    let again: Spec = serde_json::from_str(&json).expect("what we write");
    assert_eq!(again, spec, "as JSON: {json}");
    check_spec(&spec);
}

/// Any bytes as bodies of the control API.
///
/// # Panics
/// Something of it does.
pub fn check_bodies(bytes: &[u8]) {
    let _ = serde_json::from_slice::<SetRequest>(bytes);
    let _ = serde_json::from_slice::<MarkRequest>(bytes);
    let _ = serde_json::from_slice::<StopRequest>(bytes);
    if let Ok(request) = serde_json::from_slice::<StartRequest>(bytes) {
        check_spec(&request.spec);
    }
}

/// A run's words: what passes its checks becomes a plan or a refusal.
///
/// # Panics
/// Something of it does.
pub fn check_spec(spec: &Spec) {
    let _ = spec.redacted();
    if spec.check().is_err() {
        return;
    }
    let largest = |group: &scale_api::spec::GroupSpec| {
        let stages = group.stage.iter().filter_map(|stage| stage.conns);
        stages.chain(group.conns).max().unwrap_or(0)
    };
    if spec.group.iter().map(largest).sum::<u64>() > STREAMS_MAX {
        return;
    }
    let host = Host {
        cores: vec![0, 1],
        facts: Facts::default(),
        doctor: Vec::new(),
        seed: 1,
        unix_s: 1_800_000_000,
        files: 20_000,
        direct_descriptors: true,
        has_address: |address| address.is_loopback(),
        calibrations: std::sync::Arc::default(),
        interfaces: Vec::new(),
    };
    let mut resolve = |_: &str, port: u16| Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]);
    let _ = Plan::new(spec, &host, &Permit::default(), &mut resolve);
}
