//! A controller that is dead, that starts, that forgot, and that would end itself over what a commit asks.

use std::fs;

use serde_json::{Value, json};

use super::site::Site;
use crate::support::slurm_lab::until;

fn night(spec: &mut Value) {
    let night = json!({"name": "night", "pools": ["cpu", "gpu"], "maxTime": "8h"});
    spec["partitions"].as_array_mut().unwrap().push(night);
}

#[test]
fn a_controller_that_is_away_or_starts_is_no_empty_cluster() {
    let Some(site) = Site::start() else { return };
    let lab = &site.lab;
    let job = lab.job(&["-p", "batch", "-w", "n1"]);
    let begun = lab.running(job).started;
    lab.scontrol(&["update", "NodeName=n2", "State=DRAIN", "Reason=fan is loud, bob"]);
    let _daemon = site.daemon();
    site.await_synced();
    let before = site.in_force();

    lab.await_saved(job);
    lab.kill_controller();
    let why = site.await_unobservable();
    assert!(why.contains("does not answer"), "{why}");
    site.publish(&site.with(night));
    site.await_seen();
    assert_eq!((site.in_force(), site.steps()), (before, vec!["take over".to_owned()]));
    assert_eq!(site.row()["overview"]["nodes"]["total"], 4, "what was seen last is still told");

    // It starts: for a moment no node has answered it, and that is no difference either.
    lab.controller_up();
    site.await_synced();
    assert_eq!(site.steps(), ["take over", "prove", "configure"]);
    assert!(lab.live_conf().partitions.contains_key("night"));

    // Somebody starts it anew, for whatever reason.
    lab.controller_up();
    lab.await_nodes("idle", &["g1", "g2"]);
    site.publish(&site.with(night));
    site.await_synced();
    assert_eq!(site.steps().len(), 3, "{:?}", site.steps());
    assert_eq!(lab.observe().nodes["n2"].reason.as_ref().unwrap().text, "fan is loud, bob");
    assert_eq!(lab.running(job).started, begun, "the job noticed nothing");
    lab.end(job);
}

#[test]
fn what_a_controller_forgot_is_done_again_and_nothing_else() {
    let Some(site) = Site::start() else { return };
    let lab = &site.lab;
    let beside = lab.job(&["-p", "batch", "-w", "n1"]);
    let begun = lab.running(beside).started;
    let _daemon = site.daemon();
    site.await_synced();
    let hold = lab.at().join("hold-g1");
    fs::write(&hold, "").unwrap();
    let less = |spec: &mut Value| spec["pools"][1]["memory"] = json!("1500MiB");
    site.publish(&site.with(less));
    until("g1 is out and changes", || {
        site.steps().last().is_some_and(|verb| verb == "restart").then_some(())
    });
    lab.await_saved(beside);
    let (state, kept) = (lab.path("state"), lab.path("state.kept"));
    lab.ok(&["cp", "-a", &state, &kept]);
    fs::remove_file(&hold).unwrap();
    site.await_synced();
    lab.await_nodes("idle", &["g1", "g2"]);
    let steps = site.steps().len();
    assert_eq!(site.restarted(), ["g1", "g2"]);

    // It dies, and what it comes back with is from before: g1 out for our reason.
    lab.kill_controller();
    lab.ok(&["rm", "-r", &state]);
    lab.ok(&["mv", &kept, &state]);
    lab.controller_up();
    until("what it has of g1 is from before, and g1 is given back", || {
        let again = site.steps().split_off(steps);
        again.contains(&"resume".to_owned()).then_some(())
    });
    site.publish(&site.with(less));
    site.await_synced();
    lab.await_nodes("idle", &["g1", "g2"]);
    let again = site.steps().split_off(steps);
    let harmless = ["wait", "restart", "check", "resume"];
    assert!(again.iter().all(|verb| harmless.contains(&verb.as_str())), "{again:?}");
    // Until g1 has answered it, it does not know when its daemon was started.
    assert!(site.restarted()[2..].iter().all(|node| node == "g1"), "{:?}", site.restarted());
    assert_eq!(lab.drift(), []);
    assert_eq!(lab.running(beside).started, begun, "the job beside noticed nothing");
    lab.end(beside);
}

#[test]
fn files_that_would_end_a_controller_are_refused_in_its_own_words() {
    let Some(site) = Site::start() else { return };
    let lab = &site.lab;
    let job = lab.job(&["-p", "batch", "-w", "n1"]);
    let begun = lab.running(job).started;
    let _daemon = site.daemon();
    site.await_synced();
    let before = site.in_force();
    let refused = |words: &str, change: &dyn Fn(&mut Value)| {
        site.publish(&site.with(change));
        site.await_seen();
        let failure = site.await_failure(words);
        assert!(failure.contains("refuses the configuration"), "{failure}");
        assert_eq!(site.in_force(), before, "{words}");
        lab.commands().ping().unwrap();
    };
    // A key that there is not: every program on every machine would stop to work.
    refused("SlurmctldProt", &|spec| spec["parameters"]["SlurmctldProt"] = json!("1"));
    // A partition that says what cannot be.
    refused("PERHAPS", &|spec| {
        spec["partitions"][1]["parameters"] = json!({"OverSubscribe": "PERHAPS"});
    });
    // A plugin that there is not.
    refused("sched/none", &|spec| spec["parameters"]["SchedulerType"] = json!("sched/none"));
    // Values that do not go together.
    refused("PreemptType and PreemptMode", &|spec| {
        spec["parameters"]["PreemptType"] = json!("preempt/partition_prio");
    });
    // One that a controller misses only once it said that it runs.
    refused("priority/none", &|spec| spec["parameters"]["PriorityType"] = json!("priority/none"));

    // Two that end a controller of 22.05 when they are reconfigured, and that no document can ask for or
    // that are done otherwise: a partition on a node that there is not, and a node more.
    let mut spec = site.with(night);
    spec["partitions"][2]["pools"] = json!(["gone"]);
    site.publish(&spec);
    until("it is told", || site.status().contains("there is no pool `gone`").then_some(()));
    assert_eq!(site.in_force(), before);
    let more = json!({"name": "n3", "address": "127.0.0.1", "port": 9});
    let mut spec = site.with(night);
    spec["pools"][0]["nodes"].as_array_mut().unwrap().push(more);
    site.publish(&spec);
    site.await_synced();
    assert_eq!(lab.starts(), before.1 + 1, "it was started anew, and never fell over");
    let fell = fs::read_to_string(lab.at().join("log/slurmctld")).unwrap();
    assert!(!fell.contains("fatal:"), "{fell}");
    assert!(lab.observe().nodes.contains_key("n3"));
    assert_eq!(lab.running(job).started, begun, "the job noticed nothing");
    lab.end(job);
}
