//! Every file that a user or an operator writes: run file, scenario, list of targets, the daemon's own. Each text is read
//! as all four; which it is meant to be says nothing about what may come of it.

use std::net::SocketAddr;

use scale_api::scenario::Scenario;
use scaled::run::targets::Targets;
use scaled::settings::Settings;

use super::words;

/// Any text as each kind of file.
///
/// # Panics
/// A parser does, or what it reads does not hold to its rules.
pub fn check(text: &str) {
    words::check_run_file(text);
    check_scenario(text);
    check_targets(text);
    let _ = Settings::check(text);
}

fn check_scenario(text: &str) {
    let Ok(scenario) = Scenario::from_toml(text, "scenario.toml") else { return };
    let json = serde_json::to_string(&scenario).expect("plain values");
    let again: Scenario = serde_json::from_str(&json).expect("what we write");
    assert_eq!(again, scenario, "as JSON: {json}");
    if scenario.check().is_ok() {
        words::check_spec(&scenario.spec());
    }
}

fn check_targets(text: &str) {
    let Ok(targets) = Targets::parse(text) else { return };
    let permit = targets.own();
    for host in ["localhost", "gw.example.com", "a.gw.example.com", "127.0.0.1", "::1", ""] {
        for address in [[127, 0, 0, 1], [10, 0, 0, 1]] {
            let address = SocketAddr::from((address, 443));
            let is_allowed = permit.check(host, address).is_ok();
            assert_eq!(is_allowed, permit.rule(host, address).is_ok(), "what is allowed is so by a rule");
        }
        let metadata = SocketAddr::from(([169, 254, 169, 254], 80));
        assert!(permit.check(host, metadata).is_err(), "never, whatever the list says");
    }
}
