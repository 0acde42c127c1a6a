//! What a run will do: a [`Spec`] and a host become a [`Plan`], everything checked, so that
//! workers can trust every field.

pub(super) mod demand;
mod endpoints;
mod observe;
mod ssh;
mod tables;
mod ways;

#[cfg(test)]
pub(super) mod tests;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use scale_api::http::{DoctorEntry, PlanSummary, Problem, ProblemCode};
use scale_api::spec::Spec;
use scale_api::units::thousands;
use scale_ring::Interface;
use scale_ring::host::Facts;

use crate::load::{Endpoint, Group, Traffic};
use crate::stream::meter::Meter;
use crate::worker::gate::Gates;
use crate::worker::ports::PortTable;
use crate::worker::share::Addresses;

use super::calibration::Kept;
use super::fit;
use super::targets::{Demand, Permit};
pub use observe::{Observe, QUERIES_AT_ONCE};
pub(super) use tables::base_pace;
use tables::{Of, Tables};
pub use ways::{Source, Sources};

/// A checked run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What flows.
    pub groups: Arc<[Group]>,
    /// Whom streams talk to.
    pub endpoints: Arc<[Endpoint]>,
    /// Where these are.
    pub addresses: Addresses,
    /// What the rows of the address table were resolved from.
    pub places: Vec<Place>,
    /// For whom it was made, and what that one may hit.
    pub permit: Permit,
    /// What holds new connections to the caps of the list.
    pub gates: Gates,
    /// The cores that workers run on.
    pub cores: Vec<usize>,
    /// Decides payload, masks and random offsets.
    pub seed: u64,
    /// Source ports, and which worker has which.
    pub ports: Arc<PortTable>,
    /// Sources and interfaces as each group asks for them.
    pub sources: Vec<Sources>,
    /// Families that may be used of each row of the address table: IPv4, IPv6.
    pub families: Vec<(bool, bool)>,
    /// Bytes of a provided receive buffer.
    pub receive_buffer_bytes: u32,
    /// Streams of all groups at their most.
    pub streams_max: u64,
    /// By group: whose streams are whose, in turn; empty: nobody says.
    pub users: Vec<Vec<Box<str>>>,
    /// Workers hand over each stream's own figures every second.
    pub stream_by_stream: bool,
    /// Who is asked for the target's own figures.
    pub observe: Option<Observe>,
    /// The plan in figures.
    pub summary: PlanSummary,
    /// What it needs beside what the host has.
    pub fit: Vec<DoctorEntry>,
    /// What it was made for.
    pub host: Host,
}

/// What a row of the address table was resolved from, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Group and target that it belongs to; [`OBSERVE`]: none.
    pub asker: (u16, u16),
    /// What is asked of it at the most.
    pub demand: Demand,
    /// Rules of the list that its addresses fall under.
    pub rules: Vec<usize>,
}

/// Who asks for the target's own figures, among the askers.
pub const OBSERVE: (u16, u16) = (u16::MAX, 0);

/// What a plan is made for.
#[derive(Debug, Clone)]
pub struct Host {
    /// Cores for workers.
    pub cores: Vec<usize>,
    /// What the kernel's files say.
    pub facts: Facts,
    /// What `doctor` says of it, for the report.
    pub doctor: Vec<DoctorEntry>,
    /// A seed where none was asked for.
    pub seed: u64,
    /// Now, in seconds since 1970, for certificates.
    pub unix_s: u64,
    /// RLIMIT_NOFILE.
    pub files: u64,
    /// Whether sockets fit into the rings' own tables.
    pub direct_descriptors: bool,
    /// Whether an address is this host's.
    pub has_address: fn(IpAddr) -> bool,
    /// What it was found to offer.
    pub calibrations: Arc<Kept>,
    /// The interfaces that it has.
    pub interfaces: Vec<Interface>,
}

/// Names to addresses.
pub type Resolve<'a> = &'a mut dyn FnMut(&str, u16) -> std::io::Result<Vec<SocketAddr>>;

pub(super) fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Invalid, detail)
}

impl Plan {
    /// Checks everything.
    ///
    /// # Errors
    /// The user's mistake, a target that is not allowed, or what the host cannot carry.
    pub fn new(spec: &Spec, host: &Host, permit: &Permit, resolve: Resolve<'_>) -> Result<Self, Problem> {
        Self::changed(spec, host, permit, resolve, &[])
    }

    /// The same for a run that goes and is changed. `before`: its groups so far, of whose stages any may meet what is
    /// asked for now.
    pub fn changed(
        spec: &Spec,
        host: &Host,
        permit: &Permit,
        resolve: Resolve<'_>,
        before: &[Group],
    ) -> Result<Self, Problem> {
        spec.check().map_err(|errors| invalid(errors.join("\n")))?;
        let seed = spec.seed.unwrap_or(host.seed);
        let mut tables = Tables::default();
        let mut groups = Vec::new();
        for (index, group) in spec.group.iter().enumerate() {
            let of = Of { index, group, before: before.get(index), spec, host, seed, permit };
            groups.push(tables.group(&of, resolve)?);
        }
        let observe = tables.observe(spec.observe.as_ref(), permit, resolve)?;
        let gates = tables.gates(spec, &mut groups, permit)?;
        let cells: usize = groups.iter().map(|group| group.steady_cells(0).end).sum();
        if cells > Meter::CELLS_MAX {
            return Err(invalid(format!(
                "groups × stages × targets make {cells} parts; at most {} are kept apart",
                Meter::CELLS_MAX
            )));
        }
        let largest =
            groups.iter().flat_map(|g| &g.stages).map(|stage| stage.message.max()).max().unwrap_or(4096);
        let streams_max = groups.iter().map(|group| u64::from(group.conns_max())).sum();
        let mut plan = Self {
            endpoints: tables.endpoints.into(),
            addresses: tables.addresses.into(),
            places: tables.places,
            permit: permit.clone(),
            gates,
            cores: host.cores.clone(),
            seed,
            ports: Arc::default(),
            sources: tables.sources,
            families: tables.families,
            // A usual message and its headers in one receive; large ones come in pieces anyway.
            receive_buffer_bytes: (largest + 64).next_power_of_two().clamp(4096, 32 << 10),
            streams_max,
            users: tables.users,
            stream_by_stream: false,
            observe,
            summary: PlanSummary { warnings: tables.warnings, ..PlanSummary::default() },
            groups: groups.into(),
            fit: Vec::new(),
            host: host.clone(),
        };
        plan.ports = Arc::new(PortTable::new(&host.facts.ports_reserved, reached_by(&plan)));
        plan.summarise();
        Ok(plan)
    }

    /// What of `fresh`, in place of the address table, the groups' sources reach; a row of which nothing is
    /// left stays as it is.
    pub fn reachable(&self, fresh: &[Vec<SocketAddr>]) -> Addresses {
        let mut rows = Vec::new();
        for ((fresh, old), &(v4, v6)) in fresh.iter().zip(self.addresses.iter()).zip(&self.families) {
            let those = fresh.iter().filter(|to| if to.is_ipv6() { v6 } else { v4 }).copied();
            let those: Vec<SocketAddr> = those.collect();
            rows.push(if those.is_empty() { old.clone() } else { those });
        }
        rows.into()
    }

    fn summarise(&mut self) {
        let mut summary = std::mem::take(&mut self.summary);
        let workers = self.cores.len() as u32;
        for group in self.groups.iter() {
            let stage = &group.stages[group.stages.len() - 1];
            let conns = group.conns_max();
            let per_second = 1e9 / stage.tick_ns as f64;
            let bytes = stage.message.bytes_per_second(stage.tick_ns);
            if group.traffic == Traffic::Receive {
                summary.lines.push(format!(
                    "{}: {} streams, read only; the target decides the rate",
                    group.name,
                    thousands(u64::from(conns))
                ));
            } else {
                summary.messages_per_second += per_second * f64::from(conns);
                summary.bytes_per_second += bytes * f64::from(conns);
                summary.lines.push(format!(
                    "{}: {} streams, {} B x {}/s = {:.1} KB/s a stream {}",
                    group.name,
                    thousands(u64::from(conns)),
                    thousands(u64::from(stage.message.max())),
                    (per_second * 1000.0).round() / 1000.0,
                    bytes / 1000.0,
                    if group.traffic == Traffic::Echo { "each way" } else { "written" },
                ));
            }
        }
        let shared = self.groups.iter().filter_map(|group| Some((group, group.ssh.as_ref()?)));
        let shared = shared.filter(|(_, ssh)| ssh.channels_per_connection > 1);
        summary.lines.extend(shared.map(|(group, ssh)| {
            format!(
                "{}: {} connections of at most {} channels each",
                group.name,
                thousands(fit::connections(self, group)),
                ssh.channels_per_connection
            )
        }));
        summary.lines.extend(self.observe.as_ref().map(Observe::line));
        summary.streams_per_core = (0..workers)
            .map(|worker| {
                self.groups.iter().map(|g| u64::from(Group::share(g.conns_max(), worker, workers))).sum()
            })
            .collect();
        summary.memory_bytes = fit::memory_bytes(self);
        summary.source_ports = fit::source_ports(self);
        self.summary = summary;
        self.fit = fit::examine(self, &self.host);
        self.summary.calibration = fit::calibrated(self, &self.host);
        self.summary.details = fit::details(self);
        let said = |status: &str| -> Vec<String> {
            self.fit.iter().filter(|entry| entry.status == status).map(fit::sentence).collect()
        };
        (self.summary.cannot, self.summary.warnings) =
            (said("fail"), [std::mem::take(&mut self.summary.warnings), said("warn")].concat());
        self.summary.lines.push(format!(
            "in all: {} streams on {} cores, {} messages/s, {:.1} MB/s each way, seed {}",
            thousands(self.streams_max),
            workers,
            thousands(self.summary.messages_per_second.round() as u64),
            self.summary.bytes_per_second / 1e6,
            self.seed
        ));
    }
}

/// Destinations that not every worker reaches, with those that do. Stream i is worker i mod workers' and goes
/// to row i mod rows: of two targets and two workers each worker has one to itself.
fn reached_by(plan: &Plan) -> HashMap<SocketAddr, Vec<u32>> {
    let workers = plan.cores.len() as u32;
    let mut rows = vec![BTreeSet::new(); plan.addresses.len()];
    for group in plan.groups.iter() {
        let common = gcd(group.pattern.len() as u32, workers);
        for (position, &row) in group.pattern.iter().enumerate() {
            // Streams are numbered from the group's first, and shared out from there.
            let worker = (position as u32 % common + common - group.first_stream % common) % common;
            let addresses = plan.endpoints[row as usize].addresses as usize;
            rows[addresses].extend((worker..workers).step_by(common as usize));
        }
    }
    let mut reached: HashMap<SocketAddr, BTreeSet<u32>> = HashMap::new();
    for (row, by) in plan.addresses.iter().zip(rows) {
        row.iter().for_each(|&to| reached.entry(to).or_default().extend(&by));
    }
    let partly = reached.into_iter().filter(|(_, by)| (1..workers as usize).contains(&by.len()));
    partly.map(|(to, by)| (to, by.into_iter().collect())).collect()
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}
