//! How much a rule's finding weighs: shared by settings, verdicts and events.

use serde::{Deserialize, Serialize};

/// How much a finding weighs; later ones weigh more.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum PolicyLevel {
    /// It is said, and holds nothing.
    Advisory,
    /// It holds the plan until somebody approves it.
    Soft,
    /// It holds the plan; only another commit or an exemption helps.
    Hard,
}

impl PolicyLevel {
    /// The word for it, as it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Advisory => "advisory",
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }

    /// The level that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Advisory, Self::Soft, Self::Hard].into_iter().find(|level| level.word() == word)
    }
}
