//! One connection to libvirt, from opening to closing, and its callbacks.
//!
//! It never decides when to open or to close; `engine` does. Callbacks run on the event thread and
//! only put events into mailboxes or note that the connection is gone.

use std::ffi::{c_int, c_void};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use virt::connect::Connect;
use virt_sys as sys;

use crate::client::Options;
use crate::error::{Code, Error};
use crate::event::{
    AgentState, CloseReason, DomainChange, Event, EventKind, NetworkChange, PoolChange,
};
use crate::text;

/// Takes what the callbacks of a connection report.
pub(crate) trait Sink: Send + Sync {
    /// libvirt reports something.
    fn event(&self, event: Event);
    /// The connection is gone.
    fn closed(&self, generation: u64, reason: CloseReason);
}

/// What libvirt holds for each registered callback; freed by [`free_listener`].
struct Listener {
    sink: Arc<dyn Sink>,
    generation: u64,
}

/// An open connection. Dropping it closes it, on a thread of its own.
pub(crate) struct Conn {
    connect: Option<Connect>,
    /// Counts the connections of a client, from 1.
    pub(crate) generation: u64,
    callbacks: Callbacks,
}

#[derive(Default)]
struct Callbacks {
    domain: Vec<c_int>,
    network: Vec<c_int>,
    pool: Vec<c_int>,
    close: bool,
}

impl Conn {
    /// Opens a connection, sets its keepalive and registers every callback that its driver has.
    /// Blocks for as long as libvirt likes.
    pub(crate) fn open(
        options: &Options,
        generation: u64,
        sink: &Arc<dyn Sink>,
    ) -> Result<Conn, Error> {
        text::refuse_nul(&[&options.uri])?;
        run_event_loop()?;
        let connect = Connect::open(Some(&options.uri))?;
        let keepalive =
            connect.set_keep_alive(options.keepalive_interval_s, options.keepalive_count);
        // From here on a failure drops `conn`, which closes the connection.
        let mut conn = Conn { connect: Some(connect), generation, callbacks: Callbacks::default() };
        unless_unsupported(keepalive.map_err(Error::from))?;
        conn.register(sink)?;
        Ok(conn)
    }

    /// The handle for calls.
    pub(crate) fn connect(&self) -> Result<&Connect, Error> {
        self.connect
            .as_ref()
            .ok_or_else(|| Error::own(Code::ConnectionLost, "the connection is closed"))
    }

    /// Whether the connection still looks open from here; asks nobody.
    pub(crate) fn alive(&self) -> bool {
        self.connect.as_ref().is_some_and(|c| c.is_alive().unwrap_or(false))
    }

    fn register(&mut self, sink: &Arc<dyn Sink>) -> Result<(), Error> {
        let conn = self.connect()?.as_ptr();
        let generation = self.generation;
        // Where a registration fails it is not said whether libvirt has freed this, so it leaks then:
        // some 30 bytes for each opening of a driver without that event.
        let listener = || {
            let listener = Listener { sink: Arc::clone(sink), generation };
            Box::into_raw(Box::new(listener)).cast::<c_void>()
        };

        // SAFETY, for the five calls below: `conn` is open; each callback has the C type that its
        // event id calls for, which the generic type in the signature erases; each gets a
        // `Listener` of its own, which libvirt gives to `free_listener` when it drops the callback.
        let lifecycle = unsafe {
            sys::virConnectDomainEventRegisterAny(
                conn,
                std::ptr::null_mut(),
                sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE.cast_signed(),
                std::mem::transmute::<
                    sys::virConnectDomainEventCallback,
                    sys::virConnectDomainEventGenericCallback,
                >(Some(on_domain)),
                listener(),
                Some(free_listener),
            )
        };
        self.callbacks.domain.extend(registered(lifecycle)?);
        let agent = unsafe {
            sys::virConnectDomainEventRegisterAny(
                conn,
                std::ptr::null_mut(),
                sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE.cast_signed(),
                std::mem::transmute::<
                    sys::virConnectDomainEventAgentLifecycleCallback,
                    sys::virConnectDomainEventGenericCallback,
                >(Some(on_agent)),
                listener(),
                Some(free_listener),
            )
        };
        self.callbacks.domain.extend(registered(agent)?);
        let network = unsafe {
            sys::virConnectNetworkEventRegisterAny(
                conn,
                std::ptr::null_mut(),
                sys::VIR_NETWORK_EVENT_ID_LIFECYCLE.cast_signed(),
                std::mem::transmute::<
                    sys::virConnectNetworkEventLifecycleCallback,
                    sys::virConnectNetworkEventGenericCallback,
                >(Some(on_network)),
                listener(),
                Some(free_listener),
            )
        };
        self.callbacks.network.extend(registered(network)?);
        let pool = unsafe {
            sys::virConnectStoragePoolEventRegisterAny(
                conn,
                std::ptr::null_mut(),
                sys::VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE.cast_signed(),
                std::mem::transmute::<
                    sys::virConnectStoragePoolEventLifecycleCallback,
                    sys::virConnectStoragePoolEventGenericCallback,
                >(Some(on_pool)),
                listener(),
                Some(free_listener),
            )
        };
        self.callbacks.pool.extend(registered(pool)?);
        let close = unsafe {
            sys::virConnectRegisterCloseCallback(
                conn,
                Some(on_close),
                listener(),
                Some(free_listener),
            )
        };
        self.callbacks.close = registered(close)?.is_some();
        Ok(())
    }
}

/// The number of a callback just registered; `None` where the driver has no such events.
fn registered(number: c_int) -> Result<Option<c_int>, Error> {
    if number >= 0 { Ok(Some(number)) } else { unless_unsupported(Err(Error::last())) }
}

fn unless_unsupported<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.code == Code::NoSupport => Ok(None),
        Err(e) => Err(e),
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let Some(connect) = self.connect.take() else {
            return;
        };
        let callbacks = std::mem::take(&mut self.callbacks);
        // Closing asks libvirtd, which may hang until the keepalive gives up. Where no thread can be
        // had the connection stays open: leaking it is better than hanging here.
        let closer = thread::Builder::new().name("libvirt-close".into());
        drop(closer.spawn(move || close(connect, callbacks)));
    }
}

/// Gives back everything that keeps the connection open, and closes it. Failures are those of a
/// connection that is broken already, and change nothing.
fn close(mut connect: Connect, callbacks: Callbacks) {
    let conn = connect.as_ptr();
    for id in callbacks.domain {
        // SAFETY: `conn` is open until the end of this function; the id came from its registration.
        unsafe { sys::virConnectDomainEventDeregisterAny(conn, id) };
    }
    for id in callbacks.network {
        // SAFETY: as above.
        unsafe { sys::virConnectNetworkEventDeregisterAny(conn, id) };
    }
    for id in callbacks.pool {
        // SAFETY: as above.
        unsafe { sys::virConnectStoragePoolEventDeregisterAny(conn, id) };
    }
    if callbacks.close {
        // SAFETY: as above; the function is the one that was registered.
        unsafe { sys::virConnectUnregisterCloseCallback(conn, Some(on_close)) };
    }
    drop(connect.close());
}

/// Starts libvirt's event loop, once for the process: keepalive and all events depend on it, and it
/// must be there before the first connection is opened.
fn run_event_loop() -> Result<(), Error> {
    static STARTED: OnceLock<Result<(), Error>> = OnceLock::new();
    let start = || {
        virt::error::clear_error_callback();
        virt::event::event_register_default_impl()?;
        let started = thread::Builder::new().name("libvirt-events".into()).spawn(|| {
            loop {
                if virt::event::event_run_default_impl().is_err() {
                    // It fails when `poll` does (out of memory); trying again at once would spin.
                    thread::sleep(EVENT_LOOP_PAUSE);
                }
            }
        });
        let failed = |e| Error::own(Code::Other(0), format!("cannot start the event thread: {e}"));
        started.map(drop).map_err(failed)
    };
    STARTED.get_or_init(start).clone()
}

/// How long the event loop rests after it failed.
const EVENT_LOOP_PAUSE: Duration = Duration::from_millis(100);

/// The listener behind `opaque`.
///
/// # Safety
///
/// `opaque` came from `Conn::register` and was not given to [`free_listener`] yet; libvirt holds to
/// this for the time of a callback.
unsafe fn listener<'a>(opaque: *mut c_void) -> &'a Listener {
    // SAFETY: the caller vouches for it.
    unsafe { &*opaque.cast::<Listener>() }
}

/// Gives a listener back once libvirt has dropped its callback.
unsafe extern "C" fn free_listener(opaque: *mut c_void) {
    // SAFETY: libvirt calls this once, for a pointer that `Conn::register` made from a box.
    drop(unsafe { Box::from_raw(opaque.cast::<Listener>()) });
}

/// Defines how to read the name and UUID of one kind of object; both are in the object, so that
/// nothing is asked of libvirtd.
macro_rules! identity {
    ($name:ident, $pointer:ty, $get_name:ident, $get_uuid:ident) => {
        /// Name and UUID.
        ///
        /// # Safety
        ///
        /// `object` is valid during the call.
        unsafe fn $name(object: $pointer) -> (String, String) {
            let mut uuid = [0; sys::VIR_UUID_STRING_BUFLEN as usize];
            // SAFETY: the caller vouches for `object`; the buffer has the length that libvirt
            // documents and stays NUL-terminated also where the call fails.
            unsafe {
                sys::$get_uuid(object, uuid.as_mut_ptr());
                (text::copy(sys::$get_name(object)), text::copy(uuid.as_ptr()))
            }
        }
    };
}

identity!(of_domain, sys::virDomainPtr, virDomainGetName, virDomainGetUUIDString);
identity!(of_network, sys::virNetworkPtr, virNetworkGetName, virNetworkGetUUIDString);
identity!(of_pool, sys::virStoragePoolPtr, virStoragePoolGetName, virStoragePoolGetUUIDString);

unsafe extern "C" fn on_domain(
    _conn: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    change: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: libvirt keeps both valid during the callback.
    let (listener, (name, uuid)) = unsafe { (listener(opaque), of_domain(domain)) };
    let kind = EventKind::Domain { change: DomainChange::of(change), detail };
    listener.sink.event(Event { kind, name, uuid });
    0
}

unsafe extern "C" fn on_agent(
    _conn: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    state: c_int,
    _reason: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt keeps both valid during the callback.
    let (listener, (name, uuid)) = unsafe { (listener(opaque), of_domain(domain)) };
    let kind = EventKind::Agent(AgentState::of(state));
    listener.sink.event(Event { kind, name, uuid });
}

unsafe extern "C" fn on_network(
    _conn: sys::virConnectPtr,
    network: sys::virNetworkPtr,
    change: c_int,
    _detail: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt keeps both valid during the callback.
    let (listener, (name, uuid)) = unsafe { (listener(opaque), of_network(network)) };
    let kind = EventKind::Network(NetworkChange::of(change));
    listener.sink.event(Event { kind, name, uuid });
}

unsafe extern "C" fn on_pool(
    _conn: sys::virConnectPtr,
    pool: sys::virStoragePoolPtr,
    change: c_int,
    _detail: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt keeps both valid during the callback.
    let (listener, (name, uuid)) = unsafe { (listener(opaque), of_pool(pool)) };
    let kind = EventKind::Pool(PoolChange::of(change));
    listener.sink.event(Event { kind, name, uuid });
}

unsafe extern "C" fn on_close(_conn: sys::virConnectPtr, reason: c_int, opaque: *mut c_void) {
    // SAFETY: libvirt keeps it valid during the callback.
    let listener = unsafe { listener(opaque) };
    listener.sink.closed(listener.generation, CloseReason::of(reason));
}
