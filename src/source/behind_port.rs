//! The mirror behind `port::Source`: when to ask the remote, and everything blocking on its own
//! thread.
//!
//! It never asks the remote before its time: between two polls the last answer stands, so that a
//! pass woken by the machine costs the remote nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::chain;
use super::history::Relation as Found;
use super::{
    CommitInfo, EntryKind, GitPulls, Mirror, PollSchedule, PullSettings, SignaturePolicy,
    SourceError, Tree, TreeError, TreeLimits, TreeProblem, id,
};
use crate::model::{CommitId, Fault};
use crate::port::{BoxFuture, Clock, FileRef, Head, Problem, Relation, Source, TreeFault};

/// A mirror that is polled in its own time.
pub struct GitSource {
    inner: Arc<Inner>,
}

struct Inner {
    mirror: Mirror,
    limits: TreeLimits,
    signatures: Option<SignaturePolicy>,
    clock: Arc<dyn Clock>,
    polled: Mutex<Polled>,
    listing: Mutex<Option<Arc<Tree>>>,
    verified: Mutex<Option<Verdict>>,
}

/// Who signed a commit, as it was between two polls: keys may be added and taken away.
#[derive(Clone)]
struct Verdict {
    commit: id::CommitId,
    poll: u64,
    signer: Result<Option<String>, String>,
}

struct Polled {
    schedule: PollSchedule,
    last: Option<Result<id::CommitId, Fault>>,
    // A push that is noticed while the remote is being asked may have come too late for the answer.
    hurried: u64,
    // How often the remote was asked.
    polls: u64,
}

impl GitSource {
    /// A source over `mirror`, asked when `schedule` says so. `signatures`: required of the head.
    pub fn new(
        mirror: Mirror,
        limits: TreeLimits,
        signatures: Option<SignaturePolicy>,
        clock: Arc<dyn Clock>,
        schedule: PollSchedule,
    ) -> Self {
        let polled = Mutex::new(Polled { schedule, last: None, hurried: 0, polls: 0 });
        let (listing, verified) = (Mutex::new(None), Mutex::new(None));
        let inner = Inner { mirror, limits, signatures, clock, polled, listing, verified };
        Self { inner: Arc::new(inner) }
    }

    /// The repository's pull requests, kept in the same mirror.
    ///
    /// # Errors
    /// As [`GitPulls::new`].
    pub fn pulls(&self, settings: PullSettings) -> Result<GitPulls, SourceError> {
        GitPulls::new(self.inner.mirror.clone(), self.inner.limits, settings)
    }

    /// Where the mirror is.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        &self.inner.mirror.config().directory
    }

    /// The address of the repository's host, where its URL says it.
    #[must_use]
    pub fn host_address(&self) -> Option<std::net::IpAddr> {
        self.inner.mirror.config().host_address()
    }

    /// There may be news: the next poll asks the remote.
    pub fn hurry(&self) {
        let now = self.inner.clock.monotonic();
        let mut polled = lock(&self.inner.polled);
        polled.schedule.hurry(now);
        polled.hurried += 1;
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result,
            Err(error) => Err(Fault::transient(format!("reading the repository failed: {error}"))),
        }
    }
}

impl Inner {
    fn poll(&self, have: Option<&CommitId>) -> Result<Head, Fault> {
        let offered = self.offered()?;
        let info = self.mirror.commit(offered).map_err(|error| fault(&error))?;
        let relation = match have {
            None => Relation::First,
            Some(have) => self.relation(have, offered)?,
        };
        // Also of the commit in force: signatures may be required since, or its key taken away.
        let signer = self.signer(offered);
        head(&info, self.mirror.repository(), relation, signer)
    }

    /// Who signed a commit, where signatures are required; looked at anew with every poll.
    fn signer(&self, commit: id::CommitId) -> Result<Option<String>, String> {
        let Some(policy) = &self.signatures else { return Ok(None) };
        let poll = lock(&self.polled).polls;
        let known = lock(&self.verified).clone();
        if let Some(known) = known.filter(|known| known.commit == commit && known.poll == poll) {
            return known.signer;
        }
        let signer = match self.mirror.verify(commit, policy) {
            Ok(verified) => Ok(Some(verified.signer)),
            Err(rejection) => Err(chain(&rejection)),
        };
        *lock(&self.verified) = Some(Verdict { commit, poll, signer: signer.clone() });
        signer
    }

    /// The remote's head, asked for when it is time; else the last answer.
    fn offered(&self) -> Result<id::CommitId, Fault> {
        let now = self.clock.monotonic();
        let hurried = {
            let polled = lock(&self.polled);
            if !polled.schedule.is_due(now)
                && let Some(last) = &polled.last
            {
                return last.clone();
            }
            polled.hurried
        };
        // Not held while the remote is asked: a push must be able to say "hurry" meanwhile.
        // One conversation: a remote that has nothing new is asked no more than for its head.
        let answer = self.mirror.fetch().map(|got| got.head);
        let answer = answer.map_err(|error| Fault::unobservable(chain(&error)));
        let now = self.clock.monotonic();
        let mut polled = lock(&self.polled);
        match &answer {
            Ok(_) => polled.schedule.succeeded(now),
            Err(_) => polled.schedule.failed(now),
        }
        polled.polls += 1;
        if polled.hurried != hurried {
            polled.schedule.hurry(now);
        }
        polled.last = Some(answer.clone());
        answer
    }

    fn relation(&self, have: &CommitId, offered: id::CommitId) -> Result<Relation, Fault> {
        let found =
            self.mirror.relation(inner_id(have)?, offered).map_err(|error| fault(&error))?;
        Ok(match found {
            Found::Same => Relation::Same,
            Found::Ahead => Relation::Ahead,
            Found::Behind => Relation::Behind,
            Found::Diverged => Relation::Diverged,
        })
    }

    fn files(&self, commit: &CommitId) -> Result<Vec<FileRef>, TreeFault> {
        let commit = inner_id(commit).map_err(TreeFault::Mirror)?;
        let before = lock(&self.listing).clone();
        let listed = match &before {
            Some(before) => self.mirror.tree_from(before, commit, &self.limits),
            None => self.mirror.tree(commit, &self.limits),
        };
        let tree = listed.map_err(|error| match error {
            TreeError::Source(error) => TreeFault::Mirror(fault(&error)),
            TreeError::Refused { problems, .. } => {
                TreeFault::Refused(problems.iter().map(problem).collect())
            }
        })?;
        let files = tree.entries().iter().map(|entry| FileRef {
            path: entry.path.to_string(),
            blob: entry.blob.to_string(),
            size: entry.size,
            executable: entry.kind == EntryKind::Executable,
        });
        let files = files.collect();
        *lock(&self.listing) = Some(Arc::new(tree));
        Ok(files)
    }

    fn blobs(&self, wanted: &[String]) -> Result<Vec<Arc<[u8]>>, Fault> {
        let read = |blob: &String| {
            let id = blob.parse::<id::BlobId>().map_err(|error| Fault::permanent(chain(&error)))?;
            self.mirror.blob(&id).map(Arc::from).map_err(|error| fault(&error))
        };
        wanted.iter().map(read).collect()
    }
}

fn head(
    info: &CommitInfo,
    repository: String,
    relation: Relation,
    signer: Result<Option<String>, String>,
) -> Result<Head, Fault> {
    let time = jiff::Timestamp::from_second(info.author.seconds)
        .map_or_else(|_| info.author.seconds.to_string(), |time| time.to_string());
    Ok(Head {
        commit: outer_id(info.id)?,
        repository,
        relation,
        author: format!("{} <{}>", info.author.name, info.author.email),
        time,
        subject: info.subject.clone(),
        signer,
    })
}

/// Every problem of a tree begins with its path.
pub(super) fn problem(problem: &TreeProblem) -> Problem {
    let text = problem.to_string();
    let (path, message) = text.split_once(": ").unwrap_or(("", &text));
    let path = path.trim_matches('"').to_owned();
    Problem { path, line: 0, column: 0, message: message.to_owned() }
}

pub(super) fn inner_id(commit: &CommitId) -> Result<id::CommitId, Fault> {
    commit.as_str().parse::<id::CommitId>().map_err(|error| Fault::permanent(chain(&error)))
}

pub(super) fn outer_id(commit: id::CommitId) -> Result<CommitId, Fault> {
    commit.to_string().parse().map_err(|error| Fault::permanent(format!("{error}")))
}

pub(super) fn fault(error: &SourceError) -> Fault {
    if error.is_transient() {
        Fault::transient(chain(error))
    } else {
        Fault::permanent(chain(error))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every update is a single assignment: a panic elsewhere cannot leave it half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source for GitSource {
    fn poll(&self, have: Option<CommitId>) -> BoxFuture<'_, Result<Head, Fault>> {
        Box::pin(self.blocking(move |inner| inner.poll(have.as_ref())))
    }

    fn vouch(&self, commit: CommitId) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            if self.inner.signatures.is_none() {
                return Ok(());
            }
            let work = self.blocking(move |inner| Ok(inner.signer(inner_id(&commit)?).map(|_| ())));
            work.await.unwrap_or_else(|fault| Err(fault.to_string()))
        })
    }

    fn files(&self, commit: CommitId) -> BoxFuture<'_, Result<Vec<FileRef>, TreeFault>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            match tokio::task::spawn_blocking(move || inner.files(&commit)).await {
                Ok(result) => result,
                Err(error) => {
                    let why = format!("listing the repository failed: {error}");
                    Err(TreeFault::Mirror(Fault::transient(why)))
                }
            }
        })
    }

    fn tree(&self, commit: CommitId) -> BoxFuture<'_, Result<String, Fault>> {
        Box::pin(self.blocking(move |inner| {
            let info = inner.mirror.commit(inner_id(&commit)?);
            info.map(|info| info.tree.to_string()).map_err(|error| fault(&error))
        }))
    }

    fn blobs(&self, wanted: Vec<String>) -> BoxFuture<'_, Result<Vec<Arc<[u8]>>, Fault>> {
        Box::pin(self.blocking(move |inner| inner.blobs(&wanted)))
    }

    fn keep(&self, commits: Vec<CommitId>) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.blocking(move |inner| {
            let commits = commits.iter().map(inner_id).collect::<Result<Vec<_>, _>>()?;
            inner.mirror.keep(&commits).map_err(|error| fault(&error))
        }))
    }
}
