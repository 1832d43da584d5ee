//! cloud-init media behind `port::Provider`.
//!
//! It only ever touches files whose name says that they are media of ours, and writes them readable
//! by root alone: user data may hold what only the guest should know.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use super::media::{SeedContent, seed_image};
use crate::model::resource::Seed;
use crate::model::{Fault, Kind, Observed, Resource};
use crate::plan::{Action, Step};
use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope};
use crate::provider::files::{Naming, remove};

const NAMING: Naming = Naming { kind: Kind::Seed, prefix: "seed", endings: &["img"] };

/// Writes and removes cloud-init media.
#[derive(Debug, Clone, Copy, Default)]
pub struct SeedProvider;

fn create(seed: &Seed) -> Result<Outcome, Fault> {
    let path = Path::new(&seed.path);
    ours(path)?;
    if is_file(path) {
        return Ok(Outcome { already: true, facts: BTreeMap::new() });
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
    Ok(Outcome { already: !remove(path)?, facts: BTreeMap::new() })
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
        Box::pin(async move { NAMING.observe(scope, path_of, there) })
    }

    fn perform<'a>(
        &'a self,
        step: &'a Step,
        _scope: &'a Scope,
        _progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>> {
        Box::pin(async move {
            match &step.action {
                Action::SeedCreate { seed } => create(seed),
                Action::SeedDelete { path } => delete(Path::new(path)),
                other => Err(Fault::permanent(format!(
                    "{}: the seed provider cannot {} it, which is a bug",
                    step.resource,
                    other.verb()
                ))),
            }
        })
    }
}
