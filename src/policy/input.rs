//! What rules see: the plan, the wish, the fact, the time, and the settings; the types are the
//! schema.
//!
//! No text of cloud-init media and no content of a file is in it: what looks like a secret there is
//! found before and said as a finding without its value.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::secrets::{SecretFinding, of_resource};
use crate::model::resource::{Accelerator, HostDevice};
use crate::model::{Name, Observed, Resource, ResourceId};
use crate::spec::{
    Desired, DesiredResource, Exemption, Lifecycle, Origin, PolicySettings, SyncSettings,
};

/// Everything a rule can look at, as `input`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// The plan; not there where only the wish is looked at (`trueup check`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Value>,
    /// What the commit asks for.
    pub desired: DesiredInput,
    /// What was asked for before, where it is known: in the check of a pull request, its base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<DesiredInput>,
    /// What the machine has; not there where it was not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// The time, RFC 3339 in UTC.
    #[schemars(with = "String")]
    pub now: Timestamp,
    /// The time as seconds since 1970-01-01 UTC, for comparing.
    pub now_unix: i64,
    /// The host.
    pub host: Host,
    /// The environment.
    pub environment: Name,
    /// The backups there are, once for each disk that they save; those verified last come first.
    pub backups: Vec<Backup>,
    /// Who asks for which accelerator device: by the wish, and by what runs beside it.
    pub gpus: Vec<GpuClaim>,
    /// Parameters by rule, from `Policy` documents.
    pub params: BTreeMap<String, serde_json::Map<String, Value>>,
    /// The exemptions of `Policy` documents. They are applied to verdicts in any case.
    pub exemptions: Vec<Exemption>,
}

/// What a commit asks of the environment.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DesiredInput {
    /// How it is synchronised.
    pub sync: SyncSettings,
    /// The resources by `kind/name`, with those that others bring along (`owner`).
    pub resources: BTreeMap<ResourceId, ResourceInput>,
}

/// One resource that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceInput {
    /// What it has to be: `kind` and `spec`, in canonical form.
    #[serde(flatten)]
    pub resource: Resource,
    /// Its name.
    pub name: Name,
    /// Labels, the environment's merged in.
    pub labels: BTreeMap<String, String>,
    /// The resource whose document it comes from, where that is another one.
    pub owner: Option<ResourceId>,
    /// What has to be there before it.
    pub depends_on: BTreeSet<ResourceId>,
    /// How it may be created, changed and destroyed.
    pub lifecycle: Lifecycle,
    /// Where it is written.
    pub origin: Origin,
    /// What looks like a secret in its texts, without the value.
    pub secrets: Vec<SecretFinding>,
}

/// The host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// Its name; empty where no host is meant.
    pub name: String,
    /// What executes guests best here, where it is known.
    pub accelerator: Option<Accelerator>,
    /// Its memory, KiB, where it is known.
    pub memory_kib: Option<u64>,
    /// Its processors, where it is known.
    pub cpus: Option<u32>,
}

/// A backup, once for each disk that it saves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// What it saves: `disk/db`; null where it saves no disk.
    pub resource: Option<ResourceId>,
    /// Which backup: `backup/db`.
    pub backup: ResourceId,
    /// `good`, `unverified`, `missed` or `failed`, as `trueup backup` says it; `gone` where its
    /// repository is not there or cannot be looked at.
    pub health: String,
    /// Whether a disruptive step may rely on it: verified, neither failed nor gone, and within its own
    /// RPO.
    pub relied_on: bool,
    /// Whether the commit asks for it still, and as one of this resource.
    pub kept: bool,
    /// When the newest complete snapshot with it that was verified was begun, seconds since 1970-01-01
    /// UTC; 0: there is none, or damage was found since.
    pub taken_unix: i64,
    /// When it was last checked or restored and found right, seconds since 1970-01-01 UTC; 0: never.
    pub verified_unix: i64,
    /// When a drill last brought everything back, seconds since 1970-01-01 UTC; 0: never.
    pub drilled_unix: i64,
    /// Its own RPO, seconds.
    pub rpo_s: Option<u64>,
    /// How long its last drill took to restore it, seconds.
    pub measured_rto_s: Option<u64>,
}

/// A claim on an accelerator device or a slice of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuClaim {
    /// The PCI function (`0000:65:00.0`) or the mediated device's UUID.
    pub device: String,
    /// Who claims it.
    pub owner: ResourceId,
    /// Whether the wish claims it; else something that runs does, unasked for.
    pub desired: bool,
    /// The field of the owner's document.
    pub field: String,
}

/// What an [`Input`] is made from.
#[derive(Debug, Clone)]
pub struct InputParts<'a> {
    /// The plan as JSON, without the texts of cloud-init media: `plan::render::json(…)["plan"]`.
    pub plan: Option<Value>,
    /// What the commit asks for.
    pub desired: &'a Desired,
    /// What was asked for before.
    pub before: Option<&'a Desired>,
    /// What the machine has.
    pub observed: Option<&'a Observed>,
    /// The time.
    pub now: Timestamp,
    /// The host.
    pub host: Host,
    /// The backups there are.
    pub backups: Vec<Backup>,
    /// How the rules apply.
    pub settings: &'a PolicySettings,
}

impl Input {
    /// Puts the parts together.
    pub fn of(parts: InputParts<'_>) -> Self {
        let InputParts { plan, desired, before, observed, now, host, mut backups, settings } =
            parts;
        backups.sort_by(|a, b| {
            (std::cmp::Reverse(a.taken_unix), &a.resource, &a.backup).cmp(&(
                std::cmp::Reverse(b.taken_unix),
                &b.resource,
                &b.backup,
            ))
        });
        let accelerator =
            host.accelerator.or_else(|| observed.and_then(|seen| seen.host.accelerator));
        let params = settings.rules.iter().filter(|(_, set)| !set.params.is_empty());
        Self {
            plan,
            desired: desired_input(desired),
            before: before.map(desired_input),
            observed: observed.map(without_texts),
            now,
            now_unix: now.as_second(),
            host: Host { accelerator, ..host },
            environment: desired.environment.clone(),
            backups,
            gpus: claims(desired, observed),
            params: params.map(|(rule, set)| (rule.clone(), set.params.clone())).collect(),
            exemptions: settings.exemptions.clone(),
        }
    }
}

fn desired_input(desired: &Desired) -> DesiredInput {
    let resources = desired.resources.iter();
    DesiredInput {
        sync: desired.sync.clone(),
        resources: resources.map(|(id, it)| (id.clone(), resource_input(id, it))).collect(),
    }
}

fn resource_input(id: &ResourceId, it: &DesiredResource) -> ResourceInput {
    ResourceInput {
        resource: without_text(it.resource.clone()),
        name: id.name.clone(),
        labels: it.labels.clone(),
        owner: it.owner.clone(),
        depends_on: it.depends_on.clone(),
        lifecycle: it.lifecycle.clone(),
        origin: it.origin.clone(),
        secrets: of_resource(&it.resource),
    }
}

/// The resource without texts that may hold secrets.
fn without_text(mut resource: Resource) -> Resource {
    match &mut resource {
        Resource::Seed(seed) => seed.strip_texts(),
        Resource::Image(image) => image.strip_texts(),
        Resource::Backup(backup) => backup.strip_texts(),
        Resource::Cluster(cluster) => cluster.strip_texts(),
        // Keys and digests of its objects say what there is, and no value.
        Resource::Release(release) => release.strip_objects(),
        Resource::StoragePool(_)
        | Resource::Network(_)
        | Resource::Disk(_)
        | Resource::GpuLayout(_)
        | Resource::VirtualMachine(_) => {}
    }
    resource
}

fn without_texts(observed: &Observed) -> Observed {
    let mut seen = observed.clone();
    for observation in seen.resources.values_mut() {
        observation.config = without_text(observation.config.clone());
        observation.live = observation.live.take().map(without_text);
    }
    seen
}

fn claims(desired: &Desired, observed: Option<&Observed>) -> Vec<GpuClaim> {
    let mut found = Vec::new();
    for (id, it) in &desired.resources {
        claims_of(id, &it.resource, true, &mut found);
    }
    let beside = observed.into_iter().flat_map(|seen| &seen.resources);
    for (id, seen) in
        beside.filter(|(id, seen)| seen.active && !desired.resources.contains_key(*id))
    {
        claims_of(id, seen.live.as_ref().unwrap_or(&seen.config), false, &mut found);
    }
    found.sort();
    found
}

fn claims_of(id: &ResourceId, resource: &Resource, desired: bool, found: &mut Vec<GpuClaim>) {
    let Resource::VirtualMachine(vm) = resource else { return };
    for device in &vm.host_devices {
        let (HostDevice::Pci(device) | HostDevice::Mdev(device)) = device;
        found.push(GpuClaim {
            device: device.to_lowercase(),
            owner: id.clone(),
            desired,
            field: "/spec/hostDevices".to_owned(),
        });
    }
}

/// The JSON Schema of [`Input`]; `plan` is the schema of a plan, which this module does not know.
pub fn input_schema(plan: Value) -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Input>().to_value();
    schema["title"] = json!("PolicyInput");
    let mut plan = plan;
    let definitions = plan.as_object_mut().and_then(|plan| {
        plan.remove("$schema");
        plan.remove("title");
        plan.remove("$defs")
    });
    if let (Some(Value::Object(more)), Some(known)) = (definitions, schema["$defs"].as_object_mut())
    {
        for (name, definition) in more {
            known.entry(name).or_insert(definition);
        }
    }
    plan["description"] = schema["properties"]["plan"]["description"].take();
    schema["properties"]["plan"] = plan;
    schema
}
