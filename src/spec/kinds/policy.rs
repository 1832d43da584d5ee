//! `Policy`: how the rules of `policies/` and the shipped ones apply to an environment.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// How the rules apply to an environment: levels, parameters and exemptions. An environment may
/// have any number of these documents; each rule and each exemption stands in one of them.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicySpec {
    /// Settings by rule: the name of its Rego package, `trueup.labels`.
    pub rules: BTreeMap<String, RuleSpec>,
    /// What may break a rule, until when, and who answers for it.
    pub exemptions: Vec<ExemptionSpec>,
}

/// Settings of one rule.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RuleSpec {
    /// What its `deny` and `violation` weigh; as the rule itself says when not given, else `hard`.
    /// Its `warn` is always advisory.
    pub level: Option<LevelSpec>,
    /// What the rule reads under `input.params["<rule>"]`.
    #[schemars(with = "BTreeMap<String, Value>")]
    pub params: serde_json::Map<String, Value>,
}

/// What a rule weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LevelSpec {
    /// It is not asked at all.
    Disabled,
    /// It is said, and holds nothing.
    Advisory,
    /// It holds the plan until somebody approves it.
    Soft,
    /// It holds the plan; only another commit or an exemption helps.
    Hard,
}

/// Something that may break a rule for a while.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExemptionSpec {
    /// The rule: the name of its Rego package.
    pub rule: String,
    /// The resources, as `kind/name`; `*` stands for any text: `vm/build-*`.
    #[schemars(length(min = 1))]
    pub resources: Vec<String>,
    /// Who answers for it.
    #[schemars(length(min = 1))]
    pub owner: String,
    /// Why.
    #[schemars(length(min = 1))]
    pub reason: String,
    /// The last day it holds, in UTC (`2027-01-31`), or the moment it ends (RFC 3339).
    pub until: String,
}
