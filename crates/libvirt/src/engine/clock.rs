//! The thread that watches the time limits: of calls that run, of calls that wait for a connection,
//! and of the opening of one. It never calls libvirt, so it never hangs.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::{ABANDONED_THREADS_MAX, Answer, Call, Engine, Link, State, exhausted};
use crate::error::{Code, Error};
use crate::event::CloseReason;

/// An opening that takes longer is given up for a new one. A first connection to a daemon that has
/// to probe its emulators takes up to 16 s, several times that under load.
pub(super) const OPENING_MAX: Duration = Duration::from_secs(120);

/// What has outlived its limit.
#[derive(Default)]
struct Expired {
    answers: Vec<(Arc<dyn Answer>, Error)>,
    /// The connections that calls hang on.
    generations: Vec<u64>,
}

impl Engine {
    pub(super) fn watch(self: Arc<Self>) {
        let mut state = self.lock();
        while !state.closed {
            let now = Instant::now();
            let expired = state.expire(now);
            if state.opening.is_some_and(|since| since + OPENING_MAX <= now) {
                self.replace_opener(&mut state);
            }
            if !state.queue.is_empty() && matches!(state.link, Link::Up(_)) {
                // Where no thread can be had, the calls wait for one of those that are left.
                drop(self.start_worker(&mut state));
            }
            let stranded =
                if state.exhausted() { std::mem::take(&mut state.queue) } else { VecDeque::new() };
            if !expired.answers.is_empty() || !stranded.is_empty() {
                drop(state);
                for (answer, error) in expired.answers {
                    answer.fail(error);
                }
                stranded.iter().for_each(|call| call.answer.fail(exhausted()));
                for generation in expired.generations {
                    self.give_up(generation, CloseReason::Timeout);
                }
                state = self.lock();
                continue;
            }
            state.clock_due = state.next_deadline();
            state = match state.clock_due {
                None => self.clock.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let waited = self.clock.wait_timeout(state, due.saturating_duration_since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Puts a new opener in the place of one that hangs.
    fn replace_opener(&self, state: &mut State) {
        let next = state.opener + 1;
        state.opening = if state.abandoned < ABANDONED_THREADS_MAX
            && self.spawn("libvirt-open", move |engine| engine.open_connections(next)).is_ok()
        {
            state.opener = next;
            state.abandoned += 1;
            None
        } else {
            // Look again after as long a time.
            Some(Instant::now())
        };
    }
}

impl State {
    /// Takes out all calls whose time is over.
    fn expire(&mut self, now: Instant) -> Expired {
        let mut expired = Expired::default();
        let over: Vec<u64> =
            self.running.iter().filter(|(_, r)| r.deadline <= now).map(|(id, _)| *id).collect();
        for running in over.iter().filter_map(|id| self.running.remove(id)) {
            self.workers -= 1;
            self.abandoned += 1;
            expired.generations.push(running.generation);
            let message = format!("no answer within {} ms", running.limit.as_millis());
            expired.answers.push((running.answer, Error::own(Code::Timeout, message)));
        }
        if let Link::Down { since } = self.link {
            let (over, waiting) = std::mem::take(&mut self.queue)
                .into_iter()
                .partition::<VecDeque<_>, _>(|call| call.due(since) <= now);
            self.queue = waiting;
            for call in over {
                let message = format!("no connection within {} ms", call.limit.as_millis());
                expired.answers.push((call.answer, Error::own(Code::Timeout, message)));
            }
        }
        expired
    }

    fn next_deadline(&self) -> Option<Instant> {
        let running = self.running.values().map(|r| r.deadline).min();
        let opening = self.opening.map(|since| since + OPENING_MAX);
        let waiting = match self.link {
            Link::Down { since } => self.queue.iter().map(|call| call.due(since)).min(),
            // They wait for the running ones, which have deadlines.
            Link::Up(_) => None,
        };
        [running, opening, waiting].into_iter().flatten().min()
    }
}

impl Call {
    /// When a call gives up waiting for a connection that is down since then.
    fn due(&self, down: Instant) -> Instant {
        self.since.max(down) + self.limit
    }
}
