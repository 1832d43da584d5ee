//! What was saved before changes, as the ways back from them, and when each may go.
//!
//! It may go once what was changed has been good for as long as was asked: asked for as it is, seen
//! so, and left in peace since. What is not known to be good keeps its way back.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{BackupState, ResourceState, State};
use crate::model::backup::Before;
use crate::model::resource::WayBack;
use crate::model::{Kind, Resource, ResourceId};

/// Ways back remembered of one backup or one virtual machine: changes come one by one, and each that
/// was good lets its own go. Older ones are forgotten, and then nothing keeps them.
pub const WAYS_KEPT_MAX: usize = 64;

/// A snapshot in the disks of a virtual machine, taken before a change of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InsideSnapshot {
    /// What libvirt calls it.
    pub name: String,
    /// When it was taken.
    pub at: Timestamp,
}

/// A snapshot in a repository that was taken before a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pinned {
    /// Its id.
    pub snapshot: String,
    /// The id of its repository: a backup may be given another one, and then its own back.
    pub repository: String,
    /// When it was there.
    pub at: Timestamp,
    /// What it is the way back for.
    pub before: Before,
}

/// A way back that there is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayThere {
    /// A snapshot inside the disks.
    Inside {
        /// What libvirt calls it.
        name: String,
        /// When it was taken.
        at: Timestamp,
    },
    /// A snapshot in the repository of a backup.
    Saved {
        /// The backup.
        backup: ResourceId,
        /// The snapshot's id.
        snapshot: String,
        /// When it was there.
        at: Timestamp,
        /// How long it is kept.
        kept: Kept,
    },
}

/// How long a way back is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// As long as the change is not good.
    UntilGood,
    /// Until then at least, if all stays well.
    AtLeastUntil(Timestamp),
    /// Nothing removes snapshots of its backup.
    ForGood,
}

/// Remembers one more, and of too many forgets the oldest.
pub(super) fn keep<T>(ways: &mut Vec<T>, one: T) {
    if ways.len() == WAYS_KEPT_MAX {
        ways.remove(0);
    }
    ways.push(one);
}

impl ResourceState {
    /// Whether it is seen to be what is asked for, with nothing wrong or under way.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let asked = self.wish.is_some() && self.wish == self.applied.as_ref().map(|it| it.wish);
        let quiet = self.drift.is_none() && self.failure.is_none() && self.in_flight.is_none();
        asked && quiet && self.unobservable.is_none()
    }
}

impl BackupState {
    /// The ways back that are in the repository which it has now.
    pub fn ways_back(&self) -> impl Iterator<Item = &Pinned> {
        self.pinned.iter().filter(|it| Some(&it.repository) == self.repository.as_ref())
    }
}

impl State {
    /// Since when `id` has been good without anything done to it; `None`: it is not. What is gone has
    /// been good since `taken`, when its way back was there. A disk is as good as the machines on it.
    fn good_since(&self, id: &ResourceId, taken: Timestamp) -> Option<Timestamp> {
        let Some(known) = self.resources.get(id) else { return Some(taken) };
        if known.wish.is_none() && !known.is_ours() {
            return Some(taken);
        }
        let own = known.is_good().then_some(known.touched)?;
        let on_it = self.resources.iter().filter(|(other, it)| {
            let claim = it.claim.as_ref();
            id.kind == Kind::Disk
                && other.kind == Kind::VirtualMachine
                && claim.is_some_and(|claim| claim.depends_on.contains(id))
        });
        let mut since = own.unwrap_or(taken).max(taken);
        for (_, machine) in on_it {
            since = since.max(machine.is_good().then_some(machine.touched)?.unwrap_or(taken));
        }
        Some(since)
    }

    /// Until when a way back is kept if all stays well; `None`: what it is for is not good.
    fn kept_until(&self, pinned: &Pinned) -> Option<Timestamp> {
        let since = pinned.before.of.iter().map(|id| self.good_since(id, pinned.at));
        let since = since.collect::<Option<Vec<_>>>()?.into_iter().max().unwrap_or(pinned.at);
        Some(after(since, pinned.before.keep_s))
    }

    /// The snapshots of a backup that stay at `now` whatever its retention says, and those that were
    /// ways back and are not any more. Ways back stay, and so does the newest one that was proved: what
    /// may be destroyed follows from it.
    #[must_use]
    pub fn pinned(&self, backup: &ResourceId, now: Timestamp) -> (Vec<String>, Vec<String>) {
        let of = self.resources.get(backup).and_then(|known| known.backup.as_deref());
        let all = of.into_iter().flat_map(|of| &of.pinned);
        let (over, held): (Vec<_>, Vec<_>) =
            all.partition(|pinned| self.kept_until(pinned).is_some_and(|until| until <= now));
        let ids = |pinned: Vec<&Pinned>| -> Vec<String> {
            pinned.into_iter().map(|it| it.snapshot.clone()).collect()
        };
        let mut held = ids(held);
        let proved = of.and_then(|of| of.proved.as_ref()).map(|proved| &proved.id);
        held.extend(proved.filter(|id| !held.contains(id)).cloned());
        (held, ids(over))
    }

    /// When the snapshots inside the disks of `id`, kept for `keep_s`, may go; `None`: there are none,
    /// or it is not good.
    #[must_use]
    pub fn inside_until(&self, id: &ResourceId, keep_s: u64) -> Option<Timestamp> {
        let newest = self.resources.get(id)?.snapshots.iter().map(|it| it.at).max()?;
        Some(after(self.good_since(id, newest)?, keep_s))
    }

    /// Every way back from what was last done to `id`, the oldest first.
    #[must_use]
    pub fn ways_back(&self, id: &ResourceId) -> Vec<WayThere> {
        let inside = self.resources.get(id).into_iter().flat_map(|known| &known.snapshots);
        let inside = inside.map(|it| WayThere::Inside { name: it.name.clone(), at: it.at });
        let backups = self.resources.iter().filter(|(id, _)| id.kind == Kind::Backup);
        let saved = backups.flat_map(|(backup, known)| {
            let all = known.backup.iter().flat_map(|of| of.ways_back());
            let forgets = known.claim.as_ref().and_then(|claim| claim.resource.as_ref());
            let forgets = matches!(forgets, Some(Resource::Backup(it)) if it.retention.is_some());
            let of = all.filter(move |pinned| pinned.before.of.contains(id));
            of.map(move |pinned| WayThere::Saved {
                backup: backup.clone(),
                snapshot: pinned.snapshot.clone(),
                at: pinned.at,
                kept: match self.kept_until(pinned) {
                    _ if !forgets => Kept::ForGood,
                    None => Kept::UntilGood,
                    Some(until) => Kept::AtLeastUntil(until),
                },
            })
        });
        let mut ways: Vec<_> = inside.chain(saved).collect();
        ways.sort_by_key(|way| match way {
            WayThere::Inside { at, .. } | WayThere::Saved { at, .. } => *at,
        });
        ways
    }
}

/// How long the snapshots inside the disks of a machine are kept.
#[must_use]
pub fn keep_s(way_back: Option<&WayBack>) -> u64 {
    way_back.map_or(WayBack::KEEP_S, |it| it.keep_s)
}

fn after(since: Timestamp, seconds: u64) -> Timestamp {
    let span = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    since.checked_add(span).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Entry, Event, Recorded};
    use crate::model::Digest;
    use crate::model::resource::{Backup, BackupRetention, BackupSource};
    use crate::state::{Applied, GoodSnapshot};
    use trueup_backup::retention::Keep;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn id(text: &str) -> ResourceId {
        text.parse().unwrap()
    }

    /// A good resource that something was last done to at `touched`.
    fn good(touched: i64) -> ResourceState {
        let wish = Digest::of("wish");
        ResourceState {
            wish: Some(wish),
            applied: Some(Applied { wish, commit: None, at: at(1) }),
            touched: Some(at(touched)),
            ..ResourceState::default()
        }
    }

    fn state() -> State {
        let mut state = State::default();
        state.resources.insert(id("vm/web"), good(100));
        let before = Before { of: [id("vm/web")].into(), keep_s: 50 };
        let (snapshot, repository) = ("a".into(), "one".into());
        let pinned = vec![Pinned { snapshot, repository, at: at(90), before }];
        let repository = Some("one".into());
        let backup = BackupState { pinned, repository, ..BackupState::default() };
        let known = ResourceState { backup: Some(Box::new(backup)), ..good(1) };
        state.resources.insert(id("backup/web"), known);
        state
    }

    fn held(state: &State, now: i64) -> bool {
        let (held, over) = state.pinned(&id("backup/web"), at(now));
        assert_eq!(held.len() + over.len(), 1);
        !held.is_empty()
    }

    #[test]
    fn a_way_back_goes_once_the_change_was_good_for_the_time() {
        let mut state = state();
        assert!(held(&state, 149) && !held(&state, 150));
        let web = state.resources.get_mut(&id("vm/web")).unwrap();
        web.wish = Some(Digest::of("another"));
        assert!(held(&state, 9999), "what is not as it should be keeps its way back");
        state.resources.remove(&id("vm/web"));
        assert!(held(&state, 139) && !held(&state, 140), "what is gone is so since then");
    }

    #[test]
    fn a_disk_is_as_good_as_the_machines_on_it() {
        let mut state = state();
        state.resources.insert(id("disk/web"), good(20));
        let pinned = &mut state.resources.get_mut(&id("backup/web")).unwrap().backup;
        pinned.as_mut().unwrap().pinned[0].before.of = [id("disk/web")].into();
        assert!(held(&state, 139) && !held(&state, 140));
        let web = state.resources.get_mut(&id("vm/web")).unwrap();
        web.claim = Some(crate::event::body::Claim {
            resource: None,
            prevent_destroy: false,
            orphan: false,
            depends_on: [id("disk/web")].into(),
        });
        assert!(held(&state, 149) && !held(&state, 150), "it was last touched at 100");
        state.resources.get_mut(&id("vm/web")).unwrap().wish = None;
        assert!(held(&state, 9999));
    }

    #[test]
    fn a_way_back_goes_with_the_name_of_what_it_is_for() {
        let mut state = state();
        state.resources.get_mut(&id("vm/web")).unwrap().wish = Some(Digest::of("another"));
        let moved = crate::event::body::Moved { from: id("vm/web") };
        let entry = Entry::new(Event::Moved(moved)).about(&id("vm/shop"));
        state.apply(&Recorded { seq: 1, at: at(100), entry });
        assert!(held(&state, 9999), "what has that name now is not good");
        assert_eq!(state.ways_back(&id("vm/shop")).len(), 1);
    }

    #[test]
    fn what_was_proved_last_stays() {
        let mut state = state();
        let proved = |state: &mut State, id: &str| {
            let of = &mut state.resources.get_mut(&"backup/web".parse().unwrap()).unwrap().backup;
            let good = GoodSnapshot { id: id.into(), at: at(80), of: Vec::new() };
            of.as_mut().unwrap().proved = Some(good);
        };
        proved(&mut state, "b");
        let ids = |all: &[&str]| all.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
        assert_eq!(state.pinned(&id("backup/web"), at(149)), (ids(&["a", "b"]), ids(&[])));
        assert_eq!(state.pinned(&id("backup/web"), at(150)), (ids(&["b"]), ids(&["a"])));
        proved(&mut state, "a");
        assert_eq!(state.pinned(&id("backup/web"), at(149)), (ids(&["a"]), ids(&[])), "once");
        assert_eq!(state.pinned(&id("backup/web"), at(150)), (ids(&["a"]), ids(&["a"])));
    }

    #[test]
    fn how_long_a_way_back_is_kept_depends_on_what_is_removed_at_all() {
        let mut state = state();
        let kept = |state: &State| match &state.ways_back(&id("vm/web"))[..] {
            [WayThere::Saved { kept, .. }] => *kept,
            ways => panic!("{ways:?}"),
        };
        let claim = |retention: Option<&BackupRetention>| crate::event::body::Claim {
            resource: Some(Resource::Backup(Box::new(Backup {
                retention: retention.cloned(),
                ..Backup::plain(BackupSource::State)
            }))),
            prevent_destroy: false,
            orphan: false,
            depends_on: Default::default(),
        };
        let removes = BackupRetention { keep: Keep { last: 1, ..Keep::default() }, every_s: 1 };
        for (retention, wanted) in
            [(None, Kept::ForGood), (Some(&removes), Kept::AtLeastUntil(at(150)))]
        {
            state.resources.get_mut(&id("backup/web")).unwrap().claim = Some(claim(retention));
            assert_eq!(kept(&state), wanted);
        }
        let web = state.resources.get_mut(&id("vm/web")).unwrap();
        web.wish = Some(Digest::of("another"));
        assert_eq!(kept(&state), Kept::UntilGood);
    }

    #[test]
    fn ways_back_are_named_with_what_they_are_in() {
        let mut state = state();
        let web = state.resources.get_mut(&id("vm/web")).unwrap();
        web.snapshots.push(InsideSnapshot { name: "trueup-1".into(), at: at(95) });
        assert_eq!(state.inside_until(&id("vm/web"), 10), Some(at(110)));
        assert_eq!(state.inside_until(&id("vm/db"), 10), None);
        let ways = state.ways_back(&id("vm/web"));
        let [WayThere::Saved { backup, kept, .. }, WayThere::Inside { name, .. }] = &ways[..]
        else {
            panic!("{ways:?}")
        };
        assert_eq!((name.as_str(), backup), ("trueup-1", &id("backup/web")));
        assert_eq!(*kept, Kept::ForGood, "nobody says that anything of it is removed");
        assert!(state.ways_back(&id("vm/db")).is_empty());
        let of = &mut state.resources.get_mut(&id("backup/web")).unwrap().backup;
        of.as_mut().unwrap().repository = Some("two".into());
        assert_eq!(state.ways_back(&id("vm/web")).len(), 1, "it is in the other repository");
        assert_eq!(state.backup(&id("backup/web")).ways_back().count(), 0);
    }
}
