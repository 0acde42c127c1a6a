//! The repository keeps its own rules: who imports whom, where `unsafe` is, how long files are.
//! The arrows are read from docs/ARCHITECTURE.md, so that the map and the code cannot part.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use scale_tests::host::root;
use scale_tests::repository::{code, files, name, read};

/// A file that is longer tells more than one story.
const LINES_MAX: usize = 800;

fn architecture() -> String {
    read(&root().join("docs/ARCHITECTURE.md"))
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether `code` has `word` as a word of its own.
fn has_word(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(part) && !code[at + word.len()..].starts_with(part))
}

/// Names of our crates that a manifest depends on, for whatever purpose.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    manifest
        .iter()
        .filter(|(section, _)| section.ends_with("dependencies"))
        .filter_map(|(_, table)| table.as_table())
        .flat_map(|table| table.keys())
        .filter(|name| name.starts_with("scale"))
        .cloned()
        .collect()
}

#[test]
fn crates_import_what_the_architecture_says() {
    let page = architecture();
    let mut crates = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `scale")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let [name, folder, _, imports] = cells[..] else { panic!("four columns: {row}") };
        let one = |cell| quoted(cell).next().expect("a name in backticks").to_owned();
        let imports: BTreeSet<String> = quoted(imports).map(str::to_owned).collect();
        crates.insert(one(folder), (one(name), imports));
    }
    let workspace: toml::Table = read(&root().join("Cargo.toml")).parse().expect("TOML");
    let members = workspace["workspace"]["members"].as_array().expect("members");
    let members: BTreeSet<&str> = members.iter().filter_map(|member| member.as_str()).collect();
    assert_eq!(crates.keys().map(String::as_str).collect::<BTreeSet<_>>(), members, "each has its row");
    for (folder, (name, imports)) in crates {
        let manifest: toml::Table = read(&root().join(&folder).join("Cargo.toml")).parse().expect("TOML");
        assert_eq!(manifest["package"]["name"].as_str(), Some(name.as_str()));
        assert_eq!(dependencies(&manifest), imports, "{name} imports other crates than its row says");
    }
}

#[test]
fn system_calls_clocks_and_threads_have_one_home() {
    // Whoever needs these asks the ring; `bench` measures other engines on purpose.
    const OF_THE_RING: [&str; 2] = ["io-uring", "libc"];
    const ENGINES: [&str; 5] = ["hyper", "rustix", "socket2", "tokio", "tokio-uring"];
    for path in files("", "Cargo.toml") {
        let manifest: toml::Table = read(&path).parse().expect("TOML");
        let sections = manifest.get("dependencies").and_then(|table| table.as_table());
        let Some(sections) = sections else { continue };
        let (name, uses) = (name(&path), |of: &[&str]| of.iter().any(|other| sections.contains_key(*other)));
        assert_eq!(uses(&OF_THE_RING), name == "daemon/ring/Cargo.toml", "{name}");
        let small =
            ["ctl/Cargo.toml", "ctl/api/Cargo.toml", "daemon/proto/Cargo.toml", "daemon/ring/Cargo.toml"];
        assert!(!small.contains(&name.as_str()) || !uses(&ENGINES), "{name} brings an engine of its own");
    }
}

/// The daemon's modules in columns, from ARCHITECTURE.md; those of one column are apart.
fn columns() -> Vec<Vec<String>> {
    let page = architecture();
    let chain = quoted(&page).find(|text| text.starts_with("main → ")).expect("the daemon's arrows");
    let column = |names: &str| names.split(',').map(|name| name.trim().to_owned()).collect();
    chain.split('→').map(column).collect()
}

/// The modules of the daemon that `code` names: `crate::name` and `crate::{name, …}`, from the
/// binary `scaled::name`.
fn imports(code: &str, modules: &[&str]) -> Vec<String> {
    let starts = ["crate::", "scaled::"]
        .into_iter()
        .flat_map(|root| code.match_indices(root).map(move |(at, _)| &code[at + root.len()..]));
    let mut found = Vec::new();
    for path in starts {
        let group = path.strip_prefix('{').and_then(|rest| rest.split_once("};")).map(|(group, _)| group);
        let (path, nested) = (group.unwrap_or(path), group.is_some());
        let word = |text: &str| text.split(|c: char| !(c.is_alphanumeric() || c == '_')).next() == Some("");
        for &module in modules {
            let first = path.strip_prefix(module).is_some_and(word);
            if first || (nested && has_word(path, module)) {
                found.push(module.to_owned());
            }
        }
    }
    found
}

#[test]
fn the_daemons_modules_import_only_from_their_right() {
    let columns = columns();
    let modules: Vec<&str> = columns.iter().flatten().map(String::as_str).collect();
    let column = |module: &str| {
        columns.iter().position(|names| names.iter().any(|name| name == module)).unwrap_or_else(|| {
            panic!("daemon/src/{module} stands nowhere in the arrows of docs/ARCHITECTURE.md")
        })
    };
    let mut arrows = 0;
    for path in files("daemon/src", ".rs") {
        let name = name(&path);
        let module = name["daemon/src/".len()..].split(['/', '.']).next().expect("a first part");
        if module == "lib" {
            continue; // it names them all
        }
        let code = code(&read(&path));
        assert!(!code.contains("super::super"), "{name}: write crate::");
        for import in imports(&code, &modules) {
            arrows += 1;
            assert!(
                import == module || column(&import) > column(module),
                "{name} imports {import}, which stands to its left"
            );
        }
    }
    assert!(arrows > 20, "the arrows were looked for and {arrows} were found");
}

#[test]
fn only_the_ring_is_unsafe() {
    let mut ours = 0;
    for path in files("", ".rs") {
        let (name, code) = (name(&path), code(&read(&path)));
        let is_unsafe = has_word(&code, "unsafe") || has_word(&code, "unsafe_code");
        if name.starts_with("daemon/ring/") {
            ours += usize::from(is_unsafe);
        } else {
            assert!(!is_unsafe, "{name} has unsafe code; system calls and pointers belong to daemon/ring");
        }
    }
    assert!(ours > 0, "the ring's own was not seen, so nobody's would be");
}

#[test]
fn nothing_is_left_for_later() {
    for path in files("", ".rs") {
        let (name, code) = (name(&path), code(&read(&path)));
        let code: String = code.split_whitespace().collect();
        for word in ["todo!", "unimplemented!", "dbg!", "#[ignore", ",ignore)"] {
            assert!(!code.contains(word), "{name} has {word}");
        }
    }
}

#[test]
fn no_file_is_too_long_to_be_read() {
    for ending in [".rs", ".md", ".sh", ".py", ".js", "Cargo.toml", "run"] {
        for path in files("", ending) {
            let lines = read(&path).lines().count();
            assert!(lines <= LINES_MAX, "{} has {lines} lines, more than {LINES_MAX}", name(&path));
        }
    }
}

/// The files in which `path`'s module may be declared.
fn parents(path: &Path) -> Vec<std::path::PathBuf> {
    let folder = path.parent().expect("a folder");
    let folder = if path.ends_with("mod.rs") { folder.parent().expect("a folder") } else { folder };
    let beside = ["mod.rs", "lib.rs", "main.rs"].map(|file| folder.join(file));
    beside.into_iter().chain([folder.with_extension("rs")]).collect()
}

#[test]
fn every_file_of_code_belongs_to_a_program() {
    let manifests = files("", "Cargo.toml").iter().map(|path| read(path)).collect::<String>();
    for path in files("", ".rs") {
        let name = name(&path);
        let file = path.file_name().expect("a file").to_string_lossy().into_owned();
        let own = ["main.rs", "lib.rs"].contains(&file.as_str()) || name.contains("/src/bin/");
        // `cargo` finds a crate's tests/*.rs by itself; the others stand in a manifest.
        let test = name.ends_with(&format!("/tests/{file}")) && name != format!("tests/{file}");
        if own || test || manifests.contains(&format!("\"{}\"", name.trim_start_matches("tests/"))) {
            continue;
        }
        if manifests.contains(&format!("\"fuzz_targets/{file}\"")) {
            continue;
        }
        let module = if file == "mod.rs" { path.parent().expect("a folder") } else { &path };
        let declared = format!("mod {};", module.file_stem().expect("a name").to_string_lossy());
        let found =
            parents(&path).iter().any(|parent| parent.exists() && code(&read(parent)).contains(&declared));
        assert!(found, "{name} is in no module: `{declared}` stands nowhere");
    }
}
