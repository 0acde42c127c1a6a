//! haproxy and nginx in front of replicas, and what they say of each session: an account of what a client sent that
//! is neither ours nor the replica's.

use std::process::Command;

use scale_ring::host;
use scale_tests::host::{free_port, installed};
use scale_tests::peer::Peer;
use scale_tests::replicas::{Replicas, number};

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Haproxy,
    Nginx,
}

/// How it looks after the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// haproxy asks each replica every 200 ms, gives it a second to answer, and ends the sessions of one that does
    /// not. nginx, which cannot ask, leaves one out for a second that could not be connected to.
    Asks,
    /// haproxy asks, but lets sessions end by themselves: who is drained has closed its port, and is still there.
    Waits,
    /// Neither asks nor remembers: who cannot be connected to is tried again with the next connection.
    Forgets,
}

/// One that runs.
pub struct Proxy {
    pub port: u16,
    kind: Kind,
    peer: Peer,
    /// The wall clock, less CLOCK_MONOTONIC.
    wall_ns: u64,
    log: std::path::PathBuf,
}

/// A session that a proxy carried, told when it was over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub stream: u32,
    /// The replica: its address.
    pub to: String,
    /// When it was over, ns of CLOCK_MONOTONIC.
    pub ended: u64,
    /// Bytes that the client sent, its request and frames' headers among them.
    pub bytes: u64,
}

impl Proxy {
    /// `None`: it is not installed.
    pub fn start(kind: Kind, care: Care, replicas: &Replicas) -> Option<Self> {
        let program = installed(if kind == Kind::Haproxy { "haproxy" } else { "nginx" })?;
        let (port, mut command) = (free_port(), Command::new(program));
        let folder = replicas.folder();
        command.current_dir(folder.path(""));
        match kind {
            Kind::Haproxy => {
                let file = folder.write("haproxy.cfg", &haproxy(port, care, replicas));
                command.args(["-db", "-f", &file]);
            }
            Kind::Nginx => {
                let file = folder.write("nginx.conf", &nginx(port, care, replicas));
                command.arg("-e").arg("nginx.log").arg("-p").arg(folder.path("")).args(["-c", &file]);
            }
        }
        let peer = Peer::start(&mut command, port, folder);
        let wall = host::wall_now().duration_since(std::time::UNIX_EPOCH).expect("it is later than 1970");
        let wall_ns = wall.as_nanos() as u64 - host::monotonic_now().ns();
        Some(Self { port, kind, peer, wall_ns, log: folder.path("sessions.log") })
    }

    /// All sessions that are over.
    pub fn sessions(&self) -> Vec<Session> {
        let said = match self.kind {
            Kind::Haproxy => self.peer.said(),
            Kind::Nginx => std::fs::read_to_string(&self.log).unwrap_or_default(),
        };
        let sessions = said.lines().filter_map(|line| line.strip_prefix("session "));
        sessions.filter(|line| line.contains("stream=")).map(|line| self.session(line)).collect()
    }

    /// `TIME BYTES TO REQUEST`; where a proxy tried several replicas, it names them and bytes for each.
    fn session(&self, line: &str) -> Session {
        let [time, bytes, to, request] = line.splitn(4, '|').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let last = |list: &str| list.rsplit(',').next().unwrap_or_default().trim().to_owned();
        let ended = match self.kind {
            Kind::Haproxy => time.parse::<u64>().expect("us") * 1000,
            Kind::Nginx => time.replace('.', "").parse::<u64>().expect("ms") * 1_000_000,
        };
        Session {
            stream: number(request, "stream="),
            to: last(to),
            ended: ended - self.wall_ns,
            bytes: last(bytes).parse().unwrap_or_else(|error| panic!("{error}: {line}")),
        }
    }
}

fn haproxy(port: u16, care: Care, replicas: &Replicas) -> String {
    // A frozen replica's kernel takes connections all the same: only an answer is a sign of life.
    let options = "option httpchk GET /
           http-check expect status 400
           timeout check 1s";
    let check = "check inter 200ms fall 1 rise 1";
    let (options, check) = match care {
        Care::Asks => (options, format!("{check} on-marked-down shutdown-sessions")),
        Care::Waits => (options, check.to_owned()),
        Care::Forgets => ("", String::new()),
    };
    let servers: String = replicas
        .all
        .iter()
        .map(|replica| format!("           server {} {} {check}\n", replica.name, replica.address))
        .collect();
    // With several threads, one that has to wait for another's line drops its own.
    format!(
        "global
           nbthread 1
           maxconn 4000
           log stdout format raw local0
         defaults
           mode http
           log global
           log-format session\\ %[date(0,us)]|%U|%si:%sp|%r
           timeout connect 1s
           timeout client 60s
           timeout server 60s
           timeout tunnel 1h
           retries 3
           option redispatch 1
         frontend f
           bind 127.0.0.1:{port}
           default_backend b
         backend b
           balance leastconn
           {options}
{servers}"
    )
}

fn nginx(port: u16, care: Care, replicas: &Replicas) -> String {
    let fails = match care {
        Care::Asks => "max_fails=1 fail_timeout=1s",
        // Once failed, it is good again when a session on it has ended well: websockets last, and until then one of them
        // comes to it each `fail_timeout`.
        Care::Waits | Care::Forgets => "max_fails=0",
    };
    let servers: String =
        replicas.all.iter().map(|replica| format!("server {} {fails}; ", replica.address)).collect();
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log nginx.log; worker_rlimit_nofile 4096;
         events {{ worker_connections 4000; }}
         http {{
           log_format session 'session $msec|$upstream_bytes_sent|$upstream_addr|$request';
           access_log sessions.log session;
           client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4;
           scgi_temp_path t5;
           upstream replicas {{ least_conn; {servers} }}
           server {{
             listen 127.0.0.1:{port} backlog=1024;
             location / {{
               proxy_pass http://replicas; proxy_http_version 1.1; proxy_read_timeout 1h;
               proxy_connect_timeout 1s;
               proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
             }}
           }}
         }}"
    )
}
