//! Commands of an operator where no daemon runs.

use super::{Host, writer};

#[test]
fn a_plan_is_approved_by_its_digits_and_the_log_knows_by_whom() {
    let host = Host::new().with_past();
    let plan = trueup::model::Digest::of("plan").to_string();
    let wrong = host.run(&["approve", "0123456789ab"]).code(4);
    assert!(wrong.err.contains("look at it again"), "{}", wrong.err);
    host.run(&["approve", &plan[..12]]).code(0);
    let log = host.run(&["log", "--type", "plan.approved", "-o", "json"]).code(0).out;
    let line: serde_json::Value = serde_json::from_str(log.trim()).unwrap();
    assert!(line["actor"].as_str().unwrap().starts_with("operator:"), "{log}");
}

#[test]
fn a_pause_and_its_end_are_events() {
    let host = Host::new().with_past();
    host.run(&["resume"]).code(4);
    host.run(&["pause", "-m", "moving"]).code(0);
    assert!(host.run(&["status"]).code(0).out.contains("moving"));
    host.run(&["resume"]).code(0);
    assert!(!host.run(&["status"]).code(0).out.contains("moving"));
}

#[test]
fn a_hold_is_of_one_resource() {
    let host = Host::new().with_past();
    host.run(&["hold", "vm/nobody", "-m", "x"]).code(4);
    host.run(&["hold", "vm/web", "-m", "debugging"]).code(0);
    assert!(host.run(&["status"]).code(0).out.contains("debugging"));
    host.run(&["release", "vm/web"]).code(0);
    host.run(&["release", "vm/web"]).code(4);
}

#[test]
fn a_rewrite_that_nobody_refused_cannot_be_accepted() {
    let host = Host::new().with_past();
    host.run(&["accept-rewrite", &"b".repeat(40)]).code(4);
    host.run(&["accept-rewrite", "bbbb"]).code(2);
}

#[test]
fn nobody_writes_beside_another_writer() {
    let host = Host::new().with_past();
    let other = writer(&host);
    let ended = host.run(&["pause", "-m", "x"]).code(4);
    assert!(ended.err.contains("is being written by process"), "{}", ended.err);
    drop(other);
    host.run(&["pause", "-m", "x"]).code(0);
}

#[test]
fn where_there_is_no_log_nothing_is_made() {
    let host = Host::new();
    host.run(&["pause", "-m", "x"]).code(1);
    assert!(!host.state().exists());
    let ended = host.run(&["status"]).code(1);
    assert!(ended.err.contains("hint:") && ended.out.is_empty(), "{ended:?}");
}

#[test]
fn the_log_is_opened_under_the_name_of_the_config() {
    let host = Host::new().with_past();
    let config = host.path().join("config.yaml");
    let text = std::fs::read_to_string(&config).unwrap() + "host: node7\n";
    std::fs::write(&config, text).unwrap();
    host.run(&["pause", "-m", "moving"]).code(0);
    let log = host.run(&["log", "--type", "log.opened", "-n", "1", "-o", "json"]).code(0).out;
    let line: serde_json::Value = serde_json::from_str(log.trim()).unwrap();
    assert_eq!(line["data"]["host"], "node7");
}
