//! A REST server (rclone's), and rclone as we start it ourselves.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use trueup_backup::protocol::{Done, Fault};

use crate::bench_data::mixed;
use crate::lab::{Lab, backup, same};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// `rclone serve restic` over the lab's repository; its URL.
fn serve(lab: &Lab, more: &[&str]) -> (Server, String) {
    fs::create_dir_all(lab.path("repo")).unwrap();
    let mut command = Command::new("rclone");
    command.args(["serve", "restic", "--addr", "127.0.0.1:0"]).args(more).arg(lab.path("repo"));
    command.env("RCLONE_CONFIG", lab.path("rclone.conf")).stderr(Stdio::piped());
    let mut child = command.spawn().expect("rclone is installed");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let url = lines
        .find_map(|line| {
            let line = line.unwrap();
            let (_, url) = line.split_once("Serving restic REST API on ")?;
            Some(url.trim().trim_matches(['[', ']']).to_owned())
        })
        .unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    (Server(child), url)
}

#[test]
fn a_rest_server_takes_and_gives_back() {
    let mut lab = Lab::new();
    let (server, url) = serve(&lab, &["--user", "u", "--pass", "p"]);
    lab.target = json!({ "rest": { "url": url } });
    let fault = lab.bad(json!({ "init": {} }));
    assert!(matches!(fault, Fault::Refused { .. }), "{fault}");
    fs::write(lab.path("login"), "u:p\n").unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(lab.path("login"), private).unwrap();
    lab.target = json!({ "rest": { "url": url, "credentials": lab.path("login") } });
    lab.good(json!({ "init": {} }));
    let source = lab.path("source");
    mixed(&source, 10, 40);
    lab.save(&source);
    lab.save(&source);
    lab.good(json!({ "forget": { "keep": { "last": 1 } } }));
    lab.good(json!({ "prune": {} }));
    let done = lab.good(json!({ "check": { "read": "all" } })).done;
    assert!(matches!(&done, Done::Check(checked) if checked.error_count == 0), "{done:?}");
    lab.restore("ours");
    same(&source, &lab.path("ours").join(source.strip_prefix("/").unwrap()));
    // The same files for restic, without the server.
    lab.restic_good(&["check", "--read-data"]);
    drop(server);
    let fault = lab.bad(backup(&source));
    assert!(matches!(fault, Fault::RepositoryOffline { .. }) && fault.transient(), "{fault}");
}

#[test]
fn a_server_that_only_takes_refuses_a_forget_and_keeps_all() {
    let mut lab = Lab::new();
    let (_server, url) = serve(&lab, &["--append-only"]);
    lab.target = json!({ "rest": { "url": url } });
    lab.good(json!({ "init": {} }));
    let source = lab.path("source");
    mixed(&source, 2, 41);
    lab.save(&source);
    fs::write(source.join("more"), "more").unwrap();
    lab.save(&source);
    let fault = lab.bad(json!({ "forget": { "keep": { "last": 1 } } }));
    assert!(matches!(fault, Fault::Refused { .. }), "{fault}");
    assert_eq!(crate::interop::snapshots(&lab).len(), 2);
}

#[test]
fn rclone_is_started_and_ends_with_the_worker() {
    let mut lab = Lab::new();
    fs::write(lab.path("rclone.conf"), "").unwrap();
    let remote = lab.path("repo").to_str().unwrap().to_owned();
    lab.target = json!({ "rclone": { "remote": remote, "config": lab.path("rclone.conf") } });
    lab.good(json!({ "init": {} }));
    let source = lab.path("source");
    mixed(&source, 5, 42);
    lab.save(&source);
    lab.restic_good(&["check", "--read-data"]);
    lab.restore("ours");
    same(&source, &lab.path("ours").join(source.strip_prefix("/").unwrap()));
    let left = Command::new("pgrep").args(["-f", &remote]).output().unwrap();
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    assert_eq!(left.trim(), "", "rclone is left");
}
