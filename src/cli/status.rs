//! `trueup status`.

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::control::Known;
use super::exit::{CliResult, Done};
use super::known::known;
use super::paint::{Block, Label, Text};
use super::time::shown;
use super::ui::Product;
use super::{Output, report};
use crate::model::ResourceId;
use crate::view::{self, HealthWord, StatusRow, Summary};

/// Show what every resource is in
///
/// A running daemon answers, and knows from its newest plan what is foreign and what waits for
/// something else. Where none runs, the log says all the rest.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup status\n  trueup status --problems -o json")]
pub(super) struct Status {
    #[command(flatten)]
    pub(super) output: Output,
    /// Only what is not in sync
    #[arg(long)]
    problems: bool,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    summary: Summary,
    resources: Vec<StatusRow>,
}

impl Status {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let Known { state, skipped, notes, .. } = known(context)?;
        let mut resources = view::rows(&state, &skipped, &notes);
        let summary = view::summary(&state, &resources);
        if self.problems {
            resources.retain(|row| !row.status.is_synced());
        }
        context.ui.product(&Shown { summary, resources })?;
        Ok(Done::Fine)
    }
}

impl Product for Shown {
    fn blocks(&self) -> Vec<Block> {
        let mut blocks = headline(&self.summary);
        if self.resources.is_empty() {
            return blocks;
        }
        let rows = self.resources.iter().map(row).collect();
        blocks.push(Block::Gap);
        blocks.push(Block::Table { header: vec!["resource", "status", "since", "why"], rows });
        blocks
    }
}

fn headline(summary: &Summary) -> Vec<Block> {
    let strong = |text: &str| Text::new(text, Label::Strong);
    let environment = summary.environment.as_ref().map_or("none yet", |name| name.as_str());
    let commit = summary.commit.as_ref().map_or("no commit yet", |commit| commit.short());
    let counts: Vec<_> =
        summary.counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let mut line = vec![
        strong("environment "),
        environment.into(),
        strong("  commit "),
        commit.into(),
        strong("  event "),
        summary.seq.to_string().into(),
    ];
    if !counts.is_empty() {
        line.extend([strong("  resources "), counts.join(", ").into()]);
    }
    let mut blocks = vec![Block::Line(line)];
    let mut say = |label, what: &str, text: String| {
        blocks.push(Block::Line(vec![Text::new(format!("{what}: "), label), text.into()]));
    };
    if let Some(paused) = &summary.paused {
        say(Label::Warn, "paused", format!("by {}: {}", paused.by, paused.reason));
    }
    if let Some((plan, reasons)) = &summary.waiting {
        say(Label::Warn, "held", format!("plan {}: {}", plan.short(), reasons.join("; ")));
    }
    if let Some(rejected) = &summary.rejected {
        let first = rejected.problems.first().map_or_else(String::new, |first| {
            format!(": {}:{}:{}: {}", first.path, first.line, first.column, first.message)
        });
        let commit = rejected.commit.short();
        say(Label::Bad, "rejected", format!("{commit} has {} mistake(s){first}", rejected.errors));
    }
    if let Some(refused) = &summary.refused {
        say(Label::Bad, "refused", format!("head {}: {}", refused.commit, refused.why));
    }
    if let Some((since, why)) = &summary.unreachable {
        say(Label::Warn, "unreachable", format!("since {}: {why}", shown(*since)));
    }
    if let Some((since, why)) = &summary.unreadable {
        say(Label::Bad, "mirror unreadable", format!("since {}: {why}", shown(*since)));
    }
    if let Some(forge) = &summary.forge {
        if let Some((since, why)) = &forge.unavailable {
            say(Label::Warn, "forge unavailable", format!("since {}: {why}", shown(*since)));
        }
        if let Some(why) = &forge.why {
            let what = format!("{} post(s) not taken: {why}", forge.refused);
            say(Label::Warn, "forge", what);
        }
    }
    for gpu in &summary.gpus {
        let (label, product) = match gpu.health {
            HealthWord::Lost => (Label::Bad, gpu.identity.as_ref()),
            HealthWord::Degraded | HealthWord::Healthy => (Label::Warn, gpu.identity.as_ref()),
        };
        let product = product.map(|it| format!(", {}", it.product)).unwrap_or_default();
        let since = gpu.since.map(|since| format!(" since {}", shown(since))).unwrap_or_default();
        let (word, why) = (gpu.health.word().to_lowercase(), gpu.why.join("; "));
        say(label, "gpu", format!("{} ({}{product}) is {word}{since}: {why}", gpu.gpu, gpu.pci));
    }
    for warning in &summary.warnings {
        say(Label::Warn, "warning", report::at_place(warning));
    }
    blocks
}

fn row(row: &StatusRow) -> Vec<Text> {
    vec![
        row.resource.to_string().into(),
        Text::new(row.status.word(), label(&row.status)),
        row.synced_at.map(shown).unwrap_or_default().into(),
        [row.status.detail(), row.note.clone().unwrap_or_default()]
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join("; ")
            .into(),
    ]
}

/// The line above what is shown of one resource.
pub(super) fn heading(resource: &ResourceId, status: Option<&view::Status>) -> Block {
    let mut line = vec![Text::new(resource.to_string(), Label::Strong)];
    if let Some(status) = status {
        line.push("  ".into());
        line.push(Text::new(status.word(), label(status)));
        let detail = status.detail();
        if !detail.is_empty() {
            line.push(format!("  {detail}").into());
        }
    }
    Block::Line(line)
}

pub(super) fn label(status: &view::Status) -> Label {
    match status {
        view::Status::Synced => Label::Good,
        view::Status::Progressing(_) => Label::Busy,
        view::Status::Drifted(_)
        | view::Status::Held(_)
        | view::Status::Blocked(_)
        | view::Status::Unobservable(_) => Label::Warn,
        view::Status::Failed { .. } => Label::Bad,
        view::Status::Foreign => Label::Dim,
    }
}
