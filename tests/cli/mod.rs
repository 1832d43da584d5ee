//! The program from outside: what it prints, where, and how it ends.

#[cfg(feature = "libvirt")]
mod alone;
#[cfg(feature = "libvirt")]
mod backup;
#[cfg(feature = "libvirt")]
mod backup_hooks;
#[cfg(feature = "libvirt")]
mod backup_remote;
#[cfg(feature = "libvirt")]
mod canary;
#[cfg(feature = "libvirt")]
mod cluster;
#[cfg(feature = "libvirt")]
mod cluster_kubernetes;
#[cfg(feature = "libvirt")]
mod daemon;
#[cfg(feature = "libvirt")]
mod drill;
#[cfg(feature = "libvirt")]
mod gpu;
mod gpu_parted;
mod index;
mod operate;
mod past;
#[cfg(feature = "libvirt")]
mod protect;
#[cfg(feature = "libvirt")]
mod recover;
#[cfg(feature = "libvirt")]
mod recover_disks;
#[cfg(feature = "libvirt")]
mod recover_remote;
#[cfg(feature = "libvirt")]
mod release;
mod streams;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use jiff::Timestamp;
use trueup::event::body::{
    Claim, CommitObserved, Drifted, LogOpened, PlanHeld, PlanMade, SpecAccepted, Synced,
};
use trueup::event::{Entry, Event};
use trueup::journal::{Journal, Options};
use trueup::model::{CommitId, Digest, Name, ResourceId};

/// A daemon that dies with the test.
pub(super) struct Daemon(Child);

impl Daemon {
    /// Starts it; what it says is added to `log`.
    pub(super) fn start(mut run: Command, log: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        Self(run.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    pub(super) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A state directory with a config that points to it.
pub(super) struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let config = format!(
            "repository:\n  url: /nowhere.git\nstateDirectory: {at}/state\nsocket: {at}/t.sock\n"
        );
        std::fs::write(folder.path().join("config.yaml"), config).unwrap();
        Self { folder }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Runs the program with this host's config.
    pub(super) fn run(&self, words: &[&str]) -> Ended {
        let mut command = program();
        command.arg("--config").arg(self.path().join("config.yaml")).args(words);
        Ended::of(command.output().unwrap())
    }

    /// Appends events to the log, as a daemon would.
    pub(super) fn append(&self, entries: Vec<Entry>) {
        let (journal, _) = Journal::open(&self.state(), &Options::default()).unwrap();
        let drafts = entries.iter().map(|entry| entry.draft().unwrap()).collect();
        journal.append(Timestamp::now(), drafts).unwrap();
        journal.close();
    }

    /// A log with a commit, a synced network, a drifted VM and a plan that is held.
    pub(super) fn with_past(self) -> Self {
        let commit: CommitId = "a".repeat(40).parse().unwrap();
        let wish = Digest::of("wish");
        let spec = SpecAccepted {
            environment: Name::new("lab").unwrap(),
            desired: Digest::of("desired"),
            changed: ["network/lan", "vm/web", "vm/db"].map(|text| (id(text), wish)).into(),
            removed: Vec::new(),
            tree: None,
        };
        let depends_on = Default::default();
        let claim = Claim { resource: None, prevent_destroy: false, orphan: false, depends_on };
        let synced = || Event::Synced(Synced { wish, claim: claim.clone() });
        let drifted =
            Drifted { changes: Vec::new(), more: None, what: "stopped".into(), heal: true };
        let opened = LogOpened { version: "0.1.0".into(), epoch: 1, host: "node1".into() };
        let observed = CommitObserved {
            author: "Eve <eve@example.org>".into(),
            time: "2026-01-02T03:04:05Z".into(),
            subject: "Red \u{1b}[31m subject".into(),
            signer: None,
            repository: None,
        };
        let plan = Digest::of("plan");
        let reasons = vec!["it destroys 4 resources, maxDestroy is 3".to_owned()];
        self.append(vec![
            Entry::new(Event::LogOpened(opened)),
            Entry::new(Event::CommitObserved(observed)).at_commit(&commit),
            Entry::new(Event::SpecAccepted(spec)).at_commit(&commit),
            Entry::new(synced()).about(&id("network/lan")).at_commit(&commit),
            Entry::new(synced()).about(&id("vm/web")).at_commit(&commit),
            Entry::new(Event::Drifted(drifted)).about(&id("vm/web")),
            Entry::new(Event::PlanMade(PlanMade {
                plan,
                total: 1,
                steps: Vec::new(),
                more: None,
                beside: None,
            })),
            Entry::new(Event::PlanHeld(PlanHeld {
                plan,
                reasons,
                soft: Vec::new(),
                more: None,
                firm: false,
            })),
        ]);
        self
    }
}

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

/// The program, with nothing of this process's environment that it would read.
pub(super) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
    for variable in ["TRUEUP_CONFIG", "TRUEUP_STATE", "RUST_LOG", "NO_COLOR", "STATE_DIRECTORY"] {
        command.env_remove(variable);
    }
    command
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Ended {
    pub(super) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().expect("it was not killed");
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }

    /// Requires this exit code.
    #[track_caller]
    pub(super) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// A lock that is held while it lives: another writer of the log.
pub(super) fn writer(host: &Host) -> Arc<Journal> {
    Arc::new(Journal::open(&host.state(), &Options::default()).unwrap().0)
}
