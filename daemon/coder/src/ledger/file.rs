//! How lines get to the disk: appended by whoever comes first for all that wait (one sync for many creates),
//! on a thread that may block.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::record::{Contents, Head, Kind, Line};
use super::{FILE_BYTES_MAX, FILE_NAME, LINE_BYTES_MAX, LedgerError};
use crate::time::Timestamp;

/// What is made: the daemon's, and its group's to read.
pub(crate) const FOLDER_MODE: u32 = 0o750;
pub(crate) const FILE_MODE: u32 = 0o640;

/// A ledger that is being written. Clones write the same file.
///
/// Needs a tokio runtime. [`Ledger::close`] waits until everything is on the disk; dropping the last one
/// writes what is left, without waiting for anybody.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    file: Mutex<File>,
    queue: Mutex<Queue>,
    written: watch::Sender<Written>,
}

/// What is to be written, and what all lines say together.
#[derive(Debug)]
struct Queue {
    contents: Contents,
    pending: Vec<u8>,
    lines: u64,
    is_flushing: bool,
}

/// How many lines are synced, and whether the disk refused.
#[derive(Debug, Clone, Default)]
struct Written {
    lines: u64,
    error: Option<LedgerError>,
}

impl Ledger {
    /// Begins the ledger of a run in its folder, which is made where it is missing. Its first line and its
    /// place in the folder are synced when this returns.
    ///
    /// # Errors
    /// The disk's; there is one already.
    pub fn create(folder: &Path, head: Head) -> Result<Self, LedgerError> {
        let path = folder.join(FILE_NAME);
        let begin = || {
            fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
            let mut file = OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(&path)?;
            file.write_all(&line(&Line::Run(head.clone()))?)?;
            file.sync_all()?;
            // The names are to last as well: the file's in its folder, the folder's in the state folder.
            File::open(folder)?.sync_all()?;
            folder.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())?;
            Ok(file)
        };
        let file = begin().map_err(|error: io::Error| LedgerError::disk(&path, &error))?;
        Ok(Self::over(path, file, Contents::new(head)))
    }

    /// Opens a ledger to go on with it. A torn last line is cut off first. Nobody else may have it open.
    ///
    /// # Errors
    /// The disk's; a damaged line.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let damaged = || LedgerError::Damaged { path: path.to_owned(), line: 1 };
        let (contents, whole) = read(path)?.ok_or_else(damaged)?;
        let resume = || {
            let file = OpenOptions::new().append(true).open(path)?;
            if file.metadata()?.len() > whole {
                file.set_len(whole)?;
                file.sync_all()?;
            }
            Ok(file)
        };
        let file = resume().map_err(|error: io::Error| LedgerError::disk(path, &error))?;
        Ok(Self::over(path.to_owned(), file, contents))
    }

    fn over(path: PathBuf, file: File, contents: Contents) -> Self {
        let queue = Queue { contents, pending: Vec::new(), lines: 0, is_flushing: false };
        let written = watch::Sender::new(Written::default());
        Self(Arc::new(Shared { path, file: Mutex::new(file), queue: Mutex::new(queue), written }))
    }

    /// What it says, lines included that are not on the disk yet.
    pub fn contents(&self) -> Contents {
        lock(&self.0.queue).contents.clone()
    }

    /// The run's random word, for its users' addresses.
    pub fn mark(&self) -> String {
        lock(&self.0.queue).contents.head.mark.clone()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Says that a thing is about to be made, and returns once that is on the disk. Only then may it be made.
    ///
    /// # Errors
    /// The disk's, now or earlier: then it may not be made.
    pub async fn intent(
        &self,
        at: Timestamp,
        kind: Kind,
        name: &str,
        owner: Option<&str>,
    ) -> Result<(), LedgerError> {
        let line = Line::Intent { at, kind, name: name.to_owned(), owner: owner.map(str::to_owned) };
        let lines = self.append(line)?;
        self.wait_for(lines).await
    }

    /// Says that it was made. `unsettled`: by one try of several, another of which had no answer and may come true
    /// once this one is deleted. Reaches the disk soon; if a crash is sooner, the intent is there.
    ///
    /// # Errors
    /// The disk refused something earlier.
    pub fn made(&self, kind: Kind, name: &str, id: &str, unsettled: bool) -> Result<(), LedgerError> {
        self.append(Line::Made { kind, name: name.to_owned(), id: id.to_owned(), unsettled }).map(drop)
    }

    /// Says that it is gone for good, or can never come to be.
    ///
    /// # Errors
    /// The disk refused something earlier.
    pub fn deleted(&self, kind: Kind, name: &str) -> Result<(), LedgerError> {
        self.append(Line::Deleted { kind, name: name.to_owned() }).map(drop)
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub async fn close(self) -> Result<(), LedgerError> {
        let lines = lock(&self.0.queue).lines;
        self.wait_for(lines).await
    }

    /// Queues a line and sees to it that someone writes it; returns how many lines there are with it.
    fn append(&self, next: Line) -> Result<u64, LedgerError> {
        if let Some(error) = self.0.written.borrow().error.clone() {
            return Err(error);
        }
        let bytes = line(&next).map_err(|error| LedgerError::disk(&self.0.path, &error))?;
        let (lines, is_flushing) = {
            let mut queue = lock(&self.0.queue);
            // A flow only notes what it has announced: this cannot contradict what stands before.
            assert!(queue.contents.take(next), "a ledger's line about a thing that was never announced");
            queue.pending.extend_from_slice(&bytes);
            queue.lines += 1;
            (queue.lines, std::mem::replace(&mut queue.is_flushing, true))
        };
        if !is_flushing {
            let shared = Arc::clone(&self.0);
            tokio::task::spawn_blocking(move || shared.flush());
        }
        Ok(lines)
    }

    async fn wait_for(&self, lines: u64) -> Result<(), LedgerError> {
        let mut written = self.0.written.subscribe();
        let state = written.wait_for(|state| state.lines >= lines || state.error.is_some()).await;
        match state.expect("the sender lives as long as this ledger").error.clone() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Shared {
    /// Writes and syncs until nothing is left.
    fn flush(&self) {
        let mut file = lock(&self.file);
        loop {
            let (bytes, lines) = {
                let mut queue = lock(&self.queue);
                if queue.pending.is_empty() {
                    queue.is_flushing = false;
                    return;
                }
                (std::mem::take(&mut queue.pending), queue.lines)
            };
            if self.written.borrow().error.is_some() {
                continue;
            }
            let result = file.write_all(&bytes).and_then(|()| file.sync_data());
            let error = result.err().map(|error| LedgerError::disk(&self.path, &error));
            self.written.send_modify(|written| {
                // After an error nothing more is promised.
                written.lines = if error.is_none() { lines } else { written.lines };
                written.error = error;
            });
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The runtime may have ended before it could begin with the last lines.
        self.flush();
    }
}

/// What a ledger says and how many of its bytes are whole lines; `None` without any.
pub(super) fn read(path: &Path) -> Result<Option<(Contents, u64)>, LedgerError> {
    let disk = |error: io::Error| LedgerError::disk(path, &error);
    // Who can write in the folder is not to have us take a file of somebody else's for our own.
    if !fs::symlink_metadata(path).map_err(disk)?.is_file() {
        return Err(disk(io::Error::new(io::ErrorKind::InvalidInput, "it is a link, or no file")));
    }
    let file = File::open(path).map_err(disk)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(disk)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(disk(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than any ledger")));
    }
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let mut contents: Option<Contents> = None;
    for (index, line) in bytes[..whole].split_inclusive(|&byte| byte == b'\n').enumerate() {
        let damaged = || LedgerError::Damaged { path: path.to_owned(), line: index + 1 };
        let line: Line = serde_json::from_slice(line).map_err(|_| damaged())?;
        let fits = match (&mut contents, line) {
            (None, Line::Run(head)) => contents.insert(Contents::new(head)).is_empty(),
            (Some(contents), line) => contents.take(line),
            (None, _) => false,
        };
        if !fits {
            return Err(damaged());
        }
    }
    Ok(contents.map(|contents| (contents, whole as u64)))
}

fn line(line: &Line) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    if bytes.len() > LINE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a line is longer than any name makes it"));
    }
    Ok(bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn on_a_full_disk_nothing_may_be_made_any_more() {
        let now = Timestamp::UNIX_EPOCH;
        let head =
            Head { run: "r1-0".into(), at: now, url: String::new(), deployment: None, mark: "m".into() };
        // Every write to this device fails as on a full disk.
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ledger = Ledger::over("/dev/full".into(), full, Contents::new(head));
        for _ in 0..2 {
            let error = ledger.intent(now, Kind::User, "scaletest-r1-0-0", None).await.unwrap_err();
            assert!(error.to_string().contains("No space left"), "{error}");
        }
        assert!(ledger.made(Kind::User, "scaletest-r1-0-0", "id", false).is_err());
        assert!(ledger.close().await.is_err());
    }
}
