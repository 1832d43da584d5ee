//! The port to the programs that render charts and kustomizations.

use super::BoxFuture;
use crate::model::Fault;
use crate::spec::rendering::{RenderRequest, Rendering};

/// Renders what a commit holds, which may be a stranger's: confined, within limits, and each request once.
pub trait Renderer: Send + Sync {
    /// What comes of a request: the same each time.
    ///
    /// # Errors
    /// A fault where nothing can be said of it now: it took too long, or its program was ended.
    fn render<'a>(&'a self, request: &'a RenderRequest) -> BoxFuture<'a, Result<Rendering, Fault>>;
}
