//! Plans under way: they outlive the pass that began them, so that a slow step delays nothing but
//! what depends on it.
//!
//! The table says at every moment what is being worked on. It never forgets a plan before the last
//! of its steps has ended, and never remembers one after: also where it ended in a panic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::pass::PassError;
use crate::model::{CommitId, Digest, Kind, ResourceId};
use crate::plan::{Destroyed, Plan, destroys};

/// As many plans' worth of steps may run at once as this: one whose steps are all slow, and one
/// beside it. More would be no limit at all.
const PLANS_WORTH_MAX: usize = 2;

/// Backups that run at once: one for so many steps that may, in all plans together.
const LONG_SHARE: usize = 2;

/// How the steps that ended since it was last asked came out.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Steps that succeeded, by resource and what they did.
    pub(super) done: BTreeSet<(ResourceId, Digest)>,
    /// Steps that succeeded.
    pub(super) succeeded: u64,
    /// Steps that failed.
    pub(super) failed: u64,
    /// Steps not started because one before them failed, or because the program is stopping.
    pub(super) blocked: u64,
}

/// The plans under way. Cheap to clone; all clones are the same table.
#[derive(Clone, Default)]
pub(super) struct Flights {
    shared: Arc<Shared>,
}

struct Shared {
    table: Mutex<Table>,
    tasks: Mutex<JoinSet<()>>,
    // Counts the changes of the table: a plan that waits for room looks again.
    moved: watch::Sender<u64>,
    // Something ended that no pass waited for.
    news: Notify,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            tasks: Mutex::default(),
            moved: watch::Sender::new(0),
            news: Notify::new(),
        }
    }
}

#[derive(Default)]
struct Table {
    flights: BTreeMap<u64, Flight>,
    last: u64,
    fault: Option<PassError>,
    tally: Tally,
}

/// One plan under way.
struct Flight {
    plan: Digest,
    commit: CommitId,
    destroys: BTreeSet<Destroyed>,
    // Steps that have not ended, by resource.
    left: BTreeMap<ResourceId, usize>,
    running: BTreeSet<ResourceId>,
    // The pass that began it went on without it.
    outlived: bool,
}

/// A plan's place in the table; it is let go of when this is dropped.
pub(super) struct Place {
    flights: Flights,
    id: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change of the table is made in one go: a panic elsewhere cannot leave it half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flights {
    /// Registers `plan` and performs it by `work`, on a task of its own. What is given back closes
    /// when it has ended.
    pub(super) fn launch<F>(
        &self,
        plan: &Plan,
        work: impl FnOnce(Place) -> F,
    ) -> (u64, watch::Receiver<()>)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut left = BTreeMap::new();
        for step in &plan.steps {
            *left.entry(step.resource.clone()).or_default() += 1;
        }
        let flight = Flight {
            plan: plan.digest(),
            commit: plan.commit.clone(),
            destroys: destroys(plan),
            left,
            running: BTreeSet::new(),
            outlived: false,
        };
        let id = {
            let mut table = lock(&self.shared.table);
            table.last += 1;
            let id = table.last;
            table.flights.insert(id, flight);
            id
        };
        let (ended, wait) = watch::channel(());
        let work = work(Place { flights: self.clone(), id });
        let mut tasks = lock(&self.shared.tasks);
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a plan's performance did not end by itself");
            }
        }
        tasks.spawn(async move {
            work.await;
            drop(ended);
        });
        (id, wait)
    }

    /// What must be left alone by a plan for `commit`: everything that a plan for the same commit
    /// has still to do, and of plans for others, which start nothing more, what they are at.
    pub(super) fn busy(&self, commit: &CommitId) -> BTreeSet<ResourceId> {
        let table = lock(&self.shared.table);
        let mut busy = BTreeSet::new();
        for flight in table.flights.values() {
            busy.extend(flight.running.iter().cloned());
            if flight.commit == *commit {
                busy.extend(flight.left.keys().cloned());
            }
        }
        busy
    }

    /// The resources with a step that is being performed.
    pub(super) fn running(&self) -> BTreeSet<ResourceId> {
        let table = lock(&self.shared.table);
        table.flights.values().flat_map(|flight| flight.running.iter().cloned()).collect()
    }

    /// What plans under way destroy: it counts toward the limit of what comes beside them.
    pub(super) fn destroying(&self) -> BTreeSet<Destroyed> {
        let table = lock(&self.shared.table);
        table.flights.values().flat_map(|flight| flight.destroys.iter().cloned()).collect()
    }

    /// Whether this plan is under way.
    pub(super) fn has(&self, plan: &Digest) -> bool {
        lock(&self.shared.table).flights.values().any(|flight| flight.plan == *plan)
    }

    /// Goes on without waiting for this plan: its news wake the loop from now on.
    pub(super) fn outlive(&self, id: u64) {
        if let Some(flight) = lock(&self.shared.table).flights.get_mut(&id) {
            flight.outlived = true;
        }
    }

    /// What ended since it was last asked.
    pub(super) fn take_tally(&self) -> Tally {
        std::mem::take(&mut lock(&self.shared.table).tally)
    }

    /// Why a plan could not go on, said once.
    pub(super) fn take_fault(&self) -> Option<PassError> {
        lock(&self.shared.table).fault.take()
    }

    /// Lets every plan look again at what it may start.
    pub(super) fn nudge(&self) {
        self.shared.moved.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Says that something ended that the loop should look at.
    pub(super) fn tell(&self) {
        self.shared.news.notify_one();
    }

    /// Resolves when something ended that no pass waited for.
    pub(super) async fn news(&self) {
        self.shared.news.notified().await;
    }

    /// Waits until nothing is under way.
    pub(super) async fn landed(&self) {
        let mut moved = self.shared.moved.subscribe();
        while !lock(&self.shared.table).flights.is_empty() {
            if moved.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends everything that is under way as a kill would, and waits until it has ended.
    pub(super) async fn cut_off(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.shared.tasks));
        tasks.shutdown().await;
    }

    /// Ends everything that is under way as a kill would, without waiting for it.
    pub(super) fn abort(&self) {
        lock(&self.shared.tasks).abort_all();
    }
}

impl Place {
    /// Begins steps on as many of `resources`, in their order, as there is room for, and says which.
    /// `parallel`: the limit of one plan. Backups have room of their own: one that takes a day must
    /// not keep the rest of the machine waiting, nor many of them together.
    pub(super) fn begin<'a>(
        &self,
        resources: impl Iterator<Item = &'a ResourceId>,
        parallel: usize,
    ) -> BTreeSet<ResourceId> {
        let mut table = lock(&self.flights.shared.table);
        let is_long = |resource: &&ResourceId| resource.kind == Kind::Backup;
        let running = || table.flights.values().flat_map(|flight| &flight.running);
        let (all, long) = (running().count(), running().filter(is_long).count());
        let Some(flight) = table.flights.get_mut(&self.id) else { return BTreeSet::new() };
        let own = flight.running.iter().filter(|resource| !is_long(resource)).count();
        let mut room = parallel
            .saturating_sub(own)
            .min((PLANS_WORTH_MAX * parallel).saturating_sub(all - long));
        let mut long_room = (parallel / LONG_SHARE).max(1).saturating_sub(long);
        let begun: BTreeSet<_> = resources
            .filter(|resource| {
                let room = if is_long(resource) { &mut long_room } else { &mut room };
                let free = *room > 0;
                *room -= usize::from(free);
                free
            })
            .cloned()
            .collect();
        flight.running.extend(begun.iter().cloned());
        begun
    }

    /// The step under way on `resource` has ended, and its outcome is durable.
    pub(super) fn ended(&self, resource: &ResourceId, slow: bool, add: impl FnOnce(&mut Tally)) {
        let mut table = lock(&self.flights.shared.table);
        add(&mut table.tally);
        let flight = table.flights.get_mut(&self.id);
        let outlived = flight.is_some_and(|flight| {
            flight.running.remove(resource);
            flight.let_go(resource);
            flight.outlived
        });
        drop(table);
        self.flights.nudge();
        if outlived && slow {
            self.flights.tell();
        }
    }

    /// Steps on these resources will never be started. `blocked`: because something failed or
    /// forbids it, not because another commit is in force and plans for them anew.
    pub(super) fn given_up<'a>(
        &self,
        resources: impl Iterator<Item = &'a ResourceId>,
        blocked: bool,
    ) {
        let mut table = lock(&self.flights.shared.table);
        for resource in resources {
            table.tally.blocked += u64::from(blocked);
            if let Some(flight) = table.flights.get_mut(&self.id) {
                flight.let_go(resource);
            }
        }
    }

    /// The plan cannot go on. After a crash nothing goes on.
    pub(super) fn fail(&self, error: PassError) {
        let crashed = matches!(error, PassError::Crashed);
        lock(&self.flights.shared.table).fault.get_or_insert(error);
        self.flights.tell();
        if crashed {
            self.flights.abort();
        }
    }

    /// Changes whenever the table does.
    pub(super) fn moves(&self) -> watch::Receiver<u64> {
        self.flights.shared.moved.subscribe()
    }
}

impl Flight {
    fn let_go(&mut self, resource: &ResourceId) {
        if let Some(left) = self.left.get_mut(resource) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.left.remove(resource);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let flight = lock(&self.flights.shared.table).flights.remove(&self.id);
        self.flights.nudge();
        if flight.is_some_and(|flight| flight.outlived) {
            self.flights.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ResourceId {
        text.parse().unwrap()
    }

    fn place(flights: &Flights) -> Place {
        let mut table = lock(&flights.shared.table);
        table.last += 1;
        let flight = Flight {
            plan: crate::model::digest_of(&table.last),
            commit: "1".repeat(40).parse().unwrap(),
            destroys: BTreeSet::new(),
            left: BTreeMap::new(),
            running: BTreeSet::new(),
            outlived: false,
        };
        let id = table.last;
        table.flights.insert(id, flight);
        Place { flights: flights.clone(), id }
    }

    #[test]
    fn backups_that_take_long_leave_room_for_everything_else() {
        let flights = Flights::default();
        let (first, second) = (place(&flights), place(&flights));
        let begin = |place: &Place, names: &str, parallel| {
            let ids: Vec<_> = names.split(' ').map(id).collect();
            let begun = place.begin(ids.iter(), parallel);
            begun.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let all = "backup/a backup/b backup/c disk/a disk/b disk/c disk/d disk/e";
        let begun = begin(&first, all, 4);
        assert_eq!(begun, "disk/a disk/b disk/c disk/d backup/a backup/b");
        // In all plans together, and without taking anything from them.
        let begun = begin(&second, "backup/d disk/f disk/g disk/h disk/i disk/j", 4);
        assert_eq!(begun, "disk/f disk/g disk/h disk/i");
        first.ended(&id("backup/a"), true, |_| ());
        assert_eq!(begin(&second, "backup/d backup/e", 4), "backup/d");
        // One at a time still means one of each.
        let alone = Flights::default();
        let only = place(&alone);
        assert_eq!(begin(&only, "backup/a backup/b disk/a disk/b", 1), "disk/a backup/a");
    }
}
