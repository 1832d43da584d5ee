//! The source against real Git: repositories made by `git`, served by real servers.

mod follow;
mod leftovers;
mod pulls;
mod server;
mod signature;
mod tree;
mod watch;

use std::path::Path;
use std::time::Duration;

use trueup::source::{Mirror, MirrorConfig};

use crate::support::git_repo::GitRepo;

/// A config for `url` with its state below `state` and a deadline no healthy test reaches.
pub(crate) fn config(url: impl Into<String>, state: &Path) -> MirrorConfig {
    let mut config = MirrorConfig::new(url, "main", &state.join("state"));
    config.deadline = Duration::from_secs(60);
    config
}

/// A mirror of the repository's bare half, through a `file://` URL.
pub(crate) fn mirror_of(repo: &GitRepo) -> Mirror {
    let url = format!("file://{}", repo.bare().display());
    Mirror::open_or_create(config(url, repo.root())).unwrap()
}
