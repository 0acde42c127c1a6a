//! The ledger: one append-only file a run that knows what was made.
//!
//! `coder.jsonl` in the run's folder, one JSON object a line: first the run and its deployment, then for each
//! user and workspace `intent` (synced to the disk before the create is sent), `made` with its id, and
//! `deleted`. A thing is settled once every try of its create has an answer; what the server refused is `deleted`
//! at once, for nothing can come of it. After a crash the last line may be torn: it is cut off, and what it would have said is found
//! again at the server, since the intent stands before it. A ledger that is not empty is never removed.
//!
//! [`record`] is what the lines say, [`file`](self) how they get to the disk.

mod file;
mod record;

use std::io;
use std::path::{Path, PathBuf};

pub use file::Ledger;
pub(crate) use file::{FILE_MODE, FOLDER_MODE};
pub use record::{Contents, Entry, Head, Kind, Stage};

/// The ledger's name within a run's folder.
pub const FILE_NAME: &str = "coder.jsonl";
/// The longest line.
pub const LINE_BYTES_MAX: usize = 4096;
/// The largest ledger that is read: 100,000 users and workspaces with three lines each, and room to spare.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

/// A ledger that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// The disk's.
    #[error("the ledger {}: {error}; see to the disk that holds it, nothing is made without it", path.display())]
    Disk {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: String,
    },
    /// A line, not the last, that says nothing.
    #[error(
        "the ledger {} is damaged in line {line}; mend or remove that line, or delete by prefix alone with cleanup --all-prefixed",
        path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// Something is not deleted yet.
    #[error("run {run} still owns {users} users and {workspaces} workspaces; scalectl cleanup --run {run}")]
    NotEmpty {
        /// Whose.
        run: String,
        /// Users not deleted.
        users: usize,
        /// Workspaces not deleted.
        workspaces: usize,
    },
}

impl LedgerError {
    fn disk(path: &Path, error: &io::Error) -> Self {
        Self::Disk { path: path.to_owned(), error: error.to_string() }
    }
}

/// A ledger as it was found on the disk.
#[derive(Debug, Clone)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub contents: Contents,
}

/// Reads one ledger. What stands behind the last line's end is a write that a crash tore: it is not read.
/// `None` where even the first line is torn: it is synced before anything is made, so nothing was.
///
/// # Errors
/// It cannot be read, or another line than a torn last one says nothing.
pub fn read(path: &Path) -> Result<Option<Contents>, LedgerError> {
    Ok(file::read(path)?.map(|(contents, _)| contents))
}

/// Every ledger below the state folder, oldest run first by name. A folder without one is no Coder run.
///
/// # Errors
/// One that cannot be read: better to say so than to clean up half.
pub fn find(state: &Path) -> Result<Vec<Found>, LedgerError> {
    let folders = match std::fs::read_dir(state) {
        Ok(folders) => folders,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LedgerError::disk(state, &error)),
    };
    let mut paths: Vec<PathBuf> = folders
        .filter_map(Result::ok)
        // Links lead to what is not ours.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path().join(FILE_NAME))
        .filter(|path| std::fs::symlink_metadata(path).is_ok_and(|file| file.is_file()))
        .collect();
    paths.sort();
    let found = |path: PathBuf| Ok(read(&path)?.map(|contents| Found { path, contents }));
    paths.into_iter().filter_map(|path| found(path).transpose()).collect()
}

/// Whether a run's folder may be removed, as far as its ledger is concerned.
///
/// # Errors
/// The ledger is not empty, or cannot be read.
pub fn may_remove(folder: &Path) -> Result<(), LedgerError> {
    let path = folder.join(FILE_NAME);
    let contents = if std::fs::symlink_metadata(&path).is_ok() { read(&path)? } else { None };
    let Some(contents) = contents else { return Ok(()) };
    let left = |kind| contents.owned(kind).count();
    match (left(Kind::User), left(Kind::Workspace)) {
        (0, 0) => Ok(()),
        (users, workspaces) => Err(LedgerError::NotEmpty { run: contents.head.run, users, workspaces }),
    }
}
