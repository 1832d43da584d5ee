//! `trueup drift`.

use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::exit::{CliError, CliResult, Done, ErrorKind};
use super::known::known;
use super::paint::{Block, Text};
use super::time::shown;
use super::ui::Product;
use super::{Output, wire};
use crate::event::Spilled;
use crate::journal::Blobs;
use crate::model::{Digest, ResourceId};
use crate::port::Source as _;
use crate::spec::accept::{self, Differing};
use crate::spec::{RepoFile, RepoFiles, Select};
use crate::state::State;
use crate::view::{self, DriftRow};

/// Show what is no longer as trueup made it
///
/// Exits with 3 where something drifted, so that a script can ask.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup drift\n  trueup drift -o json || echo drifted\n  \
    trueup drift --as-patch > accept.patch   # then, in the repository: git apply accept.patch")]
pub(super) struct Drift {
    #[command(flatten)]
    pub(super) output: Output,
    /// Print the change to the repository that would accept what the machine has
    ///
    /// A unified diff against the commit in force, for `git apply`. What it changes is named with its
    /// file and line; what no field of the spec says is named as a warning, with the reason.
    #[arg(long)]
    as_patch: bool,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Drifts(Vec<DriftRow>);

impl Drift {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let state = known(context)?.state;
        let drifts = Drifts(view::drifts(&state));
        match self.as_patch {
            true => print_patch(context, &state, &whole(context, &drifts.0)?)?,
            false => context.ui.product(&drifts)?,
        }
        Ok(if drifts.0.is_empty() { Done::Fine } else { Done::Changes })
    }
}

/// The same drifts with all their fields: an event holds the first of them, the rest lies beside the
/// log. A patch of a part would look like one of the whole, so what cannot be read is an error.
fn whole(context: &Context, drifts: &[DriftRow]) -> Result<Vec<DriftRow>, CliError> {
    let blobs = Blobs::open(&context.state_dir()?);
    let read = |blob: &Digest, of: &ResourceId| -> Result<Vec<u8>, CliError> {
        blobs.read(blob)?.ok_or_else(|| {
            let message = format!("{of}: not all its fields are known: blob {blob} is missing");
            CliError::new(ErrorKind::Machine, message).hint(
                "restore blobs/ from a backup, or accept the drift by editing its document by hand",
            )
        })
    };
    let mut drifts = drifts.to_vec();
    for drift in &mut drifts {
        let of = &drift.resource;
        if let Some(more) = drift.more.take() {
            let text = read(&more.all.blob, of)?;
            drift.changes = serde_json::from_slice(&text).map_err(CliError::machine)?;
        }
        for side in drift.changes.iter_mut().flat_map(|it| [&mut it.from, &mut it.to]) {
            if let Some(spilled) = side.as_ref().and_then(Spilled::in_value) {
                let text = read(&spilled.blob, of)?;
                *side = Some(serde_json::from_slice(&text).map_err(CliError::machine)?);
            }
        }
    }
    Ok(drifts)
}

/// Prints the patch, and warns of what it cannot say.
fn print_patch(context: &Context, state: &State, drifts: &[DriftRow]) -> Result<(), CliError> {
    let (Some(commit), Some(environment)) = (&state.spec.commit, &state.spec.environment) else {
        return Err(CliError::input("no commit is in force, so there is nothing to change"));
    };
    let config = context.settings()?.config;
    let source = wire::source(&config, Arc::new(wire::HostClock::default()))?;
    let files: Vec<RepoFile> = wire::block_on(async {
        let unreadable = |error: String| CliError::new(ErrorKind::Machine, error);
        let files =
            source.files(commit.clone()).await.map_err(|error| unreadable(error.to_string()))?;
        let yaml: Vec<_> = files
            .into_iter()
            .filter(|file| file.path.ends_with(".yaml") || file.path.ends_with(".yml"))
            .collect();
        let wanted = yaml.iter().map(|file| file.blob.clone()).collect();
        let blobs = source.blobs(wanted).await.map_err(|error| unreadable(error.to_string()))?;
        let files = yaml.into_iter().zip(blobs);
        Ok::<_, CliError>(
            files.map(|(file, bytes)| RepoFile::new(file.path, file.blob, bytes)).collect(),
        )
    })??;
    let differing: Vec<Differing> = drifts.iter().flat_map(differing).collect();
    let select = Select::Environment(environment.clone());
    let acceptance =
        accept::accept(&RepoFiles { files }, &select, &differing).map_err(|found| {
            let first = found.first().map_or_else(String::new, |found| found.message.clone());
            CliError::input(format!("the commit in force cannot be read again: {first}"))
        })?;
    context.ui.raw(&acceptance.patch)?;
    for it in &acceptance.accepted {
        let (resource, field) = (&it.resource, &it.field);
        context.ui.say(&format!("{resource} {field}: {}:{}", it.path, it.line));
    }
    for (resource, path, why) in &acceptance.refused {
        context.ui.warn(&format!("{resource} {path}: not in the patch: {why}"));
    }
    for drift in drifts.iter().filter(|drift| drift.changes.is_empty()) {
        let (resource, what) = (&drift.resource, &drift.what);
        context.ui.warn(&format!(
            "{resource} ({what}): not in the patch: no field says it; change its document by hand"
        ));
    }
    Ok(())
}

fn differing(drift: &DriftRow) -> Vec<Differing> {
    let one = |change: &crate::plan::FieldChange| Differing {
        resource: drift.resource.clone(),
        path: change.path.clone(),
        has: change.from.clone(),
    };
    drift.changes.iter().map(one).collect()
}

impl Product for Drifts {
    fn blocks(&self) -> Vec<Block> {
        if self.0.is_empty() {
            return vec![Block::line("nothing drifted")];
        }
        let rows = self.0.iter().flat_map(rows_of).collect();
        let header = vec!["resource", "since", "what", "field"];
        vec![Block::Table { header, rows }]
    }
}

/// A row a field; one without a field where the whole thing is missing or stopped.
fn rows_of(drift: &DriftRow) -> Vec<Vec<Text>> {
    let row = |field: String| {
        vec![
            drift.resource.to_string().into(),
            shown(drift.since).into(),
            drift.what.clone().into(),
            field.into(),
        ]
    };
    if drift.changes.is_empty() {
        return vec![row(String::new())];
    }
    let fields = drift.changes.iter().map(view::change);
    fields.chain(drift.more.iter().map(view::more_changes)).map(row).collect()
}
