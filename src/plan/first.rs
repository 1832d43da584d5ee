//! What is saved first: a snapshot by a backup before the first step that interrupts or destroys what
//! its spec says is saved before that, as steps of the same plan.
//!
//! Such a snapshot waits for nothing but its repository, and what it is taken for waits for it. Where
//! it cannot be taken, what it would be for falls.

use std::collections::{BTreeMap, BTreeSet};

use super::kind::Draft;
use super::work::{At, Bond, Work};
use super::{Action, Disruption, Reason, SkipReason, render};
use crate::model::backup::Before;
use crate::model::resource::{Backup, WayBack};
use crate::model::{Kind, Resource, ResourceId};

/// A block that waits for a snapshot, and how it goes about it.
struct Target {
    block: usize,
    /// The step that waits.
    step: usize,
    /// How long the way back is kept, seconds.
    keep_s: u64,
}

/// Adds the snapshots that are taken first.
pub(super) fn all(work: &mut Work<'_>) {
    let mut wanted: BTreeMap<ResourceId, Vec<Target>> = BTreeMap::new();
    for at in 0..work.blocks.len() {
        if let Some((backup, target)) = target(work, at) {
            wanted.entry(backup).or_default().push(target);
        }
    }
    for (id, targets) in wanted {
        match backup_of(work, &id) {
            Ok(backup) => add(work, &id, backup, &targets),
            Err(why) => {
                for target in targets {
                    work.refuse(target.block, SkipReason::Unsaved(why.clone()));
                }
                // Nothing else may say it: what waits for its next try has not been mended.
                let suspended = work.input.known.suspended.get(&id).cloned();
                if let Some(why) = suspended.filter(|_| !work.by_id.contains_key(&id)) {
                    work.skip(&id, why, Vec::new());
                }
            }
        }
    }
}

/// What block `at` waits for, if its resource is to be saved before it.
fn target(work: &Work<'_>, at: usize) -> Option<(ResourceId, Target)> {
    let block = &work.blocks[at];
    if block.skip.is_some() {
        return None;
    }
    let disturbs = |draft: &Draft| draft.disruption >= Disruption::Restart;
    let first = block.drafts.iter().position(disturbs)?;
    let policy = way_back(work, &block.id)?;
    let backup = ResourceId::new(Kind::Backup, policy.backup.clone()?);
    let step = place(&block.drafts, first);
    Some((backup, Target { block: at, step, keep_s: policy.keep_s }))
}

/// The step of a block that has to wait: the snapshot inside the disks, where there is one, as long as
/// that cannot be taken beside a backup; else the one at `first`.
fn place(drafts: &[Draft], first: usize) -> usize {
    let inside = |draft: &Draft| matches!(draft.action, Action::VmSnapshot { .. });
    drafts[..first].iter().position(inside).unwrap_or(first)
}

/// What is said to be kept of it: by the commit, or of what is gone from it by the log.
fn way_back<'a>(work: &Work<'a>, id: &ResourceId) -> Option<&'a WayBack> {
    let wish = work.input.desired.resources.get(id).map(|wish| &wish.resource);
    match wish.or_else(|| work.facts.claimed(id))? {
        Resource::VirtualMachine(vm) => vm.way_back.as_ref(),
        Resource::Disk(disk) => disk.way_back.as_ref(),
        _ => None,
    }
}

/// The backup that takes the snapshot; or why it cannot be taken now.
fn backup_of<'a>(work: &Work<'a>, id: &ResourceId) -> Result<&'a Backup, String> {
    let input = work.input;
    let Some(Resource::Backup(backup)) = input.desired.resources.get(id).map(|it| &it.resource)
    else {
        return Err(format!(
            "{id} is not asked for any more: take `backupBefore` out in a commit before the one that \
             takes both away"
        ));
    };
    if let Some(why) = input.observed.why_unobservable(id) {
        return Err(format!("{id} is out of reach: {why}"));
    }
    if let Some(why) = input.known.suspended.get(id) {
        return Err(format!("{id} {}", render::skip_reason(why)));
    }
    let main = work.by_id.get(id).map(|&main| &work.blocks[main]);
    let opens = main.is_some_and(|main| main.skip.is_none() && main.drafts.iter().any(opens));
    if let Some(why) = main.and_then(|main| main.skip.as_ref()) {
        return Err(format!("{id}: {}", render::skip_reason(why)));
    }
    if opens || work.facts.ours_now(id) {
        return Ok(backup);
    }
    let why = work.skipped.iter().find(|skipped| skipped.resource == *id);
    let why = why.map_or("its repository is not there".into(), |it| render::skip_reason(&it.why));
    Err(format!("{id}: {why}"))
}

fn opens(draft: &Draft) -> bool {
    matches!(draft.action, Action::BackupOpen { .. })
}

/// One snapshot for all `targets`.
fn add(work: &mut Work<'_>, id: &ResourceId, backup: &Backup, targets: &[Target]) {
    let main = work.by_id.get(id).copied();
    let makes_ready =
        |draft: &Draft| opens(draft) || matches!(draft.action, Action::BackupClear { .. });
    let ready = main.map_or(0, |main| {
        let drafts = &work.blocks[main].drafts;
        drafts.iter().position(|draft| !makes_ready(draft)).unwrap_or(drafts.len())
    });
    let opened = main.is_some_and(|main| work.blocks[main].drafts.iter().any(opens));
    let known = work.facts.backup(id).and_then(|known| known.repository.clone());
    let of: BTreeSet<ResourceId> =
        targets.iter().map(|target| work.blocks[target.block].id.clone()).collect();
    let keep_s = targets.iter().map(|target| target.keep_s).max().unwrap_or(WayBack::KEEP_S);
    let action = Action::BackupRun {
        backup: Box::new(backup.clone()),
        // What is known is of the repository there was until now.
        repository: known.filter(|_| !opened),
        due: None,
        before: Some(Before { of, keep_s }),
    };
    let run = work.add(id, true, vec![Draft::quiet(action, Reason::Needed, Vec::new())], None);
    work.blocks[run].sake = Some(targets.iter().map(|target| target.block).collect());
    // Why it falls is told of the backup's own block, and of what it is for.
    work.blocks[run].told = true;
    if let Some(main) = main.filter(|_| ready > 0) {
        make_ready_first(work, main, ready);
        work.need(run, main, SkipReason::Blocked(id.clone()));
        work.order((main, ready - 1), (run, 0), Bond::Hard);
    }
    for target in targets {
        let why = format!("{id}, which takes a snapshot before, cannot do so now");
        work.need(target.block, run, SkipReason::Unsaved(why));
        work.order((run, 0), (target.block, target.step), Bond::Hard);
        for stop in stopped_for(work, target.block) {
            work.order((run, 0), stop, Bond::Hard);
        }
    }
}

/// The repository is made ready whatever the backup itself waits for: only what is due still does.
fn make_ready_first(work: &mut Work<'_>, main: usize, ready: usize) {
    let due = ready < work.blocks[main].drafts.len();
    work.edges.retain_mut(|edge| {
        if edge.to != (main, 0) {
            return true;
        }
        edge.to = (main, ready);
        due
    });
}

/// Where machines are stopped for the sake of what block `at` destroys: they go on running while it is
/// saved.
fn stopped_for(work: &Work<'_>, at: usize) -> Vec<At> {
    if work.blocks[at].id.kind != Kind::Disk {
        return Vec::new();
    }
    let stops = work.edges.iter().filter(|edge| edge.to.0 == at).filter_map(|edge| {
        let (block, step) = edge.from;
        let drafts = &work.blocks[block].drafts;
        let stop = drafts.get(step).filter(|it| matches!(it.action, Action::VmStop { .. }))?;
        (stop.disruption >= Disruption::Restart).then(|| (block, place(drafts, step)))
    });
    stops.collect()
}
