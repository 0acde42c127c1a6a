//! What `scalectl status` prints.

use scale_api::http::Status;

use crate::render;

/// What goes, or went last; behind it what is wrong with the daemon itself.
pub fn standing(status: &Status) -> String {
    let mut lines = match (&status.run, &status.last) {
        (Some(event), _) => [vec![render::status(event)], render::marks(&status.marks)].concat(),
        (None, Some(last)) => vec![format!("idle; last run {} {}", last.id, last.state)],
        (None, None) => vec!["idle; no run yet".into()],
    };
    // What a run was told of as well stands among its own warnings.
    let told = status.run.iter().flat_map(|event| &event.warnings);
    let told: Vec<&String> = told.collect();
    let own = status.warnings.iter().filter(|warning| !told.contains(warning));
    lines.extend(own.map(|warning| format!("! {warning}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use scale_api::report::Event;

    use super::*;

    #[test]
    fn what_is_wrong_is_said_once() {
        let mut status = Status { warnings: vec!["the disk is full".into()], ..Status::default() };
        assert_eq!(standing(&status), "idle; no run yet\n! the disk is full");
        let warnings = vec!["the disk is full".into(), "names are slow".into()];
        status.run = Some(Event { warnings, ..Event::default() });
        let said = standing(&status);
        assert_eq!(said.matches("the disk is full").count(), 1, "{said}");
        assert!(said.contains("! names are slow"), "{said}");
    }
}
