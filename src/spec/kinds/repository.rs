//! `Repository`: the one document of `trueup.yaml`, which says what environments there are.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// What environments there are, and how much is read of them.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RepositorySpec {
    /// Environments by name.
    pub environments: BTreeMap<String, EnvironmentEntry>,
    /// Limits on what is read.
    #[serde(default)]
    pub limits: Limits,
}

/// One environment of a repository.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EnvironmentEntry {
    /// Host names it is for; `*` is every host that no other environment names.
    pub hosts: Vec<String>,
    /// Folder of its documents; `environments/<name>` when not given.
    pub path: Option<String>,
}

/// Limits on what is read, below the built-in ones.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Most resources of one environment.
    pub resources: Option<u32>,
}
