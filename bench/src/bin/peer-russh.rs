//! SSH streams by russh on tokio's current-thread runtime: russh's task for each session, and one that
//! sends at its grid points by tokio's timer. To keep the choice of an SSH client of our own checkable,
//! and an independent client for the sink.
//!
//! What comes back is taken in russh's handler, not through its channel's queue: one wake-up less.

#![allow(clippy::print_stdout, reason = "the figures are the output")]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use russh::client::{Config, Handle, Handler, Msg, Session};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use russh::{ChannelId, ChannelMsg, ChannelWriteHalf, Names};
use scale_bench::paced::{Figures, Schedule};
use scale_bench::peers::russh_server::preferred;
use scale_bench::peers::{Echo, HANDSHAKES_MAX, Login, Opening, PATIENCE, SshArguments};
use scale_ring::{Time, host};
use scaled::load::TickOffset;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments = SshArguments::parse();
    arguments.paced.settle()?;
    host::nofile_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: SshArguments) -> Result<()> {
    let opener = Arc::new(Opener::new(arguments)?);
    let arguments = &opener.arguments;
    // The first pays for what is made once a process.
    drop(open_all(&opener, 1).await?);
    let opening = Opening::begin();
    let streams = open_all(&opener, arguments.paced.conns).await?;
    let opened = opening.end(arguments.paced.conns);
    let received_before = opener.counts.received_bytes.load(Relaxed);

    let start = Schedule::new(&arguments.paced, host::monotonic_now()).start();
    let figures = Arc::new(Mutex::new(Figures::new(&arguments.paced, start)));
    let end = lock(&figures).end();
    let tick_ns = arguments.paced.tick_interval.ns();
    let mut writers = JoinSet::new();
    for (number, stream) in streams.into_iter().enumerate() {
        let due = start.plus_ns(TickOffset::Spread.of(number as u64, tick_ns, 0));
        let grid = Grid { due, end, tick_ns };
        writers.spawn(write(stream, opener.message.clone(), grid, figures.clone()));
    }
    let mut now = host::monotonic_now();
    while lock(&figures).go_on(now) {
        let warm = start.plus_ns(arguments.paced.warm_up.ns());
        sleep_until(if now < warm { warm } else { end }).await;
        now = host::monotonic_now();
    }
    // A stream that broke has sent less than was due.
    let mut written = Vec::new();
    while let Some(writer) = writers.try_join_next() {
        written.push(writer??);
    }
    if arguments.verify {
        let all = tokio::time::timeout(PATIENCE, finish(&opener, written, writers, received_before));
        all.await.map_err(|_| "the last echoes did not come, or a channel did not end")??;
    }
    lock(&figures).received((opener.counts.received_bytes.load(Relaxed) - received_before) as usize);
    let mut json = opened.to_json(&lock(&figures));
    json["key_exchanges"] = opener.counts.key_exchanges.load(Relaxed).into();
    println!("{json}");
    Ok(())
}

fn lock(figures: &Mutex<Figures>) -> std::sync::MutexGuard<'_, Figures> {
    figures.lock().expect("no task has panicked: panics end the process' only thread")
}

/// One session: russh's handle keeps it up.
struct Stream {
    _session: Handle<Client>,
    writer: ChannelWriteHalf<Msg>,
    ended: oneshot::Receiver<Ended>,
}

/// Of all sessions together.
#[derive(Default)]
struct Counts {
    received_bytes: AtomicU64,
    /// The first of each session, and every later one.
    key_exchanges: AtomicU64,
}

/// How a channel ended: with a status, or none.
type Ended = Option<u32>;

/// The client's end of a session.
struct Client {
    echo: Option<Echo>,
    message: Bytes,
    counts: Arc<Counts>,
    status: Option<u32>,
    ended: Option<oneshot::Sender<Ended>>,
}

impl Handler for Client {
    type Error = Box<dyn std::error::Error + Send + Sync>;

    /// Any: what is measured is this machine's own.
    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool> {
        Ok(true)
    }

    async fn kex_done(&mut self, _: Option<&[u8]>, _: &Names, _: &mut Session) -> Result<()> {
        self.counts.key_exchanges.fetch_add(1, Relaxed);
        Ok(())
    }

    async fn data(&mut self, _: ChannelId, data: &[u8], _: &mut Session) -> Result<()> {
        self.counts.received_bytes.fetch_add(data.len() as u64, Relaxed);
        let same = self.echo.as_mut().is_none_or(|echo| echo.take(data, &self.message));
        if same { Ok(()) } else { Err("what came back is not what was sent".into()) }
    }

    async fn exit_status(&mut self, _: ChannelId, status: u32, _: &mut Session) -> Result<()> {
        self.status = Some(status);
        Ok(())
    }

    async fn channel_close(&mut self, _: ChannelId, _: &mut Session) -> Result<()> {
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(self.status);
        }
        Ok(())
    }
}

/// Opens sessions.
struct Opener {
    arguments: SshArguments,
    login: Login,
    command: String,
    config: Arc<Config>,
    message: Bytes,
    counts: Arc<Counts>,
}

impl Opener {
    fn new(arguments: SshArguments) -> Result<Self> {
        let one = |name: &String| vec![name.clone()];
        let preferred = preferred(&one(&arguments.cipher), &one(&arguments.kex), &arguments.macs)?;
        Ok(Self {
            login: arguments.login()?,
            command: arguments.command(),
            config: Arc::new(Config { preferred, nodelay: true, ..Config::default() }),
            message: arguments.message().into(),
            counts: Arc::default(),
            arguments,
        })
    }

    async fn open(&self) -> Result<Stream> {
        let socket = TcpStream::connect(self.arguments.paced.target).await?;
        socket.set_nodelay(true)?;
        let (ended, when_ended) = oneshot::channel();
        let client = Client {
            echo: self.arguments.verify.then(Echo::default),
            message: self.message.clone(),
            counts: self.counts.clone(),
            status: None,
            ended: Some(ended),
        };
        let mut session = russh::client::connect_stream(self.config.clone(), socket, client).await?;
        let user = &self.arguments.user;
        let authenticated = match &self.login {
            Login::None => session.authenticate_none(user).await?,
            Login::Password(password) => session.authenticate_password(user, password).await?,
            Login::Key(path) => {
                let key = Arc::new(load_secret_key(path, None)?);
                session.authenticate_publickey(user, PrivateKeyWithHashAlg::new(key, None)).await?
            }
        };
        if !authenticated.success() {
            return Err(format!("the server refuses to let {user} in: {authenticated:?}").into());
        }
        let mut channel = session.channel_open_session().await?;
        channel.exec(true, self.command.as_str()).await?;
        loop {
            match channel.wait().await {
                Some(ChannelMsg::Success) => break,
                Some(ChannelMsg::WindowAdjusted { .. }) => {}
                other => return Err(format!("{}: the server says {other:?}", self.command).into()),
            }
        }
        let (_, writer) = channel.split();
        Ok(Stream { _session: session, writer, ended: when_ended })
    }
}

/// Opens so many sessions, a few at a time.
async fn open_all(opener: &Arc<Opener>, count: u32) -> Result<Vec<Stream>> {
    let (mut streams, mut opening, mut begun) = (Vec::with_capacity(count as usize), JoinSet::new(), 0);
    while streams.len() < count as usize {
        while begun < count && opening.len() < HANDSHAKES_MAX {
            let opener = opener.clone();
            opening.spawn(async move { opener.open().await });
            begun += 1;
        }
        let next = tokio::time::timeout(PATIENCE, opening.join_next()).await;
        let next = next.map_err(|_| {
            format!("{} of {count} sessions are open, and nothing comes any more", streams.len())
        })?;
        streams.push(next.expect("some are under way")??);
    }
    Ok(streams)
}

/// When a stream sends.
#[derive(Clone, Copy)]
struct Grid {
    due: Time,
    end: Time,
    tick_ns: u64,
}

async fn sleep_until(at: Time) {
    tokio::time::sleep(Duration::from_nanos(at.ns_since(host::monotonic_now()))).await;
}

/// Sends until the end; the stream, and the bytes that russh took.
async fn write(
    stream: Stream,
    message: Bytes,
    mut grid: Grid,
    figures: Arc<Mutex<Figures>>,
) -> Result<(Stream, u64)> {
    let mut sent_bytes = 0;
    while grid.due < grid.end {
        if host::monotonic_now() < grid.due {
            sleep_until(grid.due).await;
        }
        let stamp = host::monotonic_now();
        // What was slept through is missed, not caught up with.
        while stamp.ns_since(grid.due) >= grid.tick_ns {
            lock(&figures).tick(grid.due, None);
            grid.due = grid.due.plus_ns(grid.tick_ns);
        }
        lock(&figures).tick(grid.due, Some(stamp));
        stream.writer.data_bytes(message.clone()).await?;
        sent_bytes += message.len() as u64;
        grid.due = grid.due.plus_ns(grid.tick_ns);
    }
    Ok((stream, sent_bytes))
}

/// Waits for the last echoes and ends each channel in order.
async fn finish(
    opener: &Opener,
    mut written: Vec<(Stream, u64)>,
    mut writers: JoinSet<Result<(Stream, u64)>>,
    received_before: u64,
) -> Result<()> {
    while let Some(writer) = writers.join_next().await {
        written.push(writer??);
    }
    let sent_bytes = received_before + written.iter().map(|(_, bytes)| bytes).sum::<u64>();
    while opener.counts.received_bytes.load(Relaxed) < sent_bytes {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for (stream, _) in written {
        stream.writer.eof().await?;
        match stream.ended.await? {
            Some(0) => {}
            status => return Err(format!("the command ended with {status:?}").into()),
        }
    }
    Ok(())
}
