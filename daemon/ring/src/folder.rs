//! A folder whose names are followed nowhere: files in it are opened, renamed and removed by the folder's own descriptor
//! (openat(2)), and a name that is a link, a pipe or a second name of another file is refused.
//!
//! Who may write in the folder can lose us what is in it; he cannot have us write, read or remove anything outside it.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Folders that are made: the owner's, and its group's to read.
pub const FOLDER_MODE: u32 = 0o750;
/// Files that are made.
pub const FILE_MODE: u32 = 0o640;

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    descriptor: File,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder at `path`. Its last name may not be a link; those before it are the caller's to trust.
    ///
    /// # Errors
    /// It is not there, is no folder, or is a link to one.
    pub fn open(path: &Path) -> io::Result<Self> {
        let name = terminated(path.as_os_str().as_bytes())?;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let descriptor = open_at(libc::AT_FDCWD, &name, flags)?;
        Ok(Self { descriptor, path: path.to_owned() })
    }

    /// The same of a path that is the operator's own: a link in its last place is followed, too.
    ///
    /// # Errors
    /// It is not there, or is no folder.
    pub fn followed(path: &Path) -> io::Result<Self> {
        Self::open(&fs::canonicalize(path)?)
    }

    /// As [`Self::open`], made where it is missing.
    ///
    /// # Errors
    /// As for [`Self::open`]; it cannot be made.
    pub fn make(path: &Path) -> io::Result<Self> {
        match fs::DirBuilder::new().mode(FOLDER_MODE).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Self::open(path),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file to read it.
    ///
    /// # Errors
    /// It is not there, or is no plain file.
    pub fn read(&self, name: &str) -> io::Result<File> {
        plain(self.at(name, libc::O_RDONLY)?)
    }

    /// What is in a file.
    ///
    /// # Errors
    /// As for [`Self::read`]; it is longer than `most` bytes.
    pub fn content(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.read(name)?.take(most + 1).read_to_end(&mut content)?;
        if content.len() as u64 > most {
            return Err(io::Error::new(
                ErrorKind::FileTooLarge,
                format!("{name} has more than {most} bytes"),
            ));
        }
        Ok(content)
    }

    /// Opens a file to append to it; it is made where it is missing.
    ///
    /// # Errors
    /// It is no plain file, or has a second name.
    pub fn append(&self, name: &str) -> io::Result<File> {
        let file = plain(self.at(name, libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT)?)?;
        if file.metadata()?.nlink() > 1 {
            return Err(io::Error::new(
                ErrorKind::PermissionDenied,
                format!("{name} is a file's second name"),
            ));
        }
        Ok(file)
    }

    /// Writes a file whole or not at all: what stood under its name, a link as well, is replaced.
    /// The file, which is not synced.
    ///
    /// # Errors
    /// The disk's.
    pub fn replace(&self, name: &str, content: &[u8]) -> io::Result<File> {
        let new = format!("{name}.new");
        // What a former try has left, or somebody planted.
        let _ = self.remove(&new);
        let written = self.at(&new, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL).and_then(|mut file| {
            file.write_all(content)?;
            self.rename(&new, name)?;
            Ok(file)
        });
        if written.is_err() {
            let _ = self.remove(&new);
        }
        written
    }

    /// Gives a file another name in this folder, over what has it.
    ///
    /// # Errors
    /// It is not there.
    pub fn rename(&self, old: &str, new: &str) -> io::Result<()> {
        let (old, new) = (terminated(old.as_bytes())?, terminated(new.as_bytes())?);
        let folder = self.descriptor.as_raw_fd();
        // SAFETY: both names end with a zero byte and live across the call.
        checked(unsafe { libc::renameat(folder, old.as_ptr(), folder, new.as_ptr()) }).map(drop)
    }

    /// Removes a file, or a link itself.
    ///
    /// # Errors
    /// It is not there, or is a folder.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let name = terminated(name.as_bytes())?;
        // SAFETY: the name ends with a zero byte and lives across the call.
        checked(unsafe { libc::unlinkat(self.descriptor.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
    }

    /// Waits until the names in it are on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self) -> io::Result<()> {
        self.descriptor.sync_all()
    }

    fn at(&self, name: &str, flags: libc::c_int) -> io::Result<File> {
        let name = terminated(name.as_bytes())?;
        // A pipe that nobody writes would keep the open waiting.
        open_at(self.descriptor.as_raw_fd(), &name, flags | libc::O_NOFOLLOW | libc::O_NONBLOCK)
    }
}

fn open_at(folder: libc::c_int, name: &CStr, flags: libc::c_int) -> io::Result<File> {
    // SAFETY: the name ends with a zero byte and lives across the call.
    let opened = unsafe { libc::openat(folder, name.as_ptr(), flags | libc::O_CLOEXEC, FILE_MODE) };
    let descriptor = checked(opened)?;
    // SAFETY: it was opened above, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

fn plain(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(ErrorKind::InvalidInput, "it is there and no file"))
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn terminated(name: &[u8]) -> io::Result<CString> {
    CString::new(name).map_err(|_| ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    /// A folder of a test's own with `outside` beside it, which nothing may change.
    fn scratch(name: &str) -> (PathBuf, Folder) {
        let root = std::env::temp_dir().join(format!("scale-folder-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("outside"), "theirs").unwrap();
        let folder = Folder::make(&root.join("ours")).unwrap();
        (root, folder)
    }

    #[test]
    fn files_are_written_whole_read_and_appended_to() {
        let (root, folder) = scratch("plain");
        folder.replace("a", b"one").unwrap();
        folder.replace("a", b"two").unwrap();
        folder.append("b").unwrap().write_all(b"x").unwrap();
        folder.append("b").unwrap().write_all(b"y").unwrap();
        assert_eq!(
            (folder.content("a", 3).unwrap(), folder.content("b", 9).unwrap()),
            (b"two".into(), b"xy".into())
        );
        assert_eq!(folder.content("a", 2).unwrap_err().kind(), ErrorKind::FileTooLarge);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&root.join("ours")) & !FOLDER_MODE, 0);
        assert_eq!(mode(&root.join("ours/a")) & !FILE_MODE, 0);
        folder.remove("a").unwrap();
        assert_eq!(folder.read("a").unwrap_err().kind(), ErrorKind::NotFound);
        assert!(Folder::make(&root.join("outside")).is_err(), "a file is no folder");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn links_lead_nowhere() {
        let (root, folder) = scratch("links");
        let outside = || fs::read_to_string(root.join("outside")).unwrap();
        for name in ["a", "a.new", "b"] {
            symlink(root.join("outside"), root.join("ours").join(name)).unwrap();
        }
        assert!(folder.read("b").is_err() && folder.append("b").is_err());
        folder.replace("a", b"ours").unwrap();
        assert_eq!((outside().as_str(), folder.content("a", 9).unwrap()), ("theirs", b"ours".into()));
        folder.remove("b").unwrap();
        assert_eq!(outside(), "theirs");
        symlink(root.join("ours"), root.join("link")).unwrap();
        assert!(Folder::open(&root.join("link")).is_err() && Folder::make(&root.join("link")).is_err());
        assert!(Folder::followed(&root.join("link")).is_ok());
        // The folder that was opened stays the one that is written, whatever takes its name.
        fs::rename(root.join("ours"), root.join("moved")).unwrap();
        symlink("/nowhere", root.join("ours")).unwrap();
        folder.replace("c", b"ours").unwrap();
        assert!(root.join("moved/c").exists());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_is_no_plain_file_is_refused_at_once() {
        let (root, folder) = scratch("others");
        assert!(Command::new("mkfifo").arg(root.join("ours/pipe")).status().unwrap().success());
        assert!(folder.read("pipe").is_err() && folder.append("pipe").is_err());
        fs::hard_link(root.join("outside"), root.join("ours/second")).unwrap();
        assert!(folder.append("second").unwrap_err().to_string().contains("second name"));
        folder.replace("second", b"ours").unwrap();
        assert_eq!(fs::read_to_string(root.join("outside")).unwrap(), "theirs");
        fs::remove_dir_all(root).unwrap();
    }
}
