//! The libvirt client of trueup: typed calls with time limits, reconnection and events.
//!
//! XML goes in and comes out as text; this crate knows nothing of trueup's kinds, and decides
//! nothing. In reading order:
//!
//! - [`Client`] (`client`): the handle, its options and how a call is made.
//! - `engine`: the threads behind it: workers, the one that opens connections, the one that
//!   watches the time limits.
//! - `conn`: one connection, from opening to closing, and its callbacks.
//! - `event`: what libvirt reports by itself, and the mailbox it is put into.
//! - `domain`, `network`, `storage`, `host`, `snapshot`, `backup`: the calls, one file a kind of
//!   object.
//! - `error`: what can go wrong.
//!
//! Rules of this crate:
//!
//! - libvirt blocks and cannot be interrupted, so no call runs on the caller's thread, and a call
//!   that outlives its limit loses its thread and its connection.
//! - Methods of `virt` that report success for a failure are not used (`tests/rules.rs` holds
//!   this); nor those that read a pointer which may be null. `virt-sys` takes their place.
//! - `unsafe` stands only where C is called, and states what makes it sound.
//! - Nothing is printed: libvirt's own printing of errors is switched off.
#![expect(
    clippy::disallowed_methods,
    reason = "the shell: it talks to the hypervisor and keeps time limits"
)]

mod backup;
mod client;
mod conn;
mod domain;
mod engine;
mod error;
mod event;
mod host;
mod network;
mod snapshot;
mod storage;
mod text;

pub use client::{CALL_TIMEOUT, Client, Listing, Options, Scope};
pub use domain::{Address, AddressSource, DomainRecord, GuestInterface, RunState, ShutdownMode};
pub use engine::{ABANDONED_THREADS_MAX, QUEUE_MAX};
pub use error::{Code, Error};
pub use event::{
    AgentState, CloseReason, DomainChange, EVENTS_MAX, Event, EventKind, EventReceiver,
    NetworkChange, PoolChange,
};
pub use host::{Host, Version};
pub use network::{Lease, NetworkRecord, NetworkSection, UpdateCommand};
pub use snapshot::SnapshotKind;
pub use storage::{PoolRecord, PoolState, VolumeRecord};
