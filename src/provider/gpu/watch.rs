//! What NVML reports by itself (Xids, memory errors, a GPU that is gone): reasons to look.
//!
//! What is wrong is found by looking. Only an Xid is kept until the next look, because nothing else
//! tells of it afterwards.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use trueup_nvml::{Client, Error, EventKind, GpuInstanceId, Watcher};

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
pub(super) const REPEAT: SignedDuration = SignedDuration::from_mins(10);

/// A critical error that was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    /// When; of no two reports the same.
    pub(super) at: Timestamp,
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
#[derive(Debug, Default)]
pub(super) struct Reports(Vec<Report>);

impl Reports {
    /// Takes one in that came at `now`.
    pub(super) fn add(
        &mut self,
        gpu: &str,
        xid: u64,
        instance: Option<GpuInstanceId>,
        now: Timestamp,
    ) {
        let alike = |it: &&mut Report| it.gpu == gpu && it.xid == xid && it.instance == instance;
        let mut count = 1;
        if let Some(before) = self.0.iter_mut().rev().find(alike) {
            if now.duration_since(before.at) < REPEAT {
                before.again += 1;
                return;
            }
            count += before.again;
        }
        // The log tells new ones from old ones by their time, which a clock may set back.
        let after = self.0.last().map_or(now, |last| last.at + SignedDuration::from_micros(1));
        let (gpu, at) = (gpu.to_owned(), now.max(after));
        self.0.push(Report { at, gpu, xid, instance, count, again: 0 });
        let surplus = self.0.len().saturating_sub(REPORTS_MAX);
        self.0.drain(..surplus);
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
            reports.0.retain(|report| listed.contains(report.gpu.as_str()));
        }
        reports.0.clone()
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
                    let now = Timestamp::now();
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
        let mut reports = Reports::default();
        for second in 0..5 {
            reports.add("GPU-1", 13, None, at(second));
        }
        reports.add("GPU-1", 13, Some(GpuInstanceId(1)), at(5));
        reports.add("GPU-2", 13, None, at(6));
        reports.add("GPU-1", 13, None, at(600));
        let told: Vec<_> = reports.0.iter().map(|it| (it.gpu.as_str(), it.at, it.count)).collect();
        assert_eq!(
            told,
            [("GPU-1", at(0), 1), ("GPU-1", at(5), 1), ("GPU-2", at(6), 1), ("GPU-1", at(600), 5)]
        );
    }

    #[test]
    fn no_two_reports_have_one_time_whatever_the_clock_does() {
        let mut reports = Reports::default();
        for xid in 0..100 {
            reports.add("GPU-1", xid, None, at(1000 - i64::try_from(xid).unwrap()));
        }
        assert_eq!(reports.0.len(), REPORTS_MAX);
        assert!(reports.0.windows(2).all(|two| two[0].at < two[1].at));
        assert_eq!(reports.0.last().unwrap().xid, 99);
    }
}
