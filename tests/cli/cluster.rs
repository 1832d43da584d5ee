//! A Slurm cluster by the real program and a real Slurm: taken over, changed node by node while jobs
//! run, and never written wrongly.

mod accounts;
mod controller;
mod kept;
mod merged;
mod nodes;
mod outside;
mod site;

use std::fs;

use serde_json::{Value, json};
use trueup_slurm::conf::Conf;

use self::site::Site;
use crate::support::slurm_lab::until;

#[test]
fn a_cluster_is_taken_over_as_it_is_and_nothing_wrong_is_ever_written() {
    let Some(mut site) = Site::start() else { return };
    let (before, starts) = (site.lab.live_text(), site.lab.starts());

    // Not asked to, it touches nothing, and still tells how it is.
    site.publish_with(&site.spec, false);
    site.run(&["apply"]);
    let plan = site.run(&["plan"]).out;
    assert!(plan.contains("not ours"), "{plan}");
    assert_eq!(site.steps(), [""; 0]);
    assert_eq!(site.row()["overview"]["nodes"]["total"], 4);

    site.publish(&site.spec);
    site.run(&["apply"]).code(0);
    assert_eq!(site.steps(), ["take over"]);
    assert_eq!((site.lab.live_text(), site.lab.starts()), (before.clone(), starts));
    let row = site.row();
    assert_eq!((&row["name"], &row["status"]["is"]), (&json!("lab"), &json!("synced")), "{row}");
    assert_eq!(row["overview"]["resources"]["gpu:a100"]["total"], 4, "{row}");
    let groups = &row["overview"]["groups"];
    assert_eq!((&groups[0]["nodes"], &groups[1]["nodes"]), (&json!("n[1-2]"), &json!("g[1-2]")));
    assert_eq!(groups[1]["resources"]["gpu:a100"], json!({"total": 4, "allocated": 0}), "{row}");
    let shown = site.run(&["cluster"]).code(0).out;
    for words in ["4 of 4 nodes up", "g[1-2]", "0 of 8", "gpu:a100 0 of 4"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let plan = site.run(&["plan"]).out;
    assert!(!plan.contains("cluster/hpc"), "{plan}");
    let ssh = site.run(&["cluster", "access", "ssh"]).code(0).out;
    assert!(ssh.contains("\nHost hpc-g1 g1\n    HostName 127.0.0.1\n"), "{ssh}");
    let inventory = site.run(&["cluster", "access", "ansible"]).code(0).out;
    let inventory: Value = serde_saphyr::from_str(&inventory).unwrap();
    let gpu = &inventory["all"]["children"]["hpc"]["children"]["hpc_pool_gpu"]["hosts"];
    assert_eq!(gpu["g1"], json!({"ansible_host": "127.0.0.1"}), "{inventory}");

    // The document that its files are is the cluster as it is.
    let folder = site.lab.live().folder;
    let words = ["cluster", "import", "--name", "hpc", "--folder", folder.to_str().unwrap()];
    let document = site.run(&words).code(0).out;
    let at = site.host.path().display();
    let environment = format!(
        "apiVersion: trueup/v1\nkind: Environment\nmetadata: {{name: lab}}\nspec:\n  \
         storagePools: [{{name: fast, path: {at}/pool}}]\n---\n{document}"
    );
    site.repo.publish("environments/lab/all.yaml", &environment);
    site.run(&["apply"]).code(0);
    assert_eq!(site.row()["status"]["is"], "synced", "{}\n{document}", site.status());
    assert_eq!((site.lab.live_text(), site.lab.starts()), (before.clone(), starts));

    // Wrong ones, each by a commit. What Slurm would only find when it is too late:
    let wrong = |change: &dyn Fn(&mut Value), words: &str| {
        let mut spec = site.spec.clone();
        change(&mut spec);
        site.publish(&spec);
        let ended = site.run(&["apply"]);
        assert_ne!(ended.code, 0, "{ended:?}");
        let status = site.status();
        assert!(status.contains(words), "{words}: {status}");
        assert_eq!((site.lab.live_text(), site.lab.starts()), (before.clone(), starts), "{words}");
        site.lab.commands().ping().unwrap();
    };
    // A key that there is not and values that cannot be, in the words of scontrol; plugins that there
    // are not, in those of slurmctld, one of which it only misses after it said that it runs.
    wrong(&|spec| spec["parameters"]["SlurmctldProt"] = json!("1"), "SlurmctldProt");
    wrong(&|spec| spec["parameters"]["SelectType"] = json!("select/none"), "select/none");
    wrong(&|spec| spec["parameters"]["MaxArraySize"] = json!("many"), "MaxArraySize");
    wrong(&|spec| spec["parameters"]["PreemptMode"] = json!("MAYBE"), "PreemptMode");
    wrong(&|spec| spec["parameters"]["PriorityType"] = json!("priority/none"), "priority");
    // What can be told from the document alone never comes that far.
    let mut spec = site.spec.clone();
    spec["partitions"][0]["pools"] = json!(["cpu", "gone"]);
    site.publish(&spec);
    site.run(&["apply"]);
    let status = site.status();
    assert!(status.contains("there is no pool `gone`"), "{status}");
    assert_eq!((site.lab.live_text(), site.lab.starts()), (before.clone(), starts));

    // A trial says nothing of a folder that it does not use: then the old files come back.
    site.set("allowedPaths", json!(["/proc/nowhere"]));
    let job = site.lab.job(&["-p", "batch", "-w", "n1"]);
    let begun = site.lab.running(job).started;
    let mut spec = site.spec.clone();
    spec["parameters"]["StateSaveLocation"] = json!("/proc/nowhere");
    site.publish(&spec);
    site.run(&["apply"]).code(5);
    let status = site.status();
    assert!(status.contains("the old ones are in force again"), "{status}");
    assert_eq!(site.lab.live_text(), before);
    assert_eq!(site.lab.running(job).started, begun);
    let starts = site.lab.starts();

    // And one that is right again: a partition more, while the job runs.
    let mut spec = site.spec.clone();
    let night = json!({"name": "night", "pools": ["cpu", "gpu"], "maxTime": "8h"});
    spec["partitions"].as_array_mut().unwrap().push(night);
    site.publish(&spec);
    site.run(&["apply"]).code(0);
    let live: Conf = site.lab.live_conf();
    assert_eq!(live.partitions["night"]["maxtime"], "480");
    assert_eq!(site.lab.starts(), starts, "a reconfigure is enough");
    assert_eq!(site.lab.running(job).started, begun, "the job noticed nothing");
    site.lab.end(job);

    // What hands made at run time is a difference, and taken away only with an approval.
    site.lab.scontrol(&["create", "PartitionName=debug", "Nodes=n2"]);
    let plan = site.run(&["plan"]).out;
    assert!(plan.contains("debug") && plan.contains("DESTROY"), "{plan}");
    site.lab.scontrol(&["update", "PartitionName=night", "MaxTime=30"]);
    site.lab.scontrol(&["delete", "PartitionName=debug"]);
    site.run(&["apply"]).code(0);
    assert_eq!(site.lab.drift(), [], "what was changed by hand is as written again");
}

#[test]
fn a_pool_changes_node_by_node_and_a_killed_daemon_finishes_it() {
    let Some(site) = Site::start() else { return };
    let lab = &site.lab;
    let inside = lab.job(&["-p", "gpu", "-w", "g1", "--gres=gpu:1"]);
    let beside = lab.job(&["-p", "batch", "-w", "n1"]);
    let (inside_at, beside_at) = (lab.running(inside).started, lab.running(beside).started);
    lab.scontrol(&["update", "NodeName=n2", "State=DRAIN", "Reason=fan is loud, bob"]);
    let first = site.daemon();
    site.await_synced();
    let shown = |at: &[&str]| -> Value {
        let shown = site.run(&[&["cluster", "-o", "json"], at].concat()).code(0).out;
        serde_json::from_str(&shown).unwrap()
    };
    let then = shown(&[]);

    let mut spec = site.spec.clone();
    let gpu = &mut spec["pools"][1];
    gpu["memory"] = json!("1500MiB");
    gpu["gres"][0]["count"] = json!(1);
    gpu["gres"][0]["devices"].as_array_mut().unwrap().pop();
    site.publish(&spec);
    until("g1 is drained and waited for", || {
        let steps = site.steps();
        (steps.last().is_some_and(|verb| verb == "wait")).then_some(())
    });
    assert_eq!(lab.running(inside).started, inside_at, "the job on it goes on");
    let seen = lab.observe();
    assert!(seen.nodes["g1"].is_drained());
    assert!(!seen.nodes["g2"].is_drained(), "one at a time");
    assert!(seen.nodes["g1"].reason.as_ref().unwrap().text.starts_with("trueup:lab/gpu/"));

    let nobody = ["cluster", "drain", "g9", "--reason", "dust", "--for", "15s"];
    let refused = site.run(&nobody).code(4);
    assert!(refused.err.contains("has no node g9"), "{refused:?}");
    // The wait holds nothing up: an operator takes another node out, and it comes back by itself.
    site.run(&["cluster", "drain", "g2", "--reason", "dust", "--for", "15s"]).code(0);
    until("g2 is out for the operator", || {
        let node = lab.observe().nodes["g2"].clone();
        node.reason.filter(|reason| reason.text.contains("/@")).map(drop)
    });
    let row = until("it is told", || {
        let row = site.row();
        (row["drains"][0]["inForce"] == true).then_some(row)
    });
    assert_eq!(
        (&row["drains"][0]["node"], &row["drains"][0]["reason"]),
        (&json!("g2"), &json!("dust"))
    );
    until("g2 is back", || (!lab.observe().nodes["g2"].is_drained()).then_some(()));

    // Killed in the middle of it; the job ends while nobody looks.
    first.kill();
    lab.end(inside);
    assert!(lab.observe().nodes["g1"].is_drained(), "still in our hands");
    let second = site.daemon();
    site.await_synced();
    lab.await_nodes("idle", &["g1", "g2"]);
    let seen = lab.observe();
    for name in ["g1", "g2"] {
        let node = &seen.nodes[name];
        assert_eq!((node.memory_mib, node.is_drained(), node.is_up()), (1500, false, true));
        assert!(node.gres.starts_with("gpu:a100:1"), "{}", node.gres);
    }
    assert_eq!(seen.nodes["n2"].reason.as_ref().unwrap().text, "fan is loud, bob");
    assert!(seen.nodes["n2"].is_drained(), "a person's drain stays");
    assert_eq!(lab.running(beside).started, beside_at, "the job beside noticed nothing");
    let restarted = fs::read_to_string(lab.at().join("log/daemons")).unwrap();
    assert_eq!(restarted.lines().collect::<Vec<_>>(), ["g1", "g2"]);
    assert_eq!(lab.drift(), []);
    // A node that a person drained cannot be given back through us.
    let ended = site.run(&["cluster", "resume", "n2"]).code(4);
    assert!(ended.err.contains("scontrol"), "{ended:?}");
    second.kill();
    lab.end(beside);
    // How it was then.
    let early = site.run(&["cluster", "--at", "1h", "-o", "json"]);
    assert_ne!(early.code, 0, "nothing had happened by then");
    let past = shown(&["--at", &then["seq"].to_string()]);
    assert_eq!(past["clusters"], then["clusters"]);
    let gpus =
        |shown: &Value| shown["clusters"][0]["overview"]["resources"]["gpu:a100"]["total"].clone();
    assert_eq!((gpus(&past), gpus(&shown(&[]))), (json!(4), json!(2)));
    site.run(&["log", "verify"]).code(0);
    site.run(&["replay"]).code(0);
}
