//! Kubernetes clusters for people: nodes, resources, what is out and what complains, certificates.

use jiff::Timestamp;
use trueup_kubernetes::{NodeUse, Overview, Share, WaitingPod};

use super::super::paint::{Block, Label, Text};
use super::super::time::shown;
use super::show::named;
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
    blocks.extend(groups(overview));
    let rows: Vec<_> =
        overview.resources.iter().map(|(name, share)| resource(name, *share)).collect();
    if !rows.is_empty() {
        let header = vec!["resource", "asked for", "there is"];
        blocks.extend([Block::Gap, Block::Table { header, rows }]);
    }
    if overview.waiting > 0 {
        let rows = overview.waiting_for.iter();
        let one = |it: &WaitingPod| {
            vec![it.pod.clone().into(), stamp(&it.since).into(), it.why.clone().into()]
        };
        let mut rows: Vec<Vec<Text>> = rows.map(one).collect();
        let more = overview.waiting.saturating_sub(rows.len() as u64);
        if more > 0 {
            rows.push(vec![format!("and {more} more").into(), "".into(), "".into()]);
        }
        let header = vec!["pod waits", "since", "why"];
        blocks.extend([Block::Gap, Block::Table { header, rows }]);
    }
    blocks.extend(problems(overview));
    blocks.extend(certificates(overview, now));
    for words in &overview.unread {
        blocks.push(Block::line(format!("  not understood: {words}")));
    }
    blocks
}

/// A line for nodes that are alike.
fn groups(overview: &Overview) -> Vec<Block> {
    if overview.groups.is_empty() {
        return Vec::new();
    }
    let rows = overview.groups.iter().map(|group| {
        let own = ["cpu", "memory"];
        let of = |name: &str| group.resources.get(name).map(|share| asked_for(name, *share));
        let others = group.resources.iter().filter(|(name, _)| !own.contains(&name.as_str()));
        let others: Vec<String> =
            others.map(|(name, share)| format!("{name} {}", asked_for(name, *share))).collect();
        let label = match group.state {
            NodeUse::Ready => Label::Good,
            NodeUse::Out => Label::Warn,
            NodeUse::NotReady => Label::Bad,
        };
        vec![
            named(&group.nodes, group.unnamed).into(),
            group.count.to_string().into(),
            Text::new(group.state.as_str(), label),
            group.pods.to_string().into(),
            of("cpu").unwrap_or_default().into(),
            of("memory").unwrap_or_default().into(),
            others.join(", ").into(),
        ]
    });
    let header = vec!["nodes", "count", "state", "pods", "cpu", "memory", "other"];
    vec![Block::Gap, Block::Table { header, rows: rows.collect() }]
}

fn asked_for(name: &str, share: Share) -> String {
    format!("{} of {}", amount(name, share.allocated), amount(name, share.total))
}

fn amount(name: &str, number: u64) -> String {
    match name {
        "cpu" => format!("{}.{:03}", number / 1000, number % 1000),
        "memory" | "ephemeral-storage" => bytes(number),
        _ if name.starts_with("hugepages-") => bytes(number),
        _ => number.to_string(),
    }
}

fn resource(name: &str, share: Share) -> Vec<Text> {
    let (asked, total) = (amount(name, share.allocated), amount(name, share.total));
    vec![name.to_owned().into(), asked.into(), total.into()]
}

/// A time as the server spells it, for people.
fn stamp(text: &str) -> String {
    text.parse::<Timestamp>().map_or_else(|_| text.to_owned(), shown)
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
            stamp(&it.since).into(),
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
        let since = out.since.as_deref().map(stamp).unwrap_or_default();
        let node = out.node.clone();
        rows.push(vec![node.into(), reason.into(), by.into(), since.into(), until.into()]);
    }
    for it in row.drains.iter().filter(|it| !it.drain.in_force) {
        rows.push(vec![
            it.node.clone().into(),
            format!("{} (asked for)", it.drain.reason).into(),
            it.drain.by.clone().into(),
            "".into(),
            shown(it.drain.until).into(),
        ]);
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let header = vec!["out of service", "why", "by", "since", "until"];
    vec![Block::Gap, Block::Table { header, rows }]
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
