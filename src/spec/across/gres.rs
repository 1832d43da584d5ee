//! GPUs that Slurm gives to jobs, against those that the machines of a cluster have which trueup builds. A node
//! that has fewer than `slurm.conf` says does not come into use; what it has more nobody can ask for.
//!
//! Whoever has a whole GPU cuts it as they like, so that of its parts only so much follows: there is at least
//! one of each GPU that is not given out whole, and at most seven. Devices that a machine has by their address
//! may be GPUs or not.

use trueup_slurm::wish::Gres;

use super::super::diag::Severity;
use super::super::environment::Gathered;
use super::super::resolve::{Draft, Place};
use super::{Sorted, at};
use crate::model::resource::{SlurmBuilt, SlurmCluster, VirtualMachine};
use crate::model::{Kind, Resource, ResourceId};

/// What GPUs are called in Slurm (gres.conf(5), `Name`). `mps` and `shard` are shares of the same GPUs, and no
/// GPUs beside them.
const GPU: &str = "gpu";
/// Most parts that a GPU can be cut into (MIG User Guide: "up to seven").
const PARTS_MAX: u64 = 7;

/// The GPUs of one machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Has {
    /// Whole ones of the board, which the guest may cut.
    boards: u64,
    /// Shares of one (vGPU), which no guest can cut.
    shares: u64,
    /// Devices by their address, which may be GPUs.
    devices: u64,
}

/// The GPUs of each node that jobs are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Gives {
    /// Whole ones.
    whole: u64,
    /// Parts that the guest cuts (MIG).
    parts: u64,
}

impl Has {
    fn of(machine: &VirtualMachine) -> Self {
        let shares = machine.gpus.iter().filter(|gpu| gpu.partition.is_some()).count() as u64;
        Self {
            boards: machine.gpus.len() as u64 - shares,
            shares,
            devices: machine.host_devices.len() as u64,
        }
    }

    fn gpus(self) -> u64 {
        self.boards + self.shares
    }
}

impl Gives {
    fn of(gres: &[Gres]) -> Self {
        let mut all = Self::default();
        for gpu in gres.iter().filter(|it| it.name.eq_ignore_ascii_case(GPU)) {
            match is_part(gpu) {
                true => all.parts += u64::from(gpu.count),
                false => all.whole += u64::from(gpu.count),
            }
        }
        all
    }

    fn all(self) -> u64 {
        self.whole + self.parts
    }

    /// Whether a machine can have them.
    fn fits(self, has: Has) -> bool {
        let most = has.gpus() + has.devices;
        let can_cut = has.boards + has.devices > 0;
        if self.parts == 0 || !can_cut {
            return (has.gpus()..=most).contains(&self.all());
        }
        // What is not given out whole is cut.
        let left = most.saturating_sub(self.whole);
        self.all() >= has.gpus() && left > 0 && self.parts <= left * PARTS_MAX
    }
}

/// Whether it is a part of a GPU: it has several device files, or its type names a profile (`3g.40gb`,
/// `a100_1g.5gb`).
fn is_part(gres: &Gres) -> bool {
    let files = gres.devices.iter().any(|files| files.len() > 1);
    files || gres.kind.as_deref().is_some_and(is_profile)
}

fn is_profile(kind: &str) -> bool {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let kind = kind.to_ascii_lowercase();
    kind.split_once("g.").is_some_and(|(cut, memory)| {
        digit(cut.chars().next_back()) && digit(memory.chars().next()) && memory.contains("gb")
    })
}

/// Adds what is wrong with the GPUs of pools.
pub(super) fn check(all: &Gathered, sorted: &Sorted, drafts: &mut Vec<Draft>) {
    for (id, resolved) in sorted {
        let Some(Resource::Cluster(cluster)) = resolved.own() else { continue };
        let Some(slurm) = cluster.slurm() else { continue };
        if let Some(built) = &slurm.built {
            pools(all, sorted, (id, slurm, built), drafts);
        }
    }
}

fn pools(
    all: &Gathered,
    sorted: &Sorted,
    (id, slurm, built): (&ResourceId, &SlurmCluster, &SlurmBuilt),
    drafts: &mut Vec<Draft>,
) {
    for (index, pool) in slurm.wish.pools.iter().enumerate() {
        let gives = Gives::of(&pool.gres);
        let machines = pool.names().filter_map(|node| {
            let name = built.machines.get(node)?.clone();
            let machine = ResourceId::new(Kind::VirtualMachine, name);
            // One with mistakes is told of by itself.
            let has = Has::of(own(sorted, &machine)?);
            Some((machine, has))
        });
        let mut other = machines.filter(|(_, has)| !gives.fits(*has));
        let Some((machine, has)) = other.next() else { continue };
        let more = match other.count() {
            0 => String::new(),
            more => format!(" ({more} more of its machines are no better)"),
        };
        let pool = format!("/spec/pools/{index}");
        let mut draft = match gives.all() {
            0 => uncounted(at(all, id, pool), &machine, has, &more),
            _ => {
                let message = format!(
                    "jobs get {} of each node, and {machine} has {}{more}",
                    shown(gives),
                    count(has)
                );
                let place = at(all, id, format!("{pool}/gres"));
                let mut draft = Draft::new("spec/conflict", place, message);
                draft.hint(
                    "say in `count` how many the machine has, or give it others in `machine: {gpus: […]}`; \
                     parts that a guest cuts are told by their profile: `type: 1g.10gb`",
                );
                draft
            }
        };
        draft.see(at(all, &machine, "/spec/gpus"), "its GPUs are here");
        drafts.push(draft);
    }
}

/// GPUs that no job can ask for are no mistake for certain: whoever is on that node has them.
fn uncounted(place: Place, machine: &ResourceId, has: Has, more: &str) -> Draft {
    let message = format!("{machine} has {}, which no job can ask for{more}", count(has));
    let mut draft = Draft::new("spec/unused-gpu", place, message);
    draft.severity = Severity::Warning;
    draft.hint(format!("say `gres: [{{count: {}}}]` in the pool", has.gpus()));
    draft
}

fn own<'s>(sorted: &'s Sorted, id: &ResourceId) -> Option<&'s VirtualMachine> {
    let found = sorted.binary_search_by(|(other, _)| other.cmp(id)).ok()?;
    match sorted[found].1.own()? {
        Resource::VirtualMachine(machine) => Some(machine),
        _ => None,
    }
}

fn shown(gives: Gives) -> String {
    match gives {
        Gives { whole, parts: 0 } => gpus(whole),
        Gives { whole: 0, parts } => format!("{parts} part(s) of a GPU"),
        Gives { whole, parts } => format!("{} and {parts} part(s) of one", gpus(whole)),
    }
}

fn count(has: Has) -> String {
    match (has.gpus(), has.devices) {
        (gpus, 0) => self::gpus(gpus),
        (gpus, devices) => format!("{} and {devices} device(s) of the host", self::gpus(gpus)),
    }
}

fn gpus(count: u64) -> String {
    match count {
        0 => "no GPU".to_owned(),
        1 => "1 GPU".to_owned(),
        more => format!("{more} GPUs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gres(name: &str, kind: Option<&str>, count: u32) -> Gres {
        Gres { name: name.into(), kind: kind.map(str::to_owned), count, devices: Vec::new() }
    }

    #[track_caller]
    fn fits(given: &[Gres], (boards, shares, devices): (u64, u64, u64)) -> bool {
        Gives::of(given).fits(Has { boards, shares, devices })
    }

    #[test]
    fn whole_gpus_and_shares_are_counted() {
        let two = [gres("gpu", Some("a100"), 1), gres("gpu", None, 1)];
        assert!(fits(&two, (2, 0, 0)) && fits(&two, (0, 2, 0)) && fits(&two, (1, 1, 0)));
        assert!(!fits(&two, (1, 0, 0)) && !fits(&two, (3, 0, 0)) && !fits(&two, (0, 0, 0)));
        assert!(fits(&[], (0, 0, 0)) && !fits(&[], (1, 0, 0)));
    }

    #[test]
    fn other_resources_are_no_gpus() {
        let beside = [gres("gpu", None, 1), gres("shard", None, 8), gres("licence", None, 3)];
        assert!(fits(&beside, (1, 0, 0)));
        assert!(!fits(&beside[1..], (1, 0, 0)));
    }

    #[test]
    fn a_board_is_its_guests_to_cut_and_a_share_is_nobodys() {
        let parts = |count| [gres("gpu", Some("1g.10gb"), count)];
        assert!(fits(&parts(7), (1, 0, 0)) && fits(&parts(2), (1, 0, 0)));
        assert!(!fits(&parts(8), (1, 0, 0)) && fits(&parts(8), (2, 0, 0)));
        assert!(!fits(&parts(1), (2, 0, 0)), "one GPU has no part");
        assert!(!fits(&parts(7), (0, 1, 0)) && fits(&parts(1), (0, 1, 0)));
        let mixed = [gres("gpu", Some("h100"), 1), gres("gpu", Some("3g.40gb"), 2)];
        assert!(fits(&mixed, (2, 0, 0)) && !fits(&mixed, (1, 0, 0)));
        // Told by its files.
        let files = [12, 21].map(|n| vec!["/dev/nvidia0".into(), format!("/dev/cap{n}")]);
        let told = Gres { devices: files.into(), ..gres("gpu", None, 2) };
        assert!(fits(&[told], (1, 0, 0)));
    }

    #[test]
    fn devices_by_their_address_may_be_gpus() {
        let two = [gres("gpu", None, 2)];
        assert!(fits(&two, (0, 0, 2)) && fits(&two, (1, 0, 2)) && !fits(&two, (0, 0, 1)));
        assert!(fits(&[], (0, 0, 2)));
        assert!(fits(&[gres("gpu", Some("1g.5gb"), 7)], (0, 0, 1)));
    }

    #[test]
    fn profiles_are_told_from_products() {
        for profile in ["1g.10gb", "a100_1g.5gb", "1c.3g.40gb", "2G.20GB", "1g.10gb+me"] {
            assert!(is_profile(profile), "{profile}");
        }
        for product in ["a100", "rtx_a6000", "nvidia_a100-sxm4-40gb", "g.40gb", "mi210", "1g.x"] {
            assert!(!is_profile(product), "{product}");
        }
    }
}
