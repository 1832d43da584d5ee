//! What libvirt reports by itself, and the mailbox it is put into.
//!
//! An event is a reason to look again, never a fact to act upon: it may be late, merged with
//! another or lost with a connection. Nothing here blocks the thread that delivers it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use virt_sys as sys;

/// Events a receiver may leave unread; beyond it they are replaced by one [`EventKind::Missed`].
/// A thousand is far more than a pass of the owner takes to read, and costs under 200 KiB.
pub const EVENTS_MAX: usize = 1024;

/// Something happened in libvirt, or to the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The object's name; empty for the connection.
    pub name: String,
    /// The object's UUID; empty for the connection.
    pub uuid: String,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A domain changed; `detail` is the number libvirt gives with that change.
    Domain {
        /// The change.
        change: DomainChange,
        /// `virDomainEvent…DetailType` of that change.
        detail: i32,
    },
    /// A network changed.
    Network(NetworkChange),
    /// A storage pool changed.
    Pool(PoolChange),
    /// The guest agent of a domain came or went.
    Agent(AgentState),
    /// The connection is gone; calls fail until it is open again.
    ConnectionClosed(CloseReason),
    /// The connection is open again: whatever happened in between was not reported.
    Reopened,
    /// More than [`EVENTS_MAX`] events were left unread; all of them were dropped.
    Missed,
}

/// `virDomainEventType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are libvirt's own")]
pub enum DomainChange {
    Defined,
    Undefined,
    Started,
    Suspended,
    Resumed,
    Stopped,
    Shutdown,
    PmSuspended,
    Crashed,
    Other(i32),
}

/// `virNetworkEventLifecycleType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are libvirt's own")]
pub enum NetworkChange {
    Defined,
    Undefined,
    Started,
    Stopped,
    Other(i32),
}

/// `virStoragePoolEventLifecycleType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are libvirt's own")]
pub enum PoolChange {
    Defined,
    Undefined,
    Started,
    Stopped,
    Created,
    Deleted,
    Other(i32),
}

/// `virConnectDomainEventAgentLifecycleState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are libvirt's own")]
pub enum AgentState {
    Connected,
    Disconnected,
    Other(i32),
}

/// Why the connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// An error on the socket.
    Error,
    /// libvirtd closed it (it ended, or was restarted).
    EndOfFile,
    /// libvirtd answered no keepalive.
    Keepalive,
    /// A call outlived its time limit.
    Timeout,
    /// A number this crate does not know.
    Other(i32),
}

/// Names an enum's variants from libvirt's numbers; what is not listed is `Other`.
macro_rules! numbered {
    ($type:ident { $($constant:ident => $variant:ident,)* }) => {
        impl $type {
            pub(crate) fn of(number: i32) -> $type {
                $(if number == sys::$constant.cast_signed() {
                    return $type::$variant;
                })*
                $type::Other(number)
            }
        }
    };
}

numbered!(DomainChange {
    VIR_DOMAIN_EVENT_DEFINED => Defined,
    VIR_DOMAIN_EVENT_UNDEFINED => Undefined,
    VIR_DOMAIN_EVENT_STARTED => Started,
    VIR_DOMAIN_EVENT_SUSPENDED => Suspended,
    VIR_DOMAIN_EVENT_RESUMED => Resumed,
    VIR_DOMAIN_EVENT_STOPPED => Stopped,
    VIR_DOMAIN_EVENT_SHUTDOWN => Shutdown,
    VIR_DOMAIN_EVENT_PMSUSPENDED => PmSuspended,
    VIR_DOMAIN_EVENT_CRASHED => Crashed,
});
numbered!(NetworkChange {
    VIR_NETWORK_EVENT_DEFINED => Defined,
    VIR_NETWORK_EVENT_UNDEFINED => Undefined,
    VIR_NETWORK_EVENT_STARTED => Started,
    VIR_NETWORK_EVENT_STOPPED => Stopped,
});
numbered!(PoolChange {
    VIR_STORAGE_POOL_EVENT_DEFINED => Defined,
    VIR_STORAGE_POOL_EVENT_UNDEFINED => Undefined,
    VIR_STORAGE_POOL_EVENT_STARTED => Started,
    VIR_STORAGE_POOL_EVENT_STOPPED => Stopped,
    VIR_STORAGE_POOL_EVENT_CREATED => Created,
    VIR_STORAGE_POOL_EVENT_DELETED => Deleted,
});
numbered!(AgentState {
    VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED => Connected,
    VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_DISCONNECTED => Disconnected,
});
numbered!(CloseReason {
    VIR_CONNECT_CLOSE_REASON_ERROR => Error,
    VIR_CONNECT_CLOSE_REASON_EOF => EndOfFile,
    VIR_CONNECT_CLOSE_REASON_KEEPALIVE => Keepalive,
});

/// All receivers of one client.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    mailboxes: Mutex<Vec<Weak<Mailbox>>>,
}

#[derive(Debug, Default)]
struct Mailbox {
    content: Mutex<Content>,
    wake: Notify,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Content {
    events: VecDeque<Event>,
    closed: bool,
}

impl Hub {
    /// A new receiver, which sees the events from now on.
    pub(crate) fn subscribe(&self) -> EventReceiver {
        let mailbox = Arc::new(Mailbox::default());
        let mut mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        mailboxes.retain(|m| m.strong_count() > 0);
        mailboxes.push(Arc::downgrade(&mailbox));
        EventReceiver { mailbox }
    }

    /// Puts the event into every mailbox.
    pub(crate) fn emit(&self, event: &Event) {
        self.each(|content| {
            // A burst of equal events says no more than one of them.
            if content.events.back() == Some(event) {
                return;
            }
            if content.events.len() >= EVENTS_MAX {
                content.events.clear();
                content.events.push_back(Event::of_connection(EventKind::Missed));
            }
            content.events.push_back(event.clone());
        });
    }

    /// Ends every receiver.
    pub(crate) fn close(&self) {
        self.each(|content| content.closed = true);
    }

    fn each(&self, act: impl Fn(&mut Content)) {
        let mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        for mailbox in mailboxes.iter().filter_map(Weak::upgrade) {
            act(&mut mailbox.content.lock().unwrap_or_else(PoisonError::into_inner));
            mailbox.wake.notify_one();
            mailbox.arrived.notify_all();
        }
    }
}

impl Event {
    pub(crate) fn of_connection(kind: EventKind) -> Event {
        Event { kind, name: String::new(), uuid: String::new() }
    }
}

/// Receives the events of one client.
#[derive(Debug)]
pub struct EventReceiver {
    mailbox: Arc<Mailbox>,
}

impl EventReceiver {
    /// The next event; `None` once the client is gone and all was read. Dropping the future loses
    /// no event.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            {
                let mut content = self.content();
                if let Some(event) = content.events.pop_front() {
                    return Some(event);
                }
                if content.closed {
                    return None;
                }
            }
            // Puts made since the look above left a permit, so this returns at once for them.
            self.mailbox.wake.notified().await;
        }
    }

    /// The next event if one arrives within `limit`; blocks the thread.
    pub fn next_blocking(&mut self, limit: Duration) -> Option<Event> {
        let content = self.content();
        let (mut content, _) = self
            .mailbox
            .arrived
            .wait_timeout_while(content, limit, |c| c.events.is_empty() && !c.closed)
            .unwrap_or_else(PoisonError::into_inner);
        content.events.pop_front()
    }

    fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.mailbox.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str) -> Event {
        let kind = EventKind::Network(NetworkChange::Started);
        Event { kind, name: name.to_owned(), uuid: String::new() }
    }

    #[test]
    fn a_full_mailbox_says_that_it_missed_events() {
        let hub = Hub::default();
        let mut receiver = hub.subscribe();
        for n in 0..=EVENTS_MAX {
            hub.emit(&network(&n.to_string()));
        }
        let first = receiver.next_blocking(Duration::ZERO).unwrap();
        assert_eq!(first.kind, EventKind::Missed);
        assert_eq!(receiver.next_blocking(Duration::ZERO).unwrap().name, EVENTS_MAX.to_string());
        assert_eq!(receiver.next_blocking(Duration::ZERO), None);
    }

    #[test]
    fn equal_events_in_a_row_are_one() {
        let hub = Hub::default();
        let mut receiver = hub.subscribe();
        for name in ["a", "a", "b", "a"] {
            hub.emit(&network(name));
        }
        let names: Vec<_> =
            std::iter::from_fn(|| receiver.next_blocking(Duration::ZERO)).map(|e| e.name).collect();
        assert_eq!(names, ["a", "b", "a"]);
    }

    #[test]
    fn numbers_without_a_name_are_kept() {
        assert_eq!(DomainChange::of(2), DomainChange::Started);
        assert_eq!(DomainChange::of(99), DomainChange::Other(99));
        assert_eq!(CloseReason::of(-3), CloseReason::Other(-3));
    }
}
