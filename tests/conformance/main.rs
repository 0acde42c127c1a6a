//! The Autobahn cases (kosoku runs them), against both roles of our websocket code.
//!
//! - As a client: the session that `scaled` uses, over a plain socket, echoing as Autobahn asks.
//!   The worker round it (pacing, matching of echoes) is the live tests' matter.
//! - As a server: the real `scale-sink`.
//!
//! permessage-deflate is not offered, so its cases (12 and 13) report UNIMPLEMENTED; nothing may
//! report FAILED, and the cases are counted.

mod client;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use scale_tests::Sink;

/// Cases in the suite, and how many of them need permessage-deflate.
const CASES: usize = 517;
const DEFLATE_CASES: usize = 216;
/// Cases under way at once; each takes up to 100 s of the suite's own patience.
const AT_ONCE: usize = 4;

/// kosoku, unless it is not there: a printed reason, and under CI a failure.
fn kosoku(test: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let path = root.join(".venv/peers/bin/kosoku");
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is not there", path.display());
    eprintln!("{test}: skipped, .venv/peers/bin/kosoku is not there; tests/peers.sh installs it");
    None
}

fn reports(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("scale-conformance-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    folder
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
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn the_sink_passes_the_autobahn_cases_as_a_server() {
    let Some(kosoku) = kosoku("the_sink_passes_the_autobahn_cases_as_a_server") else { return };
    let sink = Sink::start(&["--protocol", "ws"]);
    let folder = reports("servers");
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
    let Some(kosoku) = kosoku("the_session_passes_the_autobahn_cases_as_a_client") else { return };
    let folder = reports("clients");
    let address = {
        // A free port: kosoku does not choose one itself.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("an address")
    };
    let mut command = Command::new(kosoku);
    command.args(["-m", "fuzzingserver", "-o"]).arg(&folder).arg(address.to_string());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("kosoku runs");
    let mut server = scale_tests::Process(child);
    let count = (0..100)
        .find_map(|_| {
            std::thread::sleep(Duration::from_millis(50));
            client::case_count(address).ok()
        })
        .expect("the suite answers within 5 s");
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
