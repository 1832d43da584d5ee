//! Loading what a commit asks for, with what other programs have to render for it first.
//!
//! The load itself is pure. What it lacks is rendered, once for each digest of its inputs, and then it is
//! loaded again, so that a commit is judged by what is applied.

use std::sync::Arc;
use std::time::Duration;

use trueup_kubernetes::release::DigestKey;

use crate::model::Fault;
use crate::port::Renderer;
use crate::spec::rendering::{RenderRequest, Rendering};
use crate::spec::{self, Diagnostic, Loaded, ParseCache, RepoFiles, Select};

/// Renderings of one commit; more of them would hold up all that follows.
const RENDERINGS_MAX: usize = 100;
/// How long all renderings of one commit may take.
const TOGETHER: Duration = Duration::from_secs(600);

/// What a load needs beside the files of a commit.
#[derive(Clone, Default)]
pub struct LoadSetup {
    /// Renders charts and kustomizations; `None`: they are mistakes.
    pub renderer: Option<Arc<dyn Renderer>>,
    /// For digests of Secrets, which are in the log.
    pub key: Option<DigestKey>,
}

impl std::fmt::Debug for LoadSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadSetup").field("renders", &self.renderer.is_some()).finish()
    }
}

/// Why a commit gives no desired state.
#[derive(Debug)]
pub enum Unread {
    /// What is wrong with it.
    Mistakes(Vec<Diagnostic>),
    /// It cannot be said now.
    Fault(Fault),
}

/// Loads an environment, rendered where it has to be. It computes for a while, so callers that others wait
/// for give it a thread.
pub(super) async fn load(
    files: &RepoFiles,
    select: &Select,
    cache: &mut ParseCache,
    setup: &LoadSetup,
) -> Result<Loaded, Unread> {
    cache.seal(setup.key.as_ref());
    let loaded = spec::load(files, select, cache);
    let wanted = cache.wanted();
    let Some(renderer) = setup.renderer.as_deref().filter(|_| !wanted.is_empty()) else {
        return loaded.map_err(Unread::Mistakes);
    };
    for (request, outcome) in rendered(renderer, wanted).await.map_err(Unread::Fault)? {
        cache.rendered(&request, &outcome);
    }
    spec::load(files, select, cache).map_err(Unread::Mistakes)
}

/// What comes of each request.
///
/// # Errors
/// The first fault.
pub async fn rendered(
    renderer: &dyn Renderer,
    wanted: Vec<RenderRequest>,
) -> Result<Vec<(RenderRequest, Rendering)>, Fault> {
    let began = tokio::time::Instant::now();
    let mut all = Vec::new();
    for (nth, request) in wanted.into_iter().enumerate() {
        // One after the other: each may take a processor and much memory.
        let outcome = match nth < RENDERINGS_MAX && began.elapsed() < TOGETHER {
            true => renderer.render(&request).await?,
            false => Rendering::Refused(format!(
                "the commit has more than {RENDERINGS_MAX} charts and kustomizations that are new, or they \
                 take longer than {} min: bring them in several commits",
                TOGETHER.as_secs() / 60
            )),
        };
        all.push((request, outcome));
    }
    Ok(all)
}
