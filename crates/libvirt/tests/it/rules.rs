//! Rules that the compiler does not hold.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Methods of `virt` (some versions) that report success for a failure, or read a null pointer;
/// `get_state` is sound in 0.4 only, which the last line holds.
const BANNED: [&str; 8] = [
    ".set_memory(",
    ".attach_device(",
    ".detach_device(",
    ".get_block_info(",
    ".block_info(",
    ".interface_addresses(",
    ".set_vcpus(",
    ".shutdown()",
];

#[test]
fn methods_that_hide_failures_are_not_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    sources(&root.join("src"), &mut found);
    assert!(found.len() > 10, "the sources were not found");
    for path in found {
        let text = fs::read_to_string(&path).expect("a source");
        for (line, banned) in
            text.lines().flat_map(|line| BANNED.iter().map(move |banned| (line, banned)))
        {
            assert!(!line.contains(banned), "{}: {line}", path.display());
        }
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the manifest");
    assert!(manifest.contains(r#"virt = { version = "0.4"#), "check `get_state` of the new `virt`");
}

#[test]
fn every_unsafe_block_states_why_it_is_sound() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    for path in found {
        let text = fs::read_to_string(&path).expect("a source");
        let lines: Vec<&str> = text.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            let opens = line.contains("unsafe {") && !line.trim_start().starts_with("//");
            // The callbacks of one registration share a comment, at most 80 lines above.
            let stated = lines[n.saturating_sub(80)..=n].iter().any(|l| l.contains("// SAFETY"));
            assert!(!opens || stated, "{}:{}: {line}", path.display(), n + 1);
        }
    }
}
