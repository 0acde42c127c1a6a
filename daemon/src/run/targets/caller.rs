//! Who asks, and what users and groups are called on this host.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use scale_api::report::StartedBy;

/// `/etc/passwd` and `/etc/group` are read so far.
const ACCOUNTS_BYTES_MAX: u64 = 4 << 20;

/// The peer of the control socket, as the kernel knew it when it connected (SO_PEERCRED, SO_PEERGROUPS; unix(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its process; 0: of another namespace.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its other groups.
    pub groups: Arc<[u32]>,
}

impl Caller {
    /// Whether it is of this group.
    pub fn is_of(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// For a report, with the name that `/etc/passwd` has.
    pub fn started_by(&self) -> StartedBy {
        let user = Accounts::users().name(self.uid);
        StartedBy { uid: self.uid, gid: self.gid, pid: self.pid, user }
    }
}

/// The text of `/etc/passwd` or `/etc/group` (passwd(5), group(5)): name, password, number, and more. Names of other
/// sources (NSS) are not looked up: a directory service that is slow or lies decides nothing here.
pub struct Accounts(String);

impl Accounts {
    /// Users; none where the file cannot be read.
    pub fn users() -> Self {
        Self::read(Path::new("/etc/passwd"))
    }

    /// Groups; none where the file cannot be read.
    pub fn groups() -> Self {
        Self::read(Path::new("/etc/group"))
    }

    fn read(path: &Path) -> Self {
        let mut bytes = Vec::new();
        if let Ok(file) = std::fs::File::open(path) {
            // What is missing is a name that nobody has.
            let _ = file.take(ACCOUNTS_BYTES_MAX).read_to_end(&mut bytes);
        }
        Self(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn entries(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, number) = (fields.next()?, fields.nth(1)?);
            // `+` and `-` begin lines about NIS.
            let is_name = !name.is_empty() && !name.starts_with(['+', '-', '#']);
            Some((name, number.parse().ok()?)).filter(|_| is_name)
        })
    }

    /// What number `id` is called; the first where there are several.
    pub fn name(&self, id: u32) -> Option<String> {
        self.entries().find(|(_, known)| *known == id).map(|(name, _)| name.to_owned())
    }

    /// Whose number `name` is.
    pub fn id(&self, name: &str) -> Option<u32> {
        self.entries().find(|(known, _)| *known == name).map(|(_, id)| id)
    }
}

#[cfg(test)]
impl Accounts {
    /// For tests.
    pub fn of(text: &str) -> Self {
        Self(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_those_of_the_text() {
        let accounts =
            Accounts::of("root:x:0:0:root:/root:/bin/sh\nalice:x:1001:1001::/:\n+nis:x:7:\nbad\nal:x:x:\n");
        assert_eq!((accounts.id("alice"), accounts.name(1001).as_deref()), (Some(1001), Some("alice")));
        assert_eq!((accounts.id("root"), accounts.name(0).as_deref()), (Some(0), Some("root")));
        assert_eq!((accounts.id("+nis"), accounts.id("al"), accounts.name(7)), (None, None, None));
    }

    #[test]
    fn a_caller_is_of_its_own_group_and_of_the_others() {
        let caller = Caller { pid: 1, uid: 7, gid: 8, groups: [9, 10].into() };
        assert!(caller.is_of(8) && caller.is_of(10) && !caller.is_of(7));
        assert_eq!(caller.started_by().uid, 7);
    }
}
