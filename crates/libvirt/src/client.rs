//! The handle: its options, and how a call is made.
//!
//! Cloning is cheap; all clones share one connection and its threads, which end with the last of
//! them. Nothing connects before the first call or the first [`Client::events`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use virt::connect::Connect;
use virt_sys as sys;

use crate::engine::Engine;
use crate::error::Error;
use crate::event::EventReceiver;
use crate::text;

/// The usual time limit of a call. libvirt gives up waiting for a busy domain after 30 s and says
/// so; a limit below that would take the connection down for it.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(45);

/// How to reach libvirt, and with what patience.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connection URI (`qemu:///system`).
    pub uri: String,
    /// How long one call may run; see [`Client::with_limit`].
    pub call_timeout: Duration,
    /// Seconds without a sign of life after which libvirtd is asked for one.
    pub keepalive_interval_s: i32,
    /// How many such questions in a row may stay unanswered before the connection is dropped.
    pub keepalive_count: u32,
    /// How many calls may run at once. libvirtd works on 5 calls of a connection at a time
    /// (`max_client_requests`), so more gain nothing.
    pub threads: usize,
}

impl Options {
    /// The usual options for a URI: libvirtd's own keepalive (5 s, 5 times) and four threads.
    #[must_use]
    pub fn new(uri: impl Into<String>) -> Options {
        Options {
            uri: uri.into(),
            call_timeout: CALL_TIMEOUT,
            keepalive_interval_s: 5,
            keepalive_count: 5,
            threads: 4,
        }
    }
}

/// A list of which every member is accounted for.
#[derive(Debug, Clone)]
pub struct Listing<T> {
    /// What could be read.
    pub items: Vec<T>,
    /// What is there but could not be read: its name, and why. What disappeared while the list was
    /// made is in neither.
    pub failed: Vec<(String, Error)>,
}

impl<T> Listing<T> {
    pub(crate) fn with_capacity(capacity: usize) -> Listing<T> {
        Listing { items: Vec::with_capacity(capacity), failed: Vec::new() }
    }

    /// Files one member. A lost connection fails the whole list: nothing more can be read.
    pub(crate) fn file(&mut self, name: &str, item: Result<T, Error>) -> Result<(), Error> {
        match item {
            Ok(item) => self.items.push(item),
            Err(e) if e.is_absent() => {}
            Err(e) if e.connection_lost() || e.is_transport() => return Err(e),
            Err(e) => self.failed.push((name.to_owned(), e)),
        }
        Ok(())
    }
}

/// Which form of an object a change is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The running one where it runs, the stored one otherwise.
    Current,
    /// The running one only; lost when it stops.
    Live,
    /// The stored one only; in force from its next start.
    Config,
    /// Both.
    Both,
}

impl Scope {
    /// As `virDomainModificationImpact`, whose numbers the device and network flags share.
    pub(crate) fn flags(self) -> u32 {
        match self {
            Scope::Current => sys::VIR_DOMAIN_AFFECT_CURRENT,
            Scope::Live => sys::VIR_DOMAIN_AFFECT_LIVE,
            Scope::Config => sys::VIR_DOMAIN_AFFECT_CONFIG,
            Scope::Both => sys::VIR_DOMAIN_AFFECT_LIVE | sys::VIR_DOMAIN_AFFECT_CONFIG,
        }
    }
}

/// What XML is checked by. Each may be in a daemon of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Schema {
    Domain,
    Network,
    Pool,
}

/// A client of one libvirt daemon.
///
/// Every method is one call with one time limit, made on a thread of the client's own; the futures
/// work under any runtime. A future dropped before its call began takes the call back; later, the
/// call goes on unheard. After [`crate::Code::Timeout`] and [`crate::Code::ConnectionLost`] the
/// outcome of a call that changes something is unknown: look again.
#[derive(Clone)]
pub struct Client {
    engine: Arc<EngineGuard>,
    limit: Duration,
}

/// Stops the engine with the last clone of the client; its threads hold the engine, not this.
struct EngineGuard(Arc<Engine>);

impl Drop for EngineGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that is not connected yet.
    #[must_use]
    pub fn new(options: Options) -> Client {
        let limit = options.call_timeout;
        Client { engine: Arc::new(EngineGuard(Engine::new(options))), limit }
    }

    /// The same client with another time limit for the calls made through this handle, for those
    /// that take long by nature (a volume to allocate, a memory image to save).
    #[must_use]
    pub fn with_limit(&self, limit: Duration) -> Client {
        Client { engine: Arc::clone(&self.engine), limit }
    }

    /// The events from now on. It also keeps the connection open from now on: a lost one is opened
    /// again without a call asking for it, and [`crate::EventKind::Reopened`] says so.
    #[must_use]
    pub fn events(&self) -> EventReceiver {
        self.engine.0.subscribe()
    }

    /// Makes a call within this handle's limit.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        call: &'static str,
        object: &str,
        arguments: &[&str],
        act: impl FnOnce(&Connect) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.call_within(self.limit, call, object, arguments, act).await
    }

    /// Makes a call within `limit`; `arguments` are checked for what C cannot carry.
    pub(crate) async fn call_within<T: Send + 'static>(
        &self,
        limit: Duration,
        call: &'static str,
        object: &str,
        arguments: &[&str],
        act: impl FnOnce(&Connect) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let named = |e: Error| e.during(call, object);
        text::refuse_nul(&[object]).map_err(named)?;
        text::refuse_nul(arguments).map_err(named)?;
        let answer = self.engine.0.submit(limit, act).map_err(named)?;
        match answer.await {
            Ok(result) => result.map_err(named),
            Err(_) => Err(named(Error::own(
                crate::error::Code::Closed,
                "the client was closed before the call ended",
            ))),
        }
    }

    /// Makes a call that has libvirt check XML by a schema. The first ones go one after another.
    ///
    /// libxml2 makes its tables of types when a schema first asks for one, and under no lock
    /// (`xmlRelaxNGInitTypes`, `xmlSchemaInitTypes`): of two that ask at once, one finds a table that
    /// is not whole, and libvirt says of sound XML that it cannot parse the schema.
    pub(crate) async fn checked<T: Send + 'static>(
        &self,
        schema: Schema,
        call: &'static str,
        arguments: &[&str],
        act: impl FnOnce(&Connect) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        static USED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];
        let used = &USED[schema as usize];
        let turn = match used.load(Ordering::Acquire) {
            true => None,
            // Whatever came of the first one: behind one that hangs nobody waits for longer than its limit.
            false => Some(TURN.lock().await).filter(|_| !used.load(Ordering::Acquire)),
        };
        let done = self.call(call, "", arguments, act).await;
        used.store(true, Ordering::Release);
        drop(turn);
        done
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }
}
