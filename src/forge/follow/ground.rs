//! What pull requests are merged into, and whose word governs how the outcome is read.
//!
//! A pull request is merged into the branch as it is, also where its head is not used: one that mends a
//! mistake is told apart from one that leaves it. It never chooses its own config or rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::turn::Follower;
use crate::model::{CommitId, Fault};
use crate::port::{FileRef, MergedFiles, TreeFault};
use crate::spec::{RepoFile, RepoFiles};
use crate::state::State;

/// What every pull request is looked at against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ground {
    /// The head of the branch, used or not.
    pub base: CommitId,
    /// The commit whose config and rules govern: the base, or the commit in force where those of the
    /// base are what is wrong with it.
    pub rules: CommitId,
    /// Why a merge would not be taken in, where the branch was rewritten and nobody let that through.
    pub barred: Option<String>,
}

/// What pull requests are looked at against; `None`: nothing is in force, or a commit is being taken in
/// and a plan would be against neither the one nor the other.
pub(super) fn ground(state: &State) -> Option<Ground> {
    let in_force = state.spec.commit.as_ref()?;
    let base = state.source.branch()?.clone();
    if let Some(refused) = &state.source.refused {
        let barred = (!refused.signature).then(|| {
            format!(
                "{} at the head of the branch is refused: {}; before a merge is used, \
                 `trueup accept-rewrite` lets that commit through",
                base.short(),
                refused.why
            )
        });
        return Some(Ground { base, rules: in_force.clone(), barred });
    }
    if base == *in_force {
        return Some(Ground { rules: base.clone(), base, barred: None });
    }
    let rejected = state.spec.rejected.as_ref().filter(|rejected| rejected.commit == base)?;
    // Only the first of many mistakes are known: where one of the others may be in the rules, these are
    // not relied on.
    let all_known = rejected.errors <= rejected.problems.len() as u64;
    let sound = all_known && !rejected.problems.iter().any(|problem| governs(&problem.path));
    let rules = if sound { base.clone() } else { in_force.clone() };
    Some(Ground { base, rules, barred: None })
}

/// What is never taken from a head: which environments there are, and the rules.
fn governs(path: &str) -> bool {
    path == "trueup.yaml" || path.starts_with("policies/")
}

/// Bytes of contents kept from pull requests for the next: twice an environment of 5,000 documents.
/// Beyond it only the last one's are, and those of a larger one are read anew each time.
const KEPT_MAX: usize = 8 << 20;

/// What a merge gives.
pub(super) struct Read {
    /// Its files, with those that govern from elsewhere.
    pub(super) governed: RepoFiles,
    /// Its files as they are, where others govern than those of its base: mistakes in them are not
    /// seen in `governed`, and a merge would leave them in force.
    pub(super) whole: Option<RepoFiles>,
}

/// Reads what a merge gives. What the pull request before had too is not read again.
///
/// # Errors
/// Where the mirror cannot be read.
pub(super) async fn read(
    follower: &mut Follower,
    number: u64,
    ground: &Ground,
    merged: &MergedFiles,
) -> Result<Read, Fault> {
    let mut governing = follower.source.files(ground.rules.clone()).await.map_err(unread)?;
    governing.retain(|file| governs(&file.path));
    let own = merged.files.iter().filter(|file| !governs(&file.path)).cloned();
    let governed: Vec<FileRef> = own.chain(governing).collect();
    let whole = (ground.rules != ground.base).then(|| merged.files.clone());
    let all = governed.iter().chain(whole.iter().flatten());
    let wanted: BTreeSet<&String> = all.map(|file| &file.blob).collect();
    let known = &follower.memory.contents;
    let have = |blob: &String| merged.made.get(blob).or_else(|| known.get(blob)).map(Arc::clone);
    let (mut bytes, mut unknown) = (BTreeMap::new(), Vec::new());
    for blob in wanted {
        match have(blob) {
            Some(content) => drop(bytes.insert(blob.clone(), content)),
            None => unknown.push(blob.clone()),
        }
    }
    tracing::debug!(number, read = unknown.len(), files = governed.len(), "a pull request is read");
    let contents = follower.source.blobs(unknown.clone()).await?;
    bytes.extend(unknown.into_iter().zip(contents));
    keep(&mut follower.memory.contents, &bytes);
    let with_bytes = |mut files: Vec<FileRef>| {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let files = files.into_iter().map(|file| RepoFile {
            bytes: bytes.get(&file.blob).map(Arc::clone),
            path: file.path,
            blob: file.blob,
            executable: file.executable,
        });
        RepoFiles { files: files.collect() }
    };
    Ok(Read { governed: with_bytes(governed), whole: whole.map(with_bytes) })
}

fn unread(fault: TreeFault) -> Fault {
    match fault {
        TreeFault::Refused(_) => Fault::permanent("the commit whose rules govern is refused"),
        TreeFault::Mirror(fault) => fault,
    }
}

/// Adds contents to those that are kept.
fn keep(kept: &mut BTreeMap<String, Arc<[u8]>>, bytes: &BTreeMap<String, Arc<[u8]>>) {
    let size = |all: &BTreeMap<String, Arc<[u8]>>| all.values().map(|it| it.len()).sum::<usize>();
    kept.extend(bytes.iter().map(|(blob, content)| (blob.clone(), Arc::clone(content))));
    if size(kept) > KEPT_MAX {
        *kept = if size(bytes) <= KEPT_MAX { bytes.clone() } else { BTreeMap::new() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::body::Problem;
    use crate::state::{Refused, Rejected};

    fn commit(digit: char) -> CommitId {
        digit.to_string().repeat(40).parse().unwrap()
    }

    /// Commit `a` is in force and at the head.
    fn at_rest() -> State {
        let mut state = State::default();
        state.spec.commit = Some(commit('a'));
        state.source.head = Some(commit('a'));
        state
    }

    fn rejected(mut state: State, errors: u64, paths: &[&str]) -> State {
        state.source.head = Some(commit('b'));
        let problem = |path: &&str| Problem {
            path: (*path).to_owned(),
            line: 1,
            column: 1,
            message: "is wrong".into(),
        };
        let problems = paths.iter().map(problem).collect();
        state.spec.rejected = Some(Rejected { commit: commit('b'), errors, problems });
        state
    }

    #[test]
    fn nothing_is_looked_at_while_a_commit_is_taken_in() {
        assert_eq!(ground(&State::default()), None);
        let mut state = at_rest();
        assert_eq!(ground(&state).unwrap().base, commit('a'));
        state.source.head = Some(commit('b'));
        assert_eq!(ground(&state), None);
    }

    #[test]
    fn a_branch_with_mistakes_is_what_a_pull_request_is_merged_into() {
        let of = |errors, paths: &[&str]| {
            let ground = ground(&rejected(at_rest(), errors, paths)).unwrap();
            assert_eq!((ground.base, ground.barred), (commit('b'), None));
            ground.rules
        };
        assert_eq!(of(1, &["environments/lab/lab.yaml"]), commit('b'), "its rules are sound");
        assert_eq!(of(1, &["trueup.yaml"]), commit('a'));
        assert_eq!(of(2, &["environments/lab/lab.yaml", "policies/own.rego"]), commit('a'));
        assert_eq!(of(2, &["environments/lab/lab.yaml"]), commit('a'), "the other is not known");
    }

    #[test]
    fn a_refused_head_governs_nothing_and_a_rewrite_bars_merges() {
        let of = |signature| {
            let mut state = at_rest();
            let (why, since) = ("it is not right".into(), jiff::Timestamp::UNIX_EPOCH);
            state.source.refused = Some(Refused { commit: commit('c'), why, signature, since });
            ground(&state).unwrap()
        };
        let unsigned = of(true);
        assert_eq!((unsigned.base, unsigned.rules), (commit('c'), commit('a')));
        assert_eq!(unsigned.barred, None, "a signed merge is taken");
        let barred = of(false).barred.unwrap();
        assert!(barred.contains("it is not right; before a merge is used"), "{barred}");
    }
}
