//! Accounts, rights and everything else that a document says of jobs, in a real cluster and its database.

use std::fs;

use serde_json::{Value, json};
use trueup_slurm::wish::Limit;

use super::site::Site;
use crate::support::slurm_lab::database::{self, PROGRAMS};
use crate::support::slurm_lab::{Lab, possible, until};

fn with_database() -> Option<Site> {
    if !possible(PROGRAMS) {
        return None;
    }
    let mut lab = Lab::prepare(&[])?;
    let port = lab.spare_port();
    lab.wish = database::with_accounting(&lab.wish, port);
    lab.write_files(&lab.wish);
    database::up(&lab);
    lab.controller_up();
    lab.daemon("g1");
    until("the cluster is known", || {
        lab.ok(&["sacctmgr", "-nP", "show", "cluster", "format=cluster"])
            .contains("lab")
            .then_some(())
    });
    let mut site = Site::of(lab);
    site.look_through_programs();
    Some(site)
}

impl Site {
    /// The calls that wrote something into the database.
    fn written(&self) -> Vec<String> {
        let log = fs::read_to_string(self.lab.at().join("log/written")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// What the next plan would write into it.
    fn planned(&self) -> Vec<String> {
        let plan = self.run(&["plan", "-o", "json"]).out;
        let mut calls = Vec::new();
        arguments(&serde_json::from_str(&plan).unwrap(), &mut calls);
        calls
    }
}

/// Every list that is called `arguments`.
fn arguments(value: &Value, calls: &mut Vec<String>) {
    let Some(object) = value.as_object() else {
        value.as_array().into_iter().flatten().for_each(|one| arguments(one, calls));
        return;
    };
    for (key, value) in object {
        match value.as_array().filter(|_| key == "arguments") {
            Some(words) => {
                let words: Vec<&str> = words.iter().map(|word| word.as_str().unwrap()).collect();
                calls.push(words.join(" "));
            }
            None => arguments(value, calls),
        }
    }
}

#[test]
fn accounts_are_written_by_plan_alone_and_only_where_they_differ() {
    let Some(site) = with_database() else { return };
    let lab = &site.lab;
    let planned = site.planned();
    assert!(planned.contains(&"-i add qos gold".to_owned()), "{planned:?}");
    assert_eq!(site.written(), [""; 0], "a plan writes nothing");
    site.run(&["apply"]).code(0);
    assert_eq!(site.written(), planned, "what was planned, in that order");
    assert_eq!(site.planned(), [""; 0]);
    site.run(&["apply"]).code(0);
    assert_eq!(site.written().len(), planned.len(), "what is there is not written again");
    let there = lab.commands().accounts("lab").unwrap();
    assert_eq!(there.admins["nobody"], "Operator");
    assert!(there.accounts["research"].coordinators.contains("nobody"));

    // One limit: one call. Somebody else's account and quality of service are no difference.
    lab.ok(&["sacctmgr", "-i", "add", "account", "guests"]);
    lab.ok(&["sacctmgr", "-i", "add", "qos", "bronze"]);
    let more = |spec: &mut Value| {
        spec["qos"][0]["limits"]["maxTresPerUser"] = json!("gres/gpu=2");
    };
    site.publish(&site.with(more));
    let call = "-i modify qos where name=gold set MaxTRESPerUser=gres/gpu=2";
    assert_eq!(site.planned(), [call]);
    site.run(&["apply"]).code(0);
    assert_eq!(site.written().last().unwrap(), call);
    // Changed by hand it goes back.
    let by_hand = ["-i", "modify", "qos", "where", "name=gold", "set", "MaxTRESPerUser=gres/gpu=9"];
    lab.ok(&[&["sacctmgr"], &by_hand[..]].concat());
    site.run(&["apply"]).code(0);
    let there = lab.commands().accounts("lab").unwrap();
    assert_eq!(there.qos["gold"].limits[&Limit::MaxTresPerUser], "gres/gpu=2");
    let count = site.written().len();
    assert_eq!(count, planned.len() + 2, "{:?}", site.written());

    // Slurm holds to it.
    lab.await_nodes("idle", &["g1"]);
    let wrong = lab.sh(&["sbatch", "-A", "nobody", "--wrap", "true"]);
    assert!(!wrong.status.success(), "an account that there is not");
    let job = lab.job(&["-p", "gpu", "-w", "g1", "-A", "vision", "--qos=gold", "--gres=gpu:1"]);
    assert_eq!(lab.running(job).qos, "gold");
    until("it is accounted to whom it is", || {
        let shown = lab.ok(&["sacct", "-nXPj", &job.to_string(), "-o", "Account,AllocTRES"]);
        shown.contains("vision|").then_some(())
    });
    // What runs is told with the next thing that stands otherwise.
    lab.scontrol(&["update", "NodeName=n2", "State=DRAIN", "Reason=dust"]);
    site.run(&["apply"]).code(0);
    let row = site.row();
    let load = &row["overview"]["accounts"]["vision"];
    assert_eq!((&load["running"], &load["gpus"]), (&json!(1), &json!(1)), "{row}");
    lab.end(job);

    // What goes is a destruction, of what was ours alone.
    let fewer = |spec: &mut Value| {
        more(spec);
        spec["accounts"].as_array_mut().unwrap().retain(|one| one["name"] != "vision");
        spec["accounts"][0].as_object_mut().unwrap().remove("coordinators");
        spec.as_object_mut().unwrap().remove("admins");
    };
    site.publish(&site.with(fewer));
    let plan = site.run(&["plan"]).out;
    assert!(plan.contains("DESTROY"), "{plan}");
    let mut planned = site.planned();
    planned.sort();
    assert_eq!(
        planned,
        [
            "-i delete account where name=vision cluster=lab",
            "-i delete coordinator where account=research names=nobody",
            "-i delete user where name=nobody account=vision cluster=lab",
            "-i delete user where name=root account=vision cluster=lab",
            "-i modify user where name=nobody set AdminLevel=None",
        ]
    );
}

#[test]
fn what_a_document_says_of_nodes_queues_and_jobs_is_in_force_and_stays() {
    let Some(mut site) = Site::start() else { return };
    site.set("allowedPaths", json!([site.lab.at()]));
    let lab = &site.lab;
    for hook in ["prolog", "epilog"] {
        let text =
            format!("#!/bin/sh\necho $SLURM_JOB_ID >>{}\n", lab.path(&format!("log/{hook}")));
        lab.script(hook, &text);
    }
    site.run(&["apply"]).code(0);
    let whole = |spec: &mut Value| {
        spec["login"] = json!([{"name": "login[1-2]"}]);
        spec["hooks"] = json!({"prolog": lab.path("prolog"), "epilog": lab.path("epilog")});
        spec["pools"][0]["features"] = json!(["fast"]);
        spec["pools"][0]["weight"] = json!(5);
        spec["partitions"][0]["parameters"] = json!({"OverSubscribe": "FORCE:2"});
        spec["partitions"][1]["groups"] = json!(["root"]);
        spec["parameters"]["PrivateData"] = json!("jobs");
        spec["lines"] = json!(["NodeSet=quick Feature=fast"]);
        spec["gresLines"] = json!(["AutoDetect=off"]);
    };
    site.publish(&site.with(whole));
    let plan = site.run(&["plan"]).out;
    for said in ["prolog", "nodes.n1.feature", "allowgroups", "privatedata", "NodeSet=quick"] {
        assert!(plan.contains(said), "{said}: {plan}");
    }
    site.run(&["apply"]).code(0);
    assert!(!site.run(&["plan"]).out.contains("cluster/hpc"), "{}", site.run(&["plan"]).out);

    let shown = lab.ok(&["sinfo", "-h", "-N", "-n", "n1", "-o", "%f %w"]);
    assert_eq!(shown.lines().next().unwrap().trim(), "fast 5");
    let job = lab.job(&["-p", "batch", "-C", "fast"]);
    lab.running(job);
    let ran = |hook: &str| {
        let log = fs::read_to_string(lab.at().join("log").join(hook)).unwrap_or_default();
        log.lines().any(|line| line == job.to_string())
    };
    // Slurm calls a job running from when it has its nodes, while these begin.
    until("the prolog ran", || ran("prolog").then_some(()));
    // Who is not of the group submits nothing there, and sees no job of others.
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let refused = lab.sh(&[&nobody[..], &["sbatch", "-p", "gpu", "--wrap", "true"]].concat());
    assert!(!refused.status.success(), "{refused:?}");
    let seen = lab.ok(&[&nobody[..], &["squeue", "-h"]].concat());
    assert_eq!(seen, "");
    lab.end(job);
    until("after the job", || ran("epilog").then_some(()));

    // Hands at run time: it goes back to what is written.
    lab.scontrol(&["update", "NodeName=n1", "Weight=9"]);
    lab.scontrol(&["update", "PartitionName=gpu", "AllowGroups=ALL"]);
    let plan = site.run(&["plan"]).out;
    assert!(plan.contains("weight") && plan.contains("allowgroups"), "{plan}");
    site.run(&["apply"]).code(0);
    assert_eq!(lab.drift(), []);
}
