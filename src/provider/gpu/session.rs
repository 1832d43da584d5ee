//! The library, on a thread of its own: every call of NVML blocks, some for seconds.
//!
//! It is loaded when first needed, and again after the driver was gone. Nothing is remembered of
//! what was seen.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, mpsc};

use tokio::sync::{RwLock, oneshot};
use trueup_nvml::{Client, Error};

use super::watch::Events;
use crate::model::Fault;

/// What is done with the library, one job after the other.
type Job = Box<dyn FnOnce(&mut Session) + Send>;

/// The library while it is loaded.
pub(super) struct Session {
    library: Option<PathBuf>,
    client: Option<Client>,
    lost: u64,
}

impl Session {
    /// How often the driver was gone under the open library.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Does something with the library. One that lost its driver is closed, so that the next use
    /// opens it anew.
    pub(super) fn with<T>(
        &mut self,
        work: impl Fn(&Client) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let was_open = self.client.is_some();
        let done = self.once(&work);
        if was_open && matches!(done, Err(Error::Unobservable { .. })) {
            // The driver was loaded anew since: what was opened before it is of no use any more.
            return self.once(&work);
        }
        done
    }

    /// Closes the library; the next use opens it anew.
    fn close(&mut self) {
        self.client = None;
    }

    fn once<T>(&mut self, work: &impl Fn(&Client) -> Result<T, Error>) -> Result<T, Error> {
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::open(self.library.as_deref())?,
        };
        let done = work(&client);
        match done {
            Err(Error::Unobservable { .. }) => self.lost += 1,
            _ => self.client = Some(client),
        }
        done
    }
}

/// The thread that has the library.
pub(super) struct Worker {
    library: Option<PathBuf>,
    /// Held while the library has to be closed: it has every GPU open, also one that is to be taken
    /// from its driver.
    closed: RwLock<()>,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
}

impl Worker {
    /// No thread yet.
    pub(super) fn new(library: Option<PathBuf>) -> Self {
        Self { library, closed: RwLock::new(()), jobs: Mutex::new(None) }
    }

    /// Does `job` on the thread, and waits for it without blocking.
    ///
    /// # Errors
    /// The thread is not there, or a job panicked.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Session) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let _open = self.closed.read().await;
        self.do_now(job).await
    }

    /// Does `work` while nothing has the library open: not this thread, nor `events`.
    ///
    /// # Errors
    /// The library cannot be closed.
    pub(super) async fn without<T>(
        &self,
        events: &Events,
        work: impl Future<Output = T>,
    ) -> Result<T, Fault> {
        let _closed = self.closed.write().await;
        events.stop().await?;
        if self.is_there() {
            self.do_now(Session::close).await?;
        }
        Ok(work.await)
    }

    /// Whether there is a thread, which may have the library open.
    fn is_there(&self) -> bool {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    async fn do_now<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Session) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |session| {
            // Nobody waits any more where the asker was cut off: what was done is looked at anew.
            drop(answer.send(job(session)));
        });
        self.send(job)?;
        answered.await.map_err(|_| {
            Fault::unobservable("the thread that talks to NVML ended: a bug, see the daemon's log")
        })
    }

    fn send(&self, job: Job) -> Result<(), Fault> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = match jobs.as_ref() {
            Some(open) => match open.send(job) {
                Ok(()) => return Ok(()),
                Err(mpsc::SendError(job)) => job,
            },
            None => job,
        };
        let (sender, receiver) = mpsc::channel::<Job>();
        let library = self.library.clone();
        let thread = std::thread::Builder::new().name("gpu".to_owned()).spawn(move || {
            let mut session = Session { library, client: None, lost: 0 };
            for job in receiver {
                job(&mut session);
            }
        });
        thread.map_err(|error| {
            Fault::unobservable(format!("no thread can be made that talks to NVML: {error}"))
        })?;
        let gone = || Fault::unobservable("the thread that talks to NVML ended at once");
        sender.send(job).map_err(|_| gone())?;
        *jobs = Some(sender);
        Ok(())
    }
}
