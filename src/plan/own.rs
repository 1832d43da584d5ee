//! What trueup itself needs: it must not saw off the branch it sits on.
//!
//! It only says why; what follows from it is the builder's and the remover's.

use std::collections::{BTreeMap, HashMap};

use super::{Action, Input, refs};
use crate::model::resource::NicSource;
use crate::model::{Kind, Resource, ResourceId};

/// What trueup needs on this machine, and why.
#[derive(Debug, Default)]
pub(super) struct Needed<'a> {
    resources: BTreeMap<&'a ResourceId, String>,
    networks: HashMap<&'a str, String>,
    files: HashMap<&'a str, String>,
    folders: Vec<&'a str>,
}

impl<'a> Needed<'a> {
    /// What the machine of `input` has that trueup needs.
    pub(super) fn of(input: &'a Input<'a>) -> Self {
        let own = &input.known.own;
        let mut needed = Self::default();
        if own.is_empty() {
            return needed;
        }
        needed.folders = own.folders.iter().map(String::as_str).collect();
        for id in &own.resources {
            let why = "it is under `protect` in the daemon's config".to_owned();
            needed.resources.insert(id, why);
        }
        for (id, seen) in &input.observed.resources {
            if let Some(why) = of_itself(input, &seen.config) {
                needed.resources.entry(id).or_insert(why);
            }
        }
        for id in own.resources.iter().filter(|id| id.kind == Kind::VirtualMachine) {
            needed.add_below(input, id);
        }
        // What a disk of a protected domain lies on is needed as much as the disk.
        for seen in input.observed.resources.values() {
            if let Resource::Disk(disk) = &seen.config
                && let (Some(below), Some(why)) = (&disk.backing, needed.files.get(&*disk.path))
            {
                let why = why.clone();
                needed.files.entry(&below.path).or_insert(why);
            }
        }
        needed
    }

    /// The files and networks of a protected domain.
    fn add_below(&mut self, input: &'a Input<'a>, id: &ResourceId) {
        let Some(seen) = input.observed.resources.get(id) else { return };
        for form in std::iter::once(&seen.config).chain(&seen.live) {
            let Resource::VirtualMachine(vm) = form else { continue };
            let why = || format!("{id} needs it, which is under `protect` in the daemon's config");
            for file in refs::vm_files(vm) {
                self.files.entry(file).or_insert_with(why);
            }
            for nic in &vm.nics {
                if let NicSource::Network(name) = &nic.source {
                    self.networks.entry(name).or_insert_with(why);
                }
            }
        }
    }

    /// Why `action` on `id` would take something away that trueup needs.
    pub(super) fn why_not(&self, id: &ResourceId, action: &Action) -> Option<String> {
        let network = || self.networks.get(id.name.as_str()).filter(|_| id.kind == Kind::Network);
        let itself = || self.resources.get(id).or_else(network).cloned();
        match action {
            Action::PoolUndefine
            | Action::NetworkStop
            | Action::NetworkUndefine
            | Action::VmStop { .. }
            | Action::VmPause
            | Action::VmUndefine => itself(),
            Action::DiskDelete { path, .. }
            | Action::ImageDelete { path }
            | Action::SeedDelete { path } => {
                let inside = || {
                    let folder = self.folders.iter().find(|folder| is_within(path, folder))?;
                    Some(format!("it lies in {folder}, where trueup keeps its own files"))
                };
                itself().or_else(|| self.files.get(&**path).cloned()).or_else(inside)
            }
            _ => None,
        }
    }
}

/// Why trueup needs a resource that nobody named.
fn of_itself(input: &Input<'_>, config: &Resource) -> Option<String> {
    let own = &input.known.own;
    match config {
        Resource::StoragePool(pool) => {
            let folder = own.folders.iter().find(|folder| is_within(folder, &pool.path))?;
            Some(format!("it holds {folder}, where trueup keeps its own files: move those first"))
        }
        Resource::Network(network) => {
            let through = |address: &&std::net::IpAddr| {
                network.addresses.iter().any(|item| item.address.contains(*address))
            };
            let address = own.addresses.iter().find(through)?;
            Some(format!("the repository is reached through it, at {address}"))
        }
        _ => None,
    }
}

/// Whether `path` is `folder` or lies in it.
fn is_within(path: &str, folder: &str) -> bool {
    std::path::Path::new(path).starts_with(folder)
}
