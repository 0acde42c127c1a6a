//! The Autobahn cases (kosoku runs them), against both roles of our websocket code.
//!
//! - As a client: `scale_proto`'s upgrade and `ws::Session`, which are all that `scaled` knows of
//!   websockets, over a plain socket. The loop round them is this test's own (`client.rs`), because
//!   a generator does not echo: it writes with the same `write_header` and `mask_into`, and keeps
//!   whole messages, which `scaled` never does.
//! - As a server: the real `scale-sink`, over its ring.
//!
//! Not covered here: `stream::stack`, which hands the session what the ring received, with TLS
//! between; pacing; the matching of echoes. Those are for `tests/live` and `tests/peers`.
//!
//! permessage-deflate is not offered, so its cases (12 and 13) report UNIMPLEMENTED; nothing may
//! report FAILED, and the cases are counted.

mod client;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use scale_tests::{Sink, host};

/// Cases in the suite, and how many of them need permessage-deflate.
const CASES: usize = 517;
const DEFLATE_CASES: usize = 216;
/// Cases under way at once; each takes up to 100 s of the suite's own patience.
const AT_ONCE: usize = 4;

/// kosoku, unless it is not there.
fn kosoku() -> Option<PathBuf> {
    host::in_repository(".venv/peers/bin/kosoku")
}

/// Reads what the suite says of each case, and checks all of it.
fn judge(folder: &Path) {
    let text = std::fs::read_to_string(folder.join("index.json")).expect("the suite's index");
    let index: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let agents = index.as_object().expect("one entry an agent");
    assert_eq!(agents.len(), 1);
    let cases = agents.values().next().and_then(|cases| cases.as_object()).expect("one entry a case");
    let (mut bad, mut deflate_cases) = (Vec::new(), 0);
    for (case, result) in cases {
        for key in ["behavior", "behaviorClose"] {
            let Some(behavior) = result[key].as_str() else { continue };
            let deflate = case.starts_with("12.") || case.starts_with("13.");
            match behavior {
                "OK" | "NON-STRICT" | "INFORMATIONAL" => {}
                "UNIMPLEMENTED" if deflate => deflate_cases += 1,
                other => bad.push(format!("{case}: {key} {other}")),
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!((cases.len(), deflate_cases), (CASES, DEFLATE_CASES), "every case ran");
}

#[test]
fn the_sink_passes_the_autobahn_cases_as_a_server() {
    let Some(kosoku) = kosoku() else { return };
    let sink = Sink::start(&["--protocol", "ws"]);
    let reports = host::Folder::new();
    let folder = reports.path("servers");
    // It exits with 1 for cases that are not implemented, too: its index is what counts.
    let ran = Command::new(kosoku)
        .args(["-m", "fuzzingclient", "-p", &AT_ONCE.to_string(), "-o"])
        .arg(&folder)
        .arg(format!("ws://{}", sink.address))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(matches!(ran.expect("kosoku runs").code(), Some(0 | 1)));
    judge(&folder);
}

#[test]
fn the_session_passes_the_autobahn_cases_as_a_client() {
    let Some(kosoku) = kosoku() else { return };
    let reports = host::Folder::new();
    let folder = reports.path("clients");
    let address = SocketAddr::from(([127, 0, 0, 1], host::free_port()));
    let mut command = Command::new(kosoku);
    command.args(["-m", "fuzzingserver", "-o"]).arg(&folder).arg(address.to_string());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("kosoku runs");
    let mut server = scale_tests::Process(child);
    let count = host::until("the suite to answer", || client::case_count(address).ok());
    assert_eq!(count, CASES);
    let next = AtomicU32::new(1);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case as usize > CASES {
                        break;
                    }
                    // What the suite breaks on purpose ends in an error here; it is the judge.
                    let _ = client::run_case(address, case);
                }
            });
        }
    });
    client::update_reports(address).expect("the suite writes its reports");
    let ended = server.0.wait().expect("kosoku ends by itself");
    assert!(matches!(ended.code(), Some(0 | 1)));
    judge(&folder);
}
