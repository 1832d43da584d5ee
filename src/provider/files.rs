//! Finding content-addressed files of ours: `<prefix>-<name>-<12 digits>.<ending>`.
//!
//! Shared by the providers of images and of cloud-init media. It never follows a symbolic link and
//! never looks on a thread that others wait for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::model::{
    Fault, Kind, Name, Observation, Observed, Ownership, Resource, ResourceId, Stale,
};
use crate::port::Scope;

/// Digits of a digest in a file name; as many as [`crate::model::Digest::short`] gives.
const DIGITS: usize = 12;

/// How the files of one kind are named, and what one of them stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Naming {
    /// The kind they belong to.
    pub(super) kind: Kind,
    /// The first word of their names.
    pub(super) prefix: &'static str,
    /// The endings of the files themselves; companions have others.
    pub(super) endings: &'static [&'static str],
}

impl Naming {
    /// The resource a file belongs to, by its name.
    pub(super) fn owner(&self, path: &Path) -> Option<ResourceId> {
        let path = &finished(path);
        let ending = path.extension()?.to_str()?;
        let stem = path.file_stem()?.to_str()?;
        let rest = stem.strip_prefix(self.prefix)?.strip_prefix('-')?;
        let (name, digits) = rest.rsplit_once('-')?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let ours =
            self.endings.contains(&ending) && digits.len() == DIGITS && digits.bytes().all(hex);
        Name::new(name).ok().filter(|_| ours).map(|name| ResourceId::new(self.kind, name))
    }

    /// Everything of this kind in the folders where it may lie. `there` says what a file that is
    /// asked for is, or that it is not whole.
    pub(super) async fn observe(
        self,
        scope: &Scope,
        path_of: fn(&Resource) -> Option<&str>,
        there: fn(&Resource) -> Option<Resource>,
    ) -> Result<Observed, Fault> {
        let scope = scope.clone();
        blocking("look at the pools' files", move || self.look(&scope, path_of, there)).await
    }

    fn look(
        self,
        scope: &Scope,
        path_of: fn(&Resource) -> Option<&str>,
        there: fn(&Resource) -> Option<Resource>,
    ) -> Result<Observed, Fault> {
        let mut observed = Observed::default();
        let mut wanted = BTreeSet::new();
        for (id, wish) in &scope.desired.resources {
            let Some(path) = path_of(&wish.resource) else { continue };
            wanted.insert(PathBuf::from(path));
            if let Some(config) = there(&wish.resource) {
                observed.resources.insert(id.clone(), seen(config));
            }
        }
        for folder in folders(scope, path_of) {
            for path in files_in(&folder)? {
                let Some(resource) = self.owner(&path) else { continue };
                if !wanted.contains(&finished(&path)) && is_ours(scope, &resource) {
                    let path = path.to_string_lossy().into_owned();
                    observed.stale.push(Stale { resource, path });
                }
            }
        }
        observed.stale.sort();
        Ok(observed)
    }
}

/// The ending of a file that is still being written.
pub(super) const UNFINISHED: &str = "partial";

/// What a file becomes that is still being written; any other is itself.
fn finished(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|ending| ending == UNFINISHED) {
        path.with_extension("")
    } else {
        path.to_owned()
    }
}

/// Whether the files of a resource are ours to remove. The folder may be another environment's too,
/// whose files are named the same way.
fn is_ours(scope: &Scope, id: &ResourceId) -> bool {
    scope.known.contains(id) || scope.desired.resources.contains_key(id)
}

/// Runs file work on a thread that nobody waits for: a disk may hang for minutes.
///
/// # Errors
/// What `work` fails with; [`Fault::Transient`] where it panicked.
pub(super) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Fault::transient(format!("a worker thread died while it was to {doing}: {error}"))
    })?
}

fn seen(config: Resource) -> Observation {
    Observation {
        ownership: Ownership::Unmarked,
        config,
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    }
}

/// The folders of the pools, and those that files were made in before.
fn folders(scope: &Scope, path_of: fn(&Resource) -> Option<&str>) -> BTreeSet<PathBuf> {
    let desired = scope.desired.resources.values().map(|wish| &wish.resource);
    let folder = |resource: &Resource| match resource {
        Resource::StoragePool(pool) => Some(PathBuf::from(&pool.path)),
        other => Path::new(path_of(other)?).parent().map(Path::to_path_buf),
    };
    desired.chain(scope.claims.values()).filter_map(folder).collect()
}

/// The plain files of a folder; none where there is no such folder yet.
pub(super) fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let unreadable = |error: std::io::Error| {
        Fault::unobservable(format!("{}: cannot be listed: {error}", folder.display()))
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        if entry.file_type().map_err(unreadable)?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Removes a file; whether it was there.
pub(super) fn remove(path: &Path) -> Result<bool, Fault> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            Err(Fault::transient(format!("{}: cannot be removed: {error}", path.display())))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::{Arc, mpsc};

    use super::*;
    use crate::spec::{Desired, SyncSettings};

    /// An environment that asks for nothing, with these files in the log.
    pub(in crate::provider) fn scope(claims: BTreeMap<ResourceId, Resource>) -> Scope {
        let desired = Desired {
            environment: Name::new("lab").unwrap(),
            sync: SyncSettings::default(),
            resources: BTreeMap::new(),
        };
        Scope {
            desired: Arc::new(desired),
            known: Arc::new(claims.keys().cloned().collect()),
            claims: Arc::new(claims),
            awaited: Arc::default(),
            fresh: false,
        }
    }

    /// Runs `work` to its end, where it goes on no further than to its first file while every worker
    /// thread is held.
    #[track_caller]
    pub(in crate::provider) fn beside_a_held_worker<T>(work: impl Future<Output = T>) -> T {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.max_blocking_threads(1).enable_all().build().unwrap();
        let (release, held) = mpsc::channel::<()>();
        let (pending, result) = runtime.block_on(async {
            let holder = tokio::task::spawn_blocking(move || held.recv().is_err());
            let mut work = pin!(work);
            let first = poll_fn(|cx| std::task::Poll::Ready(work.as_mut().poll(cx))).await;
            drop(release);
            assert!(holder.await.unwrap());
            match first {
                std::task::Poll::Ready(result) => (false, result),
                std::task::Poll::Pending => (true, work.await),
            }
        });
        assert!(pending, "it looked at files on the executor's thread");
        result
    }

    #[test]
    fn only_files_of_known_resources_are_stale() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, "").unwrap();
            path.to_str().unwrap().to_owned()
        };
        let ours = file("seed-web-0123456789ab.img");
        file("seed-other-0123456789ab.img");
        let seed = crate::model::resource::Seed {
            pool: Name::new("fast").unwrap(),
            path: ours.clone(),
            content: crate::model::Digest::of("web"),
            meta_data: None,
            user_data: None,
            network_config: None,
        };
        let id: ResourceId = "seed/web".parse().unwrap();
        let scope = scope(BTreeMap::from([(id.clone(), Resource::Seed(seed))]));
        let naming = Naming { kind: Kind::Seed, prefix: "seed", endings: &["img"] };
        fn path_of(resource: &Resource) -> Option<&str> {
            match resource {
                Resource::Seed(seed) => Some(seed.path.as_str()),
                _ => None,
            }
        }
        let seen = beside_a_held_worker(naming.observe(&scope, path_of, |_| None)).unwrap();
        assert_eq!(seen.stale, [Stale { resource: id, path: ours }]);
    }

    #[test]
    fn only_our_own_names_are_ours() {
        let naming = Naming { kind: Kind::Image, prefix: "image", endings: &["qcow2", "raw"] };
        let owner = |name: &str| naming.owner(Path::new(name)).map(|id| id.to_string());
        assert_eq!(
            owner("/p/image-debian-12-0123456789ab.qcow2").as_deref(),
            Some("image/debian-12")
        );
        for other in [
            "/p/image-debian-0123456789ab.vmlinuz",
            "/p/image-debian-0123456789AB.qcow2",
            "/p/image-debian-0123.qcow2",
            "/p/image-0123456789ab.qcow2",
            "/p/seed-debian-0123456789ab.raw",
            "/p/image-De-0123456789ab.raw",
            "/p/.qcow2",
        ] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
