//! Names to addresses, on threads of their own: getaddrinfo(3) may take as long as it likes, and
//! the control thread answers others meanwhile.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use scale_api::http::{Problem, ProblemCode};
use scale_api::spec::Spec;
use scale_ring::host;

use super::doctor::{Doctor, towards};
use crate::run::plan::{Host, Plan};
use crate::run::supervisor::wall_seconds;
use crate::run::targets::Targets;
use crate::worker::share::Addresses;

/// How long the names of a plan may take in all.
pub const RESOLVE_TIME_MAX: Duration = Duration::from_secs(10);

pub(super) fn addresses(name: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    Ok((name, port).to_socket_addrs()?.collect())
}

/// What a plan is made for, before anybody has looked at it: that takes its time.
pub struct Place {
    /// Looks.
    pub doctor: Arc<Doctor>,
    /// Whether the engine may use the rings' own tables of sockets.
    pub direct_descriptors: bool,
}

impl Place {
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
            facts: look.facts,
            doctor: look.entries,
        }
    }
}

/// Makes a plan of `spec`, which comes back with it.
///
/// # Errors
/// Why there can be no such plan, or that its names took too long.
pub async fn plan(spec: Spec, place: Place, targets: Targets) -> Result<(Spec, Plan), Problem> {
    let (answer, planned) = tokio::sync::oneshot::channel();
    spawn("plan", move || {
        let plan = Plan::new(&spec, &place.host(), &targets, &mut addresses).map(|mut plan| {
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

/// Resolves names again; what is allowed of the answers comes through the channel. A name that
/// does not resolve just now keeps what it had in `old`.
pub fn again(
    names: Vec<(String, u16, u64)>,
    old: Addresses,
    targets: Targets,
) -> Result<mpsc::Receiver<Vec<Vec<SocketAddr>>>, Problem> {
    let (answer, resolved) = mpsc::channel();
    spawn("resolve", move || {
        let fresh = names.iter().zip(old.iter()).map(|((host, port, streams), old)| {
            let mut found = addresses(host, *port).unwrap_or_default();
            found.retain(|address| targets.check(host, *address, *streams).is_ok());
            if found.is_empty() { old.clone() } else { found }
        });
        let _ = answer.send(fresh.collect());
    })?;
    Ok(resolved)
}

pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Problem> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(work);
    thread.map(drop).map_err(|error| Problem::new(ProblemCode::Internal, format!("no thread: {error}")))
}
