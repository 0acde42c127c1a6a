//! A real pseudo-terminal with a real shell, as the agent makes it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use pty_process::{Command, OwnedReadPty, OwnedWritePty};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::{Attach, SessionId, Sessions, Size, Terminal};

/// The agent reads the terminal in pieces of at most so much.
const READ_BYTES_MAX: usize = 1024;
/// What a process wrote right before its end is still waited for.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// The process, as long as this lives. Needs a `LocalSet` of tokio.
#[derive(Debug)]
pub struct Real {
    orders: mpsc::UnboundedSender<Order>,
    backlog: Rc<Cell<usize>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Order {
    Type(Vec<u8>),
    Resize(Size),
}

impl Real {
    /// Starts `<shell> -c <command>`, or a login shell, on a new pseudo-terminal. `room` is told
    /// whenever a client has been sent something.
    ///
    /// # Errors
    /// No pseudo-terminal is to be had, or the shell does not start.
    pub fn start(
        attach: &Attach,
        id: SessionId,
        hub: &Rc<RefCell<Sessions>>,
        room: &Rc<Notify>,
    ) -> io::Result<Self> {
        scale_ring::host::heed_interrupts(); // a shell inherits what is ignored here
        let (pty, pts) = pty_process::open().map_err(io::Error::other)?;
        resize(|size| pty.resize(size), attach.size);
        let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
        let user = std::env::var("USER").unwrap_or_else(|_| "coder".to_owned());
        let command = Command::new(&shell).kill_on_drop(true);
        let command = match attach.command.as_str() {
            "" => command.arg("-l"),
            text => command.args(["-c", text]),
        };
        let child = command
            .env("TERM", "xterm-256color")
            .env("SHELL", &shell)
            .env("USER", &user)
            .env("LOGNAME", &user)
            .env("SSH_CLIENT", "127.0.0.1 0 0")
            .env("SSH_CONNECTION", "127.0.0.1 0 127.0.0.1 0")
            .env_remove("CODER_SESSION_TOKEN")
            .spawn(pts)
            .map_err(io::Error::other)?;
        let (read, write) = pty.into_split();
        let (orders, taken) = mpsc::unbounded_channel();
        let backlog = Rc::new(Cell::new(0));
        let task = run(read, write, child, taken, backlog.clone(), id, hub.clone(), room.clone());
        Ok(Self { orders, backlog, task: tokio::task::spawn_local(task) })
    }
}

impl Terminal for Real {
    fn input(&mut self, bytes: &[u8], _: &mut Vec<u8>) {
        if self.orders.send(Order::Type(bytes.to_vec())).is_ok() {
            self.backlog.set(self.backlog.get() + bytes.len());
        }
    }

    fn resize(&mut self, size: Size) {
        let _ = self.orders.send(Order::Resize(size)); // a process that has ended has no window
    }

    fn backlog(&self) -> usize {
        self.backlog.get()
    }

    fn is_ended(&self) -> bool {
        false // the task says so itself, after the last words
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.task.abort(); // the child goes with it
    }
}

/// A terminal of 0 rows or columns keeps its own size.
fn resize(set: impl FnOnce(pty_process::Size) -> pty_process::Result<()>, size: Size) {
    if size.height > 0 && size.width > 0 {
        let _ = set(pty_process::Size::new(size.height, size.width)); // refused: it keeps what it has
    }
}

#[expect(clippy::too_many_arguments, reason = "the task's whole world")]
async fn run(
    mut read: OwnedReadPty,
    mut write: OwnedWritePty,
    mut child: Child,
    mut orders: mpsc::UnboundedReceiver<Order>,
    backlog: Rc<Cell<usize>>,
    id: SessionId,
    hub: Rc<RefCell<Sessions>>,
    room: Rc<Notify>,
) {
    let reading = async {
        let mut buffer = [0; READ_BYTES_MAX];
        loop {
            while !hub.borrow().takes_output(id) {
                room.notified().await;
            }
            // EIO: nobody has the terminal open any more.
            let Ok(bytes @ 1..) = read.read(&mut buffer).await else { return };
            hub.borrow_mut().output(id, &buffer[..bytes]);
        }
    };
    let writing = async {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Resize(size) => resize(|size| write.resize(size), size),
                Order::Type(bytes) => {
                    if write.write_all(&bytes).await.is_err() {
                        break;
                    }
                    backlog.set(backlog.get() - bytes.len());
                    hub.borrow_mut().taken(id);
                }
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::pin!(reading);
    tokio::select! {
        () = &mut reading => {}
        () = writing => {}
        _ = child.wait() => {
            let _ = tokio::time::timeout(LAST_WORDS, &mut reading).await;
        }
    }
    let _ = child.kill().await; // where it closed its terminal and went on
    hub.borrow_mut().end(id);
}
