//! What a test takes from the host: folders, ports, time, and what it does where something is
//! missing.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A folder that goes with the test.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "it makes something on the disk")]
    pub fn new() -> Self {
        Self::beneath(&std::env::temp_dir()).expect("a temporary folder")
    }

    /// An empty one to which nobody else has a way in: no folder above it is everybody's to write.
    pub fn private() -> Self {
        let homes = ["XDG_RUNTIME_DIR", "HOME"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
        let mut candidates = std::iter::once(PathBuf::from("/run")).chain(homes);
        candidates.find_map(|folder| Self::beneath(&folder).ok()).expect("a folder of the user's own")
    }

    fn beneath(folder: &Path) -> std::io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("scale-tests-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        // Whatever the umask: of lists and keys it matters who can write beside them.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self(path))
    }

    /// Where a file of it is.
    pub fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// Writes a file, which nobody else may read; its path as an argument.
    pub fn write(&self, file: &str, content: &str) -> String {
        let path = self.path(file);
        scale_api::private::write(&path, content.as_bytes()).expect("written");
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A port of 127.0.0.1 that nobody listens on, for programs that cannot choose one themselves.
/// Below those that the kernel gives out, so that no connection of the test takes it meanwhile.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test programs that run at once start far from one another.
    let start = std::process::id().wrapping_mul(101);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(number < COUNT, "no port is free");
        let port = (FIRST + start.wrapping_add(number) % COUNT) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Asks every 20 ms until there is an answer. Two minutes are for a machine that is very busy.
///
/// # Panics
/// There is none after that.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited two minutes for {what}")
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// A program of the host's, or of what `tests/peers.sh` installs into the repository.
/// `None`: it is not there, which is said on stderr.
///
/// # Panics
/// It is not there, and this is CI.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    present(name, folders.map(|folder| folder.join(name)).find(|path| path.is_file()))
}

/// A library that programs can be made to load; otherwise as [`installed`].
///
/// # Panics
/// It is not there, and this is CI.
pub fn installed_library(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/lib", "/usr/lib64"].into_iter().flat_map(|folder| {
        let below = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        below.chain([folder.into()])
    });
    present(name, folders.map(|folder| folder.join(name)).find(|path| path.is_file()))
}

/// A file that `tests/peers.sh` puts into the repository; otherwise as [`installed`].
///
/// # Panics
/// It is not there, and this is CI.
pub fn in_repository(name: &str) -> Option<PathBuf> {
    present(name, Some(root().join(name)).filter(|path| path.exists()))
}

/// The Python of `tests/peers.sh`'s environment, if `package` is in there; otherwise as [`installed`].
///
/// # Panics
/// It is not there, and this is CI.
pub fn python_with(package: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir(root().join(".venv/peers/lib")).into_iter().flatten().flatten();
    let mut packages = versions.map(|version| version.path().join("site-packages").join(package));
    present(&format!("{package} for Python"), packages.find(|path| path.is_dir()))?;
    in_repository(".venv/peers/bin/python")
}

fn present(name: &str, found: Option<PathBuf>) -> Option<PathBuf> {
    if found.is_none() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let why = format!("{test}: skipped, {name} is not there; tests/peers.sh installs it");
        assert!(std::env::var_os("CI").is_none(), "{why}");
        // Not by a macro, whose output is kept back where a test passes.
        let _ = writeln!(std::io::stderr(), "{why}");
    }
    found
}
