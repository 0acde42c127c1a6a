//! What workers hand over of streams, and marks, become disruptions.

use std::sync::Arc;

use scale_api::disruption::{DISRUPTIONS_MAX, DISRUPTIONS_OF_EVENT, Disruption};
use scale_api::http::Problem;
use scale_api::units::{Span, thousands};
use scale_ring::{Time, host};

use crate::load::Group;
use crate::run::disruption::{Attempts, Back, Disruptions, Happened, Loss, Users, What};
use crate::run::plan::Plan;
use crate::run::workers::Hand;
use crate::stream::meter::{Counters, Figure};
use crate::stream::versions::Versions;
use crate::worker::share::GroupPhase;
use crate::worker::{Command, changes};

use super::Supervisor;

const SECOND_NS: u64 = 1_000_000_000;

/// Before a run's first second.
pub(super) fn none(plan: &Plan) -> Disruptions {
    let mut none = Disruptions::new(plan.groups.iter().map(|group| group.first_stream).collect());
    none.set_users(users(plan, |_| None));
    none
}

/// Whose streams are whose: as the plan's rows say, else as `owners` of a group's workspaces.
fn users<'a>(plan: &'a Plan, owners: impl Fn(usize) -> Option<Vec<&'a str>>) -> Users {
    let of_rows = plan.users.iter().map(|names| names.iter().map(|name| &**name).collect::<Vec<_>>());
    Users::new(of_rows.enumerate().map(|(group, names)| match owners(group) {
        Some(owners) if names.is_empty() => owners,
        _ => names,
    }))
}

impl Supervisor {
    /// A named moment, from which on drops are its disruption's. `expected`: for so long they are expected, and what is
    /// due is counted aside; as the run's plan has it where it is not given; of no length: it is a note, and no more.
    ///
    /// # Errors
    /// It is no line of text, or there are too many already.
    pub fn mark(&mut self, text: &str, expected: Option<Span>) -> Result<(), Problem> {
        let now = host::monotonic_now();
        let at = now.ns_since(self.started);
        self.marks.add(at as f64 / SECOND_NS as f64, text)?;
        let expected = expected.or(self.spec.expect_disruption).map(|span| span.ns());
        if expected == Some(0) {
            return Ok(());
        }
        let until = now.plus_ns(expected.unwrap_or(0));
        let window = self.disruptions.mark(at, text, expected);
        if !self.disruptions.asides().is_empty() {
            // One that is not expected ends the window of one that was.
            self.send(&Command::Aside { window, from: now, until });
        }
        Ok(())
    }

    /// Whose streams are whose, as the fleet says.
    pub(super) fn set_owners(&mut self) {
        let Some(fleet) = &self.fleet else { return };
        let owners = |group: usize| {
            let driven = fleet.driven.iter().find(|driven| usize::from(driven.group) == group)?;
            Some(driven.workspaces.iter().map(|workspace| workspace.owner.as_str()).collect())
        };
        self.disruptions.set_users(users(&self.plan, owners));
    }

    /// A second is over, or `seconds` of them; `sums` are all counters. To be said before the second's samples are taken.
    pub(super) fn take_changes(&mut self, seconds: u64, sums: &Counters) {
        for worker in &mut self.workers {
            for change in std::mem::take(&mut worker.changes) {
                self.disruptions.push(happened(worker, &change, self.started));
            }
        }
        if self.is_finished() {
            self.disruptions.finish(host::monotonic_now().ns_since(self.started));
        } else {
            self.disruptions.advance(self.second * SECOND_NS);
            self.end_groups();
        }
        let before = &self.before;
        self.disruptions.take_attempts(Attempts {
            seconds,
            offered: sums.retries - before.retries,
            refused: sums.retries_failed - before.retries_failed,
        });
        self.take_asides();
    }

    /// Streams of groups that drain close by themselves.
    fn end_groups(&mut self) {
        for group in 0..self.plan.groups.len() {
            let drains = self.place(group).is_some_and(|(phase, _)| phase >= GroupPhase::Draining);
            if drains && !std::mem::replace(&mut self.groups_ended[group], true) {
                self.disruptions.end_group(group);
            }
        }
    }

    fn take_asides(&mut self) {
        if self.disruptions.asides().is_empty() {
            return;
        }
        for turn in 0..Group::ASIDE {
            let (mut due, mut sent, mut samples, mut first) = (0, 0, Vec::new(), 0);
            for group in self.plan.groups.iter() {
                let cells = group.aside_cells(first, turn);
                first = group.cells(first).end;
                for worker in &self.workers {
                    for cell in worker.cells.get(cells.clone()).into_iter().flatten() {
                        due += cell.counters.ticks_due;
                        sent += cell.counters.ticks_sent;
                    }
                    let of_worker = worker.histograms.get(cells.clone()).into_iter().flatten();
                    samples.extend(of_worker.filter_map(|of| of.figure(Figure::Response)));
                }
            }
            self.disruptions.asides().take(turn, (due, sent), samples.into_iter());
        }
    }

    /// All disruptions, as they stand.
    pub fn disruptions(&self) -> Vec<Disruption> {
        self.told_disruptions(DISRUPTIONS_MAX)
    }

    /// The newest.
    pub(super) fn newest_disruptions(&self) -> Vec<Disruption> {
        self.told_disruptions(DISRUPTIONS_OF_EVENT)
    }

    fn told_disruptions(&self, most: usize) -> Vec<Disruption> {
        self.disruptions.told(most, |group| self.plan.groups[usize::from(group)].name.to_string())
    }

    /// For metrics: disruptions so far, streams that they dropped, and those of them that are not open again.
    pub fn disruption_counts(&self) -> (u64, u64, u64) {
        let all = &self.disruptions;
        (all.count() as u64, all.dropped(), all.away())
    }

    /// What is to be said of disruptions that are not told.
    pub(super) fn disruptions_left_out(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let left_out = self.disruptions.left_out();
        if left_out > 0 {
            warnings.push(format!(
                "{} further disruptions are not told: a report has at most {DISRUPTIONS_MAX}",
                thousands(left_out)
            ));
        }
        let changes: u64 = self.workers.iter().map(|worker| worker.changes_left_out).sum();
        if changes > 0 {
            warnings.push(format!(
                "streams were lost and opened faster than they are looked at: disruptions miss {} of these changes",
                thousands(changes)
            ));
        }
        warnings
    }
}

/// A change with the names that its worker has for numbers.
fn happened(worker: &Hand, change: &changes::Change, started: Time) -> Happened {
    let &changes::Change { group, number, at, what } = change;
    let name = |names: &[Versions], number: u8| -> Option<Arc<str>> {
        let met = names.get(usize::from(group))?.met();
        Some(met.get(usize::from(number))?.name.clone())
    };
    let what = match what {
        changes::What::Opened => What::Opened,
        changes::What::Closed => What::Closed,
        changes::What::GivenUp => What::GivenUp,
        changes::What::Lost(loss) => What::Lost(Loss {
            class: loss.class,
            address: worker.opened.get(usize::from(loss.address)).map(|(address, _)| *address),
            replica: name(&worker.replicas, loss.replica),
            version: name(&worker.versions, loss.version),
            bytes_lost: loss.bytes_lost,
        }),
        changes::What::Back(back) => What::Back(Back {
            version: name(&worker.versions, back.version),
            session: back.session,
            bytes_repeated: back.bytes_repeated,
        }),
    };
    Happened { at: at.ns_since(started), stream: (group, number), what }
}
