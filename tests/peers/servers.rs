//! Websocket servers by others.

use std::process::Command;

use scale_tests::host::{Folder, free_port, in_repository, installed, root};
use scale_tests::peer::Peer;

use crate::echoes;

const SCRIPTS: &str = "tests/peers";

#[test]
fn websockets_in_python_echoes_every_byte() {
    let Some(python) = in_repository(".venv/peers/bin/python") else { return };
    let Some(_) = in_repository(".venv/peers/bin/websockets") else { return };
    let (folder, port) = (Folder::new(), free_port());
    let mut command = Command::new(python);
    command.arg(root().join(SCRIPTS).join("echo.py")).arg(port.to_string());
    let _peer = Peer::start(&mut command, port, &folder);
    echoes("500", &format!("ws://127.0.0.1:{port}/"), &[]);
}

#[test]
fn ws_in_node_echoes_every_byte() {
    let Some(node) = installed("node") else { return };
    let Some(modules) = in_repository("tests/.peers/node_modules/ws") else { return };
    let (folder, port) = (Folder::new(), free_port());
    let mut command = Command::new(node);
    command.arg(root().join(SCRIPTS).join("echo.js")).arg(port.to_string());
    command.env("NODE_PATH", modules.parent().expect("node_modules"));
    let _peer = Peer::start(&mut command, port, &folder);
    echoes("500", &format!("ws://127.0.0.1:{port}/"), &[]);
}

/// Bytes of one message may come back as several, and of several as one: what counts is their
/// place in the stream.
#[test]
fn websocketd_with_cat_echoes_every_byte_without_message_boundaries() {
    let Some(websocketd) = installed("websocketd") else { return };
    let (folder, port) = (Folder::new(), free_port());
    let mut command = Command::new(websocketd);
    command.arg(format!("--port={port}")).args(["--address=127.0.0.1", "--binary", "cat"]);
    let _peer = Peer::start(&mut command, port, &folder);
    // Longer than a pipe takes at once.
    echoes("100", &format!("ws://127.0.0.1:{port}/"), &["--bytes-per-tick", "100003"]);
}
