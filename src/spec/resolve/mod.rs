//! From typed documents to primitive resources: names are looked up, defaults filled in, values read.
//!
//! One file a kind. A document is resolved from itself, the environment's settings and what it refers
//! to, and the result remembers these, so that nothing is resolved twice while they stay the same.

mod backup;
mod boot;
mod cluster;
mod disk;
mod gpu;
mod gpus;
mod image;
mod machine;
mod network;
mod nic;
mod release;
pub(super) mod repository;
mod seed;
mod way_back;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::cache::FastMap;
use super::diag::{Severity, did_you_mean};
use super::kinds::{Doc, DocKind, Spec};
use super::manifests::{ManifestFiles, RawFiles};
use super::rendering::{RenderRequest, Renderings};
use super::repo::RepoFiles;
use super::yaml::At;
use super::{DesiredResource, Lifecycle, Origin, Renames, SelfHeal};
use crate::model::resource::{GpuUse, Network};
use crate::model::{Digest, Kind, Name, Resource, ResourceId, digest_of};

pub(crate) use network::subnets;
pub(crate) use nic::NicPlan;

/// A document within an environment.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Its file, by place in the list of the repository's files.
    pub(crate) file: usize,
    /// Which of the file's documents it is.
    pub(crate) index: usize,
    /// What it says, patches laid over it.
    pub(crate) doc: Arc<Doc>,
    /// What it is called, unless its name is none or belongs to an earlier one.
    pub(crate) id: Option<ResourceId>,
    /// Patches of the environment that changed it, by place in its list.
    pub(crate) patches: Vec<usize>,
    /// Line of its first key.
    pub(crate) line: u32,
    /// What it was made of, where nobody wrote it.
    pub(crate) from: Option<Arc<super::machines::MadeFrom>>,
}

impl Member {
    /// Where it is written.
    pub(crate) fn origin(&self, repo: &RepoFiles) -> Origin {
        Origin { path: repo.files[self.file].path.clone(), line: self.line }
    }
}

/// Settings of the environment that resources are resolved with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) environment: Name,
    pub(crate) renamed: Renames,
    pub(crate) pools: Vec<Pool>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) self_heal: SelfHeal,
}

impl Settings {
    /// The environment's first name: ids derived from it outlive a new one.
    pub(crate) fn first_name(&self) -> &Name {
        self.renamed.formerly.first().unwrap_or(&self.environment)
    }

    /// The name that the file of `id` has: the first one that `id` had.
    pub(crate) fn file_name<'a>(&'a self, id: &'a ResourceId) -> &'a Name {
        let before = self.renamed.moved.get(id).and_then(|names| names.last());
        &before.unwrap_or(id).name
    }
}

/// A storage pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) name: Name,
    pub(crate) path: String,
}

/// A mistake whose place is still to be looked up.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    pub(crate) place: Place,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) related: Vec<(Place, String)>,
    /// The file and line, where it is about a file that is no document.
    pub(crate) elsewhere: Option<(String, u32)>,
    /// What would have to be rendered first.
    pub(crate) wants: Option<RenderRequest>,
}

/// A place in a member of the environment.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) member: usize,
    pub(crate) pointer: String,
    pub(crate) at: At,
}

impl Place {
    pub(crate) fn value(member: usize, pointer: impl Into<String>) -> Self {
        Self { member, pointer: pointer.into(), at: At::Value }
    }
}

impl Draft {
    pub(crate) fn new(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            place,
            message: message.into(),
            hint: None,
            related: Vec::new(),
            elsewhere: None,
            wants: None,
        }
    }

    pub(crate) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn see(&mut self, place: Place, message: impl Into<String>) -> &mut Self {
        self.related.push((place, message.into()));
        self
    }
}

/// An address that an interface asks of its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) network: Name,
    pub(crate) mac: String,
    pub(crate) ip: IpAddr,
    pub(crate) name: Option<String>,
    /// Whether it goes into the DHCP service.
    pub(crate) reserve: bool,
    /// The interface: machine and place in its list.
    pub(crate) machine: Name,
    pub(crate) nic: usize,
}

/// What one document became, and from what.
#[derive(Debug)]
pub(crate) struct Resolved {
    doc: Arc<Doc>,
    settings: Arc<Settings>,
    origin: Origin,
    from_docs: Vec<(ResourceId, Arc<Doc>)>,
    from_resolved: Vec<(ResourceId, Arc<Resolved>)>,
    from_leases: Vec<Lease>,
    /// Paths it reads manifests at, each with the files there and the ids of their content.
    from_manifests: Vec<(String, Vec<(String, String)>)>,
    /// Folders whose files it hands on or lets be rendered, each with the digest of what is there.
    from_raw: Vec<(String, Digest)>,
    /// What it would refer to, were it there.
    without: Vec<ResourceId>,
    /// The primitives, the document's own first.
    pub(crate) out: Vec<(ResourceId, Arc<DesiredResource>)>,
    /// Addresses its interfaces ask for.
    pub(crate) leases: Vec<Lease>,
    /// MAC addresses of its interfaces, with their place in its list.
    pub(crate) macs: Vec<(String, usize)>,
    /// Disks it uses: name, place in its list, whether read-only.
    pub(crate) disks: Vec<(Name, usize, bool)>,
    /// GPUs it uses, without what they are on the host, with their place in its list.
    pub(crate) gpus: Vec<(GpuUse, usize)>,
}

impl Resolved {
    /// Whether resolving again would give the same.
    pub(crate) fn still_fits(
        &self,
        world: &World<'_>,
        member: &Member,
        settings: &Arc<Settings>,
        leases: &[Lease],
    ) -> bool {
        let doc_same = |(id, doc): &(ResourceId, Arc<Doc>)| {
            let now = world.by_id.get(id).map(|&m| &world.members[m].doc);
            now.is_some_and(|now| Arc::ptr_eq(now, doc))
        };
        let resolved_same = |(id, then): &(ResourceId, Arc<Self>)| {
            world.resolved_at(id).is_some_and(|now| Arc::ptr_eq(now, then))
        };
        Arc::ptr_eq(&self.doc, &member.doc)
            && Arc::ptr_eq(&self.settings, settings)
            && self.origin.line == member.line
            && self.origin.path == world.repo.files[member.file].path
            && self.from_docs.iter().all(doc_same)
            && self.from_resolved.iter().all(resolved_same)
            && self.without.iter().all(|id| !world.by_id.contains_key(id))
            && self.from_manifests.iter().all(|(at, then)| *then == release::blobs_at(world, at))
            && self.from_raw.iter().all(|(at, then)| *then == release::raw_at(world, at))
            && self.from_leases == leases
    }

    /// Whether what other documents can collide with is the same as in `other`.
    pub(crate) fn collides_like(&self, other: &Self) -> bool {
        let place = |resource: &Resource, with: &Resource| match (resource, with) {
            (Resource::Network(a), Resource::Network(b)) => {
                let ranges =
                    |n: &Network| n.addresses.iter().map(|a| a.address).collect::<Vec<_>>();
                a.mode == b.mode && a.bridge == b.bridge && ranges(a) == ranges(b)
            }
            (Resource::VirtualMachine(a), Resource::VirtualMachine(b)) => {
                a.console_log == b.console_log
                    && a.host_devices == b.host_devices
                    && a.way_back == b.way_back
            }
            (a, b) => a == b,
        };
        self.macs == other.macs
            && self.disks == other.disks
            && self.gpus == other.gpus
            && self.out.len() == other.out.len()
            && self.out.iter().zip(&other.out).all(|((id, a), (with, b))| {
                id == with && a.depends_on == b.depends_on && place(&a.resource, &b.resource)
            })
    }

    /// The document's own primitive.
    pub(crate) fn own(&self) -> Option<&Resource> {
        self.out.first().map(|(_, r)| &r.resource)
    }
}

/// Everything a document may refer to.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) repo: &'a RepoFiles,
    pub(crate) members: &'a [Member],
    pub(crate) by_id: &'a FastMap<ResourceId, usize>,
    /// Names that broken documents mention.
    pub(crate) mentions: &'a HashSet<String>,
    /// Files of manifests, by path.
    pub(crate) manifests: &'a ManifestFiles,
    /// Files that are rendered or handed on, by path.
    pub(crate) raw: &'a RawFiles,
    /// What was rendered.
    pub(crate) renderings: Arc<Renderings>,
    /// What is resolved already, by member.
    pub(crate) resolved: Vec<Option<Arc<Resolved>>>,
}

impl World<'_> {
    /// What the document of `id` became.
    pub(crate) fn resolved_at(&self, id: &ResourceId) -> Option<&Arc<Resolved>> {
        self.resolved.get(*self.by_id.get(id)?)?.as_ref()
    }
}

/// One document being resolved.
#[derive(Debug)]
pub(crate) struct Cx<'a> {
    pub(crate) world: &'a World<'a>,
    pub(crate) settings: &'a Arc<Settings>,
    pub(crate) member: usize,
    pub(crate) id: ResourceId,
    pub(crate) drafts: Vec<Draft>,
    depends_on: BTreeSet<ResourceId>,
    from_docs: Vec<(ResourceId, Arc<Doc>)>,
    from_resolved: Vec<(ResourceId, Arc<Resolved>)>,
    from_manifests: Vec<(String, Vec<(String, String)>)>,
    from_raw: Vec<(String, Digest)>,
    without: Vec<ResourceId>,
    extra: Vec<(ResourceId, Arc<DesiredResource>)>,
    leases: Vec<Lease>,
    macs: Vec<(String, usize)>,
    disks: Vec<(Name, usize, bool)>,
    gpus: Vec<(GpuUse, usize)>,
}

/// Resolves one document; `leases` are those that interfaces ask of it (networks only).
pub(crate) fn resolve(
    world: &World<'_>,
    settings: &Arc<Settings>,
    member: usize,
    id: &ResourceId,
    leases: &[Lease],
) -> Result<Resolved, Vec<Draft>> {
    let doc = &world.members[member].doc;
    let mut cx = Cx {
        world,
        settings,
        member,
        id: id.clone(),
        drafts: Vec::new(),
        depends_on: BTreeSet::new(),
        from_docs: Vec::new(),
        from_resolved: Vec::new(),
        from_manifests: Vec::new(),
        from_raw: Vec::new(),
        without: Vec::new(),
        extra: Vec::new(),
        leases: Vec::new(),
        macs: Vec::new(),
        disks: Vec::new(),
        gpus: Vec::new(),
    };
    cx.read_depends_on(doc);
    cx.read_lifecycle(doc);
    let resource = match &doc.spec {
        Spec::Network(spec) => network::resolve(&mut cx, spec, leases).map(Resource::Network),
        Spec::Image(spec) => image::resolve(&mut cx, spec).map(Resource::Image),
        Spec::Disk(spec) => disk::resolve(&mut cx, spec).map(Resource::Disk),
        Spec::GpuLayout(spec) => {
            gpu::resolve(&mut cx, spec).map(|layout| Resource::GpuLayout(Box::new(layout)))
        }
        Spec::VirtualMachine(spec) => {
            machine::resolve(&mut cx, spec).map(|vm| Resource::VirtualMachine(Box::new(vm)))
        }
        Spec::Backup(spec) => {
            backup::resolve(&mut cx, spec).map(|it| Resource::Backup(Box::new(it)))
        }
        Spec::Cluster(spec) => {
            cluster::resolve(&mut cx, spec).map(|it| Resource::Cluster(Box::new(it)))
        }
        Spec::Release(spec) => {
            release::resolve(&mut cx, spec).map(|it| Resource::Release(Box::new(it)))
        }
        Spec::Repository(_) | Spec::Environment(_) | Spec::Policy(_) => None,
    };
    match resource {
        Some(resource) if cx.drafts.is_empty() => Ok(cx.finish(resource, leases)),
        _ => Err(cx.drafts),
    }
}

impl Cx<'_> {
    /// Reports a mistake at the value of `pointer`.
    pub(crate) fn err(
        &mut self,
        code: &'static str,
        pointer: impl Into<String>,
        message: impl Into<String>,
    ) -> &mut Draft {
        let place = Place::value(self.member, pointer);
        let at = self.drafts.len();
        self.drafts.push(Draft::new(code, place, message));
        &mut self.drafts[at]
    }

    /// Reports a reading that failed.
    pub(crate) fn check<T>(
        &mut self,
        pointer: impl Into<String>,
        read: Result<T, String>,
    ) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(message) => {
                self.err("spec/wrong-value", pointer, message);
                None
            }
        }
    }

    /// Reads an address.
    pub(crate) fn ip(&mut self, pointer: impl Into<String>, text: &str) -> Option<IpAddr> {
        let read =
            text.parse().map_err(|_| format!("`{}` is not an IP address", text.escape_debug()));
        self.check(pointer, read)
    }

    /// The pool named, or the environment's first one, with the dependency on it.
    pub(crate) fn pool(&mut self, pointer: &str, name: Option<&str>) -> Option<Pool> {
        let pools = &self.settings.pools;
        let found = match name {
            None => pools.first(),
            Some(name) => pools.iter().find(|p| p.name.as_str() == name),
        };
        if let Some(pool) = found.cloned() {
            self.need(ResourceId::new(Kind::StoragePool, pool.name.clone()));
            return Some(pool);
        }
        let names: Vec<_> = pools.iter().map(|p| p.name.to_string()).collect();
        let name = name.unwrap_or_default();
        let hint = did_you_mean(name, names.iter().map(String::as_str)).unwrap_or_else(|| {
            format!("the environment's `storagePools` are {}", names.join(", "))
        });
        self.err("spec/dangling-reference", pointer, format!("there is no storage pool `{name}`"))
            .hint(hint);
        None
    }

    /// Adds a dependency.
    pub(crate) fn need(&mut self, id: ResourceId) {
        self.depends_on.insert(id);
    }

    /// Looks up the document that a reference names, without depending on it.
    pub(crate) fn look_up(&mut self, pointer: &str, kind: Kind, name: &str) -> Option<Arc<Doc>> {
        let id = self.id_of(pointer, kind, name)?;
        let doc = Arc::clone(&self.world.members[*self.world.by_id.get(&id)?].doc);
        self.from_docs.push((id, Arc::clone(&doc)));
        Some(doc)
    }

    /// Depends on what a reference names, and takes what it became; `None` too where that failed.
    pub(crate) fn use_resolved(
        &mut self,
        pointer: &str,
        kind: Kind,
        name: &str,
    ) -> Option<Arc<Resolved>> {
        let id = self.id_of(pointer, kind, name)?;
        let found = Arc::clone(self.world.resolved_at(&id)?);
        self.from_resolved.push((id.clone(), Arc::clone(&found)));
        self.need(id);
        Some(found)
    }

    /// The id that a reference names, if it is there.
    pub(crate) fn id_of(&mut self, pointer: &str, kind: Kind, name: &str) -> Option<ResourceId> {
        let id = self
            .check(pointer, Name::new(name).map_err(|e| e.to_string()))
            .map(|name| ResourceId::new(kind, name))?;
        if self.world.by_id.contains_key(&id) {
            return Some(id);
        }
        if self.world.mentions.contains(name) {
            return None;
        }
        let other = self.world.by_id.keys().filter(|k| k.name == id.name).min();
        let hint = match other {
            Some(other) => Some(format!("`{other}` is there, but {} is asked for here", a(kind))),
            None => {
                let names: Vec<&str> = self
                    .world
                    .by_id
                    .keys()
                    .filter(|k| k.kind == kind)
                    .map(|k| k.name.as_str())
                    .collect();
                did_you_mean(name, names)
            }
        };
        let code = match other {
            Some(_) => "spec/wrong-kind-of-reference",
            None => "spec/dangling-reference",
        };
        let message = format!("there is no `{id}` in environment `{}`", self.settings.environment);
        self.err(code, pointer, message).hint = hint;
        None
    }

    fn read_depends_on(&mut self, doc: &Doc) {
        for (n, text) in doc.depends_on.iter().enumerate() {
            let pointer = format!("/dependsOn/{n}");
            match reference(text) {
                Err(message) => {
                    self.err("spec/wrong-value", pointer, message);
                }
                Ok(id) if id.kind == Kind::StoragePool => {
                    if self.pool(&pointer, Some(id.name.as_str())).is_none() {
                        continue;
                    }
                }
                Ok(id) => {
                    if let Some(id) = self.id_of(&pointer, id.kind, id.name.as_str()) {
                        self.need(id);
                    }
                }
            }
        }
    }

    fn read_lifecycle(&mut self, doc: &Doc) {
        for (n, path) in doc.lifecycle.ignore_differences.iter().enumerate() {
            if !path.starts_with('/') || path.len() < 2 {
                let message = format!("`{}` is not a field path", path.escape_debug());
                self.err("spec/wrong-value", format!("/lifecycle/ignoreDifferences/{n}"), message)
                    .hint("write it as a JSON pointer into the spec: `/memory/current`");
            }
        }
    }

    /// Adds a primitive that belongs to this document.
    pub(crate) fn add_owned(
        &mut self,
        id: ResourceId,
        resource: Resource,
        depends_on: BTreeSet<ResourceId>,
    ) {
        let lifecycle = Lifecycle { self_heal: self.self_heal(), ..Lifecycle::default() };
        let desired = DesiredResource {
            digest: digest_of(&(&resource, &lifecycle)),
            resource,
            depends_on,
            owner: Some(self.id.clone()),
            lifecycle,
            labels: self.labels(),
            origin: self.world.members[self.member].origin(self.world.repo),
        };
        self.need(id.clone());
        self.extra.push((id, Arc::new(desired)));
    }

    fn self_heal(&self) -> SelfHeal {
        let own = self.world.members[self.member].doc.lifecycle.self_heal;
        own.unwrap_or(self.settings.self_heal)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let own = &self.world.members[self.member].doc.metadata.labels;
        let mut labels = self.settings.labels.clone();
        labels.extend(own.iter().map(|(k, v)| (k.clone(), v.clone())));
        labels
    }

    fn finish(self, resource: Resource, leases: &[Lease]) -> Resolved {
        let member = &self.world.members[self.member];
        let (written, origin) = (&member.doc.lifecycle, member.origin(self.world.repo));
        let lifecycle = Lifecycle {
            prevent_destroy: written.prevent_destroy,
            adopt: written.adopt,
            ignore_differences: written.ignore_differences.clone(),
            self_heal: self.self_heal(),
            orphan: written.orphan,
        };
        let own = DesiredResource {
            digest: digest_of(&(&resource, &lifecycle)),
            resource,
            labels: self.labels(),
            depends_on: self.depends_on,
            owner: member.from.as_ref().map(|from| from.owner.clone()),
            lifecycle,
            origin: origin.clone(),
        };
        let mut out = vec![(self.id, Arc::new(own))];
        out.extend(self.extra);
        Resolved {
            doc: Arc::clone(&member.doc),
            settings: Arc::clone(self.settings),
            origin,
            from_docs: self.from_docs,
            from_resolved: self.from_resolved,
            from_leases: leases.to_vec(),
            from_manifests: self.from_manifests,
            from_raw: self.from_raw,
            without: self.without,
            out,
            leases: self.leases,
            macs: self.macs,
            disks: self.disks,
            gpus: self.gpus,
        }
    }
}

/// Reads `kind/name`; a kind may be given in its short or its long form.
pub(crate) fn reference(text: &str) -> Result<ResourceId, String> {
    if let Some((kind, name)) = text.split_once('/')
        && let Some(kind) = DocKind::from_word(kind).and_then(DocKind::primitive)
    {
        let name = Name::new(name).map_err(|e| e.to_string())?;
        return Ok(ResourceId::new(kind, name));
    }
    text.parse().map_err(|e: crate::model::IdError| e.to_string())
}

fn a(kind: Kind) -> &'static str {
    match kind {
        Kind::StoragePool => "a storage pool",
        Kind::Network => "a network",
        Kind::Image => "an image",
        Kind::Disk => "a disk",
        Kind::Seed => "cloud-init media",
        Kind::GpuLayout => "a GPU layout",
        Kind::VirtualMachine => "a virtual machine",
        Kind::Backup => "a backup",
        Kind::Cluster => "a cluster",
        Kind::Release => "a release",
    }
}
