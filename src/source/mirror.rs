//! The bare mirror on disk: created whole or not at all, cleaned after a crash, keyed by its URL.
//!
//! Only the process that holds the mirror's lock file cleans up or starts it anew; others (a
//! command beside the daemon) read and fetch, which is safe at the same time. It never has a
//! working tree, and nothing of the user's Git configuration applies to it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gix::ThreadSafeRepository;

use super::config::MirrorConfig;
use super::deadline::Abandoned;
use super::error::{SourceError, chain};
use super::id::{BlobId, CommitId};
use super::tree::lfs;

/// Bytes one object may take in memory. Packs are compressed, zeros about a thousandfold: without a
/// limit, a push of a few MiB (anybody's, where forks are planned) would take all the memory there
/// is. As much as [`TreeLimits`](super::tree::TreeLimits) lets all files of a commit have together.
pub(super) const OBJECT_BYTES_MAX: u64 = 64 << 20;

/// Where the mirror notes which repository it is of.
pub(super) const IDENTITY: &str = "trueup-url";
/// Every short-lived file of this module starts with it.
pub(crate) const TEMP_PREFIX: &str = "source-";
/// Packs that one open handle can see; far over any `packs_max`, because the default (32) makes
/// reads fail in a process that fetched more often than that.
const PACK_SLOTS: u16 = 4_096;
/// Refs that keep a commit from being collected.
const KEEP: &str = "refs/trueup/keep/";

/// How [`Mirror::open_or_create`] found the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// The mirror was there.
    Existing,
    /// There was none.
    Created,
    /// There was one of another repository. Its branches are gone; what it kept stays readable, so
    /// that the commit in force goes on until a commit of the new repository takes its place.
    Rekeyed {
        /// The repository it was of.
        previous_url: String,
    },
}

/// A bare mirror of one repository. Cheap to share; every method may be called from any thread.
#[derive(Debug, Clone)]
pub struct Mirror {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: MirrorConfig,
    pub(crate) url: gix::Url,
    pub(crate) shown: String,
    pub(crate) repo: ThreadSafeRepository,
    pub(crate) abandoned: Abandoned,
    opening: Opening,
    /// Held for as long as the mirror is open; `None` where another process holds it.
    owner: Option<File>,
}

impl Mirror {
    /// Opens the mirror, or creates an empty one, without talking to the remote. Clears what a
    /// crash left: locks, half-received packs, temporary files.
    ///
    /// # Errors
    /// [`SourceError::Url`] and [`SourceError::Mirror`].
    pub fn open_or_create(config: MirrorConfig) -> Result<Self, SourceError> {
        let url = config.parsed_url()?;
        let identity = identity(&url);
        let parent = config.directory.parent().map(Path::to_path_buf).unwrap_or_default();
        for directory in [&parent, &config.temp] {
            fs::create_dir_all(directory).map_err(|error| broken(directory, error))?;
        }
        let owner = own(&sibling(&config.directory, "owner"))?;
        if owner.is_some() {
            reap(&config.temp, &[TEMP_PREFIX])?;
            let name = file_name(&config.directory);
            reap(&parent, &[&format!("{name}.new-")])?;
        }
        let opening = settle(&config, &identity, owner.is_some())?;
        if owner.is_some() && opening == Opening::Existing {
            clear_leftovers(&config.directory)?;
        }
        let repo = open(&config)?;
        Ok(Self {
            inner: Arc::new(Inner {
                shown: config.shown_url(),
                config,
                url,
                repo,
                abandoned: Abandoned::default(),
                opening,
                owner,
            }),
        })
    }

    /// How the mirror was found.
    #[must_use]
    pub fn opening(&self) -> &Opening {
        &self.inner.opening
    }

    /// False where another process owns the mirror and this one only uses it.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.inner.owner.is_some()
    }

    /// The repository it is of, without user and password: two of one name are the same one.
    #[must_use]
    pub fn repository(&self) -> String {
        identity(&self.inner.url)
    }

    /// The config it was opened with.
    #[must_use]
    pub fn config(&self) -> &MirrorConfig {
        &self.inner.config
    }

    /// Whether the mirror holds the commit.
    #[must_use]
    pub fn has(&self, commit: CommitId) -> bool {
        self.inner.repo.to_thread_local().has_object(commit.to_gix())
    }

    /// The content of a file.
    ///
    /// # Errors
    /// [`SourceError::Object`] when it is missing or damaged, [`SourceError::LfsPointer`] when the
    /// content is not here at all. The caller limits sizes through the tree it took the id from.
    pub fn blob(&self, id: &BlobId) -> Result<Vec<u8>, SourceError> {
        self.blob_in(&self.inner.repo.to_thread_local(), id)
    }

    /// As [`Mirror::blob`], with the objects that `repo` sees.
    pub(crate) fn blob_in(
        &self,
        repo: &gix::Repository,
        id: &BlobId,
    ) -> Result<Vec<u8>, SourceError> {
        let mut object = repo.find_object(id.to_gix()).map_err(|error| self.object(id, &error))?;
        if object.kind != gix::object::Kind::Blob {
            return Err(self.not_a(id, "a file"));
        }
        if lfs::is_pointer(&object.data) {
            return Err(SourceError::LfsPointer { blob: *id });
        }
        Ok(std::mem::take(&mut object.data))
    }

    /// Makes sure that these commits, and no others, outlive a rewrite of the remote branch: the
    /// last good commit must stay readable for as long as it is the wish.
    ///
    /// # Errors
    /// [`SourceError::CommitMissing`] and [`SourceError::Mirror`].
    pub fn keep(&self, commits: &[CommitId]) -> Result<(), SourceError> {
        let repo = self.inner.repo.to_thread_local();
        if let Some(commit) = commits.iter().find(|commit| !self.has(**commit)) {
            return Err(SourceError::CommitMissing {
                url: self.inner.shown.clone(),
                commit: *commit,
            });
        }
        let broken = |error: gix::Error| broken(&self.inner.config.directory, chain(&error));
        for commit in commits {
            let name = format!("{KEEP}{commit}");
            let any = gix::refs::transaction::PreviousValue::Any;
            repo.reference(name, commit.to_gix(), any, "trueup: keep").map_err(broken)?;
        }
        let platform = repo.references().map_err(broken)?;
        for reference in platform.prefixed(KEEP).map_err(broken)? {
            let reference = reference
                .map_err(|error| self::broken(&self.inner.config.directory, error.to_string()))?;
            let name = reference.name().as_bstr().to_string();
            if !commits.iter().any(|commit| name == format!("{KEEP}{commit}")) {
                reference.delete().map_err(broken)?;
            }
        }
        Ok(())
    }

    pub(crate) fn object(&self, id: &dyn ToString, error: &gix::Error) -> SourceError {
        SourceError::Object {
            object: id.to_string(),
            mirror: self.inner.config.directory.clone(),
            why: chain(error),
        }
    }

    pub(crate) fn not_a(&self, id: &dyn ToString, what: &str) -> SourceError {
        SourceError::Object {
            object: id.to_string(),
            mirror: self.inner.config.directory.clone(),
            why: format!("it is not {what}"),
        }
    }
}

/// The repository's name for comparison: without user and password.
fn identity(url: &gix::Url) -> String {
    let mut url = url.clone();
    url.set_password(None);
    if matches!(url.scheme, gix::url::Scheme::Http | gix::url::Scheme::Https) {
        url.set_user(None);
    }
    url.to_bstring().to_string()
}

/// Brings the directory into being, of the right repository.
fn settle(config: &MirrorConfig, identity: &str, owner: bool) -> Result<Opening, SourceError> {
    let directory = &config.directory;
    if !directory.exists() {
        create(config, identity)?;
        return Ok(Opening::Created);
    }
    let noted = directory.join(IDENTITY);
    let previous = match fs::read_to_string(&noted) {
        Ok(text) => text.trim_end().to_owned(),
        Err(error) => {
            let why = format!(
                "it is there but was not made by trueup ({IDENTITY}: {error}); \
                 move it away or name another directory"
            );
            return Err(broken(directory, why));
        }
    };
    if previous == identity {
        return Ok(Opening::Existing);
    }
    if !owner {
        let why =
            format!("a running trueup keeps {previous} there; restart it with the new URL first");
        return Err(broken(directory, why));
    }
    rekey(config, identity)?;
    Ok(Opening::Rekeyed { previous_url: previous })
}

/// Makes the mirror one of another repository: no branch of the old one is left to be taken for the
/// new one's, its kept commits stay. The name changes last: a crash before it starts this anew.
fn rekey(config: &MirrorConfig, identity: &str) -> Result<(), SourceError> {
    let directory = &config.directory;
    let repo = open(config)?.to_thread_local();
    let failed = |error: gix::Error| broken(directory, chain(&error));
    for reference in repo.references().map_err(failed)?.all().map_err(failed)? {
        let reference = reference.map_err(|error| broken(directory, error.to_string()))?;
        if !reference.name().as_bstr().starts_with(KEEP.as_bytes()) {
            reference.delete().map_err(failed)?;
        }
    }
    let noted = directory.join(IDENTITY);
    let mut new = tempfile::NamedTempFile::new_in(directory).map_err(|e| broken(&noted, e))?;
    new.write_all(format!("{identity}\n").as_bytes()).map_err(|e| broken(&noted, e))?;
    new.as_file().sync_all().map_err(|e| broken(&noted, e))?;
    new.persist(&noted).map_err(|error| broken(&noted, error.error))?;
    Ok(())
}

/// Creates the mirror beside its place and renames it in, so that a crash leaves all or nothing.
fn create(config: &MirrorConfig, identity: &str) -> Result<(), SourceError> {
    let new = scratch(&config.directory, "new")?;
    let bare = new.join("mirror");
    let options = gix::create::Options::default();
    ThreadSafeRepository::init_opts(&bare, gix::create::Kind::Bare, options, isolated())
        .map_err(|error| broken(&bare, chain(&error)))?;
    let noted = bare.join(IDENTITY);
    fs::write(&noted, format!("{identity}\n")).map_err(|error| broken(&noted, error))?;
    fs::rename(&bare, &config.directory).map_err(|error| broken(&config.directory, error))?;
    fs::remove_dir(&new).map_err(|error| broken(&new, error))
}

fn open(config: &MirrorConfig) -> Result<ThreadSafeRepository, SourceError> {
    ThreadSafeRepository::open_opts(&config.directory, isolated()).map_err(|error| {
        let why = format!("{}; remove that directory to have it cloned again", chain(&error));
        broken(&config.directory, why)
    })
}

/// Nothing of the machine's or the user's Git configuration, and a name for ref updates.
pub(super) fn isolated() -> gix::open::Options {
    gix::open::Options::isolated()
        .object_store_slots(gix::odb::store::init::Slots::Given(PACK_SLOTS))
        .config_overrides([
            "user.name=trueup".to_owned(),
            "user.email=trueup@localhost".to_owned(),
            "core.logAllRefUpdates=false".to_owned(),
            // An object is what its name says, and no ref makes it another.
            "core.useReplaceRefs=false".to_owned(),
            "ssh.variant=ssh".to_owned(),
            format!("gitoxide.objects.allocLimit={OBJECT_BYTES_MAX}"),
        ])
}

/// The lock file; `None` where another process holds it.
fn own(path: &Path) -> Result<Option<File>, SourceError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| broken(path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(broken(path, error)),
    }
}

/// Removes the entries of `directory` whose names start with one of `prefixes`.
fn reap(directory: &Path, prefixes: &[&str]) -> Result<(), SourceError> {
    for entry in list(directory)? {
        let name = file_name(&entry);
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            let removed =
                if entry.is_dir() { fs::remove_dir_all(&entry) } else { fs::remove_file(&entry) };
            removed.map_err(|error| broken(&entry, error))?;
        }
    }
    Ok(())
}

/// Locks, half-received packs and their markers. Only the mirror's owner may: whoever held them is
/// gone.
fn clear_leftovers(directory: &Path) -> Result<(), SourceError> {
    let packs = directory.join("objects").join("pack");
    if packs.is_dir() {
        reap(&packs, &[".tmp", "tmp_"])?;
        for entry in list(&packs)? {
            // A left-over marker would keep its pack out of every later repack.
            if entry.extension().is_some_and(|extension| extension == "keep") {
                fs::remove_file(&entry).map_err(|error| broken(&entry, error))?;
            }
        }
    }
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in list(&next)? {
            if entry.is_dir() {
                // Object files have no locks, and there are many of them.
                if entry != directory.join("objects") {
                    open.push(entry);
                }
            } else if entry.extension().is_some_and(|extension| extension == "lock") {
                tracing::info!(file = %entry.display(), "removed a lock left by a crash");
                fs::remove_file(&entry).map_err(|error| broken(&entry, error))?;
            }
        }
    }
    Ok(())
}

pub(super) fn list(directory: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let entries = fs::read_dir(directory).map_err(|error| broken(directory, error))?;
    entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()
        .map_err(|error| broken(directory, error))
}

fn scratch(directory: &Path, kind: &str) -> Result<PathBuf, SourceError> {
    let parent = directory.parent().unwrap_or(Path::new("."));
    tempfile::Builder::new()
        .prefix(&format!("{}.{kind}-", file_name(directory)))
        .tempdir_in(parent)
        .map(tempfile::TempDir::keep)
        .map_err(|error| broken(parent, error))
}

fn sibling(directory: &Path, extension: &str) -> PathBuf {
    directory.with_file_name(format!("{}.{extension}", file_name(directory)))
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

pub(crate) fn broken(path: &Path, why: impl ToString) -> SourceError {
    SourceError::Mirror { path: path.to_path_buf(), why: why.to_string() }
}
