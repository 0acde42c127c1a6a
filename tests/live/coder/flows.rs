//! What the flows do when nothing goes wrong, and when the deployment does.

use scale_api::http::RunSummary;
use scale_tests::Daemon;

use super::{Standin, create, outcome, texts};

fn runs(daemon: &Daemon) -> Vec<RunSummary> {
    serde_json::from_slice(&daemon.scalectl(&["--json", "runs"]).stdout).expect("a list")
}

#[test]
fn workspaces_are_made_kept_listed_and_deleted_and_nothing_else_is_touched() {
    let (standin, daemon) = (Standin::brisk(), Daemon::start());
    standin.make_keepme();
    let make = "create-workspaces --count 20 --template kubernetes --concurrency 0 --parameter home_disk_size=10 --no-cleanup --yes";
    let (code, text, error) = standin.scalectl(&daemon, &make.split(' ').collect::<Vec<_>>());
    assert_eq!(code, 0, "{text}{error}");
    let host = &standin.sink.address;
    for words in [
        &format!("20 users + 20 workspaces on {host} (v2.26.0); 0 people active now"),
        "20 of 20 workspaces succeeded",
        "this run still owns 40 users and workspaces",
        "agent ",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let (users, workspaces) = standin.there();
    assert_eq!((users.len(), workspaces.len()), (20, 21));
    let run = runs(&daemon).pop().expect("a run");
    assert_eq!((run.owned, run.exit_code), (40, Some(0)));
    assert!(users.iter().all(|name| name.starts_with(&format!("scaletest-{}-", run.id))), "{users:?}");

    // What owns something is never removed.
    let removed = daemon.scalectl(&["runs", "rm", &run.id]);
    let why = crate::error(&removed);
    assert!(removed.status.code() == Some(2) && why.contains("20 users and 20 workspaces"), "{why}");

    let (code, text, error) = standin.scalectl(&daemon, &["cleanup", "--dry-run"]);
    assert!(code == 0 && text.contains("20 workspaces (20 running) and 20 users would go"), "{text}{error}");
    assert!(text.contains("1 workspaces and 0 users more bear the prefix"), "{text}");
    // Without a terminal nobody can be asked.
    let (code, _, error) = standin.scalectl(&daemon, &["cleanup"]);
    assert!(code == 2 && error.contains("--yes"), "{error}");
    assert_eq!(standin.there().1.len(), 21);

    let (code, report) = standin.flow(&daemon, &["cleanup", "--run", &run.id]);
    let cleaned = outcome(&report).cleanup.clone().expect("a clean-up");
    assert_eq!((code, cleaned.workspaces, cleaned.users, cleaned.left), (0, 20, 20, 0));
    standin.assert_only_keepme();
    assert_eq!(runs(&daemon).iter().map(|run| run.owned).sum::<u64>(), 0);
    assert!(daemon.scalectl(&["runs", "rm", &run.id]).status.success());
    let counts = standin.end();
    assert_eq!((&counts["workspaces"]["deleted"], &counts["users"]["deleted"]), (&20.into(), &20.into()));
}

#[test]
fn parameters_come_from_the_environment_where_no_flag_gives_any() {
    let (standin, daemon) = (Standin::brisk(), Daemon::start());
    let make = ["create-workspaces", "--template", "kubernetes", "--count", "1", "--dry-run"];
    let run = |variable: &str, more: &[&str]| {
        let mut command = standin.command(&daemon, &[&make[..], more].concat());
        texts(&command.env("CODER_RICH_PARAMETER", variable).output().expect("scalectl runs"))
    };
    assert_eq!(run("home_disk_size=10,cpu=2", &[]).0, 0);
    let (code, _, error) = run("home_disk_size=10,nosuch=2", &[]);
    assert!(code == 2 && error.contains("nosuch"), "{error}");
    assert_eq!(run("nosuch=2", &["--parameter", "home_disk_size=10"]).0, 0);
    standin.end();
}

#[test]
fn each_simulated_user_has_a_connection_of_its_own_unless_they_are_pooled() {
    for (flag, is_pooled) in [(None, false), (Some("--pool-connections"), true)] {
        let (standin, daemon) = (Standin::brisk(), Daemon::start());
        let at_once = ["--concurrency", "2", "--cleanup-concurrency", "2"];
        let make = [&["create-workspaces", "--template", "minimal", "--count", "20"], &at_once[..]].concat();
        let (code, report) = standin.flow(&daemon, &[&make[..], flag.as_slice()].concat());
        assert_eq!(code, 0, "{:?}", report.verdict);
        let counts = standin.end();
        let connections = counts["replicas"][0]["connections"].as_u64().expect("a count");
        assert!(if is_pooled { connections < 10 } else { connections >= 20 }, "{connections}: {counts}");
    }
}

#[test]
fn without_no_cleanup_everything_made_is_deleted_at_the_end() {
    let (standin, daemon) = (Standin::brisk(), Daemon::start());
    let (code, report) = standin.flow(&daemon, &["create-users", "--count", "10"]);
    let users = outcome(&report);
    assert_eq!((code, users.succeeded, users.owned, users.of.as_str()), (0, 10, 0, "users"));
    assert_eq!(users.cleanup.as_ref().map(|cleaned| cleaned.users), Some(10));
    let (code, report) = standin.flow(&daemon, &create("5", &["--cleanup-concurrency", "0"]));
    let made = outcome(&report);
    assert_eq!((code, made.succeeded, made.owned, made.failed), (0, 5, 0, 0), "{:?}", report.verdict);
    for phase in [&made.phases.create, &made.phases.queue, &made.phases.build, &made.phases.agent] {
        assert_eq!(phase.as_ref().map(|figure| figure.count), Some(5), "{:?}", made.phases);
    }
    assert_eq!((made.replicas.len(), made.site.username.as_str()), (1, "admin"));
    assert_eq!(standin.there(), (Vec::new(), Vec::new()));
    standin.end();
}

#[test]
fn owners_are_new_users_the_tokens_own_or_a_pool_that_stays() {
    let (standin, daemon) = (Standin::brisk(), Daemon::start());
    let (code, _) =
        standin.flow(&daemon, &["create-users", "--count", "3", "--username-infix", "pool", "--no-cleanup"]);
    assert_eq!(code, 0);
    let pool = standin.there().0;
    assert!(pool.len() == 3 && pool.iter().all(|name| name.starts_with("scaletest-pool-r")), "{pool:?}");
    let (code, report) = standin.flow(&daemon, &create("3", &["--reuse-users", "--no-wait-for-agents"]));
    assert_eq!((code, outcome(&report).phases.agent.is_none()), (0, true));
    let (code, report) = standin.flow(&daemon, &create("2", &["--use-host-login"]));
    let cleaned = outcome(&report).cleanup.clone().expect("a clean-up");
    assert_eq!((code, cleaned.workspaces, cleaned.users), (0, 2, 0));
    assert_eq!(standin.there(), (pool, Vec::new()));
    let (code, _, error) = standin.scalectl(&daemon, &create("4", &["--reuse-users", "--yes"]));
    assert!(code == 2 && error.contains("create-users --count 1"), "{error}");
    standin.end();
}

/// A build fails that makes a workspace, and the first two that delete it.
#[test]
fn failures_have_their_class_and_more_than_may_be_fail_the_flow() {
    let faults = "[[fault]]\nkind = 'build_fails'\nworkspace = 'scaletest-*-3'\nmessage = 'quota exceeded'\ntimes = 3\n\
                  [[fault]]\nkind = 'agent_never'\nworkspace = 'scaletest-*-1'\n";
    let settings = "build_time = '50ms'\nagent_time = '50ms'\n";
    let (standin, daemon) = (Standin::start(settings, faults), Daemon::start());
    let make = create("5", &["--job-timeout", "6s", "--yes"]);
    let (code, text, error) = standin.scalectl(&daemon, &make);
    assert_eq!(code, 99, "{text}{error}");
    for words in [
        "3 of 5 workspaces succeeded, 1 failed to be built, 1 failed to connect",
        "1 build_failed: the build failed; its log in the dashboard says why",
        "(quota exceeded)",
        "1 agent_timeout: the agent never connected in time",
        "2 of 5 workspaces failed, 0 may (--max-failures)",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let (code, report) = standin.flow(&daemon, &create("5", &["--job-timeout", "6s", "--max-failures", "1"]));
    assert_eq!((code, outcome(&report).failed), (0, 1), "{:?}", report.verdict);
    assert_eq!(standin.there(), (Vec::new(), Vec::new()));
    standin.end();
}

#[test]
fn a_build_that_fails_once_is_tried_again_where_that_is_asked_for() {
    let faults =
        "[[fault]]\nkind = 'build_fails'\nworkspace = 'scaletest-*-0'\nmessage = 'no room'\ntimes = 1\n";
    let (standin, daemon) = (Standin::start("build_time = '50ms'\n", faults), Daemon::start());
    let (code, report) = standin.flow(&daemon, &create("2", &["--retry", "1"]));
    assert_eq!((code, outcome(&report).succeeded), (0, 2), "{:?}", report.verdict);
    assert_eq!(standin.end()["faults"][0], 1);
}

#[test]
fn a_storm_of_429_is_waited_out_and_said() {
    let faults = "[[fault]]\nkind = 'too_many_requests'\non = 'POST /api/v2/users/*/workspaces'\nretry_after = '1s'\nshare = 0.5\n\
                  [[fault]]\nkind = 'too_many_requests'\non = 'POST /api/v2/users'\nretry_after = '1s'\nshare = 0.5\ntimes = 20\n";
    let (standin, daemon) = (Standin::start("build_time = '50ms'\n", faults), Daemon::start());
    let (code, report) = standin.flow(&daemon, &create("20", &["--cleanup-concurrency", "0"]));
    let made = outcome(&report);
    assert_eq!((code, made.succeeded, made.owned), (0, 20, 0), "{:?}", report.verdict);
    assert!(made.requests.rate_limited > 5 && made.requests.retries >= made.requests.rate_limited);
    assert!(made.warnings.iter().any(|words| words.contains("CODER_DANGEROUS_DISABLE_RATE_LIMITS")));
    assert_eq!(standin.there(), (Vec::new(), Vec::new()));
    standin.end();
}

#[test]
fn a_clean_up_that_leaves_something_says_what_and_ends_with_7() {
    let faults = "[[fault]]\nkind = 'status'\non = 'DELETE /api/v2/users/*'\nstatus = 403\ntimes = 1\n";
    let (standin, daemon) = (Standin::start("", faults), Daemon::start());
    let make = ["create-users", "--count", "3", "--yes"];
    let (code, text, error) = standin.scalectl(&daemon, &make);
    assert_eq!(code, 7, "{text}{error}");
    assert!(
        text.contains("LEFT: 1") && text.contains("user scaletest-") && text.contains("role owner"),
        "{text}"
    );
    assert_eq!(standin.there().0.len(), 1);
    let (code, report) = standin.flow(&daemon, &["cleanup"]);
    assert_eq!((code, outcome(&report).succeeded), (0, 1));
    assert_eq!(standin.there().0.len(), 0);
    standin.end();
}

#[test]
fn by_prefix_alone_goes_what_nobody_used_of_late() {
    let (standin, daemon) = (Standin::brisk(), Daemon::start());
    standin.make_keepme();
    let (code, text, _) = standin.scalectl(&daemon, &["cleanup", "--all-prefixed", "--dry-run"]);
    assert!(code == 0 && text.contains("1 were used in the last 10 minutes and stay"), "{text}");
    let (code, _, error) = standin.scalectl(&daemon, &["cleanup", "--force", "--yes"]);
    assert!(code == 2 && error.contains("--all-prefixed"), "{error}");
    let (code, report) = standin.flow(&daemon, &["cleanup", "--all-prefixed", "--force"]);
    assert_eq!((code, outcome(&report).cleanup.as_ref().map(|one| one.workspaces)), (0, Some(1)));
    assert_eq!(standin.there(), (Vec::new(), Vec::new()));
    standin.end();
}

#[test]
fn results_go_where_they_are_asked_for() {
    let (standin, daemon) = (Standin::brisk(), Daemon::start());
    let file = standin.folder.path("result.json");
    let output = format!("json:{}", file.display());
    let make = ["create-users", "--count", "2", "--yes", "--output", "text", "--output", &output];
    let (code, text, error) = standin.scalectl(&daemon, &make);
    assert!(code == 0 && text.contains("2 of 2 users succeeded"), "{text}{error}");
    let kept = std::fs::read_to_string(file).expect("the result");
    let kept: scale_api::report::Report = serde_json::from_str(&kept).expect("a report");
    assert_eq!(outcome(&kept).succeeded, 2);
    let (_, text, _) =
        standin.scalectl(&daemon, &["create-users", "--count", "2", "--yes", "--output", "json"]);
    let only: scale_api::report::Report = serde_json::from_str(&text).expect("nothing but the report");
    assert_eq!(outcome(&only).succeeded, 2);
    standin.end();
}
