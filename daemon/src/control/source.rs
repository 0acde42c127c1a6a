//! A report on its way out: of the run that is going, or a kept one. What it becomes, JSON or a page, is made on another
//! thread: 3,600 seconds take longer than the control thread may stand still.

use scale_api::http::{Problem, ProblemCode};
use scale_api::report::{Report, SCHEMA};
use scale_api::spec::Spec;
use serde::Deserialize;

use crate::page;
use crate::run::store::Store;

/// Where a report comes from.
pub enum Source {
    /// A run that is going, so far.
    Going(Box<Report>),
    /// A run that has ended and that the state folder has not taken.
    Held(Box<Report>),
    /// A run that is kept; without an id the last one.
    Kept(Store, Option<String>),
}

impl Source {
    /// Whether its run is going.
    pub const fn is_going(&self) -> bool {
        matches!(self, Self::Going(_))
    }

    /// The report, read where it is kept. It may take its time: see [`off_thread`].
    ///
    /// # Errors
    /// No such run.
    pub fn report(self) -> Result<Report, Problem> {
        match self {
            Self::Going(report) | Self::Held(report) => Ok(*report),
            Self::Kept(store, id) => read(&kept(&store, id.as_deref())?),
        }
    }

    fn bytes(self) -> Result<Vec<u8>, Problem> {
        match self {
            Self::Going(report) | Self::Held(report) => serde_json::to_vec(&report).map_err(broken),
            Self::Kept(store, id) => kept(&store, id.as_deref()),
        }
    }

    /// As JSON.
    ///
    /// # Errors
    /// No such run.
    pub async fn json(self) -> Result<Vec<u8>, Problem> {
        off_thread(|| self.bytes()).await?
    }

    /// As the last line of its events.
    ///
    /// # Errors
    /// No such run.
    pub async fn line(self) -> Result<String, Problem> {
        off_thread(|| line(&self.report()?)).await?
    }

    /// As one HTML file: the one that the run has kept, if it has.
    ///
    /// # Errors
    /// No such run.
    pub async fn page(self) -> Result<Vec<u8>, Problem> {
        off_thread(|| {
            let kept = match &self {
                Self::Going(_) | Self::Held(_) => None,
                Self::Kept(store, id) => store.page(id.as_deref()),
            };
            kept.map_or_else(|| Ok(page::report(&self.report()?).into_bytes()), Ok)
        })
        .await?
    }
}

/// The last line of a run's events.
///
/// # Errors
/// A bug of ours.
pub fn line(report: &Report) -> Result<String, Problem> {
    let json = serde_json::to_string(report).map_err(broken)?;
    Ok(["{\"report\":", &json, "}"].concat())
}

/// Does `work` on a thread that may stand still.
///
/// # Errors
/// It panicked: a bug of ours.
pub async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))
}

fn kept(store: &Store, id: Option<&str>) -> Result<Vec<u8>, Problem> {
    store.report(id).ok_or_else(|| {
        let detail = match id {
            None => "no run is kept here yet; `scalectl start` makes one".to_owned(),
            Some(id) => format!("no run `{id}` is kept here; see `scalectl runs`"),
        };
        Problem::new(ProblemCode::NotFound, detail)
    })
}

/// A report as it was kept. What a newer version has written is not read for what it is not.
fn read(json: &[u8]) -> Result<Report, Problem> {
    #[derive(Deserialize)]
    struct Frame {
        schema: u32,
        #[serde(default)]
        spec: serde_json::Value,
    }
    let frame: Frame = serde_json::from_slice(json).map_err(broken)?;
    if frame.schema > SCHEMA {
        return Err(Problem::new(
            ProblemCode::Invalid,
            format!(
                "a newer scaled has made this report (schema {}; this one reads {SCHEMA} and older): use that version, or read report.json in its folder",
                frame.schema
            ),
        ));
    }
    let mut report: Report = serde_json::from_slice(json).map_err(broken)?;
    if serde_json::from_value::<Spec>(frame.spec).is_err() {
        report.warnings.push(
            "the run file of this run has words of a newer version: it is left out here, and stands in report.json".into(),
        );
    }
    Ok(report)
}

fn broken(error: serde_json::Error) -> Problem {
    Problem::new(ProblemCode::Internal, error.to_string())
}
