//! Who signed a commit, and whether the daemon's own config allows that.
//!
//! Allowed signers come from files named in the daemon's config, never from the repository. A
//! signature that verifies is not enough: its key must be listed, valid at the time of the commit,
//! and, unless that is switched off, belong to the one the commit names as its committer.

mod allowed;
mod openpgp;
mod ssh;

use std::path::PathBuf;

use super::error::{SourceError, chain};
use super::history::{Person, plain};
use super::id::CommitId;
use super::mirror::Mirror;

pub use allowed::{AllowedSigner, AllowedSigners, BadSigners};

/// What is required of the head commit's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignaturePolicy {
    /// A file in OpenSSH's `allowed_signers` format (`man ssh-keygen`, ALLOWED SIGNERS).
    pub ssh_allowed_signers: Option<PathBuf>,
    /// An OpenPGP keyring as `gpg --export` writes it (binary, not armored).
    pub openpgp_keyring: Option<PathBuf>,
    /// Whether the signer must be the committer: the address in the commit must be one of the
    /// signer's principals or user ids. Otherwise any allowed signer can commit in any name.
    pub match_committer: bool,
}

/// A signature that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The principal or user id the key belongs to, from the daemon's own files.
    pub signer: String,
    /// The key: `SHA256:…` for SSH, the primary key's fingerprint for OpenPGP.
    pub key: String,
}

/// Why a commit's signature was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SignatureRejection {
    /// There is none.
    #[error("commit {commit} is not signed; sign it (git commit -S) with an allowed key")]
    Unsigned {
        /// The commit.
        commit: CommitId,
    },
    /// It is by a key that is not listed.
    #[error(
        "commit {commit} is signed by {key}, which is no allowed signer; add the key to {file} or sign with another"
    )]
    UnknownKey {
        /// The commit.
        commit: CommitId,
        /// The key.
        key: String,
        /// The file that would have to list it.
        file: String,
    },
    /// It does not match the content.
    #[error(
        "commit {commit} has a signature that does not match its content: it was changed after signing"
    )]
    Tampered {
        /// The commit.
        commit: CommitId,
    },
    /// The key was not valid at the time, or is not any more.
    #[error("commit {commit} is signed by {signer} with {key}, which is not valid: {why}")]
    Expired {
        /// The commit.
        commit: CommitId,
        /// Whose key.
        signer: String,
        /// The key.
        key: String,
        /// Since when or until when.
        why: String,
    },
    /// The signer is not the committer.
    #[error("commit {commit} names {committer} as its committer but is signed by {signer}")]
    OtherCommitter {
        /// The commit.
        commit: CommitId,
        /// Whose key.
        signer: String,
        /// The address in the commit.
        committer: String,
    },
    /// It is of a kind for which the config lists no signers, or that is too weak.
    #[error("commit {commit} has an {what} signature, which is not accepted: {why}")]
    NotAccepted {
        /// The commit.
        commit: CommitId,
        /// `SSH`, `OpenPGP` or `unknown`.
        what: &'static str,
        /// The reason.
        why: String,
    },
    /// It cannot be read.
    #[error("commit {commit} has a signature that cannot be read: {why}")]
    Malformed {
        /// The commit.
        commit: CommitId,
        /// The reason.
        why: String,
    },
    /// The daemon's own list of signers cannot be used. Nothing is accepted without it.
    #[error("the list of allowed signers cannot be used")]
    Signers(#[source] BadSigners),
    /// The checking program failed.
    #[error("commit {commit} could not be checked: {why}")]
    Checker {
        /// The commit.
        commit: CommitId,
        /// The reason.
        why: String,
    },
    /// The mirror failed.
    #[error("the commit to check cannot be read")]
    Source(#[source] SourceError),
}

/// A commit and its signature, taken apart.
struct Signed<'a> {
    commit: CommitId,
    committer: &'a Person,
    signature: &'a str,
    payload: &'a [u8],
    policy: &'a SignaturePolicy,
}

impl Mirror {
    /// Checks the signature of one commit. A policy without any list accepts nothing.
    ///
    /// # Errors
    /// [`SignatureRejection`], also when the check itself could not be done.
    pub fn verify(
        &self,
        id: CommitId,
        policy: &SignaturePolicy,
    ) -> Result<Verified, SignatureRejection> {
        let info = self.commit(id).map_err(SignatureRejection::Source)?;
        let repo = self.inner.repo.to_thread_local();
        let broken = |error| SignatureRejection::Source(self.object(&id, &error));
        let commit = repo.find_commit(id.to_gix()).map_err(broken)?;
        if signatures(&commit.data) > 1 {
            let why = "there is more than one".to_owned();
            return Err(SignatureRejection::Malformed { commit: id, why });
        }
        let found = commit
            .signature()
            .map_err(|error| SignatureRejection::Malformed { commit: id, why: chain(&error) })?;
        let Some((signature, payload)) = found else {
            return Err(SignatureRejection::Unsigned { commit: id });
        };
        let Ok(signature) = std::str::from_utf8(signature.as_ref()) else {
            let why = "it is not text".to_owned();
            return Err(SignatureRejection::Malformed { commit: id, why });
        };
        let payload = payload.to_bstring();
        let signed =
            Signed { commit: id, committer: &info.committer, signature, payload: &payload, policy };
        match signature.trim_start() {
            text if text.starts_with("-----BEGIN SSH SIGNATURE-----") => ssh::verify(&signed),
            text if text.starts_with("-----BEGIN PGP SIGNATURE-----") => {
                openpgp::verify(&signed, &self.inner.config.temp)
            }
            other => Err(SignatureRejection::NotAccepted {
                commit: id,
                what: "unknown",
                why: plain(other.lines().next().unwrap_or_default(), 60),
            }),
        }
    }
}

/// Signature headers in a commit. Git's own tools differ on which of several counts.
fn signatures(commit: &[u8]) -> usize {
    commit
        .split(|byte| *byte == b'\n')
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with(b"gpgsig"))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_headers_are_counted_and_messages_are_not() {
        let commit =
            b"tree 0\ngpgsig -----BEGIN\n x\ngpgsig-sha256 -----BEGIN\n\ngpgsig in the text\n";
        assert_eq!(signatures(commit), 2);
        assert_eq!(signatures(b"tree 0\nauthor a\n\ngpgsig x\n"), 0);
    }
}
