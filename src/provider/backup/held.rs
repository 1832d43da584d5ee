//! Disks of guests that are held open: let go of whatever becomes of the step that reads them.
//!
//! A job in a guest that nobody watches fills the disk beside the guest's. So a step that is cancelled,
//! or ended because the program stops, leaves none behind: it is ended by a task of its own, which
//! whoever stops the program waits for. Only a kill leaves it to the note about it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::model::Fault;
use crate::port::{GuestWish, Guests, OpenGuest};

/// What is being let go of although nobody waits for it. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Closing(Arc<Mutex<JoinSet<()>>>);

impl Closing {
    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it on a task of its own. Without a runtime the program is ending: what is left then is
    /// noted, and found at the next start.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut tasks = self.tasks();
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "the disks of a guest were not let go of");
            }
        }
        tasks.spawn_on(work, &runtime);
    }

    /// Waits until nothing is being let go of any more.
    pub(super) async fn wait(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks());
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "the disks of a guest were not let go of");
            }
        }
    }
}

/// Disks that can be read, for as long as this lives.
pub(super) struct Held {
    guests: Arc<dyn Guests>,
    closing: Closing,
    open: Option<OpenGuest>,
}

impl Held {
    /// Opens them, on a task of its own: one that is ended in the middle would leave a job that has
    /// just begun to nobody.
    pub(super) async fn open(
        guests: &Arc<dyn Guests>,
        closing: &Closing,
        wish: GuestWish,
    ) -> Result<Self, Fault> {
        let (sender, receiver) = oneshot::channel();
        let opener = Arc::clone(guests);
        closing.spawn(async move {
            let opened = opener.open(&wish).await;
            // Nobody wants them any more.
            if let Err(Ok(open)) = sender.send(opened) {
                let_go(&*opener, open).await;
            }
        });
        let opened = receiver.await.map_err(|_| {
            Fault::transient("the disks of a guest were not opened: the program is ending")
        })?;
        Ok(Self { guests: Arc::clone(guests), closing: closing.clone(), open: Some(opened?) })
    }

    /// The disks.
    pub(super) fn disks(&self) -> Result<&OpenGuest, Fault> {
        self.open.as_ref().ok_or_else(|| {
            Fault::permanent(
                "disks were let go of before they were read: this is a mistake of trueup, please \
                 report it",
            )
        })
    }

    /// Lets them go, `stored` as with [`Guests::close`].
    pub(super) async fn close(mut self, stored: bool) -> Result<(), Fault> {
        match self.open.take() {
            Some(open) => self.guests.close(open, stored).await,
            None => Ok(()),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let guests = Arc::clone(&self.guests);
        self.closing.spawn(async move { let_go(&*guests, open).await });
    }
}

async fn let_go(guests: &dyn Guests, open: OpenGuest) {
    let what = open.what.clone();
    if let Err(error) = guests.close(open, false).await {
        tracing::warn!(%what, %error, "a backup that was ended left something behind");
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::sync::Semaphore;

    use crate::model::Name;
    use crate::model::resource::{BackupDefinition, BackupGuest, GuestPart};
    use crate::port::{BootWish, Booted, BoxFuture, GuestLeft, Progress};

    /// Opens once it may, and notes how it is closed; ends machines once it may.
    pub(in super::super) struct Fake {
        may_open: Semaphore,
        closed: Mutex<Vec<bool>>,
        pub(in super::super) may_end: Semaphore,
        refuses: AtomicBool,
    }

    impl Fake {
        /// Whether machines refuse to end.
        pub(in super::super) fn may_not_end(&self, refuses: bool) {
            self.refuses.store(refuses, Ordering::Release);
        }
    }

    impl Guests for Fake {
        fn open<'a>(&'a self, _: &'a GuestWish) -> BoxFuture<'a, Result<OpenGuest, Fault>> {
            Box::pin(async {
                self.may_open.acquire().await.unwrap().forget();
                Ok(OpenGuest {
                    what: "vm/web".into(),
                    images: Vec::new(),
                    texts: Vec::new(),
                    base: None,
                    mark: None,
                    fills: BTreeSet::new(),
                    notices: Vec::new(),
                    held: Box::new(()),
                })
            })
        }

        fn confirm<'a>(&'a self, _: &'a OpenGuest) -> BoxFuture<'a, Result<(), Fault>> {
            Box::pin(async { Ok(()) })
        }

        fn close(&self, _: OpenGuest, stored: bool) -> BoxFuture<'_, Result<(), Fault>> {
            Box::pin(async move {
                // As libvirt does, it takes others their turn first.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                self.closed.lock().unwrap().push(stored);
                Ok(())
            })
        }

        fn left(&self) -> BoxFuture<'_, Result<Vec<GuestLeft>, Fault>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn clear<'a>(&'a self, _: &'a Name, _: bool) -> BoxFuture<'a, Result<bool, Fault>> {
            Box::pin(async { Ok(false) })
        }

        fn definition<'a>(
            &'a self,
            _: &'a BackupDefinition,
        ) -> BoxFuture<'a, Result<String, Fault>> {
            Box::pin(async { Ok(String::new()) })
        }

        fn may_boot<'a>(&'a self, _: &'a BootWish<'a>) -> BoxFuture<'a, Result<(), Fault>> {
            Box::pin(async { Ok(()) })
        }

        fn boot<'a>(
            &'a self,
            _: &'a BootWish<'a>,
            _: &'a Progress,
        ) -> BoxFuture<'a, Result<Booted, Fault>> {
            Box::pin(async { Ok(Booted::Down { why: String::new(), console: Vec::new() }) })
        }

        fn end_boot<'a>(&'a self, _: &'a Name) -> BoxFuture<'a, Result<bool, Fault>> {
            Box::pin(async {
                if self.refuses.load(Ordering::Acquire) {
                    return Err(Fault::transient("it does not end"));
                }
                self.may_end.acquire().await.unwrap().forget();
                Ok(true)
            })
        }
    }

    /// Guests that end machines once they may.
    pub(in super::super) fn guests() -> (Arc<Fake>, Arc<dyn Guests>) {
        let (fake, guests, ..) = fake(0);
        (fake, guests)
    }

    fn fake(may_open: usize) -> (Arc<Fake>, Arc<dyn Guests>, Closing, GuestWish) {
        let closed = Mutex::default();
        let fake = Arc::new(Fake {
            may_open: Semaphore::new(may_open),
            closed,
            may_end: Semaphore::new(0),
            refuses: AtomicBool::new(false),
        });
        let part = GuestPart::Machine { name: Name::new("web").unwrap() };
        let wish = GuestWish {
            backup: "backup/web".parse().unwrap(),
            guest: BackupGuest { part, quiesce: false, read_all_s: 1 },
            bases: Vec::new(),
        };
        (Arc::clone(&fake), fake, Closing::default(), wish)
    }

    #[tokio::test]
    async fn a_step_that_is_ended_lets_go_of_what_it_held() {
        let (fake, guests, closing, wish) = fake(1);
        let (held, reading) = oneshot::channel();
        let (of, wish) = (closing.clone(), wish);
        let step = tokio::spawn(async move {
            let open = Held::open(&guests, &of, wish).await.unwrap();
            assert_eq!(open.disks().unwrap().what, "vm/web");
            held.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        reading.await.unwrap();
        step.abort();
        assert!(step.await.unwrap_err().is_cancelled());
        closing.wait().await;
        assert_eq!(*fake.closed.lock().unwrap(), [false]);
    }

    #[tokio::test]
    async fn a_step_that_is_ended_while_it_opens_leaves_nothing_open() {
        let (fake, guests, closing, wish) = fake(0);
        let of = closing.clone();
        let step = tokio::spawn(async move { Held::open(&guests, &of, wish).await.map(drop) });
        // It is under way once its task is there.
        while closing.tasks().is_empty() {
            tokio::task::yield_now().await;
        }
        step.abort();
        assert!(step.await.unwrap_err().is_cancelled());
        fake.may_open.add_permits(1);
        closing.wait().await;
        assert_eq!(*fake.closed.lock().unwrap(), [false]);
    }

    #[tokio::test]
    async fn what_was_stored_is_closed_once() {
        let (fake, guests, closing, wish) = fake(1);
        let held = Held::open(&guests, &closing, wish).await.unwrap();
        held.close(true).await.unwrap();
        closing.wait().await;
        assert_eq!(*fake.closed.lock().unwrap(), [true]);
    }
}
