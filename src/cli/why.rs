//! `trueup why`.

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::exit::{CliError, CliResult, Done};
use super::log::Line;
use super::paint::{Block, Label, Text};
use super::ui::Product;
use super::{Output, wire};
use crate::model::ResourceId;
use crate::state::State;
use crate::view::{self, StatusRow, Story};

/// Show the events behind a resource's status
///
/// The commit that asked for it, its last fulfilment, and everything since it drifted or was
/// changed.
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
    left_out: u64,
    events: Vec<Line>,
}

impl Why {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let mut story = Story::of(self.resource.clone());
        let mut state = State::default();
        wire::each_event(&context.state_dir()?, wire::Until::End, |recorded| {
            state.apply(recorded);
            story.take(recorded);
        })?;
        let events: Vec<_> = story.events().into_iter().map(Line::of).collect();
        if events.is_empty() {
            let message = format!("the log says nothing about {}", self.resource);
            return Err(CliError::input(message).hint("`trueup status` lists what it knows"));
        }
        let row = view::row_of(&state, &self.resource);
        context.ui.product(&Shown { row, left_out: story.left_out(), events })?;
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
        if self.left_out > 0 {
            blocks.push(Block::line(format!("{} earlier events are left out", self.left_out)));
        }
        blocks.push(Block::Gap);
        blocks.push(super::log::table(&self.events));
        blocks
    }
}
