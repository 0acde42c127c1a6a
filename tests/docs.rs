//! What the documentation shows is true: examples load, links lead somewhere.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn files(folder: &Path, ending: &str, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") && !entry.file_name().to_string_lossy().starts_with('.')
        {
            files(&path, ending, into);
        } else if path.to_string_lossy().ends_with(ending) {
            into.push(path);
        }
    }
}

#[test]
fn every_example_is_a_run_that_passes_its_checks() {
    let mut examples = Vec::new();
    files(&root().join("docs/examples"), ".toml", &mut examples);
    assert!(!examples.is_empty());
    for path in examples {
        let text = std::fs::read_to_string(&path).expect("readable");
        let spec = scale_api::spec::Spec::from_toml(&text, &path.display().to_string()).expect("loads");
        spec.check().expect("passes");
    }
}

#[test]
fn every_link_in_the_documentation_leads_somewhere() {
    let mut pages = vec![root().join("README.md")];
    files(&root().join("docs"), ".md", &mut pages);
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("readable");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or("");
            if !file.is_empty() && !file.contains("://") {
                let to = page.parent().expect("a folder").join(file);
                assert!(to.exists(), "{} links to {link}, which is not there", page.display());
            }
        }
    }
}
