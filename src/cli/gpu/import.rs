//! `trueup gpu import`: a configuration of mig-parted as `GpuLayout` documents.
//!
//! That format names GPUs by index, which changes with every boot; here each index becomes the UUID
//! that it stands for on this machine, or that is given.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;
use trueup_mig::parted::{self, Config, DeviceFilter, Devices, Entry};
use trueup_mig::{Selector, Wish};

use super::super::context::Context;
use super::super::exit::{CliError, CliResult, Done};
use super::look::inventory;
use crate::model::{FoundGpu, GpuInventory};

/// Print a configuration of mig-parted as GpuLayout documents
///
/// One document a GPU, on stdout. The indexes of the configuration are those of this machine, which is
/// looked at; with --gpu it is not, and any machine will do. Partitions are named after their
/// profiles, as that format has no names: give them better ones.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup gpu import config.yaml --selected-config all-balanced > environments/lab/gpus.yaml\n  \
    trueup gpu import config.yaml --gpu 0=GPU-8f1c9a52-4d0e-4b7c-9a51-2d6e0f3b7c18")]
pub(super) struct Import {
    /// The file, of `version: v1`
    file: PathBuf,
    /// Which of its configurations; may be left out where there is one
    // mig-parted's own name for it; `--config` is the config of trueup.
    #[arg(short = 'c', long, value_name = "NAME")]
    selected_config: Option<String>,
    /// The GPU with this index; for several, repeat it
    #[arg(long = "gpu", value_name = "INDEX=UUID", value_parser = named_gpu)]
    gpus: Vec<NamedGpu>,
}

/// A GPU by its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedGpu {
    pub(super) index: u32,
    pub(super) uuid: String,
    /// Its PCI device and vendor, where it was looked at.
    device: Option<u32>,
}

/// `0=GPU-…`.
pub(super) fn named_gpu(text: &str) -> Result<NamedGpu, String> {
    let (index, uuid) = text.split_once('=').ok_or("write an index, `=` and a UUID")?;
    let index = index.parse().map_err(|_| format!("`{index}` is no index"))?;
    if !uuid.starts_with("GPU-") {
        return Err(format!("`{uuid}` is no UUID of a GPU: `nvidia-smi -L` shows them"));
    }
    Ok(NamedGpu { index, uuid: uuid.to_owned(), device: None })
}

impl NamedGpu {
    /// The GPUs that answer, as the driver counts them now.
    pub(super) fn of(found: &GpuInventory) -> Vec<Self> {
        let one = |gpu: &FoundGpu| match gpu {
            FoundGpu::Present(card) => Some(Self {
                index: card.index,
                uuid: card.state.uuid.clone(),
                device: Some(card.pci_device),
            }),
            FoundGpu::Failed(_) => None,
        };
        found.gpus.iter().filter_map(one).collect()
    }
}

impl Import {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let config = self.read()?;
        let gpus = match self.gpus.is_empty() {
            false => self.gpus.clone(),
            true => {
                let found = inventory(&context.places()?)?.map_err(|why| {
                    CliError::machine(why)
                        .hint("name the GPUs to do without this machine: --gpu 0=GPU-…")
                })?;
                NamedGpu::of(&found)
            }
        };
        let mut documents = Vec::new();
        for gpu in &gpus {
            match entry_for(&config, gpu)? {
                Some(entry) => documents.push(document(gpu, entry)),
                None => {
                    let NamedGpu { index, uuid, .. } = gpu;
                    let name = &config.name;
                    context.ui.warn(&format!("`{name}` says nothing about GPU {index}, {uuid}"));
                }
            }
        }
        let known: BTreeSet<u32> = gpus.iter().map(|gpu| gpu.index).collect();
        for index in indexes(&config).difference(&known) {
            context
                .ui
                .warn(&format!("`{}` is also for GPU {index}, which is not here", config.name));
        }
        if documents.is_empty() {
            return Err(CliError::input(format!("`{}` is for none of the GPUs", config.name))
                .hint("`trueup gpu` shows the GPUs of this machine"));
        }
        context.ui.raw(&documents.join("---\n"))?;
        Ok(Done::Fine)
    }

    fn read(&self) -> Result<Config, CliError> {
        let path = self.file.display();
        let unreadable =
            |error: std::io::Error| CliError::input(format!("{path}: cannot be read: {error}"));
        let file = File::open(&self.file).map_err(unreadable)?;
        let mut text = String::new();
        // One byte more than may be there, so that too large a file is told from a whole one.
        let limit = u64::try_from(parted::BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
        file.take(limit).read_to_string(&mut text).map_err(unreadable)?;
        let configs =
            parted::read(&text).map_err(|error| CliError::input(format!("{path}: {error}")))?;
        let names: Vec<&str> = configs.iter().map(|config| config.name.as_str()).collect();
        let found = match (&self.selected_config, configs.as_slice()) {
            (Some(name), _) => configs.iter().find(|config| config.name == *name),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        found.cloned().ok_or_else(|| {
            let message = match &self.selected_config {
                Some(name) => format!("{path} has no configuration `{name}`"),
                None => {
                    format!(
                        "{path} has {} configurations: say which with --selected-config",
                        names.len()
                    )
                }
            };
            CliError::input(message).hint(format!("there are {}", names.join(", ")))
        })
    }
}

/// Indexes that the configuration names.
fn indexes(config: &Config) -> BTreeSet<u32> {
    let named = config.entries.iter().filter_map(|entry| match &entry.devices {
        Devices::Indexes(indexes) => Some(indexes.iter().copied()),
        Devices::All => None,
    });
    named.flatten().collect()
}

/// The entry for one GPU; it is a mistake where two are.
fn entry_for<'c>(config: &'c Config, gpu: &NamedGpu) -> Result<Option<&'c Entry>, CliError> {
    let mut found = None;
    for entry in &config.entries {
        let meant = match &entry.devices {
            Devices::All => true,
            Devices::Indexes(indexes) => indexes.contains(&gpu.index),
        };
        if !meant {
            continue;
        }
        let fits = match gpu.device {
            _ if entry.filter.is_empty() => true,
            Some(device) => entry.filter.contains(&DeviceFilter(device)),
            None => {
                let message =
                    format!("`{}` chooses GPUs by their PCI id (`device-filter`)", config.name);
                return Err(CliError::input(message).hint(
                    "run this on the machine that has the GPUs, without --gpu, or take the filter out",
                ));
            }
        };
        if fits && found.replace(entry).is_some() {
            let message = format!("`{}` has two entries for GPU {}", config.name, gpu.index);
            return Err(CliError::input(message).hint("a GPU is cut in one way: take one out"));
        }
    }
    Ok(found)
}

fn document(gpu: &NamedGpu, entry: &Entry) -> String {
    let mode = if entry.enabled { "mig" } else { "whole" };
    let mut text = format!(
        "apiVersion: trueup/v1\nkind: GpuLayout\nmetadata: {{name: gpu-{}}}\nspec:\n  match: {{uuid: \
         {}}}\n  mode: {mode}\n",
        gpu.index, gpu.uuid
    );
    if entry.wishes.is_empty() {
        return text;
    }
    text.push_str("  partitions:\n");
    let mut taken: BTreeMap<String, u32> = BTreeMap::new();
    for wish in &entry.wishes {
        text.push_str(&partition(wish, &mut taken));
    }
    text
}

/// One line of partitions. Values stand in quotes, whatever a file had in them.
fn partition(wish: &Wish, taken: &mut BTreeMap<String, u32>) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let (Selector::Profile(word) | Selector::Shape(word)) = &wish.select;
    let mut line = format!("    - {{name: {}, profile: {}", free_name(word, taken), quoted(word));
    if wish.count > 1 {
        line.push_str(&format!(", count: {}", wish.count));
    }
    if let Some(compute) = &wish.compute {
        let one = |it: &trueup_mig::ComputeWish| match it.count {
            1 => format!("{{shape: {}}}", quoted(&it.shape)),
            count => format!("{{shape: {}, count: {count}}}", quoted(&it.shape)),
        };
        let all: Vec<String> = compute.iter().map(one).collect();
        line.push_str(&format!(", compute: [{}]", all.join(", ")));
    }
    line + "}\n"
}

/// A name made of a profile's: `1g-10gb`, and `1g-10gb-b` for the second of that name. Letters,
/// because a number after a name stands for one of several alike.
fn free_name(profile: &str, taken: &mut BTreeMap<String, u32>) -> String {
    let safe: String =
        profile.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let base = safe.to_ascii_lowercase().trim_matches('-').to_owned();
    let base = if base.is_empty() { "part".to_owned() } else { base };
    let again = taken.entry(base.clone()).or_default();
    *again += 1;
    match u8::try_from(*again).ok().filter(|again| (2..=26).contains(again)) {
        None if *again == 1 => base,
        None => format!("{base}-z{again}"),
        Some(again) => format!("{base}-{}", char::from(b'a' + again - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_profiles_and_never_twice() {
        let mut taken = BTreeMap::new();
        let mut name = |profile: &str| free_name(profile, &mut taken);
        assert_eq!(name("1g.10gb"), "1g-10gb");
        assert_eq!(name("1g.10gb+me"), "1g-10gb-me");
        assert_eq!(name("1g.10gb-me"), "1g-10gb-me-b");
        assert_eq!(name("1g.10gb"), "1g-10gb-b");
    }

    #[test]
    fn gpus_are_named_by_index_and_uuid() {
        assert_eq!(named_gpu("2=GPU-1").map(|gpu| (gpu.index, gpu.uuid)), Ok((2, "GPU-1".into())));
        for bad in ["GPU-1", "x=GPU-1", "0=MIG-1"] {
            assert!(named_gpu(bad).is_err(), "{bad}");
        }
    }
}
