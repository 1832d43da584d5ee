//! Who of those that use instances may be stopped for a change: the declared clients.

use trueup_mig::{Holder, Instance};

use super::GpuClient;

/// Marks the holders that a declared client is, and no other, as ones that may be stopped.
pub fn mark_stoppable(instances: &mut [Instance], clients: &[GpuClient]) {
    for instance in instances {
        let name = instance.name.clone();
        let declared = |holder: &Holder| {
            clients.iter().any(|client| {
                let uses = match &name {
                    Some(name) => client.uses(name),
                    None => client.uses.is_empty(),
                };
                uses && holder.unit.as_ref() == Some(&client.unit)
            })
        };
        let compute = instance.compute.iter_mut().flat_map(|it| &mut it.holders);
        for holder in instance.holders.iter_mut().chain(compute) {
            holder.stoppable = declared(holder);
        }
    }
}
