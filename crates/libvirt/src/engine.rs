//! The threads behind a client: workers that make the calls, one that opens connections, and one
//! that watches the time limits.
//!
//! No lock is held while libvirt is called. A call that outlives its limit is answered with
//! `Timeout`; its thread is abandoned (it ends by itself if libvirt ever returns), its connection
//! is given up, and another thread takes its place, up to [`ABANDONED_THREADS_MAX`]. What a
//! client shares is here; what each thread does is in `worker`, `opener` and `clock`.

mod clock;
mod opener;
mod worker;

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use virt::connect::Connect;

use crate::client::Options;
use crate::conn::Conn;
use crate::error::{Code, Error};
use crate::event::{CloseReason, Event, EventKind, EventReceiver, Hub};

/// Threads that may hang in libvirt at the same time. Each costs a stack and perhaps a connection
/// (libvirtd accepts 5000 clients); that many say that waiting for more is of no use.
pub const ABANDONED_THREADS_MAX: usize = 32;

/// Calls that may wait for a thread; beyond it the caller is faster than libvirt can ever be.
pub const QUEUE_MAX: usize = 16_384;

/// Longest that the end of a client waits for its threads, one of which may hang for ever.
const END_LIMIT: Duration = Duration::from_millis(500);

pub(crate) struct Engine {
    options: Options,
    threads: Arc<Threads>,
    hub: Hub,
    state: Mutex<State>,
    /// There may be a call to make.
    work: Condvar,
    /// A deadline was added or the link changed.
    clock: Condvar,
    /// There may be a connection to open.
    opener: Condvar,
    this: Weak<Engine>,
}

struct State {
    closed: bool,
    queue: VecDeque<Call>,
    running: HashMap<u64, Running>,
    calls: u64,
    link: Link,
    /// Of the connection opened last, or being opened.
    generation: u64,
    /// Keep the connection open although no call asks for it.
    keep: bool,
    /// There was a connection once.
    reopening: bool,
    opening: Option<Instant>,
    /// When the last attempt to open ended.
    last_attempt: Option<Instant>,
    /// Which opener thread is in charge; 0: none was started.
    opener: u64,
    clock_started: bool,
    /// When the clock looks next by itself; `None`: when it is told to.
    clock_due: Option<Instant>,
    workers: usize,
    idle: usize,
    abandoned: usize,
}

enum Link {
    Down { since: Instant },
    Up(Arc<Conn>),
}

/// A call that waits for a thread.
struct Call {
    limit: Duration,
    since: Instant,
    answer: Arc<dyn Answer>,
    /// Makes the call and answers it; returns whether the connection broke.
    run: Box<dyn FnOnce(&Conn) -> bool + Send>,
}

/// A call in a thread.
struct Running {
    deadline: Instant,
    limit: Duration,
    generation: u64,
    answer: Arc<dyn Answer>,
}

/// Where the outcome of a call goes, whatever its type; the first answer counts.
trait Answer: Send + Sync {
    fn fail(&self, error: Error);
    /// Nobody waits for it any more.
    fn unheard(&self) -> bool;
}

struct Slot<T>(Mutex<Option<oneshot::Sender<Result<T, Error>>>>);

impl<T> Slot<T> {
    fn put(&self, result: Result<T, Error>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // An answer that nobody waits for is dropped, as the caller wished.
        drop(sender.map(|s| s.send(result)));
    }
}

impl<T: Send> Answer for Slot<T> {
    fn fail(&self, error: Error) {
        self.put(Err(error));
    }

    fn unheard(&self) -> bool {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Engine {
    pub(crate) fn new(options: Options) -> Arc<Engine> {
        let state = State {
            closed: false,
            queue: VecDeque::new(),
            running: HashMap::new(),
            calls: 0,
            link: Link::Down { since: Instant::now() },
            generation: 0,
            keep: false,
            reopening: false,
            opening: None,
            last_attempt: None,
            opener: 0,
            clock_started: false,
            clock_due: None,
            workers: 0,
            idle: 0,
            abandoned: 0,
        };
        Arc::new_cyclic(|this| Engine {
            options,
            threads: Arc::default(),
            hub: Hub::default(),
            state: Mutex::new(state),
            work: Condvar::new(),
            clock: Condvar::new(),
            opener: Condvar::new(),
            this: this.clone(),
        })
    }

    /// Queues a call; its outcome comes through the receiver.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        limit: Duration,
        act: impl FnOnce(&Connect) -> Result<T, Error> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, Error>>, Error> {
        let (sender, receiver) = oneshot::channel();
        let slot = Arc::new(Slot(Mutex::new(Some(sender))));
        let answer = Arc::clone(&slot) as Arc<dyn Answer>;
        let run = Box::new(move |conn: &Conn| {
            let result = guarded(conn, act);
            let broken = result.as_ref().is_err_and(Error::connection_lost);
            slot.put(result);
            broken
        });
        let mut state = self.lock();
        if state.closed {
            return Err(Error::own(Code::Closed, "the client is closed"));
        }
        if state.queue.len() >= QUEUE_MAX {
            let message = format!("{QUEUE_MAX} calls wait for libvirt already");
            return Err(Error::own(Code::ResourceBusy, message));
        }
        if state.exhausted() {
            return Err(exhausted());
        }
        self.start_helpers(&mut state)?;
        self.start_worker(&mut state)?;
        let since = Instant::now();
        state.queue.push_back(Call { limit, since, answer, run });
        self.work.notify_one();
        if let Link::Down { .. } = state.link {
            self.opener.notify_all();
            self.wake_clock(&state, since + limit);
        }
        Ok(receiver)
    }

    /// A receiver of events; from now on the connection is kept open.
    pub(crate) fn subscribe(&self) -> EventReceiver {
        let receiver = self.hub.subscribe();
        let mut state = self.lock();
        state.keep = true;
        // Where no thread can be had now, the next call tries again and reports it.
        drop(self.start_helpers(&mut state));
        self.opener.notify_all();
        receiver
    }

    /// Closes, and waits for the threads that do not hang: a program that ends while one of them opens a
    /// connection takes away what libvirt's libraries work with, and crashes.
    pub(crate) fn end(&self) {
        self.close();
        self.threads.wait(END_LIMIT);
    }

    /// Tells all threads that do not hang to end, and fails what waits.
    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.queue);
        let link = state.take_down();
        self.work.notify_all();
        self.clock.notify_all();
        self.opener.notify_all();
        drop(state);
        drop(link);
        for call in waiting {
            call.answer.fail(Error::own(Code::Closed, "the client was closed"));
        }
        self.hub.close();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change to the state is whole when the lock is let go, so a panic spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up the connection of that generation, if it is the present one.
    fn give_up(&self, generation: u64, reason: CloseReason) {
        let mut state = self.lock();
        let present = matches!(&state.link, Link::Up(conn) if conn.generation == generation);
        if !present || state.closed {
            return;
        }
        let link = state.take_down();
        self.opener.notify_all();
        self.clock.notify_all();
        // Under the lock, so that no opening can be told before it.
        self.hub.emit(&Event::of_connection(EventKind::ConnectionClosed(reason)));
        drop(state);
        drop(link);
    }

    /// Wakes the clock for a deadline before the one it waits for; nearly all come after.
    fn wake_clock(&self, state: &State, deadline: Instant) {
        if state.clock_due.is_none_or(|due| deadline < due) {
            self.clock.notify_all();
        }
    }

    fn start_helpers(&self, state: &mut State) -> Result<(), Error> {
        if !state.clock_started {
            self.spawn("libvirt-clock", |engine| engine.watch())?;
            state.clock_started = true;
        }
        if state.opener == 0 {
            self.spawn("libvirt-open", |engine| engine.open_connections(1))?;
            state.opener = 1;
        }
        Ok(())
    }

    /// Starts a worker where one more can be of use.
    fn start_worker(&self, state: &mut State) -> Result<(), Error> {
        let enough = state.idle > state.queue.len() || state.workers >= self.options.threads.max(1);
        if enough || state.abandoned >= ABANDONED_THREADS_MAX {
            return Ok(());
        }
        self.spawn("libvirt-call", |engine| engine.work())?;
        state.workers += 1;
        Ok(())
    }

    fn spawn(
        &self,
        name: &str,
        body: impl FnOnce(Arc<Engine>) + Send + 'static,
    ) -> Result<(), Error> {
        let engine = self.this.upgrade();
        let engine = engine.ok_or_else(|| Error::own(Code::Closed, "the client is closed"))?;
        let thread = self.threads.one_more();
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _counted = thread;
            body(engine);
        });
        let failed = |e| Error::own(Code::ResourceBusy, format!("cannot start a thread: {e}"));
        spawned.map(drop).map_err(failed)
    }
}

/// Counts the threads of an engine.
#[derive(Default)]
struct Threads {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Threads {
    fn one_more(self: &Arc<Self>) -> Counted {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Counted(Arc::clone(self))
    }

    /// Waits until there is none any more, or the limit is over.
    fn wait(&self, limit: Duration) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.fewer.wait_timeout_while(count, limit, |count| *count > 0));
    }
}

/// A thread that is counted.
struct Counted(Arc<Threads>);

impl Drop for Counted {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.fewer.notify_all();
    }
}

/// Makes the call, and tells a broken connection from a failed call.
fn guarded<T>(conn: &Conn, act: impl FnOnce(&Connect) -> Result<T, Error>) -> Result<T, Error> {
    let connect = conn.connect()?;
    let result = catch_unwind(AssertUnwindSafe(|| act(connect))).unwrap_or_else(|_| {
        Err(Error::own(Code::Other(0), "the call panicked; this is a bug in trueup or `virt`"))
    });
    result.map_err(|mut e| {
        if e.is_transport() && !conn.alive() {
            e.code = Code::ConnectionLost;
        }
        e
    })
}

fn exhausted() -> Error {
    let message = format!(
        "libvirt left {ABANDONED_THREADS_MAX} calls unanswered and is asked no more until one of \
         them returns; restart libvirtd"
    );
    Error::own(Code::Timeout, message)
}

impl State {
    /// No thread is left, and none may be started.
    fn exhausted(&self) -> bool {
        self.workers == 0 && self.abandoned >= ABANDONED_THREADS_MAX
    }

    /// Takes the connection out, to be dropped once the lock is let go.
    fn take_down(&mut self) -> Link {
        std::mem::replace(&mut self.link, Link::Down { since: Instant::now() })
    }
}

#[cfg(test)]
mod tests;
