//! What NVML reports by itself (Xids, memory errors, a GPU that is gone): reasons to look, never
//! what is believed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::Notify;
use trueup_nvml::{Client, Error, Watcher};

use crate::model::Fault;

/// How long one wait takes at most: after it the thread sees whether it is still wanted.
const WAIT: Duration = Duration::from_secs(2);

/// Least time between two wakes: a storm of corrected memory errors is one reason to look.
const WAKE_EVERY: Duration = Duration::from_secs(1);

/// The registration for events, and who is told of them.
#[derive(Debug, Default)]
pub(super) struct Events {
    told: Arc<Notify>,
    watching: Arc<AtomicBool>,
    /// Whether the thread is asked to end.
    stopping: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Events {
    /// Watches from now on, unless that is done already. A driver without events costs nothing but
    /// the wakes.
    pub(super) fn watch(&self, client: &Client) -> Result<(), Error> {
        if self.watching.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let started = client.watch().map(|watcher| {
            let (told, watching) = (Arc::downgrade(&self.told), Arc::clone(&self.watching));
            self.stopping.store(false, Ordering::Release);
            let stopping = Arc::clone(&self.stopping);
            let name = "gpu-events".to_owned();
            let spawned = std::thread::Builder::new().name(name).spawn(move || {
                follow(&watcher, &told, &stopping);
                // Closed before anybody may believe that it is.
                drop(watcher);
                watching.store(false, Ordering::Release);
            });
            match spawned {
                Ok(thread) => {
                    let mut kept = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
                    *kept = Some(thread);
                }
                Err(error) => {
                    self.watching.store(false, Ordering::Release);
                    tracing::warn!(%error, "events of the GPUs are not watched");
                }
            }
        });
        if let Err(error) = &started {
            // The flag stays set where the driver has no events: it will have none the next time.
            if matches!(error, Error::Unobservable { .. }) {
                self.watching.store(false, Ordering::Release);
            }
        }
        started
    }

    /// Ends the watch, which has every GPU open, and waits until it has ended; it begins again with
    /// the next [`watch`](Self::watch).
    ///
    /// # Errors
    /// The thread's end cannot be waited for.
    pub(super) async fn stop(&self) -> Result<(), Fault> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Ok(()) };
        self.stopping.store(true, Ordering::Release);
        let joined = tokio::task::spawn_blocking(move || thread.join());
        // One that panicked has ended as well.
        joined.await.map(drop).map_err(|error| {
            Fault::transient(format!("the watch over the GPUs does not end: {error}"))
        })
    }

    /// Calls `wake` for what is reported from now on. Never ends.
    pub(super) async fn each(&self, wake: impl Fn()) {
        loop {
            self.told.notified().await;
            wake();
            tokio::time::sleep(WAKE_EVERY).await;
        }
    }
}

/// Until the driver is gone, or nobody is there to be told.
fn follow(watcher: &Watcher, told: &Weak<Notify>, stopping: &AtomicBool) {
    for (index, error) in watcher.unwatched() {
        tracing::debug!(index, %error, "this GPU reports no events");
    }
    loop {
        let event = watcher.wait(WAIT);
        let Some(told) = told.upgrade() else { return };
        if stopping.load(Ordering::Acquire) {
            return;
        }
        match event {
            Ok(None) => {}
            Ok(Some(event)) => {
                let gpu = event.gpu.as_deref().unwrap_or("unknown");
                tracing::warn!(gpu, kind = ?event.kind, "a GPU reports something");
                told.notify_one();
            }
            Err(error) => {
                tracing::debug!(%error, "events of the GPUs are no longer watched");
                // What ended the watch may have changed the GPUs as well.
                told.notify_one();
                return;
            }
        }
    }
}
