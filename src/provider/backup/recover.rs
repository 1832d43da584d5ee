//! trueup's own state out of a repository that nothing is known of yet but its place and its key.
//!
//! It only reads: nothing is written to the repository but the lock of a reader.

use std::path::{Path, PathBuf};

use trueup_backup::protocol::{
    Action, Compare, Done, Filter, KeySource, Limits, Outcome, Request, Restore, Snapshot, Target,
};

use super::drill::log_in;
use super::job::{TAG, unexpected};
use super::worker;
use crate::model::Fault;
use crate::port::Progress;

/// A repository, with what it takes to read it.
#[derive(Clone)]
pub struct Vault {
    /// The path of `trueup`, which the worker is a command of.
    pub program: PathBuf,
    /// Where it lies.
    pub target: Target,
    /// The same, for people.
    pub at: String,
    /// Its password.
    pub key: String,
    /// A private folder for the worker.
    pub folder: PathBuf,
}

/// A snapshot of trueup's own state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnState {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The state directory that it is of.
    pub state: PathBuf,
    /// Where its log lies in it.
    pub log: PathBuf,
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The repository's own id, 64 hex digits.
    pub repository: String,
    /// Files that came back and were read again.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// How long the restore took, milliseconds.
    pub restored_ms: u64,
    /// How long reading it again took, milliseconds.
    pub compared_ms: u64,
}

impl Vault {
    /// The snapshots of trueup's own state in it, the oldest first.
    ///
    /// # Errors
    /// What keeps them from being listed.
    pub async fn states(&self, host: Option<&str>) -> Result<Vec<OwnState>, Fault> {
        let filter = self.filter(host);
        let silent: Progress = std::sync::Arc::new(|_| ());
        match self.run(Action::Snapshots { filter }, &silent).await?.done {
            Done::Snapshots { snapshots } => Ok(snapshots.into_iter().filter_map(own).collect()),
            other => Err(self.fault(&unexpected(&other))),
        }
    }

    /// Restores a snapshot whole into the empty folder `to`, and reads it back.
    ///
    /// # Errors
    /// It does not come back, or as something else.
    pub async fn fetch(
        &self,
        snapshot: &str,
        to: &Path,
        progress: &Progress,
    ) -> Result<Fetched, Fault> {
        let restore = Restore {
            snapshot: snapshot.to_owned(),
            filter: Filter::default(),
            path: None,
            to: to.to_owned(),
            resume: false,
            sync: true,
        };
        let restored = self.run(Action::Restore(restore), progress).await?;
        let compare = Compare {
            snapshot: snapshot.to_owned(),
            filter: Filter::default(),
            with: to.to_owned(),
        };
        let ended = self.run(Action::Compare(compare), progress).await?;
        let Done::Compare(compared) = &ended.done else {
            return Err(self.fault(&unexpected(&ended.done)));
        };
        if let Some(first) = compared.wrong.first() {
            return Err(Fault::permanent(format!(
                "{}: {} thing(s) came back as something else, the first: {}: {}; take an older \
                 snapshot with --snapshot",
                self.at,
                compared.wrong_count,
                first.path.display(),
                first.why
            )));
        }
        Ok(Fetched {
            repository: restored.repository,
            files: compared.files,
            bytes: compared.bytes,
            restored_ms: restored.elapsed_ms,
            compared_ms: ended.elapsed_ms,
        })
    }

    fn filter(&self, host: Option<&str>) -> Filter {
        let host = host.map(ToOwned::to_owned);
        Filter { host, tags: vec![TAG.to_owned()], paths: Vec::new() }
    }

    async fn run(&self, action: Action, progress: &Progress) -> Result<Outcome, Fault> {
        let request = Request {
            target: self.target.clone(),
            key: KeySource::Stdin,
            state: self.folder.clone(),
            repository: None,
            limits: Limits::default(),
            action,
        };
        let ended = worker::run(&self.program, &request, &self.key, None, progress).await;
        ended.map_err(|fault| self.fault(&fault))
    }

    fn fault(&self, fault: &trueup_backup::protocol::Fault) -> Fault {
        Fault::permanent(fault.to_string())
    }
}

/// A snapshot as one of trueup's own state, by where it was saved from: the log is made ready in
/// `backup/state/NAME/log` of the state directory.
fn own(snapshot: Snapshot) -> Option<OwnState> {
    let log = log_in(&snapshot)?;
    let mut up = log.ancestors().skip(2);
    let made_ready = up.next()?.ends_with("backup/state");
    let state = up.nth(1)?.to_owned();
    made_ready.then_some(OwnState { snapshot, state, log })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::snapshot;
    use super::*;

    #[test]
    fn trueups_own_state_is_known_by_where_its_log_was_made_ready() {
        let of = |paths: &[&str]| own(snapshot(paths));
        let paths = ["/etc/trueup/config.yaml", "/var/lib/trueup/backup/state/own/log"];
        assert_eq!(of(&paths).unwrap().state, Path::new("/var/lib/trueup"));
        assert!(of(&["/var/log", "/srv"]).is_none() && of(&["/srv/backup/log"]).is_none());
    }
}
