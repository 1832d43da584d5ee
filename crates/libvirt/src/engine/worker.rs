//! The threads that make the calls.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::{Call, Engine, Link, Running};
use crate::conn::Conn;
use crate::event::CloseReason;

impl Engine {
    pub(super) fn work(self: Arc<Self>) {
        loop {
            let Some((call, conn)) = self.next_call() else {
                return;
            };
            if !conn.alive() {
                // Nothing was asked of libvirt yet, so the call may wait for the next connection.
                self.lock().queue.push_front(call);
                self.give_up(conn.generation, CloseReason::EndOfFile);
                continue;
            }
            let id = {
                let mut state = self.lock();
                state.calls += 1;
                let id = state.calls;
                let running = Running {
                    deadline: Instant::now() + call.limit,
                    limit: call.limit,
                    generation: conn.generation,
                    answer: Arc::clone(&call.answer),
                };
                self.wake_clock(&state, running.deadline);
                state.running.insert(id, running);
                id
            };
            let broken = (call.run)(&conn);
            if broken {
                self.give_up(conn.generation, CloseReason::Error);
            }
            drop(conn);
            let mut state = self.lock();
            if state.running.remove(&id).is_none() {
                // Too late: the clock has answered, and another thread has this one's place.
                state.abandoned -= 1;
                return;
            }
        }
    }

    /// Waits for a call and an open connection; `None` when the client closed.
    fn next_call(&self) -> Option<(Call, Arc<Conn>)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                state.workers -= 1;
                return None;
            }
            if let Link::Up(conn) = &state.link {
                let conn = Arc::clone(conn);
                while let Some(call) = state.queue.pop_front() {
                    if !call.answer.unheard() {
                        return Some((call, conn));
                    }
                }
            }
            state.idle += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}
