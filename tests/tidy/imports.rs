//! The module map: who may import whom, and what the pure ring does not have.

use std::collections::BTreeSet;

use super::{code, rust_files};

/// Each module with what it may import beside itself. The table of ARCHITECTURE.md, which says why.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("spec", &["model"]),
    ("plan", &["model", "spec"]),
    ("policy", &["model", "spec"]),
    ("event", &["model", "plan"]),
    ("state", &["model", "plan", "event"]),
    ("view", &["model", "plan", "event", "state"]),
    ("port", &["model", "spec", "plan", "event"]),
    ("journal", &["model", "event", "view", "port"]),
    ("private", &[]),
    ("source", &["model", "port", "private"]),
    ("provider", &["model", "plan", "port", "private", "spec"]),
    (
        "forge",
        &[
            "model",
            "spec",
            "plan",
            "policy",
            "event",
            "state",
            "view",
            "port",
            "config",
            "private",
            "reconcile",
        ],
    ),
    ("reconcile", &["model", "spec", "plan", "policy", "event", "state", "view", "port"]),
    ("config", &["model"]),
    ("telemetry", &["config"]),
    ("preflight", &[]),
    ("cli", &["*"]),
];

/// The modules without a clock, a disk, an environment, a process, a network or an await.
const PURE: &[&str] = &["model", "spec", "plan", "policy", "event", "state", "view"];

/// What the pure ring must not name. `clippy.toml` bans the calls; this also bans the ways around.
const ABSENT: &[&str] = &[
    ".await",
    "async fn",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os::unix::net",
    "std::process",
    "std::env",
    "std::thread",
    "std::io::std",
    "tokio::",
    "tracing::",
    "gix::",
    "sled::",
    "SystemTime",
    "Instant::",
    "Timestamp::now",
    "Zoned::now",
    "fastrand",
    "static mut",
];

fn module_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    rest.contains('/').then(|| rest.split('/').next()).flatten()
}

/// The modules of the crate that `text` names: `crate::x` and the braces of `use crate::{x, y}`.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let before = text[..at].chars().next_back().unwrap_or(' ');
        if before.is_alphanumeric() || before == '_' {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => found.extend(first_level(list)),
            None => found.extend(word(rest)),
        }
    }
    found
}

/// The first words of a brace list's members.
fn first_level(list: &str) -> Vec<String> {
    let (mut depth, mut expects, mut found) = (0, true, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expects = true,
            c if c.is_alphanumeric() && expects && depth == 0 => {
                found.extend(word(&list[at..]));
                expects = false;
            }
            _ => {}
        }
    }
    found
}

fn word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    // Items of the crate's root are types; modules are lower case.
    word.starts_with(|c: char| c.is_ascii_lowercase()).then_some(word)
}

#[test]
fn imports_follow_the_table() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, text) in rust_files("src") {
        let Some(module) = module_of(&path) else { continue };
        seen.insert(module.to_owned());
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{path}: the module `{module}` is not in the table"));
            continue;
        };
        for import in imports(&code(&text)) {
            let fine = import == module || allowed.contains(&"*") || allowed.contains(&&*import);
            if !fine {
                wrong.push(format!("{path}: `{module}` must not import `{import}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let stale: Vec<_> = MAY_IMPORT.iter().filter(|(name, _)| !seen.contains(*name)).collect();
    assert!(stale.is_empty(), "in the table but not in src: {stale:?}");
}

/// Folders beside the backends that are none: what several of them work with.
const SHARED: &[&str] = &["guest"];

#[test]
fn backends_do_not_import_their_siblings() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files("src/provider") {
        let Some(own) = path.strip_prefix("src/provider/").and_then(|rest| rest.split_once('/'))
        else {
            continue;
        };
        for (at, _) in text.match_indices("provider::") {
            let named = word(&text[at + "provider::".len()..]).unwrap_or_default();
            let folder = super::root().join("src/provider").join(&named);
            if folder.is_dir() && named != own.0 && !SHARED.contains(&&*named) {
                wrong.push(format!("{path}: names its sibling `{named}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_pure_ring_lacks_what_it_must() {
    let mut wrong = Vec::new();
    for module in PURE {
        for (path, text) in rust_files(&format!("src/{module}")) {
            if path.ends_with("tests.rs") || path.contains("/tests/") {
                continue;
            }
            let code = code(&text);
            for absent in ABSENT.iter().filter(|absent| code.contains(**absent)) {
                wrong.push(format!("{path}: has `{absent}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_gate_is_open_for_the_shell_only() {
    let lib = std::fs::read_to_string(super::root().join("src/lib.rs")).unwrap();
    let lines: Vec<_> = lib.lines().collect();
    for pair in lines.windows(2) {
        let opened = pair[0].contains("disallowed_methods");
        let pure = PURE.iter().any(|module| pair[1] == format!("pub mod {module};"));
        assert!(!(opened && pure), "the gate is open for {}", pair[1]);
    }
    assert!(lib.contains("disallowed_methods"), "the gate has another form: adapt this test");
}

#[test]
fn the_parser_of_this_test_sees_every_form() {
    let text = "use crate::model::Name;\nuse crate::{plan::Plan, event::{Event, body}};\n\
                fn f() { crate::state::decide(); my_crate::x(); }";
    let found: Vec<_> = imports(text).into_iter().collect();
    assert_eq!(found, ["event", "model", "plan", "state"]);
}
