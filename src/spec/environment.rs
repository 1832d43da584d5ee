//! One environment: its documents gathered, patched, resolved and checked against each other.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::across;
use super::cache::FastMap;
use super::diag::{Diagnostic, Severity, did_you_mean};
use super::kinds::environment::{EnvironmentSpec, PoolSpec};
use super::kinds::{DocKind, Spec};
use super::load::Loaded;
use super::locate::Locator;
use super::machines;
use super::manifests::{self, ManifestFiles, RawFiles};
use super::parse::ParsedFile;
use super::patch;
use super::rename;
use super::repo::{BASES_FOLDER, Entry, Repository, Session};
use super::resolve::{Draft, Lease, Member, Place, Pool, Resolved, Settings, World, resolve};
use super::scalar;
use super::unheeded;
use super::yaml::At;
use super::{
    Desired, DesiredResource, Lifecycle, Origin, Renames, SelfHeal, SyncSettings, SyncWindow,
};
use crate::model::resource::StoragePool;
use crate::model::{Kind, Name, NameError, Resource, ResourceId, digest_of};

/// The code of what would have to be rendered first.
pub(crate) const NOT_RENDERED: &str = "spec/not-rendered";
/// Most resources of one environment: ten times what has been measured on one host.
pub(crate) const RESOURCES_MAX: usize = 100_000;
/// The pool of an environment that names none.
const POOL_NAME: &str = "trueup";
/// Where libvirt keeps images by default (`libvirt.org/storage.html`), in a folder of our own.
const POOL_PATH: &str = "/var/lib/libvirt/images/trueup";

/// The documents of an environment.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) members: Vec<Member>,
    pub(crate) by_id: FastMap<ResourceId, usize>,
    pub(crate) mentions: HashSet<String>,
    /// By place in the list of the repository's files; `None` for those of others.
    pub(crate) files: Vec<Option<Arc<ParsedFile>>>,
    /// Files of manifests of the environment and its bases.
    pub(crate) manifests: ManifestFiles,
    /// Files that are rendered or handed on, of the environment and its bases.
    pub(crate) raw: RawFiles,
    pub(crate) drafts: Vec<Draft>,
    /// The `Environment` document.
    pub(crate) head: Option<usize>,
}

/// Loads the environment; `None` where it has errors, which are then in the session.
pub(crate) fn load_environment(
    session: &mut Session<'_>,
    repository: &Repository,
    name: &Name,
    entry: &Entry,
) -> Option<Loaded> {
    let before = session.found.len();
    let mut all = Gathered::default();
    gather(session, &mut all, &session.below(&entry.folder), false);
    manifests::gather(session, &mut all, &entry.folder);
    if all.members.is_empty() && session.found.len() == before {
        let message = format!("environment `{name}` has no documents in `{}`", entry.folder);
        session.found.push(
            Diagnostic::nowhere("spec/empty-environment", &entry.folder, message).with_hint(
                "an empty folder never means that everything is to be removed; an `Environment` \
                 document without resources beside it does say that there are none",
            ),
        );
        return None;
    }
    let spec = head_spec(&mut all, name);
    bases(session, &mut all, &spec);
    identify(session, &mut all);
    patch::apply(session, &mut all, &spec);
    machines::add(session.cache, &mut all);
    let renamed = rename::read(&mut all, name, &spec);
    let (settings, sync, pools) = settings(session, &mut all, name, &spec, renamed);
    let resolved = resolve_all(session, &mut all, settings);
    let policy = super::policy::settings(session.repo, &mut all);
    limits(&mut all, repository);
    unheeded::warn(&mut all);
    let empty = all.by_id.is_empty();
    if empty && session.found.len() == before && all.drafts.is_empty() {
        nothing(&mut all, name);
    }
    for draft in &mut all.drafts {
        if let Some(request) = draft.wants.take() {
            session.cache.want(request);
        }
        if draft.code == NOT_RENDERED && session.without_rendering {
            draft.severity = Severity::Warning;
        }
    }
    let mut locator = Locator::new(session, &all, &spec);
    let located: Vec<_> = all.drafts.iter().map(|d| locator.locate(d)).collect();
    session.found.extend(located);
    if session.found[before..].iter().any(Diagnostic::is_error) {
        return None;
    }
    let outs = resolved.iter().flat_map(|(_, resolved)| &resolved.out);
    let outs = outs.map(|(id, resource)| (id.clone(), Arc::clone(resource)));
    // Collected in order as far as there is one: a map is built faster than it is filled.
    let resources = pools.into_iter().chain(outs).collect();
    Some(Loaded {
        desired: Desired { environment: name.clone(), sync, resources },
        policy,
        warnings: Vec::new(),
        empty,
    })
}

fn gather(session: &mut Session<'_>, all: &mut Gathered, files: &[usize], base: bool) {
    all.files.resize(session.repo.files.len(), None);
    all.members.reserve(files.len());
    for &file in files {
        let Some(parsed) = session.file(file) else {
            continue;
        };
        all.mentions.extend(parsed.mentions.iter().cloned());
        for doc in &parsed.docs {
            let kind = doc.doc.kind();
            let misplaced = kind == DocKind::Repository
                || (kind == DocKind::Environment && (base || all.head.is_some()));
            if misplaced {
                let message = format!("a document of kind {} does not belong here", kind.word());
                session.misplaced(file, &parsed, doc.index, &message);
                continue;
            }
            if kind == DocKind::Environment {
                all.head = Some(all.members.len());
            }
            all.members.push(Member {
                file,
                index: doc.index,
                doc: Arc::clone(&doc.doc),
                id: doc.id.clone(),
                patches: Vec::new(),
                line: doc.line,
                from: None,
            });
        }
        all.files[file] = Some(parsed);
    }
}

fn head_spec(all: &mut Gathered, name: &Name) -> EnvironmentSpec {
    let Some(head) = all.head else {
        return EnvironmentSpec::default();
    };
    let doc = Arc::clone(&all.members[head].doc);
    if doc.metadata.name != name.as_str() {
        let place = Place::value(head, "/metadata/name");
        let message = format!("`trueup.yaml` calls this environment `{name}`");
        all.drafts.push(Draft::new("spec/wrong-value", place, message));
    }
    match &doc.spec {
        Spec::Environment(spec) => spec.as_ref().clone(),
        _ => EnvironmentSpec::default(),
    }
}

fn bases(session: &mut Session<'_>, all: &mut Gathered, spec: &EnvironmentSpec) {
    let Some(head) = all.head else { return };
    let mut seen = HashSet::new();
    for (n, base) in spec.bases.iter().enumerate() {
        let place = Place::value(head, format!("/spec/bases/{n}"));
        if let Err(error) = Name::new(base.as_str()) {
            all.drafts.push(Draft::new("spec/wrong-value", place, error.to_string()));
            continue;
        }
        if !seen.insert(base) {
            let message = format!("base `{base}` is in the list already");
            all.drafts.push(Draft::new("spec/duplicate-base", place, message));
            continue;
        }
        let files = session.below(&format!("{BASES_FOLDER}/{base}"));
        if files.is_empty() {
            let known: Vec<String> = session
                .below(BASES_FOLDER)
                .iter()
                .filter_map(|&f| session.path(f).split('/').nth(1).map(str::to_owned))
                .collect();
            let message = format!("there is nothing in `{BASES_FOLDER}/{base}`");
            let mut draft = Draft::new("spec/dangling-reference", place, message);
            draft.hint = did_you_mean(base, known.iter().map(String::as_str));
            all.drafts.push(draft);
        }
        gather(session, all, &files, true);
        manifests::gather(session, all, &format!("{BASES_FOLDER}/{base}"));
    }
}

/// Finds every document by `kind/name`; two of one name are an error at the second.
fn identify(session: &Session<'_>, all: &mut Gathered) {
    all.by_id.reserve(all.members.len());
    let mut again = Vec::new();
    for (n, member) in all.members.iter().enumerate() {
        let Some(kind) = member.doc.kind().primitive() else {
            continue;
        };
        let known = member.id.clone().map(Ok);
        let read = || {
            let name = Name::new(member.doc.metadata.name.as_str())?;
            Ok::<_, NameError>(ResourceId::new(kind, name))
        };
        match known.unwrap_or_else(read) {
            Err(error) => {
                let place = Place::value(n, "/metadata/name");
                all.mentions.insert(member.doc.metadata.name.clone());
                all.drafts.push(Draft::new("spec/wrong-value", place, error.to_string()));
            }
            Ok(id) => {
                if let Some(&first) = all.by_id.get(&id) {
                    let at = |member| Place::value(member, "/metadata/name");
                    let path = session.path(all.members[first].file);
                    let message = format!("`{id}` is there twice");
                    let mut draft = Draft::new("spec/duplicate-resource", at(n), message);
                    draft.see(at(first), format!("the first one is in {path}"));
                    draft.hint("rename or remove one; a change to a base's resource is a `patch`");
                    all.drafts.push(draft);
                    again.push(n);
                } else {
                    all.by_id.insert(id, n);
                }
            }
        }
    }
    for n in again {
        all.members[n].id = None;
    }
}

type Pools = BTreeMap<ResourceId, Arc<DesiredResource>>;

fn settings(
    session: &Session<'_>,
    all: &mut Gathered,
    name: &Name,
    spec: &EnvironmentSpec,
    renamed: Renames,
) -> (Settings, SyncSettings, Pools) {
    let given = if spec.storage_pools.is_empty() {
        vec![PoolSpec { name: POOL_NAME.to_owned(), path: POOL_PATH.to_owned(), autostart: true }]
    } else {
        spec.storage_pools.clone()
    };
    let head = all.head.unwrap_or_default();
    let origin = all.head.map_or_else(
        || Origin { path: super::repo::REPOSITORY_FILE.to_owned(), line: 1 },
        |h| all.members[h].origin(session.repo),
    );
    let mut err = |pointer: String, message: String| {
        let place = Place::value(head, pointer);
        all.drafts.push(Draft::new("spec/wrong-value", place, message));
    };
    let (mut pools, mut resources) = (Vec::<Pool>::new(), Pools::new());
    for (n, pool) in given.iter().enumerate() {
        let at = |field| format!("/spec/storagePools/{n}/{field}");
        let path = scalar::absolute_path(&pool.path).map_err(|e| err(at("path"), e));
        let named = Name::new(pool.name.as_str()).map_err(|e| err(at("name"), e.to_string()));
        let (Ok(path), Ok(pool_name)) = (path, named) else {
            continue;
        };
        if pools.iter().any(|p| p.name == pool_name || p.path == path) {
            err(at("name"), "another pool has this name or path".to_owned());
            continue;
        }
        let id = ResourceId::new(Kind::StoragePool, pool_name.clone());
        resources.insert(id, Arc::new(pool_resource(&path, pool.autostart, spec, &origin)));
        pools.push(Pool { name: pool_name, path });
    }
    let sync = SyncSettings { renamed: renamed.clone(), ..sync(spec, &mut err) };
    let settings = Settings {
        environment: name.clone(),
        renamed,
        pools,
        labels: spec.labels.clone(),
        self_heal: spec.sync.self_heal,
    };
    (settings, sync, resources)
}

fn pool_resource(
    path: &str,
    autostart: bool,
    spec: &EnvironmentSpec,
    origin: &Origin,
) -> DesiredResource {
    let resource = Resource::StoragePool(StoragePool { path: path.to_owned(), autostart });
    let lifecycle = Lifecycle { self_heal: spec.sync.self_heal, ..Lifecycle::default() };
    DesiredResource {
        digest: digest_of(&(&resource, &lifecycle)),
        resource,
        depends_on: std::collections::BTreeSet::new(),
        owner: None,
        lifecycle,
        labels: spec.labels.clone(),
        origin: origin.clone(),
    }
}

fn sync(spec: &EnvironmentSpec, err: &mut impl FnMut(String, String)) -> SyncSettings {
    let mut windows = Vec::new();
    for (n, window) in spec.sync.windows.iter().enumerate() {
        let at = |field| format!("/spec/sync/windows/{n}/{field}");
        let start = scalar::minute_of_day(&window.start).map_err(|e| err(at("start"), e));
        let length = scalar::seconds(&window.duration).map_err(|e| err(at("duration"), e));
        let (Ok(start_minute), Ok(length)) = (start, length) else {
            continue;
        };
        let mut days: Vec<u8> = window.days.iter().map(|d| d.number()).collect();
        days.sort_unstable();
        days.dedup();
        windows.push(SyncWindow {
            days,
            start_minute,
            minutes: u32::try_from(length.div_ceil(60)).unwrap_or(u32::MAX),
        });
    }
    let self_heal: SelfHeal = spec.sync.self_heal;
    SyncSettings {
        mode: spec.sync.mode,
        self_heal,
        prune: spec.sync.prune,
        max_destroy: spec.sync.max_destroy,
        windows,
        pause: spec.pause,
        renamed: Renames::default(),
    }
}

/// Resolves every document: images, disks, machines, then networks with what machines ask of them.
fn resolve_all(
    session: &mut Session<'_>,
    all: &mut Gathered,
    settings: Settings,
) -> Arc<[(ResourceId, Arc<Resolved>)]> {
    let environment = settings.environment.clone();
    let mut memo = session.cache.take_resolved(&environment);
    // Taken from the documents, which are in the order of their paths: mostly sorted already.
    let members = all.members.iter().enumerate();
    let mut ids: Vec<(&ResourceId, usize)> =
        members.filter_map(|(n, member)| Some((member.id.as_ref()?, n))).collect();
    ids.sort();
    let settings = memo.settings(settings);
    let mut world = World {
        repo: session.repo,
        members: &all.members,
        by_id: &all.by_id,
        mentions: &all.mentions,
        manifests: &all.manifests,
        raw: &all.raw,
        renderings: session.cache.renderings(),
        resolved: vec![None; all.members.len()],
    };
    let mut leases: FastMap<Name, Vec<Lease>> = FastMap::default();
    let mut drafts = Vec::new();
    let order = [
        Kind::Image,
        Kind::Disk,
        Kind::GpuLayout,
        Kind::VirtualMachine,
        Kind::Network,
        Kind::Backup,
        Kind::Cluster,
        Kind::Release,
    ];
    for kind in order {
        for &(id, member) in ids.iter().filter(|(id, _)| id.kind == kind) {
            let asked = match kind {
                Kind::Network => leases.remove(&id.name).unwrap_or_default(),
                _ => Vec::new(),
            };
            let known = memo
                .get(id, |known| known.still_fits(&world, &all.members[member], &settings, &asked));
            let resolved = match known {
                Some(known) => known,
                None => match resolve(&world, &settings, member, id, &asked) {
                    Ok(resolved) => {
                        let resolved = Arc::new(resolved);
                        memo.put(id.clone(), Arc::clone(&resolved));
                        resolved
                    }
                    Err(found) => {
                        drafts.extend(found);
                        continue;
                    }
                },
            };
            for lease in &resolved.leases {
                let network = lease.network.clone();
                leases.entry(network).or_default().push(lease.clone());
            }
            world.resolved[member] = Some(resolved);
        }
    }
    let mut resolved = world.resolved;
    let resolved = ids.iter().filter_map(|&(id, n)| Some((id.clone(), resolved[n].take()?)));
    let resolved: Arc<[_]> = resolved.collect::<Vec<_>>().into();
    let clean = drafts.is_empty() && all.drafts.is_empty();
    all.drafts.extend(drafts);
    if !clean || !memo.still_agrees(&resolved) {
        across::check(all, &resolved);
    }
    memo.agreed(all.drafts.is_empty().then(|| Arc::clone(&resolved)));
    session.cache.put_resolved(&environment, memo);
    resolved
}

fn limits(all: &mut Gathered, repository: &Repository) {
    let set = repository.resources_max.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let most = set.unwrap_or(RESOURCES_MAX).min(RESOURCES_MAX);
    if all.by_id.len() > most {
        let message = format!("{} resources; at most {most} are taken", all.by_id.len());
        let place = Place::value(all.head.unwrap_or_default(), "");
        all.drafts.push(Draft::new("spec/too-many", place, message));
    }
}

fn nothing(all: &mut Gathered, name: &Name) {
    let Some(head) = all.head else { return };
    let place = Place { member: head, pointer: "/metadata/name".to_owned(), at: At::Value };
    let message = format!("environment `{name}` asks for no resources");
    let mut draft = Draft::new("spec/empty-environment", place, message);
    draft.severity = Severity::Warning;
    draft.hint("nothing is removed because of it; remove resources one by one if that is meant");
    all.drafts.push(draft);
}
