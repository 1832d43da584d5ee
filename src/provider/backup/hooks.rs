//! Programs before and after a snapshot.
//!
//! What has to be run after it is on the disk before anything is run before it, and goes from there only
//! once it was run: so it is, whatever happens in between, at the next start if need be. A program may
//! therefore be run twice.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use super::BackupProvider;
use super::worker::{COMPLAINT_WAIT, Group, complaint};
use crate::model::resource::BackupHook;
use crate::model::{Fault, Name, ResourceId};
use crate::provider::files::blocking;

/// The variable with the backup's name.
const NAME: &str = "TRUEUP_BACKUP";
/// The variable, for what is run after it, with what came of it.
const OUTCOME: &str = "TRUEUP_OUTCOME";

/// What came of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// It was taken.
    Taken,
    /// It was not.
    Failed,
    /// The program ended, or was made to, in the middle of it.
    Interrupted,
}

impl Came {
    fn word(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What is on the disk as long as it has to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Debt {
    after: Vec<BackupHook>,
}

/// What has to be run after a snapshot. Dropped without that, it is run all the same.
pub(super) struct Owed {
    provider: BackupProvider,
    id: ResourceId,
    after: Option<Vec<BackupHook>>,
    // Nobody runs hooks of this backup beside these.
    turn: Option<OwnedMutexGuard<()>>,
}

impl Owed {
    /// Notes durably what has to be run after the snapshot of `id`.
    pub(super) async fn note(
        provider: &BackupProvider,
        id: &ResourceId,
        after: &[BackupHook],
        turn: OwnedMutexGuard<()>,
    ) -> Result<Self, Fault> {
        let (path, debt) = (mark(provider, id), Debt { after: after.to_vec() });
        let named = id.clone();
        let note = move || {
            write(&path, &debt).map_err(|error| {
                Fault::transient(format!("{named}: {} cannot be written: {error}", path.display()))
            })
        };
        blocking("note what has to be run after a snapshot", note).await?;
        let (provider, id) = (provider.clone(), id.clone());
        Ok(Self { provider, id, after: Some(after.to_vec()), turn: Some(turn) })
    }

    /// Runs it; what went wrong, in sentences.
    pub(super) async fn pay(mut self, came: Came) -> Vec<String> {
        let after = self.after.clone().unwrap_or_default();
        let wrong = run_after(&self.provider, &self.id, &after, came).await;
        // Only now: until here it is run by whoever drops it.
        self.after = None;
        wrong
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let Some(after) = self.after.take() else { return };
        let (provider, id, turn) = (self.provider.clone(), self.id.clone(), self.turn.take());
        // Without a runtime the program is ending: it is run at the next start.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for wrong in run_after(&provider, &id, &after, Came::Interrupted).await {
                    tracing::warn!(%id, "{wrong}");
                }
                drop(turn);
            });
        }
    }
}

/// Runs what an earlier snapshot of `id` left to be run; what went wrong, in sentences.
pub(super) async fn settle(
    provider: &BackupProvider,
    id: &ResourceId,
    _turn: &OwnedMutexGuard<()>,
) -> Result<Vec<String>, Fault> {
    match owed(provider, id).await? {
        Some(debt) => Ok(run_after(provider, id, &debt.after, Came::Interrupted).await),
        None => Ok(Vec::new()),
    }
}

async fn owed(provider: &BackupProvider, id: &ResourceId) -> Result<Option<Debt>, Fault> {
    let (path, named) = (mark(provider, id), id.clone());
    let left = move || {
        read(&path).map_err(|error| {
            Fault::permanent(format!("{named}: {}: {error}; remove it", path.display()))
        })
    };
    blocking("look for what is left to be run", left).await
}

/// The backups for which something is left to be run, and for which nobody is running it.
pub(super) async fn left(provider: &BackupProvider) -> Result<Vec<Name>, Fault> {
    let folder = provider.setup.folder.join("hooks");
    let look = move || {
        named(&folder).map_err(|error| Fault::transient(format!("{}: {error}", folder.display())))
    };
    let names = blocking("look for what is left to be run", look).await?;
    // Whoever takes a snapshot has the turn until it is run.
    Ok(names.into_iter().filter(|name| provider.hooks_of(name).try_lock().is_ok()).collect())
}

/// Runs what is left of a backup that nobody asks for any more; what came of it, in sentences. `None`:
/// nothing was left.
pub(super) async fn pay_off(
    provider: &BackupProvider,
    id: &ResourceId,
) -> Result<Option<Vec<String>>, Fault> {
    let turn = provider.hooks_of(&id.name).lock_owned().await;
    let Some(debt) = owed(provider, id).await? else { return Ok(None) };
    let wrong = run_after(provider, id, &debt.after, Came::Interrupted).await;
    drop(turn);
    Ok(Some(wrong))
}

/// Runs one; why it failed, in a sentence.
pub(super) async fn run(
    provider: &BackupProvider,
    id: &ResourceId,
    hook: &BackupHook,
    came: Option<Came>,
) -> Result<(), String> {
    let [name, arguments @ ..] = hook.argv.as_slice() else { return Ok(()) };
    if !provider.setup.programs.iter().any(|allowed| allowed.allows(&hook.argv)) {
        return Err(format!(
            "the hook {name} was not run: `backup.programs` does not allow it with its arguments"
        ));
    }
    let failed = |why: String| format!("the hook {name} {why}");
    let mut command = Command::new(name);
    command.args(arguments).current_dir("/").env(NAME, id.name.as_str());
    if let Some(came) = came {
        command.env(OUTCOME, came.word());
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.process_group(0).kill_on_drop(true).spawn();
    let mut child = child.map_err(|error| failed(format!("cannot be run: {error}")))?;
    let mut group = Group::of(&child);
    let said = child.stderr.take().map(|stderr| tokio::spawn(complaint(stderr)));
    let ended = timeout(Duration::from_secs(hook.timeout_s), child.wait()).await;
    let status = ended
        .map_err(|_| failed(format!("did not end within {} s", hook.timeout_s)))?
        .map_err(|error| failed(format!("cannot be waited for: {error}")))?;
    if status.success() {
        group.let_go();
        return Ok(());
    }
    // It ran as root and may have quoted a secret: that is for no event.
    if let Some(said) = said
        && let Ok(Ok(said)) = timeout(COMPLAINT_WAIT, said).await
    {
        tracing::debug!(hook = %name, %said, "a hook failed");
    }
    Err(failed(format!("failed ({status}); what it said is logged at level debug")))
}

/// Runs all of them, whatever comes of each, and forgets them.
async fn run_after(
    provider: &BackupProvider,
    id: &ResourceId,
    after: &[BackupHook],
    came: Came,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for hook in after {
        wrong.extend(run(provider, id, hook, Some(came)).await.err());
    }
    let path = mark(provider, id);
    let forget = move || {
        forget(&path).map_err(|error| Fault::transient(format!("{}: {error}", path.display())))
    };
    if let Err(fault) = blocking("forget what was run after a snapshot", forget).await {
        wrong.push(format!("that hooks were run could not be noted ({fault}): they are run again"));
    }
    wrong
}

fn mark(provider: &BackupProvider, id: &ResourceId) -> PathBuf {
    provider.setup.folder.join("hooks").join(format!("{}.json", id.name))
}

/// Whose notes there are in `folder`; a half-written one is nobody's.
fn named(folder: &Path) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let note = path.extension().is_some_and(|it| it == "json");
        let name = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| note);
        names.extend(name.and_then(|name| Name::new(name).ok()));
    }
    names.sort();
    Ok(names)
}

fn write(path: &Path, debt: &Debt) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let fresh = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&serde_json::to_vec(debt)?)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}

fn read(path: &Path) -> io::Result<Option<Debt>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_remembered_until_it_is_paid() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hooks/db.json");
        assert_eq!(read(&path).unwrap(), None);
        let argv = vec!["/bin/true".to_owned()];
        let debt = Debt { after: vec![BackupHook { argv, timeout_s: 1 }] };
        for _ in 0..2 {
            write(&path, &debt).unwrap();
        }
        assert_eq!(read(&path).unwrap(), Some(debt));
        fs::write(folder.path().join("hooks/half.new"), "half").unwrap();
        assert_eq!(named(&folder.path().join("hooks")).unwrap(), [Name::new("db").unwrap()]);
        assert!(named(&folder.path().join("none")).unwrap().is_empty());
        fs::write(&path, "half").unwrap();
        assert!(read(&path).is_err());
        for _ in 0..2 {
            forget(&path).unwrap();
        }
        assert_eq!(read(&path).unwrap(), None);
    }
}
