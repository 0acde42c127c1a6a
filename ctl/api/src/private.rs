//! Files that hold a secret: who may read them, and bytes of theirs that are wiped when they are dropped.
//!
//! A secret that everybody on the host can read is none. As `ssh` does with keys, such a file is refused, with the command
//! that mends it. A file of the reader's own is for nobody else (0600); one of root's may be for a group as well (0640), as
//! an administrator hands a secret to a service. Exempt is what has no mode that says anything: pipes, descriptors that the
//! shell passes, and systemd's credentials, whose folder is the service's own (systemd.exec(5), CREDENTIALS).

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Room for what comes through a pipe.
const PIPED_BYTES: u64 = 64 << 10;
/// With as much room left, the end of a file is looked for in place, not by way of a buffer on the stack.
const SPARE_BYTES: usize = 64;

/// Opens a file that holds a secret.
///
/// # Errors
/// It cannot be read, or is to be read or changed by others; what to do about it.
pub fn open(path: &Path) -> Result<File, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if metadata.is_file() && !is_handed_over(path) {
        check(path, &metadata, effective_uid())?;
    }
    Ok(file)
}

/// What is in a file that holds a secret, and no more of it than `most` bytes and one.
///
/// # Errors
/// As for [`open`].
pub fn read(path: &Path, most: u64) -> Result<Content, String> {
    let mut content = Content::default();
    let file = open(path)?;
    // As large as it will be at once: what grows leaves copies behind. A pipe does not say how long it is.
    let length = file.metadata().ok().filter(Metadata::is_file).map_or(PIPED_BYTES, |file| file.len());
    content.0.reserve(usize::try_from(length.min(most)).unwrap_or(0) + SPARE_BYTES);
    file.take(most + 1).read_to_end(&mut content.0).map_err(|error| error.to_string())?;
    Ok(content)
}

/// Systemd's folder of this process's credentials.
pub fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// A descriptor that whoever started us has opened, or a credential.
fn is_handed_over(path: &Path) -> bool {
    let passed = ["/dev/fd/", "/dev/stdin", "/proc/self/fd/"]
        .iter()
        .any(|start| path.to_str().is_some_and(|path| path.starts_with(start)));
    passed || credentials().is_some_and(|folder| path.starts_with(folder))
}

fn check(path: &Path, file: &Metadata, me: Option<u32>) -> Result<(), String> {
    const ROOT: u32 = 0;
    const OTHERS: u32 = 0o007;
    const GROUP: u32 = 0o070;
    const GROUP_WRITES: u32 = 0o020;
    let (owner, mode, at) = (file.uid(), file.mode() & 0o777, path.display());
    if owner != ROOT && me.is_some_and(|me| owner != me) {
        return Err(format!(
            "it holds a secret and belongs to user {owner}, who can read and change it; chown {} {at}",
            me.unwrap_or(ROOT)
        ));
    }
    let too_much = if owner == ROOT { OTHERS | GROUP_WRITES } else { OTHERS | GROUP };
    if mode & too_much == 0 {
        return Ok(());
    }
    let mend = if owner == ROOT && mode & OTHERS == 0 { "g-w" } else { "600" };
    Err(format!("it holds a secret and others may read or change it (mode {mode:04o}); chmod {mend} {at}"))
}

/// Who we are (proc(5)); `None` without /proc.
fn effective_uid() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Makes a file that holds a secret, for its owner alone; one that is there keeps its mode.
///
/// # Errors
/// The disk's.
pub fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file?.write_all(content)
}

/// Overwrites bytes, though nobody reads them afterwards.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // The stores are not left out for being the last ones.
    std::hint::black_box(bytes);
}

/// What was in a file: wiped when it is dropped, and not printed, for it may be a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content(Vec<u8>);

impl Drop for Content {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl<const N: usize> From<[u8; N]> for Content {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes.into())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_that_others_may_read_is_refused_with_the_command_that_mends_it() {
        let path = std::env::temp_dir().join(format!("scale-api-private-{}", std::process::id()));
        write(&path, b"canary").unwrap();
        let me = effective_uid().expect("/proc is there");
        let mode = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            open(&path).map(drop)
        };
        assert_eq!((mode(0o600), mode(0o400)), (Ok(()), Ok(())));
        for wide in [0o604, 0o644, 0o602, 0o666, 0o660] {
            let error = mode(wide).unwrap_err();
            assert!(error.contains(&format!("{wide:04o}")) && error.contains("; chmod "), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
        // A group may read what root gives it, and nobody else's.
        assert_eq!(mode(0o640).is_ok(), me == 0);
        assert_eq!(mode(0o440).is_ok(), me == 0);
        let file = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            fs::metadata(&path).unwrap()
        };
        let (private, mine) = (file(0o600), Some(me));
        assert!(check(&path, &private, mine).is_ok());
        let others = check(&path, &private, Some(me + 1));
        assert_eq!(others.is_ok(), me == 0, "root's file is for everybody whom its mode lets: {others:?}");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_the_shell_or_systemd_hands_over_is_taken_as_it_is() {
        for path in ["/dev/stdin", "/dev/fd/63", "/proc/self/fd/0"] {
            assert!(is_handed_over(Path::new(path)), "{path}");
        }
        for path in ["/dev/shm/token", "/etc/token", "dev/fd/1"] {
            assert!(!is_handed_over(Path::new(path)), "{path}");
        }
        assert!(open(Path::new("/dev/null")).is_ok(), "no file, no mode");
    }

    #[test]
    fn content_is_neither_printed_nor_longer_than_asked_for() {
        let path = std::env::temp_dir().join(format!("scale-api-content-{}", std::process::id()));
        write(&path, b"canary").unwrap();
        let content = read(&path, 100).unwrap();
        assert_eq!((&*content, format!("{content:?}")), (&b"canary"[..], "6 bytes".to_owned()));
        assert_eq!(read(&path, 3).unwrap().len(), 4, "one more, so that it shows");
        assert!(read(Path::new("/nowhere"), 3).unwrap_err().contains("No such file"));
        fs::remove_file(path).unwrap();
        let mut bytes = *b"canary";
        wipe(&mut bytes);
        assert_eq!(bytes, [0; 6]);
    }
}
