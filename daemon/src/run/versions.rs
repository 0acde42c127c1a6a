//! The servers' versions as all workers met them, for the report.

use std::sync::Arc;

use scale_api::report::{ServerChange, ServerVersion};
use scale_ring::Time;

use crate::load::Group;
use crate::stream::versions::{Met, Versions};

/// Adds up `workers`: each one's versions by group. Those of a group are in the order in which they
/// were first met.
pub fn add_up(
    groups: &[Group],
    workers: &[&[Versions]],
    started: Time,
) -> (Vec<ServerVersion>, Vec<ServerChange>) {
    let since = |at: Time| at.since(started).as_secs_f64();
    let (mut versions, mut changes) = (Vec::new(), Vec::new());
    for (index, group) in groups.iter().enumerate() {
        let name = group.name.to_string();
        let own = || workers.iter().filter_map(|worker| worker.get(index));
        let mut met: Vec<Met> = Vec::new();
        for one in own().flat_map(Versions::met) {
            match met.iter_mut().find(|known| known.name == one.name) {
                Some(known) => {
                    known.first = known.first.min(one.first);
                    known.last = known.last.max(one.last);
                    known.opened += one.opened;
                }
                None => met.push(one.clone()),
            }
        }
        met.sort_by_key(|one| one.first);
        versions.extend(met.into_iter().map(|one| ServerVersion {
            group: name.clone(),
            version: one.name.to_string(),
            first_at: since(one.first),
            last_at: since(one.last),
            opened: one.opened,
        }));
        let mut pairs: Vec<ServerChange> = Vec::new();
        let text = |version: Option<&Arc<str>>| version.map(ToString::to_string);
        for (before, after, reconnects) in own().flat_map(Versions::changes) {
            let (before, after) = (text(before), text(after));
            match pairs.iter_mut().find(|known| known.before == before && known.after == after) {
                Some(known) => known.reconnects += reconnects,
                None => pairs.push(ServerChange { group: name.clone(), before, after, reconnects }),
            }
        }
        changes.extend(pairs);
    }
    (versions, changes)
}
