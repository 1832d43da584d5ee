//! `trueup gpu` from outside, over a simulated NVML and libvirt's own `test:///` driver: the view now
//! and then, with and without a daemon, and what fits.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use expect_test::expect;
use serde_json::Value;
use trueup_fake_nvml::{Edit, Process, State, Store, install};

use super::{Ended, Host, program};
use crate::support::git_repo::GitRepo;

/// The most anything here may take; a healthy machine needs a second.
const PATIENCE: Duration = Duration::from_secs(60);

const FIRST: &str = "    - {name: train, shape: 3g, start: 4}\n    - {name: infer, shape: 1g, count: \
                     3}\n";
const SECOND: &str = "    - {name: train, shape: 3g, start: 4}\n    - {name: infer, shape: 1g, count: \
                      2}\n    - {name: eval, shape: 2g}\n";

/// A host with simulated GPUs and a repository.
struct Machine {
    host: Host,
    repo: GitRepo,
    store: Store,
}

impl Machine {
    fn with(boards: &[&str]) -> Self {
        let (host, repo) = (Host::new(), GitRepo::new());
        let state = State::with_boards(boards).unwrap();
        let (library, store) = install(host.path(), state).unwrap();
        let at = host.path().display();
        let config = format!(
            "repository:\n  url: {}\nhost: node1\nstateDirectory: {at}/state\nsocket: \
             {at}/t.sock\naccelerator: tcg\nlibvirt: {{uri: 'test:///default'}}\ngpu: {{library: \
             {}}}\n",
            repo.bare().display(),
            library.display()
        );
        std::fs::write(host.path().join("config.yaml"), config).unwrap();
        repo.write(
            "trueup.yaml",
            "apiVersion: trueup/v1\nkind: Repository\nmetadata: {name: test}\nspec: {environments: \
             {lab: {hosts: [node1]}}}\n",
        );
        let pool = host.path().join("pool");
        let environment = format!(
            "apiVersion: trueup/v1\nkind: Environment\nmetadata: {{name: lab}}\nspec:\n  \
             storagePools: [{{name: fast, path: {}}}]\n",
            pool.display()
        );
        repo.publish("environments/lab/environment.yaml", &environment);
        Self { host, repo, store }
    }

    fn uuid(&mut self, index: usize) -> String {
        self.store.read().unwrap().gpus[index].uuid.clone()
    }

    /// Commits a layout of the first GPU and brings the machine there.
    fn apply(&mut self, partitions: &str) {
        let uuid = self.uuid(0);
        let layout = format!(
            "apiVersion: trueup/v1\nkind: GpuLayout\nmetadata: {{name: big}}\nspec:\n  match: \
             {{uuid: {uuid}}}\n  mode: mig\n  partitions:\n{partitions}"
        );
        self.repo.publish("environments/lab/gpu.yaml", &layout);
        self.host.run(&["apply"]).code(0);
    }

    fn process(&mut self, pid: u32, start: u32) {
        let process = Process { pid, start: Some(start), ..Process::default() };
        self.store.edit(&Edit::AddProcess { gpu: 0, process }).unwrap();
    }

    fn json(&self, words: &[&str]) -> Value {
        let words = [words, &["-o", "json"]].concat();
        serde_json::from_str(&self.host.run(&words).out).unwrap()
    }

    /// The events of this type, as stored.
    fn events(&self, type_: &str) -> Vec<Value> {
        let out = self.host.run(&["log", "--type", type_, "-o", "json"]).code(0).out;
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Without times, and without what the driver gives anew.
fn steady(text: &str) -> String {
    let word = |word: &str| match word {
        word if word.len() == 10 && word.matches('-').count() == 2 => "<date>".to_owned(),
        word if word.len() == 8 && word.matches(':').count() == 2 => "<time>".to_owned(),
        word if word.starts_with("MIG-") => "MIG-…".to_owned(),
        word => word.to_owned(),
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn the_view_says_what_there_is_who_uses_it_and_how_it_was() {
    let mut machine = Machine::with(&["h100-80gb"]);
    let before = machine.host.run(&["gpu"]).code(0);
    assert!(before.out.contains("whole") && !before.out.contains("gpu/big"), "{}", before.out);
    assert!(before.err.contains("without what the log knows"), "{}", before.err);
    machine.apply(FIRST);
    machine.process(4711, 4);
    let now = machine.host.run(&["gpu"]).code(0);
    expect![[r#"
        driver 580.95.05  event 32

        GPU           PRODUCT                      MODE  LAYOUT   STATUS  CUT SINCE            HEALTH
        0000:07:00.0  NVIDIA H100 80GB (SXM/PCIe)  mig   gpu/big  Synced  <date> <time>  well, 41 °C, 68 W

        0000:07:00.0  GPU-00000000-fa4e-4000-8000-000000000000  serial 1650000000000  Hopper  vBIOS 96.00.5E.00.01  0 of 81152 MiB used
        now: 1410 MHz, memory 1593 MHz, at most 400 W, ECC on
             0       1       2       3       4       5       6       7
        now │ 1g in~│ 1g in~│ 1g in~│·······│*3g train                      │
             now 0: 1g infer-0
             now 1: 1g infer-1
             now 2: 1g infer-2
             * in use
        SLICES  NAME     PROFILE  COMPUTE  BUSY  USERS                 DEVICE
        1g@0    infer-0  1g.10gb                                       MIG-…
        1g@1    infer-1  1g.10gb                                       MIG-…
        1g@2    infer-2  1g.10gb                                       MIG-…
        3g@4    train    3g.40gb                 a process (pid 4711)  MIG-…
    "#]].assert_eq(&steady(&now.out));
    let first = machine.events("gpu.observed");
    let seq = first.last().unwrap()["seq"].as_u64().unwrap();
    machine.apply(SECOND);
    let parts = |gpus: &Value| -> Vec<String> {
        let parts = gpus["gpus"][0]["parts"].as_array().unwrap();
        let part = |it: &Value| format!("{} {}", it["label"], it["name"]).replace('"', "");
        parts.iter().map(part).collect()
    };
    let now = machine.json(&["gpu"]);
    assert_eq!(parts(&now), ["1g@0 infer-0", "1g@1 infer-1", "2g@2 eval", "3g@4 train"]);
    assert_eq!(now["gpus"][0]["parts"][3]["users"][0]["pid"], 4711);
    assert!(now["gpus"][0]["parts"][3]["devices"][0].as_str().unwrap().starts_with("MIG-"));
    assert_eq!(now["gpus"][0]["status"]["is"], "synced");
    let then = machine.json(&["gpu", "--at", &seq.to_string()]);
    assert_eq!(parts(&then), ["1g@0 infer-0", "1g@1 infer-1", "1g@2 infer-2", "3g@4 train"]);
    assert_eq!((&then["live"], &then["seq"]), (&Value::from(false), &Value::from(seq)));
    let shown = machine.host.run(&["gpu", "--at", &seq.to_string()]).code(0).out;
    assert!(shown.contains("from the log, as of") && shown.contains("3g train"), "{shown}");
    machine.host.run(&["gpu", "--at", "2000-01-01"]).code(1);
}

#[test]
fn drift_and_a_driver_that_is_gone_are_told() {
    let mut machine = Machine::with(&["h100-80gb", "h100-80gb"]);
    machine.apply(FIRST);
    machine.store.change(|state| state.gpus[0].instances.retain(|it| it.start != 1)).unwrap();
    machine.host.run(&["pause", "-m", "looking"]).code(0);
    machine.host.run(&["apply"]).code(4);
    let shown = machine.host.run(&["gpu"]).code(0).out;
    assert!(shown.contains("Drifted") && shown.contains("drift: partitions.infer-1"), "{shown}");
    machine.store.edit(&Edit::Lose { gpu: 0 }).unwrap();
    let lost = machine.json(&["gpu"]);
    assert_eq!(lost["gpus"].as_array().unwrap().len(), 3, "{lost}");
    assert!(lost["gpus"][0]["failed"].is_string(), "{lost}");
    assert_eq!(lost["gpus"][1]["mode"], "whole");
    assert_eq!(lost["gpus"][2]["layout"], "gpu/big");
    assert!(lost["gpus"][2]["failed"].as_str().unwrap().contains("not among the GPUs"), "{lost}");
    machine.store.edit(&Edit::DriverUnload).unwrap();
    let gone = machine.host.run(&["gpu"]).code(5);
    assert!(gone.out.contains("not looked at") && gone.out.contains("3g train"), "{}", gone.out);
    assert!(gone.err.contains("trueup preflight --for gpu"), "{}", gone.err);
    machine.host.run(&["gpu", "fits", "1g"]).code(5);
}

#[test]
fn pictures_are_written_as_svg() {
    let mut machine = Machine::with(&["h100-80gb"]);
    let file = machine.host.path().join("gpus.svg");
    let path = file.to_str().unwrap().to_owned();
    machine.host.run(&["gpu", "--svg", &path]).code(1);
    machine.apply(FIRST);
    machine.host.run(&["gpu", "--svg", &path]).code(0);
    let svg = std::fs::read_to_string(&file).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("3g train"), "{svg}");
    let uuid = machine.uuid(0);
    let next = format!(
        "apiVersion: trueup/v1\nkind: GpuLayout\nmetadata: {{name: big}}\nspec:\n  match: {{uuid: \
         {uuid}}}\n  mode: mig\n  partitions:\n{SECOND}"
    );
    machine.repo.publish("environments/lab/gpu.yaml", &next);
    let planned = machine.host.run(&["plan", "--svg", &path]).code(3).out;
    assert!(planned.contains("│-1g in~│"), "{planned}");
    let svg = std::fs::read_to_string(&file).unwrap();
    assert!(svg.contains(">before<") && svg.contains("+2g eval"), "{svg}");
    let markdown = machine.host.run(&["plan", "-o", "markdown"]).code(3).out;
    assert!(markdown.contains("```text\n") && markdown.contains("│+2g eval"), "{markdown}");
    assert!(!markdown.contains("<svg"), "{markdown}");
}

#[test]
fn what_fits_now_after_moves_and_never() {
    let mut machine = Machine::with(&["h100-80gb"]);
    let off = machine.host.run(&["gpu", "fits", "3g"]).code(3).out;
    assert!(off.contains("MIG is off") && off.contains("fits now: 3g@"), "{off}");
    machine.apply(FIRST);
    machine.process(4711, 4);
    let capacity = machine.host.run(&["gpu", "fits"]).code(0).out;
    expect![[r#"
        0000:07:00.0  NVIDIA H100 80GB (SXM/PCIe)
             0       1       2       3       4       5       6       7
        now │ 1g in~│ 1g in~│ 1g in~│·······│*3g train                      │
             now 0: 1g infer-0
             now 1: 1g infer-1
             now 2: 1g infer-2
             * in use
        SHAPE  PROFILE     NOW  AFTER MOVES  AFTER CLEARING
        1g     1g.10gb     1    1            4
        2g     2g.20gb     0    0            2
        3g     3g.40gb     0    0            1
        4g     4g.40gb     0    0            1
        7g     7g.80gb     0    0            0
        1g+me  1g.10gb+me  1    1            1
        1g.2m  1g.20gb     0    0            2
    "#]]
    .assert_eq(&capacity);
    let now = machine.host.run(&["gpu", "fits", "1g"]).code(0).out;
    assert!(now.contains("fits now: 1g@3"), "{now}");
    let after = machine.host.run(&["gpu", "fits", "2g"]).code(3).out;
    expect![[r#"
        0000:07:00.0  NVIDIA H100 80GB (SXM/PCIe)
        fits after:
          1g@2 (infer-2) goes
                0       1       2       3       4       5       6       7
        before │ 1g in~│ 1g in~│-1g in~│·······│*3g train                      │
        after  │ 1g in~│ 1g in~│+2g            │*3g train                      │
                before 0: 1g infer-0
                before 1: 1g infer-1
                before 2: 1g infer-2
                after 0: 1g infer-0
                after 1: 1g infer-1
                * in use   - destroyed   + created
    "#]]
    .assert_eq(&after);
    let all = machine.json(&["gpu", "fits", "7g"]);
    let displaced = all["gpus"][0]["displaced"].as_array().unwrap();
    assert_eq!(displaced.len(), 4, "{all}");
    assert_eq!(displaced[3]["users"][0]["pid"], 4711, "{all}");
    let never = machine.host.run(&["gpu", "fits", "4gx2"]).code(4);
    assert!(never.out.contains("never fits: "), "{}", never.out);
    let unknown = machine.host.run(&["gpu", "fits", "5g"]).code(4).out;
    assert!(unknown.contains("no profile `5g`") && unknown.contains("3g (3g.40gb)"), "{unknown}");
    let uuid = machine.uuid(0);
    machine.host.run(&["gpu", "fits", "1g", "--gpu", &uuid]).code(0);
    machine.host.run(&["gpu", "fits", "1g", "--gpu", "GPU-none"]).code(1);
    machine.host.run(&["gpu", "fits", "3gx0"]).code(2);
}

/// The daemon, killed with the test.
struct Daemon(Child);

impl Daemon {
    fn start(machine: &Machine) -> Self {
        let mut command = program();
        command.args(["run", "--config"]).arg(machine.host.path().join("config.yaml"));
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = Self(quiet.spawn().unwrap());
        let (socket, begun) = (machine.host.path().join("t.sock"), Instant::now());
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(begun.elapsed() < PATIENCE, "no daemon answers");
            std::thread::yield_now();
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Somebody who is not root, and may neither read the log nor the library's folder.
#[test]
fn a_daemon_looks_for_those_who_may_only_ask() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut machine = Machine::with(&["h100-80gb"]);
    machine.apply(FIRST);
    let daemon = Daemon::start(&machine);
    let open = |name: &str, mode| {
        let path = machine.host.path().join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    // Where the program was built need not be open to others.
    let copy = machine.host.path().join("trueup");
    std::fs::copy(env!("CARGO_BIN_EXE_trueup"), &copy).unwrap();
    open("trueup", 0o755);
    open("", 0o755);
    open("t.sock", 0o666);
    open("libnvidia-ml.so.1", 0o600);
    let member = |words: &[&str]| {
        let mut command = std::process::Command::new(&copy);
        // `nobody`; no file here is theirs.
        command.uid(65_534).gid(65_534).env_clear().current_dir("/");
        let config = machine.host.path().join("config.yaml");
        Ended::of(command.arg("--config").arg(config).args(words).output().unwrap())
    };
    for words in [&["gpu"][..], &["gpu", "fits", "1g"]] {
        let theirs = member(words).code(0);
        let ours = machine.host.run(words).code(0).out;
        // The first line has the number of the newest event, and the daemon goes on.
        let rest = |out: &str| out.split_once('\n').unwrap().1.to_owned();
        assert_eq!(rest(&theirs.out), rest(&ours), "{words:?}");
        assert_eq!(theirs.err, "", "{words:?}");
    }
    drop(daemon);
    member(&["gpu"]).code(5);
}
