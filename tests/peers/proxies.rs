//! TLS proxies by others in front of our sink.

use std::process::Command;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use scale_tests::Sink;
use scale_tests::certificate::Certificate;
use scale_tests::host::{Folder, free_port, installed};
use scale_tests::peer::Peer;

use crate::echoes;

const CONNS: &str = "500";

/// What a proxy is told.
struct Setting<'a> {
    folder: &'a Folder,
    port: u16,
    /// The sink's address.
    behind: &'a str,
    /// The only TLS it is to speak.
    version: &'static SupportedProtocolVersion,
}

impl Setting<'_> {
    fn version_as(&self, tls12: &'static str, tls13: &'static str) -> &'static str {
        if self.version == &TLS12 { tls12 } else { tls13 }
    }
}

/// Streams through a proxy that speaks `version` and nothing else.
fn through(name: &str, version: &'static SupportedProtocolVersion, start: fn(Command, &Setting<'_>) -> Peer) {
    let Some(program) = installed(name) else { return };
    let folder = Folder::new();
    let certificate = Certificate::new(&["localhost", "127.0.0.1"]);
    folder.write("cert.pem", &certificate.certificate);
    folder.write("key.pem", &certificate.key);
    folder.write("both.pem", &format!("{}{}", certificate.certificate, certificate.key));
    let ca = folder.write("ca.pem", &certificate.authority);
    let sink = Sink::start(&["--protocol", "ws"]);
    let port = free_port();
    let mut command = Command::new(program);
    command.current_dir(folder.path(""));
    let _proxy = start(command, &Setting { folder: &folder, port, behind: &sink.address, version });

    let other = if version == &TLS12 { &TLS13 } else { &TLS12 };
    assert_eq!(certificate.handshake(port, version), Ok(Some(version.version)));
    assert!(certificate.handshake(port, other).is_err(), "{name} speaks {other:?}, too");

    let to = format!("127.0.0.1:{port}");
    let target = format!("wss://localhost:{port}/");
    let report = echoes(CONNS, &target, &["--ca", &ca, "--connect-to", &to]);
    assert_eq!(report.latency.tls.map(|tls| tls.count.to_string()).as_deref(), Some(CONNS));
    let counts = sink.counts();
    assert_eq!(counts["connections"].to_string(), CONNS);
    assert_eq!(counts["messages_received"], report.total.messages_sent);
    assert_eq!(counts["payload_bytes_received"], report.total.payload_bytes_sent);
    assert_eq!(counts["payload_bytes_sent"], report.total.payload_bytes_received);
}

fn nginx(mut command: Command, setting: &Setting<'_>) -> Peer {
    let Setting { folder, port, behind, .. } = setting;
    let protocols = setting.version_as("TLSv1.2", "TLSv1.3");
    let config = format!(
        "daemon off; master_process off; pid nginx.pid; error_log nginx.log; worker_rlimit_nofile 4096;
         events {{ worker_connections 2000; }}
         http {{
           access_log off;
           client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4;
           scgi_temp_path t5;
           server {{
             listen 127.0.0.1:{port} ssl backlog=1024;
             ssl_certificate cert.pem; ssl_certificate_key key.pem; ssl_protocols {protocols};
             location / {{
               proxy_pass http://{behind}; proxy_http_version 1.1; proxy_read_timeout 1h;
               proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
             }}
           }}
         }}"
    );
    let file = folder.write("nginx.conf", &config);
    command.arg("-e").arg("nginx.log").arg("-p").arg(folder.path("")).args(["-c", &file]);
    Peer::start(&mut command, *port, folder)
}

fn haproxy(mut command: Command, setting: &Setting<'_>) -> Peer {
    let Setting { folder, port, behind, .. } = setting;
    let version = setting.version_as("TLSv1.2", "TLSv1.3");
    let config = format!(
        "global
           maxconn 1000
         defaults
           mode http
           timeout connect 60s
           timeout client 60s
           timeout server 60s
           timeout tunnel 1h
         frontend f
           bind 127.0.0.1:{port} ssl crt both.pem alpn http/1.1 ssl-min-ver {version} ssl-max-ver {version}
           default_backend b
         backend b
           server s {behind}\n"
    );
    command.args(["-db", "-f", &folder.write("haproxy.cfg", &config)]);
    Peer::start(&mut command, *port, folder)
}

fn caddy(mut command: Command, setting: &Setting<'_>) -> Peer {
    let Setting { folder, port, behind, .. } = setting;
    let version = setting.version_as("tls1.2", "tls1.3");
    let config = format!(
        "{{
           admin off
           auto_https off
         }}
         https://localhost:{port} {{
           bind 127.0.0.1
           tls cert.pem key.pem {{
             protocols {version} {version}
           }}
           reverse_proxy {behind}
         }}\n"
    );
    // It keeps things at home; home is the test's folder.
    command
        .env("HOME", folder.path(""))
        .env("XDG_DATA_HOME", folder.path(""))
        .env("XDG_CONFIG_HOME", folder.path(""));
    command.args(["run", "--adapter", "caddyfile", "--config", &folder.write("Caddyfile", &config)]);
    Peer::start(&mut command, *port, folder)
}

#[test]
fn nginx_in_front_carries_every_byte_over_tls_1_2() {
    through("nginx", &TLS12, nginx);
}

#[test]
fn nginx_in_front_carries_every_byte_over_tls_1_3() {
    through("nginx", &TLS13, nginx);
}

#[test]
fn haproxy_in_front_carries_every_byte_over_tls_1_2() {
    through("haproxy", &TLS12, haproxy);
}

#[test]
fn haproxy_in_front_carries_every_byte_over_tls_1_3() {
    through("haproxy", &TLS13, haproxy);
}

#[test]
fn caddy_in_front_carries_every_byte_over_tls_1_2() {
    through("caddy", &TLS12, caddy);
}

#[test]
fn caddy_in_front_carries_every_byte_over_tls_1_3() {
    through("caddy", &TLS13, caddy);
}
