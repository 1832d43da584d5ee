//! Clusters for people: nodes, resources, queues, accounts, and what is out.

use jiff::Timestamp;
use serde::Serialize;
use trueup_slurm::{NodeUse, Overview, Share};

use super::super::paint::{Block, Label, Text};
use super::super::status::heading;
use super::super::time::shown;
use super::super::ui::Product;
use super::kubernetes;
use crate::view::backup::{bytes, span};
use crate::view::cluster::{ClusterRow, Clusters};

/// Clusters as a product.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Shown(pub(super) Clusters);

impl Product for Shown {
    fn blocks(&self) -> Vec<Block> {
        if self.0.clusters.is_empty() {
            return vec![Block::line("no cluster is asked for")];
        }
        let mut blocks = Vec::new();
        for row in &self.0.clusters {
            if !blocks.is_empty() {
                blocks.push(Block::Gap);
            }
            blocks.extend(one(row, self.0.at));
        }
        blocks
    }
}

fn one(row: &ClusterRow, now: Timestamp) -> Vec<Block> {
    let mut blocks = vec![heading(&row.resource, row.status.as_ref())];
    match (&row.overview, &row.kubernetes, row.seen_at) {
        (Some(overview), _, Some(at)) => blocks.extend(seen(overview, at)),
        (None, Some(overview), Some(at)) => blocks.extend(kubernetes::seen(overview, at, now)),
        _ => blocks.push(Block::line("  it was not seen yet")),
    }
    blocks.extend(if row.kubernetes.is_some() { kubernetes::out(row) } else { out(row) });
    blocks.extend(kubernetes::access(row));
    blocks
}

fn seen(overview: &Overview, at: Timestamp) -> Vec<Block> {
    let nodes = &overview.nodes;
    let daemons: Vec<String> =
        overview.daemons.iter().map(|(release, count)| format!("{release} on {count}")).collect();
    let mut blocks = vec![
        Block::line(format!("  Slurm {}, as of {}", overview.release, shown(at))),
        Block::line(format!(
            "  {} of {} nodes up, {} with jobs, {} drained, {} down; daemons {}",
            nodes.up,
            nodes.total,
            nodes.busy,
            nodes.drained,
            nodes.down,
            if daemons.is_empty() { "none".to_owned() } else { daemons.join(", ") }
        )),
    ];
    blocks.extend(groups(overview));
    blocks.push(Block::Gap);
    let rows = overview.resources.iter().map(|(name, share)| resource(name, *share));
    let header = vec!["resource", "in use", "there is"];
    blocks.push(Block::Table { header, rows: rows.collect() });
    let rows = overview.partitions.iter().map(|(name, queue)| {
        let wait = match queue.pending {
            0 => String::new(),
            _ => span(u64::try_from(queue.longest_wait).unwrap_or_default()),
        };
        vec![
            name.clone().into(),
            queue.state.clone().into(),
            queue.running.to_string().into(),
            queue.pending.to_string().into(),
            wait.into(),
        ]
    });
    let header = vec!["partition", "state", "run", "wait", "for up to"];
    blocks.extend([Block::Gap, Block::Table { header, rows: rows.collect() }]);
    if !overview.accounts.is_empty() {
        let rows = overview.accounts.iter().map(|(name, load)| {
            let name = if name.is_empty() { "(none)" } else { name };
            vec![
                name.to_owned().into(),
                load.running.to_string().into(),
                load.pending.to_string().into(),
                load.cpus.to_string().into(),
                load.gpus.to_string().into(),
            ]
        });
        let header = vec!["account", "run", "wait", "processors", "gpus"];
        blocks.extend([Block::Gap, Block::Table { header, rows: rows.collect() }]);
    }
    blocks
}

/// A line for nodes that are alike.
fn groups(overview: &Overview) -> Vec<Block> {
    if overview.groups.is_empty() {
        return Vec::new();
    }
    let rows = overview.groups.iter().map(|group| {
        let own = ["cpu", "memoryMib"];
        let of = |name: &str| group.resources.get(name).map(|share| in_use(name, *share));
        let others = group.resources.iter().filter(|(name, _)| !own.contains(&name.as_str()));
        let others: Vec<String> =
            others.map(|(name, share)| format!("{name} {}", in_use(name, *share))).collect();
        let label = match group.state {
            NodeUse::Up => Label::Good,
            NodeUse::Drained => Label::Warn,
            NodeUse::Down => Label::Bad,
        };
        vec![
            named(&group.nodes, group.unnamed).into(),
            group.count.to_string().into(),
            Text::new(group.state.as_str(), label),
            group.busy.to_string().into(),
            of("cpu").unwrap_or_default().into(),
            of("memoryMib").unwrap_or_default().into(),
            others.join(", ").into(),
        ]
    });
    let header = vec!["nodes", "count", "state", "with jobs", "processors", "memory", "other"];
    vec![Block::Gap, Block::Table { header, rows: rows.collect() }]
}

/// Names of nodes, and how many more there are.
pub(super) fn named(nodes: &str, unnamed: u64) -> String {
    match unnamed {
        0 => nodes.to_owned(),
        more => format!("{nodes} and {more} more"),
    }
}

fn in_use(name: &str, share: Share) -> String {
    format!("{} of {}", amount(name, share.allocated), amount(name, share.total))
}

fn amount(name: &str, number: u64) -> String {
    match name {
        "memoryMib" => bytes(number.saturating_mul(1 << 20)),
        _ => number.to_string(),
    }
}

fn resource(name: &str, share: Share) -> Vec<Text> {
    let shown = if name == "memoryMib" { "memory" } else { name };
    let (used, total) = (amount(name, share.allocated), amount(name, share.total));
    vec![shown.to_owned().into(), used.into(), total.into()]
}

/// Nodes that are out, and those that operators want out.
fn out(row: &ClusterRow) -> Vec<Block> {
    let seen = row.overview.iter().flat_map(|overview| &overview.out);
    let mut rows: Vec<Vec<Text>> = Vec::new();
    for out in seen {
        let drain = row.drains.iter().find(|it| it.node == out.node && it.drain.in_force);
        let (reason, by, until) = match drain {
            Some(it) => (it.drain.reason.clone(), it.drain.by.clone(), shown(it.drain.until)),
            None => (out.reason.clone(), out.by.clone(), String::new()),
        };
        let since = Timestamp::from_second(out.since).ok().filter(|_| out.since > 0);
        rows.push(vec![
            out.node.clone().into(),
            reason.into(),
            by.into(),
            since.map(shown).unwrap_or_default().into(),
            until.into(),
            if out.answers { "yes".into() } else { Text::new("no", Label::Bad) },
        ]);
    }
    for it in row.drains.iter().filter(|it| !it.drain.in_force) {
        rows.push(vec![
            it.node.clone().into(),
            format!("{} (asked for)", it.drain.reason).into(),
            it.drain.by.clone().into(),
            "".into(),
            shown(it.drain.until).into(),
            "".into(),
        ]);
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let header = vec!["out of use", "why", "by", "since", "until", "answers"];
    vec![Block::Gap, Block::Table { header, rows }]
}
