//! Old runs make room for new ones.

use scale_coder::ledger;

use super::Store;
use crate::settings::Keep;

/// A run that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// Its id.
    pub id: String,
    /// What its folder took.
    pub bytes: u64,
}

impl Store {
    /// Removes the oldest runs until no more are kept than `keep` says; those that it removed. The newest stays, `going` does,
    /// and what owns users or workspaces of a Coder deployment.
    pub fn prune(&self, keep: Keep, going: Option<&str>) -> Vec<Pruned> {
        let mut runs: Vec<Pruned> = self
            .ids()
            .unwrap_or_default()
            .into_iter()
            .map(|id| Pruned { bytes: self.bytes(&id), id })
            .collect();
        let (mut count, mut bytes) = (runs.len(), runs.iter().map(|run| run.bytes).sum::<u64>());
        runs.pop();
        let mut pruned = Vec::new();
        for run in runs {
            if count <= keep.runs_max && bytes <= keep.bytes_max {
                break;
            }
            let may_go = going != Some(&run.id) && ledger::may_remove(&self.folder(&run.id)).is_ok();
            if may_go && self.remove(&run.id) == Ok(true) {
                (count, bytes) = (count - 1, bytes - run.bytes);
                pruned.push(run);
            }
        }
        pruned
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use scale_api::report::Report;

    use super::*;
    use crate::run::store::tests::{Scratch, own};

    /// Runs r1-0, r2-0, …, each of 1,000 bytes and its report.
    fn kept(name: &str, runs: u64) -> Scratch {
        let scratch = Scratch::new(name);
        for second in 1..=runs {
            let mut report = Report::default();
            report.run.id = format!("r{second}-0");
            scratch.0.write(&report).unwrap();
            fs::write(scratch.0.folder(&report.run.id).join("series.jsonl"), [b'x'; 1000]).unwrap();
        }
        scratch
    }

    fn left(store: &Store) -> Vec<String> {
        store.list().into_iter().map(|run| run.id).collect()
    }

    #[test]
    fn the_oldest_go_until_so_many_are_left() {
        let scratch = kept("count", 5);
        let keep = |runs_max| Keep { runs_max, bytes_max: u64::MAX };
        assert_eq!(scratch.0.prune(keep(5), None), []);
        let ids: Vec<String> = scratch.0.prune(keep(3), None).into_iter().map(|run| run.id).collect();
        assert_eq!(ids, ["r1-0", "r2-0"]);
        assert_eq!(left(&scratch.0), ["r3-0", "r4-0", "r5-0"]);
    }

    #[test]
    fn the_oldest_go_until_they_take_so_little() {
        let scratch = kept("bytes", 5);
        let each = scratch.0.bytes("r1-0");
        let pruned = scratch.0.prune(Keep { runs_max: 100, bytes_max: each * 3 + 1 }, None);
        assert_eq!(pruned, ["r1-0", "r2-0"].map(|id| Pruned { id: id.into(), bytes: each }));
    }

    #[test]
    fn what_owns_what_goes_and_the_newest_stay_whatever_the_limits_are() {
        let scratch = kept("stay", 5);
        own(&scratch.0, "r2-0");
        scratch.0.prune(Keep { runs_max: 1, bytes_max: 0 }, Some("r4-0"));
        assert_eq!(left(&scratch.0), ["r2-0", "r4-0", "r5-0"]);
    }
}
