//! How every GPU is.
//!
//! From the state alone: readings that change by themselves are not in the log.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{GpuIdentity, GpuReport};
use crate::state::{GpuHealth, State};

/// How a GPU is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HealthWord {
    /// It answers, and nothing is wrong with it.
    Healthy,
    /// It answers, and something is wrong with it.
    Degraded,
    /// It does not answer.
    Lost,
}

impl HealthWord {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Degraded => "Degraded",
            Self::Lost => "Lost",
        }
    }
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuHealthRow {
    /// Its UUID.
    pub gpu: String,
    /// Its PCI address.
    pub pci: String,
    /// What it is; `None`: it has not answered yet.
    pub identity: Option<GpuIdentity>,
    /// How it is.
    pub health: HealthWord,
    /// Since when it is not healthy.
    pub since: Option<Timestamp>,
    /// Why it is not healthy, each in a sentence.
    pub why: Vec<String>,
    /// The newest critical errors, oldest first, also those that are over.
    pub xids: Vec<GpuReport>,
}

/// Every GPU that is known, by its PCI address.
#[must_use]
pub fn gpu_health(state: &State) -> Vec<GpuHealthRow> {
    let mut rows: Vec<GpuHealthRow> =
        state.gpus.iter().map(|(gpu, known)| row(gpu, known)).collect();
    rows.sort_by(|a, b| (&a.pci, &a.gpu).cmp(&(&b.pci, &b.gpu)));
    rows
}

fn row(gpu: &str, known: &GpuHealth) -> GpuHealthRow {
    let (health, since, why) = match &known.lost {
        Some((since, why)) => (HealthWord::Lost, Some(*since), vec![why.clone()]),
        None if known.problems.is_empty() => (HealthWord::Healthy, None, Vec::new()),
        None => {
            let why = known.problems.iter().map(ToString::to_string).collect();
            (HealthWord::Degraded, known.degraded, why)
        }
    };
    GpuHealthRow {
        gpu: gpu.to_owned(),
        pci: known.pci.clone(),
        identity: known.identity.clone(),
        health,
        since,
        why,
        xids: known.xids.clone(),
    }
}
