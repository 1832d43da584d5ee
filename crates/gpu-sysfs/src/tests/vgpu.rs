//! vGPUs made and removed, by both of the driver's ways.

use uuid::Uuid;

use super::kernel::{Ends, Faults, Kernel, TYPES};
use super::tree::{Tree, at};
use super::{done, perform};
use crate::error::Error;
use crate::plan::{Note, OnBusy, Plan, VgpuRequest, VgpuWish, functions_down, vgpus};
use crate::refusal::{Refusal, Refused};

const GPU: &str = "0000:07:00.0";

/// A host, its claims, and what is wished of its GPU.
struct World {
    tree: Tree,
    request: VgpuRequest,
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn wish(number: u128, kind: &str) -> VgpuWish {
    VgpuWish { id: id(number), kind: kind.to_owned(), gpu_instance: None, placement: None }
}

impl World {
    fn new(tree: Tree) -> Self {
        let kinds = TYPES.iter().map(|(id, name, _)| (*id, (*name).to_owned())).collect();
        let request = VgpuRequest {
            gpu: at(GPU),
            wishes: Vec::new(),
            claims: Vec::new(),
            kinds,
            heterogeneous: false,
            on_busy: OnBusy::Refuse,
        };
        Self { tree, request }
    }

    /// A GPU with the vendor's VFIO driver, its virtual functions off.
    fn vendor() -> Self {
        let tree = Tree::with_gpu();
        tree.file("/sys/bus/pci/devices/0000:07:00.0/sriov_totalvfs", "4");
        tree.file("/sys/bus/pci/devices/0000:07:00.0/sriov_numvfs", "0");
        tree.file("/usr/lib/nvidia/sriov-manage", "#!/bin/bash");
        Self::new(tree)
    }

    /// A GPU with mediated devices.
    fn mdev() -> Self {
        let tree = Tree::with_gpu();
        let types = [("nvidia-558", "GRID A40-24Q", 2), ("nvidia-556", "GRID A40-8Q", 6)];
        tree.mdev_types(GPU, &types);
        Self::new(tree)
    }

    fn wish(&mut self, wishes: &[VgpuWish]) -> &mut Self {
        self.request.wishes = wishes.to_vec();
        self
    }

    fn plan(&self) -> Result<Plan, Refused> {
        vgpus(&self.tree.host(), &self.tree.holders(), &self.request)
    }

    /// Stage after stage, with claims kept before the steps, until nothing is left or the power goes.
    fn settle(&mut self, die_after: Option<u32>) -> Result<Vec<String>, Error> {
        let mut all = Vec::new();
        let mut left = die_after;
        for _ in 0..6 {
            let plan = self.plan().unwrap();
            self.request.claims.clone_from(&plan.claims);
            let mut kernel = Kernel::new(self.tree.folder());
            kernel.faults = Faults { die_after: left, ..Faults::default() };
            let log = kernel.log.clone();
            let outcome = perform(&self.tree, &plan, kernel);
            let log = log.take();
            left = left.map(|left| left - u32::try_from(log.len()).unwrap());
            all.extend(log);
            outcome?;
            if !plan.again {
                assert_eq!(self.plan().unwrap().steps, [], "nothing is left");
                return Ok(all);
            }
        }
        panic!("no end: {all:?}");
    }

    /// The types of the virtual functions, and the mediated devices.
    fn standing(&self) -> Vec<(String, String)> {
        let host = self.tree.host();
        let functions = host.virtual_functions(at(GPU)).filter_map(|it| {
            Some((it.address.to_string(), it.vendor.as_ref()?.current?.to_string()))
        });
        let mediated = host.mediated.values().map(|it| (it.uuid.to_string(), it.kind.clone()));
        functions.chain(mediated).collect()
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn the_vendors_way_is_found_after_the_functions_are_up() {
    let mut world = World::vendor();
    world.wish(&[wish(1, "A40-8Q"), wish(2, "NVIDIA A40-8Q")]);
    let first = world.plan().unwrap();
    assert!(first.again && first.claims.is_empty());
    let log = world.settle(None).unwrap();
    assert_eq!(log[0], "/usr/lib/nvidia/sriov-manage -e 0000:07:00.0");
    assert_eq!(log.len(), 3);
    assert_eq!(world.standing(), pairs(&[("0000:07:00.4", "556"), ("0000:07:00.5", "556")]));
    world.wish(&[wish(2, "556")]);
    world.settle(None).unwrap();
    assert_eq!(world.standing(), pairs(&[("0000:07:00.5", "556")]));
    assert_eq!(world.request.claims.len(), 1);
    world.wish(&[]);
    world.settle(None).unwrap();
    assert_eq!((world.standing(), world.request.claims.len()), (vec![], 0));
}

#[test]
fn mediated_devices_have_the_uuid_of_their_claim() {
    let mut world = World::mdev();
    world.wish(&[wish(1, "A40-24Q"), wish(2, "nvidia-558")]);
    world.settle(None).unwrap();
    let both =
        [(id(1).to_string(), "nvidia-558".to_owned()), (id(2).to_string(), "nvidia-558".into())];
    assert_eq!(world.standing(), both);
    world.wish(&[wish(1, "A40-24Q"), wish(2, "A40-24Q"), wish(3, "A40-24Q")]);
    let reasons = world.plan().unwrap_err().reasons;
    assert_eq!(reasons, [Refusal::NoRoom { id: id(3), kind: "GRID A40-24Q".into() }]);
    world.wish(&[wish(2, "A40-24Q")]);
    world.settle(None).unwrap();
    assert_eq!(world.standing(), both[1..]);
}

#[test]
fn a_device_of_somebody_else_is_neither_taken_nor_removed() {
    let mut world = World::mdev();
    world.wish(&[wish(9, "A40-24Q")]);
    world.settle(None).unwrap();
    world.request.claims.clear();
    assert_eq!(world.plan().unwrap_err().reasons, [Refusal::Unclaimed { id: id(9) }]);
    world.wish(&[wish(1, "A40-24Q")]);
    world.settle(None).unwrap();
    world.wish(&[]);
    world.settle(None).unwrap();
    assert_eq!(world.standing(), [(id(9).to_string(), "nvidia-558".to_owned())]);

    let mut world = World::vendor();
    world.wish(&[wish(1, "A40-8Q")]).settle(None).unwrap();
    world.tree.file("/sys/bus/pci/devices/0000:07:00.5/nvidia/current_vgpu_type", "556");
    world.wish(&[wish(2, "A40-8Q")]).settle(None).unwrap();
    assert_eq!(world.standing(), pairs(&[("0000:07:00.4", "556"), ("0000:07:00.5", "556")]));
    let claims: Vec<Uuid> = world.request.claims.iter().map(|claim| claim.id).collect();
    assert_eq!(claims, [id(2)], "made in the place of the one removed");
}

#[test]
fn a_path_that_is_used_again_is_left_to_its_new_user() {
    let mut world = World::vendor();
    world.wish(&[wish(1, "A40-8Q")]).settle(None).unwrap();
    // A restart; somebody else is quicker, on the same function and with the same type.
    world.tree.file("/proc/sys/kernel/random/boot_id", "boot-two");
    let host = world.tree.host();
    assert!(host.unread.is_empty());
    let plan = world.plan().unwrap();
    assert!(matches!(plan.notes[..], [Note::PlaceLost { .. }]), "{:?}", plan.notes);
    world.settle(None).unwrap();
    assert_eq!(world.standing(), pairs(&[("0000:07:00.4", "556"), ("0000:07:00.5", "556")]));
    world.wish(&[]).settle(None).unwrap();
    assert_eq!(world.standing(), pairs(&[("0000:07:00.4", "556")]), "not ours any more");
}

#[test]
fn after_a_restart_each_gets_its_place_again() {
    let mut world = World::vendor();
    world.wish(&[wish(1, "A40-8Q"), wish(2, "A40-8Q"), wish(3, "A40-8Q")]).settle(None).unwrap();
    world.wish(&[wish(3, "A40-8Q")]).settle(None).unwrap();
    world.tree.file("/proc/sys/kernel/random/boot_id", "boot-two");
    world.tree.file("/sys/bus/pci/devices/0000:07:00.6/nvidia/current_vgpu_type", "0");
    let listed = super::kernel::creatable(48);
    world.tree.file("/sys/bus/pci/devices/0000:07:00.6/nvidia/creatable_vgpu_types", &listed);
    world.wish(&[wish(0, "A40-8Q"), wish(3, "A40-8Q")]).settle(None).unwrap();
    assert_eq!(world.standing(), pairs(&[("0000:07:00.4", "556"), ("0000:07:00.6", "556")]));
    assert!(world.request.claims.iter().all(|claim| claim.boot == "boot-two"));
}

#[test]
fn a_machine_that_starts_before_the_clear_keeps_its_vgpu() {
    let mut world = World::vendor();
    world.wish(&[wish(1, "A40-8Q")]).settle(None).unwrap();
    world.wish(&[]);
    let plan = world.plan().unwrap();
    world.tree.process(77, "qemu-system-x86", "vm.scope", &["/dev/vfio/devices/vfio0"]);
    let error = perform(&world.tree, &plan, Kernel::new(world.tree.folder())).unwrap_err();
    assert!(matches!(&error, Error::Held { holders, .. } if holders[0].pid == 77), "{error}");
    assert_eq!(world.standing().len(), 1);
    let refusal = world.plan().unwrap_err();
    assert!(refusal.to_string().contains("qemu-system-x86 (pid 77, vm.scope"), "{refusal}");
    world.tree.exit(77);
    world.settle(None).unwrap();
    assert_eq!(world.standing(), []);
}

#[test]
fn sizes_are_mixed_only_where_the_gpu_is_set_for_it() {
    let mut world = World::vendor();
    world.wish(&[wish(1, "A40-24Q")]).settle(None).unwrap();
    world.wish(&[wish(1, "A40-24Q"), wish(2, "A40-8Q")]);
    let refusal = world.plan().unwrap_err();
    assert!(matches!(refusal.reasons[..], [Refusal::Mixed { standing: 1, .. }]), "{refusal}");
    world.request.heterogeneous = true;
    world.settle(None).unwrap();
    assert_eq!(world.standing(), pairs(&[("0000:07:00.4", "558"), ("0000:07:00.5", "556")]));
    let mut world = World::vendor();
    world.wish(&[wish(1, "A40-24Q")]).settle(None).unwrap();
    world.wish(&[wish(1, "A40-8Q")]).settle(None).unwrap();
    assert_eq!(world.standing(), pairs(&[("0000:07:00.4", "556")]), "one replaced by another");
}

#[test]
fn a_full_gpu_is_told_from_an_unknown_type() {
    let mut world = World::vendor();
    world.wish(&[wish(1, "A40-24Q"), wish(2, "A40-24Q")]).settle(None).unwrap();
    world.wish(&[wish(1, "A40-24Q"), wish(2, "A40-24Q"), wish(3, "A40-24Q")]);
    assert!(matches!(world.plan().unwrap_err().reasons[..], [Refusal::NoRoom { .. }]));
    world.wish(&[wish(1, "A40-7Q")]);
    assert!(matches!(world.plan().unwrap_err().reasons[..], [Refusal::UnknownType { .. }]));
    world.wish(&[wish(1, "A40-24Q"), wish(1, "A40-24Q")]);
    assert_eq!(world.plan().unwrap_err().reasons, [Refusal::Twice { id: id(1) }]);
    let mut plain = World::new(Tree::with_gpu());
    plain.wish(&[wish(1, "A40-24Q")]);
    assert_eq!(plain.plan().unwrap_err().reasons, [Refusal::NoVgpuHost]);
    let mut placed = World::mdev();
    placed.wish(&[VgpuWish { placement: Some(0), ..wish(1, "A40-24Q") }]);
    assert_eq!(placed.plan().unwrap_err().reasons, [Refusal::NoChoice { id: id(1) }]);
}

#[test]
fn the_place_within_the_gpu_is_set_before_the_type() {
    let mut world = World::vendor();
    let placed = VgpuWish { gpu_instance: Some(3), placement: Some(12), ..wish(1, "A40-8Q") };
    let log = world.wish(&[placed]).settle(None).unwrap();
    let folder = "/sys/bus/pci/devices/0000:07:00.4/nvidia";
    let wanted = [
        format!("3 > {folder}/gpu_instance_id"),
        format!("12 > {folder}/placement_id"),
        format!("556 > {folder}/current_vgpu_type"),
    ];
    assert_eq!(log[1..], wanted);
}

#[test]
fn wherever_it_breaks_off_the_rest_leads_to_the_same_end() {
    for make in [World::vendor, World::mdev] {
        let mut wanted = make();
        wanted.wish(&[wish(1, "A40-24Q"), wish(2, "A40-24Q")]).settle(None).unwrap();
        let all = wanted.wish(&[wish(2, "A40-24Q"), wish(3, "A40-24Q")]).settle(None).unwrap();
        for actions in 1..=u32::try_from(all.len()).unwrap() {
            let mut world = make();
            world.wish(&[wish(1, "A40-24Q"), wish(2, "A40-24Q")]).settle(None).unwrap();
            world.wish(&[wish(2, "A40-24Q"), wish(3, "A40-24Q")]);
            world.settle(Some(actions)).unwrap_err();
            world.settle(None).unwrap();
            assert_eq!(world.standing(), wanted.standing(), "broken off after action {actions}");
            assert_eq!(world.request.claims, wanted.request.claims);
        }
        let mut world = make();
        world.wish(&[wish(1, "A40-24Q"), wish(2, "A40-24Q")]);
        world.settle(Some(1)).unwrap_err();
        world.settle(None).unwrap();
        assert_eq!(world.standing().len(), 2);
    }
}

#[test]
fn a_list_that_shrank_since_the_plan_stops_it() {
    let mut world = World::vendor();
    world.wish(&[wish(1, "A40-8Q")]).settle(None).unwrap();
    world.wish(&[wish(1, "A40-8Q"), wish(2, "A40-8Q")]);
    let plan = world.plan().unwrap();
    world.tree.file("/sys/bus/pci/devices/0000:07:00.5/nvidia/creatable_vgpu_types", "ID : Name");
    let error = perform(&world.tree, &plan, Kernel::new(world.tree.folder())).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    world.tree.remove("/sys/bus/pci/devices/0000:07:00.5");
    assert!(done(&world.tree, &world.plan().unwrap())[0].contains("0000:07:00.6"));
}

/// The vendor's tool takes the GPU from its driver: where it is ended before it gave it back, the GPU
/// gets its driver first.
#[test]
fn a_tool_that_was_ended_half_way_leaves_no_gpu_without_a_driver() {
    let driver = |world: &World| world.tree.host().functions[&at(GPU)].driver.clone();
    for ends in [Ends::Early, Ends::Stub, Ends::Late] {
        let mut world = World::vendor();
        world.wish(&[wish(1, "A40-8Q")]);
        let broken = |world: &World, plan: &Plan| {
            let mut kernel = Kernel::new(world.tree.folder());
            kernel.faults.tool_ends = Some(ends);
            perform(&world.tree, plan, kernel).unwrap_err();
            assert_ne!(driver(world).as_deref(), Some("nvidia"), "{ends:?}");
        };
        broken(&world, &world.plan().unwrap());
        world.settle(None).unwrap();
        assert_eq!(world.standing(), pairs(&[("0000:07:00.4", "556")]), "{ends:?}");
        assert_eq!(driver(&world).as_deref(), Some("nvidia"), "{ends:?}");
        world.wish(&[]).settle(None).unwrap();
        let down = |world: &World| {
            let (host, holders) = (world.tree.host(), world.tree.holders());
            functions_down(&host, &holders, at(GPU), OnBusy::Refuse).unwrap()
        };
        broken(&world, &down(&world));
        done(&world.tree, &down(&world));
        assert_eq!(driver(&world).as_deref(), Some("nvidia"), "{ends:?}");
        assert_eq!(down(&world).steps, [], "{ends:?}");
    }
    let mut missing = World::vendor();
    missing.tree.remove("/sys/bus/pci/devices/0000:07:00.0/driver");
    missing.tree.remove("/sys/bus/pci/drivers/nvidia");
    missing.wish(&[wish(1, "A40-8Q")]);
    let driver = "nvidia".to_owned();
    assert_eq!(missing.plan().unwrap_err().reasons, [Refusal::DriverMissing { driver }]);
}

/// Functions that are on without the driver's files: said with what to do, and never switched in
/// circles.
#[test]
fn functions_that_take_no_vgpu_are_told_from_a_host_without_vgpus() {
    let mut world = World::vendor();
    world.tree.file("/sys/bus/pci/devices/0000:07:00.0/sriov_numvfs", "4");
    world.wish(&[wish(1, "A40-8Q")]);
    let refused = world.plan().unwrap_err();
    assert_eq!(refused.reasons, [Refusal::HalfUp { gpu: at(GPU), enabled: 4 }]);
    assert!(refused.to_string().contains("sriov-manage -d 0000:07:00.0"), "{refused}");
}

#[test]
fn a_type_for_gpu_instances_needs_one() {
    for (name, on_instance) in [
        ("NVIDIA A100-1-5C", true),
        ("NVIDIA A100-1-5CME", true),
        ("A100-4-20C", true),
        ("NVIDIA A100-10C", false),
        ("NVIDIA H200X-141C", false),
        ("GRID RTX6000-8Q", false),
        ("nvidia-556", false),
        ("556", false),
        ("", false),
    ] {
        assert_eq!(super::super::is_on_instance(name), on_instance, "{name}");
    }
    let mut world = World::mdev();
    world.tree.mdev_types(GPU, &[("nvidia-470", "GRID A100-1-5C", 7)]);
    world.wish(&[wish(1, "nvidia-470")]);
    let refused = world.plan().unwrap_err();
    let kind = "GRID A100-1-5C".to_owned();
    assert_eq!(refused.reasons, [Refusal::NeedsInstance { kind }]);
}
