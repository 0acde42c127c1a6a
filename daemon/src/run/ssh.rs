//! What SSH connections settled on and whom they believed, for the report.

use std::collections::BTreeMap;

use scale_api::report;
use scale_api::spec::GroupSpec;
use scale_api::typed::Kind;
use scale_proto::ssh::Negotiated;

use crate::load::Group;

/// Hosts that were believed at first sight and are listed.
pub const ACCEPTED_LISTED_MAX: usize = 1000;

/// Adds up `workers`: what each one's connections settled on, and how many did. `None`: no group of SSH.
pub fn add_up(
    groups: &[Group],
    specs: &[GroupSpec],
    workers: &[&[(Negotiated, u64)]],
) -> Option<report::Ssh> {
    let settings = || groups.iter().filter_map(|group| group.ssh.as_ref());
    settings().next()?;
    let accepted = settings().flat_map(|ssh| ssh.config.host_keys.accepted());
    let mut accepted: Vec<_> =
        accepted.map(|(host, key)| report::HostKey { host: host.to_string(), key }).collect();
    accepted.sort_by(|a, b| (&a.host, &a.key).cmp(&(&b.host, &b.key)));
    accepted.dedup();
    accepted.truncate(ACCEPTED_LISTED_MAX);
    // Only a way into a workspace may have gone past what it is said to measure.
    let workspaces = specs.iter().any(|group| group.typed.is_some_and(|typed| typed.kind == Kind::Ssh));
    Some(report::Ssh {
        negotiated: negotiated(workers),
        path: workspaces.then_some(report::SshPath::Unknown),
        accepted_host_keys: accepted,
        insecure_host_keys: specs.iter().any(|group| group.insecure_host_keys),
    })
}

/// The sets of all workers, the most frequent first.
fn negotiated(workers: &[&[(Negotiated, u64)]]) -> Vec<report::Negotiated> {
    let mut sums: BTreeMap<Negotiated, u64> = BTreeMap::new();
    for (set, connections) in workers.iter().copied().flatten() {
        *sums.entry(*set).or_default() += connections;
    }
    let set = |(set, connections): (Negotiated, u64)| {
        let Negotiated { kex, host_key, cipher, mac, strict } = set;
        report::Negotiated {
            kex: kex.into(),
            cipher: cipher.into(),
            mac: mac.into(),
            host_key: host_key.into(),
            strict,
            connections,
        }
    };
    let mut sets: Vec<_> = sums.into_iter().map(set).collect();
    sets.sort_by_key(|set| std::cmp::Reverse(set.connections));
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_settled_on_is_added_up_and_the_most_frequent_comes_first() {
        let set = |cipher, strict| Negotiated {
            kex: "curve25519-sha256",
            host_key: "ssh-ed25519",
            cipher,
            mac: "implicit",
            strict,
        };
        let (gcm, ctr) = (set("aes128-gcm@openssh.com", true), set("aes128-ctr", true));
        let sets = negotiated(&[&[(ctr, 3), (gcm, 1)], &[], &[(gcm, 4), (set("aes128-ctr", false), 1)]]);
        let shown: Vec<_> =
            sets.iter().map(|set| (set.cipher.as_str(), set.strict, set.connections)).collect();
        assert_eq!(
            shown,
            [("aes128-gcm@openssh.com", true, 5), ("aes128-ctr", true, 3), ("aes128-ctr", false, 1)]
        );
        assert!(add_up(&[], &[], &[&[(gcm, 1)]]).is_none(), "no group of SSH, no part of a report");
    }
}
