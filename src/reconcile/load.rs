//! From the head of the repository to the desired state in force.
//!
//! A commit with mistakes never replaces the last good one, and an unreadable mirror is not an
//! empty environment.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ledger::Ledger;
use super::policy::Rulebook;
use super::render::{self, LoadSetup, Unread};
use crate::event::body::{
    Problem, SpecAccepted, SpecReadable, SpecRejected, SpecUnreadable, SpecWarned, SpecWished,
};
use crate::event::{Entry, Event, Spilled};
use crate::model::{CommitId, Digest, Fault, ResourceId, digest_of};
use crate::plan::Guards;
use crate::port::{Source, TreeFault};
use crate::spec::{self, Desired, Loaded, ParseCache, PolicySettings, RepoFile, RepoFiles, Select};
use crate::state::State;

/// Mistakes named in a `spec.rejected` event; the rest is counted, so that the event stays small.
const PROBLEMS_NAMED_MAX: usize = 100;

/// Resources named in one event about a commit: some 100 bytes each, so far below the longest line.
const WISHES_IN_EVENT_MAX: usize = 4_000;

/// The desired state in force.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) commit: CommitId,
    pub(super) desired: Arc<Desired>,
    pub(super) guards: Guards,
    /// What somebody should look at; the first of it.
    warnings: Arc<[Problem]>,
    warned: u64,
    /// Why its signature is not accepted, where one is required.
    pub(super) distrusted: Option<String>,
    /// Id of its tree; `None`: not known, so that no pull request can be told to be this commit.
    pub(super) tree: Option<String>,
    /// The rules of the commit.
    pub(super) rulebook: Arc<Rulebook>,
}

/// Reads desired states and remembers what it has read.
#[derive(Debug)]
pub struct Loader {
    select: Select,
    setup: LoadSetup,
    cache: ParseCache,
    good: Option<Load>,
    // Content at a commit never changes, so a bad commit need not be read twice.
    bad: Option<(CommitId, Vec<Problem>)>,
}

impl Load {
    pub(super) fn of(commit: &CommitId, loaded: Loaded, rulebook: Rulebook) -> Self {
        Self {
            commit: commit.clone(),
            guards: Guards { prune: !loaded.empty },
            warned: loaded.warnings.len() as u64,
            warnings: loaded.warnings.iter().take(PROBLEMS_NAMED_MAX).map(problem).collect(),
            desired: Arc::new(loaded.desired),
            distrusted: None,
            tree: None,
            rulebook: Arc::new(rulebook),
        }
    }
}

/// Why a commit gives no desired state.
enum LoadFault {
    Mistakes(Vec<Problem>),
    Mirror(Fault),
}

impl Loader {
    /// A loader of the environment that `select` names.
    pub fn new(select: Select) -> Self {
        Self::with(select, LoadSetup::default())
    }

    /// The same, for commits of which something has to be rendered, with a key for digests of Secrets.
    pub fn with(select: Select, setup: LoadSetup) -> Self {
        Self { select, setup, cache: ParseCache::new(), good: None, bad: None }
    }

    /// What loads need beside files.
    pub(super) fn setup(&self) -> &LoadSetup {
        &self.setup
    }

    /// Which environment is read.
    pub(super) fn select(&self) -> &Select {
        &self.select
    }

    /// The desired state in force, and what has to be noted about the head.
    pub(super) async fn load(
        &mut self,
        source: &dyn Source,
        ledger: &Ledger,
    ) -> (Option<Load>, Vec<Entry>) {
        let mut unread = None;
        let (mut load, mut entries) = self.in_force(source, ledger, &mut unread).await;
        entries.extend(ledger.read(|state| sight(state, unread)));
        if let Some(load) = &mut load {
            let taken = entries.iter().any(|entry| matches!(entry.event, Event::SpecAccepted(_)));
            entries.extend(ledger.read(|state| warned(state, load, taken)));
            // Each time: what is required, and of whom, may have changed since it was taken in.
            load.distrusted = source.vouch(load.commit.clone()).await.err();
        }
        (load, entries)
    }

    /// `unread`: the commit the mirror did not give, and why.
    async fn in_force(
        &mut self,
        source: &dyn Source,
        ledger: &Ledger,
        unread: &mut Option<(CommitId, Fault)>,
    ) -> (Option<Load>, Vec<Entry>) {
        let (head, last_good) =
            ledger.read(|state| (state.source.head.clone(), state.spec.commit.clone()));
        let mut entries = Vec::new();
        let known_bad = self.bad.as_ref().filter(|(bad, _)| Some(bad) == head.as_ref());
        if let Some((bad, problems)) = known_bad {
            // Said again only where saying it failed.
            entries.extend(ledger.read(|state| rejected(state, bad, problems)));
        } else if let Some(head) = head {
            match self.at(source, &head).await {
                Ok(load) => {
                    let accepted = ledger.read(|state| accepted(state, &load));
                    if !accepted.is_empty() {
                        self.keep(source, &load.commit).await;
                        entries.extend(accepted);
                    }
                    return (Some(load), entries);
                }
                Err(LoadFault::Mistakes(problems)) => {
                    entries.extend(ledger.read(|state| rejected(state, &head, &problems)));
                    self.bad = Some((head, problems));
                }
                Err(LoadFault::Mirror(fault)) => {
                    tracing::warn!(commit = %head, %fault, "the commit cannot be read");
                    *unread = Some((head, fault));
                }
            }
        }
        let Some(last_good) = last_good else { return (None, entries) };
        match self.at(source, &last_good).await {
            Ok(load) => (Some(load), entries),
            Err(LoadFault::Mirror(fault)) => {
                tracing::warn!(commit = %last_good, %fault, "the last good commit cannot be read");
                *unread = Some((last_good, fault));
                (None, entries)
            }
            Err(LoadFault::Mistakes(_)) => {
                tracing::error!(
                    commit = %last_good,
                    "the last good commit is refused by this version of trueup; nothing is changed"
                );
                (None, entries)
            }
        }
    }

    /// The commit in force must stay readable when the remote's history is rewritten.
    async fn keep(&self, source: &dyn Source, commit: &CommitId) {
        if let Err(fault) = source.keep(vec![commit.clone()]).await {
            tracing::warn!(%commit, %fault, "the commit in force is not protected in the mirror");
        }
    }

    /// Id of the tree of the commit in force, as far as it was read.
    pub(super) fn tree(&self, commit: &CommitId) -> Option<String> {
        self.good.as_ref().filter(|good| good.commit == *commit)?.tree.clone()
    }

    async fn at(&mut self, source: &dyn Source, commit: &CommitId) -> Result<Load, LoadFault> {
        if let Some(good) = self.good.as_ref().filter(|good| good.commit == *commit) {
            return Ok(good.clone());
        }
        let files = self.read(source, commit).await?;
        let files = RepoFiles { files };
        let loaded = render::load(&files, &self.select, &mut self.cache, &self.setup).await;
        let loaded = loaded.map_err(|unread| match unread {
            Unread::Mistakes(mistakes) => {
                LoadFault::Mistakes(mistakes.iter().map(problem).collect())
            }
            Unread::Fault(fault) => LoadFault::Mirror(fault),
        })?;
        let tree = source.tree(commit.clone()).await.map_err(LoadFault::Mirror)?;
        let rulebook = self.rulebook(&files, loaded.policy.clone());
        let load = Load { tree: Some(tree), ..Load::of(commit, loaded, rulebook) };
        self.good = Some(load.clone());
        Ok(load)
    }

    /// The rules in `files`, parsed anew only where they are not those in force.
    fn rulebook(&self, files: &RepoFiles, settings: PolicySettings) -> Rulebook {
        match &self.good {
            Some(good) => good.rulebook.next(files, settings),
            None => Rulebook::new(files, settings),
        }
    }

    /// The rules in `files` under the settings in force, for what is not in force itself: a pull
    /// request does not exempt itself.
    pub(super) fn rulebook_for(&self, files: &RepoFiles) -> Rulebook {
        let settings = self.good.as_ref().map(|good| good.rulebook.settings().clone());
        self.rulebook(files, settings.unwrap_or_default())
    }

    /// The files at `commit`; the bytes of those only whose content is not known yet.
    async fn read(
        &self,
        source: &dyn Source,
        commit: &CommitId,
    ) -> Result<Vec<RepoFile>, LoadFault> {
        let files = source.files(commit.clone()).await.map_err(|fault| match fault {
            TreeFault::Refused(problems) => LoadFault::Mistakes(problems),
            TreeFault::Mirror(fault) => LoadFault::Mirror(fault),
        })?;
        let unknown: Vec<_> =
            files.iter().map(|file| &file.blob).filter(|blob| !self.cache.contains(blob)).collect();
        let wanted = unknown.iter().map(|blob| (*blob).clone()).collect();
        let contents = source.blobs(wanted).await.map_err(LoadFault::Mirror)?;
        let mut bytes: BTreeMap<String, Arc<[u8]>> =
            unknown.into_iter().cloned().zip(contents).collect();
        let with_bytes = files.into_iter().map(|file| RepoFile {
            bytes: bytes.get_mut(&file.blob).map(|bytes| Arc::clone(bytes)),
            path: file.path,
            blob: file.blob,
            executable: file.executable,
        });
        Ok(with_bytes.collect())
    }
}

fn problem(mistake: &spec::Diagnostic) -> Problem {
    Problem {
        path: mistake.path.clone(),
        line: mistake.line,
        column: mistake.column,
        message: mistake.message.clone(),
    }
}

/// The events that say what a commit asks for: in parts, where one event would be too large.
fn accepted(state: &State, load: &Load) -> Vec<Entry> {
    // The same commit asks for something else where the config names another environment, or where
    // another version of trueup reads it otherwise. Where a commit with mistakes stood in its way, it
    // is said once more that this one is in force.
    let known = &state.spec;
    if known.rejected.is_none()
        && known.commit.as_ref() == Some(&load.commit)
        && known.environment.as_ref() == Some(&load.desired.environment)
        && known.desired == Some(digest_of_desired(&load.desired))
    {
        return Vec::new();
    }
    let wish = |id: &ResourceId| state.resources.get(id).and_then(|known| known.wish);
    let desired = &load.desired;
    let changed = desired.resources.iter().filter(|(id, new)| wish(id) != Some(new.digest));
    let mut changed: Vec<_> = changed.map(|(id, new)| (id.clone(), new.digest)).collect();
    let wished = state.resources.iter().filter(|(_, known)| known.wish.is_some());
    let gone = wished.map(|(id, _)| id).filter(|id| !desired.resources.contains_key(*id));
    let mut removed: Vec<_> = gone.cloned().collect();
    let mut events = Vec::new();
    while changed.len() > WISHES_IN_EVENT_MAX || removed.len() > WISHES_IN_EVENT_MAX {
        let changed = changed.split_off(changed.len().saturating_sub(WISHES_IN_EVENT_MAX));
        let removed = removed.split_off(removed.len().saturating_sub(WISHES_IN_EVENT_MAX));
        events.push(Event::SpecWished(SpecWished { changed, removed }));
    }
    let environment = desired.environment.clone();
    let desired = digest_of_desired(desired);
    let tree = load.tree.clone();
    let spec = SpecAccepted { environment, desired, changed, removed, tree };
    events.push(Event::SpecAccepted(spec));
    events.into_iter().map(|event| Entry::new(event).at_commit(&load.commit)).collect()
}

/// Digest of everything that is asked for, by the digests of its parts.
fn digest_of_desired(desired: &Desired) -> Digest {
    let parts: Vec<_> = desired.resources.iter().map(|(id, wish)| (id, wish.digest)).collect();
    digest_of(&(&desired.environment, &desired.sync, parts))
}

/// The edge between a mirror that gives its commits and one that does not.
fn sight(state: &State, unread: Option<(CommitId, Fault)>) -> Option<Entry> {
    match (&state.spec.unreadable, unread) {
        (None, Some((commit, fault))) => {
            let unreadable = SpecUnreadable { error: fault.to_string() };
            Some(Entry::new(Event::SpecUnreadable(unreadable)).at_commit(&commit))
        }
        (Some(_), None) => Some(Entry::new(Event::SpecReadable(SpecReadable {}))),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

/// The warnings of the commit in force, where they are not known yet. `taken`: it is taken in with
/// this load, which leaves the warnings of the one before behind.
fn warned(state: &State, load: &Load, taken: bool) -> Option<Entry> {
    let known = if taken { &[] } else { state.spec.warnings.as_slice() };
    let event = SpecWarned { count: load.warned, warnings: load.warnings.to_vec() };
    (known != event.warnings.as_slice())
        .then(|| Entry::new(Event::SpecWarned(event)).at_commit(&load.commit))
}

fn rejected(state: &State, head: &CommitId, problems: &[Problem]) -> Option<Entry> {
    let said = state.spec.rejected.as_ref().is_some_and(|rejected| rejected.commit == *head);
    if said {
        return None;
    }
    let all = (problems.len() > PROBLEMS_NAMED_MAX).then(|| Spilled::of_json(problems)).flatten();
    let (more, content) = all.unzip();
    let rejected = SpecRejected {
        errors: problems.len() as u64,
        problems: problems.iter().take(PROBLEMS_NAMED_MAX).cloned().collect(),
        more,
    };
    Some(Entry::new(Event::SpecRejected(rejected)).at_commit(head).bringing(content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;
    use crate::state::Rejected;

    fn commit() -> CommitId {
        "a".repeat(40).parse().unwrap()
    }

    fn load_with(warnings: &[Problem]) -> Load {
        let desired = Desired {
            environment: Name::new("lab").unwrap(),
            sync: Default::default(),
            resources: BTreeMap::new(),
        };
        Load {
            commit: commit(),
            desired: Arc::new(desired),
            guards: Guards { prune: false },
            warnings: warnings.into(),
            warned: warnings.len() as u64,
            distrusted: None,
            tree: None,
            rulebook: Arc::default(),
        }
    }

    fn name(entry: Option<Entry>) -> Option<&'static str> {
        entry.map(|entry| entry.event.type_name())
    }

    #[test]
    fn a_mirror_that_fails_and_works_again_is_said_once_each() {
        let mut state = State::default();
        let fails = || Some((commit(), Fault::permanent("a pack is gone")));
        assert_eq!(name(sight(&state, None)), None);
        assert_eq!(name(sight(&state, fails())), Some("spec.unreadable"));
        state.spec.unreadable = Some((jiff::Timestamp::UNIX_EPOCH, "a pack is gone".into()));
        assert_eq!(name(sight(&state, fails())), None);
        assert_eq!(name(sight(&state, None)), Some("spec.readable"));
    }

    #[test]
    fn a_head_without_mistakes_ends_those_of_another_commit_once() {
        let mut state = State::default();
        let take_in = |state: &mut State| {
            let entries = accepted(state, &load_with(&[]));
            for entry in &entries {
                let (seq, at) = (state.seq + 1, jiff::Timestamp::UNIX_EPOCH);
                state.apply(&crate::event::Recorded { seq, at, entry: entry.clone() });
            }
            entries.len()
        };
        assert_eq!((take_in(&mut state), take_in(&mut state)), (1, 0));
        let commit = "b".repeat(40).parse().unwrap();
        state.spec.rejected = Some(Rejected { commit, errors: 1, problems: Vec::new() });
        assert_eq!((take_in(&mut state), take_in(&mut state)), (1, 0));
        assert_eq!(state.spec.rejected, None);
    }

    #[test]
    fn warnings_are_said_when_they_change() {
        let (path, message) = ("e.yaml".to_owned(), "asks for nothing".to_owned());
        let problem = [Problem { path, line: 1, column: 1, message }];
        let mut state = State::default();
        assert_eq!(name(warned(&state, &load_with(&[]), false)), None);
        assert_eq!(name(warned(&state, &load_with(&problem), false)), Some("spec.warned"));
        state.spec.warnings = problem.to_vec();
        assert_eq!(name(warned(&state, &load_with(&problem), false)), None);
        assert_eq!(name(warned(&state, &load_with(&problem), true)), Some("spec.warned"));
        assert_eq!(name(warned(&state, &load_with(&[]), false)), Some("spec.warned"));
    }
}
