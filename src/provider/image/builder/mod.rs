//! Where an image is built: in this process, or in a unit of its own.
//!
//! A build mounts, changes its root and runs package scripts. The daemon's unit allows none of that
//! and does not have to: under systemd it asks for a transient unit that allows exactly this, can
//! write to one folder, and ends with the daemon. Elsewhere (a terminal, a container without
//! systemd) the build runs in this process.

mod transient;
mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::transient::unit_argv;
pub use self::worker::serve;
use super::build::{BuildOutcome, Targets, build};
use crate::model::Fault;
use crate::model::resource::{BuildSpec, VolumeFormat};

/// The command of ours that builds one image: `trueup image-build`.
pub const WORKER_COMMAND: &str = "image-build";

/// Most bytes of a request or a reply: the files of a build are in it, and a spec has at most a few
/// megabytes of them.
const MESSAGE_MAX: u64 = 64 << 20;

/// What the log keeps of a build.
pub(super) type Facts = BTreeMap<String, String>;

/// How images are built.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Builder {
    /// In this process and under its rights.
    #[default]
    Here,
    /// In a transient unit of systemd, which runs this program.
    Unit {
        /// The path of `trueup`.
        program: PathBuf,
    },
}

/// What is asked of the worker: one line of JSON on its stdin, which then stays open for as long as
/// the answer is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuildRequest {
    /// The version of trueup that asks: another one may mean something else by the rest.
    pub version: String,
    /// What to build.
    pub spec: BuildSpec,
    /// The image's format.
    pub format: VolumeFormat,
    /// Its virtual size in bytes; `None`: as small as fits.
    pub size: Option<u64>,
    /// Where the image goes, its companions beside it.
    pub image: PathBuf,
}

/// What the worker says: one line of JSON each on its stdout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "camelCase")]
pub enum BuildReply {
    /// The next stage begins.
    Stage(String),
    /// It is done; nothing follows.
    Built(BTreeMap<String, String>),
    /// It failed; nothing follows.
    Failed(Fault),
}

impl Builder {
    /// The one that fits the place: a unit where systemd started this very process as a service.
    ///
    /// `exec_pid` is `$SYSTEMD_EXEC_PID` (systemd.exec(5)), which every child inherits: only where
    /// it names this process has this process a unit of its own.
    pub fn fitting(exec_pid: Option<&str>, own_pid: u32, program: PathBuf) -> Self {
        match exec_pid.map(str::parse::<u32>) {
            Some(Ok(pid)) if pid == own_pid => Self::Unit { program },
            _ => Self::Here,
        }
    }

    pub(super) async fn build(
        &self,
        request: BuildRequest,
        told: impl Fn(&str) + Send + Sync,
    ) -> Result<Facts, Fault> {
        match self {
            Self::Here => build_here(&request, told).await,
            Self::Unit { program } => transient::build(program, &request, told).await,
        }
    }
}

impl BuildRequest {
    /// A request of this version of trueup.
    pub(super) fn new(
        spec: &BuildSpec,
        format: VolumeFormat,
        size: Option<u64>,
        image: PathBuf,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            spec: spec.clone(),
            format,
            size,
            image,
        }
    }
}

async fn build_here(
    request: &BuildRequest,
    told: impl Fn(&str) + Send + Sync,
) -> Result<Facts, Fault> {
    let targets = Targets::beside(&request.image);
    build(&request.spec, request.format, request.size, &targets, told)
        .await
        .map(facts)
        .map_err(|error| error.to_fault())
}

fn facts(made: BuildOutcome) -> Facts {
    let mut facts = BTreeMap::from([
        ("image".to_owned(), made.image.to_string()),
        ("packages".to_owned(), made.packages.to_string()),
        ("packageCount".to_owned(), made.package_count.to_string()),
        ("log".to_owned(), made.log.to_string()),
        ("bytes".to_owned(), made.bytes.to_string()),
    ]);
    if let Some(boot) = made.boot {
        facts.insert("bootedIn".to_owned(), format!("{:.1} s", boot.seconds));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_asked_for_only_by_the_process_that_systemd_started() {
        let fitting = |exec_pid| Builder::fitting(exec_pid, 41, "/usr/local/bin/trueup".into());
        let unit = Builder::Unit { program: "/usr/local/bin/trueup".into() };
        assert_eq!(fitting(Some("41")), unit);
        // A shell in a service's terminal, and anything it starts, inherits another's.
        assert_eq!(fitting(Some("40")), Builder::Here);
        assert_eq!(fitting(Some("")), Builder::Here);
        assert_eq!(fitting(None), Builder::Here);
    }
}
