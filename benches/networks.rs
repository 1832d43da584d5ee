//! Networks on libvirt's `test` driver, side by side in one run and through one libvirtd
//! (`test+unix:///default`, in a private one started for it): `trueup apply` from a commit to a log,
//! `virsh` with all commands in one batch (the floor), and Ansible's `community.libvirt.virt_net`.
//!
//! Each of trueup's passes is a process of its own, with its start. What is missing is said and left
//! out.
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

use support::{Best, figure, git, host, machine, private, repository};

/// Networks of trueup and virsh.
const NETWORKS: usize = 500;
/// Networks of Ansible, which takes seconds for each ten; its line says so.
const ANSIBLE_NETWORKS: usize = 20;
/// Repetitions; the best of each counts.
const RUNS: usize = 3;
/// Tells this program that it runs inside of the private libvirt.
const INSIDE: &str = "inside-private-libvirt";
/// The driver, through the daemon. Its state lives as long as somebody is connected to it.
const URI: &str = "test+unix:///default";

/// Times of one tool, ms.
#[derive(Default)]
struct Times {
    converge: Best,
    idle: Best,
    heal: Best,
}

fn main() {
    if !std::env::args().any(|word| word == INSIDE) {
        machine();
        return private::again(INSIDE, "all of it");
    }
    println!("networks: {NETWORKS} through one libvirtd ({URI}); best of {RUNS}");
    let mut ours = Times::default();
    let mut virsh = Times::default();
    for _ in 0..RUNS {
        kept_open(|_| trueup(&mut ours));
        kept_open(|_| virsh_batches(&mut virsh));
    }
    report("trueup apply", &ours, NETWORKS);
    report("virsh, one batch", &virsh, NETWORKS);
    compare(&ours, &virsh);
    if let Err(why) = usable_ansible() {
        println!("  skipped: Ansible's community.libvirt.virt_net ({why})");
        return;
    }
    let mut ansible = Times::default();
    kept_open(|virsh| playbooks(virsh, &mut ansible));
    let scale = NETWORKS as f64 / ANSIBLE_NETWORKS as f64;
    println!(
        "  Ansible: measured with {ANSIBLE_NETWORKS} networks, one run; times {scale} is an extrapolation"
    );
    report("ansible, measured", &ansible, ANSIBLE_NETWORKS);
    let line = |what: &str, theirs: Best, ours: Best| {
        let what = format!("ansible / trueup, {what}, extrapolated");
        figure(&what, scale * theirs.ms() / ours.ms(), "times");
    };
    line("converge", ansible.converge, ours.converge);
    line("no-op", ansible.idle, ours.idle);
    line("one drift", ansible.heal, ours.heal);
}

fn report(name: &str, times: &Times, count: usize) {
    let phases =
        [("converge", times.converge), ("no-op", times.idle), ("one drift healed", times.heal)];
    for (what, time) in phases {
        let (all, each) = (time.ms(), time.ms() / count as f64);
        println!("  {name:<20} {what:<18} {all:>10.1} ms  {each:>8.3} ms a network");
    }
}

fn compare(ours: &Times, theirs: &Times) {
    let line = |what: &str, a: Best, b: Best| {
        figure(&format!("trueup / virsh, {what}"), a.ms() / b.ms(), "times");
    };
    line("converge", ours.converge, theirs.converge);
    line("no-op (virsh: net-dumpxml of each)", ours.idle, theirs.idle);
    line("one drift healed", ours.heal, theirs.heal);
}

/// From a commit to a converged libvirt with its log, then a pass with nothing to do, then one that
/// heals a network stopped by hand.
fn trueup(times: &mut Times) {
    let pool = tempfile::tempdir().unwrap();
    let path = pool.path().join("pool").display().to_string();
    let repo = git::Repo::new(&repository::networks(NETWORKS, &path));
    let host = host::Host::new(&repo.url(), URI);
    let mut virsh = Virsh::open();
    times.converge.run(|| host.apply());
    assert!(host.run(&["plan"]).status.success(), "something is left to do");
    times.idle.run(|| host.apply());
    virsh.feed("net-destroy net7\n");
    times.heal.run(|| host.apply());
    virsh.feed("net-info net7\n");
    assert!(host.run(&["plan"]).status.success(), "the drift is not healed");
    virsh.feed(&without(NETWORKS));
    virsh.feed("pool-destroy main\npool-undefine main\n");
}

/// Through a daemon what was made outlives the client.
fn without(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        writeln!(text, "net-destroy net{n}\nnet-undefine net{n}").unwrap();
        text
    })
}

/// What trueup's networks are, without its mark.
fn xml(n: usize) -> String {
    let (a, b) = (n / 250, n % 250);
    format!(
        "<network><name>net{n}</name><forward mode='nat'/><bridge name='br{n}'/><ip address='10.{a}.{b}.1' netmask='255.255.255.0'><dhcp><range start='10.{a}.{b}.100' end='10.{a}.{b}.199'/></dhcp></ip></network>"
    )
}

/// The same by virsh, each phase fed at once; the prompt's answer to `echo` ends a phase.
fn virsh_batches(times: &mut Times) {
    let folder = tempfile::tempdir().unwrap();
    let [mut make, mut look] = [String::new(), String::new()];
    for n in 0..NETWORKS {
        let file = folder.path().join(format!("{n}.xml"));
        std::fs::write(&file, xml(n)).unwrap();
        writeln!(make, "net-define {}", file.display()).unwrap();
        writeln!(make, "net-autostart net{n}\nnet-start net{n}").unwrap();
        writeln!(look, "net-dumpxml net{n}").unwrap();
    }
    let mut virsh = Virsh::open();
    times.converge.run(|| virsh.feed(&make));
    times.idle.run(|| virsh.feed(&look));
    virsh.feed("net-destroy net7\n");
    times.heal.run(|| virsh.feed(&format!("net-list --all\n{look}net-start net7\n")));
    virsh.feed(&without(NETWORKS));
}

struct Virsh {
    child: Child,
    answers: std::io::BufReader<std::process::ChildStdout>,
    errors: tempfile::NamedTempFile,
    phase: usize,
}

impl Virsh {
    fn open() -> Self {
        let errors = tempfile::NamedTempFile::new().unwrap();
        let mut child = Command::new("virsh")
            .args(["-q", "-c", URI])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.reopen().unwrap())
            .spawn()
            .unwrap();
        let answers = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut virsh = Self { child, answers, errors, phase: 0 };
        virsh.feed("");
        virsh
    }

    /// Feeds commands and waits until all of them are answered.
    fn feed(&mut self, commands: &str) {
        use std::io::BufRead as _;
        self.phase += 1;
        let end = format!("end-of-phase-{}", self.phase);
        // `echo` ends no line; the prompt and the next command do, as virsh shows both.
        let text = format!("{commands}echo {end}\necho\n");
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
            if line.starts_with(&end) {
                break;
            }
        }
        let errors = std::fs::read_to_string(self.errors.path()).unwrap();
        assert!(errors.is_empty(), "{errors}");
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
fn kept_open(work: impl FnOnce(&mut Virsh)) {
    let mut keeper = Virsh::open();
    work(&mut keeper);
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
fn playbooks(virsh: &mut Virsh, times: &mut Times) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("play.yml");
    let networks: Vec<_> = (0..ANSIBLE_NETWORKS)
        .map(|n| serde_json::json!({ "name": format!("net{n}"), "xml": xml(n) }))
        .collect();
    let task = |command: serde_json::Value| {
        let mut task = serde_json::json!({ "name": "{{ item.name }}", "uri": URI });
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
    virsh.feed("net-destroy net7\n");
    times.heal.run(run);
    virsh.feed(&without(ANSIBLE_NETWORKS));
}
