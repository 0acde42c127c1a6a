//! Names to addresses, on threads of their own: getaddrinfo(3) may take as long as it likes, and
//! the control thread answers others meanwhile.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

use scale_api::http::{Problem, ProblemCode};
use scale_api::spec::Spec;

use crate::run::plan::{Host, Plan};
use crate::run::targets::Targets;
use crate::worker::share::Addresses;

/// How long the names of a plan may take in all.
pub const RESOLVE_TIME_MAX: Duration = Duration::from_secs(10);

pub(super) fn addresses(name: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    Ok((name, port).to_socket_addrs()?.collect())
}

/// Makes a plan of `spec`, which comes back with it.
///
/// # Errors
/// Why there can be no such plan, or that its names took too long.
pub async fn plan(spec: Spec, host: Host, targets: Targets) -> Result<(Spec, Plan), Problem> {
    let (answer, planned) = tokio::sync::oneshot::channel();
    spawn("plan", move || {
        let plan = Plan::new(&spec, &host, &targets, &mut addresses);
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
