//! An SSH server by russh: an independent counterpart for our client, and what the peers are tried on.
//!
//! A session's command, or its shell, gives back what it is sent until it is sent EOF, and then ends with
//! 0. Of a command only this is understood: `of=/dev/null` (nothing is given back) and `exit N` (it ends
//! with N at once). A forwarded TCP channel gives back, too. Whoever asks for a method that is offered is let in.
//!
//! Holds always: what a client does not take is kept for it up to [`HELD_BYTES_MAX`], then it is dropped.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve, PrivateKey, load_secret_key};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, Limits, MethodKind, MethodSet, Preferred, Pty, Sig, cipher, kex, mac};
use scale_ring::host;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

/// The most that is kept of what a channel's client does not take, in bytes.
pub const HELD_BYTES_MAX: usize = 64 << 20;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;
/// russh's own limit of [`Settings::rekey_bytes`]: more would wear out a cipher.
pub const REKEY_BYTES_MAX: u64 = 1 << 30;

/// What is offered. Names as on the wire; none: russh's own choice.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0: the kernel chooses.
    pub listen: SocketAddr,
    /// Of authentication: `none`, `password`, `publickey`, `keyboard-interactive`.
    pub methods: Vec<String>,
    /// Ciphers.
    pub ciphers: Vec<String>,
    /// Key exchanges; those that russh marks strictness and extensions with are added.
    pub kex: Vec<String>,
    /// MACs.
    pub macs: Vec<String>,
    /// What the server is known by, one of each kind.
    pub host_keys: Vec<HostKey>,
    /// Bytes in either direction after which new keys are asked for; at most [`REKEY_BYTES_MAX`].
    pub rekey_bytes: u64,
    /// Age at which new keys are asked for.
    pub rekey_after: Duration,
    /// The window of each channel, in bytes.
    pub window_bytes: u32,
    /// The largest packet of data that is taken, in bytes.
    pub packet_bytes: u32,
    /// The core to run on.
    pub core: Option<usize>,
    /// SCHED_FIFO.
    pub realtime: bool,
}

/// Where a host key comes from.
#[derive(Debug, Clone)]
pub enum HostKey {
    /// A private key's file, without a passphrase.
    File(PathBuf),
    /// Made anew: `ssh-ed25519` or `ecdsa-sha2-nistp256`.
    New(&'static str),
}

impl HostKey {
    fn load(&self) -> Result<PrivateKey, String> {
        let new =
            |algorithm| PrivateKey::random(&mut rand::rng(), algorithm).map_err(|error| error.to_string());
        match self {
            Self::File(path) => {
                load_secret_key(path, None).map_err(|error| format!("host key {}: {error}", path.display()))
            }
            Self::New("ssh-ed25519") => new(Algorithm::Ed25519),
            Self::New("ecdsa-sha2-nistp256") => new(Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }),
            Self::New(name) => Err(format!("no host key of the kind {name} is made here")),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        Self {
            listen: ([127, 0, 0, 1], 0).into(),
            methods: words(&["none", "password", "publickey"]),
            ciphers: words(&[
                "aes128-gcm@openssh.com",
                "aes256-gcm@openssh.com",
                "chacha20-poly1305@openssh.com",
                "aes128-ctr",
                "aes256-ctr",
            ]),
            kex: words(&["curve25519-sha256", "ecdh-sha2-nistp256", "mlkem768x25519-sha256"]),
            macs: Vec::new(),
            host_keys: vec![HostKey::New("ssh-ed25519")],
            rekey_bytes: REKEY_BYTES_MAX,
            rekey_after: Duration::from_secs(3600),
            window_bytes: 2 << 20,
            packet_bytes: 32 << 10,
            core: None,
            realtime: false,
        }
    }
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Counts {
    connections: AtomicU64,
    sessions: AtomicU64,
    channels: AtomicU64,
    received: AtomicU64,
    /// Connections that ended because a client broke the protocol, as russh sees it.
    faults: AtomicU64,
}

impl Counts {
    /// As a JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "connections": self.connections.load(Relaxed),
            "authenticated": self.sessions.load(Relaxed),
            "channels": self.channels.load(Relaxed),
            "payload_received_bytes": self.received.load(Relaxed),
            "faults": self.faults.load(Relaxed),
        })
    }
}

/// A server that runs on a thread of its own until this is dropped.
#[derive(Debug)]
pub struct Served {
    address: SocketAddr,
    host_keys: Vec<String>,
    counts: Arc<Counts>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    /// Listens.
    ///
    /// # Errors
    /// A name that russh does not know, an address that cannot be had, what the host does not allow.
    pub fn start(settings: &Settings) -> Result<Self, String> {
        let config = Arc::new(config(settings)?);
        let host_keys = config.keys.iter().map(|key| key.public_key().to_openssh());
        let host_keys = host_keys.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let (counts, (stop, stopped), (ready, answer)) =
            (Arc::<Counts>::default(), oneshot::channel(), std::sync::mpsc::channel());
        let (settings, counted) = (settings.clone(), counts.clone());
        let thread = std::thread::Builder::new().name("russh".to_owned());
        let thread = thread.spawn(move || {
            if let Err(error) = run(&settings, config, counted, stopped, &ready) {
                drop(ready.send(Err(error)));
            }
        });
        let thread = thread.map_err(|error| error.to_string())?;
        let address = answer.recv().map_err(|_| "the server's thread has panicked")??;
        Ok(Self { address, host_keys, counts, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its public host keys, as a line of `known_hosts` has them behind the name.
    pub fn host_keys(&self) -> &[String] {
        &self.host_keys
    }

    /// What was counted so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// russh's words for the settings.
fn config(settings: &Settings) -> Result<Config, String> {
    let keys = settings.host_keys.iter().map(HostKey::load).collect::<Result<_, _>>()?;
    let method = |name: &String| name.parse::<MethodKind>().map_err(|()| unknown("method", name));
    let methods = settings.methods.iter().map(method).collect::<Result<Vec<_>, _>>()?;
    let rekey_bytes = usize::try_from(settings.rekey_bytes.min(REKEY_BYTES_MAX)).unwrap_or(usize::MAX);
    Ok(Config {
        keys,
        preferred: preferred(&settings.ciphers, &settings.kex, &settings.macs)?,
        methods: MethodSet::from(methods.as_slice()),
        limits: Limits::new(rekey_bytes, rekey_bytes, settings.rekey_after),
        window_size: settings.window_bytes,
        maximum_packet_size: settings.packet_bytes,
        // Nobody guesses passwords here.
        auth_rejection_time: Duration::ZERO,
        inactivity_timeout: None,
        nodelay: true,
        ..Config::default()
    })
}

/// russh's preferences of these names, its own where there are none.
///
/// # Errors
/// A name that russh does not know.
pub fn preferred(ciphers: &[String], kex: &[String], macs: &[String]) -> Result<Preferred, String> {
    fn parse<'a, T: TryFrom<&'a str>>(what: &str, names: &'a [String]) -> Result<Vec<T>, String> {
        names.iter().map(|name| T::try_from(name).map_err(|_| unknown(what, name))).collect()
    }
    let mut preferred = Preferred::default();
    if !ciphers.is_empty() {
        preferred.cipher = Cow::Owned(parse::<cipher::Name>("cipher", ciphers)?);
    }
    if !kex.is_empty() {
        let marks = [
            kex::EXTENSION_SUPPORT_AS_CLIENT,
            kex::EXTENSION_SUPPORT_AS_SERVER,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ];
        let named = parse::<kex::Name>("key exchange", kex)?;
        preferred.kex = Cow::Owned(named.into_iter().chain(marks).collect());
    }
    if !macs.is_empty() {
        preferred.mac = Cow::Owned(parse::<mac::Name>("MAC", macs)?);
    }
    Ok(preferred)
}

fn unknown(what: &str, name: &str) -> String {
    format!("russh knows no {what} called {name}")
}

/// Serves on this thread until `stopped`.
fn run(
    settings: &Settings,
    config: Arc<Config>,
    counts: Arc<Counts>,
    mut stopped: oneshot::Receiver<()>,
    ready: &std::sync::mpsc::Sender<Result<SocketAddr, String>>,
) -> Result<(), String> {
    let why = |error: std::io::Error| error.to_string();
    if let Some(core) = settings.core {
        host::pin_current_thread(core);
    }
    if settings.realtime {
        host::set_realtime_fifo(10).map_err(|error| format!("--realtime: {error}"))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(why)?;
    runtime.block_on(async {
        let at = settings.listen;
        let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(why)?;
        socket.set_reuseaddr(true).map_err(why)?;
        let cannot = |error| format!("cannot listen on {at}: {error}; choose another --listen");
        socket.bind(at).map_err(cannot)?;
        let listener = socket.listen(BACKLOG).map_err(cannot)?;
        drop(ready.send(Ok(listener.local_addr().map_err(why)?)));
        loop {
            tokio::select! {
                _ = &mut stopped => return Ok(()),
                // An accept fails for what the peer or the host did; the next one may not.
                accepted = listener.accept() => match accepted {
                    Ok((socket, _)) => drop(tokio::spawn(serve(config.clone(), socket, counts.clone()))),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        }
    })
}

async fn serve(config: Arc<Config>, socket: TcpStream, counts: Arc<Counts>) {
    counts.connections.fetch_add(1, Relaxed);
    let handler =
        Client { counts: counts.clone(), methods: config.methods.clone(), channels: HashMap::new() };
    let served = async {
        socket.set_nodelay(true)?;
        russh::server::run_stream(config, socket, handler).await?.await
    };
    match served.await {
        // A client that goes without a word breaks no rule.
        Ok(()) | Err(russh::Error::IO(_) | russh::Error::HUP) => {}
        Err(_) => drop(counts.faults.fetch_add(1, Relaxed)),
    }
}

/// One connection.
struct Client {
    counts: Arc<Counts>,
    methods: MethodSet,
    channels: HashMap<ChannelId, Running>,
}

/// What a channel does.
#[derive(Debug, Clone, Copy, Default)]
struct Running {
    discards: bool,
    /// Bytes that were handed to russh since the client last had taken everything.
    held: usize,
}

impl Client {
    fn opened(&mut self, channel: ChannelId) {
        self.counts.channels.fetch_add(1, Relaxed);
        self.channels.insert(channel, Running::default());
    }

    /// The program of `channel` has ended.
    fn ended(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.channels.remove(&channel);
        session.eof(channel)?;
        session.close(channel)
    }

    /// The program of `channel` ends.
    fn exit(&mut self, channel: ChannelId, status: u32, session: &mut Session) -> Result<(), russh::Error> {
        session.exit_status_request(channel, status)?;
        self.ended(channel, session)
    }

    /// Whoever asks for a method that is offered is let in.
    fn accept(&self, method: MethodKind) -> Result<Auth, russh::Error> {
        if !self.methods.contains(&method) {
            return Ok(Auth::reject());
        }
        self.counts.sessions.fetch_add(1, Relaxed);
        Ok(Auth::Accept)
    }
}

/// The N of `exit N`.
fn exit_status(command: &str) -> Option<u32> {
    command.trim().strip_prefix("exit ")?.parse().ok()
}

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, Self::Error> {
        self.accept(MethodKind::None)
    }

    async fn auth_password(&mut self, _user: &str, _password: &str) -> Result<Auth, Self::Error> {
        self.accept(MethodKind::Password)
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        self.accept(MethodKind::PublicKey)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<russh::server::Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        match response {
            Some(_) => self.accept(MethodKind::KeyboardInteractive),
            None => Ok(Auth::Partial {
                name: "".into(),
                instructions: "".into(),
                prompts: vec![("Password: ".into(), false)].into(),
            }),
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.opened(channel.id());
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _host: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.opened(channel.id());
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let command = String::from_utf8_lossy(command);
        if let Some(running) = self.channels.get_mut(&channel) {
            running.discards = command.contains("of=/dev/null");
        }
        session.channel_success(channel)?;
        match exit_status(&command) {
            Some(status) => self.exit(channel, status, session),
            None => Ok(()),
        }
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.counts.received.fetch_add(data.len() as u64, Relaxed);
        let Some(running) = self.channels.get_mut(&channel) else { return Ok(()) };
        if running.discards {
            return Ok(());
        }
        session.data(channel, data.to_vec())?;
        running.held = if session.has_pending_data(channel) { running.held + data.len() } else { 0 };
        if running.held > HELD_BYTES_MAX { Err(russh::Error::Pending) } else { Ok(()) }
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.exit_signal_request(channel, signal, false, "", "")?;
        self.ended(channel, session)
    }

    async fn channel_eof(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.exit(channel, 0, session)
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.channels.remove(&channel);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_russh_does_not_know_are_refused() {
        let start = |settings: Settings| Served::start(&settings).expect_err("refused");
        let cipher = start(Settings { ciphers: vec!["rot13".into()], ..Settings::default() });
        assert_eq!(cipher, "russh knows no cipher called rot13");
        let method = start(Settings { methods: vec!["smile".into()], ..Settings::default() });
        assert_eq!(method, "russh knows no method called smile");
        let key = start(Settings { host_keys: vec![HostKey::New("ssh-dss")], ..Settings::default() });
        assert_eq!(key, "no host key of the kind ssh-dss is made here");
    }

    #[test]
    fn a_command_may_end_at_once() {
        assert_eq!(exit_status("exit 3"), Some(3));
        assert_eq!(exit_status("dd if=/dev/stdin"), None);
        assert_eq!(exit_status("exit now"), None);
    }
}
