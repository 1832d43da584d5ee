//! cloud-init media behind `port::Provider`.
//!
//! It only ever touches files whose name says that they are media of ours, and writes them readable
//! by root alone: user data may hold what only the guest should know.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::media::{SeedContent, seed_image};
use crate::model::resource::Seed;
use crate::model::{Fault, Kind, Observed, Resource};
use crate::plan::{Action, Step};
use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope, misdirected};
use crate::provider::files::{Naming, blocking, remove};

const NAMING: Naming = Naming { kind: Kind::Seed, prefix: "seed", endings: &["img"] };

/// Writes and removes cloud-init media.
#[derive(Debug, Clone, Copy, Default)]
pub struct SeedProvider;

fn create(seed: &Seed) -> Result<Outcome, Fault> {
    let path = Path::new(&seed.path);
    ours(path)?;
    if is_file(path) {
        return Ok(Outcome { already: true, ..Outcome::default() });
    }
    let content = SeedContent {
        meta_data: seed.meta_data.clone().unwrap_or_default(),
        user_data: seed.user_data.clone().unwrap_or_default(),
        network_config: seed.network_config.clone(),
        vendor_data: None,
    };
    let bytes = seed_image(&content)
        .map_err(|error| Fault::permanent(format!("{}: {error}", seed.path)))?;
    write(path, &bytes)
        .map_err(|error| Fault::transient(format!("{}: cannot be written: {error}", seed.path)))?;
    Ok(Outcome::default())
}

/// Whole and durable, or not at all.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file =
        tempfile::Builder::new().prefix(".seed-").suffix(".partial").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    std::fs::File::open(folder)?.sync_all()
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_file())
}

fn ours(path: &Path) -> Result<(), Fault> {
    if path.is_absolute() && NAMING.owner(path).is_some() {
        return Ok(());
    }
    Err(Fault::permanent(format!(
        "{}: it is not named as media of ours, so it is not touched",
        path.display()
    )))
}

fn delete(path: &Path) -> Result<Outcome, Fault> {
    ours(path)?;
    Ok(Outcome { already: !remove(path)?, ..Outcome::default() })
}

fn path_of(resource: &Resource) -> Option<&str> {
    match resource {
        Resource::Seed(seed) => Some(seed.path.as_str()),
        _ => None,
    }
}

fn there(resource: &Resource) -> Option<Resource> {
    match resource {
        Resource::Seed(seed) if is_file(Path::new(&seed.path)) => Some(Resource::Seed(Seed {
            meta_data: None,
            user_data: None,
            network_config: None,
            ..seed.clone()
        })),
        _ => None,
    }
}

impl Provider for SeedProvider {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn kinds(&self) -> &[Kind] {
        &[Kind::Seed]
    }

    fn observe<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
        Box::pin(NAMING.observe(scope, path_of, there))
    }

    fn perform<'a>(
        &'a self,
        step: &'a Step,
        _scope: &'a Scope,
        _progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>> {
        Box::pin(async move {
            match &step.action {
                Action::SeedCreate { seed } => {
                    let seed = seed.clone();
                    blocking("write cloud-init media", move || create(&seed)).await
                }
                Action::SeedDelete { path } => {
                    let path = PathBuf::from(path);
                    blocking("remove cloud-init media", move || delete(&path)).await
                }
                _ => Err(misdirected(self.name(), step)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::model::{Digest, Name};
    use crate::plan::{Disruption, Reason};
    use crate::provider::files::tests::{beside_a_held_worker, scope};

    #[test]
    fn media_are_written_and_removed_off_the_executors_thread() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed-web-0123456789ab.img").to_str().unwrap().to_owned();
        let seed = Seed {
            pool: Name::new("fast").unwrap(),
            path: path.clone(),
            content: Digest::of("web"),
            meta_data: Some("instance-id: web\n".to_owned()),
            user_data: Some("#cloud-config\n{}\n".to_owned()),
            network_config: None,
        };
        let perform = |action| {
            let step = Step {
                resource: "seed/web".parse().unwrap(),
                action,
                disruption: Disruption::None,
                reason: Reason::Missing,
                changes: Vec::new(),
                after: BTreeSet::new(),
                interrupts: BTreeSet::new(),
            };
            let scope = scope(std::collections::BTreeMap::new());
            beside_a_held_worker(SeedProvider.perform(&step, &scope, Arc::new(|_| {}))).unwrap()
        };
        assert!(!perform(Action::SeedCreate { seed: seed.clone() }).already);
        assert!(Path::new(&path).is_file());
        assert!(perform(Action::SeedCreate { seed }).already);
        assert!(!perform(Action::SeedDelete { path: path.clone() }).already);
        assert!(perform(Action::SeedDelete { path }).already);
    }
}
