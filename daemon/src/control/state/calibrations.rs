//! What the state knows of what this host was found to offer.

use std::sync::Arc;

use scale_api::calibration::{Calibration, Calibrations};
use scale_api::http::{Problem, ProblemCode};

use super::State;
use crate::run::supervisor::wall_seconds;

impl State {
    /// What is kept, and this host as it is now.
    pub fn calibrations(&self) -> Calibrations {
        self.calibrations.answer()
    }

    /// Takes a result, and keeps it.
    ///
    /// # Errors
    /// It could judge no plan, or the disk's: then it is known as long as this daemon goes.
    pub fn calibrated(&mut self, found: Calibration) -> Result<Calibration, Problem> {
        let kept = Arc::make_mut(&mut self.calibrations);
        let found =
            kept.take(found, wall_seconds()).map_err(|why| Problem::new(ProblemCode::Invalid, why))?;
        tracing::info!(protocol = found.protocol, streams = found.streams, run = %found.run, "calibrated");
        kept.write(&self.settings.state).map_err(|error| {
            let folder = self.settings.state.display();
            let why =
                format!("the calibration is not kept in {folder}: {error}; it holds until the daemon ends");
            tracing::error!("{why}");
            Problem::new(ProblemCode::Internal, why)
        })?;
        Ok(found)
    }
}
