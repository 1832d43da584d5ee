//! Asking the repository beside the loop: a remote that is slow, or hangs, delays nothing.
//!
//! It never asks twice at once, and never gives an answer out twice.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::flight::Flights;
use crate::model::{CommitId, Fault};
use crate::port::{Head, Source};

/// What the repository said.
pub(super) type Polled = Result<Head, Fault>;

/// The question to the repository that is under way, if one is.
#[derive(Default)]
pub(super) struct Fetch {
    asked: Arc<Mutex<Asked>>,
    arrived: Arc<Notify>,
}

#[derive(Default)]
struct Asked {
    task: Option<tokio::task::JoinHandle<()>>,
    answer: Option<Polled>,
    // Nobody waits for the answer: it wakes the loop.
    left: bool,
    // It was asked for again meanwhile: the answer may be from before the news.
    again: bool,
}

fn lock(asked: &Mutex<Asked>) -> MutexGuard<'_, Asked> {
    // Every change is made in one go: a panic elsewhere cannot leave it half-done.
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fetch {
    /// Asks, unless that is under way already.
    pub(super) fn ask(&self, source: &Arc<dyn Source>, have: Option<CommitId>, news: &Flights) {
        let mut asked = lock(&self.asked);
        if asked.task.is_some() {
            asked.again = true;
            return;
        }
        asked.left = false;
        let (source, news) = (Arc::clone(source), news.clone());
        let (shared, arrived) = (Arc::clone(&self.asked), Arc::clone(&self.arrived));
        let poll = tokio::spawn(async move { source.poll(have).await });
        asked.task = Some(tokio::spawn(async move {
            let answer = poll.await.unwrap_or_else(|error| {
                Err(Fault::transient(format!("asking the repository did not end: {error}")))
            });
            let left = {
                let mut asked = lock(&shared);
                asked.answer = Some(answer);
                asked.left
            };
            arrived.notify_one();
            if left {
                news.tell();
            }
        }));
    }

    /// Resolves when there is an answer to take.
    pub(super) async fn arrived(&self) {
        while lock(&self.asked).answer.is_none() {
            self.arrived.notified().await;
        }
    }

    /// The answer, if there is one, and whether to ask again.
    pub(super) fn take(&self) -> Option<(Polled, bool)> {
        let mut asked = lock(&self.asked);
        let answer = asked.answer.take()?;
        asked.task = None;
        Some((answer, std::mem::take(&mut asked.again)))
    }

    /// Goes on without the answer: it wakes the loop when it comes.
    pub(super) fn leave(&self) {
        lock(&self.asked).left = true;
    }

    /// Whether an answer is still to come.
    pub(super) fn is_out(&self) -> bool {
        let asked = lock(&self.asked);
        asked.task.is_some() && asked.answer.is_none()
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Some(task) = &lock(&self.asked).task {
            task.abort();
        }
    }
}
