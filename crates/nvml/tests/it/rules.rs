//! Rules that the compiler does not hold.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn both_crates() -> Vec<(PathBuf, String)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    sources(&here.join("src"), &mut found);
    sources(&here.join("../fake-nvml/src"), &mut found);
    assert!(found.len() > 15, "the sources were not found");
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// `nvml.lib().nvmlFoo(…)` panics where the driver has no such function; the field of the same name
/// gives an error.
#[test]
fn functions_are_called_by_field_only() {
    for (path, text) in both_crates() {
        for (at, _) in text.match_indices("lib().nvml") {
            let rest = &text[at + "lib().".len()..];
            let name = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').count();
            assert!(!rest[name..].starts_with('('), "{}: {}", path.display(), &rest[..name]);
        }
        let table = text.matches(".lib()").count();
        assert!(
            table == 0 || path.ends_with("raw.rs") || path.ends_with("client.rs"),
            "{} reaches for the table",
            path.display()
        );
    }
}

/// The wrapper's list of placements is always empty, and its numbers of codes end at 22.
#[test]
fn methods_of_the_wrapper_with_a_defect_are_not_used() {
    for (path, text) in both_crates() {
        for banned in
            [".possible_placements(", ".set_mig_mode(m", ".profile_info(", ".architecture()"]
        {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            assert!(
                code.into_iter().all(|line| !line.contains(banned)),
                "{}: {banned}",
                path.display()
            );
        }
    }
}

#[test]
fn every_unsafe_block_states_why_it_is_sound() {
    for (path, text) in both_crates() {
        let lines: Vec<&str> = text.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            let opens = line.contains("unsafe {") && !line.trim_start().starts_with("//");
            let above = &lines[n.saturating_sub(6)..=n];
            let stated = above.iter().any(|one| one.contains("// SAFETY"));
            assert!(!opens || stated, "{}:{}: {line}", path.display(), n + 1);
        }
    }
}

#[test]
fn the_wrapper_and_its_bindings_are_raised_together() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    assert!(manifest.contains(r#"nvml-wrapper = "=0.13.0""#));
    assert!(manifest.contains(r#"nvml-wrapper-sys = "=0.10.0""#));
}
