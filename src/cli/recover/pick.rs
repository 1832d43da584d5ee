//! Which backup the data of a lost disk comes from.
//!
//! Pure. The newest data is taken, and an older one only where somebody names it: what keeps the newest
//! from coming back may be mended. Of a machine all lost disks of one moment go before newer ones of
//! single disks, as long as they are not older by more than the backup promises.

use jiff::Timestamp;

use super::super::time::shown;
use crate::model::resource::Backup;
use crate::model::{Fault, ResourceId};
use crate::provider::backup::{DisksFound, Which};

/// How much older a machine's snapshot may be, seconds, where its backup promises no RPO: what the rule
/// `trueup.backups` takes for one then.
const RPO_S: u64 = 86_400;

/// A backup that may have data of lost disks, and what of it was found there.
pub(super) struct Looked {
    pub(super) of: ResourceId,
    pub(super) backup: Backup,
    /// The id of its repository, where the log knows it.
    pub(super) repository: Option<String>,
    /// When its newest complete snapshot was begun, by the log.
    pub(super) good: Option<Timestamp>,
    pub(super) found: Result<Option<DisksFound>, Fault>,
}

impl Looked {
    pub(super) fn which(&self) -> Which<'_> {
        let repository = self.repository.as_deref();
        Which { id: &self.of, backup: &self.backup, repository }
    }

    /// How good its data of `disk` is; the best comes last. Of a machine with several lost disks all of
    /// one moment come first: disks of different moments may not fit each other.
    fn rank(&self, disk: &ResourceId) -> Option<(bool, Option<Timestamp>)> {
        match &self.found {
            Ok(Some(found)) => {
                let together = self.backup.is_of_machine() && found.disks.len() > 1;
                found.disks.contains_key(disk).then_some((together, Some(found.taken)))
            }
            Ok(None) => None,
            Err(_) => Some((false, self.good)),
        }
    }
}

/// Where the data of a disk comes from.
pub(super) enum Pick<'l> {
    /// No backup has it.
    Nobody,
    /// This one has the best, or may have.
    One(&'l Looked),
    /// Somebody has to choose; why.
    Either {
        /// What is newer, and of this disk alone.
        newer: &'l Looked,
        /// What there is to choose from, and how.
        why: String,
    },
}

/// The best of those that have, or may have, the data of `disk`.
pub(super) fn pick<'l>(
    all: &'l [Looked],
    disk: &ResourceId,
    may: impl Fn(&ResourceId) -> bool,
) -> Pick<'l> {
    let candidates = all.iter().filter(|it| it.found.is_ok() || may(&it.of));
    let ranked: Vec<_> = candidates.filter_map(|it| Some((it.rank(disk)?, it))).collect();
    let best = ranked.iter().max_by(|(a, _), (b, _)| a.cmp(b)).copied();
    let Some(((together, taken), best)) = best else { return Pick::Nobody };
    let alone = ranked.iter().filter(|((together, _), _)| !together);
    let newest = alone.max_by(|((_, a), _), ((_, b), _)| a.cmp(b));
    let (Some(taken), Some(((_, Some(newer_at)), newer)), true) = (taken, newest, together) else {
        return Pick::One(best);
    };
    let bound = best.backup.objectives.rpo_s.unwrap_or(RPO_S);
    let lost = newer_at.duration_since(taken).as_secs();
    if u64::try_from(lost).unwrap_or_default() <= bound {
        return Pick::One(best);
    }
    let why = format!(
        "{} has all lost disks of its machine, of {}, and {} has this one alone, of {}: say which one, \
         `trueup recover disks {disk} --backup {}` or `--backup {}`",
        best.of,
        shown(taken),
        newer.of,
        shown(*newer_at),
        best.of.name,
        newer.of.name
    );
    Pick::Either { newer, why }
}

/// Who else has the data of `disk`, though an older one.
pub(super) fn others(all: &[Looked], disk: &ResourceId) -> String {
    let others = all.iter().filter_map(|it| {
        let found = it.found.as_ref().ok()?.as_ref()?;
        found.disks.contains_key(disk).then(|| {
            format!(
                "; {} has it of {}: `trueup recover disks {disk} --backup {}` takes that",
                it.of,
                shown(found.taken),
                it.of.name
            )
        })
    });
    others.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resource::{BackupGuest, BackupPaths, BackupSource, GuestPart};
    use crate::model::{Kind, Name};
    use crate::provider::backup::DiskFile;

    fn looked(name: &str, machine: bool, found: Result<(i64, &[&str]), i64>) -> Looked {
        let at = |second| Timestamp::from_second(second).unwrap();
        let guest = |part| BackupSource::Guest(BackupGuest { part, quiesce: false, read_all_s: 1 });
        let source = match machine {
            true => guest(GuestPart::Machine { name: Name::new("web").unwrap() }),
            false => BackupSource::Paths(BackupPaths {
                paths: vec!["/pool".into()],
                exclude: Vec::new(),
                one_file_system: false,
            }),
        };
        let (good, found) = match found {
            Err(good) => (Some(at(good)), Err(Fault::permanent("the key is wrong"))),
            Ok((taken, disks)) => {
                let file = |id: &&str| (id.parse().unwrap(), DiskFile::Content("x".into()));
                let disks = disks.iter().map(file).collect();
                let taken = at(taken);
                (None, Ok(Some(DisksFound { snapshot: "a".repeat(64), taken, disks })))
            }
        };
        Looked {
            of: ResourceId::new(Kind::Backup, Name::new(name).unwrap()),
            backup: Backup::plain(source),
            repository: None,
            good,
            found,
        }
    }

    #[test]
    fn the_newest_is_taken_and_all_of_a_machine_before_a_single_one() {
        let a: ResourceId = "disk/a".parse().unwrap();
        let rank = |all: &[Looked]| {
            let ranked = all.iter().filter_map(|it| Some((it.rank(&a)?, it.of.name.to_string())));
            ranked.max().map(|(_, name)| name)
        };
        let (both, other): (&[&str], &[&str]) = (&["disk/a", "disk/b"], &["disk/b"]);
        let only: &[&str] = &["disk/a"];
        let old = || looked("old", false, Ok((1, both)));
        let new = || looked("new", false, Ok((9, only)));
        assert_eq!(rank(&[old(), new()]).as_deref(), Some("new"));
        assert_eq!(rank(&[new(), looked("vm", true, Ok((5, both)))]).as_deref(), Some("vm"));
        let single = looked("vm", true, Ok((5, only)));
        assert_eq!(rank(&[new(), single]).as_deref(), Some("new"));
        assert_eq!(rank(&[looked("other", false, Ok((9, other)))]), None);
        // An older one is no substitute for what only cannot be read now.
        assert_eq!(rank(&[old(), looked("shut", false, Err(7))]).as_deref(), Some("shut"));
        assert_eq!(rank(&[new(), looked("shut", false, Err(7))]).as_deref(), Some("new"));
    }

    #[test]
    fn what_is_newer_than_a_machines_snapshot_by_more_than_it_promises_is_asked_about() {
        let a: ResourceId = "disk/a".parse().unwrap();
        let both: &[&str] = &["disk/a", "disk/b"];
        let machine = |rpo_s| {
            let mut machine = looked("vm", true, Ok((100, both)));
            machine.backup.objectives.rpo_s = rpo_s;
            machine
        };
        let picked = |all: &[Looked]| match pick(all, &a, |_| true) {
            Pick::Nobody => "nobody".to_owned(),
            Pick::One(one) => one.of.name.to_string(),
            Pick::Either { newer, why } => format!("{}: {why}", newer.of.name),
        };
        let alone = |at| looked("db", false, Ok((at, &["disk/a"])));
        assert_eq!(picked(&[]), "nobody");
        assert_eq!(picked(&[machine(None), alone(50)]), "vm");
        assert_eq!(picked(&[machine(None), alone(100 + 86_400)]), "vm");
        assert_eq!(picked(&[machine(Some(60)), alone(160)]), "vm");
        for (rpo_s, at) in [(None, 101 + 86_400), (Some(60), 161)] {
            let why = picked(&[machine(rpo_s), alone(at), alone(120)]);
            assert!(why.starts_with("db: backup/vm has all lost disks"), "{why}");
            let choices = "`trueup recover disks disk/a --backup vm` or `--backup db`";
            assert!(why.contains(choices), "{why}");
        }
        // Newer data that only cannot be read now is newer data.
        let shut = looked("shut", false, Err(200));
        assert!(picked(&[machine(Some(60)), shut]).starts_with("shut: "));
    }
}
