//! Which addresses a deployment's URL means, and whether they may be hit: asked of the resolver once, checked against
//! this host's list, and used for every connection of the flow.

use std::time::Duration;

use scale_api::coder::{Deployment, Secret};
use scale_api::http::{Problem, ProblemCode};
use scale_coder::client::Client;
use scale_coder::config::{Config, Connections};
use scale_coder::door::Door;
use scale_coder::preflight::{self, Ask, Site};
use scale_coder::secret::Token;
use scale_proto::tls::ClientSettings;

use super::{invalid, wall_now};
use crate::control::resolve::{RESOLVE_TIME_MAX, addresses, spawn};
use crate::run::plan::{OBSERVE, Place};
use crate::run::targets::{Action, Demand, Permit, Tally, canonical, refused};

/// The settings of clients for `deployment`.
///
/// # Errors
/// No URL, a name that does not resolve, an address that is not on the list, roots that cannot be used.
pub async fn config(deployment: &Deployment, permit: Permit) -> Result<Config, Problem> {
    let (answer, made) = tokio::sync::oneshot::channel();
    let Deployment { url, ca, insecure, pool_connections, .. } = deployment;
    let pooled = *pool_connections;
    let (url, ca, insecure) = (url.clone(), ca.as_ref().and_then(|file| file.content.clone()), *insecure);
    spawn("reach", move || {
        // Nobody waits any more where it took too long.
        let config = reach(url, ca.as_deref(), insecure, &permit);
        let connections = if pooled { Connections::PooledHttp2 } else { Connections::PerUser };
        let _ = answer.send(config.map(|config| Config { connections, ..config }));
    })?;
    match tokio::time::timeout(RESOLVE_TIME_MAX, made).await {
        Ok(Ok(config)) => config,
        Ok(Err(_)) => {
            Err(Problem::new(ProblemCode::Internal, "resolving the name failed; see the daemon's log"))
        }
        Err(_) => Err(invalid(format!(
            "the deployment's name did not resolve within {} s; see to this host's resolver",
            RESOLVE_TIME_MAX.as_secs()
        ))),
    }
}

/// A client with the token.
///
/// # Errors
/// A token that is none, settings that cannot be.
pub fn client(config: Config, token: &Secret) -> Result<Client, Problem> {
    let token = Token::new(token.expose()).map_err(|error| invalid(error.to_string()))?;
    Client::new(config, token).map_err(|error| invalid(error.to_string()))
}

/// A client of a deployment that answers, with a token that is an owner's for as long as `planned`, where this host
/// may do `actions`; and what was seen of it.
///
/// # Errors
/// The first of these that is not so.
pub async fn enter(
    config: Config,
    token: &Secret,
    planned: Duration,
    permit: &Permit,
    actions: &[Action],
) -> Result<(Client, Site), Problem> {
    let mut client = client(config, token)?;
    let ask = Ask { now: wall_now(), planned, deployment: None };
    let site = preflight::site(&mut client, &ask).await.map_err(|why| invalid(why.to_string()))?;
    permit
        .check_deployment(&client.host(), site.deployment.as_deref(), actions)
        .map_err(|why| Problem::new(ProblemCode::TargetRefused, why))?;
    Ok((client, site))
}

/// May block.
fn reach(url: String, ca: Option<&[u8]>, insecure: bool, permit: &Permit) -> Result<Config, Problem> {
    let mut config = Config::new(url);
    if config.url.trim().starts_with("https:") {
        let roots = scale_proto::tls::native_roots();
        let settings = ClientSettings { roots, ca_pem: ca, insecure, ..ClientSettings::default() };
        let tls = scale_proto::tls::client_config(&settings).map_err(|error| invalid(error.to_string()))?;
        config.tls = Some(tls);
    } else if ca.is_some() || insecure {
        return Err(invalid("--ca and --insecure are about https; the deployment's URL is not"));
    }
    config.seed = scale_ring::host::random_seed();
    let (host, port) = config.endpoint().map_err(|error| invalid(error.to_string()))?;
    let mut found = addresses(&host, port).map_err(|error| {
        invalid(format!("the name `{host}` does not resolve ({error}); check CODER_URL and this host's DNS"))
    })?;
    found.iter_mut().for_each(|address| *address = canonical(*address));
    found.dedup();
    if found.is_empty() {
        // Without addresses of ours the client would ask the resolver itself.
        return Err(invalid(format!("the name `{host}` has no address; see to this host's DNS")));
    }
    for &address in &found {
        permit.check(&host, address)?;
    }
    config.addresses = found;
    config.door = room(&config, permit, 1)?.map(Door::new);
    Ok(config)
}

/// Whether so many connections to the deployment at once keep within the list's caps; new ones in thousandths a second
/// that it allows.
///
/// # Errors
/// There would be too many.
pub fn room(config: &Config, permit: &Permit, connections: u64) -> Result<Option<u64>, Problem> {
    let (host, port) = config.endpoint().map_err(|error| invalid(error.to_string()))?;
    let demand = Demand { streams: connections, bytes_per_second: Some(0), ..Demand::default() };
    let place = Place { host, port, asker: FLOW, demand, rules: Vec::new() };
    let mut tally = Tally::default();
    let rules = tally.add(permit, &place, &config.addresses).map_err(refused)?;
    Ok(rules.into_iter().filter_map(|rule| tally.left(permit, rule, FLOW.0)).min())
}

/// A flow among the askers.
const FLOW: (u16, u16) = OBSERVE;
