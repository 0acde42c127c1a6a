//! What somebody waits for: thresholds that are asked "now", which judge nothing and end nothing.
//!
//! Each is watched from when it is first asked for until nobody asks any more. It has the value of the last second,
//! or of the last window where it has `over`; of disruptions, the newest one's.

use scale_api::report::ThresholdResult;
use scale_api::threshold::Threshold;

use super::{Judge, Watch};

/// Thresholds that are waited for at once; the one that was asked for longest ago makes room.
pub const WAITS_MAX: usize = 16;
/// Seconds without being asked for, after which one is forgotten.
const KEPT_SECONDS: u64 = 60;

/// A threshold that is waited for.
pub(super) struct Wait {
    pub(super) watch: Watch,
    /// The last second in which it was asked for.
    asked: u64,
}

impl Judge {
    /// How a threshold stands just now; `None`: no second has passed since it was first asked for, or no whole window.
    pub fn now(&mut self, threshold: &Threshold) -> Option<ThresholdResult> {
        let at = self.at;
        if let Some(wait) = self.waits.iter_mut().find(|wait| wait.watch.threshold == *threshold) {
            wait.asked = at;
            return wait.watch.stands_now();
        }
        if self.waits.len() == WAITS_MAX {
            let oldest = (0..WAITS_MAX).min_by_key(|&index| self.waits[index].asked);
            self.waits.swap_remove(oldest.expect("there are some"));
        }
        let whole_seconds = threshold.over().map_or(1, |over| over.ns() / 1_000_000_000);
        let window = (!threshold.metric().is_of_disruptions()).then_some(whole_seconds);
        let watch = self.watch(threshold.clone(), window);
        self.waits.push(Wait { watch, asked: at });
        None
    }

    /// What is waited for from now on has nothing of what was seen before.
    pub fn wait_anew(&mut self, threshold: &Threshold) {
        self.waits.retain(|wait| wait.watch.threshold != *threshold);
    }

    /// Those that nobody asks for go, and what was kept for them.
    pub(super) fn forget_waits(&mut self) {
        let at = self.at;
        self.waits.retain(|wait| at.saturating_sub(wait.asked) <= KEPT_SECONDS);
    }
}

impl Watch {
    fn stands_now(&self) -> Option<ThresholdResult> {
        if let Some(stands) = &self.stands {
            return Some(stands.clone());
        }
        let value = self.now?;
        Some(self.result(Some(value), self.threshold.is_met(value)))
    }
}
