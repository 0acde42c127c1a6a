//! Commands from the control thread to a worker.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::share::Command;

/// A queue whose emptiness is one relaxed load to see. Clones are the same queue.
#[derive(Debug, Clone, Default)]
pub struct Inbox(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    filled: AtomicBool,
    commands: Mutex<VecDeque<Command>>,
}

impl Inbox {
    /// Adds a command; the worker sees it in its next turn, at most 10 ms later.
    pub fn push(&self, command: Command) {
        self.0.commands.lock().unwrap_or_else(PoisonError::into_inner).push_back(command);
        self.0.filled.store(true, Ordering::Release);
    }

    /// Takes the oldest command.
    pub fn pop(&self) -> Option<Command> {
        if !self.0.filled.load(Ordering::Acquire) {
            return None;
        }
        let mut commands = self.0.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let command = commands.pop_front();
        if commands.is_empty() {
            self.0.filled.store(false, Ordering::Release);
        }
        command
    }
}
