//! Files brought into force, refused, and put back, while jobs run.

use std::collections::BTreeMap;
use std::fs;

use trueup_slurm::plan::config::{Action, Loss};
use trueup_slurm::{ProveError, Switched, recover, switch};

use crate::lab::{Lab, host, queue, until};

fn words(changes: &[trueup_slurm::plan::config::Change]) -> Vec<String> {
    changes.iter().map(|one| format!("{} {}", one.subject, one.field).trim().to_owned()).collect()
}

#[test]
fn a_wish_runs_as_it_is_written_and_changes_without_touching_a_job() {
    let Some(mut lab) = Lab::start() else { return };
    assert_eq!(lab.drift(), [], "as it is written");
    let job = lab.job(&["-p", "batch", "-w", "n1"]);
    let begun = lab.running(job);

    // The same wish again: the controller is not even asked.
    let starts = lab.starts();
    let wish = lab.wish.clone();
    let (plan, done) = lab.apply(&wish);
    assert_eq!((plan.controller, done), (Action::Nothing, Switched::AlreadySo));

    // What hands made at run time would be lost, and is found before.
    lab.scontrol(&["create", "PartitionName=debug", "Nodes=n2"]);
    lab.scontrol(&["update", "PartitionName=gpu", "MaxTime=30"]);
    assert_eq!(words(&lab.drift()), ["partition debug", "partition gpu maxtime"]);
    lab.scontrol(&[
        "create",
        "reservation",
        "ReservationName=maint",
        "StartTime=now+3600",
        "Duration=60",
        "Nodes=g2",
        "Users=root",
    ]);

    // A partition more: that alone changes.
    let mut wish = wish;
    wish.partitions.push(queue("night", &["cpu", "gpu"]));
    let (plan, done) = lab.apply(&wish);
    assert_eq!(done, Switched::InForce);
    assert_eq!(
        (words(&plan.changes), plan.controller),
        (vec!["partition night".into()], Action::Reconfigure)
    );
    let lost: Vec<String> = plan.losses.iter().map(ToString::to_string).collect();
    assert_eq!(lost.len(), 2, "{lost:?}");
    assert!(matches!(&plan.losses[0], Loss::Partition { name } if name == "debug"));
    assert!(matches!(&plan.losses[1], Loss::PartitionField { now, .. } if now == "00:30:00"));
    assert_eq!(lab.drift(), []);
    assert_eq!(lab.starts(), starts, "it was not started anew");
    assert!(lab.observe().reservations.contains_key("maint"), "reservations survive");
    assert_eq!(lab.running(job).started, begun.started, "the job noticed nothing");

    // A node more.
    let port = lab.spare_port();
    wish.pools[0].nodes.push(host("n3", port));
    let (plan, done) = lab.apply(&wish);
    assert_eq!((done, plan.controller), (Switched::InForce, lab.new_nodes_need()), "{plan:?}");
    assert_eq!(plan.daemons.iter().collect::<Vec<_>>(), ["n3"]);
    lab.daemon("n3");
    lab.await_nodes("idle", &["n3"]);
    let across = lab.ok(&["srun", "-p", "night", "-w", "n2,n3", "-N2", "hostname"]);
    assert_eq!(across.lines().count(), 2, "a job on the old node and the new one: {across}");
    assert!(lab.observe().reservations.contains_key("maint"));
    assert_eq!(lab.drift(), []);

    // The reserved node goes: that is said before.
    let mut fewer = wish.clone();
    fewer.pools[1].nodes.pop();
    let lost = lab.plan(&fewer).losses;
    assert!(lost.iter().any(|one| matches!(one, Loss::Reservation { node, .. } if node == "g2")));

    assert_eq!(lab.running(job).started, begun.started);
    lab.end(job);
}

/// A candidate that is refused, with words of the controller's, and nothing of the cluster touched.
#[track_caller]
fn refused(lab: &Lab, change: impl FnOnce(&mut BTreeMap<String, String>), words: &str) {
    let mut files = lab.files(&lab.wish);
    change(&mut files);
    let before = (lab.live_text(), lab.starts());
    let error = lab.prover().prove(&files, &lab.at().join("work")).unwrap_err();
    assert!(matches!(error, ProveError::Refused(_)), "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!((lab.live_text(), lab.starts()), before);
    lab.commands().ping().unwrap();
    let left = fs::read_dir(lab.at().join("work")).unwrap().count();
    assert_eq!(left, 0, "the trial leaves nothing behind");
}

#[track_caller]
fn in_conf<'a>(from: &'a str, to: &'a str) -> impl FnOnce(&mut BTreeMap<String, String>) + use<'a> {
    move |files| {
        let text = files.get_mut("slurm.conf").unwrap();
        assert!(text.contains(from), "{text}");
        *text = text.replacen(from, to, 1);
    }
}

#[test]
fn mistakes_are_refused_in_the_controllers_words_before_anything_is_written() {
    let Some(lab) = Lab::prepare(&[]) else { return };
    lab.controller_up();
    // A key that there is not: clients would stop to work on every machine that has the file.
    refused(&lab, in_conf("SlurmctldPort=", "SlurmctldProt=1\nSlurmctldPort="), "SlurmctldProt");
    // A partition on a node that there is not: 22.05 ends itself when it is reconfigured.
    refused(
        &lab,
        in_conf("PartitionName=gpu Nodes=g[1-2]", "PartitionName=gpu Nodes=g[1-3]"),
        "Invalid node names in partition gpu",
    );
    // A resource that no type declares: nodes would lose their GPUs without a word.
    refused(&lab, in_conf("Gres=gpu:a100:2", "Gres=gpu:a100:2,fpga:1"), "Invalid GRES configured");
    let mut silent = lab.files(&lab.wish);
    in_conf("GresTypes=gpu\n", "")(&mut silent);
    let error = lab.prover().prove(&silent, &lab.at().join("work")).unwrap_err().to_string();
    assert!(error.contains("say GresTypes too"), "{error}");
    // A plugin that there is not.
    refused(&lab, in_conf("select/cons_tres", "select/cons_trees"), "select/cons_trees");
    // One that is loaded only after the controller said that it runs: a reconfigure would take it, and
    // the next start would not.
    refused(
        &lab,
        in_conf("SlurmctldPort=", "PriorityType=priority/none\nSlurmctldPort="),
        "priority",
    );
    // A node twice.
    refused(
        &lab,
        in_conf("NodeName=n1 ", "NodeName=n1 CPUs=1 NodeAddr=127.0.0.1 Port=1\nNodeName=n1 "),
        "Duplicated NodeHostName n1",
    );
    // Another file's words: Slurm would repeat what it cannot read of them.
    let other = lab.at().join("other");
    fs::write(&other, "root:hunter2:19700\n").unwrap();
    for name in ["slurm.conf", "gres.conf"] {
        let mut including = lab.files(&lab.wish);
        including.get_mut(name).unwrap().push_str(&format!("Include {}\n", other.display()));
        let error = lab.prover().prove(&including, &lab.at().join("work")).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, ProveError::Files(_)) && !said.contains("hunter2"), "{said}");
        assert!(said.contains(name) && said.contains("includes another file"), "{said}");
    }
    // And what is well is let through, words that are of no matter aside.
    assert_eq!(lab.prove(&lab.wish).noted(), [""; 0]);
}

#[test]
fn what_stands_beside_the_live_files_is_tried_with_them() {
    let Some(lab) = Lab::prepare(&[]) else { return };
    let mut wish = lab.wish.clone();
    wish.parameters.insert("TopologyPlugin".into(), "topology/tree".into());
    let prove = || lab.prover().prove(&lab.files(&wish), &lab.at().join("work"));
    let error = prove().unwrap_err().to_string();
    assert!(error.contains("topology.conf"), "{error}");
    let topology = lab.live().folder.join("topology.conf");
    fs::write(&topology, "SwitchName=s1 Nodes=n[1-2],g[1-2]\n").unwrap();
    assert_eq!(prove().unwrap().noted(), [""; 0]);
    // A mistake in it is one of the cluster, before anything is written.
    fs::write(&topology, "SwitchNam=s1 Nodes=n1\n").unwrap();
    let error = prove().unwrap_err().to_string();
    assert!(error.contains("SwitchNam"), "{error}");
}

#[test]
fn what_brings_the_controller_down_is_put_back_and_jobs_go_on() {
    let Some(lab) = Lab::start() else { return };
    let job = lab.job(&["-p", "batch", "-w", "n2"]);
    let begun = lab.running(job);
    lab.scontrol(&["update", "NodeName=g1", "State=DRAIN", "Reason=ask bob"]);
    let before = lab.live_text();

    // A trial says nothing of a folder that the trial does not use.
    let mut wish = lab.wish.clone();
    wish.parameters.insert("StateSaveLocation".into(), "/proc/nowhere".into());
    let (plan, done) = lab.apply(&wish);
    assert_eq!(plan.controller, Action::Restart);
    let Switched::PutBack { words } = done else { panic!("{done:?}") };
    assert!(!words.is_empty());
    assert_eq!(lab.live_text(), before);
    assert_eq!(lab.running(job).started, begun.started);

    // A reconfigure where a restart is needed is what a hand would do: 22.05 ends itself.
    let mut wish = lab.wish.clone();
    wish.pools[0].nodes.push(host("n9", 9));
    let proof = lab.prove(&wish);
    if lab.new_nodes_need() == Action::Restart {
        let done = switch(&proof, &lab.live(), Action::Reconfigure, &mut lab.control()).unwrap();
        assert!(matches!(done, Switched::PutBack { .. }), "{done:?}");
        assert_eq!(lab.live_text(), before);
    }

    // Cut off after the first file was written, the controller dead: the last good files come back.
    let mark = r#"{"files":[{"name":"slurm.conf","was_there":true}]}"#;
    let folder = lab.live().folder;
    fs::write(folder.join("slurm.conf.kept"), &before).unwrap();
    fs::write(folder.join(".slurm.conf.exchange"), mark).unwrap();
    fs::write(folder.join("slurm.conf"), "ClusterName=").unwrap();
    lab.kill_controller();
    let done = recover(&lab.live(), &mut lab.control()).unwrap();
    assert!(matches!(done, Some(Switched::PutBack { .. })), "{done:?}");
    assert_eq!(lab.live_text(), before);
    assert_eq!(recover(&lab.live(), &mut lab.control()).unwrap(), None, "once is enough");

    lab.await_nodes("drained", &["g1"]);
    assert_eq!(lab.observe().nodes["g1"].reason.as_ref().unwrap().text, "ask bob");
    assert_eq!(lab.running(job).started, begun.started);
    until("nothing drifts", || lab.drift().is_empty().then_some(()));
    lab.end(job);
}
