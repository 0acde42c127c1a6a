//! A reload: the settings file and the list of targets are read again. What can be applied at once is, also to
//! what goes; what only a restart applies is said. Where anything that was read is wrong, nothing changes.

use scale_api::http::{Problem, ProblemCode, Reloaded};
use scale_api::report::Event;
use scale_api::units::thousands;
use scale_ring::host;

use super::State;
use crate::control::service::notify::{self, Notice};
use crate::log;
use crate::run::targets::Targets;

/// In front of why a going run is ended.
const ENDED: &str = "the list of targets was changed";

impl State {
    /// Reads again, applies, and tells the service manager.
    ///
    /// # Errors
    /// What is wrong in which file; then nothing has changed.
    pub fn reload(&mut self) -> Result<Reloaded, Problem> {
        notify::say(&[Notice::Reloading(host::monotonic_now())]);
        let done = self.read_again();
        self.reload_failed = done.as_ref().err().cloned();
        match &done {
            Ok(Reloaded { applied, restart, ended }) => {
                for what in applied {
                    tracing::info!("reload: {what}");
                }
                for what in restart {
                    tracing::warn!("reload: {what}, until scaled is restarted");
                }
                if let Some(why) = ended {
                    tracing::warn!("reload: what goes is ended: {why}");
                }
            }
            Err(why) => tracing::error!("reload failed, nothing has changed: {why}"),
        }
        if let Ok(done) = &done {
            self.restart_wanted.clone_from(&done.restart);
        }
        notify::say(&[Notice::Ready]);
        done.map_err(|why| Problem::new(ProblemCode::Invalid, format!("nothing has changed: {why}")))
    }

    fn read_again(&mut self) -> Result<Reloaded, String> {
        let settings = self.settings.again()?;
        let change = log::change(settings.log.as_deref())?;
        let targets = Targets::read(&settings.targets)?;
        // Nothing of it is wrong: from here on it is applied.
        let mut applied = Vec::new();
        let rules = targets.summary(None, None).rules;
        if rules != self.targets.summary(None, None).rules {
            applied.push(format!("what may be hit: {}", rules.join("; ")));
        }
        self.targets = targets;
        let (old, new) = (self.settings.keep, settings.keep);
        if (old.runs_max, old.bytes_max) != (new.runs_max, new.bytes_max) {
            let (runs, bytes) = (thousands(new.runs_max as u64), thousands(new.bytes_max));
            applied.push(format!("kept are {runs} runs of {bytes} B together at most"));
            self.settings.keep = new;
            self.prune();
        }
        if self.settings.log != settings.log {
            let said = settings.log.as_deref().unwrap_or("info");
            applied.push(match &change {
                Some(_) => format!("the log has {said}"),
                None => format!("{} stays above the file's log = {said:?}", log::SCALED_LOG),
            });
            self.settings.log.clone_from(&settings.log);
        }
        if let Some(change) = change {
            change.apply();
        }
        let restart = self.settings.restart_for(&settings);
        let ended = self.forbidden().map(|why| format!("{ENDED}: {why}"));
        if let Some(why) = &ended {
            self.end_all(why);
        }
        Ok(Reloaded { applied, restart, ended })
    }

    /// Why what goes may no longer. What may go on does so under the new list.
    fn forbidden(&mut self) -> Option<String> {
        // Without the lines that would allow it.
        let short = |why: String| why.split(". To allow").next().unwrap_or_default().to_owned();
        if let Some(run) = &mut self.run {
            return run.adopt(&self.targets).err().map(short);
        }
        let flow = self.flow.as_ref()?;
        let (permit, (host, addresses)) = (flow.permit().under(&self.targets), flow.place());
        addresses.into_iter().find_map(|address| permit.rule(&host, address).err()).map(short)
    }

    /// Ends whatever goes, at once; its verdict is "aborted" because of `why`.
    fn end_all(&mut self, why: &str) {
        if self.end_scenario("current", why, true, true).is_some() {
            return;
        }
        if let Some(run) = &mut self.run {
            run.abort(why, true);
        }
        if let Some(flow) = &mut self.flow {
            flow.stop(why, true);
        }
    }

    /// What the daemon is doing, in a line for `systemctl status`.
    pub fn line_of_state(&self) -> String {
        let mut line = self.event_now().map_or_else(|| "idle".to_owned(), |event| of_event(&event));
        if let Some(why) = &self.reload_failed {
            let why: Vec<&str> = why.split_whitespace().collect();
            line += &format!("; reload failed, nothing has changed: {}", why.join(" "));
        } else if !self.restart_wanted.is_empty() {
            line += &format!("; to be restarted: {}", self.restart_wanted.join(", "));
        }
        line
    }

    /// Turns of each worker of the going run, by core.
    pub fn pulses(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.run.iter().flat_map(|run| run.pulses())
    }
}

fn of_event(event: &Event) -> String {
    let name = event.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let mut line = format!("run {}{name} {}", event.run, event.state);
    if let Some(open) = event.streams.get("open") {
        line += &format!(
            ": {} streams open, {:.1} MB/s sent, {:.1} MB/s received",
            thousands(*open),
            event.now.rate_sent / 1e6,
            event.now.rate_received / 1e6
        );
    }
    if let Some(left) = event.remaining {
        line += &format!(", {left:.0} s left");
    }
    if event.saturated {
        line += ", saturated";
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_going_run_is_one_line() {
        let mut event = Event { run: "r1-0".into(), state: "steady".into(), ..Event::default() };
        assert_eq!(of_event(&event), "run r1-0 steady");
        event.name = Some("nightly".into());
        event.streams.insert("open".into(), 20_000);
        event.now.rate_sent = 819_200_000.0;
        (event.remaining, event.saturated) = (Some(41.6), true);
        assert_eq!(
            of_event(&event),
            "run r1-0 (nightly) steady: 20,000 streams open, 819.2 MB/s sent, 0.0 MB/s received, 42 s left, saturated"
        );
    }
}
