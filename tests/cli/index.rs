//! The index is used where it helps, changes no answer, and is held against the log.

use std::path::Path;

use trueup::event::{Entry, Event, body};
use trueup::journal::Reader;
use trueup::journal::index::Index;

use super::{Host, id};

/// A host whose last writer left an index with a snapshot behind.
fn indexed() -> Host {
    let host = Host::new().with_past();
    host.run(&["pause", "-m", "moving"]).code(0);
    assert!(host.state().join("index/seal").exists());
    host
}

/// When event 5 happened.
fn fifth(host: &Host) -> String {
    let log = host.run(&["log", "-o", "json"]).code(0).out;
    let line: serde_json::Value = serde_json::from_str(log.lines().nth(4).unwrap()).unwrap();
    line["at"].as_str().unwrap().to_owned()
}

/// Everything that may be answered from the index.
fn answers(host: &Host) -> Vec<String> {
    let at = fifth(host);
    let questions: [&[&str]; 14] = [
        &["status", "-o", "json"],
        &["state"],
        &["state", "--at", "3"],
        &["state", "--at", "10"],
        &["state", "--at", &at],
        &["drift", "-o", "json"],
        &["log"],
        &["log", "-n", "2"],
        &["log", "-n", "2", "--type", "plan.*"],
        &["log", "--subject", "vm/*"],
        &["log", "--subject", "vm/web", "--type", "resource.drifted"],
        &["log", "--commit", "aaaa"],
        &["log", "--since", "1h", "-o", "json"],
        &["log", "--run", "nobody"],
    ];
    let ask = |words: &&[&str]| {
        let ended = host.run(words);
        assert_eq!(ended.err, "", "{words:?}");
        ended.out
    };
    questions.iter().map(ask).collect()
}

#[test]
fn every_answer_is_the_same_with_the_index_without_it_and_behind_the_log() {
    let host = indexed();
    let with = answers(&host);
    assert!(with.iter().filter(|answer| !answer.is_empty()).count() > 10);
    assert!(host.state().join("index/seal").exists(), "a question leaves the index whole");
    // The index ends before the log does.
    let held = body::OperatorHeld { reason: "debugging".into() };
    host.append(vec![Entry::new(Event::OperatorHeld(held)).about(&id("vm/web"))]);
    let behind = answers(&host);
    assert_ne!(with, behind);
    std::fs::remove_dir_all(host.state().join("index")).unwrap();
    assert_eq!(answers(&host), behind, "the index changes answers");
    assert!(!host.state().join("index").exists(), "a question makes no index");
}

/// The index of `state`, and the version its snapshots have.
fn open(state: &Path) -> (Index, u32, u64, Vec<u8>) {
    let index = Index::open(state, &Reader::open(state));
    let found = (1..1_000).find_map(|version| {
        let (seq, bytes) = index.snapshot_latest("state", version, u64::MAX)?;
        Some((version, seq, bytes))
    });
    let (version, seq, bytes) = found.expect("there is a snapshot");
    (index, version, seq, bytes)
}

#[test]
fn a_snapshot_that_is_not_what_the_log_says_is_found_with_its_place() {
    let host = indexed();
    host.run(&["replay"]).code(0);
    let (index, version, seq, bytes) = open(&host.state());
    let text = String::from_utf8(bytes).unwrap();
    let wrong = text.replace("\"environment\":\"lab\"", "\"environment\":\"bad\"");
    assert_ne!(text, wrong);
    assert!(index.snapshot_put("state", version, seq, wrong.as_bytes()));
    index.close();
    // Status starts from it, which shows that the index is asked at all.
    assert!(host.run(&["status"]).code(0).out.contains("environment bad"));
    let ended = host.run(&["replay"]).code(5);
    let place = format!("snapshot at event {seq}: /spec/environment");
    assert!(ended.err.contains(&place), "{}", ended.err);
    let again = host.run(&["replay"]).code(0).out;
    assert!(again.contains(&format!("equals the snapshot at event {seq}")), "{again}");
    assert!(again.contains("index the same"), "{again}");
    assert!(host.run(&["status"]).code(0).out.contains("environment lab"));
}

#[test]
fn an_index_that_somebody_wrote_into_is_built_again() {
    let host = indexed();
    let before = answers(&host);
    let mut found = 0;
    for entry in std::fs::read_dir(host.state().join("index/db")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
            found += bytes.len();
            std::fs::write(&path, bytes).unwrap();
        }
    }
    assert!(found > 0, "there was something to damage");
    let damaged = host.run(&["status", "-o", "json"]).code(0).out;
    assert_eq!(damaged, before[0]);
    assert!(host.run(&["replay"]).code(0).out.contains("index built anew"));
    assert!(host.run(&["replay"]).code(0).out.contains("index the same"));
    assert_eq!(answers(&host), before);
}
