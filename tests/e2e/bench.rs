//! A host under trueup: a repository, a config, and the daemon as a child process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use trueup::source::CommitId;
use trueup::state::State;

use super::events::{self, Event, until};
use super::spec;
use crate::cli::{Ended, program};
use crate::support::git_repo::GitRepo;

/// Longest time a convergence of these tests may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(240);

/// Lines of the daemon's own words shown when a test fails.
const LINES_SHOWN: usize = 60;

/// A host. The daemon ends with it.
pub(super) struct Bench {
    pub(super) dir: PathBuf,
    pub(super) repo: GitRepo,
    /// Time between two polls; pushes are noticed without it.
    pub(super) poll: &'static str,
    pub(super) parallelism: u8,
    daemon: Option<Child>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let dir = PathBuf::from(std::env::var("TRUEUP_PRIVATE_DIR").unwrap());
        let repo = GitRepo::new();
        repo.write("trueup.yaml", spec::REPOSITORY);
        let bench = Self { dir, repo, poll: "60s", parallelism: 4, daemon: None };
        bench.configure();
        bench
    }

    /// Writes the config anew.
    pub(super) fn configure(&self) {
        let at = self.dir.display();
        let config = format!(
            "repository:\n  url: file://{repo}\n  poll: {{ interval: {poll} }}\nhost: bench\n\
             stateDirectory: {at}/state\nsocket: {at}/trueup.sock\naccelerator: tcg\n\
             limits: {{ resync: {poll}, parallelism: {parallelism} }}\n\
             backup: {{ secrets: {at}/secrets }}\n",
            repo = self.repo.bare().display(),
            poll = self.poll,
            parallelism = self.parallelism,
        );
        std::fs::write(self.config(), config).unwrap();
    }

    pub(super) fn config(&self) -> PathBuf {
        self.dir.join("config.yaml")
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub(super) fn tiny() -> PathBuf {
        PathBuf::from(std::env::var(super::TINY).unwrap())
    }

    /// Commits these documents as the whole environment, and pushes. Gives the commit and when the
    /// push began.
    pub(super) fn push(&self, documents: &[String]) -> (CommitId, Timestamp) {
        self.repo.write("environments/lab/lab.yaml", documents.concat());
        let commit = self.repo.commit("a wish");
        let begun = Timestamp::now();
        self.repo.push();
        (commit, begun)
    }

    /// The program with this host's config.
    pub(super) fn program(&self) -> Command {
        let mut command = program();
        command.arg("--config").arg(self.config()).stdin(Stdio::null());
        command
    }

    /// Runs a command of the program.
    pub(super) fn run(&self, words: &[&str]) -> Ended {
        Ended::of(self.program().args(words).output().unwrap())
    }

    /// Starts the daemon; returns at once.
    pub(super) fn start(&mut self) {
        self.start_with(None);
    }

    /// Starts the daemon, which kills itself at crash point `at`.
    pub(super) fn start_to_crash(&mut self, at: u64) {
        self.start_with(Some(at));
    }

    fn start_with(&mut self, crash_at: Option<u64>) {
        assert!(self.daemon.is_none(), "a daemon runs already");
        let log = File::options().create(true).append(true).open(self.said()).unwrap();
        let mut command = self.program();
        command.arg("run").stdout(log.try_clone().unwrap()).stderr(log);
        if let Some(at) = crash_at {
            command.env("TRUEUP_CRASH_AT", at.to_string());
        }
        self.daemon = Some(command.spawn().unwrap());
    }

    /// Everything the daemon has said.
    pub(super) fn said_so_far(&self) -> String {
        std::fs::read_to_string(self.said()).unwrap()
    }

    /// Where the daemon's own words go.
    fn said(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.pid()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The daemon's process id.
    pub(super) fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon runs").id()
    }

    /// Waits until the daemon answers.
    pub(super) fn await_socket(&self) {
        let socket = self.dir.join("trueup.sock");
        until("the daemon to answer", PATIENCE, || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
    }

    /// Asks the daemon to read its config again.
    pub(super) fn hang_up(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    /// Asks the daemon to end, and says how long it took.
    pub(super) fn stop(&mut self) -> Duration {
        let begun = Instant::now();
        self.signal(rustix::process::Signal::TERM);
        let status = self.daemon.take().unwrap().wait().unwrap();
        assert!(status.success(), "the daemon ended with {status}");
        begun.elapsed()
    }

    /// Kills the daemon where it stands.
    pub(super) fn kill(&mut self) {
        self.signal(rustix::process::Signal::KILL);
        self.daemon.take().unwrap().wait().unwrap();
    }

    /// How the daemon ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.daemon.as_mut().expect("a daemon was started").try_wait().unwrap();
        if status.is_some() {
            self.daemon = None;
        }
        status
    }

    /// Every event after event `seq`.
    pub(super) fn events_after(&self, seq: u64) -> Vec<Event> {
        events::after(&self.state_dir(), seq)
    }

    /// The newest event's number.
    pub(super) fn seq(&self) -> u64 {
        self.state().seq
    }

    pub(super) fn state(&self) -> State {
        events::state(&self.state_dir())
    }

    /// Waits for an event of `type_` about `subject` after event `seq`.
    pub(super) fn event(&self, seq: u64, type_: &str, subject: &str) -> Event {
        self.event_within(seq, type_, subject, PATIENCE)
    }

    pub(super) fn event_within(
        &self,
        seq: u64,
        type_: &str,
        subject: &str,
        limit: Duration,
    ) -> Event {
        until(&format!("{type_} {subject} after event {seq}"), limit, || {
            self.events_after(seq).into_iter().find(|event| event.is(type_, subject))
        })
    }

    /// Waits until everything is what `commit` asks for and nothing is left to do.
    pub(super) fn converged(&self, commit: &CommitId) -> State {
        until(&format!("the machine to be as {commit} asks"), PATIENCE, || {
            let state = self.state();
            is_converged(&state, commit).then_some(state)
        })
    }

    /// Requires a log that is whole and that folds to what is live.
    pub(super) fn assert_log_is_whole(&self) {
        let verified = self.run(&["log", "verify"]).code(0);
        assert!(verified.out.contains("ok"), "{verified:?}");
        let replayed = self.run(&["replay", "-o", "json"]).code(0);
        let replayed: serde_json::Value = serde_json::from_str(&replayed.out).unwrap();
        assert!(!replayed["compared_with"].is_null(), "{replayed}");
    }
}

/// Whether everything is what `commit` asks for, with nothing left over.
pub(super) fn is_converged(state: &State, commit: &CommitId) -> bool {
    let in_force = state.spec.commit.as_ref().is_some_and(|c| c.to_string() == commit.to_string());
    in_force
        && state.resources.values().all(|resource| {
            let fulfilled = resource.applied.as_ref().map(|applied| applied.wish);
            resource.wish.is_some()
                && fulfilled == resource.wish
                && resource.in_flight.is_none()
                && resource.drift.is_none()
                && resource.failure.is_none()
                && resource.unobservable.is_none()
        })
        && state.plan.as_ref().is_none_or(|plan| plan.finished)
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().ok();
            daemon.wait().ok();
        }
        if std::thread::panicking() {
            let said = std::fs::read_to_string(self.said()).unwrap_or_default();
            let from = said.lines().count().saturating_sub(LINES_SHOWN);
            eprintln!("--- the daemon's last words");
            said.lines().skip(from).for_each(|line| eprintln!("{line}"));
            let log = self.program().args(["log", "-n", "40"]).output();
            if let Ok(log) = log {
                eprintln!("--- the log's end\n{}", String::from_utf8_lossy(&log.stdout));
            }
        }
    }
}

/// Runs a program and gives what it printed.
#[track_caller]
pub(super) fn sh(argv: &[&str]) -> String {
    let output = Command::new(argv[0]).args(&argv[1..]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{argv:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a guest's own web server answers.
pub(super) fn http(address: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let limit = Duration::from_secs(2);
    let to = address.parse().unwrap();
    let mut stream = std::net::TcpStream::connect_timeout(&to, limit).ok()?;
    stream.set_read_timeout(Some(limit)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Whether a file is there.
pub(super) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
