//! Requests' bodies: read whole, within limits that hold for each and for all of them together.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes};
use scale_api::http::{Problem, ProblemCode};
use serde::de::DeserializeOwned;

use super::REQUEST_TIME_MAX;

/// The longest request body: a run with its files in hex.
pub(super) const BODY_BYTES_MAX: usize = 64 << 20;
/// What all bodies that are longer than [`SMALL_BYTES`] may take together.
const ALL_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;
/// Bodies of this length always find room: at most one a connection.
const SMALL_BYTES: usize = 64 << 10;

/// What large bodies take, of all connections of a listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Room(Rc<Cell<usize>>);

impl Room {
    /// Bytes that bodies take just now.
    pub fn taken(&self) -> usize {
        self.0.get()
    }
}

/// A body, and the room that it takes.
#[derive(Debug)]
pub(super) struct Whole {
    bytes: Vec<u8>,
    held: usize,
    room: Room,
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.room.0.set(self.room.0.get() - self.held);
    }
}

impl Whole {
    /// What the body says; one that is empty says nothing, as `{}` does.
    ///
    /// # Errors
    /// It is no such request.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, Problem> {
        let bytes = if self.bytes.is_empty() { b"{}" } else { &self.bytes[..] };
        serde_json::from_slice(bytes).map_err(|error| {
            Problem::new(ProblemCode::Invalid, format!("the request's body is not as it should be: {error}"))
        })
    }

    fn take(&mut self, piece: &Bytes) -> Result<(), Problem> {
        let length = self.bytes.len() + piece.len();
        if length > BODY_BYTES_MAX {
            return Err(too_large());
        }
        if length > SMALL_BYTES {
            let more = length - self.held;
            if self.room.0.get() + more > ALL_BYTES_MAX {
                return Err(Problem::new(
                    ProblemCode::Busy,
                    "other requests' bodies take all the room that there is for them (128 MiB); try again",
                ));
            }
            self.room.0.set(self.room.0.get() + more);
            self.held = length;
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

fn too_large() -> Problem {
    Problem::new(ProblemCode::TooLarge, "the request's body is too large (64 MiB)")
}

/// The whole body. It is read whatever the path says: an answer before the caller has finished sending would be lost
/// with the connection. Of one that says itself that it is too large nothing is read.
///
/// # Errors
/// It is too large, takes too long, breaks off, or finds no room.
pub(super) async fn body_of<B>(body: B, room: &Room) -> Result<Whole, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    body_within(body, room, REQUEST_TIME_MAX).await
}

async fn body_within<B>(body: B, room: &Room, time: Duration) -> Result<Whole, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut whole = Whole { bytes: Vec::new(), held: 0, room: room.clone() };
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(time, collect(body, &mut whole)).await {
        Ok(done) => done.map(|()| whole),
        Err(_) => {
            let why = format!("the request's body took more than {} s to come", time.as_secs_f64());
            Err(Problem::new(ProblemCode::TooLarge, why))
        }
    }
}

async fn collect<B: Body<Data = Bytes> + Unpin>(mut body: B, whole: &mut Whole) -> Result<(), Problem> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(ProblemCode::TooLarge, "the request's body broke off"))?;
        if let Some(piece) = frame.data_ref() {
            whole.take(piece)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    fn wait<F: Future>(what: F) -> F::Output {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("a runtime").block_on(what)
    }

    fn code(result: Result<Whole, Problem>) -> Option<ProblemCode> {
        result.err().map(|problem| problem.code)
    }

    /// A body of pieces that does not say how long it is.
    fn pieces(count: usize, bytes: usize) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let piece = Bytes::from(vec![b' '; bytes]);
        StreamBody::new(stream::iter((0..count).map(move |_| Ok(Frame::data(piece.clone())))))
    }

    #[test]
    fn what_is_too_large_is_refused_by_its_own_word_or_once_it_is() {
        let room = Room::default();
        let said = Full::new(Bytes::from(vec![b' '; BODY_BYTES_MAX + 1]));
        assert_eq!(code(wait(body_of(said, &room))), Some(ProblemCode::TooLarge));
        assert_eq!(code(wait(body_of(pieces(65, 1 << 20), &room))), Some(ProblemCode::TooLarge));
        assert_eq!(code(wait(body_of(pieces(64, 1 << 20), &room))), None);
        assert_eq!(room.taken(), 0, "what is gone takes no room");
    }

    #[test]
    fn all_bodies_together_have_their_limit_and_small_ones_always_find_room() {
        let room = Room::default();
        let large: Vec<_> =
            (0..2).map(|_| wait(body_of(pieces(64, 1 << 20), &room)).expect("there is room")).collect();
        assert_eq!(room.taken(), ALL_BYTES_MAX);
        assert_eq!(code(wait(body_of(pieces(2, SMALL_BYTES), &room))), Some(ProblemCode::Busy));
        assert_eq!(code(wait(body_of(pieces(1, SMALL_BYTES), &room))), None);
        drop(large);
        assert_eq!(code(wait(body_of(pieces(2, SMALL_BYTES), &room))), None);
        assert_eq!(room.taken(), 0);
    }

    #[test]
    fn a_body_that_trickles_has_its_time() {
        let trickle = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(b" "))), ()))
        });
        let body = StreamBody::new(Box::pin(trickle));
        let room = Room::default();
        let why = wait(body_within(body, &room, Duration::from_millis(500))).expect_err("it never ends");
        assert!(why.detail.contains("0.5 s"), "{}", why.detail);
    }
}
