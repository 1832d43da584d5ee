//! `Environment`: how one environment is synchronised and what it is put together from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::spec::{SelfHeal, SyncMode};

/// How an environment is synchronised and what it is put together from.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EnvironmentSpec {
    /// Host names it is for, beside those that `trueup.yaml` gives.
    pub hosts: Vec<String>,
    /// Folders below `bases/` whose documents belong to it.
    pub bases: Vec<String>,
    /// Changes to documents, by `kind/name`, in order.
    pub patches: Vec<PatchSpec>,
    /// Labels added to every resource.
    pub labels: BTreeMap<String, String>,
    /// When and how far the machine follows the commits.
    pub sync: SyncSpec,
    /// Change nothing while true; observe and report only.
    pub pause: bool,
    /// Storage pools (directories) for images and disks; the first is the default one. When none is
    /// given, there is one named `trueup` at `/var/lib/libvirt/images/trueup`.
    pub storage_pools: Vec<PoolSpec>,
    /// Documents that were renamed: what stands on the machine goes with them and keeps its data.
    /// Disks and images can move; they keep the file they have, so leave the entry here for as long
    /// as they live.
    pub moved: Vec<MovedSpec>,
    /// Names this environment had before, oldest first. What trueup made for them is taken over
    /// instead of being left alone. Leave them here: MAC addresses are derived from the oldest one.
    pub formerly: Vec<String>,
}

/// A document that was renamed.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MovedSpec {
    /// What it was called, as `kind/name`: `disk/data`.
    pub from: String,
    /// What it is called now: `disk/archive`.
    pub to: String,
}

/// A change to one document.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchSpec {
    /// The document, as `kind/name`: `vm/web`.
    pub target: String,
    /// A merge patch (RFC 7386): objects are merged, `null` removes, all else replaces.
    #[schemars(with = "BTreeMap<String, Value>")]
    pub patch: Value,
}

/// When and how far the machine follows the commits.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SyncSpec {
    /// Whether a new commit is applied by itself or waits for `trueup approve`.
    pub mode: SyncMode,
    /// What happens when the machine drifts from the commit.
    pub self_heal: SelfHeal,
    /// Destroy what is gone from the commit.
    pub prune: bool,
    /// Most resources one pass may destroy or replace; a plan with more is held.
    pub max_destroy: u32,
    /// Weekly windows, in UTC, outside of which nothing is interrupted; none: always.
    pub windows: Vec<WindowSpec>,
}

impl Default for SyncSpec {
    fn default() -> Self {
        let settings = crate::spec::SyncSettings::default();
        Self {
            mode: settings.mode,
            self_heal: settings.self_heal,
            prune: settings.prune,
            max_destroy: settings.max_destroy,
            windows: Vec::new(),
        }
    }
}

/// A weekly window in which things may be interrupted.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WindowSpec {
    /// Days it opens on; none: every day.
    #[serde(default)]
    pub days: Vec<Day>,
    /// Time it opens at, UTC: `22:00`.
    #[schemars(regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub start: String,
    /// How long it stays open: `4h`, `90m`.
    pub duration: String,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    /// 1 (Monday) to 7 (Sunday).
    pub fn number(self) -> u8 {
        self as u8 + 1
    }
}

/// A storage pool: a directory that libvirt knows.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolSpec {
    /// Its name.
    pub name: String,
    /// Absolute path of its directory.
    #[schemars(regex(pattern = r"^/"))]
    pub path: String,
    /// Start it with libvirt.
    #[serde(default = "yes")]
    pub autostart: bool,
}

pub(crate) fn yes() -> bool {
    true
}
