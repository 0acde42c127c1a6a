//! A file that only trusted users can have changed: opened component by component, each looked at by
//! its own descriptor, so that nothing can be put in its place between the look and the read.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Symbolic links that are followed in all, as the kernel's own limit (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// Writable by the group or by others.
const OPEN_TO_OTHERS: u32 = 0o022;
/// In such a folder entries belong to their owners (the sticky bit, inode(7)).
const STICKY: u32 = 0o1000;

/// Why a file is not to be believed.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// It is not there.
    #[error("{} is not there", .0.display())]
    Absent(PathBuf),
    /// The kernel's own reason.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// What of the path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder, a device, a pipe.
    #[error("{} is no regular file; put one there", .0.display())]
    NotAFile(PathBuf),
    /// It, or a folder or link on the way, belongs to somebody else.
    #[error("{} belongs to uid {uid}, who could change it; chown {owners} {}", path.display(), path.display())]
    Owner {
        /// What of the path.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
        /// Whose it may be: `root:root`.
        owners: &'static str,
    },
    /// Others may write to it, or into a folder on the way.
    #[error("{} (mode {mode:04o}) can be changed by its group or by others; chmod {cure} {}", path.display(), path.display())]
    Writable {
        /// What of the path.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// For chmod(1).
        cure: &'static str,
    },
    /// Links that lead to links.
    #[error("{} leads through more than {LINKS_MAX} symbolic links; name the file itself", .0.display())]
    Links(PathBuf),
}

/// Opens the regular file at `path` for reading where it, each folder on the way, and each symbolic link that is
/// followed belong to root or to `uid`, and nobody else may write to them. A folder with the sticky bit may be
/// written to by others: what is in it is still its owner's.
///
/// # Errors
/// The first of these that is not so; the sentence says the command that mends it.
pub fn open(path: &Path, uid: u32) -> Result<(File, Metadata), Untrusted> {
    let path = std::path::absolute(path).map_err(|source| Untrusted::Io { path: path.into(), source })?;
    let mut ahead: VecDeque<OsString> = names(&path);
    let mut walk = Walk::root(uid)?;
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        match walk.enter(&name, ahead.is_empty())? {
            Step::Entered => {}
            Step::File(file, metadata) => return Ok((file, metadata)),
            Step::Link(to) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Untrusted::Links(path));
                }
                if to.is_absolute() {
                    walk = Walk::root(uid)?;
                }
                let mut names = names(&to);
                names.append(&mut ahead);
                ahead = names;
            }
        }
    }
    Err(Untrusted::NotAFile(path))
}

/// The names of a path, one by one; `..` is one of them.
fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

enum Step {
    Entered,
    File(File, Metadata),
    Link(PathBuf),
}

/// How far the way is known to be safe.
struct Walk {
    folder: File,
    path: PathBuf,
    uid: u32,
}

impl Walk {
    fn root(uid: u32) -> Result<Self, Untrusted> {
        let path = PathBuf::from("/");
        let io = |source| Untrusted::Io { path: path.clone(), source };
        let folder = File::open(&path).map_err(io)?;
        let metadata = folder.metadata().map_err(io)?;
        judge(&path, &metadata, uid)?;
        Ok(Self { folder, path, uid })
    }

    fn enter(&mut self, name: &OsStr, is_last: bool) -> Result<Step, Untrusted> {
        let path = if name == ".." {
            self.path.parent().unwrap_or(Path::new("/")).to_owned()
        } else {
            self.path.join(name)
        };
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Untrusted::Absent(path.clone()),
            _ => Untrusted::Io { path: path.clone(), source },
        };
        // The thing itself, whatever it is: opening a pipe or a device would have effects.
        let thing = open_at(&self.folder, name, libc::O_PATH | libc::O_NOFOLLOW).map_err(io)?;
        let metadata = thing.metadata().map_err(io)?;
        judge(&path, &metadata, self.uid)?;
        if metadata.is_symlink() {
            return read_link(&thing).map(Step::Link).map_err(io);
        }
        if metadata.is_dir() && !is_last {
            (self.folder, self.path) = (thing, path);
            return Ok(Step::Entered);
        }
        if !metadata.is_file() {
            return Err(Untrusted::NotAFile(path));
        }
        if !is_last {
            return Err(io(io::Error::from_raw_os_error(libc::ENOTDIR)));
        }
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = open_at(&self.folder, name, flags).map_err(io)?;
        // What is read is what is looked at: another file may have been put there by now.
        let metadata = file.metadata().map_err(io)?;
        judge(&path, &metadata, self.uid)?;
        if metadata.is_file() { Ok(Step::File(file, metadata)) } else { Err(Untrusted::NotAFile(path)) }
    }
}

fn judge(path: &Path, metadata: &Metadata, uid: u32) -> Result<(), Untrusted> {
    let path = path.to_owned();
    if ![0, uid].contains(&metadata.uid()) {
        let owners = if metadata.is_symlink() { "-h root:root" } else { "root:root" };
        return Err(Untrusted::Owner { path, uid: metadata.uid(), owners });
    }
    let mode = metadata.mode() & 0o7777;
    // A link has no permissions of its own.
    let is_shared = metadata.is_symlink() || (metadata.is_dir() && mode & STICKY != 0);
    if mode & OPEN_TO_OTHERS != 0 && !is_shared {
        return Err(Untrusted::Writable { path, mode, cure: "go-w" });
    }
    Ok(())
}

fn open_at(folder: &File, name: &OsStr, flags: i32) -> io::Result<File> {
    let name = CString::new(name.as_bytes())?;
    // SAFETY: the name is a C string that lives across the call, the folder's descriptor is open.
    let descriptor = unsafe { libc::openat(folder.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given it to us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }.into())
}

/// Where the link leads that `link` (O_PATH | O_NOFOLLOW) is (readlinkat(2), with an empty path).
fn read_link(link: &File) -> io::Result<PathBuf> {
    let mut bytes = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most the vector's length.
    let length =
        unsafe { libc::readlinkat(link.as_raw_fd(), c"".as_ptr(), bytes.as_mut_ptr().cast(), bytes.len()) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    bytes.truncate(length);
    Ok(OsString::from_vec(bytes).into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::host::effective_uid;

    /// A folder of its own below the system's temporary one, which has the sticky bit.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("scale-trusted-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            mode(&path, 0o755);
            std::fs::write(path.join("list"), "x").unwrap();
            mode(&path.join("list"), 0o644);
            Self(path)
        }

        fn open(&self, name: &str) -> Result<String, Untrusted> {
            let (file, _) = open(&self.0.join(name), effective_uid())?;
            Ok(io::read_to_string(file).unwrap())
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_of_ours_that_nobody_else_may_write_is_read() {
        let folder = Folder::new("plain");
        assert_eq!(folder.open("list").unwrap(), "x");
        assert_eq!(
            folder.open("../no-such/list").unwrap_err().to_string().matches("is not there").count(),
            1
        );
        assert!(matches!(folder.open("other"), Err(Untrusted::Absent(_))));
        assert!(matches!(folder.open(""), Err(Untrusted::NotAFile(_))));
        assert!(matches!(folder.open("list/x"), Err(Untrusted::Io { .. })));
    }

    #[test]
    fn whatever_others_may_write_on_the_way_is_refused_with_the_command() {
        let folder = Folder::new("open");
        let list = folder.0.join("list");
        for bits in [0o664, 0o646, 0o622] {
            mode(&list, bits);
            let why = folder.open("list").unwrap_err().to_string();
            assert!(why.contains(&format!("chmod go-w {}", list.display())), "{why}");
        }
        mode(&list, 0o644);
        mode(&folder.0, 0o775);
        let why = folder.open("list").unwrap_err().to_string();
        assert!(why.contains(&format!("chmod go-w {}", folder.0.display())), "{why}");
        mode(&folder.0, 0o1777);
        assert_eq!(folder.open("list").unwrap(), "x", "with the sticky bit entries are their owners'");
    }

    #[test]
    fn a_link_is_followed_as_long_as_every_part_is_safe() {
        let folder = Folder::new("link");
        symlink("list", folder.0.join("near")).unwrap();
        symlink(folder.0.join("near"), folder.0.join("far")).unwrap();
        assert_eq!(folder.open("far").unwrap(), "x");
        let unsafe_folder = folder.0.join("unsafe");
        std::fs::create_dir(&unsafe_folder).unwrap();
        std::fs::write(unsafe_folder.join("list"), "evil").unwrap();
        mode(&unsafe_folder, 0o777);
        symlink("unsafe/list", folder.0.join("to-unsafe")).unwrap();
        assert!(matches!(folder.open("to-unsafe"), Err(Untrusted::Writable { .. })));
        symlink("round", folder.0.join("round")).unwrap();
        assert!(matches!(folder.open("round"), Err(Untrusted::Links(_))));
        symlink("/dev/null", folder.0.join("device")).unwrap();
        let why = folder.open("device").unwrap_err().to_string();
        assert!(why.contains("no regular file") || why.contains("can be changed"), "{why}");
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        if effective_uid() != 0 {
            eprintln!("skipped: giving a file away needs root");
            return;
        }
        let folder = Folder::new("owner");
        let list = folder.0.join("list");
        std::os::unix::fs::chown(&list, Some(65534), None).unwrap();
        let why = open(&list, 0).unwrap_err().to_string();
        assert!(
            why.contains("uid 65534") && why.contains(&format!("chown root:root {}", list.display())),
            "{why}"
        );
        assert!(open(&list, 65534).is_ok(), "a user who runs it for himself has a list of his own");
        symlink("list", folder.0.join("link")).unwrap();
        std::os::unix::fs::chown(&list, Some(0), None).unwrap();
        std::os::unix::fs::lchown(folder.0.join("link"), Some(65534), None).unwrap();
        assert!(folder.open("link").unwrap_err().to_string().contains("chown -h"));
    }
}
