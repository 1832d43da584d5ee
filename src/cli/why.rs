//! `trueup why`.

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::control::Told;
use super::exit::{CliError, CliResult, Done};
use super::log::Line;
use super::paint::{Block, Label, Text};
use super::ui::Product;
use super::{Output, past};
use crate::model::ResourceId;
use crate::view::StatusRow;

/// Show the events behind a resource's status
///
/// The commit that asked for it, its last fulfilment, and everything since it drifted or was
/// changed. Read from the log, or by the daemon for members of the group trueup.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup why vm/web\n  trueup why vm/web -o json")]
pub(super) struct Why {
    /// Which, as kind/name
    resource: ResourceId,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    row: Option<StatusRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ways_back: Vec<String>,
    left_out: u64,
    events: Vec<Line>,
}

impl Why {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let dir = context.state_dir()?;
        let Told { row, ways_back, left_out, events, .. } = match past::is_closed(&dir) {
            true => past::ask_told(context, &dir, &self.resource)?,
            false => past::told(&dir, &self.resource)?,
        };
        if events.is_empty() {
            let message = format!("the log says nothing about {}", self.resource);
            return Err(CliError::input(message).hint("`trueup status` lists what it knows"));
        }
        context.ui.product(&Shown { row, ways_back, left_out, events })?;
        Ok(Done::Fine)
    }
}

impl Product for Shown {
    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        if let Some(row) = &self.row {
            let detail = row.status.detail();
            blocks.push(Block::Line(vec![
                Text::new(row.resource.to_string(), Label::Strong),
                format!(" is {}", row.status.word()).into(),
                if detail.is_empty() { detail } else { format!(": {detail}") }.into(),
            ]));
        } else {
            blocks.push(Block::line("it is neither asked for nor ours any more"));
        }
        for way in &self.ways_back {
            blocks.push(Block::line(way.clone()));
        }
        if self.left_out > 0 {
            blocks.push(Block::line(format!("{} earlier events are left out", self.left_out)));
        }
        blocks.push(Block::Gap);
        blocks.push(super::log::table(&self.events));
        blocks
    }
}
