//! Jobs on the repository of one backup, in the words of the engine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;
use trueup_backup::protocol::{
    self, Action, Done, Filter, KeySource, Limits, Outcome, Request, Restore, Restored, Snapshot,
    Target,
};
use trueup_backup::retention::Keep;

use super::worker::FeedFn;
use super::{BackupProvider, worker};
use crate::model::resource::{Backup, BackupRemote};
use crate::model::{Fault, Name, ResourceId};
use crate::port::Progress;

/// The tag of every snapshot of ours.
pub(super) const TAG: &str = "trueup";

/// The repository of one backup.
pub(super) struct Job<'a> {
    pub(super) provider: &'a BackupProvider,
    pub(super) id: &'a ResourceId,
    pub(super) backup: &'a Backup,
    /// The id that the repository has to have, where one is known.
    pub(super) expected: Option<&'a str>,
    /// How long one job may take; none for somebody who waits for it.
    pub(super) limit: Option<Duration>,
    pub(super) progress: &'a Progress,
}

/// Between two lines of a worker's progress that nobody looks at, milliseconds.
const PROGRESS_MS: u64 = 1000;

/// What would be forgotten, and what stays and why.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Forgetting {
    /// What stays, with the rules that keep it.
    pub keep: Vec<protocol::Kept>,
    /// What goes.
    pub remove: Vec<Snapshot>,
    /// What was noticed beside it.
    #[serde(skip)]
    pub(super) notices: Vec<protocol::Notice>,
}

impl Job<'_> {
    /// Does one job of the engine.
    pub(super) async fn run(
        &self,
        action: Action,
        feed: Option<FeedFn<'_>>,
    ) -> Result<Outcome, protocol::Fault> {
        let setup = &self.provider.setup;
        let from = format!("the secret `{}`", self.backup.key);
        let key = (setup.secrets)(&self.backup.key)
            .map_err(|why| protocol::Fault::KeyUnreadable { from, why })?;
        let request = Request {
            target: self.target(),
            key: KeySource::Stdin,
            state: setup.folder.clone(),
            repository: self.expected.map(ToOwned::to_owned),
            limits: Limits {
                upload_kib: self.backup.limits.write_kib,
                read_kib: self.backup.limits.read_kib,
                progress_ms: self.limit.map(|_| PROGRESS_MS),
                ..Limits::default()
            },
            action,
        };
        let work = worker::run(&setup.program, &request, &key, feed, self.progress);
        let ended = match self.limit {
            None => work.await,
            // Dropping it kills the worker, which is always safe.
            Some(limit) => timeout(limit, work)
                .await
                .unwrap_or(Err(protocol::Fault::TooLong { limit_s: limit.as_secs() })),
        };
        if self.backup.remote.is_some() {
            let silent = match &ended {
                Err(fault @ protocol::Fault::RepositoryOffline { .. }) => Some(fault.to_string()),
                _ => None,
            };
            self.provider.reach.tried(&self.backup.repository, silent);
        }
        ended
    }

    /// Where the repository is, with the files that hold what it is logged in with.
    fn target(&self) -> Target {
        let secret = |name: &Name| self.provider.setup.secrets_folder.join(name.as_str());
        let file = |path: &Option<String>| path.as_ref().map(PathBuf::from);
        match &self.backup.remote {
            None => Target::Local { path: PathBuf::from(&self.backup.repository) },
            Some(BackupRemote::Rest { url, credentials, ca }) => Target::Rest {
                url: url.clone(),
                credentials: credentials.as_ref().map(secret),
                ca: file(ca),
            },
            Some(BackupRemote::Sftp { host, port, user, path, identity, host_keys }) => {
                Target::Sftp {
                    host: host.clone(),
                    port: Some(*port),
                    user: user.clone(),
                    path: path.clone(),
                    identity: secret(identity),
                    host_keys: host_keys.clone(),
                }
            }
            Some(BackupRemote::S3 { endpoint, region, bucket, prefix, credentials, ca }) => {
                Target::S3 {
                    endpoint: endpoint.clone(),
                    region: region.clone(),
                    bucket: bucket.clone(),
                    prefix: prefix.clone(),
                    credentials: secret(credentials),
                    ca: file(ca),
                }
            }
        }
    }

    /// Snapshots of this backup on this host.
    pub(super) fn filter(&self) -> Filter {
        let host = Some(self.provider.setup.host.clone());
        Filter { host, tags: tags(&self.id.name), paths: Vec::new() }
    }

    /// The snapshots of this backup, the oldest first, and the id of the repository.
    pub(super) async fn snapshots(&self) -> Result<(String, Vec<Snapshot>), protocol::Fault> {
        let outcome = self.run(Action::Snapshots { filter: self.filter() }, None).await?;
        match outcome.done {
            Done::Snapshots { snapshots } => Ok((outcome.repository, snapshots)),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes what `keep` does not keep, or only says what that would be.
    pub(super) async fn forget(
        &self,
        keep: &Keep,
        dry_run: bool,
    ) -> Result<Forgetting, protocol::Fault> {
        let keep = keep.clone();
        let action = Action::Forget { filter: self.filter(), keep, dry_run };
        let ended = self.run(action, None).await?;
        let notices = ended.notices;
        match ended.done {
            Done::Forget { keep, remove, .. } => Ok(Forgetting { keep, remove, notices }),
            other => Err(unexpected(&other)),
        }
    }

    /// In the words of the loop.
    pub(super) fn fault(&self, fault: &protocol::Fault) -> Fault {
        let text = format!("{}: {fault}", self.id);
        let text = match fault {
            protocol::Fault::RepositoryOther { found, .. } => format!(
                "{text}; if it was put there on purpose, say so: `repository: {{id: \"{}\"}}`",
                found.get(..12).unwrap_or(found)
            ),
            protocol::Fault::TooLong { .. } => {
                format!("{text}: give it more with `limits.time`, or make it less to do")
            }
            _ => text,
        };
        let passes = matches!(
            fault,
            protocol::Fault::DiskFullThere { .. } | protocol::Fault::DiskFullHere { .. }
        );
        if fault.transient() || passes { Fault::transient(text) } else { Fault::permanent(text) }
    }
}

impl BackupProvider {
    pub(super) fn job<'a>(&'a self, of: Which<'a>, progress: &'a Progress) -> Job<'a> {
        let Which { id, backup, repository } = of;
        Job { provider: self, id, backup, expected: repository, limit: None, progress }
    }

    /// The snapshots of a backup, the oldest first.
    ///
    /// # Errors
    /// What keeps them from being listed.
    pub async fn list(&self, of: Which<'_>) -> Result<Vec<Snapshot>, Fault> {
        let progress = silent();
        let job = self.job(of, &progress);
        job.snapshots().await.map(|(_, found)| found).map_err(|fault| job.fault(&fault))
    }

    /// Restores `snapshot` of a backup, or `path` within it, into the folder `to`.
    ///
    /// # Errors
    /// What keeps it from being restored.
    pub async fn restore(
        &self,
        of: Which<'_>,
        wanted: Wanted<'_>,
        progress: &Progress,
    ) -> Result<Restored, Fault> {
        let job = self.job(of, progress);
        let restore = Restore {
            snapshot: wanted.snapshot.to_owned(),
            filter: job.filter(),
            path: wanted.path.map(ToOwned::to_owned),
            to: wanted.to.to_owned(),
            resume: wanted.resume,
            sync: true,
        };
        let outcome = job.run(Action::Restore(restore), None).await;
        match outcome.map_err(|fault| job.fault(&fault))?.done {
            Done::Restore(restored) => Ok(restored),
            other => Err(job.fault(&unexpected(&other))),
        }
    }

    /// What the retention of a backup would remove now.
    ///
    /// # Errors
    /// What keeps it from being told.
    pub async fn would_forget(&self, of: Which<'_>, keep: &Keep) -> Result<Forgetting, Fault> {
        let progress = silent();
        let job = self.job(of, &progress);
        job.forget(keep, true).await.map_err(|fault| job.fault(&fault))
    }
}

/// One backup, and the repository that it has to be in.
#[derive(Debug, Clone, Copy)]
pub struct Which<'a> {
    /// Its name.
    pub id: &'a ResourceId,
    /// What it is.
    pub backup: &'a Backup,
    /// The id of its repository, where the log knows one: nothing is read from another.
    pub repository: Option<&'a str>,
}

/// What is to be restored, and where.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The snapshot's id or the start of it, or `latest`.
    pub snapshot: &'a str,
    /// A path within it; all of it without one.
    pub path: Option<&'a str>,
    /// The folder to restore into.
    pub to: &'a Path,
    /// Go on in a folder that is not empty.
    pub resume: bool,
}

/// The tags of the snapshots of the backup `name`.
pub(super) fn tags(name: &Name) -> Vec<String> {
    vec![TAG.to_owned(), name.to_string()]
}

/// An answer to another question.
pub(super) fn unexpected(done: &Done) -> protocol::Fault {
    protocol::Fault::Internal { what: format!("the worker did something else: {done:?}") }
}

pub(super) fn silent() -> Progress {
    std::sync::Arc::new(|_| ())
}
