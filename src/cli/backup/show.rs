//! Backups for people: a table, and below it what is wrong.

use serde::Serialize;
use trueup_backup::objective::Health;

use super::super::paint::{Block, Label, Text};
use super::super::status::label;
use super::super::time::shown;
use super::super::ui::Product;
use crate::model::listed;
use crate::view::backup::{BackupRow, Backups, Lost, bytes, span};

/// The backups as a product.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Shown(pub(super) Backups);

/// Whether a promise is not kept.
pub(super) fn is_broken(row: &BackupRow) -> bool {
    let promised = row.rpo_s.is_some() || row.rto_s.is_some();
    row.lost.is_some() || row.health == Health::Failed || (row.health == Health::Missed && promised)
}

impl Product for Shown {
    fn blocks(&self) -> Vec<Block> {
        let rows = &self.0.backups;
        if rows.is_empty() {
            return vec![Block::line("no backup is asked for, and none was taken")];
        }
        let header = vec![
            "backup",
            "source",
            "health",
            "last complete",
            "rpo",
            "checked",
            "drilled",
            "rto",
            "size",
            "growth",
            "next run",
            "status",
        ];
        let table = Block::Table { header, rows: rows.iter().map(row).collect() };
        let mut blocks = vec![table];
        for row in rows {
            let repository = match (&row.repository, &row.repository_id) {
                (Some(path), Some(id)) => format!("{path} ({})", id.get(..8).unwrap_or(id)),
                (Some(path), None) => format!("{path} (not made yet)"),
                (None, _) => continue,
            };
            let name = Text::new(row.resource.name.to_string(), Label::Strong);
            blocks.push(Block::Gap);
            blocks.push(Block::Line(vec![name, format!("  in {repository}").into()]));
            for way in &row.ways_back {
                let snapshot = way.snapshot.get(..8).unwrap_or(&way.snapshot);
                let of = listed(&way.before.of);
                blocks.push(Block::line(format!("  {snapshot} is kept as the way back for {of}")));
            }
            if let (Some(restore), Some(boot)) = (row.measured_restore_s, row.measured_boot_s) {
                let took = format!(
                    "  the last good drill restored it in {} and booted it in {}",
                    span(restore),
                    span(boot)
                );
                blocks.push(Block::Line(vec![took.into()]));
            }
            let (_, mark) = word(row);
            for trouble in &row.trouble {
                blocks.push(Block::Line(vec![
                    Text::new("  ", Label::Plain),
                    Text::new(trouble.clone(), mark),
                ]));
            }
        }
        blocks
    }
}

fn row(row: &BackupRow) -> Vec<Text> {
    let (word, mark) = word(row);
    let of = |is: Option<u64>, most: Option<u64>| match (is, most) {
        (Some(is), Some(most)) => format!("{} of {}", span(is), span(most)),
        (Some(is), None) => span(is),
        (None, Some(most)) => format!("- of {}", span(most)),
        (None, None) => String::new(),
    };
    let (rpo, rto) = (of(row.rpo_now_s, row.rpo_s), of(row.measured_rto_s, row.rto_s));
    let growth = row.growth.map(|growth| match growth {
        0 => "0 B".to_owned(),
        more if more > 0 => format!("+{}", bytes(more.unsigned_abs())),
        less => format!("-{}", bytes(less.unsigned_abs())),
    });
    let status = row.status.as_ref();
    vec![
        row.resource.name.to_string().into(),
        row.source.clone().unwrap_or_default().into(),
        Text::new(word, mark),
        row.last_good.map(shown).unwrap_or_else(|| "never".to_owned()).into(),
        rpo.into(),
        row.last_verified.map(shown).unwrap_or_else(|| "never".to_owned()).into(),
        row.last_drilled.map(shown).unwrap_or_else(|| "never".to_owned()).into(),
        rto.into(),
        row.last.as_ref().map(|last| bytes(last.bytes)).unwrap_or_default().into(),
        growth.unwrap_or_default().into(),
        row.next_run.map(shown).unwrap_or_else(|| "when asked".to_owned()).into(),
        status.map_or_else(|| "".into(), |status| Text::new(status.word(), label(status))),
    ]
}

/// The word for a backup, the worst first.
fn word(row: &BackupRow) -> (&'static str, Label) {
    match (&row.lost, &row.last) {
        _ if row.health == Health::Failed => health(row.health),
        (Some(Lost::Gone(_)), _) => ("gone", Label::Bad),
        (Some(Lost::OutOfReach(_)), _) => ("unreachable", Label::Bad),
        (None, None) => ("none yet", Label::Warn),
        (None, Some(_)) => health(row.health),
    }
}

/// The word for it. That nobody restored it yet is no reason to worry people here: what was checked
/// is called so.
fn health(health: Health) -> (&'static str, Label) {
    match health {
        Health::Good => ("good", Label::Good),
        Health::Unverified => ("unproved", Label::Warn),
        Health::Missed => ("missed", Label::Bad),
        Health::Failed => ("failed", Label::Bad),
    }
}
