//! SIGKILL of the daemon while it makes or deletes: after a restart, clean-up deletes exactly what was made.

use std::time::Duration;

use scale_tests::Daemon;
use scaled::load::random::Random;

use super::{Standin, create, outcome, texts};

/// Moments tried, of each kind.
const MOMENTS: u32 = 4;

/// Moments within the first `most` ms, always the same.
fn moments(seed: u64, most: u64) -> Vec<Duration> {
    let mut random = Random::new(seed);
    (0..MOMENTS).map(|_| Duration::from_millis(random.below(most))).collect()
}

/// SIGKILL, and a new daemon over the same state folder.
fn kill(daemon: &mut Daemon) {
    drop(daemon.process.take());
    daemon.begin();
}

fn clean_up(standin: &Standin, daemon: &Daemon, moment: Duration) {
    let (code, text, error) =
        standin.scalectl(daemon, &["--json", "cleanup", "--cleanup-concurrency", "0", "--yes"]);
    assert_eq!(code, 0, "killed after {moment:?}: {text}{error}");
    standin.assert_only_keepme();
}

#[test]
fn killed_at_any_moment_of_create_clean_up_finds_exactly_what_was_made() {
    let standin = Standin::start("build_time = '400ms'\nbuild_jitter = '400ms'\n", "");
    let mut daemon = Daemon::start();
    standin.make_keepme();
    for moment in moments(1, 1500) {
        let id = standin.begin(&daemon, &create("15", &["--no-cleanup"]));
        std::thread::sleep(moment);
        kill(&mut daemon);
        let (_, text, _) = texts(&daemon.scalectl(&["report", &id]));
        assert!(text.contains("the daemon was lost") || text.contains("passed"), "{moment:?}: {text}");
        clean_up(&standin, &daemon, moment);
    }
    standin.end();
}

#[test]
fn killed_at_any_moment_of_clean_up_the_next_one_goes_on() {
    let standin = Standin::start("build_time = '400ms'\nbuild_jitter = '400ms'\n", "");
    let mut daemon = Daemon::start();
    standin.make_keepme();
    for moment in moments(2, 1500) {
        let (code, report) = standin.flow(&daemon, &create("10", &["--no-cleanup"]));
        assert_eq!((code, outcome(&report).owned), (0, 20), "{:?}", report.verdict);
        standin.begin(&daemon, &["cleanup", "--cleanup-concurrency", "0"]);
        std::thread::sleep(moment);
        kill(&mut daemon);
        clean_up(&standin, &daemon, moment);
    }
    standin.end();
}
