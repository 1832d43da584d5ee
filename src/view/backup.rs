//! Backups: what is saved of what, how old it is, whether it was checked, and what is promised.
//!
//! Everything is what the log says; nothing is asked of a repository.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trueup_backup::objective::{self, Health, Standing};
use trueup_backup::schedule;

use super::describe::{after, short};
use super::status::{Status, row_of};
use crate::event::body::{BackupDrilled, BackupTaken, Restored};
use crate::model::resource::{Backup, BackupSource, Chore};
use crate::model::{Resource, ResourceId, listed};
use crate::plan::{SkipReason, render};
use crate::state::{BackupState, LastSnapshot, Pinned, ResourceState, State};

/// Every backup that is asked for or was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backups {
    /// The last event this is from.
    pub seq: u64,
    /// The time at which it is looked at.
    pub at: Timestamp,
    /// In the order of their names.
    pub backups: Vec<BackupRow>,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupRow {
    /// Which.
    pub resource: ResourceId,
    /// What it is in, as any resource.
    pub status: Option<Status>,
    /// What is saved, in a few words; `None`: the log does not say yet.
    pub source: Option<String>,
    /// Where to.
    pub repository: Option<String>,
    /// The repository's own id.
    pub repository_id: Option<String>,
    /// How healthy it is.
    pub health: Health,
    /// Why its repository is not to be had: it is gone, or it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
    /// Whether a disruptive step may rely on it: its repository is there and not damaged, a check or a
    /// drill found a complete snapshot right, and the last one is within its RPO.
    pub relied_on: bool,
    /// What is not as it should be, in sentences.
    pub trouble: Vec<String>,
    /// The newest snapshot.
    pub last: Option<LastSnapshot>,
    /// How many bytes more the newest snapshot has than the one before it.
    pub growth: Option<i64>,
    /// When the last complete snapshot was begun.
    pub last_good: Option<Timestamp>,
    /// When a check last found nothing wrong.
    pub last_verified: Option<Timestamp>,
    /// When a drill last brought everything back.
    pub last_drilled: Option<Timestamp>,
    /// How long that took, seconds; with the boot, where it was booted.
    pub measured_rto_s: Option<u64>,
    /// How much of that the restore took, seconds.
    #[serde(default)]
    pub measured_restore_s: Option<u64>,
    /// How much of that the boot took, seconds; `None`: nothing was booted.
    #[serde(default)]
    pub measured_boot_s: Option<u64>,
    /// Most it may take, seconds.
    pub rto_s: Option<u64>,
    /// Work that would be lost at that time, seconds.
    pub rpo_now_s: Option<u64>,
    /// Most that may be lost, seconds.
    pub rpo_s: Option<u64>,
    /// Snapshots that are the ways back from changes: retention does not remove them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways_back: Vec<Pinned>,
    /// When the next snapshot is due, at the latest its jitter later.
    pub next_run: Option<Timestamp>,
    /// When the next drill is due, at the latest its jitter later.
    pub next_drill: Option<Timestamp>,
}

/// Why a repository is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "why", rename_all = "camelCase")]
pub enum Lost {
    /// It was there, and is not where it was.
    Gone(String),
    /// It does not answer, or cannot be looked at.
    OutOfReach(String),
}

impl Lost {
    /// As a pass last saw it; of one that nobody asks for any more nobody looks.
    fn of(known: &ResourceState, asked: Option<&Backup>) -> Option<Self> {
        known.wish?;
        if let Some(why) = &known.unobservable {
            return Some(Self::OutOfReach(why.clone()));
        }
        // A broken promise is a drift too, and says nothing against the repository.
        let gone = render::repository_gone(&asked?.repository);
        let told = render::skip_reason(&SkipReason::Unprotected(gone.clone()));
        known.drift.as_ref().is_some_and(|drift| drift.what == told).then_some(Self::Gone(gone))
    }

    /// Why, in a sentence.
    #[must_use]
    pub fn why(&self) -> &str {
        let (Self::Gone(why) | Self::OutOfReach(why)) = self;
        why
    }
}

/// Backups as `state` has them, looked at at `now`.
#[must_use]
pub fn backups(state: &State, now: Timestamp) -> Backups {
    let rows = state.resources.iter().filter_map(|(id, known)| {
        let asked = match known.claim.as_ref().and_then(|claim| claim.resource.as_ref()) {
            Some(Resource::Backup(backup)) => Some(&**backup),
            _ => None,
        };
        let is = asked.is_some() || id.kind == crate::model::Kind::Backup;
        is.then(|| row(state, id, asked, now))
    });
    Backups { seq: state.seq, at: now, backups: rows.collect() }
}

fn row(state: &State, id: &ResourceId, asked: Option<&Backup>, now: Timestamp) -> BackupRow {
    let of = &state.backup(id);
    let promised = asked.map(|backup| backup.objectives).unwrap_or_default();
    let Standing { health, rpo_now_s, relied_on, reasons, .. } =
        objective::standing(&of.facts, &promised, now);
    let lost = state.resources.get(id).and_then(|known| Lost::of(known, asked));
    let growth = |last: &LastSnapshot| {
        let before = i64::try_from(of.bytes_before?).ok()?;
        Some(i64::try_from(last.bytes).ok()? - before)
    };
    let noticed = of.noticed.as_ref().map(|it| {
        let at = it.at.strftime("%Y-%m-%d %H:%M:%S UTC");
        let soon = if of.recheck { "; a check of it comes next" } else { "" };
        format!("noticed {at}: {}{soon}", it.what.join("; "))
    });
    let incomplete = of.last.as_ref().map_or(0, |last| last.missing);
    let trouble = reasons.iter().filter(|reason| tells(**reason, asked, of)).map(|reason| {
        match (reason, &of.damage) {
            (objective::Reason::CheckFailed, Some(damage)) => {
                format!("{}: {damage}", render::backup_trouble(*reason))
            }
            (objective::Reason::DrillFailed, _) => match &of.drill_damage {
                Some(damage) => format!("{}: {damage}", render::backup_trouble(*reason)),
                None => render::backup_trouble(*reason).to_owned(),
            },
            (objective::Reason::TryFailed, _) if incomplete > 0 => format!(
                "{incomplete} thing(s) are missing from the newest snapshot: `trueup log --type \
                 backup.taken` names the first"
            ),
            (reason, _) => render::backup_trouble(*reason).to_owned(),
        }
    });
    BackupRow {
        resource: id.clone(),
        status: row_of(state, id).map(|row| row.status),
        source: asked.map(source),
        repository: asked.map(|backup| backup.repository.clone()),
        repository_id: of.repository.clone(),
        health,
        // As a rule sees it.
        relied_on: relied_on && of.proved.is_some() && lost.is_none(),
        trouble: lost
            .iter()
            .map(|lost| lost.why().to_owned())
            .chain(trouble)
            .chain(of.hooks.iter().cloned())
            .chain(noticed)
            .collect(),
        lost,
        growth: of.last.as_ref().and_then(growth),
        last: of.last.clone(),
        last_good: of.facts.last_good,
        last_verified: of.facts.verified,
        last_drilled: of.facts.drilled,
        measured_rto_s: of.facts.measured_rto_s,
        measured_restore_s: of.came_back.map(|took| took.restore_ms.div_ceil(1000)),
        measured_boot_s: of.came_back.and_then(|took| Some(took.boot_ms?.div_ceil(1000))),
        rto_s: promised.rto_s,
        rpo_now_s,
        rpo_s: promised.rpo_s,
        ways_back: of.ways_back().cloned().collect(),
        next_run: next(asked, Chore::Run, of.run_at, now),
        next_drill: next(asked, Chore::Drill, of.drilled_at, now).filter(|_| of.good.is_some()),
    }
}

/// When `chore` is due next by its schedule.
fn next(
    asked: Option<&Backup>,
    chore: Chore,
    last: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let schedule = asked?.schedule_of(chore)?;
    // Jitter is the planner's: what people are told is the time of the schedule.
    let schedule = schedule::Schedule { jitter_s: 0, ..schedule };
    schedule::next_run(last, now, &schedule, 0).ok()
}

/// Whether a reason is worth a sentence: where nobody asks for drills, that there was none is none.
fn tells(reason: objective::Reason, asked: Option<&Backup>, of: &BackupState) -> bool {
    let promised = asked.map(|backup| backup.objectives).unwrap_or_default();
    match reason {
        objective::Reason::NotDrilled => {
            let wanted = asked.is_some_and(|backup| backup.drill.is_some());
            (wanted || promised.drill_s.is_some()) && of.good.is_some()
        }
        // Of what was never taken, that alone is said.
        objective::Reason::NotChecked => of.last.is_some(),
        _ => true,
    }
}

/// What is saved, in a few words.
#[must_use]
pub fn source(backup: &Backup) -> String {
    match &backup.source {
        BackupSource::Paths(paths) => match &paths.paths[..] {
            [only] => only.clone(),
            [first, rest @ ..] => format!("{first} and {} more", rest.len()),
            [] => String::new(),
        },
        BackupSource::Command(command) => {
            let program = command.argv.first().map(String::as_str).unwrap_or_default();
            let name = program.rsplit('/').next().unwrap_or(program);
            format!("output of {name}")
        }
        BackupSource::State => "trueup's state".to_owned(),
        BackupSource::Postgresql(cluster) => format!("PostgreSQL on port {}", cluster.port),
        BackupSource::Guest(guest) => guest.part.id().to_string(),
        BackupSource::Definition(definition) => format!("definition of {}", definition.of),
    }
}

pub(super) fn taken(taken: &BackupTaken) -> String {
    let size =
        format!("{} in {} file(s), {} added", bytes(taken.bytes), taken.files, bytes(taken.added));
    let missing = match (taken.missing, &taken.first_missing) {
        (0, _) => String::new(),
        (count, Some(first)) => {
            format!("; {count} thing(s) are missing from it, the first: {first}")
        }
        (count, None) => format!("; {count} thing(s) are missing from it"),
    };
    let notices = noticed(&taken.notices) + &noticed(&taken.hooks);
    let way_back = match &taken.before {
        Some(before) if taken.missing == 0 => format!(", the way back for {}", listed(&before.of)),
        _ => String::new(),
    };
    let (id, after) = (short(&taken.snapshot), after(taken.elapsed_ms));
    let read = taken.read.map(|read| format!(", {} read", bytes(read))).unwrap_or_default();
    format!("snapshot {id}{way_back}: {size}{read}, {after}{missing}{notices}")
}

pub(super) fn drilled(drilled: &BackupDrilled) -> String {
    let also = drilled.proved.iter().chain(&drilled.notices);
    let also: String = also.map(|it| format!("; {it}")).collect();
    let booted = drilled.boot.as_ref().map(|boot| {
        let commands = match boot.commands {
            0 => String::new(),
            count => format!(", {count} command(s) in it succeeded"),
        };
        format!("; booted, it was up {} ({}){commands}", after(boot.elapsed_ms), boot.ready)
    });
    let also = booted.unwrap_or_default() + &also;
    format!(
        "snapshot {} came back {} and is what it was: {} in {} file(s){also}",
        short(&drilled.snapshot),
        after(drilled.elapsed_ms),
        bytes(drilled.bytes),
        drilled.files
    )
}

pub(super) fn restored(restored: &Restored) -> String {
    format!(
        "its data is back: {} of {}, snapshot {}, begun {}, {}",
        bytes(restored.bytes),
        restored.backup,
        short(&restored.snapshot),
        restored.taken.strftime("%Y-%m-%d %H:%M:%S UTC"),
        after(restored.elapsed_ms)
    )
}

/// What a guest that did not come up said last.
pub(super) fn last_words(console: &[String]) -> String {
    match console {
        [] => String::new(),
        lines => format!("; the guest said last: {}", lines.join(" | ")),
    }
}

/// What was noticed beside a job, after what it did.
pub(super) fn noticed(notices: &[String]) -> String {
    notices.iter().map(|notice| format!("; {notice}")).collect()
}

/// A size, about: `1.5 GiB`.
#[must_use]
pub fn bytes(number: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| number >= *unit) {
        None => format!("{number} B"),
        Some((name, unit)) => {
            let tenths = u128::from(number) * 10 / u128::from(*unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
    }
}

/// A span of time, about: `2d 3h`, `5m`, `40s`.
#[must_use]
pub fn span(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    let two = |a: u64, a_unit: &str, b: u64, b_unit: &str| match b {
        0 => format!("{a}{a_unit}"),
        b => format!("{a}{a_unit} {b}{b_unit}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, minutes) => two(minutes, "m", rest, "s"),
        (0, hours, minutes) => two(hours, "h", minutes, "m"),
        (days, hours, _) => two(days, "d", hours, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Drift;

    #[test]
    fn a_repository_is_lost_where_it_is_gone_or_silent_and_not_where_a_promise_is_broken() {
        let backup =
            Backup { repository: "/srv/vault".into(), ..Backup::plain(BackupSource::State) };
        let drifted = |why: String| {
            let what = render::skip_reason(&SkipReason::Unprotected(why)).into_owned();
            let at = Timestamp::UNIX_EPOCH;
            let drift = Drift { since: at, what, changes: Vec::new(), more: None };
            let wish = Some(crate::model::digest_of(&backup));
            ResourceState { drift: Some(drift), wish, ..ResourceState::default() }
        };
        let gone = drifted(render::repository_gone("/srv/vault"));
        assert!(matches!(Lost::of(&gone, Some(&backup)), Some(Lost::Gone(_))));
        let late = drifted(render::backup_trouble(objective::Reason::TooOld).to_owned());
        assert_eq!(Lost::of(&late, Some(&backup)), None);
        let unobservable = Some("no route".to_owned());
        let silent = ResourceState { unobservable, drift: None, ..late };
        let lost = Lost::of(&silent, Some(&backup));
        assert_eq!(lost.as_ref().map(Lost::why), Some("no route"));
        let unasked = ResourceState { wish: None, ..silent };
        assert_eq!(Lost::of(&unasked, Some(&backup)), None);
    }

    #[test]
    fn sizes_and_spans_are_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16777215.9 TiB");
        for (seconds, text) in
            [(0, "0s"), (61, "1m 1s"), (3600, "1h"), (5400, "1h 30m"), (183_600, "2d 3h")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
