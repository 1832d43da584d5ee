//! How every file opens and how long it may get, and that no test is forgotten.

use super::{root, rust_files};

/// Longest file with its tests: beyond it nobody reads it whole.
const LINES_MAX: usize = 800;
/// The folders with Rust code of ours.
const FOLDERS: &[&str] = &["src", "tests", "crates", "benches"];

fn ours() -> impl Iterator<Item = (String, String)> {
    FOLDERS.iter().flat_map(|folder| rust_files(folder))
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> =
        ours().filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path).collect();
    assert!(silent.is_empty(), "no `//!` at the top of: {}", silent.join(", "));
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<_> = ours()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path} ({lines})"))
        .collect();
    assert!(long.is_empty(), "longer than {LINES_MAX} lines: {}", long.join(", "));
}

#[test]
fn no_test_is_switched_off() {
    // Put together, so that this file does not find itself.
    let switched_off = concat!("#[", "ignore");
    let found: Vec<_> =
        ours().filter(|(_, text)| text.contains(switched_off)).map(|(path, _)| path).collect();
    assert!(found.is_empty(), "ignored tests in: {}", found.join(", "));
}

#[test]
fn no_error_is_swallowed() {
    let swallow = concat!("let _ ", "=");
    let found: Vec<_> = rust_files("src")
        .into_iter()
        .filter(|(_, text)| super::code(text).contains(swallow))
        .map(|(path, _)| path)
        .collect();
    assert!(found.is_empty(), "results thrown away in: {}", found.join(", "));
}

#[test]
fn no_integration_test_is_forgotten() {
    let binary = std::fs::read_to_string(root().join("tests/it.rs")).unwrap();
    let mut forgotten = Vec::new();
    for entry in std::fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let module = path.join("mod.rs").exists()
            || (path.extension().is_some_and(|e| e == "rs") && name != "it");
        if module && !binary.lines().any(|line| line == format!("mod {name};")) {
            forgotten.push(name);
        }
    }
    assert!(forgotten.is_empty(), "not in tests/it.rs: {}", forgotten.join(", "));
    for (path, _) in rust_files("tests") {
        let (folder, file) = path.rsplit_once('/').unwrap();
        let stem = file.trim_end_matches(".rs");
        let fixture = folder.contains("/fixtures");
        if folder == "tests" || stem == "mod" || fixture {
            continue;
        }
        let declared = [format!("{folder}/mod.rs"), format!("{folder}.rs")];
        let declared =
            declared.iter().filter_map(|at| std::fs::read_to_string(root().join(at)).ok());
        let named = [format!("mod {stem};"), format!("pub mod {stem};")];
        let known = declared.into_iter().any(|text| {
            text.lines().any(|line| named.iter().any(|name| line.ends_with(name.as_str())))
        });
        assert!(known, "{path} is compiled by nobody");
    }
}

#[test]
fn the_systemd_unit_starts_what_is_installed() {
    let unit = std::fs::read_to_string(root().join("systemd/trueup.service")).unwrap();
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    assert!(unit.contains("ExecStart=/usr/local/bin/trueup run"));
    assert!(makefile.contains("PREFIX ?= /usr/local"));
}
