//! Making a repository, or proving that the one that is there may be used. Nothing is made over anything.

use std::path::Path;

use trueup_backup::protocol::{self, Action, Done, Filter};

use super::act::told;
use super::job::Job;
use crate::model::Fault;
use crate::model::backup::{BackupNews, BackupOpened};
use crate::port::Outcome;
use crate::provider::files::blocking;

impl Job<'_> {
    /// Makes the repository, or proves that the one that is there opens with the key.
    /// `may_take`: also one that is there and that the log does not know. In a folder of this host the
    /// plan has seen to that.
    pub(super) async fn open(&self, may_take: bool) -> Result<Outcome, Fault> {
        let _alone = self.provider.alone(self.id, &self.backup.repository).await?;
        if self.backup.remote.is_some() {
            return self.open_remote(may_take).await;
        }
        let path = Path::new(&self.backup.repository).to_owned();
        let place = blocking("look at a repository's folder", move || Ok(place(&path))).await?;
        match place {
            Place::Repository => {}
            Place::Free if self.backup.repository_id.is_some() => {
                return Err(Fault::needs_human(
                    format!("{}: there is no repository in {}", self.id, self.backup.repository),
                    "mount what should be there; or, to make one, leave out `repository.id`",
                ));
            }
            Place::Free => match self.run(Action::Init {}, None).await {
                Ok(ended) => return Ok(told(opened(ended.repository, true))),
                // Somebody was faster; then it has to open.
                Err(protocol::Fault::RepositoryExists { .. }) => {}
                Err(fault) => return Err(self.fault(&fault)),
            },
            Place::Taken => {
                return Err(Fault::needs_human(
                    format!("{}: {} holds other files", self.id, self.backup.repository),
                    "name an empty folder, or one that does not exist",
                ));
            }
            Place::NoParent => {
                return Err(Fault::needs_human(
                    format!(
                        "{}: the folder around {} does not exist",
                        self.id, self.backup.repository
                    ),
                    "mount what should be there, or make the folder",
                ));
            }
        }
        let (repository, _) = self.snapshots().await.map_err(|fault| self.fault(&fault))?;
        self.as_named(repository)
    }

    /// As [`Self::open`], where only the repository's own server knows whether it is there.
    async fn open_remote(&self, may_take: bool) -> Result<Outcome, Fault> {
        let everything = Action::Snapshots { filter: Filter::default() };
        match self.run(everything, None).await {
            Ok(ended) => {
                // One without a snapshot is as good as new: an earlier try may have made it.
                let used =
                    !matches!(&ended.done, Done::Snapshots { snapshots } if snapshots.is_empty());
                if used && !may_take {
                    let found = ended.repository.get(..12).unwrap_or(&ended.repository);
                    return Err(Fault::needs_human(
                        format!(
                            "{}: {} holds a repository that is not ours",
                            self.id, self.backup.repository
                        ),
                        format!(
                            "name another place; or take it with `lifecycle: {{adopt: true}}` or \
                             `repository: {{id: \"{found}\"}}`"
                        ),
                    ));
                }
                self.as_named(ended.repository)
            }
            Err(protocol::Fault::RepositoryMissing { .. })
                if self.backup.repository_id.is_none() =>
            {
                let made = self.run(Action::Init {}, None).await;
                made.map(|ended| told(opened(ended.repository, true)))
                    .map_err(|fault| self.fault(&fault))
            }
            Err(fault) => Err(self.fault(&fault)),
        }
    }

    /// That the repository that is there is the one that the wish names, if it names one.
    fn as_named(&self, repository: String) -> Result<Outcome, Fault> {
        if self.backup.asks_for_another(&repository) {
            let wanted = self.backup.repository_id.clone().unwrap_or_default();
            let at = self.backup.repository.clone();
            let other = protocol::Fault::RepositoryOther { at, wanted, found: repository };
            return Err(self.fault(&other));
        }
        Ok(Outcome { already: true, ..told(opened(repository, false)) })
    }
}

/// What is in a repository's place.
enum Place {
    Repository,
    Free,
    Taken,
    NoParent,
}

fn place(path: &Path) -> Place {
    if path.join("config").is_file() {
        return Place::Repository;
    }
    match std::fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Place::Free,
        Ok(false) if half_made(path) => Place::Free,
        Ok(false) => Place::Taken,
        Err(_) if path.symlink_metadata().is_ok() => Place::Taken,
        Err(_) if path.parent().is_some_and(Path::is_dir) => Place::Free,
        Err(_) => Place::NoParent,
    }
}

/// Whether all that is there is what is left of a repository in the making: folders of restic's layout
/// with nothing in them but keys, and no config, which comes last.
fn half_made(path: &Path) -> bool {
    /// What a file is called while it is written, as with restic.
    const UNFINISHED: &str = "-tmp-";
    fn bare(folder: &Path, keys: bool) -> bool {
        let Ok(entries) = std::fs::read_dir(folder) else { return false };
        entries.into_iter().all(|entry| {
            let Ok(entry) = entry else { return false };
            let name = entry.file_name().to_string_lossy().into_owned();
            let key = keys && name.len() == 64 && name.chars().all(|c| c.is_ascii_hexdigit());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => !keys && bare(&entry.path(), false),
                Ok(kind) => kind.is_file() && (key || name.contains(UNFINISHED)),
                Err(_) => false,
            }
        })
    }
    let Ok(entries) = std::fs::read_dir(path) else { return false };
    entries.into_iter().all(|entry| {
        let Ok(entry) = entry else { return false };
        match &*entry.file_name().to_string_lossy() {
            "keys" => bare(&entry.path(), true),
            "data" | "index" | "locks" | "snapshots" => bare(&entry.path(), false),
            other => other.starts_with("config-tmp-"),
        }
    })
}

fn opened(repository: String, made: bool) -> BackupNews {
    BackupNews::Opened(BackupOpened { repository, made })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_made_only_where_nothing_is_and_its_parent_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| place(&folder.path().join(name));
        assert!(matches!(at("new"), Place::Free));
        assert!(matches!(at("not-mounted/new"), Place::NoParent));
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        assert!(matches!(at("empty"), Place::Free));
        std::fs::write(folder.path().join("empty/file"), "x").unwrap();
        assert!(matches!(at("empty"), Place::Taken));
        assert!(matches!(at("empty/file"), Place::Taken));
        std::fs::write(folder.path().join("empty/config"), "x").unwrap();
        assert!(matches!(at("empty"), Place::Repository));
    }

    #[test]
    fn what_a_kill_left_of_a_repository_in_the_making_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("half");
        for name in ["data/00", "index", "keys", "locks", "snapshots"] {
            std::fs::create_dir_all(at.join(name)).unwrap();
        }
        std::fs::write(at.join("keys").join("a".repeat(64)), "{}").unwrap();
        std::fs::write(at.join("config-tmp-7"), "").unwrap();
        assert!(matches!(place(&at), Place::Free));
        for name in ["data/00/pack", "snapshots/one", "keys/mine", "photo"] {
            std::fs::write(at.join(name), "x").unwrap();
            assert!(matches!(place(&at), Place::Taken), "{name}");
            std::fs::remove_file(at.join(name)).unwrap();
        }
        assert!(matches!(place(&at), Place::Free));
    }
}
