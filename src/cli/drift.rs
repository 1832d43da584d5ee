//! `trueup drift`.

use clap::Args;
use serde::Serialize;

use super::Output;
use super::context::Context;
use super::exit::{CliResult, Done};
use super::known::known;
use super::paint::{Block, Text};
use super::time::shown;
use super::ui::Product;
use crate::view::{self, DriftRow};

/// Show what is no longer as trueup made it
///
/// Exits with 3 where something drifted, so that a script can ask.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup drift\n  trueup drift -o json || echo drifted")]
pub(super) struct Drift {
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Drifts(Vec<DriftRow>);

impl Drift {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let drifts = Drifts(view::drifts(&known(context)?.state));
        context.ui.product(&drifts)?;
        Ok(if drifts.0.is_empty() { Done::Fine } else { Done::Changes })
    }
}

impl Product for Drifts {
    fn blocks(&self) -> Vec<Block> {
        if self.0.is_empty() {
            return vec![Block::line("nothing drifted")];
        }
        let rows = self.0.iter().flat_map(rows_of).collect();
        let header = vec!["resource", "since", "what", "field"];
        vec![Block::Table { header, rows }]
    }
}

/// A row a field; one without a field where the whole thing is missing or stopped.
fn rows_of(drift: &DriftRow) -> Vec<Vec<Text>> {
    let row = |field: String| {
        vec![
            drift.resource.to_string().into(),
            shown(drift.since).into(),
            drift.what.clone().into(),
            field.into(),
        ]
    };
    if drift.changes.is_empty() {
        return vec![row(String::new())];
    }
    drift.changes.iter().map(|change| row(view::change(change))).collect()
}
