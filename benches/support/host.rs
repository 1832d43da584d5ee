//! A host under trueup: the real program with a config of its own, as a daemon or for one pass.
//!
//! It uses the command line only, so that it measures what a user gets.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A host of libvirt's `test` driver with nothing on it.
pub const NODE: &str = "<node><cpu><mhz>2000</mhz><model>x86_64</model><active>4</active>\
<nodes>1</nodes><sockets>1</sockets><cores>4</cores><threads>1</threads></cpu>\
<memory>8192000</memory></node>";

/// Longest time a convergence may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two questions whether it is converged.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Exit code of `trueup plan` where something would change.
const WOULD_CHANGE: i32 = 3;

/// A host; everything of it is gone on drop, the daemon included.
pub struct Host {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
    /// Whether the daemon says all it does.
    pub verbose: bool,
}

impl Host {
    /// A host that follows the repository at `url` and manages the libvirt at `uri`. It asks the
    /// repository every 15 s, as is the default.
    pub fn new(url: &str, uri: &str) -> Self {
        let host = Self { dir: tempfile::tempdir().unwrap(), daemon: None, verbose: false };
        let at = host.dir.path().display();
        let config = format!(
            "repository:\n  url: {url}\n  poll: {{ interval: 15s }}\nhost: here\n\
             stateDirectory: {at}/state\nsocket: {at}/trueup.sock\nlibvirt: {{ uri: \"{uri}\" }}\n\
             accelerator: tcg\n"
        );
        std::fs::write(host.config(), config).unwrap();
        host
    }

    /// Adds lines to the config.
    pub fn configure(&self, more: &str) {
        let config = std::fs::read_to_string(self.config()).unwrap();
        std::fs::write(self.config(), config + more).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config.yaml")
    }

    /// Where the daemon writes about itself.
    pub fn said(&self) -> PathBuf {
        self.dir.path().join("daemon.log")
    }

    fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
        command.arg("--config").arg(self.config()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.program().args(words).output().unwrap()
    }

    /// Makes one pass in a process of its own; nothing may fail.
    pub fn apply(&self) {
        let ended = self.run(&["apply"]);
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }

    /// Starts the daemon and waits until it has nothing left to do. Gives the time that took.
    pub fn start_and_converge(&mut self) -> Duration {
        let log = File::options().create(true).append(true).open(self.said()).unwrap();
        let mut command = self.program();
        command
            .arg("run")
            .args(self.verbose.then_some("-vv"))
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        let begun = Instant::now();
        // Without a daemon that listens, a command would take the log for itself.
        while UnixStream::connect(self.dir.path().join("trueup.sock")).is_err() {
            assert!(begun.elapsed() < PATIENCE, "it does not start: {}", self.last_words());
            std::thread::sleep(ASK_EVERY);
        }
        loop {
            // Also a failure until the first commit is there.
            let ended = self.run(&["plan"]);
            if ended.status.success() && !ended.stdout.is_empty() {
                return begun.elapsed();
            }
            let why = String::from_utf8_lossy(&ended.stderr).into_owned();
            let late = begun.elapsed() > PATIENCE;
            assert!(!late || ended.status.code() == Some(WOULD_CHANGE), "{why}");
            assert!(!late, "it does not converge: {}", self.last_words());
            std::thread::sleep(ASK_EVERY);
        }
    }

    /// The last lines the daemon wrote about itself.
    fn last_words(&self) -> String {
        let said = std::fs::read_to_string(self.said()).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// The daemon's folder in `/proc`.
    pub fn proc(&self) -> PathBuf {
        let daemon = self.daemon.as_ref().expect("a daemon runs");
        Path::new("/proc").join(daemon.id().to_string())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let pid = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.unwrap(), Signal::TERM).unwrap();
        daemon.wait().unwrap();
    }
}
