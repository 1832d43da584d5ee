//! What is around a cluster: another munge key, names that are gone, a release that nobody tried, slurmrestd.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::site::Site;
use crate::support::slurm_lab::{Lab, possible, until};

fn night(spec: &mut Value) {
    let night = json!({"name": "night", "pools": ["cpu", "gpu"], "maxTime": "8h"});
    spec["partitions"].as_array_mut().unwrap().push(night);
}

#[test]
fn a_foreign_key_and_a_foreign_release_are_told_and_nothing_is_planned_on_them() {
    let Some(mut site) = Site::start() else { return };
    site.look_through_programs();
    let lab = &site.lab;
    let job = lab.job(&["-p", "batch", "-w", "n1"]);
    let begun = lab.running(job).started;
    let daemon = site.daemon();
    site.await_synced();
    let before = site.in_force();

    // The key of this machine is no longer that of the cluster.
    lab.foreigner();
    let foreign = lab.at().join("foreign-now");
    fs::write(&foreign, "").unwrap();
    let why = site.await_unobservable();
    let words = ["does not answer", "refuses to answer", "credential"];
    assert!(words.iter().any(|said| why.contains(said)), "{why}");
    site.publish(&site.with(night));
    site.await_seen();
    assert_eq!((site.in_force(), site.steps()), (before.clone(), vec!["take over".to_owned()]));
    fs::remove_file(&foreign).unwrap();
    site.await_synced();
    assert_eq!(site.steps(), ["take over", "prove", "configure"]);

    // A release that nobody tried is said to be one.
    fs::write(lab.at().join("release"), "slurm 26.05.0\n").unwrap();
    let why = site.await_unobservable();
    assert!(why.contains("Slurm 26.05.0 answers, and only 22.05 and 24.11 are known"), "{why}");
    let shown = site.run(&["cluster"]).code(0).out;
    assert!(shown.contains("26.05.0"), "{shown}");
    let before = site.in_force();
    site.publish(&site.spec);
    site.await_seen();
    assert_eq!(site.in_force(), before);
    assert_eq!(lab.running(job).started, begun, "the job noticed nothing");
    lab.end(job);
    daemon.kill();
}

/// What this machine knows by itself.
fn own_names() -> String {
    fs::read_to_string("/etc/hosts").unwrap()
}

/// What somebody else knows.
fn all_names() -> String {
    format!("{}\n127.0.0.1 ctl.lab n1.lab n2.lab g1.lab g2.lab\n", own_names())
}

/// A lab whose controller and nodes are known by name alone, and the file of the names.
fn named() -> Option<(Site, PathBuf)> {
    let mut lab = Lab::prepare(&["mount"])?;
    // Nothing of this may be seen outside.
    if !lab.sh(&["mount", "--make-rprivate", "/"]).status.success() {
        eprintln!("skipped: mounts cannot be made private here");
        return None;
    }
    let names = lab.at().join("hosts");
    fs::write(&names, all_names()).unwrap();
    let nobody = lab.at().join("resolv.conf");
    fs::write(&nobody, "").unwrap();
    for (own, at) in [(&names, "/etc/hosts"), (&nobody, "/etc/resolv.conf")] {
        lab.ok(&["mount", "--bind", own.to_str().unwrap(), at]);
    }
    lab.wish.controllers[0].address = Some("ctl.lab".into());
    for node in lab.wish.pools.iter_mut().flat_map(|pool| &mut pool.nodes) {
        node.address = Some(format!("{}.lab", node.name));
    }
    lab.write_files(&lab.wish);
    lab.controller_up();
    for name in ["n1", "n2", "g1", "g2"] {
        lab.daemon(name);
    }
    lab.await_nodes("idle", &["n1", "n2", "g1", "g2"]);
    let mut site = Site::of(lab);
    let script = "mount --bind \"$0\" /etc/hosts && mount --bind \"$1\" /etc/resolv.conf && \
                  shift && exec \"$@\"";
    site.under = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        .map(str::to_owned)
        .into_iter()
        .chain([&names, &nobody].map(|path| path.display().to_string()))
        .collect();
    Some((site, names))
}

#[test]
fn names_that_are_gone_stop_what_needs_them_and_nothing_else() {
    let Some((site, names)) = named() else { return };
    let lab = &site.lab;
    let id = lab.job(&["-p", "batch", "-w", "n1"]).to_string();
    // The programs have to be asked where its names are known.
    let state = || lab.ok(&["squeue", "-h", "-j", &id, "-o", "%T %S %r"]);
    until("the job runs", || state().starts_with("RUNNING").then_some(()));
    let begun = state();
    let _daemon = site.daemon();
    site.await_synced();
    let before = site.in_force();

    fs::write(&names, own_names()).unwrap();
    let why = site.await_unobservable();
    assert!(why.contains("name resolution"), "{why}");
    site.publish(&site.with(night));
    site.await_seen();
    assert_eq!((site.in_force(), site.steps()), (before, vec!["take over".to_owned()]));

    fs::write(&names, all_names()).unwrap();
    site.await_synced();
    assert_eq!(site.steps(), ["take over", "prove", "configure"]);
    assert_eq!(state(), begun, "the job noticed nothing: {}", lab.logs());
}

#[test]
fn slurmrestd_is_asked_by_nobody_in_particular_and_its_silence_is_no_empty_cluster() {
    if !possible(&["slurmrestd"]) {
        return;
    }
    let Some(mut site) = Site::start() else { return };
    let folder = site.lab.at().join("rest");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let socket = folder.join("socket");
    site.lab.rest(&socket);
    site.set("slurmrestd", json!(socket));
    let lab = &site.lab;
    let job = lab.job(&["-p", "gpu", "-w", "g2", "--gres=gpu:a100:1"]);
    lab.running(job);
    let _daemon = site.daemon();
    site.await_synced();
    let row = until("the job is seen", || {
        let row = site.row();
        (row["overview"]["resources"]["gpu:a100"]["allocated"] == 1).then_some(row)
    });
    assert_eq!(row["overview"]["nodes"]["total"], 4, "{row}");
    // What changes is seen by the same way, and what is done is done by the programs.
    site.run(&["cluster", "drain", "n2", "--reason", "dust", "--for", "1h"]).code(0);
    until("n2 is out", || lab.observe().nodes["n2"].is_drained().then_some(()));
    until("and it is seen to be", || (site.row()["drains"][0]["inForce"] == true).then_some(()));

    // The one who is asked goes, and the controller is well: still nothing is taken for empty.
    let before = site.in_force();
    site.lab.stop_rest();
    let why = site.await_unobservable();
    assert!(why.contains("slurmrestd") && why.contains(socket.to_str().unwrap()), "{why}");
    site.publish(&site.with(night));
    site.await_seen();
    assert_eq!(site.in_force(), before);
    site.lab.rest(&socket);
    site.await_synced();
    assert!(site.lab.live_conf().partitions.contains_key("night"));
    site.lab.end(job);
}
