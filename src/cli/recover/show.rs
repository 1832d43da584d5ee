//! What came of a recovery, for people and for scripts.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::super::control::Report;
use super::super::paint::{Block, Label, Text};
use super::super::time::shown;
use super::super::ui::Product;
use super::disks::RestoredDisk;
use super::own::OwnBack;
use super::waiting::HeldDisk;
use crate::view::backup::{bytes, span};

/// What came of it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    /// trueup's own state, where it was brought back.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) own: Option<OwnBack>,
    /// The disks whose data is back.
    pub(super) restored: Vec<RestoredDisk>,
    /// The disks that are held until their data is back.
    pub(super) held: Vec<HeldDisk>,
    /// What was done to the machine, where that was wanted.
    pub(super) converged: Option<Converged>,
    /// Milliseconds that the disks took.
    pub(super) disks_ms: Option<u64>,
    /// Milliseconds of all.
    pub(super) total_ms: u64,
}

/// What bringing the machine to the commit in force came to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Converged {
    commit: Option<String>,
    succeeded: u64,
    failed: u64,
    blocked: u64,
    /// Milliseconds.
    elapsed_ms: u64,
}

impl Converged {
    pub(super) fn of(made: &Report, elapsed_ms: u64) -> Self {
        Self {
            commit: made.commit.as_ref().map(ToString::to_string),
            succeeded: made.succeeded,
            failed: made.failed,
            blocked: made.blocked,
            elapsed_ms,
        }
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// How long ago: `6h 10m`.
fn ago(at: Timestamp) -> String {
    let ago = Timestamp::now().duration_since(at).max(SignedDuration::ZERO);
    span(u64::try_from(ago.as_secs()).unwrap_or_default())
}

impl Product for Told {
    fn blocks(&self) -> Vec<Block> {
        let mut blocks = self.own.as_ref().map(own).unwrap_or_default();
        if !self.restored.is_empty() || !self.held.is_empty() {
            let all = self.restored.len() + self.held.len();
            blocks.push(line("disks", &format!("{} of {all} are back", self.restored.len())));
        }
        if let Some(made) = &self.converged {
            blocks.push(line("machine", &made.line()));
        }
        blocks.push(line("took", &self.times()));
        if let Some(own) = &self.own {
            let lost =
                format!("what happened after event {}, in the last {}", own.last, ago(own.taken));
            blocks.push(line("lost", &lost));
        }
        blocks.push(Block::Gap);
        blocks.extend(self.restored.iter().map(back));
        blocks.extend(self.held.iter().map(held));
        if let Some(own) = &self.own {
            blocks.extend(own.secrets_line(self.converged.is_none() && self.disks_ms.is_none()));
            if self.converged.is_none() {
                blocks.push(Block::line(
                    "then bring the machine to the commit in force: `trueup apply`, or start the \
                     daemon",
                ));
            }
        }
        blocks
    }
}

impl Converged {
    fn line(&self) -> String {
        let Self { succeeded, failed, blocked, .. } = self;
        let commit = self.commit.as_deref().map(|id| id.get(..12).unwrap_or(id));
        let commit = commit.unwrap_or("no commit");
        match (failed, blocked) {
            (0, 0) => format!("as {commit} asks, after {succeeded} steps"),
            _ => format!(
                "not yet as {commit} asks: {succeeded} steps succeeded, {failed} failed, {blocked} \
                 blocked"
            ),
        }
    }
}

impl Told {
    fn times(&self) -> String {
        let mut parts = Vec::new();
        if let Some(own) = &self.own {
            parts.push(format!(
                "state {} (restored {} in {}, read back in {}, log proved in {})",
                seconds(own.state_ms),
                bytes(own.bytes),
                seconds(own.restored_ms),
                seconds(own.compared_ms),
                seconds(own.proved_ms)
            ));
        }
        parts.extend(self.disks_ms.map(|ms| format!("disks {}", seconds(ms))));
        parts.extend(
            self.converged.as_ref().map(|it| format!("machine {}", seconds(it.elapsed_ms))),
        );
        match parts.is_empty() {
            true => format!("{} in all", seconds(self.total_ms)),
            false => format!("{} in all: {}", seconds(self.total_ms), parts.join(", ")),
        }
    }
}

fn line(label: &str, text: &str) -> Block {
    Block::line(format!("  {label:<8} {text}"))
}

fn own(own: &OwnBack) -> Vec<Block> {
    let mut blocks = vec![
        Block::Line(vec![
            "recovered ".into(),
            Text::new(own.host.clone(), Label::Strong),
            format!(
                " from snapshot {}, begun {} ({} ago)",
                short(&own.snapshot),
                shown(own.taken),
                ago(own.taken)
            )
            .into(),
        ]),
        line(
            "log",
            &format!(
                "{} events, to {}; its chain is whole and ends in {}",
                own.last,
                own.last_at.map(shown).unwrap_or_default(),
                own.head.get(..12).unwrap_or(&own.head)
            ),
        ),
        line("state", &own.state_directory.display().to_string()),
    ];
    if let Some(config) = &own.config {
        let kept = own.config_why.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
        blocks.push(line("config", &format!("{}{kept}", config.display())));
    }
    // No checkpoint covers it, and it says whom trueup obeys.
    blocks.extend(own.config_digest.map(|it| line("", &format!("SHA-256 {it}: compare it"))));
    blocks.extend(own.commit.as_ref().map(|commit| line("commit", commit)));
    blocks
}

impl OwnBack {
    /// The secrets that are to be put back; `all` where nobody looked which of them are there.
    fn secrets_line(&self, all: bool) -> Option<Block> {
        let names = if all { &self.secrets } else { &self.secrets_missing };
        let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
        (!names.is_empty()).then(|| {
            let names = names.join(", ");
            Block::line(format!("put the secrets back, which no backup holds: {names}"))
        })
    }
}

fn back(restored: &RestoredDisk) -> Block {
    let still = match restored.still_held {
        true => "; it stays held, because somebody holds it for another reason",
        false => "",
    };
    let made = restored.made.as_ref().map(|folder| format!("; {folder} was made for it"));
    let made = made.unwrap_or_default();
    Block::line(format!(
        "{} is back: {} of {}, snapshot {}, begun {} ({} ago), in {}{made}{still}",
        restored.disk,
        bytes(restored.bytes),
        restored.backup,
        short(&restored.snapshot),
        shown(restored.taken),
        ago(restored.taken),
        seconds(restored.elapsed_ms)
    ))
}

fn held(held: &HeldDisk) -> Block {
    let HeldDisk { disk, path, why_not, .. } = held;
    let backup = held.data_in();
    let rest = match why_not {
        None => format!(
            ": its data is in {backup}; `trueup recover disks` brings it to {path}; if you did, \
             `trueup release {disk}`"
        ),
        Some(why) => format!(": {}", held.not_back(why)),
    };
    Block::Line(vec![Text::new(format!("{disk} is held"), Label::Warn), rest.into()])
}
