//! Backups behind `port::Provider`.
//!
//! A look says whether a repository is there, and opens none: what is in it is known from the log. Of
//! one that is not a folder of this host it says what the log does, unless it did not answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;

use super::BackupProvider;
use super::job::Job;
use super::{act, hooks, ready};
use crate::model::resource::{Backup, BackupSource};
use crate::model::{Fault, Kind, Observation, Observed, Ownership, Resource, ResourceId};
use crate::plan::{Action, Step};
use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope, misdirected};
use crate::provider::files::blocking;
use crate::spec::saved_by;

/// The file that makes a folder a repository (restic's design, "Repository Layout").
const MARK: &str = "config";

fn look(scope: &Scope) -> Observed {
    let mut observed = Observed::default();
    for (id, wish) in &scope.desired.resources {
        let Resource::Backup(backup) = &wish.resource else { continue };
        if backup.remote.is_some() {
            if scope.claims.get(id).is_some_and(|claim| is_beside(claim, backup)) {
                observed.resources.insert(id.clone(), seen(scope, id, backup));
            }
            continue;
        }
        match std::fs::metadata(Path::new(&backup.repository).join(MARK)) {
            Ok(_) => {
                observed.resources.insert(id.clone(), seen(scope, id, backup));
            }
            Err(error) if is_absence(&error) => {}
            Err(error) => {
                let why = format!("{} cannot be looked at: {error}", backup.repository);
                observed.unreadable.insert(id.clone(), why);
            }
        }
    }
    observed
}

/// The disks that `backup` saves, asked for or only ours.
fn saved(scope: &Scope, backup: &Backup) -> Vec<ResourceId> {
    let wished = scope.desired.resources.iter().map(|(id, wish)| (id, &wish.resource));
    let claimed = scope.claims.iter().filter(|(id, _)| !scope.desired.resources.contains_key(*id));
    saved_by(backup, wished.chain(claimed)).into_iter().collect()
}

fn is_absence(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

/// Whether what is claimed is in the same repository.
fn is_beside(claim: &Resource, backup: &Backup) -> bool {
    matches!(claim, Resource::Backup(it) if it.repository == backup.repository)
}

/// Whether another backup of ours is in the same repository.
fn is_shared(scope: &Scope, id: &ResourceId, backup: &Backup) -> bool {
    let mut others = scope.claims.iter().filter(|(other, _)| *other != id);
    others.any(|(_, claim)| is_beside(claim, backup))
}

fn seen(scope: &Scope, id: &ResourceId, backup: &Backup) -> Observation {
    // A repository that another backup of ours made is ours too.
    let ownership = match is_shared(scope, id, backup) {
        true => Ownership::Ours { environment: scope.desired.environment.clone() },
        false => Ownership::Unmarked,
    };
    Observation {
        ownership,
        config: Resource::Backup(Box::new(backup.clone())),
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    }
}

/// Whether a repository that is there may be taken although the log does not know it: the commit says
/// so, or another backup of ours is in it.
fn may_take(scope: &Scope, id: &ResourceId, backup: &Backup) -> bool {
    let adopts = scope.desired.resources.get(id).is_some_and(|wish| wish.lifecycle.adopt);
    adopts || is_shared(scope, id, backup) || backup.repository_id.is_some()
}

/// Whether what is left to be run after a snapshot is run before the next one, which is due at once:
/// the commit still has something run after it.
fn runs_hooks(scope: &Scope, id: &ResourceId) -> bool {
    let wish = scope.desired.resources.get(id).map(|wish| &wish.resource);
    matches!(wish, Some(Resource::Backup(backup)) if !backup.hooks.after.is_empty())
}

impl BackupProvider {
    /// What interrupted backups left in guests, and what those have there that are none of guests
    /// any more; and what those that are gone from the commit left to be run.
    async fn leftovers(&self, scope: &Scope) -> Result<BTreeMap<ResourceId, Vec<String>>, Fault> {
        let mut found: BTreeMap<ResourceId, Vec<String>> = BTreeMap::new();
        for name in hooks::left(self).await? {
            let id = ResourceId::new(Kind::Backup, name);
            if !runs_hooks(scope, &id) {
                found.entry(id).or_default();
            }
        }
        let Ok(guests) = self.guests() else { return Ok(found) };
        for left in guests.left().await? {
            let id = ResourceId::new(Kind::Backup, left.backup);
            let wish = scope.desired.resources.get(&id).map(|wish| &wish.resource);
            let guest = match wish {
                Some(Resource::Backup(it)) => match &it.source {
                    BackupSource::Guest(guest) => Some(guest),
                    _ => None,
                },
                _ => None,
            };
            // An agent that does not answer keeps nothing from a backup that does not ask it: each run
            // asks it again by itself.
            let waits = left.only_frozen && guest.is_some_and(|guest| !guest.quiesce);
            if (left.unfinished && !waits) || guest.is_none() {
                found.entry(id).or_default().push(left.guest);
            }
        }
        Ok(found)
    }

    /// Clears up what an interrupted backup left in guests, and runs what one that is gone left to be
    /// run: once, whatever comes of it.
    async fn clear(&self, id: &ResourceId, wholly: bool, scope: &Scope) -> Result<Outcome, Fault> {
        let cleared = match &self.guests {
            Some(guests) => guests.clear(&id.name, wholly).await?,
            None => false,
        };
        let mut outcome = Outcome { already: !cleared, ..Outcome::default() };
        if runs_hooks(scope, id) {
            return Ok(outcome);
        }
        if let Some(wrong) = hooks::pay_off(self, id).await? {
            outcome.already = false;
            let said = match wrong.is_empty() {
                true => "what had to be run after its last snapshot was run".to_owned(),
                false => wrong.join("; "),
            };
            tracing::info!(%id, %said, "a snapshot was interrupted, and nothing takes it anew");
            outcome.facts.insert("hooks".to_owned(), said);
        }
        Ok(outcome)
    }

    /// The backups whose repositories did not answer and still do not, and why.
    async fn silent(&self, scope: &Scope) -> Vec<(ResourceId, String)> {
        let mut asked = JoinSet::new();
        for (id, wish) in &scope.desired.resources {
            let Resource::Backup(backup) = &wish.resource else { continue };
            let Some(remote) = backup.remote.clone() else { continue };
            let (reach, id, location) = (self.reach.clone(), id.clone(), backup.repository.clone());
            asked.spawn(async move {
                let why = reach.still_silent(&location, &remote).await?;
                Some((id, why))
            });
        }
        asked.join_all().await.into_iter().flatten().collect()
    }
}

impl Provider for BackupProvider {
    fn name(&self) -> &'static str {
        "backup"
    }

    fn kinds(&self) -> &[Kind] {
        &[Kind::Backup]
    }

    fn observe<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
        let looked = {
            let scope = scope.clone();
            blocking("look at repositories", move || {
                ready::tidy(&scope.claims, &scope.awaited);
                Ok(look(&scope))
            })
        };
        Box::pin(async move {
            self.sweep().await;
            let mut observed = looked.await?;
            for (id, why) in self.silent(scope).await {
                observed.resources.remove(&id);
                observed.unreadable.insert(id, why);
            }
            observed.leftovers = self.leftovers(scope).await?;
            Ok(observed)
        })
    }

    fn settled(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.closing.wait())
    }

    fn perform<'a>(
        &'a self,
        step: &'a Step,
        scope: &'a Scope,
        progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>> {
        Box::pin(async move {
            let job = |backup: &'a Backup, repository: &'a Option<String>| Job {
                provider: self,
                id: &step.resource,
                backup,
                expected: repository.as_deref(),
                limit: Some(Duration::from_secs(backup.limits.time_s.unwrap_or(Backup::TIME_S))),
                progress: &progress,
            };
            match &step.action {
                Action::BackupOpen { backup } => {
                    job(backup, &None).open(may_take(scope, &step.resource, backup)).await
                }
                Action::BackupRun { backup, repository, due: _, before } => {
                    let taken = job(backup, repository).back_up(scope, saved(scope, backup)).await;
                    taken.map(|outcome| act::before(outcome, before.as_ref()))
                }
                Action::BackupClear { wholly, .. } => {
                    self.clear(&step.resource, *wholly, scope).await
                }
                Action::BackupVerify {
                    backup,
                    repository,
                    part,
                    snapshot,
                    good,
                    foreign: _,
                    due: _,
                } => {
                    let there = [snapshot, good].into_iter().flatten().map(String::as_str);
                    job(backup, repository).verify(*part, &there.collect::<Vec<_>>()).await
                }
                Action::BackupDrill { backup, repository, snapshot, due: _ } => {
                    job(backup, repository).drill(snapshot, scope).await
                }
                Action::BackupForget { backup, repository, pinned, released, due: _ } => {
                    job(backup, repository).tidy(pinned, released).await
                }
                _ => Err(misdirected(self.name(), step)),
            }
        })
    }
}
