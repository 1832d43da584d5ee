//! A drill: a snapshot is restored into a scratch folder, timed, compared with what it should be, looked
//! at by whoever knows better, booted where it is a guest and the wish says so, and removed again.
//!
//! That something is wrong is an answer, not a failure; a failure is a drill that could not be done.
//! Nothing outside of the scratch folder is written.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;
use trueup_backup::protocol::{self, Action, Compare, Done, Restore, Restored, Snapshot};

use super::act::{brief, is_foreign, notice, told};
use super::boot::Boot;
use super::job::{Job, unexpected};
use super::room;
use super::scratch::{BootTurn, Scratch};
use super::worker::{COMPLAINT_WAIT, Group, complaint};
use crate::model::Fault;
use crate::model::backup::{BackupDrilled, BackupFailed, BackupNews};
use crate::model::resource::{BackupSource, Chore};
use crate::port::{Outcome, Scope};
use crate::provider::files::blocking;
use crate::provider::paths::remove;

/// Differences that an event names: the first say what it is about.
const NAMED_MAX: usize = 3;
/// Room that a drill takes beside the bytes of its snapshot: what the file system notes of them, a console,
/// and what stands in for disks that were not saved.
const ROOM_BESIDE: u64 = 16 << 20;

/// What came of a drill: what was right, or what was wrong.
type Proved = Result<BackupDrilled, Wrong>;

/// What was wrong.
pub(super) struct Wrong {
    errors: u64,
    why: String,
    /// What a guest that did not come up wrote on its console last.
    console: Vec<String>,
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Self { errors: 1, why, console: Vec::new() }
    }
}

impl Job<'_> {
    /// Restores `snapshot` beside, and proves that it is what it was.
    pub(super) async fn drill(&self, snapshot: &str, scope: &Scope) -> Result<Outcome, Fault> {
        if let Some(drill) = self.backup.drill.as_ref().filter(|drill| !drill.check.is_empty()) {
            self.allowed(&drill.check)?;
        }
        let boot = self.boot(scope)?;
        // First: nobody at the repository has to wait for another one's machine.
        let alone = match &boot {
            Some(_) => Some(self.provider.turn_to_boot(self.progress).await),
            None => None,
        };
        let turn = self.provider.turn(&self.backup.repository);
        let _beside = turn.read().await;
        let found = match self.wanted(snapshot).await? {
            Ok(found) => found,
            Err(wrong) => return Ok(failed(wrong)),
        };
        let mut scratch = self.scratch(found.bytes, alone).await?;
        if let Some(boot) = &boot {
            // Much may be to restore for nothing.
            boot.may(&scratch.folder).await?;
        }
        let (folders, least) = (BTreeSet::from([scratch.folder.clone()]), scratch.room_left());
        let proved = tokio::select! {
            proved = self.came_back(&found, &mut scratch, boot.as_ref()) => proved,
            (folder, free) = room::runs_out(&folders, least) => Err(Fault::transient(format!(
                "{}: the drill was given up: {} MiB are left in {}, and {} MiB stay with everybody \
                 else there: make room, or name another folder as `backup.scratch` in the host's config",
                self.id,
                free >> 20,
                folder.display(),
                least >> 20
            ))),
        };
        let cleared = self.clear(scratch).await;
        let proved = proved?;
        // What was found counts for more than a folder that would not go: the next drill sees to it.
        if let (Err(fault), Ok(_)) = (cleared, &proved) {
            return Err(fault);
        }
        Ok(proved.map_or_else(failed, |drilled| told(BackupNews::Drilled(drilled))))
    }

    /// Restores it, and boots it where that is wanted.
    async fn came_back(
        &self,
        snapshot: &Snapshot,
        scratch: &mut Scratch,
        boot: Option<&Boot<'_>>,
    ) -> Result<Proved, Fault> {
        let mut drilled = match self.restored(snapshot, &scratch.folder).await? {
            Ok(drilled) => drilled,
            Err(wrong) => return Ok(Err(wrong)),
        };
        let Some(boot) = boot else { return Ok(Ok(drilled)) };
        let wrong = boot.with(scratch, &mut drilled, self.progress).await?;
        Ok(wrong.map_or(Ok(drilled), Err))
    }

    /// The snapshot of this id: one that is not there any more is something wrong.
    pub(super) async fn wanted(&self, snapshot: &str) -> Result<Result<Snapshot, Wrong>, Fault> {
        let all = match self.snapshots().await {
            Ok((_, all)) => all,
            Err(fault) => return self.is_wrong(&fault).map(Err),
        };
        let found = all.into_iter().find(|known| known.id == snapshot);
        Ok(found.ok_or_else(|| {
            let short = snapshot.get(..8).unwrap_or(snapshot);
            Wrong::from(format!(
                "snapshot {short} is not in {} any more: what is there is older than the log, or \
                 somebody removed it",
                self.backup.repository
            ))
        }))
    }

    /// What a fault says against the repository itself, rather than about a try.
    pub(super) fn is_wrong(&self, fault: &protocol::Fault) -> Result<Wrong, Fault> {
        use protocol::Fault::{Damaged, RepositoryOther, SnapshotUnknown};
        match fault {
            Damaged { .. } | RepositoryOther { .. } | SnapshotUnknown { .. } => {
                Ok(Wrong::from(brief(&fault.to_string())))
            }
            other => Err(self.fault(other)),
        }
    }

    /// An empty folder with room for `bytes`. `alone`: something is booted out of it.
    async fn scratch(&self, bytes: Option<u64>, alone: Option<BootTurn>) -> Result<Scratch, Fault> {
        let (setup, id) = (self.provider.setup.clone(), self.id.clone());
        let make = move || {
            let named = |error: io::Error| Fault::transient(format!("{id}: {error}"));
            let scratch = Scratch::take(&setup, &id.name, alone).map_err(named)?;
            let scratch = scratch.ok_or_else(|| {
                Fault::transient(format!("{id}: another process drills it right now"))
            })?;
            let (free, wanted) = (scratch.free().map_err(named)?, bytes.unwrap_or(0));
            if wanted.saturating_add(scratch.room_left() + ROOM_BESIDE) > free {
                return Err(Fault::transient(format!(
                    "{id}: a drill needs {wanted} bytes and some room to spare in {}, and {free} are \
                     free there: make room, or name another folder as `backup.scratch` in the host's \
                     config",
                    scratch.place(&setup).display()
                )));
            }
            Ok(scratch)
        };
        blocking("make room for a drill", make).await
    }

    async fn clear(&self, mut scratch: Scratch) -> Result<(), Fault> {
        // What runs on the files goes first. Where it does not, it is tried again as the scratch goes.
        scratch.end_machine().await?;
        let id = self.id.clone();
        let clear = move || {
            let cleared = remove(&scratch.folder);
            scratch.lock = None;
            cleared.map_err(|error| Fault::transient(format!("{id}: after a drill: {error}")))
        };
        blocking("clear what a drill restored", clear).await
    }

    async fn restored(&self, snapshot: &Snapshot, folder: &Path) -> Result<Proved, Fault> {
        let restore = Restore {
            snapshot: snapshot.id.clone(),
            filter: self.filter(),
            path: None,
            to: folder.to_owned(),
            resume: false,
            sync: true,
        };
        let ended = match self.run(Action::Restore(restore), None).await {
            Ok(ended) => ended,
            Err(fault) => return self.is_wrong(&fault).map(Err),
        };
        let Done::Restore(restored) = &ended.done else {
            return Err(self.fault(&unexpected(&ended.done)));
        };
        let mut drilled = BackupDrilled {
            snapshot: restored.snapshot.clone(),
            files: restored.files,
            bytes: restored.bytes,
            elapsed_ms: ended.elapsed_ms,
            boot: None,
            proved: Vec::new(),
            notices: ended.notices.iter().map(notice).chain(undressed(restored)).collect(),
            foreign: ended.notices.iter().any(is_foreign),
        };
        if let Err(wrong) = self.compared(snapshot, folder, &mut drilled).await? {
            return Ok(Err(wrong));
        }
        match self.proofs(snapshot, folder, &mut drilled).await? {
            Some(wrong) => Ok(Err(wrong)),
            None => Ok(Ok(drilled)),
        }
    }

    /// Reads every file again.
    async fn compared(
        &self,
        snapshot: &Snapshot,
        folder: &Path,
        drilled: &mut BackupDrilled,
    ) -> Result<Result<(), Wrong>, Fault> {
        let compare = Compare {
            snapshot: snapshot.id.clone(),
            filter: self.filter(),
            with: folder.to_owned(),
        };
        let ended = match self.run(Action::Compare(compare), None).await {
            Ok(ended) => ended,
            Err(fault) => return self.is_wrong(&fault).map(Err),
        };
        let Done::Compare(compared) = &ended.done else {
            return Err(self.fault(&unexpected(&ended.done)));
        };
        if compared.wrong_count > 0 {
            let first = compared.wrong.iter().take(NAMED_MAX);
            let first: Vec<_> =
                first.map(|it| format!("{}: {}", it.path.display(), it.why)).collect();
            let (errors, why) = (compared.wrong_count, brief(&first.join("; ")));
            return Ok(Err(Wrong { errors, why, console: Vec::new() }));
        }
        (drilled.files, drilled.bytes) = (compared.files, compared.bytes);
        Ok(Ok(()))
    }

    /// What only a source, or whoever saves it, knows to be right.
    async fn proofs(
        &self,
        snapshot: &Snapshot,
        folder: &Path,
        drilled: &mut BackupDrilled,
    ) -> Result<Option<Wrong>, Fault> {
        if matches!(self.backup.source, BackupSource::State) {
            let prove = self.provider.setup.prove_log.clone();
            let state = log_in(snapshot).map(|log| below(folder, &log));
            let proof = move || {
                let state = state.as_deref().and_then(Path::parent);
                Ok(state.map_or_else(|| Err("there is no log in it".into()), |state| prove(state)))
            };
            match blocking("prove a restored log", proof).await? {
                Ok(proof) => drilled.proved.push(proof),
                Err(why) => return Ok(Some(Wrong::from(why))),
            }
        }
        let Some(drill) = self.backup.drill.as_ref() else { return Ok(None) };
        let [program, arguments @ ..] = &drill.check[..] else { return Ok(None) };
        let limit = Duration::from_secs(drill.timeout_s);
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder);
        command.env("TRUEUP_BACKUP", self.id.name.as_str());
        command.env("TRUEUP_SNAPSHOT", &snapshot.id);
        match ask(command, limit).await {
            Ok(Ok(())) => drilled.proved.push(format!("`{program}` is content with it")),
            Ok(Err(why)) => return Ok(Some(Wrong::from(format!("`{program}` {why}")))),
            Err(error) => {
                return Err(Fault::permanent(format!(
                    "{}: `{program}`, which looks at what a drill restored, cannot be run: {error}",
                    self.id
                )));
            }
        }
        Ok(None)
    }
}

fn failed(wrong: Wrong) -> Outcome {
    let Wrong { errors, why, console } = wrong;
    told(BackupNews::Failed(BackupFailed { during: Chore::Drill, errors, why, console }))
}

impl Wrong {
    /// A guest did not come up.
    pub(super) fn of_guest(why: String, console: Vec<String>) -> Self {
        Self { console, ..Self::from(why) }
    }

    /// As a finding of a check.
    pub(super) fn while_verifying(self) -> BackupFailed {
        let Self { errors, why, console } = self;
        BackupFailed { during: Chore::Verify, errors, why, console }
    }
}

/// What of the looks could not be put back, in a sentence.
fn undressed(restored: &Restored) -> Option<String> {
    let first = restored.warnings.first()?;
    Some(format!("{} thing(s) could not be put back, the first: {first}", restored.warning_count))
}

/// Where the log lies in a snapshot of trueup's own state.
pub(super) fn log_in(snapshot: &Snapshot) -> Option<PathBuf> {
    let paths = snapshot.paths.iter().map(PathBuf::from);
    paths.into_iter().find(|path| path.ends_with("log"))
}

/// Where an absolute path lies once it was restored into `folder`.
pub(super) fn below(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path.strip_prefix("/").unwrap_or(path))
}

/// Asks a program whether it is content: `Ok(Err)` says that and why it is not.
///
/// # Errors
/// It cannot be run.
async fn ask(mut command: Command, limit: Duration) -> io::Result<Result<(), String>> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
    let mut group = Group::of(&child);
    let said = child.stderr.take().map(|stderr| tokio::spawn(complaint(stderr)));
    let Ok(status) = timeout(limit, child.wait()).await else {
        return Ok(Err(format!("did not end within {} s", limit.as_secs())));
    };
    let status = status?;
    if status.success() {
        group.let_go();
        return Ok(Ok(()));
    }
    // It ran as root and may have quoted a secret: that is for no event.
    if let Some(said) = said
        && let Ok(Ok(said)) = timeout(COMPLAINT_WAIT, said).await
    {
        tracing::debug!(%said, "the program that looks at a drill is not content");
    }
    Ok(Err(format!(
        "is not content ({status}); what it said is logged at level debug: `journalctl -u trueup`"
    )))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::snapshot;
    use super::*;

    #[test]
    fn a_log_is_found_where_it_was_saved_from() {
        let snapshot = snapshot(&["/etc/config.yaml", "/var/lib/trueup/backup/state/own/log"]);
        let log = log_in(&snapshot).unwrap();
        let restored = below(Path::new("/scratch"), &log);
        assert_eq!(restored, Path::new("/scratch/var/lib/trueup/backup/state/own/log"));
    }

    #[tokio::test]
    async fn a_program_is_asked_and_one_that_hangs_is_ended() {
        let shell = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            command
        };
        let long = Duration::from_secs(60);
        assert_eq!(ask(shell("true"), long).await.unwrap(), Ok(()));
        let why = ask(shell("echo secret >&2; exit 3"), long).await.unwrap().unwrap_err();
        assert!(why.contains("status: 3") && !why.contains("secret"), "{why}");
        let why = ask(shell("sleep 1000"), Duration::from_millis(50)).await.unwrap().unwrap_err();
        assert!(why.contains("did not end"), "{why}");
        assert!(ask(Command::new("/nowhere"), long).await.is_err());
    }
}
