//! Networks on libvirt's `test` driver, side by side in one run: trueup from a commit to a log,
//! `virsh` with all commands in one batch (the floor), and Ansible's `community.libvirt.virt_net`.
//!
//! First everything in one process each, on a private copy (`test:///FILE`). Ansible makes a process
//! for every task, and such a copy ends with its process; so all three are then compared again
//! through one libvirtd (`test+unix:///default`), in a private one started for it. What is missing
//! is said and left out.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a benchmark measures and prints"
)]

mod support;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use support::{Best, figure, git, machine, repository, rig};
use trueup::reconcile::PassReport;
use trueup_libvirt::{Client, Options};

/// Networks of trueup and virsh.
const NETWORKS: usize = 500;
/// Networks of Ansible, which takes seconds for each ten; its line says so.
const ANSIBLE_NETWORKS: usize = 20;
/// Repetitions; the best of each counts.
const RUNS: usize = 3;
/// Calls this program inside of the private libvirt.
const INSIDE: &str = "inside-private-libvirt";

/// Times of one tool, ms.
#[derive(Default)]
struct Times {
    converge: Best,
    idle: Best,
    heal: Best,
}

fn main() {
    machine();
    if std::env::args().any(|word| word == INSIDE) {
        return through_a_daemon();
    }
    in_process();
    let support = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/private-libvirt");
    let this = std::env::current_exe().unwrap();
    let status = Command::new(support).arg(this).arg(INSIDE).status().unwrap();
    if !status.success() {
        println!("  skipped: the comparison through a libvirtd; it needs root and libvirtd ({status})");
    }
}

fn in_process() {
    let node = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(node.path(), rig::NODE).unwrap();
    let uri = format!("test://{}", node.path().display());
    println!("networks: {NETWORKS} on test:///FILE, one process each; best of {RUNS}");
    let mut ours = Times::default();
    let mut virsh = Times::default();
    for _ in 0..RUNS {
        trueup(&uri, NETWORKS, &mut ours);
        virsh_batches(&uri, NETWORKS, &mut virsh);
    }
    report("trueup", &ours, NETWORKS);
    report("virsh, one batch", &virsh, NETWORKS);
    compare("trueup", &ours, "virsh", &virsh);
}

fn through_a_daemon() {
    let uri = "test+unix:///default";
    println!("networks: {NETWORKS} through one libvirtd ({uri}); best of {RUNS}");
    // The driver's state lives as long as somebody is connected to it.
    let mut ours = Times::default();
    let mut virsh = Times::default();
    for _ in 0..RUNS {
        kept_open(uri, || trueup(uri, NETWORKS, &mut ours));
        kept_open(uri, || virsh_batches(uri, NETWORKS, &mut virsh));
    }
    report("trueup", &ours, NETWORKS);
    report("virsh, one batch", &virsh, NETWORKS);
    compare("trueup", &ours, "virsh", &virsh);
    if let Err(why) = usable_ansible() {
        println!("  skipped: Ansible's community.libvirt.virt_net ({why})");
        return;
    }
    let mut ansible = Times::default();
    kept_open(uri, || playbooks(uri, &mut ansible));
    println!(
        "  Ansible: measured with {ANSIBLE_NETWORKS} networks, one run; times {} is an extrapolation",
        NETWORKS / ANSIBLE_NETWORKS
    );
    report("ansible, measured", &ansible, ANSIBLE_NETWORKS);
    let scale = NETWORKS as f64 / ANSIBLE_NETWORKS as f64;
    figure("ansible / trueup, converge, extrapolated", scale * ansible.converge.ms() / ours.converge.ms(), "times");
    figure("ansible / trueup, no-op, extrapolated", scale * ansible.idle.ms() / ours.idle.ms(), "times");
}

fn report(name: &str, times: &Times, count: usize) {
    for (what, time) in [("converge", times.converge), ("no-op", times.idle), ("one drift healed", times.heal)] {
        if time.ms() < 1e9 {
            println!(
                "  {name:<20} {what:<18} {:>10.1} ms  {:>8.3} ms a network ({:.1} ms of own CPU)",
                time.ms(),
                time.ms() / count as f64,
                time.cpu_ms()
            );
        }
    }
}

fn compare(name: &str, ours: &Times, other: &str, theirs: &Times) {
    let line = |what: &str, a: Best, b: Best| {
        figure(&format!("{name} / {other}, {what}"), a.ms() / b.ms(), "times");
    };
    line("converge", ours.converge, theirs.converge);
    line("no-op (virsh: net-dumpxml of each)", ours.idle, theirs.idle);
    line("one drift healed", ours.heal, theirs.heal);
}

/// From a commit to a converged libvirt with its log, then a pass with nothing to do, then one that
/// heals a network stopped by hand.
fn trueup(uri: &str, count: usize, times: &mut Times) {
    let pool = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let path = pool.path().join("pool").display().to_string();
    let repo = git::Repo::new(&repository::networks(count, &path));
    let client = Client::new(Options::new(uri));
    let rig = rig::Rig::new(&repo.url(), state.path(), client.clone());
    let made = times.converge.run(|| rig.pass());
    assert_clean(&made, 2 * count as u64);
    let quiet = times.idle.run(|| rig.pass());
    assert_clean(&quiet, 0);
    rig.block_on(client.stop_network("net7")).unwrap();
    let healed = times.heal.run(|| rig.pass());
    assert_clean(&healed, 1);
    tear_down(uri, &client, &rig, count);
}

fn assert_clean(report: &PassReport, at_least: u64) {
    assert_eq!((report.failed, report.blocked), (0, 0), "{:?}", report.held);
    assert!(report.succeeded >= at_least && report.held.is_empty(), "{report:?}");
    assert!(report.plan.as_ref().is_some_and(trueup::plan::Plan::is_empty));
}

/// Through a daemon the state outlives the client.
fn tear_down(uri: &str, client: &Client, rig: &rig::Rig, count: usize) {
    if uri.starts_with("test+unix") {
        for n in 0..count {
            rig.block_on(client.stop_network(&format!("net{n}"))).unwrap();
            rig.block_on(client.undefine_network(&format!("net{n}"))).unwrap();
        }
        rig.block_on(client.stop_pool("main")).unwrap();
        rig.block_on(client.undefine_pool("main")).unwrap();
    }
}

/// What trueup's networks are, without its mark.
fn xml(n: usize) -> String {
    let (a, b) = (n / 250, n % 250);
    format!(
        "<network><name>net{n}</name><forward mode='nat'/><bridge name='br{n}'/><ip address='10.{a}.{b}.1' netmask='255.255.255.0'><dhcp><range start='10.{a}.{b}.100' end='10.{a}.{b}.199'/></dhcp></ip></network>"
    )
}

/// The same by virsh, each phase fed at once; the prompt's answer to `echo` ends a phase.
fn virsh_batches(uri: &str, count: usize, times: &mut Times) {
    let folder = tempfile::tempdir().unwrap();
    let [mut make, mut look] = [String::new(), String::new()];
    for n in 0..count {
        let file = folder.path().join(format!("{n}.xml"));
        std::fs::write(&file, xml(n)).unwrap();
        writeln!(make, "net-define {}", file.display()).unwrap();
        writeln!(make, "net-autostart net{n}\nnet-start net{n}").unwrap();
        writeln!(look, "net-dumpxml net{n}").unwrap();
    }
    let mut virsh = Virsh::open(uri);
    times.converge.run(|| virsh.feed(&make));
    times.idle.run(|| virsh.feed(&look));
    virsh.feed("net-destroy net7\n");
    times.heal.run(|| virsh.feed(&format!("net-list --all\n{look}net-start net7\n")));
    let mut end = String::new();
    for n in 0..count {
        writeln!(end, "net-destroy net{n}\nnet-undefine net{n}").unwrap();
    }
    virsh.feed(&end);
}

struct Virsh {
    child: Child,
    answers: std::io::BufReader<std::process::ChildStdout>,
    phase: usize,
}

impl Virsh {
    fn open(uri: &str) -> Self {
        let mut child = Command::new("virsh")
            .args(["-q", "-c", uri])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut virsh = Self { child, answers, phase: 0 };
        virsh.feed("");
        virsh
    }

    /// Feeds commands and waits until all of them are answered.
    fn feed(&mut self, commands: &str) {
        use std::io::BufRead as _;
        self.phase += 1;
        let end = format!("end-of-phase-{}", self.phase);
        let text = format!("{commands}echo {end}\n");
        let mut stdin = self.child.stdin.take().unwrap();
        // Written beside the reading: either pipe may fill up.
        let writer = std::thread::spawn(move || {
            stdin.write_all(text.as_bytes()).unwrap();
            stdin.flush().unwrap();
            stdin
        });
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "virsh ended");
            assert!(!line.starts_with("error:"), "{line}");
            if line.trim_end().ends_with(&end) && !line.contains("echo ") {
                break;
            }
        }
        self.child.stdin = Some(writer.join().unwrap());
    }
}

impl Drop for Virsh {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// Runs `work` while somebody else is connected.
fn kept_open(uri: &str, work: impl FnOnce()) {
    let keeper = Virsh::open(uri);
    work();
    drop(keeper);
}

fn usable_ansible() -> Result<(), String> {
    let found = Command::new("ansible-doc")
        .args(["-t", "module", "-s", "community.libvirt.virt_net"])
        .output()
        .map_err(|error| format!("ansible-doc: {error}"))?;
    let bindings = Command::new("/usr/bin/python3").args(["-c", "import libvirt, lxml"]).output();
    match (found.status.success(), bindings) {
        (true, Ok(bindings)) if bindings.status.success() => Ok(()),
        (false, _) => Err("its collection is not installed".to_owned()),
        _ => Err("python3-libvirt or python3-lxml is not installed".to_owned()),
    }
}

/// The same by Ansible, with its usual settings and no gathering of facts.
fn playbooks(uri: &str, times: &mut Times) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("play.yml");
    let networks: Vec<_> = (0..ANSIBLE_NETWORKS)
        .map(|n| serde_json::json!({ "name": format!("net{n}"), "xml": xml(n) }))
        .collect();
    let task = |command: serde_json::Value| {
        let mut task = serde_json::json!({ "name": "{{ item.name }}", "uri": uri });
        task.as_object_mut().unwrap().extend(command.as_object().unwrap().clone());
        serde_json::json!({
            "community.libvirt.virt_net": task,
            "loop": networks,
            "loop_control": { "label": "{{ item.name }}" },
        })
    };
    // JSON is YAML.
    let play = serde_json::json!([{
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": false,
        "vars": { "ansible_python_interpreter": "/usr/bin/python3" },
        "tasks": [
            task(serde_json::json!({ "command": "define", "xml": "{{ item.xml }}" })),
            task(serde_json::json!({ "autostart": true })),
            task(serde_json::json!({ "state": "active" })),
        ],
    }]);
    std::fs::write(&path, play.to_string()).unwrap();
    let run = || {
        let output = Command::new("ansible-playbook")
            .args(["-i", "localhost,"])
            .arg(&path)
            .env("ANSIBLE_LOCALHOST_WARNING", "false")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    };
    times.converge.run(run);
    times.idle.run(run);
    Virsh::open(uri).feed("net-destroy net7\n");
    times.heal.run(run);
    let started = Instant::now();
    let mut virsh = Virsh::open(uri);
    for n in 0..ANSIBLE_NETWORKS {
        virsh.feed(&format!("net-destroy net{n}\nnet-undefine net{n}\n"));
    }
    assert!(started.elapsed().as_secs() < 60);
}
