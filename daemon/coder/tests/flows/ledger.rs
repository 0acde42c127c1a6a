//! The ledger's file: torn anywhere it still says what stands before the tear, and can be gone on with.

use scale_coder::ledger::{self, Head, Kind, Ledger, LedgerError, Stage};

use crate::{Folder, now};

fn head(run: &str) -> Head {
    Head {
        run: run.into(),
        at: now(),
        url: "https://coder.example.com/".into(),
        deployment: Some("d1".into()),
        mark: "mark".into(),
    }
}

/// A ledger with something in each stage.
async fn written(folder: &Folder) -> Ledger {
    let ledger = Ledger::create(&folder.0.join("r1-0"), head("r1-0")).unwrap();
    for n in 0..3 {
        let name = format!("scaletest-r1-0-{n}");
        ledger.intent(now(), Kind::User, &name, None).await.unwrap();
        ledger.made(Kind::User, &name, &format!("user-{n}"), false).unwrap();
        ledger.intent(now(), Kind::Workspace, &name, Some(&name)).await.unwrap();
    }
    ledger.made(Kind::Workspace, "scaletest-r1-0-0", "workspace-ü", false).unwrap();
    ledger.made(Kind::Workspace, "scaletest-r1-0-1", "workspace-1", false).unwrap();
    ledger.deleted(Kind::Workspace, "scaletest-r1-0-1").unwrap();
    ledger
}

#[tokio::test]
async fn what_was_written_is_read_back() {
    let folder = Folder::new();
    let ledger = written(&folder).await;
    let (contents, path) = (ledger.contents(), ledger.path().to_owned());
    ledger.close().await.unwrap();
    assert_eq!(ledger::read(&path).unwrap().as_ref(), Some(&contents));
    let stage = |kind, n: u32| contents.entry(kind, &format!("scaletest-r1-0-{n}")).unwrap().stage.clone();
    assert_eq!(stage(Kind::Workspace, 0), Stage::Made("workspace-ü".into()));
    assert_eq!(stage(Kind::Workspace, 1), Stage::Deleted);
    assert_eq!(stage(Kind::Workspace, 2), Stage::Intended);
    assert_eq!((contents.owned(Kind::User).count(), contents.owned(Kind::Workspace).count()), (3, 2));
    assert!(contents.head.is_of("https://other.example.com", Some("d1")));
    assert!(contents.head.is_of("https://CODER.example.com", None));
    assert!(!contents.head.is_of("https://coder.example.com", Some("d2")));
    assert_eq!(ledger::find(&folder.0).unwrap().len(), 1);
    assert!(ledger::find(&folder.0.join("nowhere")).unwrap().is_empty());
}

#[tokio::test]
async fn an_intent_is_on_the_disk_when_it_returns() {
    let folder = Folder::new();
    let ledger = Ledger::create(&folder.0.join("r1-0"), head("r1-0")).unwrap();
    for n in 0..50 {
        let name = format!("scaletest-r1-0-{n}");
        ledger.intent(now(), Kind::User, &name, None).await.unwrap();
        assert_eq!(ledger::read(ledger.path()).unwrap().unwrap().owned(Kind::User).count(), n + 1);
    }
}

#[tokio::test]
async fn torn_at_any_byte_it_says_what_stands_before_the_tear_and_goes_on() {
    let (folder, torn) = (Folder::new(), Folder::new());
    let ledger = written(&folder).await;
    let from = ledger.path().to_owned();
    ledger.close().await.unwrap();
    let bytes = std::fs::read(&from).unwrap();
    let first = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let path = torn.0.join("coder.jsonl");
    for length in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        if length < first {
            // The first line is synced before anything is made: without it there is nothing to clean up.
            assert_eq!(ledger::read(&path).unwrap(), None, "{length}");
            ledger::may_remove(&torn.0).unwrap();
            continue;
        }
        let whole = bytes[..length].iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
        let lines = bytes[..whole].iter().filter(|&&byte| byte == b'\n').count();
        let before = ledger::read(&path).unwrap().unwrap();
        let ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.contents(), before, "{length}");
        ledger.intent(now(), Kind::User, "scaletest-r1-0-9", None).await.unwrap();
        ledger.close().await.unwrap();
        let after = std::fs::read(&path).unwrap();
        assert!(after.starts_with(&bytes[..whole]), "{length}: what was whole is kept");
        assert_eq!(after.iter().filter(|&&byte| byte == b'\n').count(), lines + 1, "{length}");
        let contents = ledger::read(&path).unwrap().unwrap();
        assert_eq!(contents.all().count(), before.all().count() + 1, "{length}");
    }
}

#[tokio::test]
async fn a_host_that_lost_power_may_leave_zeros_behind() {
    let folder = Folder::new();
    let ledger = written(&folder).await;
    let (path, contents) = (ledger.path().to_owned(), ledger.contents());
    ledger.close().await.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend([0; 512]);
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(Ledger::open(&path).unwrap().contents(), contents);
}

#[tokio::test]
async fn damage_before_the_last_line_is_named_and_not_passed_over() {
    let folder = Folder::new();
    let ledger = written(&folder).await;
    let path = ledger.path().to_owned();
    ledger.close().await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    for (line, with) in
        [(2, "{\"op\":\"inte"), (3, "{\"op\":\"made\",\"kind\":\"user\",\"name\":\"x\",\"id\":\"1\"}")]
    {
        let mut lines: Vec<&str> = text.lines().collect();
        lines[line - 1] = with;
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let error = ledger::find(&folder.0).unwrap_err();
        assert!(error.to_string().contains(&format!("damaged in line {line}")), "{error}");
        assert!(ledger::may_remove(&folder.0.join("r1-0")).is_err(), "what cannot be read is not removed");
    }
}

#[tokio::test]
async fn there_is_one_ledger_a_run() {
    let folder = Folder::new();
    written(&folder).await.close().await.unwrap();
    assert!(matches!(Ledger::create(&folder.0.join("r1-0"), head("r1-0")), Err(LedgerError::Disk { .. })));
}

#[test]
fn what_a_runtime_had_no_time_to_write_is_written_when_the_ledger_is_dropped() {
    let folder = Folder::new();
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ledger = runtime().block_on(async {
        let ledger = written(&folder).await;
        ledger.deleted(Kind::User, "scaletest-r1-0-0").unwrap();
        ledger
    });
    let (path, contents) = (ledger.path().to_owned(), ledger.contents());
    drop(ledger);
    assert_eq!(ledger::read(&path).unwrap(), Some(contents));
}
