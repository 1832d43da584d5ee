//! `trueup gpu export`: the `GpuLayout`s of a repository in mig-parted's format.
//!
//! What that format cannot say (names, starts) is told on stderr, never dropped in silence.

use std::path::PathBuf;

use clap::Args;
use trueup_mig::parted::{Config, Devices, Entry, write};
use trueup_mig::{Board, Selector, Wish, boards, resolve};

use super::super::check;
use super::super::context::Context;
use super::super::exit::{CliError, CliResult, Done, ErrorKind};
use super::import::{NamedGpu, named_gpu};
use super::look::inventory;
use crate::model::resource::{GpuLayout, GpuMatch, GpuMode, Partition};
use crate::model::{FoundGpu, GpuInventory, Name, Resource, ResourceId};
use crate::spec::{self, Loaded, ParseCache};

/// Print the GpuLayouts of a repository in the format of mig-parted
///
/// One configuration, named after the environment, on stdout. That format counts GPUs by index and
/// names profiles as the driver does, so this machine is looked at; with --gpu (and --board, where
/// layouts name shapes) it is not.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup gpu export . > config.yaml\n  \
    trueup gpu export . --environment lab --gpu 0=GPU-8f1c9a52-4d0e-4b7c-9a51-2d6e0f3b7c18 --board \
    h100-80gb")]
pub(super) struct Export {
    /// The folder of the repository
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Which environment; may be left out where there is one
    #[arg(long, value_name = "NAME", value_parser = name)]
    environment: Option<Name>,
    /// The GPU with this index; for several, repeat it
    #[arg(long = "gpu", value_name = "INDEX=UUID", value_parser = named_gpu)]
    gpus: Vec<NamedGpu>,
    /// What kind of board those GPUs are whose driver does not tell (`trueup gpu fits --board list`):
    /// where no machine is looked at, and of Ampere ones with MIG off
    #[arg(long, value_name = "KIND")]
    board: Option<String>,
}

fn name(text: &str) -> Result<Name, crate::model::NameError> {
    Name::new(text)
}

/// A GPU with what is known of it.
struct Known {
    index: u32,
    uuid: String,
    pci: Option<String>,
    serial: Option<String>,
    board: Option<Board>,
}

impl Export {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let (environment, layouts) = self.layouts()?;
        let known = self.known(context)?;
        let mut entries: Vec<(u32, Entry)> = Vec::new();
        for (id, layout) in &layouts {
            let Some(gpu) = known.iter().find(|gpu| gpu.is(&layout.gpu)) else {
                context.ui.warn(&format!("{id} is left out: no GPU here is {}", layout.gpu));
                continue;
            };
            if matches!(layout.mode, GpuMode::Passthrough | GpuMode::Vgpu) {
                let why = "guests have that GPU, and mig-parted knows of none";
                context.ui.warn(&format!("{id} is left out: {why}"));
                continue;
            }
            let wishes = wishes(id, layout, gpu.board.as_ref())?;
            let enabled = layout.mode == GpuMode::Mig;
            let devices = Devices::Indexes(vec![gpu.index]);
            entries.push((gpu.index, Entry { devices, filter: Vec::new(), enabled, wishes }));
        }
        if entries.is_empty() {
            return Err(CliError::input(format!(
                "none of the GPUs has a GpuLayout in environment {environment}"
            ))
            .hint("`trueup gpu` shows the GPUs of this machine; --gpu names those of another"));
        }
        entries.sort_by_key(|(index, _)| *index);
        let entries = joined(entries.into_iter().map(|(_, entry)| entry));
        let config = Config { name: environment.to_string(), entries };
        let written = write(None, std::slice::from_ref(&config))
            .map_err(|error| CliError::new(ErrorKind::Bug, error))?;
        context.ui.raw(&written.yaml)?;
        let named = layouts.iter().any(|(_, layout)| !layout.partitions.is_empty());
        if named {
            context.ui.warn("names of partitions are not in the file: that format has none");
        }
        for lost in &written.lost {
            let what = format!("{} of {} is not in the file", lost.what, lost.profile);
            context.ui.warn(&format!("{what}: that format has no place for it"));
        }
        Ok(Done::Fine)
    }

    /// The layouts of the environment asked for.
    fn layouts(&self) -> Result<(Name, Vec<(ResourceId, GpuLayout)>), CliError> {
        let (files, _) = check::read(&self.folder)?;
        let mut checked = spec::check_all(&files, &mut ParseCache::default());
        let names: Vec<String> = checked.environments.keys().map(ToString::to_string).collect();
        let chosen = match (&self.environment, names.len()) {
            (Some(name), _) => checked.environments.remove_entry(name),
            (None, 1) => checked.environments.pop_first(),
            (None, _) => None,
        };
        let (environment, loaded) = chosen.ok_or_else(|| {
            let known = names.join(", ");
            CliError::input("say which environment with --environment")
                .hint(format!("the repository has {known}"))
        })?;
        let Some(Loaded { desired, .. }) = loaded else {
            return Err(CliError::input(format!("environment {environment} has mistakes"))
                .hint("`trueup check` shows them"));
        };
        let layouts = desired.resources.iter().filter_map(|(id, wish)| match &wish.resource {
            Resource::GpuLayout(layout) => Some((id.clone(), (**layout).clone())),
            _ => None,
        });
        Ok((environment, layouts.collect()))
    }

    /// The GPUs: those given, else those of this machine.
    fn known(&self, context: &Context) -> Result<Vec<Known>, CliError> {
        let board = match &self.board {
            None => None,
            Some(key) => {
                let samples =
                    boards::samples().map_err(|error| CliError::new(ErrorKind::Bug, error))?;
                let found = samples.into_iter().find(|it| it.key == *key).ok_or_else(|| {
                    CliError::input(format!("there is no board `{key}` in the table"))
                        .hint("`trueup gpu fits --board list` prints them")
                })?;
                Some(found.board().clone())
            }
        };
        if self.gpus.is_empty() {
            let found = inventory(&context.places()?)?.map_err(|why| {
                CliError::machine(why)
                    .hint("name the GPUs to do without this machine: --gpu 0=GPU-…")
            })?;
            let mut known = Known::of(found);
            for gpu in known.iter_mut().filter(|gpu| gpu.board.is_none()) {
                gpu.board.clone_from(&board);
            }
            return Ok(known);
        }
        let known = self.gpus.iter().map(|gpu| Known {
            index: gpu.index,
            uuid: gpu.uuid.clone(),
            pci: None,
            serial: None,
            board: board.clone(),
        });
        Ok(known.collect())
    }
}

impl Known {
    fn of(found: GpuInventory) -> Vec<Self> {
        let one = |gpu: FoundGpu| match gpu {
            FoundGpu::Present(card) => {
                let state = card.state;
                Some(Self {
                    index: card.index,
                    uuid: state.uuid,
                    pci: Some(state.pci),
                    serial: state.serial,
                    board: state.board,
                })
            }
            FoundGpu::Failed(_) => None,
        };
        found.gpus.into_iter().filter_map(one).collect()
    }

    fn is(&self, which: &GpuMatch) -> bool {
        match which {
            GpuMatch::Uuid(uuid) => self.uuid.eq_ignore_ascii_case(uuid),
            GpuMatch::PciAddress(pci) => self.pci.as_ref() == Some(pci),
            GpuMatch::Serial(serial) => self.serial.as_ref() == Some(serial),
            // Which of several it has, only the log knows.
            GpuMatch::Product(_) => false,
        }
    }
}

/// The partitions of a layout, by the names that the driver gives their profiles.
fn wishes(
    id: &ResourceId,
    layout: &GpuLayout,
    board: Option<&Board>,
) -> Result<Vec<Wish>, CliError> {
    let one = |partition: &Partition| {
        let wish = Wish {
            select: partition.select.clone(),
            count: 1,
            start: partition.start,
            compute: partition.compute.clone(),
            name: None,
        };
        let Selector::Shape(shape) = &wish.select else { return Ok(wish) };
        let board = board.ok_or_else(|| {
            CliError::input(format!("{id} asks for shape `{shape}`, and its board is not known"))
                .hint("say which it is: --board KIND, or name profiles in the layout")
        })?;
        let target = resolve(board, std::slice::from_ref(&wish))
            .map_err(|error| CliError::input(format!("{id}: {error}")))?;
        let profile = target.slots.first().and_then(|slot| board.profile(slot.profile));
        let name = profile.map(|profile| profile.name.clone()).unwrap_or_default();
        Ok(Wish { select: Selector::Profile(name), ..wish })
    };
    layout.partitions.iter().map(one).collect()
}

/// The entries, those that say the same as one.
fn joined(entries: impl Iterator<Item = Entry>) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    for entry in entries {
        let same = |it: &&mut Entry| it.enabled == entry.enabled && it.wishes == entry.wishes;
        match (all.iter_mut().find(same), entry.devices) {
            (Some(Entry { devices: Devices::Indexes(known), .. }), Devices::Indexes(more)) => {
                known.extend(more);
            }
            (_, devices) => all.push(Entry { devices, ..entry }),
        }
    }
    all
}
