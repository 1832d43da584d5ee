//! What NVML reports by itself (Xids, memory errors, a GPU that is gone): reasons to look.
//!
//! What is wrong is found by looking. Only an Xid is kept until the next look, because nothing else
//! tells of it afterwards.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;
use trueup_nvml::{Client, Error, EventKind, GpuInstanceId, Watcher};
use uuid::Uuid;

use crate::model::Fault;

/// How long one wait takes at most: after it the thread sees whether it is still wanted.
const WAIT: Duration = Duration::from_secs(2);

/// Least time between two wakes: a storm of corrected memory errors is one reason to look.
const WAKE_EVERY: Duration = Duration::from_secs(1);

/// Reports kept: far more than come between two looks, of which one follows each.
pub(super) const REPORTS_MAX: usize = 64;

/// A watch that failed sooner than this after its start is no reason to look: it would fail again,
/// and be begun again by that look.
const LIVED_MIN: Duration = Duration::from_secs(10);

/// A report that comes again within this time is counted and not told of again: a program with a
/// mistake can make thousands of them a minute.
pub(super) const REPEAT: Duration = Duration::from_mins(10);

/// A critical error that was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    /// The run of this program, of which no two are the same.
    pub(super) run: String,
    /// Its number in this run, from 1.
    pub(super) seq: u64,
    /// When, by the machine's clock.
    pub(super) at: Timestamp,
    /// When, by one that nobody sets.
    since: Instant,
    /// The UUID of the GPU.
    pub(super) gpu: String,
    /// NVIDIA's number of it.
    pub(super) xid: u64,
    /// The GPU instance concerned.
    pub(super) instance: Option<GpuInstanceId>,
    /// How often it came since the one before that was told of, with this one.
    pub(super) count: u64,
    /// How often it came since.
    again: u64,
}

/// The newest reports, oldest first.
#[derive(Debug)]
pub(super) struct Reports {
    run: String,
    /// How many there were.
    count: u64,
    newest: Vec<Report>,
}

impl Default for Reports {
    fn default() -> Self {
        Self { run: Uuid::now_v7().to_string(), count: 0, newest: Vec::new() }
    }
}

impl Reports {
    /// Takes one in that came at `at`, which is `now` by a clock that nobody sets.
    pub(super) fn add(
        &mut self,
        gpu: &str,
        xid: u64,
        instance: Option<GpuInstanceId>,
        (at, now): (Timestamp, Instant),
    ) {
        let alike = |it: &&mut Report| it.gpu == gpu && it.xid == xid && it.instance == instance;
        let mut count = 1;
        if let Some(before) = self.newest.iter_mut().rev().find(alike) {
            if now.saturating_duration_since(before.since) < REPEAT {
                before.again += 1;
                return;
            }
            count += before.again;
        }
        // The log tells new ones from old ones by run and number.
        self.count += 1;
        let (gpu, run, seq, since) = (gpu.to_owned(), self.run.clone(), self.count, now);
        self.newest.push(Report { run, seq, at, since, gpu, xid, instance, count, again: 0 });
        let surplus = self.newest.len().saturating_sub(REPORTS_MAX);
        self.newest.drain(..surplus);
    }
}

/// A thread that waits for events.
#[derive(Debug)]
struct Watch {
    /// Set to end it, and by itself when it has ended.
    over: Arc<AtomicBool>,
    /// The GPUs that answered when it began, whether they report events or not.
    tried: BTreeSet<String>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

/// What is shared with the thread.
#[derive(Debug, Default)]
struct Shared {
    told: Notify,
    reports: Mutex<Reports>,
}

/// The registration for events, what was reported, and who is told.
#[derive(Debug, Default)]
pub(super) struct Events {
    shared: Arc<Shared>,
    watch: Mutex<Option<Watch>>,
    /// Threads that have not ended, also those that were asked to.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Events {
    /// Watches these GPUs from now on, as far as that is not done already: one that came back is
    /// registered anew. A driver without events costs nothing but the wakes.
    pub(super) fn watch<'a>(
        &self,
        client: &Client,
        present: impl Iterator<Item = &'a str>,
    ) -> Result<(), Error> {
        let mut watch = lock(&self.watch);
        let present: BTreeSet<String> = present.map(str::to_owned).collect();
        let runs = |it: &Watch| {
            !it.over.load(Ordering::Acquire) && present.iter().all(|gpu| it.tried.contains(gpu))
        };
        if watch.as_ref().is_some_and(runs) {
            return Ok(());
        }
        *watch = None;
        let watcher = match client.watch() {
            Ok(watcher) => watcher,
            Err(error) => {
                if !matches!(error, Error::Unobservable { .. }) {
                    // This driver has no events, and will have none at the next look.
                    *watch = Some(Watch { over: Arc::default(), tried: present });
                }
                return Err(error);
            }
        };
        let tried = watcher.tried().map(str::to_owned).chain(present).collect();
        let (over, shared) = (Arc::new(AtomicBool::new(false)), Arc::downgrade(&self.shared));
        *watch = Some(Watch { over: Arc::clone(&over), tried });
        let spawned = std::thread::Builder::new().name("gpu-events".to_owned()).spawn(move || {
            follow(&watcher, &shared, &over);
            over.store(true, Ordering::Release);
        });
        match spawned {
            Ok(thread) => {
                let mut threads = lock(&self.threads);
                threads.retain(|thread| !thread.is_finished());
                threads.push(thread);
            }
            Err(error) => {
                *watch = None;
                tracing::warn!(%error, "events of the GPUs are not watched");
            }
        }
        Ok(())
    }

    /// Ends the watch, which has every GPU open, and waits until it has ended; it begins again with
    /// the next [`watch`](Self::watch).
    ///
    /// # Errors
    /// The thread's end cannot be waited for.
    pub(super) async fn stop(&self) -> Result<(), Fault> {
        *lock(&self.watch) = None;
        let threads = std::mem::take(&mut *lock(&self.threads));
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // One that panicked has ended as well.
                drop(thread.join());
            }
        });
        joined.await.map_err(|error| {
            Fault::transient(format!("the watch over the GPUs does not end: {error}"))
        })
    }

    /// The newest critical errors, oldest first; those of the GPUs that are listed now. `None`: some
    /// are there that cannot tell which they are, so nothing is known to be over.
    pub(super) fn reports(&self, listed: Option<&BTreeSet<&str>>) -> Vec<Report> {
        let mut reports = lock(&self.shared.reports);
        if let Some(listed) = listed {
            // What is told of a GPU again after it was gone, is told as new.
            reports.newest.retain(|report| listed.contains(report.gpu.as_str()));
        }
        reports.newest.clone()
    }

    /// Calls `wake` for what is reported from now on. Never ends.
    pub(super) async fn each(&self, wake: impl Fn()) {
        loop {
            self.shared.told.notified().await;
            wake();
            tokio::time::sleep(WAKE_EVERY).await;
        }
    }
}

/// Until the driver is gone, or nobody is there to be told.
fn follow(watcher: &Watcher, shared: &Weak<Shared>, over: &AtomicBool) {
    for one in watcher.unwatched() {
        tracing::debug!(index = one.index, error = %one.error, "this GPU reports no events");
    }
    let began = Instant::now();
    loop {
        let event = watcher.wait(WAIT);
        let Some(shared) = shared.upgrade() else { return };
        if over.load(Ordering::Acquire) {
            return;
        }
        match event {
            // Corrected by themselves; a storm of them is told of as such.
            Ok(None) | Ok(Some(trueup_nvml::Event { kind: EventKind::EccCorrected, .. })) => {}
            Ok(Some(event)) => {
                let gpu = event.gpu.as_deref().unwrap_or("unknown");
                tracing::warn!(gpu, kind = ?event.kind, "a GPU reports something");
                if let (Some(gpu), EventKind::Xid(xid)) = (&event.gpu, event.kind) {
                    let now = (Timestamp::now(), Instant::now());
                    lock(&shared.reports).add(gpu, xid, event.gpu_instance, now);
                }
                shared.told.notify_one();
            }
            Err(error) => {
                tracing::debug!(%error, "events of the GPUs are no longer watched");
                if began.elapsed() >= LIVED_MIN {
                    // What ended the watch may have changed the GPUs as well.
                    shared.told.notify_one();
                }
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_storm_is_told_of_once_and_counted() {
        let (mut reports, began) = (Reports::default(), Instant::now());
        let now =
            |second: u64| (at(i64::try_from(second).unwrap()), began + Duration::from_secs(second));
        for second in 0..5 {
            reports.add("GPU-1", 13, None, now(second));
        }
        reports.add("GPU-1", 13, Some(GpuInstanceId(1)), now(5));
        reports.add("GPU-2", 13, None, now(6));
        reports.add("GPU-1", 13, None, now(600));
        let all = reports.newest.iter();
        let told: Vec<_> = all.map(|it| (it.gpu.as_str(), it.at, it.count, it.seq)).collect();
        assert_eq!(
            told,
            [
                ("GPU-1", at(0), 1, 1),
                ("GPU-1", at(5), 1, 2),
                ("GPU-2", at(6), 1, 3),
                ("GPU-1", at(600), 5, 4)
            ]
        );
    }

    /// Set back by a day, the clock says that the next report came before the last.
    #[test]
    fn no_report_is_hidden_whatever_the_clock_does() {
        let (mut reports, began) = (Reports::default(), Instant::now());
        reports.add("GPU-1", 79, None, (at(86_400), began));
        reports.add("GPU-1", 79, None, (at(0), began + REPEAT));
        let told: Vec<_> = reports.newest.iter().map(|it| (it.seq, it.at, it.count)).collect();
        assert_eq!(told, [(1, at(86_400), 1), (2, at(0), 1)]);
        for xid in 0..100 {
            reports.add("GPU-1", xid, None, (at(0), began + REPEAT));
        }
        assert_eq!(reports.newest.len(), REPORTS_MAX);
        assert!(reports.newest.windows(2).all(|two| two[0].seq < two[1].seq));
        assert_ne!(Reports::default().run, reports.run);
    }
}
