//! What a client is made of: the deployment's URL, which addresses and connections, how patiently.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use crate::door::Door;
use crate::random::Random;

/// The longest wait that a server's `Retry-After` is followed for; its limiter's window is a minute.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);

/// How long a create may take to come true once its sender is gone. The system goes on sending for a process that was
/// killed, up to 102 s where packets are lost (Linux gives up after 8 repetitions); then a proxy or the server's own
/// queue may hold the request for as long as clients wait for an answer, 60 s as a rule ([`Pace::request`]).
pub const SETTLE: Duration = Duration::from_secs(180);

/// How patiently things are done.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two looks at something that is under way. 1 s.
    pub poll: Duration,
    /// Looks a second of a whole flow; where more things are watched, each is looked at less often. 200.
    pub polls_per_second_max: u32,
    /// The most that the first back-off may take. 250 ms.
    pub backoff_first: Duration,
    /// The most that any may take. 10 s.
    pub backoff_max: Duration,
    /// Tries of one request that has no answer or a 5xx. 8.
    pub tries_max: u32,
    /// For one request with its answer. 60 s.
    pub request: Duration,
    /// How long a create that was sent may take to come true at the server, though its sender is gone. [`SETTLE`].
    pub settle: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(1),
            polls_per_second_max: 200,
            backoff_first: Duration::from_millis(250),
            backoff_max: Duration::from_secs(10),
            tries_max: 8,
            request: Duration::from_secs(60),
            settle: SETTLE,
        }
    }
}

impl Pace {
    /// How long to wait before try number `tries + 1` (`tries` ≥ 1 have failed): up to
    /// `backoff_first` × 2^(tries − 1), never more than `backoff_max`, and all of it by chance (full jitter), on
    /// top of what the server asked for.
    pub fn backoff(&self, tries: u32, asked: Option<Duration>, random: &mut Random) -> Duration {
        let ceiling = self.backoff_first.saturating_mul(1u32 << (tries - 1).min(16)).min(self.backoff_max);
        asked.unwrap_or_default().min(RETRY_AFTER_MAX) + random.up_to(ceiling)
    }
}

/// Which connections are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connections {
    /// One a simulated user, HTTP/1.1: behind a balancer the replicas are really spread.
    #[default]
    PerUser,
    /// One pool for all, HTTP/1.1.
    Pooled,
    /// One pool for all, HTTP/2 where the server offers it: everything lands on one replica.
    PooledHttp2,
}

/// What a client is made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// The deployment's access URL, `https://coder.example.com`.
    pub url: String,
    /// What the URL's host is taken to be; empty: what the system's resolver says. A caller that allows only
    /// some addresses gives these.
    pub addresses: Vec<SocketAddr>,
    /// Roots, client certificates; `None`: `https` is refused.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Which connections are used.
    pub connections: Connections,
    /// How patiently.
    pub pace: Pace,
    /// For the back-off's jitter.
    pub seed: u64,
    /// What new connections wait at; `None`: at nothing.
    pub door: Option<Door>,
}

impl Config {
    /// With everything but the URL by default.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            addresses: Vec::new(),
            tls: None,
            connections: Connections::default(),
            pace: Pace::default(),
            seed: 0,
            door: None,
        }
    }

    /// The URL's host, an IPv6 address without brackets, and its port: what a caller resolves and allows.
    ///
    /// # Errors
    /// A URL that no client can be made of.
    pub fn endpoint(&self) -> Result<(String, u16), ConfigError> {
        let url = base(self)?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        // Both schemes that are let through have a port of their own.
        Ok((host, url.port_or_known_default().unwrap_or_default()))
    }
}

/// Settings that no client can be made of.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not a URL of a deployment.
    #[error("`{url}` is no URL of a deployment ({why}); write https://coder.example.com")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The library refuses.
    #[error("the HTTP client cannot be made")]
    Http(#[source] reqwest::Error),
}

pub(crate) fn base(config: &Config) -> Result<Url, ConfigError> {
    let wrong = |why: &str| ConfigError::Url { url: config.url.clone(), why: why.into() };
    let url = Url::parse(config.url.trim()).map_err(|error| wrong(&error.to_string()))?;
    match url.scheme() {
        "http" => {}
        "https" if config.tls.is_some() => {}
        "https" => return Err(wrong("there are no TLS settings for https")),
        other => return Err(wrong(&format!("its scheme is {other}"))),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("it has no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // What was given may be a secret: it is not repeated.
        let url = "the URL".to_owned();
        return Err(ConfigError::Url {
            url,
            why: "it has a user in it, the token comes from its file".into(),
        });
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has a query or a fragment"));
    }
    Ok(url)
}

/// A client of HTTP/1.1 that goes where it is told and nowhere else: no redirects, no proxies. `tls`: for `https`;
/// without it nobody is trusted.
pub fn http(tls: Option<&Arc<rustls::ClientConfig>>) -> reqwest::ClientBuilder {
    builder(tls, &[b"http/1.1"]).http1_only()
}

fn builder(tls: Option<&Arc<rustls::ClientConfig>>, protocols: &[&[u8]]) -> reqwest::ClientBuilder {
    let mut tls = tls.map_or_else(trust_nobody, |tls| rustls::ClientConfig::clone(tls));
    tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    reqwest::Client::builder()
        .user_agent(concat!("scaled/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tls_backend_preconfigured(tls)
}

pub(crate) fn connection(config: &Config, base: &Url) -> Result<reqwest::Client, ConfigError> {
    let tls = config.tls.as_ref();
    let mut builder = match config.connections {
        Connections::PerUser | Connections::Pooled => http(tls),
        Connections::PooledHttp2 => builder(tls, &[b"h2", b"http/1.1"]),
    };
    if let (Some(host), false) = (base.host_str(), config.addresses.is_empty()) {
        builder = builder.resolve_to_addrs(host, &config.addresses);
    }
    if let Some(door) = &config.door {
        // What is counted is not kept for a rainy day.
        builder = builder.connector_layer(door.clone()).pool_max_idle_per_host(1);
    }
    builder.build().map_err(ConfigError::Http)
}

/// For `http` alone: the library wants settings even where there is no TLS.
fn trust_nobody() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS 1.2 and 1.3")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::secret::Token;

    fn client(url: &str) -> Result<Client, ConfigError> {
        Client::new(Config::new(url), Token::new("a-b").unwrap())
    }

    #[test]
    fn urls_that_are_no_deployments_are_refused_with_what_to_write() {
        for (url, word) in [
            ("coder.example.com", "relative"),
            ("ftp://coder.example.com", "scheme is ftp"),
            ("https://coder.example.com", "no TLS settings"),
            ("http://coder.example.com/?x=1", "query"),
            ("http://me:secret@coder.example.com", "user in it"),
        ] {
            let error = client(url).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("write https://"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let client = client("http://coder.example.com:8080/").unwrap();
        assert_eq!(
            (client.url(), client.host().as_str()),
            ("http://coder.example.com:8080", "coder.example.com:8080")
        );
        assert!(!format!("{client:?}").contains("a-b"));
        for (url, host, port) in [
            ("http://coder.example.com", "coder.example.com", 80),
            ("http://[::1]:3000/", "::1", 3000),
            ("http://127.0.0.1:8080", "127.0.0.1", 8080),
        ] {
            assert_eq!(Config::new(url).endpoint().unwrap(), (host.to_owned(), port));
        }
    }

    #[test]
    fn back_off_doubles_up_to_its_limit_and_comes_on_top_of_what_was_asked() {
        let (pace, mut random) = (Pace::default(), Random::new(1));
        for (tries, most) in [(1, 250), (2, 500), (3, 1000), (6, 8000), (7, 10_000), (30, 10_000)] {
            let waits: Vec<_> = (0..200).map(|_| pace.backoff(tries, None, &mut random)).collect();
            let longest = waits.iter().max().unwrap().as_millis();
            assert!(longest <= most && longest > most * 9 / 10, "{tries}: {longest} of {most}");
            assert!(waits.iter().min().unwrap().as_millis() < most / 10, "full jitter begins at nothing");
        }
        let asked = Some(Duration::from_secs(7));
        assert!(pace.backoff(1, asked, &mut random) >= Duration::from_secs(7));
        assert!(pace.backoff(1, Some(Duration::from_secs(9999)), &mut random) < Duration::from_secs(121));
    }
}
