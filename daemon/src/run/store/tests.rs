use std::os::unix::fs::symlink;

use scale_api::report::SeriesRow;
use scale_api::spec::Spec;

use super::*;
use crate::run::series::Series;

/// A store in a folder of its own, which goes with it.
pub(super) struct Scratch(pub Store);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("scaled-store-{name}-{}", std::process::id()));
        Self(Store::open(root).unwrap())
    }

    /// As a daemon finds it that starts.
    fn reopened(&self) -> Store {
        Store::open(self.0.root.clone()).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0.root);
    }
}

/// A run that owns a user, as its ledger says.
pub(super) fn own(store: &Store, id: &str) {
    let line = r#"{"op":"intent","at":"2026-01-01T00:00:00Z","kind":"user","name":"scaletest-r1000-0-0"}"#;
    let head = format!(
        r#"{{"op":"run","run":"{id}","at":"2026-01-01T00:00:00Z","url":"http://c","deployment":null,"mark":"m"}}"#
    );
    fs::write(store.folder(id).join(ledger::FILE_NAME), format!("{head}\n{line}\n")).unwrap();
}

fn read(store: &Store, id: &str) -> Report {
    serde_json::from_slice(&store.report(Some(id)).unwrap()).unwrap()
}

fn leave(store: &Store, id: &str, checkpoint: &Report, rows: u64) {
    let folder = store.folder(id);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(CHECKPOINT), serde_json::to_vec(checkpoint).unwrap()).unwrap();
    let line = |second: u64| {
        let row = SeriesRow { at: second as f64, seconds: 1, messages_sent: 7, ..SeriesRow::default() };
        serde_json::to_string(&row).unwrap() + "\n"
    };
    fs::write(folder.join(SERIES), (1..=rows).map(line).collect::<String>()).unwrap();
}

#[test]
fn a_run_that_was_cut_off_has_a_report_after_the_next_start() {
    let scratch = Scratch::new("cut-off");
    let store = &scratch.0;
    let id = store.new_id(1000);
    let mut report = Report::default();
    report.run.id = id.clone();
    (report.run.started_at, report.run.ended_at) = (1000.0, 1005.1);
    report.total.messages_sent = 42;
    leave(store, &id, &report, 5);
    assert!(store.report(Some(&id)).is_none());
    let store = scratch.reopened();
    assert_eq!(store.cut_off(), std::slice::from_ref(&id));
    let kept = read(&store, &id);
    assert_eq!((kept.total.messages_sent, kept.verdict.exit_code), (42, 5));
    assert_eq!((kept.series.len(), kept.series[4].at), (5, 5.0));
    assert!(kept.warnings.is_empty(), "figures and series are of the same second: {:?}", kept.warnings);
    assert_eq!(store.list().len(), 1);
    assert!(store.remove("../x") == Ok(false) && store.report(Some("../x")).is_none());
    own(&store, &id);
    assert!(store.remove(&id).unwrap_err().contains("still owns 1 users"));
    assert_eq!(store.owned(), Ok(BTreeMap::from([(id.clone(), 1)])));
    fs::remove_file(store.folder(&id).join(ledger::FILE_NAME)).unwrap();
    assert!(scratch.reopened().cut_off().is_empty(), "it has a report now");
    assert_eq!(store.remove(&id), Ok(true));
}

#[test]
fn a_series_that_goes_on_behind_the_last_checkpoint_is_the_runs_and_the_report_says_so() {
    let scratch = Scratch::new("behind");
    let mut report = Report::default();
    report.run.id = "r1000-0".into();
    (report.run.started_at, report.run.ended_at) = (1000.0, 1005.1);
    leave(&scratch.0, "r1000-0", &report, 9);
    let kept = read(&scratch.reopened(), "r1000-0");
    assert_eq!((kept.series.len(), kept.run.ended_at), (9, 1009.0));
    assert!(kept.warnings[0].contains("of second 5") && kept.warnings[0].contains("second 9"));
}

#[test]
fn a_run_that_left_only_its_run_file_was_cut_off_too() {
    let scratch = Scratch::new("run-file");
    let folder = scratch.0.folder("r1000-3");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(RUN_FILE), "name = \"x\"\n[[group]]\ntarget = [\"ws://a\"]\nconns = 5\n").unwrap();
    let kept = read(&scratch.reopened(), "r1000-3");
    assert_eq!((kept.run.started_at, kept.run.name.as_deref()), (1000.0, Some("x")));
    assert_eq!((kept.spec.group[0].conns, kept.verdict.exit_code), (Some(5), 5));
}

#[test]
fn a_report_of_an_earlier_version_is_read_and_listed() {
    let scratch = Scratch::new("earlier");
    let store = &scratch.0;
    let id = "r1795780381-0";
    fs::create_dir_all(store.folder(id)).unwrap();
    let text = include_bytes!("report-of-0.1.json");
    fs::write(store.folder(id).join(REPORT), text).unwrap();
    let report = read(store, id);
    assert_eq!((report.series.len(), report.series[1].messages_sent, report.series[1].seconds), (2, 50, 0));
    assert!(report.percentiles.is_empty() && report.verdict.thresholds[0].ok);
    let mut series = Series::default();
    report.series.into_iter().for_each(|row| series.push(row));
    assert_eq!(series.rows()[1].seconds, 1, "each row was a second");
    let listed = &store.list()[0];
    assert_eq!(
        (listed.name.as_deref(), listed.state.as_str(), listed.exit_code),
        (Some("nightly"), "passed", Some(0))
    );
    assert_eq!((listed.bytes, listed.duration.round() as u64), (text.len() as u64, 2));
}

#[test]
fn runs_are_in_the_order_in_which_they_began() {
    let scratch = Scratch::new("order");
    for id in ["r1000-10", "r1000-2", "r999-0"] {
        let mut report = Report::default();
        report.run.id = id.into();
        scratch.0.write(&report).unwrap();
    }
    let ids: Vec<String> = scratch.0.list().into_iter().map(|run| run.id).collect();
    assert_eq!(ids, ["r999-0", "r1000-2", "r1000-10"]);
    assert_eq!(scratch.0.last().unwrap().id, "r1000-10");
}

/// What is beside the state folder, and stays as it is whatever stands in there.
fn outside(scratch: &Scratch) -> PathBuf {
    let outside = scratch.0.root().with_extension("outside");
    let _ = fs::remove_dir_all(&outside);
    fs::create_dir_all(&outside).unwrap();
    let mut report = Report::default();
    (report.run.id, report.run.name) = ("r5-0".into(), Some("theirs".into()));
    fs::write(outside.join(REPORT), serde_json::to_vec(&report).unwrap()).unwrap();
    fs::write(outside.join(RUN_FILE), "name = \"theirs\"\n[[group]]\ntarget = [\"ws://a\"]\n").unwrap();
    outside
}

#[test]
fn links_in_the_state_folder_are_neither_read_nor_written_nor_removed_through() {
    let scratch = Scratch::new("links");
    let store = &scratch.0;
    let outside = outside(&scratch);
    let before = fs::read(outside.join(REPORT)).unwrap();
    // A run's folder that is a link.
    symlink(&outside, store.folder("r5-0")).unwrap();
    // A run's folder whose files are links.
    let folder = store.folder("r6-0");
    fs::create_dir(&folder).unwrap();
    for name in [REPORT, RUN_FILE, CHECKPOINT, SERIES, PAGE, "report.json.new", ledger::FILE_NAME] {
        symlink(outside.join(if name == RUN_FILE { RUN_FILE } else { REPORT }), folder.join(name)).unwrap();
    }
    let store = scratch.reopened();
    for id in ["r5-0", "r6-0"] {
        let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap_or_default()).unwrap();
        assert!(!text(store.report(Some(id))).contains("theirs"), "{id} was read through a link");
        assert!(!text(store.page(Some(id))).contains("theirs"), "{id} was read through a link");
    }
    assert!(store.list().iter().all(|run| run.name.is_none()), "{:?}", store.list());
    let mut report = Report::default();
    report.run.id = "r6-0".into();
    store.write(&report).unwrap();
    store.write_page("r6-0", b"ours").unwrap();
    report.run.id = "r5-0".into();
    assert!(store.write(&report).is_err(), "its folder is a link");
    assert_eq!(store.remove("r5-0"), Ok(false), "a link is no run");
    // Its ledger is a link, and so may be anything.
    let _ = store.remove("r6-0");
    store.prune(crate::settings::Keep { runs_max: 0, bytes_max: 0 }, None);
    assert_eq!(fs::read(outside.join(REPORT)).unwrap(), before);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 2, "nothing came there, and nothing went");
    fs::remove_dir_all(outside).unwrap();
}

#[test]
fn what_a_loss_of_power_leaves_is_closed_and_the_report_says_what_was_damaged() {
    let whole = serde_json::to_vec(&Report {
        run: scale_api::report::Run {
            id: "r1000-0".into(),
            ended_at: 1003.0,
            started_at: 1000.0,
            ..Default::default()
        },
        ..Report::default()
    })
    .unwrap();
    let row = |second: u64| {
        let row = SeriesRow { at: second as f64, seconds: 1, ..SeriesRow::default() };
        serde_json::to_string(&row).unwrap() + "\n"
    };
    let rows: String = (1..=3).map(row).collect();
    let half = &whole[..whole.len() / 2];
    let zeros = vec![0; 5000];
    let run_file = "[[group]]\ntarget = [\"ws://a\"]\n";
    // What stands in checkpoint.json, in series.jsonl and in report.json; how many rows are left, and what is said.
    type Case<'a> = (&'a [u8], &'a [u8], Option<&'a [u8]>, usize, &'a str);
    let cases: [Case<'_>; 8] = [
        (&whole, &rows.as_bytes()[..rows.len() - 5], None, 2, ""),
        (half, rows.as_bytes(), None, 3, "checkpoint.json of this run is damaged"),
        (b"", rows.as_bytes(), None, 3, "checkpoint.json of this run is damaged"),
        (&zeros, &zeros, None, 0, "checkpoint.json of this run is damaged"),
        (&whole, &zeros, None, 0, ""),
        (&whole, b"", None, 0, ""),
        (&whole, rows.as_bytes(), Some(&zeros), 3, "report.json of this run was damaged"),
        (half, rows.as_bytes(), Some(b""), 3, "report.json of this run was damaged"),
    ];
    for (number, (checkpoint, series, report, left, said)) in cases.into_iter().enumerate() {
        let scratch = Scratch::new("power");
        let folder = scratch.0.folder("r1000-0");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(RUN_FILE), run_file).unwrap();
        fs::write(folder.join(CHECKPOINT), checkpoint).unwrap();
        fs::write(folder.join(SERIES), series).unwrap();
        if let Some(report) = report {
            fs::write(folder.join(REPORT), report).unwrap();
        }
        let kept = read(&scratch.reopened(), "r1000-0");
        assert_eq!((kept.verdict.exit_code, kept.series.len()), (5, left), "case {number}");
        assert!(
            kept.warnings.iter().any(|warning| warning.contains(said)) || said.is_empty(),
            "case {number}: {:?}",
            kept.warnings
        );
        assert!(scratch.reopened().cut_off().is_empty(), "case {number}: it has a report now");
        assert_eq!(folder.join("report.json.damaged").exists(), report.is_some(), "case {number}");
    }
}

#[test]
fn a_report_of_a_newer_version_is_listed_and_said_to_be_one() {
    let scratch = Scratch::new("newer");
    let folder = scratch.0.folder("r7-0");
    fs::create_dir_all(&folder).unwrap();
    let text = r#"{"schema":9,"run":{"id":"r7-0","name":"later","started_at":7,"ended_at":9,"more":{}},"spec":{"unheard_of":1},"verdict":{"outcome":"splendid","exit_code":42,"reasons":{}}}"#;
    fs::write(folder.join(REPORT), text).unwrap();
    let store = scratch.reopened();
    assert!(store.cut_off().is_empty(), "it is no run that was cut off");
    let listed = &store.list()[0];
    assert_eq!(
        (listed.name.as_deref(), listed.state.as_str(), listed.exit_code),
        (Some("later"), NEWER, Some(42))
    );
    assert_eq!(store.report(Some("r7-0")).unwrap(), text.as_bytes());
}

#[test]
fn words_of_a_newer_version_under_the_same_schema_cost_nothing_else() {
    let text = r#"{"schema":1,"run":{"id":"r7-0","more":1},"spec":{"unheard_of":1},"verdict":{"exit_code":99,"outcome":"failed"},"total":{"messages_sent":5,"more":[]}}"#;
    let report: Report = serde_json::from_str(text).unwrap();
    assert_eq!((report.total.messages_sent, report.spec, report.verdict.exit_code), (5, Spec::default(), 99));
}

#[test]
fn a_folder_of_somebody_else_is_refused_by_who_is_not_root_and_one_that_is_a_file_by_all() {
    let file = std::env::temp_dir().join(format!("scaled-store-file-{}", std::process::id()));
    fs::write(&file, "").unwrap();
    assert!(Store::open(file.join("runs")).is_err() && Store::open(file.clone()).is_err());
    fs::remove_file(file).unwrap();
    if host::effective_uid() != 0 {
        let error = Store::open("/var".into()).unwrap_err().to_string();
        assert!(error.contains("belongs to user 0"), "{error}");
    }
}
