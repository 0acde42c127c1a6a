//! When a run was paused, in seconds since its start. Times come as parameters.

use scale_api::http::{Problem, ProblemCode};

/// Pauses of a run: rates leave each of them out.
const PAUSES_MAX: usize = 1000;

/// The pauses of a run, oldest first; one that goes on has no end.
#[derive(Debug, Default)]
pub struct Pauses(Vec<(f64, f64)>);

impl Pauses {
    /// One begins, unless one goes on.
    ///
    /// # Errors
    /// There have been too many.
    pub fn begin(&mut self, at: f64) -> Result<(), Problem> {
        if self.goes_on() {
            return Ok(());
        }
        if self.0.len() == PAUSES_MAX {
            let detail =
                format!("a run is paused {PAUSES_MAX} times at most; stop it, or give it a lower rate");
            return Err(Problem::new(ProblemCode::Invalid, detail));
        }
        self.0.push((at, f64::INFINITY));
        Ok(())
    }

    /// The one that goes on, if any, is over.
    pub fn end(&mut self, at: f64) {
        if let Some((_, until)) = self.0.last_mut().filter(|(_, until)| until.is_infinite()) {
            *until = at;
        }
    }

    /// Whether one goes on.
    pub fn goes_on(&self) -> bool {
        self.0.last().is_some_and(|(_, until)| until.is_infinite())
    }

    /// From when to when each was.
    pub fn spans(&self) -> &[(f64, f64)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_lasts_from_its_first_beginning_to_its_first_end() {
        let mut pauses = Pauses::default();
        pauses.end(1.0);
        pauses.begin(2.0).expect("the first");
        pauses.begin(3.0).expect("the same");
        assert!(pauses.goes_on());
        pauses.end(4.0);
        pauses.end(5.0);
        assert_eq!((pauses.spans(), pauses.goes_on()), (&[(2.0, 4.0)][..], false));
    }

    #[test]
    fn there_are_not_more_than_are_kept() {
        let mut pauses = Pauses::default();
        for number in 0..PAUSES_MAX {
            pauses.begin(number as f64).expect("one more");
            pauses.end(number as f64 + 0.5);
        }
        assert!(pauses.begin(9999.0).is_err_and(|why| why.detail.contains("1000 times at most")));
        assert!(!pauses.goes_on() && pauses.spans().len() == PAUSES_MAX);
    }
}
