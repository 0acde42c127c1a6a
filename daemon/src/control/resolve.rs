//! Names to addresses, on threads of their own: getaddrinfo(3) may take as long as it likes, and
//! the control thread answers others meanwhile.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use scale_api::http::{Problem, ProblemCode};
use scale_api::spec::Spec;
use scale_ring::host;

use super::doctor::{Doctor, towards};
use crate::run::calibration::Kept;
use crate::run::plan::{Host, Place, Plan, Resolve};
use crate::run::supervisor::wall_seconds;
use crate::run::targets::{Permit, canonical};
use crate::worker::share::Addresses;

/// How long the names of a plan may take in all.
pub const RESOLVE_TIME_MAX: Duration = Duration::from_secs(10);

pub(super) fn addresses(name: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    Ok((name, port).to_socket_addrs()?.collect())
}

/// What a plan is made for, before anybody has looked at it: that takes its time.
pub struct Here {
    /// Looks.
    pub doctor: Arc<Doctor>,
    /// Whether the engine may use the rings' own tables of sockets.
    pub direct_descriptors: bool,
    /// What it was found to offer.
    pub calibrations: Arc<Kept>,
}

impl Here {
    /// Looks at this host.
    fn host(&self) -> Host {
        let look = self.doctor.look();
        Host {
            cores: self.doctor.cores.clone(),
            seed: host::random_seed() >> 12,
            unix_s: wall_seconds() as u64,
            files: host::nofile_limit(),
            direct_descriptors: look.direct_descriptors && self.direct_descriptors,
            has_address: host::has_address,
            calibrations: self.calibrations.clone(),
            interfaces: scale_ring::interfaces(),
            facts: look.facts,
            doctor: look.entries,
        }
    }
}

/// Makes a plan of `spec`, which comes back with it.
///
/// # Errors
/// Why there can be no such plan, or that its names took too long.
pub async fn plan(spec: Spec, here: Here, permit: Permit) -> Result<(Spec, Plan), Problem> {
    let (answer, planned) = tokio::sync::oneshot::channel();
    spawn("plan", move || {
        let plan = Plan::new(&spec, &here.host(), &permit, &mut addresses).map(|mut plan| {
            let more = towards(&plan);
            plan.host.doctor.extend(more);
            plan
        });
        // Nobody waits any more where it took too long.
        let _ = answer.send(plan.map(|plan| (spec, plan)));
    })?;
    match tokio::time::timeout(RESOLVE_TIME_MAX, planned).await {
        Ok(Ok(plan)) => plan,
        Ok(Err(_)) => {
            Err(Problem::new(ProblemCode::Internal, "planning the run failed; see the daemon's log"))
        }
        Err(_) => Err(Problem::new(
            ProblemCode::Invalid,
            format!(
                "the targets' names did not resolve within {} s; give addresses, or see to this host's resolver",
                RESOLVE_TIME_MAX.as_secs()
            ),
        )),
    }
}

/// What names are now.
#[derive(Debug, Default)]
pub struct Again {
    /// By row of the plan's table.
    pub addresses: Vec<Vec<SocketAddr>>,
    /// What may not be hit of it, and why: one sentence a name.
    pub refused: Vec<String>,
}

/// Resolves names again; what is allowed of the answers comes through the channel. A name that does not resolve just
/// now, or to nothing that is allowed, keeps what it had in `old`.
pub fn again(places: Vec<Place>, old: Addresses, permit: Permit) -> Result<mpsc::Receiver<Again>, Problem> {
    let (answer, resolved) = mpsc::channel();
    spawn("resolve", move || {
        let _ = answer.send(looked_up(&places, &old, &permit, &mut addresses));
    })?;
    Ok(resolved)
}

fn looked_up(places: &[Place], old: &Addresses, permit: &Permit, resolve: Resolve<'_>) -> Again {
    let mut again = Again::default();
    for (place, old) in places.iter().zip(old.iter()) {
        let mut found = resolve(&place.host, place.port).unwrap_or_default();
        found.iter_mut().for_each(|address| *address = canonical(*address));
        found.dedup();
        let mut why = None;
        found.retain(|&address| match allowed(place, address, permit) {
            Ok(()) => true,
            Err(refused) => {
                why.get_or_insert(refused);
                false
            }
        });
        again.refused.extend(why);
        again.addresses.push(if found.is_empty() { old.clone() } else { found });
    }
    again
}

/// Whether a name may have that address from now on. Caps were planned by the rules of its first ones, so that it has
/// to fall under one of those.
fn allowed(place: &Place, address: SocketAddr, permit: &Permit) -> Result<(), String> {
    let rule = permit.rule(&place.host, address)?;
    if place.rules.contains(&rule) {
        return Ok(());
    }
    Err(format!(
        "{} ({address}) is under another rule of this host's list than when the run began",
        place.host
    ))
}

pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Problem> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(work);
    thread.map(drop).map_err(|error| Problem::new(ProblemCode::Internal, format!("no thread: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::targets::{Targets, tests::targets};

    fn rebound(targets: &Targets, rules: &[usize], now: &[&str]) -> Again {
        let place = Place {
            host: "gw".into(),
            port: 80,
            asker: (0, 0),
            demand: Default::default(),
            rules: rules.to_vec(),
        };
        let old: Addresses = [vec!["10.0.0.1:80".parse().unwrap()]].into();
        let now: Vec<SocketAddr> = now.iter().map(|text| text.parse().unwrap()).collect();
        looked_up(&[place], &old, &targets.own(), &mut |_, _| Ok(now.clone()))
    }

    #[test]
    fn a_name_that_moves_to_a_forbidden_address_keeps_what_it_had_and_it_is_said() {
        let list = targets(
            "[[target]]\nhost = \"gw\"\naddresses = [\"10.0.0.0/8\"]\n[[target]]\naddresses = [\"11.0.0.0/8\"]\n",
        );
        let texts = |again: &Again| again.addresses[0].iter().map(ToString::to_string).collect::<Vec<_>>();
        let moved = rebound(&list, &[0], &["10.0.0.7:80"]);
        assert_eq!((texts(&moved), moved.refused.len()), (vec!["10.0.0.7:80".to_owned()], 0));
        for forbidden in ["192.0.2.1:80", "169.254.169.254:80", "[::ffff:169.254.169.254]:80", "127.0.0.1:80"]
        {
            let kept = rebound(&list, &[0], &[forbidden]);
            assert_eq!(texts(&kept), ["10.0.0.1:80"], "{forbidden}");
            assert_eq!(kept.refused.len(), 1, "{forbidden}");
        }
        let mixed = rebound(&list, &[0], &["192.0.2.1:80", "[::ffff:10.0.0.9]:80"]);
        assert_eq!((texts(&mixed), mixed.refused.len()), (vec!["10.0.0.9:80".to_owned()], 1));
        let other = rebound(&list, &[0], &["11.0.0.1:80"]);
        assert_eq!(texts(&other), ["10.0.0.1:80"], "that rule's caps were not planned with");
        assert!(other.refused[0].contains("another rule"), "{:?}", other.refused);
        let gone = rebound(&list, &[0], &[]);
        assert_eq!((texts(&gone), gone.refused.len()), (vec!["10.0.0.1:80".to_owned()], 0));
    }
}
