//! The thread that opens connections, one at a time: however many calls wait while libvirtd hangs,
//! only this thread hangs with it.

use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::clock::OPENING_MAX;
use super::{Engine, Link};
use crate::conn::{Conn, Sink};
use crate::error::{Code, Error};
use crate::event::{CloseReason, Event, EventKind};

/// The pauses between attempts to open a lost connection that no call asks for.
const REOPEN_PAUSE_FIRST: Duration = Duration::from_millis(100);
const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(5);

impl Engine {
    pub(super) fn open_connections(self: Arc<Self>, me: u64) {
        let sink: Arc<dyn Sink> = Arc::new(EngineSink(self.this.clone()));
        let mut pause = REOPEN_PAUSE_FIRST;
        while let Some(generation) = self.wanted_connection(me, pause) {
            let opened = Conn::open(&self.options, generation, &sink).and_then(|conn| {
                let gone = || Error::own(Code::ConnectionLost, "it closed as soon as it opened");
                if conn.alive() { Ok(conn) } else { Err(gone()) }
            });
            let mut state = self.lock();
            if state.opener != me {
                // The clock has put another opener in this one's place.
                state.abandoned -= 1;
                return;
            }
            state.opening = None;
            state.last_attempt = Some(Instant::now());
            match opened {
                Ok(conn) if !state.closed => {
                    pause = REOPEN_PAUSE_FIRST;
                    let conn = Arc::new(conn);
                    state.link = Link::Up(Arc::clone(&conn));
                    if std::mem::replace(&mut state.reopening, true) {
                        // Under the lock, so that no closing can be told before it.
                        self.hub.emit(&Event::of_connection(EventKind::Reopened));
                    }
                    self.work.notify_all();
                    drop(state);
                    // Its end was not heard if it came before it was made the present one.
                    if !conn.alive() {
                        self.give_up(generation, CloseReason::EndOfFile);
                    }
                }
                Ok(_) => return,
                Err(e) => {
                    pause = (pause * 2).min(REOPEN_PAUSE_MAX);
                    // All of them were there during the attempt, so its failure is their answer.
                    let waiting = std::mem::take(&mut state.queue);
                    drop(state);
                    let error = unreachable(e);
                    waiting.iter().for_each(|call| call.answer.fail(error.clone()));
                }
            }
        }
    }

    /// Waits until there is a reason to open a connection: a call waits, or the connection is to be
    /// kept and the pause is over. `None` when the client closed or this opener was replaced.
    fn wanted_connection(&self, me: u64, pause: Duration) -> Option<u64> {
        let mut state = self.lock();
        loop {
            if state.closed || state.opener != me {
                return None;
            }
            let now = Instant::now();
            let wait = match &state.link {
                Link::Up(_) => None,
                Link::Down { .. } if !state.queue.is_empty() => break,
                Link::Down { .. } if !state.keep => None,
                Link::Down { since } => {
                    let due = state.last_attempt.unwrap_or(*since) + pause;
                    // The first attempt needs no pause.
                    if state.generation == 0 || due <= now {
                        break;
                    }
                    Some(due - now)
                }
            };
            state = match wait {
                None => self.opener.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(wait) => {
                    let waited = self.opener.wait_timeout(state, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.generation += 1;
        let now = Instant::now();
        state.opening = Some(now);
        self.wake_clock(&state, now + OPENING_MAX);
        Some(state.generation)
    }
}

/// A connection that cannot be opened is as good as lost, unless libvirt says why it never opens.
fn unreachable(mut error: Error) -> Error {
    let why_never = [Code::AccessDenied, Code::NoSupport, Code::InvalidArgument];
    if !why_never.contains(&error.code) {
        error.code = Code::ConnectionLost;
    }
    error
}

/// What the callbacks of a connection hold: nothing that would keep the client alive.
struct EngineSink(Weak<Engine>);

impl Sink for EngineSink {
    fn event(&self, event: Event) {
        if let Some(engine) = self.0.upgrade() {
            engine.hub.emit(&event);
        }
    }

    fn closed(&self, generation: u64, reason: CloseReason) {
        if let Some(engine) = self.0.upgrade() {
            engine.give_up(generation, reason);
        }
    }
}
