//! `trueup log blob`.

use std::path::Path;

use clap::Args;

use super::context::Context;
use super::exit::{CliError, CliResult, Done};
use crate::journal::Blobs;

/// Fewest digits that name a blob: as many as `trueup log` shows.
const DIGITS_MIN: usize = 12;

/// Show what was too large for an event
///
/// An event names such content by its SHA-256: all mistakes of a commit, a long message, a large
/// value. What is printed has that digest, or it is an error. Needs root.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup log blob 0123456789ab")]
pub(super) struct LogBlob {
    /// The first digits of its SHA-256
    #[arg(value_name = "DIGEST")]
    digest: String,
}

impl LogBlob {
    pub(super) fn run(self, context: &Context, dir: &Path) -> CliResult {
        let digits = self.digest.to_ascii_lowercase();
        if digits.len() < DIGITS_MIN {
            let message = format!("`{digits}` is too short: give {DIGITS_MIN} digits or more");
            return Err(CliError::input(message));
        }
        let blobs = Blobs::open(dir);
        let content = match blobs.find(&digits)? {
            Some(blob) => blobs.read(&blob)?,
            None => None,
        };
        let Some(content) = content else {
            let message = format!("there is no blob {digits} beside the log in {}", dir.display());
            return Err(CliError::input(message)
                .hint("`trueup log` shows the digests; one may be missing after a full disk"));
        };
        for line in String::from_utf8_lossy(&content).lines() {
            if !context.ui.line(line)? {
                break;
            }
        }
        Ok(Done::Fine)
    }
}
