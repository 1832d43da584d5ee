//! Accounts are asked for rarely: each time that is four programs, which take up to a second each and wait for
//! the database. They are asked for anew when the document wants something else of them, after steps of ours that
//! write them, when somebody waits for a plan, and now and then, as people change them by hand; in between the
//! last answer is as good.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use trueup_slurm::observe::Accounts;

use super::ClusterProvider;
use crate::model::resource::{SlurmCluster, SlurmPlace};
use crate::model::{Digest, ResourceId, digest_of};

/// How long an answer is used, where nothing else says that it may be another one by now.
const KEPT: Duration = Duration::from_secs(300);

/// The last answers, by cluster.
#[derive(Debug, Default)]
pub(super) struct Answers {
    last: HashMap<ResourceId, Answer>,
    /// How often something of ours may have changed accounts: what was asked before that is not kept after it.
    written: u64,
}

#[derive(Debug)]
struct Answer {
    at: Instant,
    question: Question,
    accounts: Arc<Accounts>,
}

/// For what accounts are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    place: SlurmPlace,
    /// What the document wants of them.
    wish: Digest,
}

impl Question {
    fn of(slurm: &SlurmCluster, place: &SlurmPlace) -> Self {
        let wish = &slurm.wish;
        let wanted = (&wish.name, &wish.accounts, &wish.qos, &wish.admins, &wish.accounting);
        Self { place: place.clone(), wish: digest_of(&wanted) }
    }
}

impl Answers {
    /// What was answered, if that is good enough still; `fresh`: somebody waits for what is so now.
    fn current(
        &self,
        id: &ResourceId,
        question: &Question,
        fresh: bool,
        now: Instant,
    ) -> Option<Arc<Accounts>> {
        let last = self.last.get(id)?;
        let is_young = now.saturating_duration_since(last.at) < KEPT;
        (!fresh && is_young && last.question == *question).then(|| Arc::clone(&last.accounts))
    }

    /// Keeps an answer to what was asked when so much had been `written`; none: there was none, and the one before
    /// counts no more.
    fn put(&mut self, id: &ResourceId, written: u64, answer: Option<Answer>) {
        match answer.filter(|_| self.written == written) {
            Some(answer) => drop(self.last.insert(id.clone(), answer)),
            None => drop(self.last.remove(id)),
        }
    }

    /// Something of ours may have changed the accounts of a cluster.
    fn wrote(&mut self, id: &ResourceId) {
        self.last.remove(id);
        self.written += 1;
    }

    /// Lets go of clusters that are no more.
    pub(super) fn retain(&mut self, kept: impl Fn(&ResourceId) -> bool) {
        self.last.retain(|id, _| kept(id));
    }
}

impl ClusterProvider {
    /// The accounts of a cluster: the last answer, or a new one.
    ///
    /// # Errors
    /// Why they cannot be known.
    pub(super) fn accounts(
        &self,
        id: &ResourceId,
        slurm: &SlurmCluster,
        place: &SlurmPlace,
        fresh: bool,
    ) -> Result<Arc<Accounts>, String> {
        let question = Question::of(slurm, place);
        let (last, written) = {
            let answers = self.answers();
            (answers.current(id, &question, fresh, Instant::now()), answers.written)
        };
        if let Some(accounts) = last {
            return Ok(accounts);
        }
        let asked = self.commands(&id.name, place).accounts(&slurm.wish.name).map(Arc::new);
        let answer = asked.as_ref().ok().map(|accounts| Answer {
            at: Instant::now(),
            question,
            accounts: Arc::clone(accounts),
        });
        self.answers().put(id, written, answer);
        asked.map_err(|error| format!("its accounting: {error}"))
    }

    /// Something of ours may have changed the accounts of a cluster, whatever came of it.
    pub(super) fn wrote_accounts(&self, id: &ResourceId) {
        self.answers().wrote(id);
    }

    pub(super) fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(wish: &str) -> Question {
        Question { place: SlurmPlace::default(), wish: Digest::of(wish) }
    }

    fn answer(at: Instant) -> Option<Answer> {
        Some(Answer { at, question: question("one"), accounts: Arc::default() })
    }

    #[test]
    fn an_answer_counts_until_something_says_that_it_may_be_another_one() {
        let (hpc, other): (ResourceId, ResourceId) =
            ("cluster/hpc".parse().unwrap(), "cluster/other".parse().unwrap());
        let mut answers = Answers::default();
        let start = Instant::now();
        let known = |answers: &Answers, id, wish: &str, fresh, seconds| {
            let now = start + Duration::from_secs(seconds);
            answers.current(id, &question(wish), fresh, now).is_some()
        };
        assert!(!known(&answers, &hpc, "one", false, 0), "nobody asked");
        answers.put(&hpc, 0, answer(start));
        assert!(known(&answers, &hpc, "one", false, 0));
        assert!(known(&answers, &hpc, "one", false, KEPT.as_secs() - 1));
        assert!(!known(&answers, &hpc, "one", false, KEPT.as_secs()));
        assert!(!known(&answers, &hpc, "two", false, 1), "another wish");
        assert!(!known(&answers, &hpc, "one", true, 1), "somebody waits for it");
        assert!(!known(&answers, &other, "one", false, 1));
        answers.put(&other, 0, answer(start));
        answers.wrote(&hpc);
        assert!(!known(&answers, &hpc, "one", false, 1), "our own step");
        assert!(known(&answers, &other, "one", false, 1));
        // What was asked before a step and comes after it may be of before.
        answers.put(&hpc, 0, answer(start));
        assert!(!known(&answers, &hpc, "one", false, 1));
        answers.put(&hpc, 1, answer(start));
        assert!(known(&answers, &hpc, "one", false, 1));
        // A database that does not answer is not taken for one that did.
        answers.put(&hpc, 1, None);
        assert!(!known(&answers, &hpc, "one", false, 1));
        answers.retain(|id| *id == hpc);
        assert!(!known(&answers, &other, "one", false, 1));
    }
}
