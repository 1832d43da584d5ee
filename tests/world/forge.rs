//! A forge in memory behind the real port, and the pull requests of the world's repository.
//!
//! It speaks no HTTP, so that its tests run on the world's clock; what real forges answer is the
//! business of `tests/forge`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use trueup::model::{CommitId, Digest, Fault};
use trueup::port::forge::{
    Budget, Capabilities, CheckId, CheckReport, CheckSeen, Comment, CommentId, Forge, ForgeError,
    ForgeFault, Issue, IssueChange, LabelEvent, Permission, PullRequest, PullState, Reply, Review,
    ReviewVerdict, Status, User,
};
use trueup::port::{
    BoxFuture, Clock, Fetched, FileRef, Merge, MergeKind, MergedFiles, Offered, Pulls, TreeFault,
    Wanted,
};

use super::remote::tree_id;
use super::{FakeClock, FakeRemote};

/// What is on the forge; tests look at it and change it as people do.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) pulls: BTreeMap<u64, PullRequest>,
    pub(crate) statuses: Vec<(CommitId, Status)>,
    pub(crate) comments: Vec<Comment>,
    pub(crate) labels: Vec<(u64, LabelEvent)>,
    pub(crate) reviews: Vec<(u64, Review)>,
    // What the head of each pull request changes in its base.
    overlays: BTreeMap<CommitId, BTreeMap<String, String>>,
    /// Merging one of these takes this long.
    pub(crate) slow: BTreeMap<CommitId, Duration>,
    /// The head of this pull request never comes, nor what is fetched with it.
    pub(crate) stuck: BTreeSet<u64>,
    /// How often the labels of a pull request were asked for.
    pub(crate) labels_read: usize,
    /// Heads that were merged into a base to be looked at, in this order.
    pub(crate) merged: Vec<CommitId>,
    /// Whether the login may write checks.
    pub(crate) can_check: bool,
    /// The checks: of which commit, and their numbers.
    pub(crate) checks: Vec<(CommitId, CheckId, CheckReport)>,
    /// Statuses that a commit takes; `None`: any number.
    pub(crate) statuses_taken: Option<usize>,
    /// Commits that a status was refused for, because they have so many.
    pub(crate) refused: Vec<CommitId>,
    /// Nobody answers.
    pub(crate) away: bool,
    next: u64,
}

/// A forge in memory.
pub(crate) struct FakeForge {
    clock: Arc<FakeClock>,
    remote: Arc<FakeRemote>,
    held: Mutex<Held>,
}

const OWN: User = User { id: 1, login: String::new() };

impl FakeForge {
    pub(crate) fn new(clock: Arc<FakeClock>, remote: Arc<FakeRemote>) -> Self {
        Self { clock, remote, held: Mutex::default() }
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }

    /// Opens a pull request that gives this file this text, or pushes it to the one that is open.
    pub(crate) fn offer(&self, number: u64, path: &str, text: &str) -> CommitId {
        let head: CommitId =
            Digest::of(format!("{number} {path} {text}")).to_string()[..40].parse().unwrap();
        let base = self.remote.head();
        let mut held = self.held();
        held.overlays.insert(head.clone(), [(path.to_owned(), text.to_owned())].into());
        let pull = PullRequest {
            number,
            title: String::new(),
            state: PullState::Open,
            draft: false,
            head_sha: head.clone(),
            head_ref: "change".into(),
            base_ref: "main".into(),
            base_sha: base,
            fork: false,
            author: Some(User { id: 2, login: "ann".into() }),
            labels: Vec::new(),
            updated_at: self.clock.now(),
            merge_commit: None,
            url: format!("https://forge.example.org/pull/{number}"),
        };
        held.pulls.insert(number, pull);
        head
    }

    /// Merges a pull request on the forge; the world's repository gets the commit.
    pub(crate) fn merge(&self, number: u64) -> CommitId {
        let mut held = self.held();
        let head = held.pulls[&number].head_sha.clone();
        for (path, text) in &held.overlays[&head] {
            self.remote.write(path, text);
        }
        let commit = self.remote.commit(&format!("Merge #{number}"));
        let pull = held.pulls.get_mut(&number).unwrap();
        (pull.state, pull.merge_commit) = (PullState::Merged, Some(commit.clone()));
        commit
    }

    pub(crate) fn comment(&self, number: u64, login: &str, body: &str) {
        let mut held = self.held();
        held.next += 1;
        let now = self.clock.now();
        let comment = Comment {
            id: CommentId(held.next),
            number,
            author: Some(User { id: 3, login: login.to_owned() }),
            body: body.to_owned(),
            created_at: now,
            updated_at: now,
            url: format!("https://forge.example.org/pull/{number}#c{}", held.next),
        };
        held.comments.push(comment);
    }

    pub(crate) fn label(&self, number: u64, label: &str, added: bool) {
        let mut held = self.held();
        held.next += 1;
        let (id, now) = (held.next, self.clock.now());
        let actor = Some(User { id: 3, login: "ben".into() });
        held.labels.push((number, LabelEvent { id, label: label.into(), added, actor, at: now }));
        let pull = held.pulls.get_mut(&number).unwrap();
        pull.labels = if added { vec![label.to_owned()] } else { Vec::new() };
        pull.updated_at = now;
    }

    /// Somebody hands in a review that approves the newest head.
    pub(crate) fn review(&self, number: u64, login: &str) {
        let mut held = self.held();
        held.next += 1;
        let (id, now) = (held.next, self.clock.now());
        let commit = Some(held.pulls[&number].head_sha.clone());
        let author = Some(User { id: 100 + login.len() as u64, login: login.to_owned() });
        let verdict = ReviewVerdict::Approved;
        let review = Review { id, author, verdict, commit, at: Some(now), body: String::new() };
        held.reviews.push((number, review));
        held.pulls.get_mut(&number).unwrap().updated_at = now;
    }

    /// The newest status of a commit.
    pub(crate) fn said(&self, commit: &CommitId) -> Option<Status> {
        let held = self.held();
        let mut all = held.statuses.iter().rev();
        all.find(|(on, _)| on == commit).map(|(_, status)| status.clone())
    }

    /// What our comments on one say, the oldest first.
    pub(crate) fn comments_on(&self, number: u64) -> Vec<String> {
        let held = self.held();
        let ours = held.comments.iter().filter(|it| it.number == number);
        ours.filter(|it| it.author.as_ref() == Some(&OWN)).map(|it| it.body.clone()).collect()
    }
}

fn unsupported<T>() -> Result<T, ForgeError> {
    Err(ForgeError {
        fault: ForgeFault::Unsupported,
        what: "the fake has no such thing".into(),
        next: "ask for something else".into(),
    })
}

fn away<T>() -> Result<T, ForgeError> {
    let (what, next) = ("nobody answers".into(), "it is tried again later".into());
    Err(ForgeError { fault: ForgeFault::Unavailable, what, next })
}

fn full<T>() -> Result<T, ForgeError> {
    let what = "this commit has reached the maximum number of statuses".into();
    Err(ForgeError { fault: ForgeFault::Full, what, next: "push another commit".into() })
}

fn check_seen(id: CheckId, report: &CheckReport) -> CheckSeen {
    CheckSeen { id, state: report.state, annotations: report.annotations.len(), url: None }
}

impl Forge for FakeForge {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn capabilities(&self) -> Capabilities {
        let (comment_bytes_max, checks) = (65_536, self.held().can_check);
        Capabilities { checks, conditional: true, comment_bytes_max, statuses_max: None }
    }

    fn budget(&self) -> Option<Budget> {
        None
    }

    fn viewer(&self) -> Reply<'_, User> {
        Box::pin(async { Ok(OWN) })
    }

    fn open_pulls(&self) -> Reply<'_, trueup::port::forge::Pulls> {
        let held = self.held();
        if held.away {
            return Box::pin(async { away() });
        }
        let open = held.pulls.values().filter(|pull| pull.state == PullState::Open);
        let items = open.cloned().collect();
        let date = Some(self.clock.now());
        let pulls = trueup::port::forge::Pulls { items, unchanged: false, cut: false, date };
        Box::pin(async { Ok(pulls) })
    }

    fn pull(&self, number: u64) -> Reply<'_, Option<PullRequest>> {
        let found = self.held().pulls.get(&number).cloned();
        Box::pin(async { Ok(found) })
    }

    fn find_status<'a>(
        &'a self,
        commit: &'a CommitId,
        _context: &'a str,
    ) -> Reply<'a, Option<Status>> {
        let found = self.said(commit);
        Box::pin(async { Ok(found) })
    }

    fn set_status<'a>(&'a self, commit: &'a CommitId, status: &'a Status) -> Reply<'a, ()> {
        let status = Status { description: status.cut_description(), ..status.clone() };
        let mut held = self.held();
        let have = held.statuses.iter().filter(|(on, _)| on == commit).count();
        if held.statuses_taken.is_some_and(|max| have >= max) {
            held.refused.push(commit.clone());
            return Box::pin(async { full() });
        }
        held.statuses.push((commit.clone(), status));
        Box::pin(async { Ok(()) })
    }

    fn find_check<'a>(
        &'a self,
        commit: &'a CommitId,
        _name: &'a str,
        external_id: &'a str,
    ) -> Reply<'a, Option<CheckSeen>> {
        let held = self.held();
        let fits = |(on, _, report): &&(CommitId, CheckId, CheckReport)| {
            on == commit && report.external_id == external_id
        };
        let found = held.checks.iter().find(fits).map(|(_, id, report)| check_seen(*id, report));
        Box::pin(async { Ok(found) })
    }

    fn create_check<'a>(
        &'a self,
        commit: &'a CommitId,
        report: &'a CheckReport,
    ) -> Reply<'a, CheckSeen> {
        let mut held = self.held();
        held.next += 1;
        let id = CheckId(held.next);
        held.checks.push((commit.clone(), id, report.clone()));
        Box::pin(async move { Ok(check_seen(id, report)) })
    }

    fn update_check<'a>(&'a self, check: CheckId, report: &'a CheckReport) -> Reply<'a, CheckSeen> {
        let mut held = self.held();
        let (_, _, known) = held.checks.iter_mut().find(|(_, id, _)| *id == check).unwrap();
        let annotations = [known.annotations.clone(), report.annotations.clone()].concat();
        *known = CheckReport { annotations, ..report.clone() };
        let seen = check_seen(check, known);
        Box::pin(async { Ok(seen) })
    }

    fn comments_since(&self, since: jiff::Timestamp) -> Reply<'_, Vec<Comment>> {
        let held = self.held();
        let mut since: Vec<Comment> =
            held.comments.iter().filter(|it| it.updated_at >= since).cloned().collect();
        since.sort_by_key(|comment| comment.updated_at);
        Box::pin(async { Ok(since) })
    }

    fn find_comment<'a>(&'a self, number: u64, marker: &'a str) -> Reply<'a, Option<Comment>> {
        let held = self.held();
        let mut ours = held.comments.iter().filter(|it| it.author.as_ref() == Some(&OWN));
        let found = ours.find(|it| it.number == number && it.body.contains(marker)).cloned();
        Box::pin(async { Ok(found) })
    }

    fn create_comment<'a>(&'a self, number: u64, body: &'a str) -> Reply<'a, Comment> {
        self.comment(number, "", body);
        let mut held = self.held();
        let made = held.comments.last_mut().unwrap();
        made.author = Some(OWN);
        let made = made.clone();
        Box::pin(async { Ok(made) })
    }

    fn update_comment<'a>(&'a self, comment: CommentId, body: &'a str) -> Reply<'a, Comment> {
        let mut held = self.held();
        let changed = held.comments.iter_mut().find(|it| it.id == comment).unwrap();
        body.clone_into(&mut changed.body);
        changed.updated_at = self.clock.now();
        let changed = changed.clone();
        Box::pin(async { Ok(changed) })
    }

    fn delete_comment(&self, comment: CommentId) -> Reply<'_, ()> {
        self.held().comments.retain(|it| it.id != comment);
        Box::pin(async { Ok(()) })
    }

    fn reviews(&self, number: u64) -> Reply<'_, Vec<Review>> {
        let held = self.held();
        let of = held.reviews.iter().filter(|(on, _)| *on == number);
        let of = of.map(|(_, review)| review.clone()).collect();
        Box::pin(async { Ok(of) })
    }

    fn label_events(&self, number: u64) -> Reply<'_, Vec<LabelEvent>> {
        let mut held = self.held();
        held.labels_read += 1;
        let of = held.labels.iter().filter(|(on, _)| *on == number);
        let of = of.map(|(_, event)| event.clone()).collect();
        Box::pin(async { Ok(of) })
    }

    fn permission<'a>(&'a self, _login: &'a str) -> Reply<'a, Permission> {
        Box::pin(async { Ok(Permission::None) })
    }

    fn in_team<'a>(&'a self, _team: &'a str, _login: &'a str) -> Reply<'a, bool> {
        Box::pin(async { Ok(false) })
    }

    fn find_issue<'a>(&'a self, _marker: &'a str) -> Reply<'a, Option<Issue>> {
        Box::pin(async { Ok(None) })
    }

    fn create_issue<'a>(&'a self, _title: &'a str, _body: &'a str) -> Reply<'a, Issue> {
        Box::pin(async { unsupported() })
    }

    fn update_issue<'a>(&'a self, _number: u64, _change: &'a IssueChange) -> Reply<'a, Issue> {
        Box::pin(async { unsupported() })
    }
}

/// How long a fetch takes that does not come to an end.
const FETCH_LIMIT: Duration = Duration::from_secs(60);

impl Pulls for FakeForge {
    fn offered(&self, _wanted: Wanted) -> BoxFuture<'_, Result<Offered, Fault>> {
        let heads = self.held().pulls.iter().map(|(n, pull)| (*n, pull.head_sha.clone())).collect();
        let offered = Offered { base: self.remote.head(), heads, left_out: 0 };
        Box::pin(async { Ok(offered) })
    }

    fn fetch(&self, numbers: BTreeSet<u64>) -> BoxFuture<'_, Result<Fetched, Fault>> {
        let held = self.held();
        let stuck = !held.stuck.is_disjoint(&numbers);
        let of = |n: &u64| Some((*n, held.pulls.get(n)?.head_sha.clone()));
        let heads = numbers.iter().filter_map(of).collect();
        Box::pin(async move {
            if stuck {
                tokio::time::sleep(FETCH_LIMIT).await;
                return Err(Fault::unobservable("not finished within 60 s"));
            }
            Ok(Fetched { heads, refused: BTreeMap::new() })
        })
    }

    fn retain(&self, _open: BTreeSet<u64>) -> BoxFuture<'_, Result<BTreeSet<u64>, Fault>> {
        Box::pin(async { Ok(BTreeSet::new()) })
    }

    fn merge(&self, base: CommitId, head: CommitId) -> BoxFuture<'_, Result<Merge, TreeFault>> {
        let mut held = self.held();
        held.merged.push(head.clone());
        let slow = held.slow.get(&head).copied();
        let mut files = self.remote.texts(&base);
        let overlay = held.overlays[&head].clone();
        let made = overlay.values().map(|text| {
            (Digest::of(text).to_string(), Arc::<[u8]>::from(text.as_bytes().to_vec()))
        });
        let made = made.collect();
        files.extend(overlay);
        let refs = files.iter().map(|(path, text)| FileRef {
            path: path.clone(),
            blob: Digest::of(text).to_string(),
            size: text.len() as u64,
            executable: false,
        });
        let merged = MergedFiles {
            tree: tree_id(&files),
            kind: MergeKind::Merged,
            files: refs.collect(),
            made,
            changed: Vec::new(),
            lines: BTreeMap::new(),
        };
        Box::pin(async move {
            if let Some(slow) = slow {
                tokio::time::sleep(slow).await;
            }
            Ok(Merge::Clean(Box::new(merged)))
        })
    }
}
