use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// A keeper over a disk of the test's own making.
struct Scratch {
    keeper: Keeper,
    disk: Arc<Disk>,
}

/// What the disk is like, and what it has taken.
#[derive(Default)]
struct Disk {
    is_full: AtomicBool,
    /// Held by the test: the disk stands still.
    gate: Mutex<()>,
    taken: Mutex<Vec<Kind>>,
}

impl Scratch {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("scaled-keeper-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let disk = Arc::new(Disk::default());
        let its = disk.clone();
        let keeper = Keeper::over(Store::open(root).unwrap(), move |job, say| {
            drop(its.gate.lock().unwrap());
            if its.is_full.load(Ordering::Relaxed) {
                return say(Err("x is not kept whole: No space left".into()));
            }
            its.taken.lock().unwrap().push(job.kind());
            say(Ok(()));
        });
        Self { keeper, disk }
    }

    fn fill(&self, is_full: bool) {
        self.disk.is_full.store(is_full, Ordering::Relaxed);
    }

    fn taken(&self, kind: Kind) -> usize {
        self.disk.taken.lock().unwrap().iter().filter(|&&taken| taken == kind).count()
    }

    /// Asks until it says so; a thread may be late, and no test waits for a time.
    fn until(&mut self, mut is: impl FnMut(&mut Keeper) -> bool) {
        while !is(&mut self.keeper) {
            std::thread::yield_now();
        }
    }

    fn is_idle(&mut self) {
        self.until(|keeper| {
            keeper.hear();
            keeper.handed.is_empty()
        });
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.keeper.store.root());
    }
}

fn later(seconds: u64) -> Time {
    host::monotonic_now() + Duration::from_secs(seconds)
}

fn report(id: &str) -> Report {
    let mut report = Report::default();
    report.run.id = id.into();
    report
}

#[test]
fn a_checkpoint_waits_the_longer_the_more_it_costs() {
    let mut scratch = Scratch::new("cost");
    scratch.keeper.begin("r1-0");
    let now = host::monotonic_now();
    let seconds = |seconds| now + Duration::from_secs(seconds);
    for (cpu_ms, first) in [(5, 1), (10, 1), (30, 3), (1_000_000, 10)] {
        scratch.keeper.checkpoint(Report::default(), now, cpu_ms * 1_000_000);
        scratch.until(|keeper| keeper.is_checkpoint_due(seconds(100)));
        let due = (1..100).find(|&second| scratch.keeper.is_checkpoint_due(seconds(second)));
        assert_eq!(due, Some(first), "one that took {cpu_ms} ms");
    }
}

#[test]
fn a_full_disk_is_said_once_to_the_run_stands_as_a_warning_and_goes_once_there_is_room() {
    let mut scratch = Scratch::new("full");
    scratch.keeper.begin("r1-0");
    scratch.is_idle();
    scratch.fill(true);
    (1..=20).for_each(|_| scratch.keeper.row(SeriesRow::default()));
    scratch.is_idle();
    let troubles = scratch.keeper.troubles();
    assert!(troubles.len() == 1 && troubles[0].contains("No space left; the run goes on"), "{troubles:?}");
    let now = host::monotonic_now();
    assert!(scratch.keeper.warnings(now)[0].contains("No space left"), "{:?}", scratch.keeper.warnings(now));
    assert_eq!(scratch.keeper.condition(now), (false, 20));
    assert_eq!(scratch.keeper.settle(), [""; 0], "it has been told");
    // The result is held, and served.
    let why = scratch.keeper.end(report("r1-0"), Some(b"{}".to_vec())).unwrap_err();
    assert!(why.contains("the report is not kept") && why.contains("it is held"), "{why}");
    assert!(scratch.keeper.held(Some("r1-0")).unwrap().warnings[0].contains("it is held"));
    assert_eq!(scratch.keeper.held(None).unwrap().run.id, "r1-0");
    assert_eq!(scratch.keeper.held_histograms(None).unwrap(), b"{}");
    assert_eq!(scratch.keeper.held_runs()[0].id, "r1-0");
    assert!(scratch.keeper.warnings(later(0)).iter().any(|why| why.contains("results of r1-0")));
    // It is tried again, but not at once.
    scratch.fill(false);
    scratch.keeper.poll(host::monotonic_now());
    assert_eq!(scratch.taken(Kind::End), 0);
    scratch.keeper.poll(later(6));
    scratch.is_idle();
    assert_eq!((scratch.taken(Kind::End), scratch.keeper.warnings(later(0))), (1, Vec::new()));
    assert!(scratch.keeper.held(None).is_none());
    assert!(scratch.keeper.condition(later(0)).0);
}

#[test]
fn without_a_result_to_keep_the_folder_itself_is_tried() {
    let mut scratch = Scratch::new("tried");
    scratch.fill(true);
    scratch.keeper.begin("r1-0");
    scratch.is_idle();
    scratch.keeper.settle();
    scratch.keeper.poll(later(6));
    scratch.is_idle();
    assert!(!scratch.keeper.warnings(later(0)).is_empty());
    scratch.fill(false);
    scratch.keeper.poll(later(12));
    scratch.is_idle();
    assert_eq!((scratch.taken(Kind::Try), scratch.keeper.warnings(later(0))), (1, Vec::new()));
}

#[test]
fn a_disk_that_stands_still_is_waited_for_no_longer_than_is_promised() {
    let mut scratch = Scratch::new("still");
    scratch.keeper.begin("r1-0");
    scratch.is_idle();
    let disk = scratch.disk.clone();
    let gate = disk.gate.lock().unwrap();
    let began = host::monotonic_now();
    for _ in 0..10 * QUEUE_MAX {
        scratch.keeper.row(SeriesRow::default());
    }
    assert_eq!(scratch.keeper.warnings(host::monotonic_now()), [""; 0], "it may be on its way");
    scratch.keeper.poll(later(3));
    let warnings = scratch.keeper.warnings(later(3));
    assert!(warnings[0].contains("is slow") && warnings[0].contains(" s; runs go on"), "{warnings:?}");
    let troubles = scratch.keeper.settle();
    assert!(troubles.iter().any(|why| why.contains("seconds are missing")), "{troubles:?}");
    assert!(troubles.iter().any(|why| why.contains("last seconds may be missing")), "{troubles:?}");
    let why = scratch.keeper.end(report("r1-0"), None).unwrap_err();
    assert!(why.contains("has not answered"), "{why}");
    let took = host::monotonic_now().since(began);
    // Twice the wait, and what a busy machine adds.
    assert!(took < 2 * ANSWER_WAIT + Duration::from_secs(5), "{took:?}");
    // More runs than are held: the newest are, and the memory is bounded.
    for id in 2..=9 {
        let _ = scratch.keeper.end(report(&format!("r{id}-0")), None);
    }
    assert!(scratch.keeper.held.len() <= HELD_MAX + 1);
    assert_eq!(scratch.keeper.held(None).unwrap().run.id, "r9-0");
    drop(gate);
    scratch.is_idle();
    while !scratch.keeper.held.is_empty() {
        scratch.keeper.poll(later(100));
        std::thread::yield_now();
    }
    assert_eq!(scratch.keeper.warnings(host::monotonic_now()), [""; 0]);
}

#[test]
fn a_result_that_is_held_can_be_removed() {
    let mut scratch = Scratch::new("removed");
    scratch.fill(true);
    assert!(scratch.keeper.end(report("r1-0"), None).is_err());
    assert!(scratch.keeper.forget("r1-0") && !scratch.keeper.forget("r1-0"));
    assert!(scratch.keeper.held(Some("r1-0")).is_none());
}
