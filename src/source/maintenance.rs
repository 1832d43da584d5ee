//! Keeps the mirror from growing by one pack with every fetch.
//!
//! gix cannot repack, so Git does, where it is installed. A failure here never fails a fetch: the
//! mirror only gets slower. It never removes what a ref or [`Mirror::keep`] names, nor anything
//! that is younger than two weeks.

use std::ffi::OsStr;
use std::fs;

use super::error::{chain, scrub};
use super::mirror::Mirror;
use super::process;

/// What was done after a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Maintenance {
    /// Few enough packs.
    NotNeeded,
    /// The packs were merged.
    Repacked {
        /// Packs before.
        before: usize,
        /// Packs after.
        after: usize,
    },
    /// It is due and could not be done; the mirror works, with ever slower reads.
    Failed {
        /// Packs now.
        packs: usize,
        /// Why, for instance that Git is not installed.
        why: String,
    },
}

impl Mirror {
    /// Merges the packs when there are more than the config allows.
    pub(crate) fn maintain(&self) -> Maintenance {
        let packs = self.packs();
        if packs <= self.inner.config.packs_max || !self.is_owner() {
            return Maintenance::NotNeeded;
        }
        match self.repack() {
            Ok(()) => Maintenance::Repacked { before: packs, after: self.packs() },
            Err(why) => {
                tracing::warn!(packs, why, "the mirror could not be repacked");
                Maintenance::Failed { packs, why }
            }
        }
    }

    fn packs(&self) -> usize {
        let directory = self.inner.config.directory.join("objects").join("pack");
        // No directory means no packs yet.
        fs::read_dir(directory).map_or(0, |entries| {
            entries
                .flatten()
                .filter(|entry| entry.path().extension().is_some_and(|ext| ext == "pack"))
                .count()
        })
    }

    fn repack(&self) -> Result<(), String> {
        let directory = self.inner.config.directory.as_os_str();
        let args = [
            OsStr::new("--git-dir"),
            directory,
            // Nothing in the mirror may start another program.
            OsStr::new("-c"),
            OsStr::new("core.hooksPath=/dev/null"),
            OsStr::new("gc"),
            OsStr::new("--quiet"),
            OsStr::new("--prune=2.weeks.ago"),
        ];
        let null = OsStr::new("/dev/null");
        let env = [("GIT_CONFIG_GLOBAL", null), ("GIT_CONFIG_NOSYSTEM", OsStr::new("1"))];
        let limit = self.inner.config.deadline;
        let output =
            process::run("git", &args, &env, Vec::new(), limit).map_err(|error| chain(&error))?;
        if output.status.success() {
            return Ok(());
        }
        Err(scrub(&String::from_utf8_lossy(&output.stderr), &[]))
    }
}
