//! Who may merge does not choose what root runs, trusts and writes on the host of a cluster.

use std::fs;

use serde_json::{Value, json};

use super::site::Site;

#[test]
fn a_commit_names_neither_the_folder_nor_the_programs_of_a_cluster() {
    let Some(site) = Site::start() else { return };
    site.run(&["apply"]).code(0);
    let before = site.in_force();
    // Programs of mallory's, in a folder that everybody may write to.
    let ran = site.lab.at().join("ran");
    for name in ["scontrol", "sinfo", "squeue", "slurmctld"] {
        let text = format!("#!/bin/sh\necho $0 >>{}\nexec {name} \"$@\"\n", ran.display());
        site.lab.script(name, &text);
    }
    let (folder, elsewhere) = (site.lab.path(""), site.lab.at().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("slurm.conf"), site.lab.live_text()).unwrap();
    for place in [
        json!({ "programs": folder, "slurmctld": site.lab.path("slurmctld") }),
        json!({ "folder": elsewhere }),
        json!({ "slurmrestd": site.lab.path("socket") }),
    ] {
        site.publish(&site.with(|spec: &mut Value| {
            spec["place"] = place.clone();
            spec["partitions"][1]["maxTime"] = json!("10m");
        }));
        let said = site.run(&["apply"]);
        let status = site.status();
        let told = format!("{said:?} {status}");
        assert!(told.contains("unknown field `place`"), "{told}");
        assert_eq!(site.in_force(), before);
    }
    let there = fs::read_to_string(elsewhere.join("slurm.conf")).unwrap();
    assert_eq!(there, before.0, "nothing is written elsewhere");
    assert!(!ran.exists(), "{}", fs::read_to_string(&ran).unwrap());
}

#[test]
fn a_commit_names_no_program_plugin_or_socket_that_the_host_does_not_allow() {
    let Some(mut site) = Site::start() else { return };
    site.run(&["apply"]).code(0);
    let before = site.in_force();
    let evil = site.host.path().join("evil");
    fs::create_dir(&evil).unwrap();
    let refused = |change: &dyn Fn(&mut Value), words: &str| {
        site.publish(&site.with(change));
        let ended = site.run(&["apply"]);
        assert_ne!(ended.code, 0, "{ended:?}");
        let known = site.known().to_string();
        assert!(known.contains(words), "{words}: {known}");
        let last = site.run(&["log", "--type", "step.failed", "-n", "1", "-o", "json"]).out;
        assert!(last.contains("allowedPaths"), "what to do: {last}");
        assert_eq!(site.in_force(), before, "{words}");
        assert_eq!(fs::read_dir(&evil).unwrap().count(), 0, "{words}");
    };
    let at = |name: &str| evil.join(name).display().to_string();
    // What every node runs as root, what the controller runs, and what a trial would load as root.
    refused(&|spec| spec["hooks"] = json!({"prolog": at("x")}), "prolog=");
    refused(&|spec| spec["hooks"] = json!({"controllerProlog": at("x")}), "prologslurmctld=");
    refused(&|spec| spec["parameters"]["PluginDir"] = json!(at("")), "plugindir=");
    refused(&|spec| spec["lines"] = json!([format!("PluginDir={}", at(""))]), "plugindir=");
    refused(&|spec| spec["parameters"]["HealthCheckProgram"] = json!(at("x")), "healthcheck");
    // Whose word is taken for who somebody is, and over which file root writes.
    refused(
        &|spec| spec["parameters"]["AuthInfo"] = json!(format!("socket={}", at("munge"))),
        "authinfo=",
    );
    refused(&|spec| spec["parameters"]["SlurmctldLogFile"] = json!(at("log")), "slurmctldlogfile=");
    refused(&|spec| spec["parameters"]["StateSaveLocation"] = json!(at("state")), "statesave");
    refused(&|spec| spec["parameters"]["SlurmUser"] = json!("daemon"), "SlurmUser=daemon");
    let way_out = || json!({"prolog": format!("{}/../evil/x", site.lab.live().folder.display())});
    refused(&|spec| spec["hooks"] = way_out(), "`..`");

    // What the host allows is taken, and so is what root put beside slurm.conf.
    let hook = site.host.path().join("hooks/prolog");
    fs::create_dir(hook.parent().unwrap()).unwrap();
    for hook in [&hook, &site.lab.live().folder.join("epilog")] {
        fs::write(hook, "#!/bin/sh\n").unwrap();
    }
    let hooks = json!({"prolog": hook, "epilog": site.lab.live().folder.join("epilog")});
    site.publish(&site.with(|spec: &mut Value| spec["hooks"] = hooks));
    site.set("allowedPaths", json!([hook.parent().unwrap()]));
    site.run(&["apply"]).code(0);
    let live = site.lab.live_conf();
    assert_eq!(live.parameter("Prolog"), hook.to_str());
}
