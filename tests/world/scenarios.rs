//! Every script in `tests/scenarios`, against its reviewed transcript beside it.
//!
//! `UPDATE_EXPECT=1` rewrites the transcripts; the reviewer reads the difference.

use std::path::Path;

use super::script;

#[tokio::test(start_paused = true)]
async fn transcripts_are_as_reviewed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "scenario"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scenarios in {}", folder.display());
    for path in scripts {
        let text = with_files(&folder, &std::fs::read_to_string(&path).unwrap());
        let transcript = script::run(&text).await;
        let again = script::run(&text).await;
        assert_eq!(transcript, again, "{} is not deterministic", path.display());
        expect_test::expect_file![path.with_extension("transcript")].assert_eq(&transcript);
    }
}

/// Replaces `use NAME` lines by the content of `NAME` in the same folder.
fn with_files(folder: &Path, script: &str) -> String {
    let mut whole = String::new();
    for line in script.lines() {
        match line.strip_prefix("use ") {
            Some(name) => whole.push_str(&std::fs::read_to_string(folder.join(name)).unwrap()),
            None => whole.push_str(line),
        }
        whole.push('\n');
    }
    whole
}
