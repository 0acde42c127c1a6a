//! Commands in web terminals, each against a terminal that goes through a script.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use scale_coder::class::Class;
use scale_coder::flows::Flow;
use scale_coder::flows::command::Command;
use scale_coder::flows::create::{AgentRule, CreatedWorkspaces};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::create::create;
use crate::fake::{Fake, State, What};
use crate::{Desk, Folder};

/// What a terminal does, in order; then it waits until the client is gone.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// Prints.
    Say(&'static str),
    /// Pings, and waits for the pong.
    Ping,
    /// Waits until this was typed.
    Typed(&'static str),
    /// Closes, and waits for the answer.
    Close(u16, &'static str),
    /// The connection breaks.
    Break,
}

/// What terminals saw.
#[derive(Debug, Default)]
pub struct Terminals {
    /// What the next ones do; the last one's is kept for all that follow.
    pub scripts: Vec<Vec<Act>>,
    /// Messages, in order.
    pub typed: Vec<String>,
    /// Pongs.
    pub pongs: u32,
    /// Closes of either side that were answered.
    pub closed: u32,
}

/// A terminal behind its 101.
pub async fn serve(upgrade: OnUpgrade, state: Arc<Mutex<State>>, script: Vec<Act>) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    for act in script {
        match act {
            Act::Say(text) => {
                let _ = socket.send(Message::binary(text.as_bytes().to_vec())).await;
            }
            Act::Ping => {
                let _ = socket.send(Message::Ping("there".into())).await;
                let is_answered = || state.lock().unwrap().terminals.pongs > 0;
                while !is_answered() && read(&mut socket, &state).await {}
            }
            Act::Typed(text) => {
                let is_typed = || state.lock().unwrap().terminals.typed.iter().any(|typed| typed == text);
                while !is_typed() && read(&mut socket, &state).await {}
            }
            Act::Close(code, reason) => {
                let _ = socket.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await;
            }
            Act::Break => return,
        }
    }
    while read(&mut socket, &state).await {}
}

/// Takes note of one message; `false` once there are no more.
async fn read(socket: &mut WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, state: &Mutex<State>) -> bool {
    let Some(Ok(message)) = socket.next().await else { return false };
    let mut state = state.lock().unwrap();
    match message {
        Message::Binary(bytes) => state.terminals.typed.push(String::from_utf8_lossy(&bytes).into_owned()),
        Message::Pong(_) => state.terminals.pongs += 1,
        Message::Close(_) => state.terminals.closed += 1,
        other => state.wrongs.push(format!("a terminal got {other:?}")),
    }
    true
}

const INTERRUPT: &str = "{\"data\":\"\\u0003\"}\n";
const REPRINT: &str = "{\"data\":\"\\u0012\"}\n";

/// One workspace's turn with terminals of these scripts: what failed, or `None`.
async fn run(
    fake: &Fake,
    scripts: &[&[Act]],
    command: Command,
    change: impl FnOnce(&mut Flow<'_>),
) -> CreatedWorkspaces {
    fake.state().terminals.scripts = scripts.iter().map(|script| script.to_vec()).collect();
    let folder = Folder::new();
    let (desk, ledger) = (Desk::new(fake), folder.ledger(fake, "r1-0"));
    let mut flow = desk.flow();
    change(&mut flow);
    let created = create(&flow, &ledger, 1, |ask| {
        ask.command = Some(Box::leak(Box::new(command)));
        if scripts.len() > 1 {
            ask.agents = AgentRule::Ignore;
        }
    });
    created.await
}

fn command(timeout: Duration) -> Command {
    Command::new("sleep 2 && echo 'hello & more'", timeout).unwrap()
}

const PATIENT: Duration = Duration::from_secs(20);

fn class(created: &CreatedWorkspaces) -> Option<Class> {
    created.workspaces[0].failure.as_ref().map(|failure| failure.class)
}

#[tokio::test]
async fn a_terminal_is_opened_by_its_owner_as_the_original_does_and_closed_in_order() {
    let fake = Fake::start("v2.26.0").await;
    let script =
        [Act::Typed(REPRINT), Act::Ping, Act::Say("^R\r\n"), Act::Say("hello\r\n"), Act::Close(1000, "")];
    let created = run(&fake, &[&script], command(PATIENT).expecting("^hello$").unwrap(), |_| ()).await;
    let one = &created.workspaces[0];
    assert_eq!(class(&created), None, "{one:?}");
    assert!(one.phases.connect.is_some() && one.phases.command.is_some(), "{one:?}");
    let state = fake.state();
    let asked: Vec<_> = state.seen.iter().filter(|seen| seen.path.ends_with("/pty")).collect();
    assert_eq!(asked.len(), 1);
    let query = |name: &str| asked[0].query.get(name).map(String::as_str);
    assert_eq!(
        (query("command"), query("width"), query("height")),
        (Some("sleep 2 && echo 'hello & more'"), Some("80"), Some("25"))
    );
    assert_eq!(query("reconnect").map(str::len), Some(36));
    assert_eq!(asked[0].token, one.token.as_ref().unwrap().expose());
    assert_eq!((state.terminals.closed, state.terminals.typed.as_slice()), (1, &[REPRINT.to_owned()][..]));
    drop(state);
    // The same connection as the user's other requests.
    assert_eq!(fake.ports(one.token.as_ref().unwrap().expose()).len(), 1);
    fake.assert_manners();
}

#[tokio::test]
async fn each_end_of_a_terminal_has_its_class() {
    for (script, expected, is_connected) in [
        (&[Act::Close(1000, "")][..], None, true),
        (&[Act::Close(1011, "dial workspace agent: x")], Some(Class::AgentUnreachable), false),
        (&[Act::Break], Some(Class::TerminalSilent), false),
        (&[Act::Say("a"), Act::Break], Some(Class::TerminalLost), true),
        (&[Act::Say("a"), Act::Close(1001, "Ping failed")], Some(Class::TerminalLost), true),
        (&[Act::Say("a"), Act::Typed(INTERRUPT), Act::Close(1000, "")], Some(Class::CommandTimeout), true),
    ] {
        let fake = Fake::start("v2.26.0").await;
        let timeout =
            if expected == Some(Class::CommandTimeout) { Duration::from_millis(50) } else { PATIENT };
        let created = run(&fake, &[script], command(timeout), |_| ()).await;
        assert_eq!(class(&created), expected, "{script:?}: {created:?}");
        assert_eq!(created.workspaces[0].phases.connect.is_some(), is_connected, "{script:?}: {created:?}");
        fake.assert_manners();
    }
}

#[tokio::test]
async fn a_terminal_that_is_refused_says_the_servers_words_and_no_redirect_is_followed() {
    for (status, headers, words) in [
        (403, vec![], "403 not yours"),
        (302, vec![("location", "http://127.0.0.1:9/")], "redirects to http://127.0.0.1:9/"),
        (200, vec![], "200 instead of 101"),
    ] {
        let fake = Fake::start("v2.26.0").await;
        fake.fault(
            "GET",
            "/api/v2/workspaceagents/",
            9,
            What::Answer { status, headers, body: r#"{"message":"not yours"}"# },
        );
        let created = run(&fake, &[&[]], command(PATIENT), |_| ()).await;
        assert_eq!(class(&created), Some(Class::TerminalRefused), "{created:?}");
        let message = &created.workspaces[0].failure.as_ref().unwrap().message;
        assert!(message.contains(words), "{words}: {message}");
    }
}

#[tokio::test]
async fn output_that_is_not_expected_fails_and_is_quoted() {
    let fake = Fake::start("v2.26.0").await;
    let script = [Act::Say("hello\r\n"), Act::Close(1000, "")];
    let created = run(&fake, &[&script], command(PATIENT).expecting("^bye$").unwrap(), |_| ()).await;
    assert_eq!(class(&created), Some(Class::CommandOutput));
    assert!(created.workspaces[0].failure.as_ref().unwrap().message.contains("hello"), "{created:?}");
}

#[tokio::test]
async fn an_agent_that_nobody_waited_for_is_tried_again() {
    let fake = Fake::start("v2.26.0").await;
    let not_yet = [Act::Close(1011, "dial workspace agent: not yet")];
    let there = [Act::Say("hello"), Act::Close(1000, "")];
    let created = run(&fake, &[&not_yet, &not_yet, &there], command(PATIENT), |_| ()).await;
    assert_eq!(class(&created), None, "{created:?}");
    assert_eq!(fake.count("GET", "/api/v2/workspaceagents/"), 3);
}

#[tokio::test]
async fn the_jobs_time_ends_a_command_with_ctrl_c_too() {
    let fake = Fake::start("v2.26.0").await;
    let script = [Act::Say("a"), Act::Typed(INTERRUPT), Act::Close(1000, "")];
    let created =
        run(&fake, &[&script], command(PATIENT), |flow| flow.job_timeout = Duration::from_secs(1)).await;
    assert_eq!(class(&created), Some(Class::CommandTimeout), "{created:?}");
    assert_eq!(fake.state().terminals.typed, [REPRINT, INTERRUPT]);
}
