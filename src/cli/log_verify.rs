//! `trueup log verify`.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::exit::{CliError, CliResult, Done};
use super::paint::{Block, Label, Text};
use super::time::shown;
use super::ui::Product;
use crate::journal::{self, Report};

/// Check every line of the log, its hashes and its order
///
/// Reads only, needs no lock, and may run beside the daemon, but as root: it trusts nobody else's
/// reading. Damage is told with its file, line and byte.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup log verify\n  trueup log verify --json")]
pub(super) struct LogVerify {
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown {
    ok: bool,
    events: u64,
    segments: usize,
    bytes: u64,
    first_at: Option<jiff::Timestamp>,
    last_at: Option<jiff::Timestamp>,
    head: String,
    unfinished_bytes: u64,
}

impl LogVerify {
    pub(super) fn run(self, context: &Context, dir: &Path) -> CliResult {
        let report = journal::verify(dir)?;
        if report.events == 0 {
            let message = format!("there is no log in {}", dir.display());
            return Err(CliError::input(message).hint("name the state directory: --state-dir"));
        }
        let shown = Shown::of(&report);
        if self.json {
            context.ui.data(&shown)?;
        } else {
            context.ui.product(&shown)?;
        }
        Ok(Done::Fine)
    }
}

impl Shown {
    fn of(report: &Report) -> Self {
        Self {
            ok: true,
            events: report.events,
            segments: report.segments.len(),
            bytes: report.segments.iter().map(|(_, bytes)| bytes).sum(),
            first_at: report.first_at,
            last_at: report.head.at,
            head: report.head.hash.to_string(),
            unfinished_bytes: report.tail.as_ref().map_or(0, |tail| tail.bytes),
        }
    }
}

impl Product for Shown {
    fn blocks(&self) -> Vec<Block> {
        let span = match (self.first_at, self.last_at) {
            (Some(first), Some(last)) => format!(", {} to {}", shown(first), shown(last)),
            _ => String::new(),
        };
        let mut blocks = vec![
            Block::Line(vec!["log verify: ".into(), Text::new("ok", Label::Good)]),
            Block::line(format!(
                "{} events in {} segment(s), {} bytes{span}",
                self.events, self.segments, self.bytes
            )),
            Block::line(format!("head {}", self.head)),
        ];
        if self.unfinished_bytes > 0 {
            blocks.push(Block::line(format!(
                "{} bytes of an unfinished line at the end: being written, or cut off at the next \
                 start",
                self.unfinished_bytes
            )));
        }
        blocks
    }
}
