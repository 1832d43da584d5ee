//! What can go wrong between this machine and its Git repository, and what to do about it.
//!
//! No error here carries a secret: text that came from the other side passes `scrub` first.

use std::path::PathBuf;
use std::time::Duration;

use super::id::{BlobId, CommitId};

/// Why the source could not answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The URL cannot be used at all.
    #[error("the repository URL {url:?} cannot be used: {why}")]
    Url {
        /// The URL with any password removed.
        url: String,
        /// What is wrong with it, and what to write in its place.
        why: String,
    },
    /// The credential could not be read.
    #[error("the credential for {url} could not be read from {from}: {why}")]
    Credential {
        /// The repository.
        url: String,
        /// The file, systemd credential or helper asked.
        from: String,
        /// The reason.
        why: String,
    },
    /// The remote does not accept us.
    #[error(
        "{url} refused access: {why}; check the credential (for ssh, repository.ssh in the daemon's \
         config) and that it may read the repository"
    )]
    Denied {
        /// The repository.
        url: String,
        /// The other side's words.
        why: String,
    },
    /// The remote did not answer, or not in Git's language.
    #[error("{url} cannot be reached: {why}")]
    Unreachable {
        /// The repository.
        url: String,
        /// The chain of causes.
        why: String,
    },
    /// The remote took longer than the whole operation may.
    #[error("{url} did not finish within {} s", .after.as_secs_f32())]
    Deadline {
        /// The repository.
        url: String,
        /// The limit.
        after: Duration,
    },
    /// The remote sends more than one fetch may bring.
    #[error(
        "{url} sent more than {limit} bytes in one fetch, what came was thrown away; keep large \
         files out of the repository, or raise repository.fetchMax in the daemon's config"
    )]
    TooLarge {
        /// The repository.
        url: String,
        /// The limit, bytes.
        limit: u64,
    },
    /// One object unpacks to more than is read: packs are compressed, zeros about a thousandfold.
    #[error(
        "{url} sent an object of more than {limit} bytes, what came was thrown away; keep large \
         files out of the repository (Git LFS keeps them beside it)"
    )]
    Bomb {
        /// The repository.
        url: String,
        /// The limit, bytes.
        limit: u64,
    },
    /// Earlier operations that ran over their deadline have still not ended.
    #[error(
        "{abandoned} earlier operations on {url} still wait for it; trying again once one ends"
    )]
    Busy {
        /// The repository.
        url: String,
        /// How many.
        abandoned: usize,
    },
    /// The remote has no such branch (an empty repository has none).
    #[error(
        "{url} has no branch {branch:?}; push it, or name another branch in the daemon's config"
    )]
    BranchMissing {
        /// The repository.
        url: String,
        /// The branch.
        branch: String,
    },
    /// A commit that is not in the mirror.
    #[error("commit {commit} is not in the mirror of {url}")]
    CommitMissing {
        /// The repository.
        url: String,
        /// The commit.
        commit: CommitId,
    },
    /// An object that the mirror must have is missing or damaged. Never read as "empty".
    #[error(
        "object {object} cannot be read from the mirror {}: {why}; remove that directory to have it cloned again",
        .mirror.display()
    )]
    Object {
        /// The object's id.
        object: String,
        /// The mirror's directory.
        mirror: PathBuf,
        /// The reason.
        why: String,
    },
    /// The content is a Git LFS pointer, not the file.
    #[error(
        "blob {blob} is a Git LFS pointer, not the file itself; commit the file without LFS, trueup runs no filters"
    )]
    LfsPointer {
        /// The blob.
        blob: BlobId,
    },
    /// The pattern of pull-request refs cannot be used.
    #[error(
        "{pattern:?} does not name the refs of pull requests; write one `*` where the number stands: refs/pull/*/head"
    )]
    PullPattern {
        /// What was given.
        pattern: String,
    },
    /// Pull requests ask for more than is taken.
    #[error("the pull requests of {url} are not fetched: {what}")]
    PullLimit {
        /// The repository.
        url: String,
        /// Which limit.
        what: String,
    },
    /// Two commits could not be merged in the time for it.
    #[error("merging {head} into {base} did not finish within {} s", .after.as_secs_f32())]
    MergeDeadline {
        /// The base.
        base: CommitId,
        /// The head.
        head: CommitId,
        /// The limit.
        after: Duration,
    },
    /// The mirror's own directory cannot be used.
    #[error("the mirror {} cannot be used: {why}", .path.display())]
    Mirror {
        /// The file or directory concerned.
        path: PathBuf,
        /// The reason, and where one exists, the way out.
        why: String,
    },
    /// The local repository cannot be watched (polling still works).
    #[error("{} cannot be watched for pushes: {why}; polling goes on", .path.display())]
    Watch {
        /// The repository.
        path: PathBuf,
        /// The reason.
        why: String,
    },
}

impl SourceError {
    /// True when asking again later may help without anybody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Deadline { .. } | Self::Busy { .. })
    }
}

/// The messages of an error and its causes, each once, outermost first.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(current) = next {
        let text = current.to_string();
        if !text.is_empty() && !parts.iter().any(|seen| seen.contains(&text)) {
            parts.push(text);
        }
        next = current.source();
    }
    parts.join(": ")
}

/// `text` without any of `secrets`, on one line, and not longer than a log line should be.
pub(crate) fn scrub(text: &str, secrets: &[String]) -> String {
    /// Enough for a chain of causes; the other side may otherwise send a page of HTML.
    const TEXT_CHARS_MAX: usize = 600;
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.as_str(), "[redacted]");
    }
    let flat: Vec<&str> = text.split_whitespace().collect();
    let mut flat: String = flat.join(" ").replace(|c: char| c.is_control(), "?");
    if let Some((end, _)) = flat.char_indices().nth(TEXT_CHARS_MAX) {
        flat.truncate(end);
        flat.push('…');
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_survives_scrubbing() {
        let text = scrub("401 for https://x:hunter2@h/\n\tsaid hunter2", &["hunter2".into()]);
        assert_eq!(text, "401 for https://x:[redacted]@h/ said [redacted]");
        assert!(scrub(&"long ".repeat(1_000), &[]).chars().count() <= 601);
        assert_eq!(scrub("plain", &[String::new()]), "plain");
    }

    #[test]
    fn only_the_far_side_is_transient() {
        let url = "https://h/r".to_owned();
        assert!(
            SourceError::Deadline { url: url.clone(), after: Duration::from_secs(3) }
                .is_transient()
        );
        assert!(!SourceError::Denied { url, why: "401".into() }.is_transient());
    }
}
