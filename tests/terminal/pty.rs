//! A real pseudo-terminal with a real command on it, and somebody who types and reads.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, ioctl_fionread, read, write};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use scale_tests::host::until;

/// How long an answer may take on a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing comes where nothing more is to come.
const QUIET: Duration = Duration::from_millis(15);

pub struct Pty {
    master: OwnedFd,
    command: Child,
}

impl Pty {
    /// A terminal as the kernel makes it, and `words` as its command.
    pub fn start(words: &[&str]) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        unlockpt(&master).expect("unlocked");
        ioctl_fionbio(&master, true).expect("not blocking");
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).expect("the other side");
        let end = || slave.try_clone().expect("a descriptor");
        scale_ring::host::heed_interrupts(); // a command inherits what is ignored here
        // util-linux' setsid makes it the controlling terminal, then becomes the command.
        let mut setsid = Command::new("setsid");
        setsid.arg("--ctty").args(words).env("LC_ALL", "C").current_dir(std::env::temp_dir());
        let command = setsid.stdin(end()).stdout(end()).stderr(end()).spawn().expect("setsid of util-linux");
        Self { master, command }
    }

    /// Types all of `bytes`; whoever reads is too slow where it takes long.
    pub fn type_in(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match write(&self.master, bytes) {
                Ok(typed) => bytes = &bytes[typed..],
                Err(Errno::AGAIN) => assert!(self.is_ready(PollFlags::OUT, PATIENCE), "nobody reads"),
                Err(error) => panic!("typing: {error}"),
            }
        }
    }

    /// Reads until `printed` has so many bytes.
    pub fn read_until(&self, printed: &mut Vec<u8>, bytes: usize) {
        while printed.len() < bytes && self.is_ready(PollFlags::IN, PATIENCE) && self.read_some(printed) {}
    }

    /// Reads until nothing more comes.
    pub fn read_rest(&self, printed: &mut Vec<u8>) {
        while self.is_ready(PollFlags::IN, QUIET) && self.read_some(printed) {}
    }

    /// Reads until the command has closed its side; how it ended.
    pub fn read_to_end(&mut self, printed: &mut Vec<u8>) -> ExitStatus {
        while self.is_ready(PollFlags::IN, PATIENCE) && self.read_some(printed) {}
        until("the command to end", || self.command.try_wait().expect("it is ours"))
    }

    /// Reads what is there.
    pub fn read_ready(&self, printed: &mut Vec<u8>) {
        self.read_some(printed);
    }

    /// Waits until the command has read every whole line.
    pub fn wait_until_read(&self) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&self.master, flags).expect("the other side");
        until("the command to read", || (ioctl_fionread(&slave) == Ok(0)).then_some(()));
    }

    /// Stops the command, and returns when it has stopped.
    pub fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).expect("it runs");
        self.wait_until_stopped();
    }

    /// Waits until the command has stopped.
    pub fn wait_until_stopped(&self) {
        let (_, status) =
            waitpid(Some(self.pid()), WaitOptions::UNTRACED).expect("ours").expect("it stopped");
        assert!(status.stopped(), "it ended instead");
    }

    pub fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).expect("it is there");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.command)
    }

    fn is_ready(&self, what: PollFlags, within: Duration) -> bool {
        let within = Timespec::try_from(within).expect("short");
        loop {
            match poll(&mut [PollFd::new(&self.master, what)], Some(&within)) {
                Ok(ready) => return ready > 0,
                Err(Errno::INTR) => {}
                Err(error) => panic!("poll: {error}"),
            }
        }
    }

    /// Whether there may be more: EIO says that the other side is closed.
    fn read_some(&self, printed: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 4096];
        match read(&self.master, &mut buffer) {
            Ok(bytes) => printed.extend_from_slice(&buffer[..bytes]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::IO) => return false,
            Err(error) => panic!("reading: {error}"),
        }
        true
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.command.kill();
        let _ = self.command.wait();
    }
}

/// The signal, or else the exit code.
pub fn ending(status: ExitStatus) -> (Option<i32>, Option<i32>) {
    (status.signal(), status.code())
}
