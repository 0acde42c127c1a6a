//! What open pages are told, as server-sent events: `report`, the report so far; `second`, each second's event.
//!
//! A page that opens gets a report at once; then each second, another report when a run begins, every 10 s, and at the end.
//! A frame is made once, whoever reads it, and in order, by a task of its own: the report of a long run takes longer than
//! the control thread may stand still, so it is written on another. Readers take frames from a ring: who is slow loses
//! some, and the next report has what they said.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use futures_util::stream::unfold;
use hyper::body::{Bytes, Frame};
use scale_api::http::{Problem, ProblemCode};
use scale_api::report::Report;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::source::{self, Source};
use crate::page;

/// What readers get: server-sent events (WHATWG HTML, 9.2).
pub const CONTENT_TYPE: &str = "text/event-stream";
/// Open pages at once.
pub const READERS_MAX: usize = 16;
/// Frames that a slow reader may lag behind before it loses some.
const FRAMES_KEPT: usize = 32;
/// What waits to become a frame.
const TOLD_MAX: usize = 64;
/// Seconds between two reports at least.
const REPORT_EVERY_S: usize = 10;
/// What reports may cost each reader on an average: those of long runs come less often.
const REPORT_BYTES_PER_SECOND_MAX: usize = 256 << 10;
/// The longest silence: what lies between takes one for the end.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One more thing to say.
enum Told {
    Second(Arc<str>),
    Report { going: bool, report: Box<Report> },
}

/// The pages that are open.
pub struct Live {
    told: mpsc::Sender<Told>,
    frames: broadcast::Sender<Bytes>,
    /// Seconds since the last report.
    since_report: usize,
    /// Its bytes.
    report_bytes: Rc<Cell<usize>>,
}

impl Live {
    /// Nobody reads yet. To be called on the control thread, where frames are made.
    pub fn start() -> Self {
        let (told, waiting) = mpsc::channel(TOLD_MAX);
        let (frames, _) = broadcast::channel(FRAMES_KEPT);
        let report_bytes = Rc::new(Cell::new(0));
        tokio::task::spawn_local(make_frames(waiting, frames.clone(), report_bytes.clone()));
        Self { told, frames, since_report: 0, report_bytes }
    }

    /// One more reader: it gets what is told from now on.
    ///
    /// # Errors
    /// There are too many.
    pub fn read(&mut self) -> Result<broadcast::Receiver<Bytes>, Problem> {
        match self.frames.receiver_count() {
            0 => self.since_report = 0,
            READERS_MAX.. => {
                return Err(Problem::new(
                    ProblemCode::TooManyReaders,
                    format!("{READERS_MAX} pages are open already; close one, or use scalectl watch"),
                ));
            }
            _ => {}
        }
        Ok(self.frames.subscribe())
    }

    /// A run begins: its first second comes with a report.
    pub const fn begin(&mut self) {
        self.since_report = usize::MAX;
    }

    /// Whether the next second is to come with a report.
    pub fn is_report_due(&self) -> bool {
        let rest = self.report_bytes.get() / REPORT_BYTES_PER_SECOND_MAX;
        self.frames.receiver_count() > 0 && self.since_report >= REPORT_EVERY_S.max(rest)
    }

    /// A second of what is going, with its report where that is due.
    pub fn second(&mut self, line: Arc<str>, report: Option<Report>) {
        self.since_report = self.since_report.saturating_add(1);
        if self.frames.receiver_count() == 0 {
            return;
        }
        if let Some(report) = report {
            self.since_report = 1;
            self.tell(Told::Report { going: true, report: Box::new(report) });
        }
        self.tell(Told::Second(line));
    }

    /// A run is over.
    pub fn end(&self, report: Report) {
        if self.frames.receiver_count() > 0 {
            self.tell(Told::Report { going: false, report: Box::new(report) });
        }
    }

    fn tell(&self, told: Told) {
        // Full: frames are not made as fast as seconds pass, so pages are slow readers all.
        let _ = self.told.try_send(told);
    }
}

async fn make_frames(
    mut told: mpsc::Receiver<Told>,
    frames: broadcast::Sender<Bytes>,
    report_bytes: Rc<Cell<usize>>,
) {
    while let Some(told) = told.recv().await {
        let frame = match told {
            Told::Second(line) => frame("second", &line),
            Told::Report { going, report } => {
                match source::off_thread(move || report_frame(going, Some(&report))).await {
                    Ok(frame) => {
                        report_bytes.set(frame.len());
                        frame
                    }
                    Err(why) => {
                        tracing::error!("{}", why.detail);
                        continue;
                    }
                }
            }
        };
        // Nobody reads any more: the next one gets a report first.
        let _ = frames.send(frame);
    }
}

/// What a page gets first: the report so far, the last run's, or that there is none.
///
/// # Errors
/// A bug of ours.
pub async fn first(source: Source) -> Result<Bytes, Problem> {
    source::off_thread(move || {
        let (going, report) = (source.is_going(), source.report());
        if let Err(why) = report.as_ref()
            && why.code != ProblemCode::NotFound
        {
            tracing::warn!("the last report cannot be shown: {}", why.detail);
        }
        report_frame(going, report.ok().as_ref())
    })
    .await
}

/// `first`, then what is told, or a comment where that is long in coming.
pub fn follow(
    first: Bytes,
    frames: broadcast::Receiver<Bytes>,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
    unfold((Some(first), frames), |(first, mut frames)| async move {
        if let Some(first) = first {
            return Some((Ok(Frame::data(first)), (None, frames)));
        }
        loop {
            let frame = match tokio::time::timeout(KEEP_ALIVE, frames.recv()).await {
                Err(_) => Bytes::from_static(b": nothing new\n\n"),
                Ok(Ok(frame)) => frame,
                Ok(Err(RecvError::Lagged(_))) => continue,
                Ok(Err(RecvError::Closed)) => return None,
            };
            return Some((Ok(Frame::data(frame)), (None, frames)));
        }
    })
}

fn report_frame(going: bool, report: Option<&Report>) -> Bytes {
    let report = report.map_or_else(|| "null".to_owned(), page::data);
    frame("report", &format!("{{\"going\":{going},\"report\":{report}}}"))
}

/// An event with its data, which ends where a line is empty.
fn frame(event: &str, data: &str) -> Bytes {
    let mut frame = String::with_capacity(event.len() + data.len() + 32);
    frame.extend(["event: ", event, "\n"]);
    for line in data.lines() {
        frame.extend(["data: ", line, "\n"]);
    }
    frame.push('\n');
    frame.into()
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[test]
    fn a_frame_ends_where_its_data_does() {
        assert_eq!(&frame("second", "{}")[..], b"event: second\ndata: {}\n\n");
        assert_eq!(&frame("report", "{\n\n}")[..], b"event: report\ndata: {\ndata: \ndata: }\n\n");
        assert_eq!(
            &report_frame(false, None)[..],
            b"event: report\ndata: {\"going\":false,\"report\":null}\n\n"
        );
    }

    /// What is there to be read without waiting.
    async fn read_all(reader: impl Stream<Item = Result<Frame<Bytes>, Infallible>>) -> Vec<String> {
        let mut reader = std::pin::pin!(reader);
        let mut frames = Vec::new();
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(Duration::from_millis(200), reader.next()).await
        {
            let bytes = frame.into_data().expect("data");
            frames.push(String::from_utf8(bytes.to_vec()).expect("text"));
        }
        frames
    }

    fn report(id: &str) -> Report {
        let mut report = Report::default();
        report.run.id = id.into();
        report
    }

    #[test]
    fn a_slow_reader_loses_seconds_but_not_the_end_and_places_are_bounded() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let mut live = Live::start();
            live.second("0".into(), Some(report("nobody reads")));
            let frames = live.read().expect("the first");
            let others: Vec<_> = (1..READERS_MAX).map(|_| live.read().expect("room")).collect();
            assert_eq!(live.read().expect_err("one too many").code, ProblemCode::TooManyReaders);
            drop(others);
            drop(live.read().expect("room again"));
            live.begin();
            for second in 0..100 {
                let due = live.is_report_due();
                assert_eq!(due, second % REPORT_EVERY_S == 0, "{second}");
                live.second(second.to_string().into(), due.then(|| report(&second.to_string())));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            live.end(report("the end"));
            let read = read_all(follow(": first\n\n".into(), frames)).await;
            // The end may have become a frame while they were read.
            assert!(read[0] == ": first\n\n" && read.len() <= FRAMES_KEPT + 2, "{}", read.len());
            let last = read.len() - 1;
            assert!(
                read[last].starts_with("event: report\ndata: {\"going\":false,")
                    && read[last].contains("the end")
            );
            assert_eq!(read[last - 1], "event: second\ndata: 99\n\n");
        });
    }

    #[test]
    fn reports_that_are_large_come_less_often() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let mut live = Live::start();
            let _frames = live.read().expect("the first");
            live.begin();
            live.report_bytes.set(20 * REPORT_BYTES_PER_SECOND_MAX);
            let due: Vec<usize> = (0..41)
                .filter(|_| {
                    let due = live.is_report_due();
                    live.second("{}".into(), due.then(Report::default));
                    due
                })
                .collect();
            assert_eq!(due, [0, 20, 40]);
        });
    }
}
