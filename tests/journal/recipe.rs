//! The shell recipe of `docs/log-format.md`, run as it stands there.

use std::path::Path;
use std::process::{Command, Output};

use trueup::event::envelope::{Data, Draft};
use trueup::journal::{Journal, layout};

use super::{draft, now, small};

fn recipe() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/log-format.md");
    let page = std::fs::read_to_string(page).unwrap();
    let start = page.find("```bash\n").expect("the page has a recipe") + "```bash\n".len();
    page[start..].split("```").next().unwrap().to_owned()
}

fn run(dir: &Path) -> Output {
    Command::new("bash").arg("-c").arg(recipe()).current_dir(dir).output().unwrap()
}

#[test]
fn an_auditor_needs_only_jq_and_sha256sum() {
    let tools = Command::new("sh").args(["-c", "command -v bash jq sha256sum"]).output().unwrap();
    if !tools.status.success() {
        eprintln!("skipped: bash, jq or sha256sum is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), &small()).unwrap();
    for number in 0..9 {
        journal.append(now(), vec![draft(number)]).unwrap();
    }
    let odd = r#"{"a":1.50,"é":"\\ \" \u0041 \/ %s \\n","hash":"x","big":123456789012345678901}"#;
    let odd =
        Draft::new("odd.one", 1, Data::from_json(odd.to_owned()).unwrap()).by("operator:\\é\"");
    journal.append(now(), vec![odd]).unwrap();
    // The log is live here: the writer still holds it and its last segment is preallocated.
    let output = run(dir.path());
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{errors}");
    assert!(
        told.contains(&format!("ok: 10 events, head {}", journal.head().hash)),
        "{told}{errors}"
    );
    drop(journal);

    let path = layout::segment_path(dir.path(), 1);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"number\":2", "\"number\":7", 1)).unwrap();
    let output = run(dir.path());
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && told.contains("seq 3"), "{told}");
}
