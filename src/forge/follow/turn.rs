//! One turn: who is there, what would merging do, note it; then say what is to be said.
//!
//! It acts on nothing but the forge and the log: a pull request never changes the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::approvals::Heard;
use super::foresee::Foreseen;
use super::forks::Labelled;
use super::ground::ground;
use super::late::{PutOff, Unseen};
use super::post::{Place, Said, say, web_address};
use super::report::Report;
use super::round::Round;
use super::seen::{Basis, beyond, events_of_list, missing, stale};
use super::wanted::{Sight, Want, What, wanted};
use crate::config::{ApprovalSettings, ForkSettings};
use crate::event::body::{ForgeAvailable, ForgePosted, ForgeRefused, ForgeUnavailable, PostTarget};
use crate::event::{Entry, Event};
use crate::forge::render::Instance;
use crate::model::CommitId;
use crate::port::forge::{Forge, ForgeError, ForgeFault, PullRequest, PullState};
use crate::port::{BlobStore, BoxFuture, Clock, JournalFault, Pulls, Source, Wanted};
use crate::reconcile::Reconciler;
use crate::spec::ParseCache;

/// At most one write a second, as GitHub asks of its clients.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);
/// Wait after the forge did not answer: the first, doubled each time, and the longest.
const BACKOFF_S: (u64, u64) = (5, 300);
/// The longest that one turn plans, and the longest that it speaks, beyond the one that is under way:
/// then who is there is asked again, so that a push is seen within a poll however much there is to do.
const SHARE: Duration = Duration::from_secs(5);
/// Wait before a post is tried again that the forge refused: a person may have given the permission.
pub(super) const REFUSED_WAIT: Duration = Duration::from_secs(3_600);

/// What is followed, and how.
pub struct Follower {
    /// The forge.
    pub forge: Arc<dyn Forge>,
    /// The Git side of pull requests.
    pub pulls: Arc<dyn Pulls>,
    /// The repository.
    pub source: Arc<dyn Source>,
    /// Where reports are kept.
    pub blobs: Arc<dyn BlobStore>,
    /// Looks at the machine and plans; its log is the log.
    pub reconciler: Arc<Reconciler>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The name of this host, which speaks.
    pub host: String,
    /// The followed branch, without `refs/heads/`.
    pub branch: String,
    /// What becomes of heads of forks.
    pub forks: ForkSettings,
    /// Who may approve on the forge, and how; `None`: nobody.
    pub approvals: Option<ApprovalSettings>,
    /// Makes the loop look, when something was approved.
    pub wake: Arc<dyn Fn() + Send + Sync>,
    /// What is remembered between turns; begins as nothing.
    pub memory: Memory,
}

/// What is remembered between turns; losing it costs work, never correctness.
#[derive(Debug, Default)]
pub struct Memory {
    pub(super) instance: Option<Instance>,
    pub(super) planned: BTreeMap<u64, Basis>,
    pub(super) cache: ParseCache,
    /// Files of the pull requests that were looked at last, by blob.
    pub(super) contents: BTreeMap<String, Arc<[u8]>>,
    pub(super) heard: Heard,
    pub(super) listed: Vec<PullRequest>,
    /// Forks that somebody put the label on, or not.
    pub(super) labelled: BTreeMap<u64, Labelled>,
    /// Heads that are not taken, by pull request, and why; not asked for again.
    pub(super) untaken: BTreeMap<u64, (CommitId, String)>,
    /// Pull requests that could not be looked at, and when they are tried again.
    pub(super) put_off: BTreeMap<u64, PutOff>,
    /// When they are looked at again because of the machine.
    round: Round,
    /// Heads that are fetched in one go while one of them is suspected; `None`: all.
    fetch_at_once: Option<usize>,
    tries: u32,
    parked_until: Option<Duration>,
    last_write: Arc<Mutex<Option<Duration>>>,
    refused: BTreeMap<PostTarget, Duration>,
}

/// What a fetch brought.
struct Brought {
    heads: BTreeMap<u64, CommitId>,
    // Whether there are heads that were not asked for yet.
    left: bool,
}

impl Follower {
    /// One turn; how long to wait for the next at most, where something is parked.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub async fn turn(&mut self) -> Result<Option<Duration>, JournalFault> {
        if let Some(wait) = self.parked() {
            return Ok(Some(wait));
        }
        // Which environment this host has is only known once a commit is in force.
        let environment = self.reconciler.ledger.read(|state| state.spec.environment.clone());
        let Some(environment) = environment else { return Ok(None) };
        self.memory.instance = Some(Instance { host: self.host.clone(), environment });
        self.prick_up();
        if let Err(error) = self.list().await? {
            return Ok(Some(self.park(&error).await?));
        }
        if let Err(error) = self.hear().await? {
            return Ok(Some(self.park(&error).await?));
        }
        let more = self.plan_stale().await?;
        let wait = self.say_all().await?;
        Ok(wait.or(more.then_some(Duration::ZERO)))
    }

    fn parked(&mut self) -> Option<Duration> {
        let now = self.clock.monotonic();
        let until = self.memory.parked_until?;
        if until > now {
            return Some(until - now);
        }
        self.memory.parked_until = None;
        None
    }

    /// Brings the list of pull requests up to date.
    async fn list(&mut self) -> Result<Result<(), ForgeError>, JournalFault> {
        let pulls = match self.forge.open_pulls().await {
            Ok(pulls) => pulls,
            Err(error) => return Ok(Err(error)),
        };
        self.set_clock(pulls.date);
        let branch = self.branch.clone();
        let listed: Vec<_> =
            pulls.items.into_iter().filter(|pull| pull.base_ref == branch).collect();
        let refs: Vec<&PullRequest> = listed.iter().collect();
        let mut gone = BTreeMap::new();
        for number in self.reconciler.ledger.read(|state| missing(state, &refs)) {
            match self.forge.pull(number).await {
                Ok(Some(pull)) if pull.state == PullState::Open && pull.base_ref == branch => {}
                Ok(pull) => {
                    if let Err(error) = self.last_look(pull.as_ref()).await? {
                        return Ok(Err(error));
                    }
                    let merged = pull.is_some_and(|pull| {
                        pull.state == PullState::Merged && pull.base_ref == branch
                    });
                    gone.insert(number, merged);
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        let ledger = &self.reconciler.ledger;
        let mut entries = ledger.read(|state| events_of_list(state, &refs, &gone));
        if ledger.read(|state| state.pulls.unavailable.is_some()) {
            entries.insert(0, Entry::new(Event::ForgeAvailable(ForgeAvailable {})));
        }
        ledger.append(entries).await?;
        self.memory.tries = 0;
        self.memory.planned.retain(|number, _| !gone.contains_key(number));
        self.memory.untaken.retain(|number, _| !gone.contains_key(number));
        self.memory.put_off.retain(|number, _| !gone.contains_key(number));
        self.memory.listed = listed;
        Ok(Ok(()))
    }

    /// Looks at the pull requests whose plan rests on something that is no longer so, as many as one
    /// turn has time for; whether there are more.
    async fn plan_stale(&mut self) -> Result<bool, JournalFault> {
        let Some(due) = self.due().await else { return Ok(false) };
        // A status that is pending is seen before the work that may take a while.
        self.say_statuses().await?;
        let Some(Brought { heads, left }) = self.fetch(&due).await? else { return Ok(false) };
        let begun = self.clock.monotonic();
        let more = self.plan_each(due, &heads).await?;
        let now = self.clock.monotonic();
        self.memory.round.spend(now - begun);
        if !more && !left {
            self.memory.round.end(now);
        }
        Ok(more || left)
    }

    /// Looks at these, as many as one turn has time for; whether there are more.
    async fn plan_each(
        &mut self,
        due: Vec<(u64, Basis)>,
        heads: &BTreeMap<u64, CommitId>,
    ) -> Result<bool, JournalFault> {
        let begun = self.clock.monotonic();
        for (number, basis) in due {
            if self.clock.monotonic() - begun > SHARE {
                return Ok(true);
            }
            let fetched = self.is_fetched(number, &basis);
            // A push between list and fetch: the next list has it.
            if fetched && heads.get(&number) != Some(&basis.head) {
                continue;
            }
            match self.look_at_one(number, &basis).await {
                Ok(foreseen) => {
                    self.keep(number, foreseen).await?;
                    self.memory.put_off.remove(&number);
                    self.memory.planned.insert(number, basis);
                }
                Err(unseen) => self.put_off(number, &basis, &unseen).await?,
            }
        }
        Ok(false)
    }

    /// Whether its head has to be in the mirror to be looked at.
    fn is_fetched(&self, number: u64, basis: &Basis) -> bool {
        basis.allowed && self.untaken(number, &basis.head).is_none()
    }

    /// The pull requests to look at, the most urgent first.
    async fn due(&mut self) -> Option<Vec<(u64, Basis)>> {
        let allowed = self.allowed().await;
        let now = self.clock.monotonic();
        let newest = self.reconciler.ledger.read(|state| state.pulls.machine);
        let mut due = Vec::new();
        // Where this round is over, the next one may begin.
        for _ in 0..2 {
            let machine = self.memory.round.machine(newest, now);
            due = self.due_at(machine, &allowed)?;
            if !due.is_empty() {
                break;
            }
            self.memory.round.end(now);
        }
        Some(due).filter(|due| !due.is_empty())
    }

    /// Those to look at with the machine as it is in this round; `None`: none can be.
    fn due_at(&self, machine: u64, allowed: &BTreeSet<u64>) -> Option<Vec<(u64, Basis)>> {
        let refs: Vec<&PullRequest> = self.memory.listed.iter().collect();
        let due = self.reconciler.ledger.read(|state| {
            Some(stale(state, &refs, &ground(state)?, &self.memory.planned, allowed, machine))
        });
        let mut due = due?;
        due.retain(|(number, basis)| !self.is_put_off(*number, &basis.head));
        // One that failed before is tried after everybody else.
        due.sort_by_key(|(number, _)| self.memory.put_off.contains_key(number));
        Some(due)
    }

    /// Brings the heads that are looked at into the mirror; `None`: not now.
    async fn fetch(&mut self, due: &[(u64, Basis)]) -> Result<Option<Brought>, JournalFault> {
        let wanted: Vec<_> =
            due.iter().filter(|(number, basis)| self.is_fetched(*number, basis)).collect();
        let at_once = self.memory.fetch_at_once.unwrap_or(usize::MAX);
        let numbers: BTreeSet<u64> =
            wanted.iter().take(at_once).map(|(number, _)| *number).collect();
        let (count, left) = (numbers.len(), wanted.len() > at_once);
        if numbers.is_empty() {
            return Ok(Some(Brought { heads: BTreeMap::new(), left }));
        }
        let fetched = match self.pulls.fetch(numbers.clone()).await {
            Ok(fetched) => fetched,
            Err(fault) => {
                tracing::warn!(%fault, count, "the heads of pull requests cannot be fetched");
                // Where the far side answers, it is one of the heads: they come one by one until the
                // guilty one is alone, and that one is put off.
                if self.pulls.offered(Wanted::Only(numbers)).await.is_ok() {
                    self.memory.fetch_at_once = Some(1);
                    if let ([(number, basis)], true) = (&wanted[..count], count == 1) {
                        self.put_off(*number, basis, &Unseen::Fault(fault)).await?;
                    }
                }
                return Ok(None);
            }
        };
        let more = at_once.saturating_mul(2);
        self.memory.fetch_at_once = self.memory.fetch_at_once.and(left.then_some(more));
        for (number, why) in fetched.refused {
            let Some((_, basis)) = due.iter().find(|(it, _)| *it == number) else { continue };
            tracing::warn!(number, %why, "the head of a pull request is not taken");
            self.memory.untaken.insert(number, (basis.head.clone(), why));
        }
        Ok(Some(Brought { heads: fetched.heads, left }))
    }

    /// Why this head is not taken.
    pub(super) fn untaken(&self, number: u64, head: &CommitId) -> Option<&str> {
        let (untaken, why) = self.memory.untaken.get(&number)?;
        (untaken == head).then_some(why)
    }

    /// Takes note of what was found, where it is news.
    pub(super) async fn keep(&self, number: u64, foreseen: Foreseen) -> Result<(), JournalFault> {
        let Foreseen { planned, report } = foreseen;
        let new = self.reconciler.ledger.read(|state| {
            let known = state.pulls.open.get(&number)?.planned.as_ref();
            Some(known.is_none_or(|known| {
                (&known.head, &known.base, &known.outcome, known.says)
                    != (&planned.head, &planned.base, &planned.outcome, planned.says)
            }))
        });
        if new == Some(true) {
            let entry = Entry::new(Event::PullPlanned(planned)).bringing([report]);
            self.reconciler.ledger.append(vec![entry]).await?;
        }
        Ok(())
    }

    async fn say_statuses(&mut self) -> Result<(), JournalFault> {
        let wants = self.wants();
        let looking = wants.into_iter().filter(|want| want.what == What::Looking);
        let begun = self.clock.monotonic();
        for want in looking.collect::<Vec<_>>() {
            if self.clock.monotonic() - begun > SHARE {
                break;
            }
            if self.say_one(&want).await?.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Says what is to be said, as much as one turn has time for.
    async fn say_all(&mut self) -> Result<Option<Duration>, JournalFault> {
        let begun = self.clock.monotonic();
        for want in self.wants() {
            if self.clock.monotonic() - begun > SHARE {
                return Ok(Some(Duration::ZERO));
            }
            if let Some(wait) = self.say_one(&want).await? {
                return Ok(Some(wait));
            }
        }
        Ok(None)
    }

    fn wants(&self) -> Vec<Want> {
        let refs: Vec<&PullRequest> = self.memory.listed.iter().collect();
        let (can, round) = (self.forge.capabilities(), &self.memory.round);
        let current = self.memory.planned.iter().filter(|(_, basis)| basis.machine == round.of());
        let mut sight = Sight {
            checks: can.checks,
            statuses_max: can.statuses_max,
            beyond: beyond(&refs),
            verified: BTreeSet::new(),
            late: round.is_late(self.clock.monotonic()),
        };
        self.reconciler.ledger.read(|state| {
            let open = &state.pulls.open;
            let same =
                current.filter(|(n, basis)| open.get(n).is_some_and(|it| it.head == basis.head));
            sight.verified = same.map(|(number, _)| *number).collect();
            wanted(state, self.clock.now(), &sight)
        })
    }

    /// The page about the pull request of a head: our comment on it, or else it itself.
    fn page_of(&self, head: &CommitId) -> Option<String> {
        let listed = self.memory.listed.iter().find(|pull| pull.head_sha == *head)?;
        let comment = self.reconciler.ledger.read(|state| {
            let post = state.pulls.post(&PostTarget::Comment(listed.number));
            post.and_then(|post| post.url.clone())
        });
        comment.or_else(|| web_address(&listed.url))
    }

    /// Says one thing; `Some`: nothing more can be said for that long.
    async fn say_one(&mut self, want: &Want) -> Result<Option<Duration>, JournalFault> {
        let now = self.clock.monotonic();
        if self.memory.refused.get(&want.target).is_some_and(|until| *until > now) {
            return Ok(None);
        }
        let report = match &want.what {
            What::Report(digest) | What::Noted(digest) => match self.report(digest).await {
                Ok(report) => Some(report),
                Err(why) => {
                    tracing::error!(%why, "a report cannot be read; its pull request is looked at anew");
                    self.memory.planned.clear();
                    return Ok(None);
                }
            },
            _ => None,
        };
        let pace = self.pace();
        let Some(instance) = self.memory.instance.clone() else { return Ok(None) };
        let page = match &want.target {
            PostTarget::Status(head) | PostTarget::Check(head) => self.page_of(head),
            PostTarget::Comment(_) | PostTarget::Issue => None,
        };
        let approve_by_comment = self.approvals.as_ref().is_some_and(|settings| settings.comment);
        let said = self.reconciler.ledger.read(|state| {
            let post = state.pulls.post(&want.target);
            post.map(|post| post.content)
        });
        let place = Place { instance: &instance, page, approve_by_comment, said };
        let said = say(self.forge.as_ref(), &pace, &place, want, report.as_ref()).await;
        match said {
            Ok(Said { id, url }) => {
                let (target, content) = (want.target.clone(), want.content);
                self.note(Event::ForgePosted(ForgePosted { target, content, id, url })).await?;
                Ok(None)
            }
            Err(error) if error.passes() || error.fault == ForgeFault::Unauthorised => {
                Ok(Some(self.park(&error).await?))
            }
            Err(error) => {
                self.refused(want, &error).await?;
                Ok(None)
            }
        }
    }

    /// Waits so that there is no more than one write a second.
    pub(super) fn pace(&self) -> impl Fn() -> BoxFuture<'static, ()> + Send + Sync + use<> {
        let (clock, last) = (Arc::clone(&self.clock), Arc::clone(&self.memory.last_write));
        move || {
            let (clock, last) = (Arc::clone(&clock), Arc::clone(&last));
            Box::pin(async move {
                let before = *last.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(before) = before {
                    let due = before + BETWEEN_WRITES;
                    clock.sleep(due.saturating_sub(clock.monotonic())).await;
                }
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock.monotonic());
            })
        }
    }

    async fn refused(&mut self, want: &Want, error: &ForgeError) -> Result<(), JournalFault> {
        let full = error.fault == ForgeFault::Full;
        let until = self.clock.monotonic() + REFUSED_WAIT;
        self.memory.refused.insert(want.target.clone(), until);
        tracing::warn!(%error, "the forge does not take a post");
        let why = error.to_string();
        let said = self.reconciler.ledger.read(|state| {
            let known = state.pulls.refusals.get(&want.target);
            known == Some(&why)
        });
        if said && !full {
            return Ok(());
        }
        let (target, content) = (want.target.clone(), want.content);
        self.note(Event::ForgeRefused(ForgeRefused { target, content, why, full })).await
    }

    async fn report(&self, digest: &crate::model::Digest) -> Result<Report, String> {
        let bytes = self.blobs.get(*digest).await.map_err(|fault| fault.to_string())?;
        let bytes = bytes.ok_or_else(|| format!("blob {digest} is missing"))?;
        serde_json::from_slice(&bytes).map_err(|error| format!("blob {digest}: {error}"))
    }

    pub(super) async fn note(&self, event: Event) -> Result<(), JournalFault> {
        self.reconciler.ledger.append(vec![Entry::new(event)]).await?;
        Ok(())
    }

    /// The forge does not answer or asks for rest: nothing is said for a while, and that is known.
    async fn park(&mut self, error: &ForgeError) -> Result<Duration, JournalFault> {
        let wait = match &error.fault {
            ForgeFault::RateLimited { until } => until_then(self.clock.now(), *until),
            _ => {
                let (first, longest) = BACKOFF_S;
                let doubled = first.saturating_mul(1 << self.memory.tries.min(10));
                Duration::from_secs(doubled.min(longest))
            }
        };
        self.memory.tries = self.memory.tries.saturating_add(1);
        self.memory.parked_until = Some(self.clock.monotonic() + wait);
        tracing::warn!(%error, wait_s = wait.as_secs(), "the forge does not answer");
        // One refused moment is no outage.
        let edge = self.memory.tries > 1
            && self.reconciler.ledger.read(|state| state.pulls.unavailable.is_none());
        if edge {
            let event = ForgeUnavailable { error: error.to_string() };
            self.note(Event::ForgeUnavailable(event)).await?;
        }
        Ok(wait)
    }
}

fn until_then(now: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO)
}
