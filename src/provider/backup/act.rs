//! The steps on a backup. Each may be repeated: at worst a snapshot is taken twice.

use trueup_backup::protocol::{
    self, Action, Checked, Done, Notice, Outcome as Ended, ReadData, Source, Taken,
};
use trueup_backup::retention::Keep;

use super::job::{Job, tags, unexpected};
use super::worker::{self, FeedFn};
use super::{hooks, own_state};
use crate::model::backup::{
    BackupFailed, BackupForgotten, BackupNews, BackupTaken, BackupVerified, Before,
    FORGOTTEN_NAMED_MAX,
};
use crate::model::resource::{BackupDefinition, BackupSource, Chore};
use crate::model::{Fault, Kind, ResourceId};
use crate::port::{Outcome, Scope};
use crate::provider::files::blocking;

impl Job<'_> {
    /// Takes a snapshot, which has the disks `of` in it, with what is run before and after it.
    pub(super) async fn back_up(
        &self,
        scope: &Scope,
        of: Vec<ResourceId>,
    ) -> Result<Outcome, Fault> {
        let turn = self.provider.turn(&self.backup.repository);
        let _beside = turn.read().await;
        let mine = self.provider.hooks_of(&self.id.name).lock_owned().await;
        let mut wrong = hooks::settle(self.provider, self.id, &mine).await?;
        let programs = &self.backup.hooks;
        if programs.is_empty() {
            return noting(self.snapshot(scope, of).await, wrong);
        }
        for hook in programs.all() {
            self.allowed(&hook.argv)?;
        }
        let owed = hooks::Owed::note(self.provider, self.id, &programs.after, mine).await?;
        let result = self.hooked_snapshot(scope, of).await;
        let came = if result.is_ok() { hooks::Came::Taken } else { hooks::Came::Failed };
        wrong.extend(owed.pay(came).await);
        noting(result, wrong)
    }

    async fn hooked_snapshot(&self, scope: &Scope, of: Vec<ResourceId>) -> Result<Outcome, Fault> {
        for hook in &self.backup.hooks.before {
            let run = hooks::run(self.provider, self.id, hook, None).await;
            run.map_err(|why| {
                Fault::transient(format!("{}: {why}; no snapshot was taken", self.id))
            })?;
        }
        self.snapshot(scope, of).await
    }

    async fn snapshot(&self, scope: &Scope, of: Vec<ResourceId>) -> Result<Outcome, Fault> {
        if let BackupSource::Guest(guest) = &self.backup.source {
            return self.back_up_guest(guest, scope, of).await;
        }
        let (source, feed) = self.source(scope).await?;
        let (exclude, one_file_system) = match &self.backup.source {
            BackupSource::Paths(paths) => (paths.exclude.clone(), paths.one_file_system),
            _ => (Vec::new(), false),
        };
        let action = Action::Backup(protocol::Backup {
            source,
            host: self.provider.setup.host.clone(),
            tags: tags(&self.id.name),
            exclude,
            one_file_system,
            force: false,
            time: None,
        });
        let ended = self.run(action, feed).await.map_err(|fault| self.fault(&fault))?;
        match &ended.done {
            Done::Backup(done) => Ok(told(BackupNews::Taken(taken(&ended, done, of)))),
            other => Err(self.fault(&unexpected(other))),
        }
    }

    /// Checks the repository, and that the snapshots `there` are in it. That it is damaged, older than
    /// the log or another one is an answer, not a failure.
    pub(super) async fn verify(&self, part: Option<u32>, there: &[&str]) -> Result<Outcome, Fault> {
        let turn = self.provider.turn(&self.backup.repository);
        let _beside = turn.read().await;
        for snapshot in there {
            if let Err(wrong) = self.wanted(snapshot).await? {
                return Ok(told(BackupNews::Failed(wrong.while_verifying())));
            }
        }
        let of = self.backup.verify.as_ref().and_then(|verify| verify.read_parts);
        let read = match (part, of) {
            (Some(part), Some(of)) => ReadData::Part { part, of },
            _ => ReadData::None,
        };
        let ended = match self.run(Action::Check { read }, None).await {
            Ok(ended) => ended,
            Err(fault) => {
                let wrong = self.is_wrong(&fault)?;
                return Ok(told(BackupNews::Failed(wrong.while_verifying())));
            }
        };
        match &ended.done {
            Done::Check(checked) => Ok(told(verdict(&ended, checked))),
            other => Err(self.fault(&unexpected(other))),
        }
    }

    /// Removes the snapshots that nothing keeps, and the data that nothing else needs. `pinned` stay
    /// whatever the retention says; `released` were such.
    pub(super) async fn tidy(
        &self,
        pinned: &[String],
        released: &[String],
    ) -> Result<Outcome, Fault> {
        let Some(retention) = &self.backup.retention else {
            return Err(Fault::permanent(format!("{}: it says nothing of what stays", self.id)));
        };
        let _alone = self.provider.alone(self.id, &self.backup.repository).await?;
        let keep = Keep { ids: pinned.to_vec(), ..retention.keep.clone() };
        let gone = self.forget(&keep, false).await;
        let gone = gone.map_err(|fault| self.fault(&fault))?;
        let prune = Action::Prune { dry_run: false, max_unused_percent: None };
        let pruned = self.run(prune, None).await.and_then(|ended| match ended.done {
            Done::Prune(pruned) => Ok((pruned.bytes_removed, ended.notices)),
            other => Err(unexpected(&other)),
        });
        let mut notices: Vec<_> = gone.notices.iter().map(notice).collect();
        let mut foreign = gone.notices.iter().any(is_foreign);
        let freed = match pruned {
            Ok((freed, noticed)) => {
                notices.extend(noticed.iter().map(notice));
                foreign |= noticed.iter().any(is_foreign);
                freed
            }
            Err(fault) if gone.remove.is_empty() => return Err(self.fault(&fault)),
            // The snapshots are gone: without this event nobody would ever know which.
            Err(fault) => {
                let why = brief(&fault.to_string());
                notices
                    .push(format!("the data of what was removed stays until the next time: {why}"));
                0
            }
        };
        let named = gone.remove.iter().take(FORGOTTEN_NAMED_MAX);
        Ok(told(BackupNews::Forgotten(BackupForgotten {
            kept: gone.keep.len() as u64,
            removed: named.map(|snapshot| snapshot.id.clone()).collect(),
            removed_count: gone.remove.len() as u64,
            released: released.to_vec(),
            freed,
            notices,
            foreign,
        })))
    }

    /// That this host runs a program with these arguments. They are not repeated: they may hold a
    /// secret.
    pub(super) fn allowed(&self, argv: &[String]) -> Result<(), Fault> {
        if self.provider.setup.programs.iter().any(|allowed| allowed.allows(argv)) {
            return Ok(());
        }
        let program = argv.first().map(String::as_str).unwrap_or_default();
        Err(Fault::needs_human(
            format!("{}: this host does not run {program} with these arguments", self.id),
            "name it in `backup.programs` of the host's config with exactly its arguments, if it is \
             to be run as root",
        ))
    }

    async fn source(&self, scope: &Scope) -> Result<(Source, Option<FeedFn<'_>>), Fault> {
        match &self.backup.source {
            BackupSource::Paths(paths) => {
                let paths = paths.paths.iter().map(Into::into).collect();
                Ok((Source::Paths { paths }, None))
            }
            BackupSource::Command(command) => {
                self.allowed(&command.argv)?;
                Ok((
                    Source::Stream { name: command.file.clone() },
                    Some(worker::program(command.clone())),
                ))
            }
            // Whose arguments are ours, not the commit's.
            BackupSource::Postgresql(cluster) => {
                let command = cluster.command();
                Ok((Source::Stream { name: command.file.clone() }, Some(worker::program(command))))
            }
            BackupSource::State => {
                let setup = self.provider.setup.clone();
                let name = self.id.name.clone();
                let id = self.id.clone();
                let ready = move || {
                    let folder = setup.folder.join("state").join(name.as_str());
                    own_state::make_ready(&setup.own, &folder)
                        .map_err(|error| Fault::transient(format!("{id}: {error}")))
                };
                let paths = blocking("make the state ready", ready).await?;
                Ok((Source::Paths { paths }, None))
            }
            BackupSource::Definition(of) => {
                let text = self.definition(of, scope).await?;
                Ok((Source::Stream { name: of.file.clone() }, Some(worker::text(text))))
            }
            BackupSource::Guest(_) => Err(Fault::permanent(format!(
                "{}: a guest is read otherwise: this is a mistake of trueup, please report it",
                self.id
            ))),
        }
    }

    /// What an object is defined as: by libvirt, or for a GPU's layout by the commit.
    async fn definition(&self, of: &BackupDefinition, scope: &Scope) -> Result<String, Fault> {
        if of.of.kind != Kind::GpuLayout {
            return self.provider.guests()?.definition(of).await;
        }
        let wanted = scope.desired.resources.get(&of.of).ok_or_else(|| {
            Fault::transient(format!("{}: {} is not asked for any more", self.id, of.of))
        })?;
        serde_json::to_string_pretty(&wanted.resource)
            .map_err(|error| Fault::permanent(format!("{}: {}: {error}", self.id, of.of)))
    }
}

/// With what went wrong beside it, in the event or in the error.
fn noting(result: Result<Outcome, Fault>, wrong: Vec<String>) -> Result<Outcome, Fault> {
    match result {
        Ok(Outcome { backup: Some(BackupNews::Taken(taken)), .. }) => {
            Ok(told(BackupNews::Taken(BackupTaken { hooks: wrong, ..taken })))
        }
        Err(fault) if !wrong.is_empty() => Err(fault.with(&wrong.join("; "))),
        other => other,
    }
}

/// The same for a snapshot that is taken `before` something.
pub(super) fn before(outcome: Outcome, before: Option<&Before>) -> Outcome {
    match outcome {
        Outcome { backup: Some(BackupNews::Taken(taken)), .. } => {
            told(BackupNews::Taken(BackupTaken { before: before.cloned(), ..taken }))
        }
        other => other,
    }
}

pub(super) fn told(news: BackupNews) -> Outcome {
    Outcome { backup: Some(news), ..Outcome::default() }
}

pub(super) fn taken(ended: &Ended, done: &Taken, of: Vec<ResourceId>) -> BackupTaken {
    let first = done.missing.first();
    BackupTaken {
        repository: ended.repository.clone(),
        snapshot: done.snapshot.id.clone(),
        begun: done.snapshot.time,
        tree: done.snapshot.tree.clone(),
        files: done.files,
        bytes: done.bytes,
        added: ended.stored,
        of,
        read: None,
        missing: done.missing_count,
        first_missing: first.map(|missing| format!("{}: {}", missing.path.display(), missing.why)),
        notices: ended.notices.iter().map(notice).collect(),
        foreign: ended.notices.iter().any(is_foreign),
        before: None,
        hooks: Vec::new(),
        elapsed_ms: ended.elapsed_ms,
    }
}

fn verdict(ended: &Ended, checked: &Checked) -> BackupNews {
    if checked.error_count > 0 {
        let first = checked.findings.iter().find(|finding| finding.error);
        let why = first.map_or_else(|| "it does not say what".to_owned(), |it| brief(&it.what));
        return BackupNews::Failed(BackupFailed {
            during: Chore::Verify,
            errors: checked.error_count,
            why,
            console: Vec::new(),
        });
    }
    BackupNews::Verified(BackupVerified {
        snapshots: checked.snapshots,
        read: checked.read,
        notices: ended.notices.iter().map(notice).collect(),
        elapsed_ms: ended.elapsed_ms,
    })
}

/// Longest reason that an event keeps, bytes.
const WHY_MAX: usize = 400;

/// What the library says in many lines, without its advice to its own users.
pub(super) fn brief(what: &str) -> String {
    let lines = what.lines().map(str::trim);
    let lines = lines.take_while(|line| !line.starts_with("For more information"));
    let words: Vec<&str> = lines.filter(|line| !line.is_empty() && *line != "Message:").collect();
    let mut brief = words.join(" ");
    brief.truncate(brief.floor_char_boundary(WHY_MAX));
    brief
}

/// Whether somebody else removed something.
pub(super) fn is_foreign(notice: &Notice) -> bool {
    matches!(notice, Notice::ForeignPrune { .. } | Notice::ForeignForget { .. })
}

/// Something noticed beside a job, in a sentence.
pub(super) fn notice(notice: &Notice) -> String {
    match notice {
        Notice::ForeignPrune { indexes } => format!(
            "somebody else pruned the repository ({indexes} index files are gone): only trueup may, \
             while it writes to it"
        ),
        Notice::ForeignForget { snapshots } => {
            format!("somebody else removed {} snapshot(s)", snapshots.len())
        }
        Notice::StaleLock { holder } => {
            format!("a lock of {}, process {}, which is dead, was removed", holder.host, holder.pid)
        }
        Notice::Unnoted { why } => format!(
            "what the repository holds could not be noted ({why}): the next job may take what this \
             one removed for removed by somebody else"
        ),
        Notice::Unlocked { why } => format!("the repository takes no lock: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_says_is_cut_to_what_happened() {
        let what = "error checking pack 99acf70f : it\n\nMessage:\nMAC check failed.\n\nFor more \
                    information, see: x\n\nBacktrace:\n   0: y";
        assert_eq!(brief(what), "error checking pack 99acf70f : it MAC check failed.");
        assert_eq!(brief(&"ä".repeat(WHY_MAX)).len(), WHY_MAX);
    }
}
