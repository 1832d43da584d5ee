//! The judge's own view of what trueup itself needs; nothing here is shared with the planner.

use std::path::Path;

use crate::model::{Kind, Resource, ResourceId};
use crate::plan::{Action, Input, Step};

/// Whether `step` stops or removes something that trueup needs.
pub(super) fn saws_off(input: &Input<'_>, step: &Step) -> bool {
    let own = &input.known.own;
    let id = &step.resource;
    match &step.action {
        Action::DiskDelete { path, .. }
        | Action::ImageDelete { path }
        | Action::SeedDelete { path } => {
            own.resources.contains(id)
                || own.folders.iter().any(|folder| Path::new(path).starts_with(folder))
                || protected_domains(input).any(|vm| super::of_vm(vm).0.contains(&path.as_str()))
        }
        action if action.removes() => own.resources.contains(id) || needs_object(input, id),
        Action::VmStop { .. } | Action::VmPause | Action::NetworkStop => {
            own.resources.contains(id) || needs_object(input, id)
        }
        _ => false,
    }
}

/// The domains that may not be harmed, as they are configured and as they run.
fn protected_domains<'a>(
    input: &'a Input<'_>,
) -> impl Iterator<Item = &'a crate::model::resource::VirtualMachine> {
    let seen = input.known.own.resources.iter().filter_map(|id| input.observed.resources.get(id));
    let forms = seen.flat_map(|seen| std::iter::once(&seen.config).chain(&seen.live));
    forms.filter_map(|form| match form {
        Resource::VirtualMachine(vm) => Some(&**vm),
        _ => None,
    })
}

/// Whether trueup's files or its repository stand on this pool or network.
fn needs_object(input: &Input<'_>, id: &ResourceId) -> bool {
    let own = &input.known.own;
    let plugged = id.kind == Kind::Network
        && protected_domains(input).any(|vm| super::of_vm(vm).1.contains(&id.name.as_str()));
    let stands_on = match input.observed.resources.get(id).map(|seen| &seen.config) {
        Some(Resource::StoragePool(pool)) => {
            own.folders.iter().any(|folder| Path::new(folder).starts_with(&pool.path))
        }
        Some(Resource::Network(network)) => network
            .addresses
            .iter()
            .any(|item| own.addresses.iter().any(|address| item.address.contains(address))),
        _ => false,
    };
    plugged || stands_on
}
