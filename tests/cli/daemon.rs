//! The daemon from outside, on libvirt's own `test:///` driver: start, push, operate, reload, stop.

use std::io::BufRead as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::{Ended, Host, program};
use crate::support::git_repo::GitRepo;

/// The most anything here may take; a healthy machine needs a second.
const PATIENCE: Duration = Duration::from_secs(60);

const REPOSITORY: &str = "\
apiVersion: trueup/v1
kind: Repository
metadata: {name: test}
spec:
  environments:
    lab: {hosts: [node1]}
";

fn network(name: &str, third: u8) -> String {
    format!(
        "apiVersion: trueup/v1\nkind: Network\nmetadata: {{name: {name}}}\n\
         spec: {{mode: isolated, cidr: 10.199.{third}.0/24}}\n"
    )
}

/// A running daemon with what it follows.
struct Running {
    host: Host,
    repo: GitRepo,
    child: Child,
    systemd: UnixDatagram,
}

impl Running {
    fn start() -> Self {
        let repo = GitRepo::new();
        repo.write("trueup.yaml", REPOSITORY);
        repo.write("environments/lab/a.yaml", network("alpha", 1));
        repo.commit("start");
        repo.push();
        let host = Host::new();
        write_config(&host, &repo, "15s");
        let systemd = UnixDatagram::bind(host.path().join("notify")).unwrap();
        systemd.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = spawn(&host);
        let running = Self { host, repo, child, systemd };
        running.await_state("READY=1");
        running
    }

    fn await_state(&self, state: &str) {
        let mut bytes = [0; 512];
        loop {
            let length = self.systemd.recv(&mut bytes).expect("systemd was told nothing");
            let text = String::from_utf8_lossy(&bytes[..length]);
            if text.lines().any(|line| line == state) {
                return;
            }
        }
    }

    fn await_event(&self, type_: &str, subject: &str) {
        self.await_log(&["--type", type_, "--subject", subject]);
    }

    /// Follows the log until an event fits the filters.
    fn await_log(&self, filters: &[&str]) {
        let mut command = program();
        command.arg("--config").arg(self.host.path().join("config.yaml")).args(["log", "-f"]);
        let mut follower = command.args(filters).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = follower.stdout.take().unwrap();
        let (sender, first) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut line = String::new();
            let read = std::io::BufReader::new(stdout).read_line(&mut line);
            // Whoever waited may have lost patience.
            sender.send(read.is_ok_and(|bytes| bytes > 0)).unwrap_or_default();
        });
        let found = first.recv_timeout(PATIENCE);
        follower.kill().unwrap();
        follower.wait().unwrap();
        reader.join().unwrap();
        let log = || self.host.run(&["log"]).out;
        assert_eq!(found, Ok(true), "{filters:?} not found in:\n{}", log());
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal)
            .unwrap();
    }

    fn stop(&mut self) -> Duration {
        let started = Instant::now();
        self.signal(rustix::process::Signal::TERM);
        assert!(self.child.wait().unwrap().success());
        started.elapsed()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves it running; one that passed has waited for its end.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

fn write_config(host: &Host, repo: &GitRepo, interval: &str) {
    let at = host.path().display();
    let config = format!(
        "repository:\n  url: {}\n  poll: {{interval: {interval}}}\nhost: node1\n\
         stateDirectory: {at}/state\nsocket: {at}/t.sock\nlibvirt: {{uri: 'test:///default'}}\n\
         accelerator: tcg\n",
        repo.bare().display()
    );
    std::fs::write(host.path().join("config.yaml"), config).unwrap();
}

fn spawn(host: &Host) -> Child {
    let log = std::fs::File::create(host.path().join("daemon.log")).unwrap();
    let mut command = program();
    command.args(["run", "-v", "--config"]).arg(host.path().join("config.yaml"));
    command.env("NOTIFY_SOCKET", host.path().join("notify"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

#[test]
fn the_daemon_follows_a_repository_and_stops_cleanly() {
    let mut running = Running::start();
    running.await_event("resource.synced", "network/alpha");
    let pushed = Instant::now();
    running.repo.publish("environments/lab/b.yaml", &network("beta", 2));
    running.await_event("resource.synced", "network/beta");
    // The next poll is up to 15 s away: only the watch on the repository is this fast.
    assert!(pushed.elapsed() < Duration::from_secs(10), "{:?}", pushed.elapsed());
    let status = running.host.run(&["status"]).code(0).out;
    assert!(status.contains("3 Synced"), "{status}");
    running.host.run(&["plan"]).code(0);
    let replay = running.host.run(&["replay"]).code(0).out;
    assert!(replay.contains("equals the daemon's state"), "{replay}");
    assert!(running.stop() < Duration::from_secs(10));
    assert!(!running.host.path().join("t.sock").exists());
    running.host.run(&["log", "verify"]).code(0);
    let replay = running.host.run(&["replay"]).code(0).out;
    assert!(replay.contains("equals the snapshot"), "{replay}");
}

#[test]
fn operators_decide_through_the_daemon() {
    let mut running = Running::start();
    running.await_event("resource.synced", "network/alpha");
    running.host.run(&["pause", "-m", "lunch"]).code(0);
    running.repo.publish("environments/lab/b.yaml", &network("beta", 2));
    running.await_log(&["--type", "plan.held"]);
    running.host.run(&["plan"]).code(3);
    running.host.run(&["apply"]).code(4);
    let paused = running.host.run(&["status"]).code(0).out;
    assert!(paused.contains("paused") && paused.contains("Held"), "{paused}");
    running.host.run(&["resume"]).code(0);
    running.await_event("resource.synced", "network/beta");
    running.host.run(&["release", "network/beta"]).code(4);
    running.host.run(&["hold", "network/beta", "-m", "mine"]).code(0);
    running.stop();
}

#[test]
fn a_reload_takes_a_good_config_and_refuses_a_bad_one() {
    let mut running = Running::start();
    running.await_event("resource.synced", "network/alpha");
    std::fs::write(running.host.path().join("config.yaml"), "repository: {ulr: x}\n").unwrap();
    running.signal(rustix::process::Signal::HUP);
    write_config(&running.host, &running.repo, "20s");
    let log = || std::fs::read_to_string(running.host.path().join("daemon.log")).unwrap();
    running.signal(rustix::process::Signal::HUP);
    running.await_state("RELOADING=1");
    running.await_state("READY=1");
    assert!(log().contains("reloading"), "{}", log());
    running.host.run(&["status"]).code(0);
    running.stop();
}

#[test]
fn a_reload_under_which_nothing_runs_falls_back() {
    let mut running = Running::start();
    running.await_event("resource.synced", "network/alpha");
    let path = running.host.path().join("config.yaml");
    let good = std::fs::read_to_string(&path).unwrap();
    // No folder can be made below a file.
    std::fs::write(&path, good.replace("/state\n", "/config.yaml/state\n")).unwrap();
    running.signal(rustix::process::Signal::HUP);
    running.await_state("RELOADING=1");
    running.await_state("READY=1");
    std::fs::write(&path, good).unwrap();
    let log = std::fs::read_to_string(running.host.path().join("daemon.log")).unwrap();
    assert!(log.contains("the old one stays"), "{log}");
    running.host.run(&["status"]).code(0);
    running.stop();
}

#[test]
fn a_second_daemon_is_refused_and_a_killed_one_leaves_a_whole_log() {
    let mut running = Running::start();
    running.await_event("resource.synced", "network/alpha");
    let second = Ended::of(
        program()
            .args(["run", "--config"])
            .arg(running.host.path().join("config.yaml"))
            .output()
            .unwrap(),
    );
    assert!(second.code(4).err.contains("another daemon"));
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    running.host.run(&["log", "verify"]).code(0);
    running.child = spawn(&running.host);
    running.await_state("READY=1");
    let opened = running.host.run(&["log", "--type", "log.opened"]).code(0).out;
    assert_eq!(opened.lines().count(), 2, "{opened}");
    running.stop();
}

/// The program as somebody who is not root runs it.
struct Member {
    program: std::path::PathBuf,
    config: std::path::PathBuf,
}

/// `nobody`; no file here is theirs.
const NOBODY: u32 = 65_534;

impl Member {
    /// Opens the socket and the config of `host` to a member, and nothing else.
    fn of(host: &Host) -> Self {
        let open = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        assert!(rustix::process::getuid().is_root(), "another user can only be played by root");
        // Where the program was built need not be open to others.
        let program = host.path().join("trueup");
        std::fs::copy(env!("CARGO_BIN_EXE_trueup"), &program).unwrap();
        open(&program, 0o755);
        open(host.path(), 0o755);
        // What the group's entry on the socket does, where there is such a group.
        open(&host.path().join("t.sock"), 0o666);
        let state = std::fs::metadata(host.state()).unwrap().permissions().mode();
        assert_eq!(state & 0o077, 0, "the state directory is root's alone: {state:o}");
        Self { program, config: host.path().join("config.yaml") }
    }

    fn run(&self, words: &[&str]) -> Ended {
        Ended::of(self.command(words).output().unwrap())
    }

    fn command(&self, words: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command.uid(NOBODY).gid(NOBODY).env_clear().current_dir("/");
        command.arg("--config").arg(&self.config).args(words);
        command
    }
}

#[test]
fn a_member_of_the_group_is_answered_without_reading_the_log() {
    let mut running = Running::start();
    running.await_event("resource.synced", "network/alpha");
    let member = Member::of(&running.host);
    member.run(&["plan"]).code(0);
    member.run(&["apply"]).code(0);
    for words in [&["status"][..], &["drift"], &["state"]] {
        let theirs = member.run(words).code(0);
        assert_eq!(theirs.out, running.host.run(words).code(0).out, "{words:?}");
        assert_eq!(theirs.err, "", "{words:?}");
    }
    // A commit that is not used is said with the plan, not looked up in the log.
    running.repo.publish("environments/lab/b.yaml", "kind: Netwrk\n");
    running.await_log(&["--type", "spec.rejected"]);
    let planned = member.run(&["plan"]).code(0);
    assert!(planned.err.contains("mistake(s) and is not used"), "{}", planned.err);
    for words in [&["log", "verify"][..], &["replay"]] {
        let ended = member.run(words).code(5);
        assert!(ended.err.contains("run this as root"), "{words:?}: {}", ended.err);
    }
    running.stop();
    for words in [&["plan"][..], &["apply"], &["status"], &["log"], &["why", "network/alpha"]] {
        let ended = member.run(words).code(5);
        assert!(ended.err.contains("systemctl start trueup"), "{words:?}: {}", ended.err);
    }
}

#[test]
fn a_member_of_the_group_is_told_of_the_past_by_the_daemon() {
    let mut running = Running::start();
    running.await_event("resource.synced", "network/alpha");
    let member = Member::of(&running.host);
    for words in [
        &["log"][..],
        &["log", "-o", "json"],
        &["log", "-n", "3"],
        &["log", "-n", "2", "--type", "step.*"],
        &["log", "--subject", "network/alpha"],
        &["log", "--until", "2020-01-02T03:04:05Z"],
        &["why", "network/alpha"],
        &["why", "network/alpha", "-o", "json"],
        &["state", "--at", "3"],
    ] {
        let theirs = member.run(words).code(0);
        assert_eq!(theirs.out, running.host.run(words).code(0).out, "{words:?}");
        assert_eq!(theirs.err, "", "{words:?}");
    }
    let unknown = member.run(&["why", "network/nobody"]).code(1);
    assert!(unknown.err.contains("the log says nothing about"), "{}", unknown.err);
    let early = member.run(&["state", "--at", "2020-01-02T03:04:05Z"]).code(1);
    assert!(early.err.contains("nothing had happened"), "{}", early.err);
    // What comes from now on is followed too.
    let mut follower = member.command(&["log", "-f", "-n", "1", "--type", "spec.accepted"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(follower.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("spec.accepted"));
    running.repo.publish("environments/lab/b.yaml", &network("beta", 2));
    assert!(lines.next().unwrap().unwrap().contains("spec.accepted"));
    follower.kill().unwrap();
    follower.wait().unwrap();
    running.stop();
}

#[test]
fn the_index_is_built_again_after_a_kill() {
    let mut running = Running::start();
    running.await_event("resource.synced", "network/alpha");
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let seal = running.host.state().join("index/seal");
    assert!(!seal.exists(), "nobody closed it");
    let killed = running.host.run(&["status"]).code(0).out;
    assert!(killed.contains("Synced"), "{killed}");
    running.child = spawn(&running.host);
    running.await_state("READY=1");
    running.stop();
    assert!(seal.exists());
    let replay = running.host.run(&["replay"]).code(0).out;
    assert!(replay.contains("equals the snapshot"), "{replay}");
    assert!(replay.contains("index the same"), "{replay}");
}
