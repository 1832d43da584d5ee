//! A folder of files that a Slurm cluster shares, in canonical form: which files, and what a look found.
//!
//! Pure. What is stored has paths and digests; the bytes are beside it for the hand that writes them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::{Digest, digest_of};

/// The files of a release in one folder, of which some versions stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedFolder {
    /// Where it is seen: a link to the version in force.
    pub to: String,
    /// How many versions stay, the one in force among them.
    pub keep: u32,
    /// The group that it belongs to, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether everybody may read it, or the group alone.
    pub everybody: bool,
    /// Its files, in the order of their paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<SharedFile>,
    /// The bytes; in wishes only.
    #[serde(skip)]
    pub content: SharedContent,
    /// What was seen of it; in observations only.
    #[serde(skip)]
    pub seen: Option<Arc<SharedSeen>>,
}

/// One file of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedFile {
    /// Its path within the folder.
    pub path: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its length, bytes.
    pub bytes: u64,
    /// Whether it may be executed.
    pub executable: bool,
}

/// The bytes of a folder's files, by path.
#[derive(Clone, Default, PartialEq)]
pub struct SharedContent(pub Arc<BTreeMap<String, Arc<[u8]>>>);

impl fmt::Debug for SharedContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedContent({})", self.0.len())
    }
}

/// A shared folder as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedSeen {
    /// The version that the link leads to.
    pub link: Option<String>,
    /// What stands in its place and is not ours.
    pub foreign: Option<String>,
    /// The versions that were made, the oldest first.
    pub versions: Vec<String>,
    /// Whether the last change of it was done to its end.
    pub complete: bool,
    /// Who keeps it.
    pub holder: Option<String>,
    /// How the wished version is there; `None`: it is not.
    pub wished: Option<Vec<SharedDifference>>,
}

/// A file that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SharedDifference {
    /// Its path within the folder.
    pub path: String,
    /// In what: `content`, `mode 0666`, `missing`.
    pub what: String,
}

impl SharedFolder {
    /// The name of the version that these files are: of everything that is written.
    #[must_use]
    pub fn version(&self) -> String {
        digest_of(&(&self.files, &self.group, self.everybody)).short()
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The mode of a file. Neither set-user-ID nor writable by anybody but its owner.
    #[must_use]
    pub fn mode_of(&self, file: &SharedFile) -> u32 {
        match (self.everybody, file.executable) {
            (true, true) => 0o755,
            (true, false) => 0o644,
            (false, true) => 0o750,
            (false, false) => 0o640,
        }
    }

    /// The mode of folders.
    #[must_use]
    pub fn folder_mode(&self) -> u32 {
        if self.everybody { 0o755 } else { 0o750 }
    }

    /// Takes out the bytes, and what was seen.
    pub fn strip(&mut self) {
        self.content = SharedContent::default();
        self.seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_everything_that_is_written() {
        let file = |path: &str| SharedFile {
            path: path.into(),
            digest: Digest::of("x"),
            bytes: 1,
            executable: false,
        };
        let folder = SharedFolder {
            to: "/shared/torch".into(),
            keep: 2,
            group: None,
            everybody: true,
            files: vec![file("a")],
            content: SharedContent::default(),
            seen: None,
        };
        let mut other = folder.clone();
        (other.keep, other.to) = (5, "/shared/other".into());
        assert_eq!(folder.version(), other.version());
        let executable = SharedFile { executable: true, ..file("a") };
        for other in [
            SharedFolder { everybody: false, ..folder.clone() },
            SharedFolder { group: Some("research".into()), ..folder.clone() },
            SharedFolder { files: vec![executable], ..folder.clone() },
            SharedFolder { files: vec![file("a"), file("b")], ..folder.clone() },
        ] {
            assert_ne!(folder.version(), other.version());
            for file in &other.files {
                assert_eq!(other.mode_of(file) & 0o7022, 0, "{file:?}");
            }
        }
    }
}
