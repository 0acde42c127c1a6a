//! The front end: HTTP/1.1 on one thread, handed to the deployment request by request.
//!
//! A connection belongs to the replica whose turn it is, as behind a balancer of connections, and shares its
//! [`fate`]. What a 101 makes of it is in [`driver`].

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use scale_ring::host::monotonic_now;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use super::deployment::Deployment;
use super::message::{Request, Response};
use super::replicas::Fate;
use super::seen::Seen;
use super::terminal::Sessions;

mod driver;
mod fate;

/// The longest body of a request.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The longest time for a request's head to come, and for an idle connection to stay.
const HEAD_TIME_MAX: Duration = Duration::from_secs(300);
/// How often it is looked whether to stop.
const STOP_LOOK: Duration = Duration::from_millis(20);
/// What is under way is still taken for so long.
const DRAIN: Duration = Duration::from_millis(300);

/// Everything that the tasks of the thread share.
struct Stand {
    deployment: RefCell<Deployment>,
    sessions: Rc<RefCell<Sessions>>,
    /// A client has been sent something: processes may show more.
    room: Rc<Notify>,
    /// What is read from a socket lies here while it is looked at.
    scratch: RefCell<Vec<u8>>,
}

/// Serves `deployment` on this thread until `stop`; what it has seen by then.
///
/// # Errors
/// The listener does not work with this thread's runtime.
pub fn serve(
    listener: std::net::TcpListener,
    deployment: Deployment,
    stop: &AtomicBool,
) -> std::io::Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stand = Rc::new(Stand {
        deployment: RefCell::new(deployment),
        sessions: Rc::default(),
        room: Rc::default(),
        scratch: RefCell::new(vec![0; 64 << 10]),
    });
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let accepting = tokio::task::spawn_local(accept(stand.clone(), listener));
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(STOP_LOOK).await;
            stand.sessions.borrow_mut().poll(monotonic_now());
            stand.deployment.borrow_mut().poll_replicas(monotonic_now());
        }
        accepting.abort();
        tokio::time::sleep(DRAIN).await;
        std::io::Result::Ok(())
    })?;
    drop(tasks);
    let mut deployment = stand.deployment.borrow_mut();
    deployment.poll(monotonic_now());
    let mut seen = deployment.seen();
    seen.sockets.sessions = stand.sessions.borrow().started();
    Ok(seen)
}

async fn accept(stand: Rc<Stand>, listener: TcpListener) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await; // out of descriptors: some will be freed
            continue;
        };
        let Some((replica, fate)) = stand.deployment.borrow_mut().connected() else {
            let _ = stream.set_zero_linger(); // nobody is there: RST is as near to a refusal as a listener comes
            continue;
        };
        let _ = stream.set_nodelay(true); // a socket without it is slower, not wrong
        let stand = stand.clone();
        tokio::task::spawn_local(async move {
            let reset = Arc::new(AtomicBool::new(false));
            let io = Io { stream: TokioIo::new(stream), reset: reset.clone() };
            let from = From { replica, peer, reset: reset.clone(), fate: fate.clone() };
            let service = service_fn(|request| answer(stand.clone(), request, from.clone()));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME_MAX)
                .serve_connection(io, service)
                .with_upgrades();
            fate::share(fate, connection, &reset).await;
        });
    }
}

/// Who asks whom.
#[derive(Clone)]
struct From {
    replica: u16,
    peer: SocketAddr,
    /// The end of the connection is to be a RST.
    reset: Arc<AtomicBool>,
    fate: watch::Receiver<Fate>,
}

/// A fault: the connection breaks instead of an answer.
#[derive(Debug, thiserror::Error)]
#[error("reset on purpose")]
struct Reset;

async fn answer(
    stand: Rc<Stand>,
    mut incoming: hyper::Request<Incoming>,
    from: From,
) -> Result<hyper::Response<Full<Bytes>>, Reset> {
    let upgrading = hyper::upgrade::on(&mut incoming);
    let (head, body) = incoming.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return Ok(render(Response::text(413, "a body has at most 1 MiB here\n")));
    };
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let request = Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or("").to_owned(),
        headers: head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        body: body.to_bytes().to_vec(),
        peer: from.peer.ip(),
    };
    let mut response = stand.deployment.borrow_mut().handle(monotonic_now(), from.replica, &request);
    if response.delay_ns > 0 {
        tokio::time::sleep(Duration::from_nanos(response.delay_ns)).await;
    }
    if response.reset {
        from.reset.store(true, Ordering::Relaxed);
        return Err(Reset);
    }
    if let Some(upgrade) = response.upgrade.take() {
        let whose = upgrade.whose.clone();
        let socket = stand.deployment.borrow_mut().ledger().opened(monotonic_now(), from.replica, whose);
        tokio::task::spawn_local(async move {
            let Ok(upgraded) = upgrading.await else {
                return stand.deployment.borrow_mut().ledger().closed(monotonic_now(), socket);
            };
            let Ok(parts) = upgraded.downcast::<Io>() else { unreachable!("it is what was served") };
            driver::run(&stand, &parts.io, &parts.read_buf, upgrade, socket, from.fate).await;
            stand.deployment.borrow_mut().ledger().closed(monotonic_now(), socket);
        });
    }
    Ok(render(response))
}

fn render(response: Response) -> hyper::Response<Full<Bytes>> {
    let mut builder = hyper::Response::builder().status(response.status);
    for (name, value) in &response.headers {
        builder = builder.header(name, value);
    }
    builder.body(Full::new(response.body.into())).expect("the deployment writes right headers")
}

/// A connection; with `reset` set its end is a RST.
struct Io {
    stream: TokioIo<TcpStream>,
    reset: Arc<AtomicBool>,
}

impl Io {
    fn stream(&self) -> &TcpStream {
        self.stream.inner()
    }

    fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            let _ = self.stream().set_zero_linger(); // gone already: that is what was wanted
        }
    }
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
