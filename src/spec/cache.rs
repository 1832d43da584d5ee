//! What is kept between loads: parsed files by blob id, and resolved documents by what they came
//! from.
//!
//! Only good results of resolving are kept, and nothing is keyed by path or by commit, so an error
//! never outlives its cause. The cache can be thrown away at any time; only time is lost.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use trueup_kubernetes::release::DigestKey;

use super::kinds::Doc;
use super::machines::Expansion;
use super::manifests::{self, ManifestFile};
use super::parse::{ParsedFile, parse_file};
use super::rendering::{self, RenderRequest, Rendering, Renderings};
use super::resolve::{Resolved, Settings};
use crate::model::{Digest, Name, ResourceId};

/// A map whose hashes are quick. They are seeded anew in every process, so that no repository can be
/// written to make them collide.
pub(crate) type FastMap<K, V> = HashMap<K, V, foldhash::quality::RandomState>;

/// Most parsed files kept: four times the largest repository that is measured.
pub const CACHED_FILES_MAX: usize = 20_000;

/// A document, and what it was expanded into.
type Expanded = (Arc<Doc>, Arc<Expansion>);

/// What is kept between loads.
#[derive(Debug, Default)]
pub struct ParseCache {
    generation: u64,
    files: FastMap<String, Cached<Arc<ParsedFile>>>,
    manifests: FastMap<String, Cached<Arc<ManifestFile>>>,
    patched: HashMap<PatchKey, Cached<Arc<Doc>>>,
    expanded: HashMap<ResourceId, Cached<Expanded>>,
    resolved: HashMap<Name, Memo>,
    parses: u64,
    /// What was rendered, with the last load before each came.
    renderings: Arc<Renderings>,
    /// What the last loads lacked.
    wanted: Vec<RenderRequest>,
    /// For digests of Secrets.
    key: Option<DigestKey>,
}

/// Most renderings kept; what is forgotten is asked for again.
const RENDERINGS_MAX: usize = 256;

/// A document and the patches laid over it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PatchKey {
    pub(crate) blob: String,
    pub(crate) index: usize,
    pub(crate) patches: Digest,
}

#[derive(Debug)]
struct Cached<T> {
    used: u64,
    value: T,
}

impl ParseCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on digests of Secrets are made with this key: whoever sees digests could else try weak
    /// values.
    pub fn seal(&mut self, key: Option<&DigestKey>) {
        if self.key.as_ref() != key {
            *self = Self { key: key.cloned(), ..Self::default() };
        }
    }

    /// What the loads since the last call lacked: to be rendered, and loaded again. Each once.
    pub fn wanted(&mut self) -> Vec<RenderRequest> {
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.sort_by_key(|request| request.digest);
        wanted.dedup_by_key(|request| request.digest);
        wanted
    }

    /// Takes in what came of a request.
    pub fn rendered(&mut self, request: &RenderRequest, outcome: &Rendering) {
        let parsed = rendering::parse(request, outcome, self.key.as_ref());
        let known = Arc::make_mut(&mut self.renderings);
        if known.len() >= RENDERINGS_MAX {
            known.clear();
        }
        known.insert(request.digest, Arc::new(parsed));
    }

    pub(crate) fn want(&mut self, request: RenderRequest) {
        self.wanted.push(request);
    }

    /// The renderings that are known.
    pub(crate) fn renderings(&self) -> Arc<Renderings> {
        Arc::clone(&self.renderings)
    }

    /// The content of a blob that was read before.
    pub(crate) fn bytes_of(&self, blob: &str) -> Option<Arc<[u8]>> {
        let manifest = self.manifests.get(blob).map(|known| Arc::clone(&known.value.bytes));
        let text = || {
            let known = &self.files.get(blob)?.value;
            // Of what is no text nothing is kept.
            let whole = !known.text.is_empty() || known.errors.is_empty();
            whole.then(|| Arc::from(known.text.as_bytes()))
        };
        manifest.or_else(text)
    }

    /// Whether the content of `blob` is known, so that its bytes need not be read again.
    pub fn contains(&self, blob: &str) -> bool {
        self.files.contains_key(blob) || self.manifests.contains_key(blob)
    }

    /// How many files have been parsed since the cache was made.
    pub fn parses(&self) -> u64 {
        self.parses
    }

    /// Opens a new load: what the two loads before it did not use may go.
    pub(crate) fn begin(&mut self) {
        self.generation += 1;
        let oldest = self.generation.saturating_sub(2);
        if self.files.len() > CACHED_FILES_MAX {
            self.files.retain(|_, c| c.used >= oldest);
        }
        if self.files.len() > CACHED_FILES_MAX {
            self.files.clear();
        }
        // They hold whole objects, so none is kept for long.
        self.manifests.retain(|_, c| c.used >= oldest);
        self.patched.retain(|_, c| c.used >= oldest);
        self.expanded.retain(|_, c| c.used >= oldest);
        for memo in self.resolved.values_mut() {
            memo.known.retain(|_, c| c.used >= oldest);
        }
        self.resolved.retain(|_, memo| !memo.known.is_empty());
    }

    /// The parsed content of `blob`; `None` where it is unknown and no bytes were given.
    pub(crate) fn file(&mut self, blob: &str, bytes: Option<&[u8]>) -> Option<Arc<ParsedFile>> {
        let generation = self.generation;
        if let Some(known) = self.files.get_mut(blob) {
            known.used = generation;
            return Some(Arc::clone(&known.value));
        }
        let known = self.manifests.get(blob).map(|known| Arc::clone(&known.value.bytes));
        let value = Arc::new(parse_file(bytes.or(known.as_deref())?));
        self.parses += 1;
        let kept = Cached { used: generation, value: Arc::clone(&value) };
        self.files.insert(blob.to_owned(), kept);
        Some(value)
    }

    /// What is in the file of manifests `blob`; `None` where it is unknown and no bytes were given.
    pub(crate) fn manifests(
        &mut self,
        blob: &str,
        bytes: Option<&Arc<[u8]>>,
    ) -> Option<Arc<ManifestFile>> {
        let generation = self.generation;
        if let Some(known) = self.manifests.get_mut(blob) {
            known.used = generation;
            return Some(Arc::clone(&known.value));
        }
        let bytes = match (bytes, self.files.get(blob)) {
            (Some(bytes), _) => Arc::clone(bytes),
            // The same content was read as documents, elsewhere or before.
            (None, Some(file)) if !file.value.text.is_empty() => {
                Arc::from(file.value.text.as_bytes())
            }
            (None, _) => return None,
        };
        let value = Arc::new(manifests::parse(&bytes, self.key.as_ref()));
        self.parses += 1;
        let kept = Cached { used: generation, value: Arc::clone(&value) };
        self.manifests.insert(blob.to_owned(), kept);
        Some(value)
    }

    /// A patched document, made by `make` if it is not known.
    pub(crate) fn patched<E>(
        &mut self,
        key: PatchKey,
        make: impl FnOnce() -> Result<Doc, E>,
    ) -> Result<Arc<Doc>, E> {
        let used = self.generation;
        if let Some(known) = self.patched.get_mut(&key) {
            known.used = used;
            return Ok(Arc::clone(&known.value));
        }
        let value = Arc::new(make()?);
        let kept = Cached { used, value: Arc::clone(&value) };
        self.patched.insert(key, kept);
        Ok(value)
    }

    /// What the cluster of a document is made of, found by `make` if it is not known.
    pub(crate) fn expanded(
        &mut self,
        id: &ResourceId,
        doc: &Arc<Doc>,
        make: impl FnOnce() -> Expansion,
    ) -> Arc<Expansion> {
        let used = self.generation;
        if let Some(known) = self.expanded.get_mut(id).filter(|it| Arc::ptr_eq(&it.value.0, doc)) {
            known.used = used;
            return Arc::clone(&known.value.1);
        }
        let made = Arc::new(make());
        let value = (Arc::clone(doc), Arc::clone(&made));
        self.expanded.insert(id.clone(), Cached { used, value });
        made
    }

    /// What was resolved for `environment` and is still known, taken out.
    pub(crate) fn take_resolved(&mut self, environment: &Name) -> Memo {
        let mut memo = self.resolved.remove(environment).unwrap_or_default();
        memo.generation = self.generation;
        memo
    }

    /// Puts back what [`Self::take_resolved`] took.
    pub(crate) fn put_resolved(&mut self, environment: &Name, memo: Memo) {
        self.resolved.insert(environment.clone(), memo);
    }
}

/// A resource with what its document came to.
type Agreed = (ResourceId, Arc<Resolved>);

/// Resolved documents of one environment.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    generation: u64,
    settings: Option<Arc<Settings>>,
    known: FastMap<ResourceId, Cached<Arc<Resolved>>>,
    /// What was last found not to collide, in order.
    agreed: Option<Arc<[Agreed]>>,
}

impl Memo {
    /// What is known about `id`, if `fits` still says so.
    pub(crate) fn get(
        &mut self,
        id: &ResourceId,
        fits: impl FnOnce(&Resolved) -> bool,
    ) -> Option<Arc<Resolved>> {
        let known = self.known.get_mut(id)?;
        if !fits(&known.value) {
            return None;
        }
        known.used = self.generation;
        Some(Arc::clone(&known.value))
    }

    /// The settings of the last load, if these are the same; else these.
    pub(crate) fn settings(&mut self, now: Settings) -> Arc<Settings> {
        let same = self.settings.take().filter(|then| **then == now);
        let settings = same.unwrap_or_else(|| Arc::new(now));
        self.settings = Some(Arc::clone(&settings));
        settings
    }

    /// Whether nothing has changed that the check across resources looks at.
    pub(crate) fn still_agrees(&self, now: &[Agreed]) -> bool {
        let same = |(then, now): (&Agreed, &Agreed)| {
            Arc::ptr_eq(&then.1, &now.1) || (then.0 == now.0 && then.1.collides_like(&now.1))
        };
        self.agreed
            .as_ref()
            .is_some_and(|then| then.len() == now.len() && then.iter().zip(now).all(same))
    }

    /// Remembers resources that do not collide; `None` where some do.
    pub(crate) fn agreed(&mut self, now: Option<Arc<[Agreed]>>) {
        self.agreed = now;
    }

    /// Keeps a result.
    pub(crate) fn put(&mut self, id: ResourceId, value: Arc<Resolved>) {
        let used = self.generation;
        self.known.insert(id, Cached { used, value });
    }
}

/// The digest of a list of patches.
pub(crate) fn patches_digest(patches: &[&Value]) -> Digest {
    crate::model::digest_of(patches)
}
