//! What blocks need of each other: references before use, use ended before removal, place freed
//! before it is taken.

use std::collections::{BTreeSet, HashMap};

use super::build::collision;
use super::kind::cluster;
use super::kind::vm::await_ready;
use super::work::{Block, Bond, Work};
use super::{Action, GpuSide, LiveChange, Reason, SkipReason, refs};
use crate::model::resource::{GpuKernel, HostDevice, VgpuClaim, VirtualMachine};
use crate::model::{Kind, Observation, Resource, ResourceId};

/// Links every block to those it needs.
pub(super) fn all(work: &mut Work<'_>) {
    let count = work.blocks.len();
    let gone = GoneUsers::of(work);
    for at in 0..count {
        if work.blocks[at].build {
            references(work, at);
            replaced_disk(work, at);
            place(work, at);
        } else {
            users(work, at);
            gone_users(work, at, &gone);
        }
        given_back(work, at);
    }
    cluster::keeps(work);
}

/// A block that builds needs everything its resource refers to.
fn references(work: &mut Work<'_>, at: usize) {
    let id = work.blocks[at].id.clone();
    let Some(wish) = work.input.desired.resources.get(&id) else {
        return;
    };
    let stop = stop_of(&work.blocks[at]);
    for on in work.facts.needs(&id, wish) {
        let usable = work.facts.usable(&on);
        if work.input.observed.why_unobservable(&on).is_some() {
            work.refuse(at, SkipReason::Blocked(on));
            continue;
        }
        // Whoever asks a machine to serve a cluster goes into it, with the cluster's key.
        if id.kind == Kind::Cluster && on.kind == Kind::VirtualMachine && work.facts.foreign(&on) {
            work.refuse(at, SkipReason::Blocked(on));
            continue;
        }
        // Whatever it looks like now, it is being changed.
        if work.input.known.suspended.get(&on) == Some(&SkipReason::InProgress) {
            work.refuse(at, SkipReason::Blocked(on));
            continue;
        }
        let other = work.by_id.get(&on).copied().filter(|&other| work.blocks[other].build);
        let Some(other) = other.or_else(|| gate(work, at, &on, usable)) else {
            if !usable {
                work.refuse(at, SkipReason::Blocked(on));
            }
            continue;
        };
        if let Some(sake) = &mut work.blocks[other].sake {
            sake.push(at);
        }
        if cluster::weave(work, at, other) {
            continue;
        }
        if !usable {
            work.need(at, other, SkipReason::Blocked(on.clone()));
        }
        match stop.filter(|_| holds_up(work, other, &id)) {
            Some(stop) => {
                work.order((at, stop), (other, 0), Bond::Hard);
                let back = (at, stop + 1);
                if back.1 < work.blocks[at].drafts.len() {
                    work.order(work.last(other), back, Bond::Hard);
                }
                // Whatever the disk waits for is waited for while the guest still runs.
                if let Some(wish) = work.input.desired.resources.get(&on) {
                    for below in work.facts.needs(&on, wish) {
                        let below = work.by_id.get(&below).copied();
                        if let Some(below) = below.filter(|&below| work.blocks[below].build) {
                            work.order(work.last(below), (at, 0), Bond::Hard);
                        }
                    }
                }
            }
            None => {
                let there = work.input.observed.resources.contains_key(&id);
                let guests = id.kind == Kind::VirtualMachine && on.kind == id.kind;
                let bond = if there && guests { Bond::Wish } else { Bond::Hard };
                work.order(work.last(other), (at, 0), bond);
            }
        }
    }
}

/// A block that waits for a running guest to be up, before something that depends on it is touched in
/// block `at`. Where that is left alone, nobody asks the guest.
fn gate(work: &mut Work<'_>, at: usize, on: &ResourceId, usable: bool) -> Option<usize> {
    if work.blocks[at].skip.is_some() {
        return None;
    }
    let wish = work.input.desired.resources.get(on)?;
    let Resource::VirtualMachine(vm) = &wish.resource else {
        return None;
    };
    let running = usable && vm.power == crate::model::resource::Power::Running;
    let wait = await_ready(vm).filter(|_| running)?;
    let held = work.input.known.suspended.get(on).cloned();
    let gate = work.add(on, true, vec![wait], held);
    work.blocks[gate].sake = Some(Vec::new());
    Some(gate)
}

/// The place of the stop in a domain's block.
fn stop_of(block: &Block) -> Option<usize> {
    let stops = |draft: &super::kind::Draft| matches!(draft.action, Action::VmStop { .. });
    block.drafts.iter().position(stops)
}

/// Whether `block` makes a disk anew that the domain has open, or takes a GPU that it has.
fn holds_up(work: &Work<'_>, block: usize, domain: &ResourceId) -> bool {
    let taken = taken_devices(work, block);
    work.facts.running_with_devices(&taken).contains(domain)
        || replaced_path(&work.blocks[block])
            .is_some_and(|path| work.facts.running_with_file(path).any(|vm| vm == domain))
}

/// The file of a disk that a block makes anew.
fn replaced_path(block: &Block) -> Option<&str> {
    match &block.drafts.first()?.action {
        Action::DiskDelete { path, .. } if block.build => Some(path),
        _ => None,
    }
}

/// A disk is made anew only while every domain that has it open is stopped for it, and a domain is
/// stopped for it only if it is made anew.
fn replaced_disk(work: &mut Work<'_>, at: usize) {
    let Some(path) = replaced_path(&work.blocks[at]).map(str::to_owned) else {
        return;
    };
    let disk = work.blocks[at].id.clone();
    let vms: Vec<&ResourceId> = work.facts.running_with_file(&path).collect();
    for vm in vms {
        let block = work.by_id.get(vm).copied();
        let stop = block.and_then(|block| stop_of(&work.blocks[block]).map(|stop| (block, stop)));
        match stop {
            Some((block, stop)) => {
                work.need(at, block, SkipReason::Blocked(vm.clone()));
                work.order((block, stop), (at, 0), Bond::Hard);
                // A domain that is stopped for the disk alone is not stopped without it.
                let alone = work.blocks[block].drafts[stop].reason == Reason::Needed;
                if work.blocks[block].build && alone {
                    work.need(block, at, SkipReason::Blocked(disk.clone()));
                }
            }
            None => work.refuse(at, SkipReason::InUse(vm.to_string())),
        }
    }
}

/// A block that removes waits until nothing uses the resource any more.
fn users(work: &mut Work<'_>, at: usize) {
    let id = work.blocks[at].id.clone();
    let Some(first) = work.blocks[at].drafts.last().map(|draft| draft.action.clone()) else {
        return;
    };
    match &first {
        Action::DiskDelete { path, .. }
        | Action::ImageDelete { path }
        | Action::SeedDelete { path } => {
            if let Some(why) = work.input.observed.unobservable.get(&Kind::Disk) {
                let why = format!("which disks are on it: {why}");
                work.refuse(at, SkipReason::Unobservable(why));
            }
            for user in work.facts.users_of_file(path) {
                let uses = |vm: &VirtualMachine| refs::vm_files(vm).contains(&path.as_str());
                released(work, at, user, uses, Bond::Hard);
            }
        }
        Action::NetworkUndefine => {
            for user in work.facts.users_of_network(&id.name) {
                let uses = |vm: &VirtualMachine| refs::vm_uses_network(vm, id.name.as_str());
                released(work, at, user, uses, Bond::Release);
            }
        }
        _ => {}
    }
}

/// What of GPUs a block takes from guests: the whole board, or the vGPUs that it removes.
fn taken_devices(work: &Work<'_>, at: usize) -> Vec<HostDevice> {
    let back = |draft: &super::kind::Draft| match draft.action.handover() {
        Some((GpuSide::Host, step)) => Some((step.clone(), draft.action.gpu_change()?.clone())),
        _ => None,
    };
    let taken: Vec<_> = work.blocks[at].drafts.iter().filter_map(back).collect();
    let Some((_, change)) = taken.first() else { return Vec::new() };
    if let Some(share) = &change.memory.share {
        let gone = |it: &&VgpuClaim| taken.iter().any(|(step, _)| it.claim.is_removed_by(step));
        return share.claims.iter().filter(gone).map(VgpuClaim::device).collect();
    }
    let kernel = work.facts.gpu_kernel(&work.blocks[at].id);
    kernel.map(GpuKernel::devices).unwrap_or_default()
}

/// A GPU comes back from guests only once no running domain has it any more.
fn given_back(work: &mut Work<'_>, at: usize) {
    let devices = taken_devices(work, at);
    if devices.is_empty() {
        return;
    }
    for user in work.facts.users_of_devices(&devices) {
        let seen = work.input.observed.resources.get(user);
        let Some(seen) = seen else { continue };
        let block = work.by_id.get(user).copied();
        let starts = |action: &Action| matches!(action, Action::VmStart | Action::VmPause);
        let started = block.is_some_and(|block| {
            work.blocks[block].drafts.iter().any(|draft| starts(&draft.action))
        });
        let stop = block.and_then(|block| Some((block, stop_of(&work.blocks[block])?)));
        match stop.filter(|_| seen.active && !started) {
            // It stays off until it has got another one: what it is configured with matters not.
            Some((block, stop)) => {
                let layout = work.blocks[at].id.clone();
                work.need(at, block, SkipReason::InUse(user.to_string()));
                work.order((block, stop), (at, 0), Bond::Hard);
                if work.blocks[block].drafts[stop].reason == Reason::Needed {
                    work.need(block, at, SkipReason::Blocked(layout));
                }
            }
            // What does not run holds nothing.
            None if !seen.active && !started => {}
            None => {
                let uses = |vm: &VirtualMachine| vm.devices().iter().any(|it| devices.contains(it));
                released(work, at, user, uses, Bond::Hard);
            }
        }
    }
}

/// Removal blocks by what the log remembers of their resources' needs.
struct GoneUsers {
    /// By the resource referred to.
    resource: HashMap<ResourceId, Vec<usize>>,
    /// By the file referred to.
    file: HashMap<String, Vec<usize>>,
}

impl GoneUsers {
    fn of(work: &Work<'_>) -> Self {
        let mut index = Self { resource: HashMap::new(), file: HashMap::new() };
        for (at, block) in work.blocks.iter().enumerate().filter(|(_, block)| !block.build) {
            let Some(known) = work.input.known.resources.get(&block.id) else {
                continue;
            };
            let claimed = known.claimed.as_ref();
            let named = claimed.map(refs::named).unwrap_or_default();
            for id in named.into_iter().chain(known.depends_on.iter().cloned()) {
                index.resource.entry(id).or_default().push(at);
            }
            for path in claimed.map(refs::used_files).unwrap_or_default() {
                index.file.entry(path.to_owned()).or_default().push(at);
            }
        }
        index
    }
}

/// Removed resources go before those that they refer to, by the log's memory of them.
fn gone_users(work: &mut Work<'_>, at: usize, gone: &GoneUsers) {
    let id = work.blocks[at].id.clone();
    let own = work.facts.claimed(&id).map(refs::own_files).unwrap_or_default();
    let by_file = own.into_iter().filter_map(|path| gone.file.get(path));
    let users: BTreeSet<usize> = by_file.chain(gone.resource.get(&id)).flatten().copied().collect();
    for other in users {
        let user = work.blocks[other].id.clone();
        if user != id {
            work.need(at, other, SkipReason::InUse(user.to_string()));
            work.order(work.last(other), (at, 0), Bond::Hard);
        }
    }
}

/// Makes the removal in block `at` wait for `user` to let go, or refuses it.
fn released(
    work: &mut Work<'_>,
    at: usize,
    user: &ResourceId,
    uses: impl Fn(&VirtualMachine) -> bool,
    bond: Bond,
) {
    let why = SkipReason::InUse(user.to_string());
    let Some(seen) = work.input.observed.resources.get(user) else {
        return;
    };
    if work.blocks[at].id == *user {
        return;
    }
    let block = work.by_id.get(user).copied();
    let block = block.filter(|&block| lets_go(&work.blocks[block], seen, uses));
    let Some(block) = block else {
        return work.refuse(at, why);
    };
    work.need(at, block, why);
    if let Some(last) = released_at(&work.blocks[block]) {
        work.order((block, last), (at, 0), bond);
    }
}

/// The last step of a block that lets go of something.
fn released_at(block: &Block) -> Option<usize> {
    let ends = |action: &Action| {
        matches!(
            action,
            Action::VmDefine { .. }
                | Action::VmUpdateLive { .. }
                | Action::VmStop { .. }
                | Action::VmUndefine
                | Action::DiskDelete { .. }
        )
    };
    block.drafts.iter().rposition(|draft| ends(&draft.action))
}

/// Whether after a block its resource no longer uses what `uses` says.
fn lets_go(block: &Block, seen: &Observation, uses: impl Fn(&VirtualMachine) -> bool) -> bool {
    let has = |wanted: fn(&Action) -> bool| block.drafts.iter().any(|draft| wanted(&draft.action));
    if block.id.kind == Kind::Disk {
        return has(|action| matches!(action, Action::DiskDelete { .. }));
    }
    if has(|action| matches!(action, Action::VmUndefine)) {
        return true;
    }
    let Resource::VirtualMachine(config) = &seen.config else {
        return false;
    };
    let defined = block.drafts.iter().find_map(|draft| match &draft.action {
        Action::VmDefine { vm, .. } => Some(&**vm),
        _ => None,
    });
    if uses(defined.unwrap_or(config)) {
        return false;
    }
    if !seen.active || has(|action| matches!(action, Action::VmStop { .. })) {
        return true;
    }
    let mut live = match &seen.live {
        Some(Resource::VirtualMachine(live)) => (**live).clone(),
        _ => (**config).clone(),
    };
    for draft in &block.drafts {
        if let Action::VmUpdateLive { changes } = &draft.action {
            changes.iter().for_each(|change| unplug(&mut live, change));
        }
    }
    !uses(&live)
}

/// Takes out of a running domain what a live change unplugs.
fn unplug(live: &mut VirtualMachine, change: &LiveChange) {
    match change {
        LiveChange::DetachDisk(target) => live.disks.retain(|disk| disk.target != *target),
        LiveChange::DetachNic(mac) => live.nics.retain(|nic| nic.mac != *mac),
        LiveChange::ReplugNic(new) => live.nics.retain(|nic| nic.mac != new.mac),
        LiveChange::Memory(_)
        | LiveChange::Vcpus(_)
        | LiveChange::AttachDisk(_)
        | LiveChange::AttachNic(_)
        | LiveChange::Autostart(_) => {}
    }
}

/// A block that builds waits for those that leave its place.
fn place(work: &mut Work<'_>, at: usize) {
    let Some(wish) = work.input.desired.resources.get(&work.blocks[at].id) else {
        return;
    };
    match &wish.resource {
        Resource::Network(network) => network_place(work, at, network),
        Resource::VirtualMachine(vm) => vm_place(work, at, vm),
        _ => {}
    }
}

/// A network waits for networks of ours that have its bridge or range.
fn network_place(work: &mut Work<'_>, at: usize, network: &crate::model::resource::Network) {
    let id = work.blocks[at].id.clone();
    for (other, seen, theirs) in work.facts.networks().to_vec() {
        if *other == id || !work.facts.ours(other, seen) {
            continue;
        }
        let Some(what) = collision(network, theirs, seen.active) else {
            continue;
        };
        let wished = work.input.desired.resources.contains_key(other);
        match work.by_id.get(other).copied() {
            Some(block) if !wished => {
                let why = format!("{what} is still taken by {other}, which cannot be removed yet");
                work.need(at, block, SkipReason::Conflict(why));
                work.order(work.last(block), (at, 0), Bond::Place);
            }
            Some(block) => {
                let find = |block: usize, wanted: fn(&Action) -> bool| {
                    let drafts = &work.blocks[block].drafts;
                    drafts.iter().position(|draft| wanted(&draft.action))
                };
                let stop = find(block, |action| matches!(action, Action::NetworkStop));
                let start = find(at, |action| matches!(action, Action::NetworkStart { .. }));
                if let (Some(stop), Some(start)) = (stop, start) {
                    work.order((block, stop), (at, start), Bond::Place);
                }
            }
            None => {}
        }
    }
}

/// A domain waits for domains of ours that have its disks or MAC addresses and are to lose them.
fn vm_place(work: &mut Work<'_>, at: usize, vm: &VirtualMachine) {
    let writable = vm.disks.iter().filter(|disk| !disk.read_only);
    for path in writable.filter_map(|disk| disk.path.as_deref()) {
        for holder in work.facts.users_of_file(path) {
            let uses = |vm: &VirtualMachine| refs::vm_files(vm).contains(&path);
            taken_over(work, at, holder, path, uses);
        }
    }
    for mac in vm.nics.iter().map(|nic| nic.mac.as_str()) {
        for holder in work.facts.holders_of_mac(mac) {
            let uses = |vm: &VirtualMachine| vm.nics.iter().any(|nic| nic.mac == mac);
            taken_over(work, at, holder, mac, uses);
        }
    }
    let gpus = vm.gpus.iter().filter_map(|gpu| work.facts.gpu_devices(gpu)).flatten();
    let devices: Vec<HostDevice> = gpus.collect();
    for holder in work.facts.users_of_devices(&devices) {
        let uses = |vm: &VirtualMachine| vm.devices().iter().any(|it| devices.contains(it));
        taken_over(work, at, holder, "its GPU", uses);
    }
}

/// Makes block `at` wait until `holder` no longer has what both cannot have.
fn taken_over(
    work: &mut Work<'_>,
    at: usize,
    holder: &ResourceId,
    what: &str,
    uses: impl Fn(&VirtualMachine) -> bool,
) {
    let Some(seen) = work.input.observed.resources.get(holder) else {
        return;
    };
    let wish = work.input.desired.resources.get(holder);
    let shared = match wish.map(|wish| &wish.resource) {
        Some(Resource::VirtualMachine(wish)) => uses(wish),
        _ => false,
    };
    let other = work.blocks[at].id == *holder || holder.kind != Kind::VirtualMachine;
    if other || shared || !work.facts.ours(holder, seen) {
        return;
    }
    let why = SkipReason::Conflict(format!("{what} still belongs to {holder}"));
    let block = work.by_id.get(holder).copied();
    match block.filter(|&block| lets_go(&work.blocks[block], seen, uses)) {
        Some(block) => {
            work.need(at, block, why);
            if let Some(last) = released_at(&work.blocks[block]) {
                work.order((block, last), (at, 0), Bond::Place);
            }
        }
        None => work.refuse(at, why),
    }
}
