//! Passes without a daemon, on libvirt's own `test:///` driver: signals, what could not be seen,
//! warnings, and a signature that is asked for later.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use trueup::event::body::{Drifted, MoreChanges};
use trueup::event::{Entry, Event, Spilled};
use trueup::journal::Blobs;
use trueup::plan::{Disruption, FieldChange};

use super::{Ended, Host, program};
use crate::support::git_repo::GitRepo;
use crate::support::git_server::Silent;

/// The most an end that does not wait may take; a healthy machine needs a second.
const SOON: Duration = Duration::from_secs(20);

const REPOSITORY: &str = "apiVersion: trueup/v1\nkind: Repository\nmetadata: {name: test}\n\
                          spec: {environments: {lab: {hosts: [node1]}}}\n";
const NETWORK: &str = "---\napiVersion: trueup/v1\nkind: Network\nmetadata: {name: alpha}\n\
                       spec: {mode: isolated, cidr: 10.199.1.0/24}\n";

struct Alone {
    host: Host,
    repo: GitRepo,
}

impl Alone {
    /// A host whose environment holds `documents`, with its storage in the host's own folder.
    fn new(documents: &str) -> Self {
        let (host, repo) = (Host::new(), GitRepo::new());
        repo.write("trueup.yaml", REPOSITORY);
        let pool = host.path().join("pool");
        let environment = format!(
            "apiVersion: trueup/v1\nkind: Environment\nmetadata: {{name: lab}}\nspec:\n  \
             storagePools: [{{name: fast, path: {}}}]\n{documents}",
            pool.display()
        );
        repo.publish("environments/lab/all.yaml", &environment);
        let alone = Self { host, repo };
        alone.configure("libvirt: {uri: 'test:///default'}\n", "");
        alone
    }

    /// Writes the config; `repository` stands below `repository:`.
    fn configure(&self, more: &str, repository: &str) {
        let at = self.host.path().display();
        let url = self.repo.bare();
        let config = format!(
            "repository:\n  url: {}\n{repository}host: node1\nstateDirectory: {at}/state\n\
             socket: {at}/t.sock\naccelerator: tcg\n{more}",
            url.display()
        );
        std::fs::write(self.host.path().join("config.yaml"), config).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = program();
        command.arg("--config").arg(self.host.path().join("config.yaml")).args(words);
        command
    }

    /// Starts `apply` and waits until it is in the middle of a step that never ends.
    fn stuck_apply(&self) -> Child {
        let mut apply = self.command(&["apply"]);
        let child = apply.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        // The log's folder is made by the first writer.
        while !self.host.state().join("log").exists() {
            assert!(begun.elapsed() < SOON, "nothing began");
            std::thread::yield_now();
        }
        let words = ["log", "-f", "--type", "step.started", "--subject", "image/*"];
        let mut follower = self.command(&words).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(follower.stdout.take().unwrap());
        let (sender, found) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            said.read_line(&mut line).unwrap();
            sender.send(line)
        });
        let found = found.recv_timeout(SOON);
        follower.kill().unwrap();
        follower.wait().unwrap();
        let line = found.unwrap_or_else(|_| panic!("no step: {}", self.host.run(&["log"]).out));
        reader.join().unwrap().unwrap();
        assert!(line.contains("image/base"), "{line}");
        child
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Waits for its end, but not for ever: one that does not end is killed and fails the test.
fn end(child: Child) -> Ended {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let (sender, ended) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || sender.send(child.wait_with_output().unwrap()));
    let Ok(output) = ended.recv_timeout(SOON) else {
        kill_process(pid, Signal::KILL).unwrap();
        panic!("it did not end by itself");
    };
    waiter.join().unwrap().unwrap();
    Ended::of(output)
}

/// An image from a server that never answers.
fn endless_image(silent: &Silent) -> String {
    format!(
        "---\napiVersion: trueup/v1\nkind: Image\nmetadata: {{name: base}}\n\
         spec: {{source: 'http://127.0.0.1:{}/image.qcow2', sha256: {}}}\n",
        silent.port(),
        "ab".repeat(32)
    )
}

#[test]
fn a_second_signal_cuts_a_pass_off() {
    let silent = Silent::new();
    let alone = Alone::new(&endless_image(&silent));
    alone.configure("libvirt: {uri: 'test:///default'}\nlimits: {stopTimeout: 1h}\n", "");
    let mut child = alone.stuck_apply();
    signal(&child, Signal::INT);
    // It says so before it waits, and it has heard the first one then.
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("once more to cut it off")));
    assert!(child.try_wait().unwrap().is_none(), "the first signal waits for what is under way");
    signal(&child, Signal::INT);
    let rest = std::thread::spawn(move || said.map_while(Result::ok).collect::<Vec<_>>());
    end(child).code(5);
    let rest = rest.join().unwrap().join("\n");
    assert!(rest.contains("cut off in the middle of a pass"), "{rest}");
    alone.host.run(&["log", "verify"]).code(0);
}

#[test]
fn a_pass_that_does_not_end_in_time_is_cut_off_after_sigterm() {
    let silent = Silent::new();
    let alone = Alone::new(&endless_image(&silent));
    alone.configure("libvirt: {uri: 'test:///default'}\nlimits: {stopTimeout: 1s}\n", "");
    let child = alone.stuck_apply();
    signal(&child, Signal::TERM);
    let ended = end(child).code(5);
    assert!(ended.err.contains("1 s were not enough"), "{}", ended.err);
    alone.host.run(&["log", "verify"]).code(0);
}

#[test]
fn a_plan_of_what_could_not_all_be_seen_is_no_plan() {
    let alone = Alone::new(NETWORK);
    alone.host.run(&["plan"]).code(3);
    alone.configure("libvirt: {uri: 'test:///nowhere.xml'}\n", "");
    let blind = alone.host.run(&["plan"]).code(5);
    assert!(blind.err.contains("could not be looked at"), "{}", blind.err);
}

#[test]
fn warnings_are_shown_until_they_are_mended() {
    let alone = Alone::new("");
    let warning = "environment `lab` asks for no resources";
    for _ in 0..2 {
        let planned = alone.host.run(&["plan"]);
        assert!(planned.err.contains(warning), "{planned:?}");
    }
    assert!(alone.host.run(&["status"]).code(0).out.contains(warning));
    let work = alone.repo.work();
    let checked = alone.host.run(&["check", work.to_str().unwrap()]).code(0);
    assert!(checked.out.contains(warning), "{checked:?}");
    let said = alone.host.run(&["log", "--type", "spec.warned"]).code(0).out;
    assert_eq!(said.lines().count(), 1, "{said}");
    alone.repo.publish("environments/lab/network.yaml", NETWORK);
    assert!(!alone.host.run(&["plan"]).code(3).err.contains(warning));
    assert!(!alone.host.run(&["status"]).code(0).out.contains(warning));
}

#[test]
fn a_signature_asked_for_later_is_asked_of_the_commit_in_force() {
    let alone = Alone::new(NETWORK);
    let libvirt = "libvirt: {uri: 'test:///default'}\n";
    alone.host.run(&["apply"]).code(0);
    let signers = alone.host.path().join("signers");
    std::fs::write(&signers, "").unwrap();
    let required = |required: bool| {
        format!(
            "  signatures: {{required: {required}, ssh: {{allowedSigners: {}}}}}\n",
            signers.display()
        )
    };
    alone.configure(libvirt, &required(true));
    // The driver forgets with each process, so that there always is something to do.
    let held = alone.host.run(&["apply"]).code(4);
    assert!(held.err.contains("is not signed"), "{}", held.err);
    let plan = alone.host.run(&["plan", "-o", "json"]).code(3).out;
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let digest = plan["plan"]["digest"].as_str().unwrap();
    alone.host.run(&["apply", "--approve", digest]).code(4);
    assert!(alone.host.run(&["status"]).code(0).out.contains("refused: head"));
    let said = alone.host.run(&["log", "--type", "source.signature_rejected"]).code(0).out;
    assert_eq!(said.lines().count(), 1, "{said}");
    alone.configure(libvirt, &required(false));
    alone.host.run(&["apply"]).code(0);
    assert!(!alone.host.run(&["status"]).code(0).out.contains("refused: head"));
}

#[test]
fn a_drift_is_accepted_by_the_patch_that_says_where_it_goes() {
    let network = "---\napiVersion: trueup/v1\nkind: Network\nmetadata: {name: alpha}\nspec:\n  \
                   mode: isolated\n  cidr: 10.199.1.0/24\n";
    let alone = Alone::new(network);
    alone.host.run(&["apply"]);
    let change = |path: &str, from: serde_json::Value| FieldChange {
        path: path.into(),
        from: Some(from),
        to: None,
        disruption: Disruption::Restart,
    };
    let changes = vec![
        change("/mtu", 9000.into()),
        change("/dns/10.199.1.9", serde_json::json!({ "ip": "10.199.1.9", "names": ["db"] })),
        change("/addresses/10.199.1.0~124", serde_json::json!({})),
    ];
    // The event holds the first of them only; the patch is of all.
    let (all, content) = Spilled::of_json(&changes).unwrap();
    let more = Some(MoreChanges { left_out: 2, all: all.clone() });
    let changes = changes[..1].to_vec();
    let drifted = Drifted { changes, more, what: "changed".into(), heal: false };
    let subject = "network/alpha".parse().unwrap();
    alone.host.append(vec![Entry::new(Event::Drifted(drifted)).about(&subject)]);
    let told = alone.host.run(&["drift"]).code(3).out;
    assert!(told.contains(&format!("and 2 more (all: trueup log blob {})", all.blob.short())));
    let lost = alone.host.run(&["drift", "--as-patch"]).code(5);
    assert!(lost.out.is_empty() && lost.err.contains("not all its fields are known"), "{lost:?}");
    Blobs::open(&alone.host.state()).store(&content).unwrap();
    let ended = alone.host.run(&["drift", "--as-patch"]).code(3);
    let (out, err) = (&ended.out, &ended.err);
    assert!(out.contains("+  mtu: 9000"), "{out}");
    for said in ["network/alpha /mtu: environments/lab/all.yaml:", "/dns/10.199.1.9: environments/"]
    {
        assert!(err.contains(said), "it names file and line: {err}");
    }
    let refused = "network/alpha /addresses/10.199.1.0~124: not in the patch: ";
    assert!(err.contains(refused), "and why where it cannot: {err}");
    std::fs::write(alone.repo.work().join("accept.patch"), out).unwrap();
    alone.repo.git(["apply", "accept.patch"]);
    std::fs::remove_file(alone.repo.work().join("accept.patch")).unwrap();
    let work = alone.repo.work();
    let checked = alone.host.run(&["check", "--format", "json", work.to_str().unwrap()]).code(0);
    assert!(checked.out.contains("\"errors\": 0"), "it is a right repository: {}", checked.out);
}
