//! Nodes of a pool that are virtual machines of the same environment: what NVIDIA's device plugin has to
//! offer there follows from the GPUs that these were given, and is compared with what the pool says.
//!
//! A node is told to be a machine by its name. Whoever has a whole GPU cuts it as they like, so that nothing
//! follows from it where parts are expected; a vGPU is one that no guest can cut.

use super::super::super::super::kinds::Spec;
use super::super::super::super::kinds::cluster_kubernetes::{KubernetesGpusSpec, MigStrategy};
use super::super::super::super::machines::machine_name;
use super::super::super::{Cx, Place};
use crate::model::{Kind, Name, Resource, ResourceId};

/// GPUs as a guest sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Guest {
    /// Whole ones of the board, which the guest may cut.
    boards: u64,
    /// Shares of one (vGPU), each of which is a GPU that nobody can cut.
    shares: u64,
}

/// The machines that nodes of a pool are, with what each has.
pub(super) struct Guests {
    /// By name, with the member that it is written in.
    all: Vec<(ResourceId, usize, Guest)>,
}

impl Guest {
    /// How many `nvidia.com/gpu` the plugin offers by this strategy: `None`: that is for the guest to say. An
    /// error says why the strategy cannot be.
    fn offers(self, strategy: MigStrategy) -> Result<Option<u64>, String> {
        match (strategy, self.boards, self.shares) {
            (MigStrategy::None, boards, shares) => Ok(Some(boards + shares)),
            (MigStrategy::Single | MigStrategy::Mixed, 0, 0) => Err("has no GPU".to_owned()),
            (MigStrategy::Single | MigStrategy::Mixed, 0, shares) => {
                Err(format!("has {shares} vGPU(s), which no guest can cut"))
            }
            (MigStrategy::Single | MigStrategy::Mixed, _, _) => Ok(None),
        }
    }
}

impl Guests {
    /// The nodes of these that are machines of the environment. Where the cluster is built, they are called after
    /// it as well.
    pub(super) fn of(cx: &mut Cx<'_>, nodes: &[String], is_built: bool) -> Self {
        let mut all = Vec::new();
        for node in nodes {
            let name = match is_built {
                true => machine_name(&cx.id.name, node).ok(),
                false => Name::new(node).ok(),
            };
            let Some(name) = name else { continue };
            let id = ResourceId::new(Kind::VirtualMachine, name);
            let Some(&member) = cx.world.by_id.get(&id) else {
                cx.without.push(id);
                continue;
            };
            // One with mistakes is told of by itself.
            let Some(resolved) = cx.world.resolved_at(&id).cloned() else { continue };
            let Some(Resource::VirtualMachine(machine)) = resolved.own() else { continue };
            let written = match &cx.world.members[member].doc.spec {
                Spec::VirtualMachine(spec) => spec.gpus.len(),
                _ => 0,
            };
            // Nor is anything concluded from a layout with mistakes.
            if machine.gpus.len() == written {
                let shares =
                    machine.gpus.iter().filter(|gpu| gpu.partition.is_some()).count() as u64;
                let guest = Guest { boards: written as u64 - shares, shares };
                all.push((id.clone(), member, guest));
            }
            cx.from_resolved.push((id, resolved));
        }
        Self { all }
    }

    /// Compares what a pool says with what its machines have; the count is filled in where it follows from
    /// them and the pool does not say it. `None`: there is a mistake, which is told.
    pub(super) fn settle(
        &self,
        cx: &mut Cx<'_>,
        at: &str,
        spec: &KubernetesGpusSpec,
    ) -> Option<KubernetesGpusSpec> {
        let mut spec = spec.clone();
        let mut is_good = true;
        for (id, member, guest) in &self.all {
            let (pointer, message) = match guest.offers(spec.strategy) {
                Ok(None) => continue,
                Ok(Some(count)) => {
                    // The others have to be like the first one.
                    let expected = *spec.count.get_or_insert(count);
                    if expected == count {
                        continue;
                    }
                    let why =
                        format!("{id} offers {count} GPU(s), and {expected} are expected of it");
                    (format!("{at}/count"), why)
                }
                Err(why) => (format!("{at}/strategy"), format!("{id} {why}")),
            };
            let draft = cx.err("spec/conflict", pointer, message);
            draft.hint(
                "say what it offers then, or give it other GPUs; machines of a pool are alike",
            );
            draft.see(Place::value(*member, "/spec/gpus"), "its GPUs are here");
            is_good = false;
        }
        is_good.then_some(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_its_guests_to_cut_and_a_share_is_nobodys() {
        let shares = Guest { boards: 0, shares: 2 };
        assert_eq!(shares.offers(MigStrategy::None), Ok(Some(2)));
        assert!(shares.offers(MigStrategy::Mixed).is_err());
        let board = Guest { boards: 1, shares: 0 };
        assert_eq!(board.offers(MigStrategy::None), Ok(Some(1)));
        assert_eq!(board.offers(MigStrategy::Mixed), Ok(None));
        assert_eq!(Guest::default().offers(MigStrategy::None), Ok(Some(0)));
        assert!(Guest::default().offers(MigStrategy::Single).is_err());
    }
}
