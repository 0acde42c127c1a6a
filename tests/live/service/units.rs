//! The shipped units, as systemd itself reads them.

use std::path::Path;
use std::process::{Command, Output};

use scale_tests::host::{Folder, installed, root};
use scale_tests::program;

/// The highest exposure, in tenths.
const THRESHOLD: &str = "--threshold=20";

fn unit(name: &str) -> String {
    std::fs::read_to_string(root().join("systemd").join(name)).expect("a shipped file")
}

/// Drop-ins of the service: name and text.
fn drop_ins() -> Vec<(String, String)> {
    let folder = std::fs::read_dir(root().join("systemd/scaled.service.d")).expect("shipped drop-ins");
    let mut drop_ins: Vec<(String, String)> = folder
        .map(|file| {
            let path = file.expect("a file").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let name = name.strip_suffix(".example").expect("an example: nothing here applies by itself");
            (name.to_owned(), std::fs::read_to_string(&path).expect("text"))
        })
        .collect();
    drop_ins.sort();
    drop_ins
}

/// Puts the units into `folder`, with programs that are there.
fn install(folder: &Folder) {
    let mut service = unit("scaled.service");
    for name in ["scaled", "scalectl"] {
        let installed = format!("=/usr/bin/{name}");
        assert!(service.contains(&installed), "{name}");
        service = service.replace(&installed, &format!("={}", program(name).display()));
    }
    folder.write("scaled.service", &service);
    folder.write("scaled.socket", &unit("scaled.socket"));
    // What the drop-in of the metrics listener says to write.
    let metrics = drop_ins().into_iter().find(|(name, _)| name == "metrics.conf").expect("one of metrics").1;
    let lines = metrics.lines().skip_while(|line| *line != "#   [Socket]");
    let lines: Vec<&str> = lines.map_while(|line| line.strip_prefix("#   ")).collect();
    folder.write("scaled-metrics.socket", &lines.join("\n"));
}

fn analyze(analyze: &Path, words: &[&str], file: &str) -> Output {
    Command::new(analyze).args(words).arg(file).output().expect("it runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn systemd_finds_nothing_wrong_in_the_units_and_their_drop_ins() {
    let Some(program) = installed("systemd-analyze") else { return };
    let folder = Folder::new();
    install(&folder);
    let verify = |unit: &str| {
        let path = folder.path(unit).display().to_string();
        let output = analyze(&program, &["verify", "--man=no"], &path);
        // It warns and succeeds where it knows a word not. What it says of others' units is not ours.
        let lines: Vec<String> =
            said(&output).lines().filter(|line| line.contains("scaled")).map(str::to_owned).collect();
        (output.status.success(), lines)
    };
    let fine = (true, Vec::new());
    for unit in ["scaled.service", "scaled.socket", "scaled-metrics.socket"] {
        assert_eq!(verify(unit), fine, "{unit}");
    }
    std::fs::create_dir(folder.path("scaled.service.d")).expect("a folder");
    for (name, text) in drop_ins() {
        folder.write(&format!("scaled.service.d/{name}"), &text);
        assert_eq!(verify("scaled.service"), fine, "{name}");
    }
    // The check sees what is wrong, in a drop-in, too.
    folder.write("scaled.service.d/wrong.conf", "[Service]\nProtectSystm=strict\n");
    let (_, lines) = verify("scaled.service");
    assert!(lines.iter().any(|line| line.contains("ProtectSystm")), "{lines:?}");
}

#[test]
fn the_services_exposure_is_at_most_two_with_each_drop_in_too() {
    let Some(program) = installed("systemd-analyze") else { return };
    let folder = Folder::new();
    let exposure = |name: &str, text: &str| {
        let path = folder.write(name, text);
        let output = analyze(&program, &["security", "--offline=yes", "--no-pager", THRESHOLD], &path);
        (output.status.success(), said(&output))
    };
    let service = unit("scaled.service");
    let (is_fine, table) = exposure("scaled.service", &service);
    assert!(is_fine && table.contains("Overall exposure level"), "{table}");
    for (name, text) in drop_ins() {
        let (is_fine, table) = exposure("scaled.service", &format!("{service}\n{text}"));
        assert!(is_fine, "with {name}: {table}");
    }
    let weaker = service.replace("CapabilityBoundingSet=\n", "").replace("ProtectSystem=strict\n", "");
    assert!(!exposure("scaled.service", &weaker).0, "the check sees a difference");
}
