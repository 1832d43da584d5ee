//! `trueup releases`: what is in clusters by releases, objects or folders of files, as the log has it.
//!
//! It asks no cluster. `trueup release` is another command: it ends a hold.

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::exit::{CliError, CliResult, Done};
use super::known::known;
use super::paint::{Block, Label, Text};
use super::status::heading;
use super::time::shown;
use super::ui::Product;
use super::wire::{self, Until};
use super::{Output, past, state};
use crate::model::Name;
use crate::view;
use crate::view::backup::bytes;
use crate::view::release::{ReleaseRow, Releases as View};

/// Show releases: their objects or files in a cluster, how these do, and what others added to them
///
/// Everything is from the log, for any moment of it with --at.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Releases {
    /// Only this one, with every object that is not ready
    #[arg(value_name = "NAME", value_parser = named)]
    name: Option<Name>,
    /// As the log has it at this event or time, or so long ago
    #[arg(long, value_name = "SEQ|TIME", value_parser = state::until)]
    at: Option<Until>,
    #[command(flatten)]
    pub(super) output: Output,
}

const EXAMPLES: &str = "EXAMPLES
  trueup releases
  trueup releases minio
  trueup releases -o json
  trueup releases --at 2026-01-02T03:04:05Z
  trueup log --type 'release.*'      # everything that was seen of releases";

impl Releases {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let state = match self.at {
            None => known(context)?.state,
            Some(until) => {
                let dir = context.state_dir()?;
                let then = match past::is_closed(&dir) {
                    true => past::ask_state(context, &dir, until)?,
                    false => wire::fold(&dir, until)?,
                };
                if then.at.is_none() {
                    return Err(CliError::input("nothing had happened by then"));
                }
                then
            }
        };
        let mut view = view::release::releases(&state);
        if let Some(name) = &self.name {
            view.releases.retain(|row| row.resource.name == *name);
            if view.releases.is_empty() {
                return Err(CliError::input(format!("no release `{name}` is asked for"))
                    .hint("`trueup releases` shows all of them"));
            }
        }
        context.ui.product(&Shown { view, whole: self.name.is_some() })?;
        Ok(Done::Fine)
    }
}

/// A release by its name, or as `release/NAME`.
fn named(text: &str) -> Result<Name, String> {
    Name::new(text.strip_prefix("release/").unwrap_or(text)).map_err(|error| error.to_string())
}

/// Releases as a product.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    view: View,
    /// Whether everything that is known of them is shown.
    #[serde(skip)]
    whole: bool,
}

/// Objects and fields that a list of all releases shows of each.
const SHOWN_MAX: usize = 5;

impl Product for Shown {
    fn blocks(&self) -> Vec<Block> {
        if self.view.releases.is_empty() {
            return vec![Block::line("no release is asked for")];
        }
        let mut blocks = Vec::new();
        for row in &self.view.releases {
            if !blocks.is_empty() {
                blocks.push(Block::Gap);
            }
            blocks.extend(one(row, if self.whole { usize::MAX } else { SHOWN_MAX }));
        }
        blocks
    }
}

fn one(row: &ReleaseRow, most: usize) -> Vec<Block> {
    let mut blocks = vec![heading(&row.resource, row.status.as_ref())];
    let (Some(look), Some(cluster), Some(since)) = (&row.look, &row.cluster, row.since) else {
        blocks.push(Block::line("  it was not seen yet"));
        return blocks;
    };
    let kinds: Vec<String> =
        look.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let namespace = row.namespace.as_deref().unwrap_or_default();
    let what = match &look.folder {
        Some(folder) => {
            let force = if folder.in_force { "in force" } else { "on its way" };
            blocks.push(Block::line(format!(
                "  {}, {}, in {} of {cluster}; version {} is {force}",
                kinds.join(", "),
                bytes(folder.bytes),
                folder.to,
                folder.version
            )));
            "files"
        }
        None => {
            blocks.push(Block::line(format!("  {} in {namespace} of {cluster}", kinds.join(", "))));
            "objects"
        }
    };
    let well = if look.ready == look.total() { "ready" } else { "not ready" };
    blocks.push(Block::line(format!(
        "  {} of {} {what} ready; {well} since {}",
        look.ready,
        look.total(),
        shown(since)
    )));
    let rows = look.unready.iter().take(most).map(|it| {
        vec![
            it.object.clone().into(),
            Text::new(it.health.word(), Label::Bad),
            it.why.clone().into(),
        ]
    });
    let header = vec!["object", "is", "why"];
    table(&mut blocks, header, rows.collect(), look.unready.len() as u64 + look.more_unready);
    let rows = look.added.iter().take(most).map(|it| {
        vec![it.object.clone().into(), it.path.clone().into(), it.manager.clone().into()]
    });
    let header = vec!["object", "added by others", "who"];
    table(&mut blocks, header, rows.collect(), look.added.len() as u64 + look.more_added);
    blocks
}

/// A table of the first of `all` things, where there are any.
fn table(blocks: &mut Vec<Block>, header: Vec<&'static str>, rows: Vec<Vec<Text>>, all: u64) {
    if rows.is_empty() {
        return;
    }
    let more = all.saturating_sub(rows.len() as u64);
    blocks.extend([Block::Gap, Block::Table { header, rows }]);
    if more > 0 {
        blocks.push(Block::line(format!("  and {more} more")));
    }
}
