//! What only shows when all resources of an environment are seen together: overlaps, things taken
//! twice, and cycles. Every check is linear, or sorts once.

mod gres;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::covered::{saved_by, saved_in_part};
use super::environment::Gathered;
use super::kinds::Spec;
use super::resolve::{Draft, Place, Resolved, reference, subnets};
use crate::model::resource::{BackupSource, GpuMatch, GpuUse, HostDevice, NetworkMode};
use crate::model::{Kind, Resource, ResourceId};

/// Adds what is wrong between resources, which are given in order.
pub(crate) fn check(all: &mut Gathered, sorted: &Sorted) {
    let mut drafts = Vec::new();
    networks(all, sorted, &mut drafts);
    macs(all, sorted, &mut drafts);
    files(all, sorted, &mut drafts);
    shared_disks(all, sorted, &mut drafts);
    gpus(all, sorted, &mut drafts);
    taken_along(all, sorted, &mut drafts);
    gpu_users(all, sorted, &mut drafts);
    gres::check(all, sorted, &mut drafts);
    saved_first(all, sorted, &mut drafts);
    cycles(all, sorted, &mut drafts);
    all.drafts.extend(drafts);
}

fn at(all: &Gathered, id: &ResourceId, pointer: impl Into<String>) -> Place {
    Place::value(all.by_id.get(id).copied().unwrap_or_default(), pointer)
}

/// Where the network `id` writes the range `net`.
fn range_at(all: &Gathered, id: &ResourceId, net: ipnet::IpNet) -> Place {
    let listed = all.by_id.get(id).and_then(|&m| match &all.members[m].doc.spec {
        Spec::Network(spec) => subnets(spec).iter().position(|n| n.trunc() == net),
        _ => None,
    });
    match listed {
        Some(n) if has_list(all, id) => at(all, id, format!("/spec/addresses/{n}/cidr")),
        _ => at(all, id, "/spec/cidr"),
    }
}

fn has_list(all: &Gathered, id: &ResourceId) -> bool {
    all.by_id.get(id).is_some_and(|&m| match &all.members[m].doc.spec {
        Spec::Network(spec) => !spec.addresses.is_empty(),
        _ => false,
    })
}

type Sorted = [(ResourceId, Arc<Resolved>)];

fn networks(all: &Gathered, sorted: &Sorted, drafts: &mut Vec<Draft>) {
    let mut ranges = Vec::new();
    let mut bridges: HashMap<&str, &ResourceId> = HashMap::new();
    for (id, resolved) in sorted {
        let Some(Resource::Network(network)) = resolved.own() else {
            continue;
        };
        for address in &network.addresses {
            let net = address.address;
            ranges.push((net.network(), net.broadcast(), id, net.trunc()));
        }
        let Some(bridge) =
            network.bridge.as_deref().filter(|_| network.mode != NetworkMode::Bridge)
        else {
            continue;
        };
        if let Some(other) = bridges.insert(bridge, id) {
            let message = format!("bridge `{bridge}` belongs to `{other}` already");
            let mut draft =
                Draft::new("spec/duplicate-bridge", at(all, id, "/spec/bridge"), message);
            draft.see(at(all, other, "/spec/bridge"), "the other one is here");
            drafts.push(draft);
        }
    }
    ranges.sort();
    let mut widest: Option<(IpAddr, &ResourceId, ipnet::IpNet)> = None;
    for (start, end, id, net) in ranges {
        match widest {
            Some((last, other, other_net))
                if start <= last && start.is_ipv4() == last.is_ipv4() =>
            {
                if id != other {
                    let message = format!("`{net}` overlaps `{other_net}` of `{other}`");
                    let mut draft = Draft::new("spec/overlap", range_at(all, id, net), message);
                    draft.see(range_at(all, other, other_net), "the other network is here");
                    draft.hint("give each network a range of its own");
                    drafts.push(draft);
                }
                if end > last {
                    widest = Some((end, id, net));
                }
            }
            _ => widest = Some((end, id, net)),
        }
    }
}

fn macs(all: &Gathered, sorted: &Sorted, drafts: &mut Vec<Draft>) {
    let mut seen: HashMap<&str, (&ResourceId, usize)> = HashMap::new();
    for (id, resolved) in sorted {
        for (mac, nic) in &resolved.macs {
            let Some((other, other_nic)) = seen.insert(mac, (id, *nic)) else {
                continue;
            };
            let place = |id, nic: usize| at(all, id, format!("/spec/nics/{nic}/mac"));
            let message = format!("MAC address {mac} belongs to an interface of `{other}` already");
            let mut draft = Draft::new("spec/duplicate-mac", place(id, *nic), message);
            draft.see(place(other, other_nic), "the other interface is here");
            draft.hint("leave `mac` out: one follows from the names");
            drafts.push(draft);
        }
    }
}

fn files(all: &Gathered, sorted: &Sorted, drafts: &mut Vec<Draft>) {
    let mut seen: HashMap<&str, &ResourceId> = HashMap::new();
    for (id, resolved) in sorted {
        for (_, desired) in &resolved.out {
            let path = match &desired.resource {
                Resource::Image(image) => Some(image.path.as_str()),
                Resource::Disk(disk) => Some(disk.path.as_str()),
                Resource::Seed(seed) => Some(seed.path.as_str()),
                Resource::VirtualMachine(vm) => vm.console_log.as_deref(),
                Resource::Network(_)
                | Resource::StoragePool(_)
                | Resource::Backup(_)
                | Resource::Cluster(_)
                | Resource::Release(_)
                | Resource::GpuLayout(_) => None,
            };
            let Some(path) = path else { continue };
            if let Some(other) = seen.insert(path, id) {
                let message = format!("file {path} belongs to `{other}` already");
                let mut draft =
                    Draft::new("spec/duplicate-file", at(all, id, "/metadata/name"), message);
                draft.see(at(all, other, "/metadata/name"), "the other one is here");
                draft.hint("rename one of them, or use another pool");
                drafts.push(draft);
            }
        }
    }
}

fn shared_disks(all: &Gathered, sorted: &Sorted, drafts: &mut Vec<Draft>) {
    let mut users: HashMap<&str, (&ResourceId, usize, bool)> = HashMap::new();
    for (id, resolved) in sorted {
        for (disk, n, read_only) in &resolved.disks {
            let Some((other, other_n, other_ro)) =
                users.insert(disk.as_str(), (id, *n, *read_only))
            else {
                continue;
            };
            if *read_only && other_ro {
                continue;
            }
            let place = |id, n: usize| at(all, id, format!("/spec/disks/{n}/disk"));
            let message =
                format!("`disk/{disk}` is used by `{other}` too, and one of them writes to it");
            let mut draft = Draft::new("spec/shared-disk", place(id, *n), message);
            draft.see(place(other, other_n), "the other use is here");
            draft.hint("give each machine its own disk, or make both uses `readOnly`");
            drafts.push(draft);
        }
    }
}

/// What is to be saved before a change by a backup that does not save it.
fn saved_first(all: &Gathered, sorted: &Sorted, drafts: &mut Vec<Draft>) {
    let own = |id: &ResourceId| {
        let found = sorted.binary_search_by(|(other, _)| other.cmp(id)).ok()?;
        sorted[found].1.own()
    };
    for (id, resolved) in sorted {
        let (way_back, disks) = match resolved.own() {
            Some(Resource::Disk(disk)) => (&disk.way_back, vec![id.clone()]),
            Some(Resource::VirtualMachine(vm)) => {
                let written = resolved.disks.iter().filter(|(_, _, read_only)| !read_only);
                let written = written.map(|(name, _, _)| ResourceId::new(Kind::Disk, name.clone()));
                (&vm.way_back, written.collect())
            }
            _ => continue,
        };
        let Some(name) = way_back.as_ref().and_then(|it| it.backup.clone()) else { continue };
        let backup_id = ResourceId::new(Kind::Backup, name);
        let Some(Resource::Backup(backup)) = own(&backup_id) else { continue };
        // Of everything there is only what is asked about, and what it may be a part of.
        let whole = match &backup.source {
            BackupSource::Guest(guest) => Some(guest.part.id()),
            _ => None,
        };
        let asked = disks.iter().chain(&whole);
        let saved = saved_by(backup, asked.filter_map(|id| Some((id, own(id)?))));
        let missing = disks.iter().find(|disk| !saved.contains(disk));
        let nothing = disks.is_empty() && whole.as_ref() != Some(id);
        if missing.is_none() && !nothing {
            continue;
        }
        let what = missing.unwrap_or(id);
        let part = saved_in_part(backup, own(what).map(|resource| (what, resource)).into_iter());
        let message = match part.is_empty() {
            true => format!("`{backup_id}` does not save `{what}` for certain"),
            false => format!("`{backup_id}` saves of `{what}` only what it has over its image"),
        };
        let mut draft = Draft::new("spec/conflict", at(all, id, "/spec/backupBefore"), message);
        draft.see(at(all, &backup_id, "/spec/source"), "what it saves is said here");
        let source = match id.kind {
            Kind::VirtualMachine => format!("{{virtualMachine: {}}}", id.name),
            _ => format!("{{disk: {}}}", id.name),
        };
        draft.hint(format!("name a `Backup` with `source: {source}`"));
        drafts.push(draft);
    }
}

/// The slot of a PCI address: all of it but the function.
fn slot(address: &str) -> &str {
    address.rsplit_once('.').map_or(address, |(slot, _)| slot)
}

/// Functions that one layout takes along with its GPU and another one has too: as its GPU, or taken
/// along as well.
fn taken_along(all: &Gathered, sorted: &Sorted, drafts: &mut Vec<Draft>) {
    let with = "/spec/passthrough/with";
    let mut gpus: HashMap<&str, &ResourceId> = HashMap::new();
    for (id, resolved) in sorted {
        if let Some(Resource::GpuLayout(layout)) = resolved.own()
            && let GpuMatch::PciAddress(address) = &layout.gpu
        {
            gpus.insert(slot(address), id);
        }
    }
    let mut seen: HashMap<String, &ResourceId> = HashMap::new();
    for (id, resolved) in sorted {
        let Some(Resource::GpuLayout(layout)) = resolved.own() else { continue };
        for address in layout.guest.iter().flat_map(|guest| &guest.with) {
            let address = address.to_string();
            let gpu = gpus.get(slot(&address)).copied().filter(|other| *other != id);
            let gpu = gpu.map(|other| (other, "/spec/match"));
            let taken = seen.insert(address.clone(), id).map(|other| (other, with));
            let Some((other, pointer)) = gpu.or(taken) else { continue };
            let message = format!("PCI function {address} belongs to `{other}` already");
            let mut draft = Draft::new("spec/duplicate-gpu", at(all, id, with), message);
            draft.see(at(all, other, pointer), "the other one is here");
            draft.hint("only one layout can give a function to guests");
            drafts.push(draft);
        }
    }
}

/// Two layouts of one GPU. Named in two different ways it only shows when the GPUs are looked at.
fn gpus(all: &Gathered, sorted: &Sorted, drafts: &mut Vec<Draft>) {
    let mut seen: HashMap<&GpuMatch, &ResourceId> = HashMap::new();
    for (id, resolved) in sorted {
        let Some(Resource::GpuLayout(layout)) = resolved.own() else { continue };
        // Each of several layouts gets one GPU of a product.
        if matches!(layout.gpu, GpuMatch::Product(_)) {
            continue;
        }
        if let Some(other) = seen.insert(&layout.gpu, id) {
            let message = format!("{} has a layout already, `{other}`", layout.gpu);
            let mut draft = Draft::new("spec/duplicate-gpu", at(all, id, "/spec/match"), message);
            draft.see(at(all, other, "/spec/match"), "the other one is here");
            draft.hint("put all partitions of a GPU into one layout");
            drafts.push(draft);
        }
    }
}

/// A GPU, or a part of one, that two machines ask for; or that one machine asks for by its address
/// although a layout has it.
fn gpu_users(all: &Gathered, sorted: &Sorted, drafts: &mut Vec<Draft>) {
    let mut users: HashMap<&GpuUse, (&ResourceId, usize)> = HashMap::new();
    let mut layouts: HashMap<&str, (&ResourceId, &str)> = HashMap::new();
    let mut along: HashMap<String, &ResourceId> = HashMap::new();
    for (id, resolved) in sorted {
        if let Some(Resource::GpuLayout(layout)) = resolved.own()
            && let GpuMatch::PciAddress(address) = &layout.gpu
        {
            layouts.insert(slot(address), (id, address.as_str()));
        }
        if let Some(Resource::GpuLayout(layout)) = resolved.own() {
            let with = layout.guest.iter().flat_map(|guest| &guest.with);
            along.extend(with.map(|address| (address.to_string(), id)));
        }
        for (gpu, n) in &resolved.gpus {
            let Some((other, other_n)) = users.insert(gpu, (id, *n)) else { continue };
            let place = |id, n: usize| at(all, id, format!("/spec/gpus/{n}"));
            let message = format!("`{gpu}` is used by `{other}` too");
            let mut draft = Draft::new("spec/shared-gpu", place(id, *n), message);
            draft.see(place(other, other_n), "the other use is here");
            draft.hint("one machine at a time can have it");
            drafts.push(draft);
        }
    }
    for (id, resolved) in sorted {
        let Some(Resource::VirtualMachine(vm)) = resolved.own() else { continue };
        for device in &vm.host_devices {
            let HostDevice::Pci(address) = device else { continue };
            if let Some(layout) = along.get(address) {
                let message = format!("PCI function {address} goes along with `{layout}`");
                let place = at(all, id, "/spec/hostDevices");
                let mut draft = Draft::new("spec/shared-gpu", place, message);
                let there = at(all, layout, "/spec/passthrough/with");
                draft.see(there, "the layout names it here");
                draft.hint("leave it out of one of them");
                drafts.push(draft);
                continue;
            }
            let Some((layout, gpu)) = layouts.get(slot(address)) else { continue };
            let is = if *gpu == address.as_str() { "is" } else { "is on the board of" };
            let message = format!("PCI function {address} {is} the GPU of `{layout}`");
            let place = at(all, id, "/spec/hostDevices");
            let mut draft = Draft::new("spec/shared-gpu", place, message);
            draft.see(at(all, layout, "/spec/match"), "the layout names it here");
            draft.hint(format!(
                "ask for it with `gpus: [{layout}]` and `mode: passthrough`, or remove the layout"
            ));
            drafts.push(draft);
        }
    }
}

fn cycles(all: &Gathered, sorted: &Sorted, drafts: &mut Vec<Draft>) {
    let mut graph: DiGraph<&ResourceId, ()> = DiGraph::new();
    let mut nodes: HashMap<&ResourceId, NodeIndex> = HashMap::with_capacity(sorted.len());
    for (id, _) in sorted {
        nodes.insert(id, graph.add_node(id));
    }
    for (id, resolved) in sorted {
        let needs = resolved.out.first().map(|(_, d)| &d.depends_on);
        for need in needs.into_iter().flatten() {
            if let Some(&to) = nodes.get(need) {
                graph.add_edge(nodes[id], to, ());
            }
        }
    }
    let mut found: BTreeMap<&ResourceId, Vec<&ResourceId>> = BTreeMap::new();
    for knot in tarjan_scc(&graph) {
        let own = |n: &NodeIndex| graph.contains_edge(*n, *n);
        if knot.len() > 1 || knot.first().is_some_and(own) {
            let first = knot.iter().map(|n| graph[*n]).min();
            if let Some(first) = first {
                found.insert(first, way_round(&graph, nodes[first], &knot));
            }
        }
    }
    for (first, way) in found {
        let shown: Vec<String> = way.iter().map(ToString::to_string).collect();
        let message = format!("these wait for each other: {}", shown.join(" → "));
        let place = at(all, first, pointer_to(all, first, way.get(1).copied()));
        let mut draft = Draft::new("spec/cycle", place, message);
        draft.hint("remove one of the references");
        drafts.push(draft);
    }
}

/// A shortest way from `start` back to it, within its knot.
fn way_round<'a>(
    graph: &DiGraph<&'a ResourceId, ()>,
    start: NodeIndex,
    knot: &[NodeIndex],
) -> Vec<&'a ResourceId> {
    let inside: std::collections::HashSet<_> = knot.iter().copied().collect();
    let mut came_from: HashMap<NodeIndex, NodeIndex> = HashMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        let mut next: Vec<_> = graph.neighbors(node).filter(|n| inside.contains(n)).collect();
        next.sort_by_key(|n| graph[*n]);
        for to in next {
            if to == start {
                let mut way = vec![start, node];
                let mut at = node;
                while at != start {
                    at = came_from[&at];
                    way.push(at);
                }
                if node == start {
                    way.pop();
                }
                way.reverse();
                return way.into_iter().map(|n| graph[n]).collect();
            }
            if let Entry::Vacant(unseen) = came_from.entry(to) {
                unseen.insert(node);
                queue.push_back(to);
            }
        }
    }
    vec![graph[start]]
}

/// Where `id` says that it needs `next`: its `dependsOn`, if it is there.
fn pointer_to(all: &Gathered, id: &ResourceId, next: Option<&ResourceId>) -> String {
    let doc = all.by_id.get(id).map(|&m| &all.members[m].doc);
    let listed = doc
        .and_then(|d| d.depends_on.iter().position(|text| reference(text).ok().as_ref() == next));
    match (listed, id.kind) {
        (Some(n), _) => format!("/dependsOn/{n}"),
        (None, Kind::VirtualMachine | Kind::Disk | Kind::Image | Kind::GpuLayout) => {
            "/spec".to_owned()
        }
        (None, _) => String::new(),
    }
}
