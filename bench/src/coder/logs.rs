//! A build's log: made from its times, so that it needs no memory, and followed as it grows.

use scale_ring::Time;
use serde_json::{Value, json};
use uuid::Uuid;

use super::deployment::{Call, Deployment};
use super::message::{Answer, Refusal, Response};
use super::socket::{Follow, Kind};
use super::state::{Build, JobStatus};

/// Lines of a build that runs to its end: stage, source, share of the build's time in percent, text.
const LINES: [(&str, &str, u64, &str); 7] = [
    ("Setting up", "provisioner_daemon", 0, ""),
    ("Setting up", "provisioner", 5, "Initializing the backend..."),
    ("Planning infrastructure", "provisioner_daemon", 20, ""),
    ("Planning infrastructure", "provisioner", 40, "Plan: 2 to add, 0 to change, 0 to destroy."),
    ("Starting workspace", "provisioner_daemon", 50, ""),
    ("Starting workspace", "provisioner", 80, "Apply complete! Resources: 2 added, 0 changed, 0 destroyed."),
    ("Cleaning Up", "provisioner_daemon", 100, ""),
];
/// Ids that a build has.
const IDS: u64 = 16;

impl Deployment {
    /// The lines written by `now` with ids above `after`.
    fn log(&self, build: &Build, now: Time, after: u64) -> Vec<Value> {
        let Some(started) = build.job.started.filter(|_| build.job.status != JobStatus::Pending) else {
            return Vec::new();
        };
        let end = build.job.completed.unwrap_or(Time::NEVER);
        let line = |index: u64, at: Time, stage: &str, source: &str, level: &str, output: &str| {
            json!({
                "id": build.serial * IDS + index,
                "created_at": self.timestamp(at),
                "log_source": source,
                "log_level": level,
                "stage": stage,
                "output": output,
            })
        };
        let mut lines = Vec::new();
        for (index, (stage, source, percent, text)) in (1..).zip(LINES) {
            let at = started.plus_ns(build.job.takes_ns / 100 * percent);
            let failed_here = build.job.status == JobStatus::Failed && percent > 50;
            if at <= now && at <= end && !failed_here {
                lines.push(line(index, at, stage, source, "info", text));
            }
        }
        if let (JobStatus::Failed, Some(error)) = (build.job.status, &build.job.failure) {
            lines.push(line(IDS - 1, end, "Starting workspace", "provisioner", "error", error));
        }
        lines.retain(|line| line["id"].as_u64() > Some(after));
        lines
    }

    /// What a follower is to be sent now: lines above `after`, each a message, and whether the job has
    /// ended, so that there will be no more.
    pub fn followed(&mut self, now: Time, follow: &mut Follow) -> (Vec<String>, bool) {
        self.advance(now);
        let Some(build) = self.builds.get(&follow.build) else { return (Vec::new(), true) };
        let lines = self.log(build, now, follow.after);
        if let Some(id) = lines.last().and_then(|line| line["id"].as_u64()) {
            follow.after = id;
        }
        (lines.iter().map(Value::to_string).collect(), !build.job.status.is_active())
    }
}

pub(super) fn get(deployment: &mut Deployment, call: &Call<'_>) -> Answer {
    let build = deployment.build_of(call)?;
    let after = match call.request.query("after").filter(|text| !text.is_empty()) {
        Some(text) => text.parse().map_err(|_| {
            Refusal::new(400, "Query param \"after\" must be an integer.")
                .field("after", "must be an integer")
        })?,
        None => 0,
    };
    // `follow` is there or not; its value means nothing.
    if form_urlencoded::parse(call.request.query.as_bytes()).any(|(name, _)| name == "follow") {
        let build: Uuid = build.id;
        return Ok(deployment.upgrade(call.now, call.request, Kind::Logs(Follow { build, after }), None));
    }
    let lines = deployment.log(build, call.now, after);
    Ok(Response::json(200, &lines.into_iter().collect()))
}
