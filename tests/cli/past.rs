//! Commands that answer from the log: status, drift, why, log, state, replay.

use expect_test::expect;

use super::Host;

/// Puts the changing parts of an output (times, digests) out of the way.
fn steady(text: &str) -> String {
    let mut out = Vec::new();
    for line in text.lines() {
        let words = line.split(' ').map(|word| match word {
            word if word.len() == 10 && word.matches('-').count() == 2 => "<date>",
            word if word.len() == 8 && word.matches(':').count() == 2 => "<time>",
            word if word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()) => "<hash>",
            word => word,
        });
        out.push(words.collect::<Vec<_>>().join(" "));
    }
    out.join("\n") + "\n"
}

#[test]
fn status_is_one_table() {
    let host = Host::new().with_past();
    let ended = host.run(&["status"]).code(0);
    expect![[r#"
        environment lab  commit aaaaaaaaaa  event 8  resources 1 Drifted, 1 Held, 1 Synced
        held: plan 64879f7d6b96: it destroys 4 resources, maxDestroy is 3

        RESOURCE     STATUS   SINCE                WHY
        network/lan  Synced   <date> <time>
        vm/db        Held                          it destroys 4 resources, maxDestroy is 3
        vm/web       Drifted  <date> <time>  stopped
    "#]]
    .assert_eq(&steady(&ended.out));
    assert_eq!(ended.err, "");
    let problems = host.run(&["status", "--problems"]).code(0);
    assert!(!problems.out.contains("network/lan"), "{}", problems.out);
}

#[test]
fn status_as_data_in_every_form() {
    let host = Host::new().with_past();
    let json: serde_json::Value =
        serde_json::from_str(&host.run(&["status", "-o", "json"]).code(0).out).unwrap();
    assert_eq!(json["resources"][2]["status"]["is"], "drifted");
    assert_eq!(json["counts"]["Synced"], 1);
    let yaml = host.run(&["status", "-o", "yaml"]).code(0).out;
    assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&yaml).unwrap(), json);
    let markdown = host.run(&["status", "-o", "markdown"]).code(0).out;
    assert!(markdown.contains("| vm/web | Drifted |"), "{markdown}");
}

#[test]
fn drift_ends_with_3_and_its_absence_with_0() {
    let host = Host::new().with_past();
    let ended = host.run(&["drift"]).code(3);
    assert!(ended.out.contains("vm/web") && ended.out.contains("stopped"), "{}", ended.out);
    let before = host.run(&["state", "--at", "5"]).code(0);
    let state: serde_json::Value = serde_json::from_str(&before.out).unwrap();
    assert_eq!(state["seq"], 5);
    assert!(state["resources"]["vm/web"]["drift"].is_null());
}

#[test]
fn why_tells_the_story() {
    let host = Host::new().with_past();
    let ended = host.run(&["why", "vm/web"]).code(0);
    let types: Vec<_> = ended
        .out
        .lines()
        .skip(3)
        .map(|line| line.split_whitespace().nth(3).unwrap_or_default())
        .collect();
    assert!(ended.out.starts_with("vm/web is Drifted: stopped\n"), "{}", ended.out);
    assert_eq!(types, ["spec.accepted", "resource.synced", "resource.drifted"]);
    let unknown = host.run(&["why", "vm/nobody"]).code(1);
    assert!(unknown.err.contains("the log says nothing about vm/nobody"), "{}", unknown.err);
    let wrong = host.run(&["why", "car/web"]).code(2);
    assert!(wrong.err.contains("kind/name"), "{}", wrong.err);
}

#[test]
fn log_filters_and_keeps_bytes() {
    let host = Host::new().with_past();
    let count = |words: &[&str]| host.run(words).code(0).out.lines().count();
    assert_eq!(count(&["log"]), 8);
    assert_eq!(count(&["log", "-n", "3"]), 3);
    assert_eq!(count(&["log", "-n", "0"]), 0);
    assert_eq!(count(&["log", "--subject", "vm/*"]), 2);
    assert_eq!(count(&["log", "--type", "plan.*"]), 2);
    assert_eq!(count(&["log", "--commit", "aaaa"]), 4);
    assert_eq!(count(&["log", "--since", "1h"]), 8);
    assert_eq!(count(&["log", "--until", "1h"]), 0);
    let stored = std::fs::read_to_string(host.state().join("log/00000000000000000001.jsonl"));
    assert_eq!(host.run(&["log", "-o", "json"]).code(0).out, stored.unwrap());
}

#[test]
fn a_hostile_commit_cannot_steer_the_terminal() {
    let host = Host::new().with_past();
    let ended = host.run(&["log"]).code(0);
    assert!(ended.out.contains("Red") && !ended.out.contains('\u{1b}'), "{:?}", ended.out);
}

#[test]
fn log_verify_says_ok_or_where_it_is_not() {
    let host = Host::new().with_past();
    let ended = host.run(&["log", "verify"]).code(0);
    assert!(ended.out.starts_with("log verify: ok\n8 events in 1 segment(s)"), "{}", ended.out);
    let path = host.state().join("log/00000000000000000001.jsonl");
    let text = std::fs::read_to_string(&path).unwrap().replacen("Eve", "Bob", 1);
    std::fs::write(&path, text).unwrap();
    let ended = host.run(&["log", "verify"]).code(5);
    assert!(ended.err.contains("line 2") && ended.err.contains("restoring"), "{}", ended.err);
    host.run(&["status"]).code(5);
}

#[test]
fn replay_without_a_daemon_rebuilds_the_index() {
    let host = Host::new().with_past();
    let ended = host.run(&["replay"]).code(0);
    assert!(ended.out.contains("8 events, 3 resources"), "{}", ended.out);
    assert!(ended.out.contains("index built anew"), "{}", ended.out);
    let again = host.run(&["replay"]).code(0);
    assert!(!again.out.contains("index built anew"), "{}", again.out);
    std::fs::remove_dir_all(host.state().join("index")).unwrap();
    host.run(&["replay"]).code(0);
}

#[test]
fn state_beyond_the_end_is_said() {
    let host = Host::new().with_past();
    let ended = host.run(&["state", "--at", "99"]).code(0);
    assert!(ended.err.contains("ends at event 8"), "{}", ended.err);
    host.run(&["state", "--at", "2000-01-01"]).code(1);
}
