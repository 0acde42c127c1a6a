//! Builds that queue, run and end, and the agents that come of them.
//!
//! Everything happens at its own time, however late it is looked at: a build that ended at 3 s while
//! nobody looked until 9 s has ended at 3 s, and the next in the queue has started at 3 s.

use std::collections::{BTreeSet, HashMap, VecDeque};

use scale_ring::Time;
use uuid::Uuid;

use super::deployment::Deployment;
use super::faults::Kind;
use super::state::{Agent, Build, Job, JobStatus, Transition};
use super::templates::Values;

/// Who builds, and what waits.
#[derive(Debug)]
pub(super) struct Provisioner {
    slots: usize,
    queue: VecDeque<Uuid>,
    /// By when they end.
    running: BTreeSet<(Time, Uuid)>,
    /// When the last thing happened.
    clock: Time,
    builds: u64,
}

impl Provisioner {
    pub fn new(slots: usize) -> Self {
        Self { slots, queue: VecDeque::new(), running: BTreeSet::new(), clock: Time::ZERO, builds: 0 }
    }

    /// When something happens next.
    pub fn next_event(&self, builds: &HashMap<Uuid, Build>) -> Time {
        let ends = self.running.first().map_or(Time::NEVER, |(due, _)| *due);
        if self.running.len() >= self.slots {
            return ends;
        }
        let starts = self.queue.front().map_or(Time::NEVER, |id| {
            // `started` of a build that waits is when it may start.
            builds[id].job.started.unwrap_or(self.clock).max(self.clock)
        });
        starts.min(ends)
    }

    /// A build's place in the queue, from 1, and how many wait.
    pub fn position(&self, id: Uuid) -> (usize, usize) {
        let place = self.queue.iter().position(|waits| *waits == id);
        (place.map_or(0, |index| index + 1), self.queue.len())
    }
}

/// A build to be queued.
pub(super) struct Order {
    pub workspace: Uuid,
    pub transition: Transition,
    pub initiator: Uuid,
    pub reason: String,
    pub parameters: Values,
}

impl Deployment {
    /// Lets everything happen that is due by `now`.
    pub(super) fn advance(&mut self, now: Time) {
        loop {
            let at = self.provisioner.next_event(&self.builds);
            if at > now {
                break;
            }
            self.provisioner.clock = at;
            match self.provisioner.running.first() {
                Some(&(due, id)) if due <= at => {
                    self.provisioner.running.pop_first();
                    self.end(id, at);
                }
                _ => {
                    let id = self.provisioner.queue.pop_front().expect("what is due and does not end begins");
                    let job = &mut self.builds.get_mut(&id).expect("queued").job;
                    job.status = JobStatus::Running;
                    job.started = Some(at);
                    self.provisioner.running.insert((at.plus_ns(job.takes_ns), id));
                }
            }
        }
    }

    /// Queues a build of a workspace; its id.
    pub(super) fn queue_build(&mut self, now: Time, order: Order) -> Uuid {
        let Order { workspace, transition, initiator, reason, parameters } = order;
        let (id, job) = (self.new_id(), self.new_id());
        let record = self.workspaces.get_mut(&workspace).expect("the caller has it");
        record.builds.push(id);
        let number = record.builds.len() as u32;
        let random = &mut self.random;
        let failure = self.faults.strike(&[Kind::BuildFails], now, None, Some(&record.name), random);
        let failure =
            failure.map(|(_, rule)| rule.message().unwrap_or("terraform apply: exit status 1").to_owned());
        let takes_ns = self.settings.build_time.ns() + random.below(self.settings.build_jitter.ns() + 1);
        self.provisioner.builds += 1;
        self.seen.builds.made += 1;
        let job = Job {
            id: job,
            status: JobStatus::Pending,
            created: now,
            started: Some(now.plus_ns(self.settings.acquire_time.ns())),
            completed: None,
            canceled: None,
            failure,
            takes_ns,
        };
        let build = Build {
            id,
            serial: self.provisioner.builds,
            number,
            workspace,
            transition,
            initiator,
            reason,
            parameters,
            job,
            resources: Vec::new(),
        };
        self.builds.insert(id, build);
        self.provisioner.queue.push_back(id);
        id
    }

    /// Cancels a job that is pending or runs.
    pub(super) fn cancel(&mut self, id: Uuid, now: Time) {
        let job = &mut self.builds.get_mut(&id).expect("the caller has it").job;
        job.canceled = Some(now);
        match job.status {
            JobStatus::Pending => {
                self.provisioner.queue.retain(|waits| *waits != id);
                job.status = JobStatus::Canceling;
                job.started = None;
                self.end(id, now);
            }
            JobStatus::Running => {
                job.status = JobStatus::Canceling;
                self.provisioner.running.retain(|(_, runs)| *runs != id);
                self.provisioner.running.insert((now.plus_ns(self.settings.cancel_time.ns()), id));
            }
            _ => {}
        }
    }

    fn end(&mut self, id: Uuid, at: Time) {
        let build = self.builds.get_mut(&id).expect("it ran");
        let ended = &mut self.seen.builds;
        build.job.completed = Some(at);
        let count;
        (build.job.status, count) = match (build.job.status, &build.job.failure) {
            (JobStatus::Canceling, _) => (JobStatus::Canceled, &mut ended.canceled),
            (_, Some(_)) => (JobStatus::Failed, &mut ended.failed),
            (_, None) => (JobStatus::Succeeded, &mut ended.succeeded),
        };
        *count += 1;
        let (workspace, transition) = (build.workspace, build.transition);
        if build.job.status != JobStatus::Succeeded {
            return;
        }
        match transition {
            Transition::Start => self.add_agents(id, at),
            Transition::Stop => {}
            Transition::Delete => {
                let workspace = self.workspaces.get_mut(&workspace).expect("it was built");
                workspace.deleted = true;
                self.names.remove(&(workspace.owner, workspace.name.to_lowercase()));
                self.seen.workspaces.deleted += 1;
            }
        }
    }

    /// The agents of a start that went well, as the template has them.
    fn add_agents(&mut self, id: Uuid, at: Time) {
        const NEVER: u64 = u64::MAX;
        let workspace = &self.workspaces[&self.builds[&id].workspace];
        let (workspace, name, template) = (workspace.id, workspace.name.clone(), workspace.template);
        let template = self.templates.iter().find(|of| of.id == template).expect("templates stay");
        let layout = template.resources;
        let mut resources = Vec::new();
        for names in layout {
            let resource = self.new_id();
            let mut agents = Vec::new();
            for agent in *names {
                let mut strike = |kind| {
                    let random = &mut self.random;
                    let struck = self.faults.strike(&[kind], at, None, Some(&name), random);
                    struck.map(|(_, rule)| (rule.delay_ns(), rule.after_ns()))
                };
                let late_ns = match (strike(Kind::AgentNever), strike(Kind::AgentLate)) {
                    (Some(_), _) => NEVER,
                    (None, late) => late.map_or(0, |(delay, _)| delay),
                };
                let lost_ns = strike(Kind::AgentLost).map_or(NEVER, |(_, after)| after.unwrap_or(0));
                let connects = at.plus_ns(self.settings.agent_time.ns()).plus_ns(late_ns);
                let agent = Agent {
                    id: self.new_id(),
                    name: (*agent).to_owned(),
                    parent: None,
                    build: id,
                    resource,
                    workspace,
                    created: at,
                    connects,
                    ready: connects.plus_ns(self.settings.script_time.ns()),
                    lost: connects.plus_ns(lost_ns),
                };
                agents.push(agent.id);
                if agent.name == "second" && self.settings.version.has_sub_agents() {
                    let child = Agent {
                        id: self.new_id(),
                        name: "child".to_owned(),
                        parent: Some(agent.id),
                        ..agent.clone()
                    };
                    agents.push(child.id);
                    self.agents.insert(child.id, child);
                }
                self.agents.insert(agent.id, agent);
            }
            resources.push((resource, agents));
        }
        self.builds.get_mut(&id).expect("just built").resources = resources;
    }
}
