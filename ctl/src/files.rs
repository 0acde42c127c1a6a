//! What `scalectl` knows and the daemon does not: the caller's files, and who the caller is.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use scale_api::private::{self, Content};
use scale_api::spec::{File, GroupSpec, Observe, fill};
use scale_api::target::Target;
use scale_api::units::Bytes;

use crate::client::Failure;

/// Files of a run, all together: they travel in one request, and the daemon has its own limit.
pub const FILES_BYTES_MAX: u64 = 30 << 20;
/// Files that rows name, of one flag.
const ROW_FILES_MAX: usize = 100_000;

/// Reads a file with the caller's own rights, and no more of it than `most` bytes.
///
/// # Errors
/// It cannot be read, or is longer.
pub fn read(path: &Path, word: &str, most: u64) -> Result<Vec<u8>, Failure> {
    let wrong = |why: String| cannot_read(path, word, &why);
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut content = Vec::new();
    file.take(most + 1).read_to_end(&mut content).map_err(|error| wrong(error.to_string()))?;
    if content.len() as u64 > most {
        return Err(wrong(too_long()));
    }
    Ok(content)
}

/// The same of a file that a run names. One that holds a secret is refused where others may read it.
fn content(path: &Path, word: &str, most: u64) -> Result<Content, Failure> {
    if !SECRETS.contains(&word.trim_start_matches("--")) {
        return read(path, word, most).map(Content::from);
    }
    let content = private::read(path, most).map_err(|why| cannot_read(path, word, &why))?;
    if content.len() as u64 > most {
        return Err(cannot_read(path, word, &too_long()));
    }
    Ok(content)
}

fn cannot_read(path: &Path, word: &str, why: &str) -> Failure {
    Failure::usage(format!("{word}: cannot read {}: {why}", path.display()))
}

fn too_long() -> String {
    format!("the files of a run have at most {} together", Bytes(FILES_BYTES_MAX))
}

/// Words whose files hold secrets.
const SECRETS: [&str; 6] =
    ["header-file", "key", "ssh-identity", "ssh-password-file", "ssh-passphrase-file", "observe.header_file"];

/// The systemd credential that stands for a `header_file` of `[observe]` where none is given.
const OBSERVE_CREDENTIAL: &str = "prometheus-headers";

/// Reads the files of `[observe]`, from `folder`; `credentials`: systemd's folder of them, if there is one.
///
/// # Errors
/// A file cannot be read, or is too long.
pub fn hand_over_observe(
    observe: Option<&mut Observe>,
    folder: &Path,
    credentials: Option<&Path>,
) -> Result<(), Failure> {
    let Some(observe) = observe else { return Ok(()) };
    if observe.header_file.is_none() {
        let credential = credentials.map(|folder| folder.join(OBSERVE_CREDENTIAL));
        observe.header_file = credential.filter(|path| path.exists()).map(File::new);
    }
    for (word, file) in observe.files_mut() {
        file.content = Some(content(&folder.join(&file.path), word, FILES_BYTES_MAX)?);
    }
    Ok(())
}

/// What a flag calls stdout.
pub const STDOUT: &str = "-";

/// Writes a file with the caller's own rights, whole or not at all: its content takes the name's place when it is complete.
/// A link's file is written, not the link; `-` is stdout.
///
/// # Errors
/// It cannot be written, or the name is of something that is no file.
pub fn write(path: &Path, word: &str, content: &[u8]) -> Result<(), Failure> {
    if path.as_os_str() == STDOUT {
        crate::print(content);
        return Ok(());
    }
    let wrong = |why: String| cannot_write(path, word, &why);
    let (to, old) = place(path, word)?;
    let new = beside(&to);
    let written = fs::File::create_new(&new).and_then(|mut file| {
        file.write_all(content)?;
        if let Some(old) = &old {
            file.set_permissions(old.permissions())?;
        }
        fs::rename(&new, &to)
    });
    written.map_err(|error| {
        // Where it could not even be made, there is nothing to remove.
        let _ = fs::remove_file(&new);
        wrong(error.to_string())
    })
}

/// Whether [`write`] will find what it needs, before what is to be written costs any time.
///
/// # Errors
/// As for [`write`].
pub fn check(path: &Path, word: &str) -> Result<(), Failure> {
    if path.as_os_str() == STDOUT {
        return Ok(());
    }
    let new = beside(&place(path, word)?.0);
    let made = fs::File::create_new(&new).and_then(|_| fs::remove_file(&new));
    made.map_err(|error| cannot_write(path, word, &error.to_string()))
}

fn cannot_write(path: &Path, word: &str, why: &str) -> Failure {
    Failure::usage(format!("{word}: cannot write {}: {why}", path.display()))
}

/// The file that is meant by a name, and what it is now.
fn place(path: &Path, word: &str) -> Result<(PathBuf, Option<fs::Metadata>), Failure> {
    let wrong = |why: String| cannot_write(path, word, &why);
    match fs::metadata(path) {
        Ok(old) if !old.is_file() => {
            Err(wrong("it is there and no file; give another name, or - for stdout".into()))
        }
        Ok(old) => Ok((fs::canonicalize(path).map_err(|error| wrong(error.to_string()))?, Some(old))),
        Err(_) if path.is_symlink() => {
            Err(wrong("it is a link to nothing; remove it, or name its file".into()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok((path.into(), None)),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// A name in the same folder that nobody else takes.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.new", std::process::id()))
}

/// Completes groups with what only the caller has: the files that they name, from `folder`, and the
/// user of SSH targets that name none, who is the caller, as for `ssh`.
///
/// # Errors
/// A file cannot be read, they are too long together, or nobody knows the caller's name.
pub fn hand_over<'a>(
    groups: impl Iterator<Item = &'a mut GroupSpec>,
    folder: &Path,
    credentials: Option<&Path>,
) -> Result<(), Failure> {
    let mut room = FILES_BYTES_MAX;
    for group in groups {
        for target in &mut group.target {
            // Whether it is one that names nobody does not depend on who it is.
            if Target::with_user(target, "somebody").is_some() {
                let user = caller()?;
                *target = Target::with_user(target, &user).unwrap_or_else(|| std::mem::take(target));
            }
        }
        if let Some(credentials) = credentials {
            stand_in(group, credentials);
        }
        read_files(group, folder, &mut room)?;
    }
    Ok(())
}

/// Systemd's credentials stand for the files that a group does not name, where its targets ask for such; `folder`: of this
/// process's credentials.
fn stand_in(group: &mut GroupSpec, folder: &Path) {
    let credential = |name: &str| Some(folder.join(name)).filter(|path| path.exists()).map(File::new);
    let has = |scheme: &str| group.target.iter().any(|target| target.starts_with(scheme));
    let (is_ssh, is_tls, is_web) = (has("ssh:"), has("wss:"), has("ws:") || has("wss:"));
    if is_ssh && group.ssh_identity.is_empty() && group.ssh_password_file.is_none() {
        group.ssh_identity.extend(credential("ssh-key"));
        group.ssh_password_file = credential("ssh-password");
        if !group.ssh_identity.is_empty() && group.ssh_passphrase_file.is_none() {
            group.ssh_passphrase_file = credential("ssh-passphrase");
        }
    }
    if is_tls
        && group.key.is_none()
        && group.cert.is_none()
        && let (Some(cert), Some(key)) = (credential("tls-cert"), credential("tls-key"))
    {
        (group.cert, group.key) = (Some(cert), Some(key));
    }
    if is_web && group.header_file.is_none() {
        group.header_file = credential("headers");
    }
}

fn read_files(group: &mut GroupSpec, folder: &Path, room: &mut u64) -> Result<(), Failure> {
    let mut take = |path: &Path, word: &str| {
        let content = content(&folder.join(path), &format!("--{word}"), *room)?;
        *room -= content.len() as u64;
        Ok::<_, Failure>(content)
    };
    let by_row: Vec<_> = group.login_files().map(|(_, file)| file.clone()).filter(File::is_by_row).collect();
    for (word, file) in group.files_mut() {
        if !by_row.contains(file) {
            file.content = Some(take(&file.path, word)?);
        }
    }
    let Some(rows) = group.rows.as_ref().and_then(|file| file.content.clone()) else { return Ok(()) };
    for (word, file) in group.files_mut().filter(|(_, file)| by_row.contains(file)) {
        for path in row_paths(&rows, file)? {
            file.by_row.insert(path.clone(), take(Path::new(&path), word)?);
        }
    }
    Ok(())
}

/// The paths that the rows of a table make of a file's, each once.
fn row_paths(rows: &[u8], file: &File) -> Result<Vec<String>, Failure> {
    let wrong = |error: csv::Error| Failure::usage(format!("--rows: {error}"));
    let mut reader = csv::Reader::from_reader(rows);
    let columns = reader.headers().map_err(wrong)?.clone();
    let path = file.path.to_string_lossy();
    let mut paths = BTreeMap::new();
    for row in reader.records() {
        let row = row.map_err(wrong)?;
        let value = |name: &str| {
            let column = columns.iter().position(|column| column == name);
            Ok::<_, Failure>(column.and_then(|column| row.get(column)).map(str::to_owned))
        };
        paths.insert(fill(&path, value)?, ());
        if paths.len() > ROW_FILES_MAX {
            return Err(Failure::usage(format!(
                "{path}: --rows names more than {ROW_FILES_MAX} files; let rows share them"
            )));
        }
    }
    Ok(paths.into_keys().collect())
}

/// Who runs this program, as `ssh` has it: by the user's number, else by what the shell says.
fn caller() -> Result<String, Failure> {
    let uid = std::fs::metadata("/proc/self").map(|of| of.uid().to_string());
    let table = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let by_number = uid.ok().and_then(|uid| name_of(&table, &uid));
    let by_shell = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    by_number
        .or(by_shell)
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Failure::usage("this host has no name for you; write ssh://user@host"))
}

/// The name of user number `uid` in a table as passwd(5) has it.
fn name_of(table: &str, uid: &str) -> Option<String> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("scalectl-{name}-{}", std::process::id()));
        for (file, content) in files {
            let path = folder.join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            private::write(&path, content.as_bytes()).expect("written");
        }
        folder
    }

    #[test]
    fn files_are_read_once_a_row_that_names_them_and_the_caller_is_the_user() {
        let files = [("rows.csv", "user,key\nann,a\nbob,b\ncid,a\n"), ("keys/a", "A"), ("keys/b", "B")];
        let folder = folder("rows", &files);
        let mut group = GroupSpec {
            target: vec!["ssh://{user}@h".into(), "ssh://h,2".into(), "ws://h".into()],
            rows: Some(File::new("rows.csv")),
            ssh_identity: vec![File::new("keys/{key}")],
            known_hosts: Some(File::new("keys/a")),
            ..GroupSpec::default()
        };
        hand_over(std::iter::once(&mut group), &folder, None).expect("all is there");
        assert_eq!((group.target[0].as_str(), group.target[2].as_str()), ("ssh://{user}@h", "ws://h"));
        assert_eq!(group.target[1], format!("ssh://{}@h,2", caller().expect("tests run as somebody")));
        let by_row = [("keys/a".to_owned(), (*b"A").into()), ("keys/b".to_owned(), (*b"B").into())];
        assert_eq!(group.ssh_identity[0].by_row, by_row.into());
        assert_eq!(group.known_hosts.and_then(|file| file.content).as_deref(), Some(&b"A"[..]));
        group.ssh_identity = vec![File::new("keys/{user}")];
        group.known_hosts = None;
        let failure = hand_over(std::iter::once(&mut group), &folder, None).expect_err("no key of that name");
        assert!(failure.message.contains("--ssh-identity") && failure.message.contains("keys/ann"));
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn headers_for_the_prometheus_come_from_the_file_or_from_the_credential() {
        let folder = folder("observe", &[("own", "A: own"), ("c/prometheus-headers", "A: credential")]);
        let credentials = folder.join("c");
        let read = |file: Option<&str>, credentials: Option<&Path>| {
            let mut observe = Observe { header_file: file.map(File::new), ..Observe::default() };
            hand_over_observe(Some(&mut observe), &folder, credentials).map(|()| observe.header_file)
        };
        let content = |file: Option<File>| file.and_then(|file| file.content);
        assert_eq!(
            content(read(Some("own"), Some(&credentials)).expect("read")).as_deref(),
            Some(&b"A: own"[..])
        );
        assert_eq!(
            content(read(None, Some(&credentials)).expect("read")).as_deref(),
            Some(&b"A: credential"[..])
        );
        assert_eq!(read(None, Some(&folder)).expect("none is asked for"), None);
        assert_eq!(read(None, None).expect("none is asked for"), None);
        let failure = read(Some("other"), None).expect_err("it is not there");
        assert!(failure.message.contains("observe.header_file"), "{}", failure.message);
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused_and_what_is_none_is_not() {
        let folder = folder("wide", &[("key", "K"), ("ca", "C"), ("h", "A: b")]);
        let wide = |name: &str, mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(folder.join(name), mode).expect("ours");
        };
        ["key", "ca", "h"].into_iter().for_each(|name| wide(name, 0o644));
        let with = |file: fn(&mut GroupSpec) -> &mut Option<File>, name: &str| {
            let mut group = GroupSpec { target: vec!["wss://h".into()], ..GroupSpec::default() };
            *file(&mut group) = Some(File::new(name));
            hand_over(std::iter::once(&mut group), &folder, None).map_err(|failure| failure.message)
        };
        assert_eq!(with(|group| &mut group.ca, "ca"), Ok(()));
        for (file, name, word) in [
            ((|group| &mut group.key) as fn(&mut GroupSpec) -> &mut Option<File>, "key", "--key"),
            (|group| &mut group.header_file, "h", "--header-file"),
            (|group| &mut group.ssh_password_file, "key", "--ssh-password-file"),
            (|group| &mut group.ssh_passphrase_file, "key", "--ssh-passphrase-file"),
        ] {
            let said = with(file, name).expect_err(word);
            assert!(said.contains(word) && said.contains("; chmod 600 "), "{said}");
        }
        let mut group = GroupSpec { ssh_identity: vec![File::new("key")], ..GroupSpec::default() };
        assert!(hand_over(std::iter::once(&mut group), &folder, None).is_err());
        wide("key", 0o600);
        assert!(hand_over(std::iter::once(&mut group), &folder, None).is_ok());
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn credentials_stand_for_the_files_that_a_group_needs_and_does_not_name() {
        let names = ["ssh-key", "ssh-passphrase", "ssh-password", "tls-cert", "tls-key", "headers"];
        let folder = folder("credentials", &names.map(|name| (name, name)));
        let with = |target: &str, change: fn(&mut GroupSpec)| {
            let mut group = GroupSpec { target: vec![target.into()], ..GroupSpec::default() };
            change(&mut group);
            stand_in(&mut group, &folder);
            let mut named: Vec<String> =
                group.files_mut().map(|(word, file)| format!("{word}={}", file.path.display())).collect();
            named.iter_mut().for_each(|file| *file = file.replace(&format!("{}/", folder.display()), ""));
            named.sort_unstable();
            named
        };
        let ssh =
            ["ssh-identity=ssh-key", "ssh-passphrase-file=ssh-passphrase", "ssh-password-file=ssh-password"];
        assert_eq!(with("ssh://a@h", |_| ()), ssh);
        assert_eq!(with("wss://h", |_| ()), ["cert=tls-cert", "header-file=headers", "key=tls-key"]);
        assert_eq!(with("ws://h", |_| ()), ["header-file=headers"]);
        assert_eq!(with("tcp://h", |_| ()), [""; 0]);
        assert_eq!(
            with("ssh://a@h", |group| group.ssh_identity = vec![File::new("own")]),
            ["ssh-identity=own"]
        );
        let own = |group: &mut GroupSpec| group.header_file = Some(File::new("own"));
        assert_eq!(with("ws://h", own), ["header-file=own"]);
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_file_is_written_whole_or_left_as_it_was() {
        let folder = folder("write", &[("old.html", "old"), ("folder/inner", "")]);
        let content = |name: &str| std::fs::read_to_string(folder.join(name)).expect("it is there");
        std::os::unix::fs::symlink("old.html", folder.join("link.html")).expect("linked");
        std::os::unix::fs::symlink("gone/x.html", folder.join("broken.html")).expect("linked");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(folder.join("old.html"), private).expect("ours");
        write(&folder.join("new.html"), "--html", b"new").expect("written");
        write(&folder.join("link.html"), "--html", b"newer").expect("written through the link");
        assert_eq!((content("new.html"), content("old.html")), ("new".into(), "newer".into()));
        let link = std::fs::symlink_metadata(folder.join("link.html")).expect("it is there");
        let mode = std::fs::metadata(folder.join("old.html")).expect("it is there").mode() & 0o777;
        assert_eq!((link.is_symlink(), mode), (true, 0o600));
        for (name, why) in [
            ("folder", "no file; give another name"),
            ("broken.html", "a link to nothing"),
            ("missing/x.html", "No such file or directory"),
            ("new.html/x.html", "Not a directory"),
        ] {
            let checked = check(&folder.join(name), "--html").expect_err(name);
            let failure = write(&folder.join(name), "--html", b"x").expect_err(name);
            assert_eq!(checked.message, failure.message, "it is known before");
            assert!(
                failure.message.starts_with("--html: cannot write ") && failure.message.contains(why),
                "{name}: {}",
                failure.message
            );
        }
        check(&folder.join("new.html"), "--html").expect("it may be written again");
        check(&folder.join("other.html"), "--html").expect("and so may another");
        let failure = write(Path::new("/dev/null"), "--html", b"x").expect_err("a device");
        assert!(failure.message.contains("no file"), "{}", failure.message);
        let left: Vec<_> = std::fs::read_dir(&folder)
            .expect("it is there")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(left.len(), 5, "nothing half written is left: {left:?}");
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn the_callers_name_is_found_by_number() {
        let table = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nshort\n";
        assert_eq!(name_of(table, "1000").as_deref(), Some("ann"));
        assert_eq!((name_of(table, "1"), name_of("", "0")), (None, None));
    }
}
