//! Backups: a repository that is there, and what is due. A repository that is gone is never made anew
//! over its place, and none is ever deleted.

use std::path::Path;

use trueup_backup::objective;

use super::super::{Action, Reason, SkipReason, render};
use super::{Case, Draft, Verdict};
use crate::model::Resource;
use crate::model::resource::{Backup, BackupSource, Chore};
use crate::plan::{Due, KnownBackup};

/// What has to be done for a backup.
pub(in super::super) fn decide(case: &Case<'_, '_>, to: &Backup, from: Option<&Backup>) -> Verdict {
    let mut verdict = Verdict::default();
    if let Some(guests) = case.facts.leftovers(case.id) {
        verdict.step(clears(to, guests));
    }
    let nothing = KnownBackup::default();
    let known = case.facts.backup(case.id).unwrap_or(&nothing);
    if to.remote.is_none()
        && let Some(folder) = case.facts.own_folder_around(&to.repository)
    {
        let why = format!(
            "the repository {} would lie in {folder}, where trueup keeps its own files: put it \
             elsewhere",
            to.repository
        );
        verdict.skip(SkipReason::Conflict(why), Vec::new());
        return verdict;
    }
    let same_place = matches!(
        case.facts.claimed(case.id),
        Some(Resource::Backup(claimed)) if claimed.repository == to.repository
    );
    // A look does not go over the network: of a place elsewhere it is known that it was opened.
    let gone = from.is_none() && to.remote.is_none();
    if gone && same_place && known.repository.is_some() {
        let why = render::repository_gone(&to.repository);
        verdict.skip(SkipReason::Unprotected(why), Vec::new());
        return verdict;
    }
    // Another one of ours, or one that the wish names: what is known of the old one does not count.
    let moved = matches!(
        case.facts.claimed(case.id),
        Some(Resource::Backup(claimed)) if claimed.repository != to.repository
    );
    let other = known.repository.as_deref().is_some_and(|known| to.asks_for_another(known));
    let never = to.remote.is_some() && known.repository.is_none();
    let opens = from.is_none() || case.adopting() || moved || other || never;
    if opens {
        let action = Action::BackupOpen { backup: Box::new(to.clone()) };
        verdict.step(Draft::quiet(action, case.reason, Vec::new()));
    }
    for due in &known.due {
        // What is known is of the repository there was until now.
        let known = if opens { &nothing } else { known };
        if let Some(action) = action(to, known, due) {
            verdict.step(Draft::quiet(action, Reason::Due, Vec::new()));
        }
    }
    if let Some(why) = broken(&known.trouble, &known.due, opens) {
        verdict.skip(why, Vec::new());
    }
    verdict
}

/// Takes away what a backup left behind in guests.
pub(in super::super) fn clears(to: &Backup, guests: &[String]) -> Draft {
    let wholly = !matches!(to.source, BackupSource::Guest(_));
    let action = Action::BackupClear { guests: guests.to_vec(), wholly };
    Draft::quiet(action, Reason::Needed, Vec::new())
}

/// The promises that are not kept, but those that what is due is about to keep. `opens`: the repository
/// is about to be there.
fn broken(trouble: &[objective::Reason], due: &[Due], opens: bool) -> Option<SkipReason> {
    let is_due = |chore| due.iter().any(|due| due.chore == chore);
    let told = |reason: &&objective::Reason| match reason {
        objective::Reason::NeverTaken => !is_due(Chore::Run) && !opens,
        objective::Reason::NotDrilled => !is_due(Chore::Drill),
        _ => true,
    };
    let words: Vec<&str> =
        trouble.iter().filter(told).map(|reason| render::backup_trouble(*reason)).collect();
    (!words.is_empty()).then(|| SkipReason::Unprotected(words.join("; ")))
}

/// The promises that are not kept of a backup whose repository is out of reach: nothing is done, and
/// they are broken all the same.
pub(in super::super) fn broken_meanwhile(known: Option<&KnownBackup>) -> Option<SkipReason> {
    // What is due is not about to be done.
    broken(&known?.trouble, &[], false)
}

fn action(to: &Backup, known: &KnownBackup, due: &Due) -> Option<Action> {
    let backup = Box::new(to.clone());
    let (repository, since) = (known.repository.clone(), due.since);
    Some(match due.chore {
        Chore::Run => Action::BackupRun { backup, repository, due: since, before: None },
        Chore::Verify => {
            let parts = to.verify.as_ref().and_then(|verify| verify.read_parts);
            let part = parts.filter(|of| *of > 0).map(|of| known.checks % of + 1);
            let snapshot = known.newest.clone();
            let good = known.good.clone().filter(|good| Some(good) != snapshot.as_ref());
            let foreign = known.foreign;
            Action::BackupVerify { backup, repository, part, snapshot, good, foreign, due: since }
        }
        Chore::Drill => {
            let snapshot = known.good.clone()?;
            Action::BackupDrill { backup, repository, snapshot, due: since }
        }
        Chore::Forget => {
            let (pinned, released) = (known.pinned.clone(), known.released.clone());
            Action::BackupForget { backup, repository, pinned, released, due: since }
        }
    })
}

/// Whether `path` is `folder` or lies in it.
pub(in super::super) fn lies_in(path: &str, folder: &str) -> bool {
    Path::new(path).starts_with(folder)
}
