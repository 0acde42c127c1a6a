//! Small text files below a root: `/`, or a recorded tree.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// More of a file is not read: a host with a full routing table has a large one.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// More entries of a folder are not looked at.
const ENTRIES_MAX: usize = 20_000;
/// The kernel's own most (CONFIG_NR_CPUS).
const CORES_MAX: usize = 8192;

/// A root.
pub struct Tree<'a>(pub &'a Path);

impl Tree<'_> {
    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    pub fn text(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        File::open(self.path(path)).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file's one line; `None` where it is empty.
    pub fn line(&self, path: &str) -> Option<String> {
        self.text(path).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    pub fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.split_whitespace().next()?.parse().ok()
    }

    pub fn numbers(&self, path: &str) -> Option<Vec<u64>> {
        self.text(path)?.split_whitespace().map(|word| word.parse().ok()).collect()
    }

    pub fn three(&self, path: &str) -> Option<[u64; 3]> {
        self.numbers(path)?.try_into().ok()
    }

    pub fn cores(&self, path: &str) -> Vec<usize> {
        self.text(path).map_or_else(Vec::new, |text| cores(&text))
    }

    pub fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Names in a folder, ascending.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(folder)) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .take(ENTRIES_MAX)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names
    }

    /// Names in a folder that are `prefix` and a number: the numbers, ascending.
    pub fn numbered(&self, folder: &str, prefix: &str) -> Vec<usize> {
        let names = self.names(folder);
        let mut numbers: Vec<usize> =
            names.iter().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// `0-3,8` as cores, ascending (the list format of cpuset(7)).
pub fn cores(text: &str) -> Vec<usize> {
    list(text, CORES_MAX)
}

/// `0-3,8` as numbers up to `most`, ascending.
pub fn list(text: &str, most: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = text
        .trim()
        .split(',')
        .filter_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            Some(from.trim().parse::<usize>().ok()?..=to.trim().parse::<usize>().ok()?.min(most))
        })
        .flatten()
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
