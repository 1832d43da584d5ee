//! What is posted about a pull request, kept as a blob so that a crash does not change a word of it.

use serde::{Deserialize, Serialize};

use crate::port::forge::{Annotation, CommitState};

/// What is posted about a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The status of its head.
    pub state: CommitState,
    /// The line beside the status.
    pub description: String,
    /// The comment, and the summary of the check: Markdown.
    pub comment: String,
    /// Remarks on lines, the worst first.
    pub annotations: Vec<Annotation>,
}
