//! A small machine for tests: a wish, a fact and a memory, with one door to plan and one to converge.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::render::{Style, text};
use super::simulate;
use super::{Action, Disruption, Guards, Input, Known, Plan, Reason, Step, check, plan};
use crate::model::resource::*;
use crate::model::{
    CommitId, Digest, Kind, Name, Observation, Observed, Ownership, Resource, ResourceId,
    digest_of, mac_for,
};
use crate::spec::{Desired, DesiredResource, Lifecycle, Origin, SyncSettings};

/// A wish, a fact and a memory.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) commit: CommitId,
    pub(crate) desired: Desired,
    pub(crate) observed: Observed,
    pub(crate) known: Known,
    pub(crate) guards: Guards,
    pub(crate) minute: Option<u16>,
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

/// One gibibyte in KiB.
pub(crate) const GIB: u64 = 1 << 20;

impl Machine {
    pub(crate) fn new() -> Self {
        Self {
            commit: "0123456789012345678901234567890123456789".parse().unwrap(),
            desired: Desired {
                environment: name("lab"),
                sync: SyncSettings::default(),
                resources: BTreeMap::new(),
            },
            observed: Observed::default(),
            known: Known::default(),
            guards: Guards { prune: true },
            minute: None,
        }
    }

    /// Asks for a resource, or for another form of it.
    pub(crate) fn want(&mut self, at: &str, resource: Resource) -> &mut DesiredResource {
        let digest = digest_of(&resource);
        let id = id(at);
        let wish = self.desired.resources.entry(id).or_insert_with(|| {
            Arc::new(DesiredResource {
                resource: resource.clone(),
                depends_on: BTreeSet::new(),
                owner: None,
                lifecycle: Lifecycle::default(),
                labels: BTreeMap::new(),
                origin: Origin { path: "lab/all.yaml".into(), line: 1 },
                digest,
            })
        });
        let wish = Arc::make_mut(wish);
        wish.resource = resource;
        wish.digest = digest;
        wish
    }

    /// Changes a wished resource, as a commit would.
    pub(crate) fn edit(&mut self, at: &str, how: impl FnOnce(&mut DesiredResource)) {
        let wish = Arc::make_mut(self.desired.resources.get_mut(&id(at)).unwrap());
        how(wish);
        wish.digest = digest_of(&(&wish.resource, &wish.lifecycle));
    }

    pub(crate) fn edit_vm(&mut self, at: &str, how: impl FnOnce(&mut VirtualMachine)) {
        self.edit(at, |wish| match &mut wish.resource {
            Resource::VirtualMachine(vm) => how(vm),
            _ => panic!("not a domain"),
        });
    }

    pub(crate) fn edit_network(&mut self, at: &str, how: impl FnOnce(&mut Network)) {
        self.edit(at, |wish| match &mut wish.resource {
            Resource::Network(network) => how(network),
            _ => panic!("not a network"),
        });
    }

    pub(crate) fn edit_disk(&mut self, at: &str, how: impl FnOnce(&mut Disk)) {
        self.edit(at, |wish| match &mut wish.resource {
            Resource::Disk(disk) => how(disk),
            _ => panic!("not a disk"),
        });
    }

    /// Drops a resource from the commit.
    pub(crate) fn drop(&mut self, at: &str) {
        self.desired.resources.remove(&id(at)).unwrap();
    }

    pub(crate) fn seen(&mut self, at: &str) -> &mut Observation {
        self.observed.resources.get_mut(&id(at)).unwrap()
    }

    /// Puts something on the machine that trueup did not make.
    pub(crate) fn foreign(&mut self, at: &str, config: Resource, active: bool) {
        let ownership = match config {
            Resource::VirtualMachine(_) | Resource::Network(_) => Ownership::Foreign,
            _ => Ownership::Unmarked,
        };
        let live = active.then(|| config.clone());
        let seen = Observation {
            ownership,
            config,
            live,
            active,
            uuid: Some(uuid::Uuid::nil()),
            unplugged: Vec::new(),
        };
        self.observed.resources.insert(id(at), seen);
    }

    /// Does something to the machine that no plan asked for.
    pub(crate) fn by_hand(&mut self, at: &str, action: Action) {
        let step = Step {
            resource: id(at),
            action,
            disruption: Disruption::None,
            reason: Reason::Needed,
            changes: Vec::new(),
            after: BTreeSet::new(),
            interrupts: BTreeSet::new(),
        };
        simulate::apply(&mut self.observed, &step, &self.desired.environment);
    }

    pub(crate) fn input(&self) -> Input<'_> {
        Input {
            commit: &self.commit,
            desired: &self.desired,
            observed: &self.observed,
            known: &self.known,
            guards: self.guards,
            now_minute_of_week: self.minute,
        }
    }

    /// Plans, and has the plan judged.
    #[track_caller]
    pub(crate) fn plan(&self) -> Plan {
        let plan = plan(&self.input());
        if let Err(violations) = check::check(&plan, &self.input()) {
            panic!("{violations:#?}\n{}", text(&plan, Style::default()));
        }
        plan
    }

    /// Performs one step.
    pub(crate) fn perform(&mut self, step: &Step) {
        simulate::remember_started(&mut self.known, step, &self.desired);
        simulate::apply(&mut self.observed, step, &self.desired.environment);
        simulate::remember_removed(&mut self.known, step, &self.desired);
    }

    /// Plans and performs until nothing is left to do; gives the last plan.
    #[track_caller]
    pub(crate) fn converge(&mut self) -> Plan {
        for _ in 0..4 {
            let plan = self.plan();
            for step in &plan.steps {
                self.perform(step);
            }
            let next = self.plan();
            simulate::remember_settled(&mut self.known, &next, &self.desired, &self.observed);
            if next.is_empty() {
                return self.plan();
            }
        }
        panic!("does not converge:\n{}", text(&self.plan(), Style::default()));
    }

    /// The plan as people read it.
    #[track_caller]
    pub(crate) fn shown(&self) -> String {
        let shown = text(&self.plan(), Style::default());
        let digest = shown.find(" · digest ").unwrap_or(shown.trim_end().len());
        format!("{}\n", &shown[..digest])
    }
}

pub(crate) fn pool() -> Resource {
    Resource::StoragePool(StoragePool { path: "/vm".into(), autostart: true })
}

pub(crate) fn network(address: &str) -> Resource {
    Resource::Network(Network {
        mode: NetworkMode::Nat,
        bridge: None,
        addresses: vec![NetworkAddress {
            address: address.parse().unwrap(),
            dhcp: Some(Dhcp::default()),
        }],
        dns: None,
        domain: None,
        mtu: None,
        autostart: true,
    })
}

pub(crate) fn image(content: &str) -> Resource {
    let content = Digest::of(content);
    Resource::Image(Image {
        pool: name("main"),
        path: format!("/vm/debian-{}.qcow2", content.short()),
        content,
        format: VolumeFormat::Qcow2,
        size: None,
        boot_files: None,
        origin: Some(ImageOrigin::Fetch {
            source: "https://example.org/debian.qcow2".into(),
            sha256: content,
        }),
    })
}

pub(crate) fn image_path(content: &str) -> String {
    format!("/vm/debian-{}.qcow2", Digest::of(content).short())
}

pub(crate) fn disk(at: &str, gib: u64, backing: Option<&str>) -> Resource {
    Resource::Disk(Disk {
        pool: name("main"),
        path: format!("/vm/{at}.qcow2"),
        format: VolumeFormat::Qcow2,
        size: gib << 30,
        backing: backing
            .map(|content| Backing { path: image_path(content), format: VolumeFormat::Qcow2 }),
        on_image_change: Some(OnImageChange::Keep),
        way_back: None,
    })
}

pub(crate) fn seed(at: &str, text: &str) -> Resource {
    let content = Digest::of(text);
    Resource::Seed(Seed {
        pool: name("main"),
        path: format!("/vm/{at}-{}.img", content.short()),
        content,
        meta_data: Some("instance-id: x".into()),
        user_data: Some(text.into()),
        network_config: None,
    })
}

pub(crate) fn seed_attachment(at: &str, text: &str) -> DiskAttachment {
    DiskAttachment {
        target: "vdz".into(),
        path: Some(format!("/vm/{at}-{}.img", Digest::of(text).short())),
        format: VolumeFormat::Raw,
        read_only: true,
        ..attachment("vdz", "seed")
    }
}

pub(crate) fn attachment(target: &str, disk: &str) -> DiskAttachment {
    DiskAttachment {
        target: target.into(),
        bus: DiskBus::Virtio,
        device: DiskDevice::Disk,
        path: Some(format!("/vm/{disk}.qcow2")),
        format: VolumeFormat::Qcow2,
        read_only: false,
        boot_order: None,
    }
}

pub(crate) fn nic(vm: &str, network: &str) -> Nic {
    Nic {
        mac: mac_for(&name("lab"), &ResourceId::new(Kind::VirtualMachine, name(vm)), 0),
        source: NicSource::Network(network.into()),
        model: "virtio".into(),
        boot_order: None,
    }
}

pub(crate) fn vm(at: &str, disks: &[&str], networks: &[&str]) -> Resource {
    let attach = |(number, disk): (usize, &&str)| {
        attachment(&format!("vd{}", char::from(b'a' + number as u8)), disk)
    };
    Resource::VirtualMachine(Box::new(VirtualMachine {
        accelerator: None,
        machine: None,
        firmware: Firmware::Bios,
        boot: Boot::Devices,
        cpus: Cpus { count: 1, max: 2, mode: None, topology: None, pinning: BTreeMap::new() },
        memory: Memory { current: GIB, max: 2 * GIB, hugepages: None },
        disks: disks.iter().enumerate().map(attach).collect(),
        nics: networks.iter().map(|network| nic(at, network)).collect(),
        host_devices: Vec::new(),
        gpus: Vec::new(),
        console_log: None,
        guest_agent: false,
        autostart: false,
        power: Power::Running,
        stop: Some(StopPolicy { timeout_s: 60, force: false }),
        readiness: None,
        snapshot: None,
        way_back: None,
    }))
}

/// A pool, a network, an image, a disk on it, and a domain with both.
pub(crate) fn web() -> Machine {
    let mut machine = Machine::new();
    machine.want("pool/main", pool());
    machine.want("network/lan", network("10.7.0.1/24"));
    machine.want("image/debian", image("v1"));
    machine.want("disk/web", disk("web", 10, Some("v1")));
    machine.want("vm/web", vm("web", &["web"], &["lan"]));
    machine
}

/// The same, already there.
pub(crate) fn converged() -> Machine {
    let mut machine = web();
    let last = machine.converge();
    assert!(last.is_empty() && last.skipped.is_empty(), "{last:#?}");
    machine
}
