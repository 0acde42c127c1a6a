//! The templates, manifests, dashboards and alerts of docs: they parse, they say what the programs
//! and docs say, and what must never be missing from them is there.

mod dashboards;
mod kubernetes;
mod observability;
mod terraform;

use scale_tests::host::root;
use scale_tests::repository::read;

/// A file below docs/coder.
fn page(name: &str) -> String {
    read(&root().join("docs/coder").join(name))
}

/// A file of JSON below docs/coder.
fn read_json(name: &str) -> serde_json::Value {
    serde_json::from_str(&page(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
