//! Nodes on their way that do not go it: jobs that do not end, a kill in the middle, a clock that is off.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::site::Site;
use crate::support::slurm_lab::{KEY, until};

/// What gives a program another clock than its machine has.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

fn less_memory(spec: &mut Value) {
    spec["pools"][1]["memory"] = json!("1500MiB");
}

/// The time, seconds since 1970: this machine's and the controller's.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn await_step(site: &Site, verb: &str) {
    until(&format!("it begins to {verb}"), || {
        site.steps().last().is_some_and(|last| last == verb).then_some(())
    });
}

#[test]
fn a_job_that_outlives_the_patience_stops_the_pool_and_is_not_killed() {
    let Some(site) = Site::start() else { return };
    let lab = &site.lab;
    // Half an hour is its limit, and 2 s are ours.
    let job = lab.job(&["-p", "gpu", "-w", "g1"]);
    let begun = lab.running(job).started;
    let first = site.daemon();
    site.await_synced();
    site.publish(&site.with(less_memory));
    await_step(&site, "wait");
    let drained = lab.observe().nodes["g1"].reason.as_ref().unwrap().at;
    first.kill();
    // The time of a drain goes on while nobody waits.
    until("more time goes by than it may take", || (now() > drained + 4).then_some(()));
    let impatient = |spec: &mut Value| {
        less_memory(spec);
        spec["drainTimeout"] = json!("2s");
        // From now on it would be too long for its partition, too.
        spec["partitions"][1]["maxTime"] = json!("10m");
    };
    site.publish(&site.with(impatient));
    let _daemon = site.daemon();
    let failure = site.await_failure("after the drain");
    let took = failure.split(" s after the drain").next().and_then(|it| it.rsplit(' ').next());
    assert!(took.unwrap().parse::<i64>().unwrap() > 4, "it did not begin anew: {failure}");
    assert!(failure.contains(&format!("job {job} runs on g1 still")), "{failure}");
    assert!(failure.contains("raise `drainTimeout`"), "{failure}");
    let seen = lab.observe();
    assert!(seen.nodes["g1"].is_drained() && !seen.nodes["g2"].is_drained(), "no other is begun");
    assert_eq!(seen.nodes["g1"].memory_mib, 2000, "and g1 is as it was");
    assert_eq!(seen.partitions["gpu"].fields["maxtime"], "00:10:00", "what needs no node is done");
    assert_eq!(lab.running(job).started, begun, "the job goes on");
    assert_eq!(site.restarted(), [""; 0]);

    // It ends by itself in the end, and the rest is done without a word of anybody.
    lab.end(job);
    site.await_synced();
    lab.await_nodes("idle", &["g1", "g2"]);
    assert_eq!(site.restarted(), ["g1", "g2"]);
    assert_eq!(lab.observe().nodes["g1"].memory_mib, 1500);
}

#[test]
fn a_node_that_somebody_gives_back_meanwhile_is_not_changed_under_its_jobs() {
    let Some(site) = Site::start() else { return };
    let lab = &site.lab;
    let long = lab.job(&["-p", "gpu", "-w", "g2"]);
    lab.running(long);
    let _daemon = site.daemon();
    site.await_synced();
    site.publish(&site.with(|spec| {
        less_memory(spec);
        spec["maxUnavailable"] = json!(2);
    }));
    // Both are taken out, and g1 is empty at once.
    until("g1 was waited for, and g2 is", || {
        let waits = site.steps().iter().filter(|verb| *verb == "wait").count();
        (waits == 2).then_some(())
    });
    lab.scontrol(&["update", "NodeName=g1", "State=RESUME"]);
    let given = lab.job(&["-p", "gpu", "-w", "g1"]);
    let begun = lab.running(given).started;
    lab.end(long);
    site.await_failure("g1 is in use again");
    assert_eq!(lab.running(given).started, begun, "the job on it goes on");
    assert_eq!(lab.live_conf().nodes["g1"]["realmemory"], "2000", "and nothing was written");
    lab.end(given);
    site.await_synced();
    lab.await_nodes("idle", &["g1", "g2"]);
    assert_eq!(lab.observe().nodes["g1"].memory_mib, 1500);
}

#[test]
fn a_pool_that_is_half_changed_when_trueup_is_killed_is_finished() {
    let Some(site) = Site::start() else { return };
    let lab = &site.lab;
    let job = lab.job(&["-p", "batch", "-w", "n1"]);
    let begun = lab.running(job).started;
    let first = site.daemon();
    site.await_synced();
    // The files of g1 are exchanged, its old daemon is gone and its new one not there yet.
    let hold = lab.at().join("hold-g2");
    fs::write(&hold, "").unwrap();
    site.publish(&site.with(less_memory));
    until("g2 is in the middle of it", || {
        let steps = site.steps();
        let restarts = steps.iter().filter(|verb| *verb == "restart").count();
        (restarts == 2 && lab.at().join("held-g2").exists()).then_some(())
    });
    first.kill();
    fs::remove_file(&hold).unwrap();
    let seen = lab.observe();
    assert!(!seen.nodes["g1"].is_drained() && seen.nodes["g2"].is_drained(), "half of it");
    assert_eq!(site.restarted(), ["g1"], "the daemon of g2 is gone");

    let _second = site.daemon();
    site.await_synced();
    lab.await_nodes("idle", &["g1", "g2"]);
    assert_eq!(site.restarted(), ["g1", "g2"], "g1 was done, and is not done again");
    let seen = lab.observe();
    assert!(["g1", "g2"].iter().all(|name| seen.nodes[*name].memory_mib == 1500));
    assert_eq!(lab.running(job).started, begun, "the job beside noticed nothing");
    lab.end(job);
    site.run(&["log", "verify"]).code(0);
}

#[test]
fn a_clock_that_is_off_costs_a_node_no_second_restart_and_one_far_off_stops_the_pool() {
    if !Path::new(FAKETIME).exists() {
        eprintln!("skipped: {FAKETIME} of the package libfaketime is not installed");
        return;
    }
    let Some(site) = Site::start() else { return };
    let lab = &site.lab;
    let _daemon = site.daemon();
    site.await_synced();
    // Two minutes behind, so that its new daemon seems to be older than the drain; a whole machine of the
    // time before, munge and all.
    let start = |node: &str, folder: &str, behind: &str| {
        let clock = format!("FAKETIME={behind}");
        let preload = format!("LD_PRELOAD={FAKETIME}");
        let under = ["env", &preload, &clock, "FAKETIME_DONT_FAKE_MONOTONIC=1"];
        lab.machine(folder, KEY, &under);
        let script = format!(
            "#!/bin/sh\ncp {lab}/etc/*.conf {lab}/{folder}/\n\
             sed -i s,{lab}/munge/,{lab}/{folder}/, {lab}/{folder}/slurm.conf\n\
             exec {} slurmd -N {node} -f {lab}/{folder}/slurm.conf\n",
            under.join(" "),
            lab = lab.at().display(),
        );
        lab.script(&format!("start-{node}"), &script);
    };
    start("g1", "behind", "-2m");
    site.publish(&site.with(less_memory));
    site.await_synced();
    lab.await_nodes("idle", &["g1", "g2"]);
    assert_eq!(site.restarted(), ["g1", "g2"], "once each");
    let steps = site.steps();
    site.publish(&site.with(less_memory));
    site.await_synced();
    assert_eq!(site.steps(), steps, "and not again");

    // An hour: munge of no other machine takes its word.
    start("g1", "lost", "-1h");
    site.publish(&site.with(|spec| spec["pools"][1]["memory"] = json!("1600MiB")));
    await_step(&site, "check");
    until("g1 has its new daemon", || (site.restarted().len() == 3).then_some(()));
    until("it is told what is waited for", || {
        site.row()["status"].to_string().contains("check").then_some(())
    });
    until("its word is not taken", || {
        let log = fs::read_to_string(lab.at().join("log/g1")).unwrap_or_default();
        log.contains("Unable to register").then_some(())
    });
    let seen = lab.observe();
    assert!(seen.nodes["g1"].is_drained() && !seen.nodes["g2"].is_drained(), "no other is begun");
    assert_eq!(site.steps().last().unwrap(), "check");

    // Its clock is set.
    fs::remove_file(lab.at().join("start-g1")).unwrap();
    lab.restart_daemon("g1");
    site.await_synced();
    lab.await_nodes("idle", &["g1", "g2"]);
    assert_eq!(site.restarted(), ["g1", "g2", "g1", "g2"]);
}
