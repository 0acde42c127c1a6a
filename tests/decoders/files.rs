//! Files that users and operators write, nearly right: run files, scenarios, lists of targets, the daemon's own.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use scale_tests::decoders::run_file::check;
use scale_tests::host::root;
use scale_tests::repository::{files, read};

/// Lines of lists and of the daemon's own file.
const LINES: [&str; 24] = [
    "[[target]]",
    "[[coder]]",
    "host = \"gw.example.com\"",
    "host = \"*.example.com\"",
    "host = \"\"",
    "addresses = [\"10.0.0.0/8\"]",
    "addresses = [\"::/0\", \"0.0.0.0/0\"]",
    "addresses = [\"10.0.0.1\"]",
    "addresses = []",
    "ports = [443, 8443]",
    "ports = [0, 65535]",
    "ports = [70000]",
    "streams_max = 20000",
    "streams_max = -1",
    "streams_max = 18446744073709551615",
    "actions = [\"users\", \"workspaces\"]",
    "socket = \"/run/scaled/control.sock\"",
    "metrics = \"off\"",
    "metrics = \"127.0.0.1:21112\"",
    "cores = \"1-3,9\"",
    "realtime = \"fifo\"",
    "runs_kept_max = 5",
    "runs_bytes_max = \"2GB\"",
    "state = \"\\u0000\"",
];

/// The examples of the documentation, each of which is one kind of file.
fn examples() -> Vec<String> {
    let texts: Vec<String> = files("docs/examples", ".toml").iter().map(|path| read(path)).collect();
    assert!(texts.len() >= 5, "{}", root().display());
    texts
}

#[test]
fn the_examples_hold_to_the_rules() {
    examples().iter().for_each(|text| check(text));
}

proptest! {
    #[test]
    fn lists_and_settings_are_read_or_refused(lines in vec(select(&LINES[..]), 0..10)) {
        check(&lines.join("\n"));
    }

    #[test]
    fn an_example_with_a_line_gone_another_moved_and_a_piece_changed_is_read_or_refused(
        which in any::<prop::sample::Index>(),
        (gone, from, to) in any::<(prop::sample::Index, prop::sample::Index, prop::sample::Index)>(),
        (at, with) in (any::<prop::sample::Index>(), "[0-9a-z%/\"\\[\\]\\-.=\u{0}é]{0,3}"),
    ) {
        let examples = examples();
        let text = which.get(&examples);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.remove(gone.index(lines.len()));
        let line = lines.remove(from.index(lines.len()));
        lines.insert(to.index(lines.len() + 1), line);
        let mut text = lines.join("\n");
        let mut at = at.index(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let until = text[at..].chars().next().map_or(at, |next| at + next.len_utf8());
        text.replace_range(at..until, &with);
        check(&text);
    }
}
