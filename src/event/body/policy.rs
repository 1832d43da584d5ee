//! Events about rules: what breaks one, what is exempted, and what no longer does.
//!
//! A finding is noted when it appears and when it is gone, not in every pass.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Digest, PolicyLevel, ResourceId};

/// `policy.violated`; the resource, where there is one, is the envelope's subject too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyViolated {
    /// What tells the finding from others: rule, resource, field and message.
    pub key: Digest,
    /// The rule, by the name of its package.
    pub rule: String,
    /// How much it weighs.
    pub level: PolicyLevel,
    /// What is wrong, as the rule says it.
    pub message: String,
    /// What it is about.
    pub resource: Option<ResourceId>,
    /// The field of its document.
    pub field: Option<String>,
    /// Where it stands, `path:line`.
    pub place: Option<String>,
}

/// `policy.exempted`; the resource, where there is one, is the envelope's subject too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyExempted {
    /// What tells the finding from others.
    pub key: Digest,
    /// The rule.
    pub rule: String,
    /// What would be wrong.
    pub message: String,
    /// What it is about.
    pub resource: Option<ResourceId>,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// When the exemption ends.
    pub until: Timestamp,
}

/// `policy.cleared`: the rule no longer finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyCleared {
    /// What told the finding from others.
    pub key: Digest,
    /// The rule.
    pub rule: String,
}
