//! Kubernetes clusters for people: nodes, resources, what is out and what complains, certificates.

use jiff::Timestamp;
use trueup_kubernetes::{Overview, Share};

use super::super::paint::{Block, Label, Text};
use super::super::time::shown;
use crate::view::backup::bytes;
use crate::view::cluster::ClusterRow;

/// Days before the end of a certificate from which on it stands out.
const SOON_DAYS: i64 = 30;

/// What was seen of it, as of `at`; days are counted from `now`.
pub(super) fn seen(overview: &Overview, at: Timestamp, now: Timestamp) -> Vec<Block> {
    let nodes = &overview.nodes;
    let kubelets: Vec<String> =
        overview.kubelets.iter().map(|(release, count)| format!("{release} on {count}")).collect();
    let mut blocks = vec![
        Block::line(format!("  Kubernetes {}, as of {}", overview.release, shown(at))),
        Block::line(format!(
            "  {} of {} nodes ready, {} out of service; kubelets {}",
            nodes.ready,
            nodes.total,
            nodes.out,
            if kubelets.is_empty() { "none".to_owned() } else { kubelets.join(", ") }
        )),
    ];
    for words in &overview.skew {
        blocks.push(Block::line(format!("  {words}")));
    }
    for (what, names) in [("missing", &overview.missing), ("of no pool", &overview.unexpected)] {
        if !names.is_empty() {
            blocks.push(Block::line(format!("  {what}: {}", names.join(", "))));
        }
    }
    let rows: Vec<_> =
        overview.resources.iter().map(|(name, share)| resource(name, *share)).collect();
    if !rows.is_empty() {
        let header = vec!["resource", "asked for", "there is"];
        blocks.extend([Block::Gap, Block::Table { header, rows }]);
    }
    if overview.waiting > 0 {
        let rows = overview.waiting_for.iter();
        let mut rows: Vec<Vec<Text>> =
            rows.map(|it| vec![it.pod.clone().into(), it.why.clone().into()]).collect();
        let more = overview.waiting.saturating_sub(rows.len() as u64);
        if more > 0 {
            rows.push(vec![format!("and {more} more").into(), "".into()]);
        }
        blocks.extend([Block::Gap, Block::Table { header: vec!["pod waits", "why"], rows }]);
    }
    blocks.extend(problems(overview));
    blocks.extend(certificates(overview, now));
    for words in &overview.unread {
        blocks.push(Block::line(format!("  not understood: {words}")));
    }
    blocks
}

fn resource(name: &str, share: Share) -> Vec<Text> {
    let shown = |number: u64| match name {
        "cpu" => format!("{}.{:03}", number / 1000, number % 1000),
        "memory" | "ephemeral-storage" => bytes(number),
        _ if name.starts_with("hugepages-") => bytes(number),
        _ => number.to_string(),
    };
    let total = shown(share.total);
    vec![name.to_owned().into(), shown(share.allocated).into(), total.into()]
}

fn problems(overview: &Overview) -> Vec<Block> {
    if overview.problems.is_empty() {
        return Vec::new();
    }
    let rows = overview.problems.iter().map(|it| {
        vec![
            it.node.clone().into(),
            Text::new(format!("{}: {}", it.kind, it.status), Label::Bad),
            it.message.clone().into(),
            it.since.clone().into(),
        ]
    });
    let header = vec!["node", "condition", "why", "since"];
    vec![Block::Gap, Block::Table { header, rows: rows.collect() }]
}

fn certificates(overview: &Overview, now: Timestamp) -> Vec<Block> {
    if overview.certificates.is_empty() {
        return Vec::new();
    }
    let rows = overview.certificates.iter().map(|it| {
        let days = it.days_left(now);
        let left = match days {
            days if days < 0 => Text::new("has ended", Label::Bad),
            days if days <= SOON_DAYS => Text::new(days.to_string(), Label::Warn),
            _ => days.to_string().into(),
        };
        vec![it.what.clone().into(), shown(it.until).into(), left]
    });
    let header = vec!["certificate", "until", "days left"];
    vec![Block::Gap, Block::Table { header, rows: rows.collect() }]
}

/// Nodes that are out, and those that operators want out.
pub(super) fn out(row: &ClusterRow) -> Vec<Block> {
    let seen = row.kubernetes.iter().flat_map(|overview| &overview.out);
    let mut rows: Vec<Vec<Text>> = Vec::new();
    for out in seen {
        let drain = row.drains.iter().find(|it| it.node == out.node && it.drain.in_force);
        let (reason, by, until) = match drain {
            Some(it) => (it.drain.reason.clone(), it.drain.by.clone(), shown(it.drain.until)),
            None => {
                let by = out.by.clone().unwrap_or_else(|| "not known".to_owned());
                (out.reason.clone(), by, String::new())
            }
        };
        rows.push(vec![out.node.clone().into(), reason.into(), by.into(), until.into()]);
    }
    for it in row.drains.iter().filter(|it| !it.drain.in_force) {
        rows.push(vec![
            it.node.clone().into(),
            format!("{} (asked for)", it.drain.reason).into(),
            it.drain.by.clone().into(),
            shown(it.drain.until).into(),
        ]);
    }
    if rows.is_empty() {
        return Vec::new();
    }
    vec![Block::Gap, Block::Table { header: vec!["out of service", "why", "by", "until"], rows }]
}

/// Who has access for a while.
pub(super) fn access(row: &ClusterRow) -> Vec<Block> {
    if row.access.is_empty() {
        return Vec::new();
    }
    let rows = row.access.iter().map(|it| {
        let until = match (it.access.ended, it.access.in_force) {
            (true, _) => Text::new("is being taken", Label::Warn),
            (false, true) => shown(it.access.until).into(),
            (false, false) => format!("{} (not seen)", shown(it.access.until)).into(),
        };
        vec![
            it.number.to_string().into(),
            it.access.user.clone().into(),
            it.access.namespace.clone().into(),
            it.access.role.as_str().to_owned().into(),
            it.access.by.clone().into(),
            until,
        ]
    });
    let header = vec!["access", "who", "namespace", "may", "by", "until"];
    vec![Block::Gap, Block::Table { header, rows: rows.collect() }]
}
