//! What the tests share: a provider, a small desired state, and short ways to say a step.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use trueup::model::resource::{
    AddressRange, Backing, Boot, Cpus, Dhcp, DhcpHost, Disk, DiskAttachment, DiskBus, DiskDevice,
    Firmware, Memory, Network, NetworkAddress, NetworkMode, Nic, NicSource, Power, Readiness,
    StopPolicy, StoragePool, VirtualMachine, VolumeFormat,
};
use trueup::model::{
    Digest, Fault, Name, Observation, Observed, Resource, ResourceId, digest_of, uuid_for,
};
use trueup::plan::{Action, Disruption, Reason, Step};
use trueup::port::{Outcome, Provider, Scope};
use trueup::provider::libvirt::xml::{domain, network};
use trueup::provider::libvirt::{LibvirtProvider, Settings};
use trueup::spec::{Desired, DesiredResource, Lifecycle, Origin, Renames, SyncSettings};
use trueup_libvirt::{Client, Options};

/// A private libvirt with a provider for the environment `lab`.
pub(crate) struct Bench {
    pub(crate) client: Client,
    pub(crate) provider: LibvirtProvider,
    pub(crate) resources: BTreeMap<ResourceId, Arc<DesiredResource>>,
    /// What the environment is called, and was.
    pub(crate) environment: Name,
    pub(crate) formerly: Vec<Name>,
    directory: PathBuf,
    /// What was made here, as the log would remember it.
    made: RefCell<BTreeSet<ResourceId>>,
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

/// Runs a program and gives what it printed.
#[track_caller]
pub(crate) fn run(argv: &[&str]) -> String {
    let output = Command::new(argv[0]).args(&argv[1..]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{argv:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) const WEB_MAC: &str = "52:54:00:91:00:05";

impl Bench {
    pub(crate) fn new(uri: String) -> Self {
        let directory = PathBuf::from(std::env::var("TRUEUP_PRIVATE_DIR").unwrap());
        let client = Client::new(Options::new(uri));
        let settings = Settings::new(false);
        let provider = LibvirtProvider::new(client.clone(), settings);
        Self {
            client,
            provider,
            resources: BTreeMap::new(),
            environment: name("lab"),
            formerly: Vec::new(),
            directory,
            made: RefCell::default(),
        }
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.directory.join(file).to_str().unwrap().to_owned()
    }

    fn tiny(file: &str) -> PathBuf {
        Path::new(&std::env::var(super::TINY).unwrap()).join(file)
    }

    /// Puts the tiny guest's disk into the pool's directory as an image.
    pub(crate) fn place_image(&self) -> Backing {
        let path = self.path("pool/image-tiny-0123.qcow2");
        std::fs::copy(Self::tiny("disk.qcow2"), &path).unwrap();
        Backing { path, format: VolumeFormat::Qcow2 }
    }

    pub(crate) fn want(&mut self, id: &ResourceId, resource: Resource) -> Digest {
        let digest = digest_of(&resource);
        let wanted = DesiredResource {
            resource,
            depends_on: BTreeSet::new(),
            owner: None,
            lifecycle: Lifecycle::default(),
            labels: BTreeMap::new(),
            origin: Origin { path: "environments/lab/all.yaml".to_owned(), line: 1 },
            digest,
        };
        self.resources.insert(id.clone(), Arc::new(wanted));
        digest
    }

    pub(crate) fn scope(&self) -> Scope {
        Scope {
            desired: Arc::new(Desired {
                environment: self.environment.clone(),
                sync: SyncSettings {
                    renamed: Renames { formerly: self.formerly.clone(), ..Renames::default() },
                    ..SyncSettings::default()
                },
                resources: self.resources.clone(),
            }),
            known: Arc::new(self.resources.keys().chain(&*self.made.borrow()).cloned().collect()),
            claims: Arc::default(),
            awaited: Arc::default(),
            fresh: false,
        }
    }

    pub(crate) async fn observe(&self) -> Observed {
        self.provider.observe(&self.scope()).await.unwrap()
    }

    pub(crate) async fn seen(&self, id: &str) -> Observation {
        let seen = self.observe().await;
        let found = seen.resources.get(&id.parse().unwrap()).cloned();
        found.unwrap_or_else(|| panic!("{id} is not there: {seen:#?}"))
    }

    pub(crate) async fn try_act(&self, id: &str, action: Action) -> Result<Outcome, Fault> {
        let step = Step {
            resource: id.parse().unwrap(),
            action,
            disruption: Disruption::None,
            reason: Reason::Missing,
            changes: Vec::new(),
            after: BTreeSet::new(),
            interrupts: BTreeSet::new(),
        };
        let told: trueup::port::Progress = Arc::new(|_| {});
        self.provider.perform(&step, &self.scope(), told).await
    }

    /// Performs an action that has something to do, and again, when it has not.
    pub(crate) async fn act(&self, id: &str, action: Action) -> Outcome {
        let begun = std::time::Instant::now();
        let outcome = self.try_act(id, action.clone()).await;
        let outcome = outcome.unwrap_or_else(|fault| panic!("{} {id}: {fault}", action.verb()));
        assert!(!outcome.already, "{} {id} found nothing to do", action.verb());
        let took = begun.elapsed().as_secs_f64();
        self.made.borrow_mut().insert(id.parse().unwrap());
        let again = self.try_act(id, action.clone()).await.unwrap();
        assert!(again.already, "{} {id}: twice is not once", action.verb());
        eprintln!("{} {id}: {took:.2} s {:?}", action.verb(), outcome.facts);
        outcome
    }

    /// What is seen of `id` is what is wanted, in what is configured and in what runs.
    pub(crate) async fn assert_converged(&self, id: &str) {
        let seen = self.seen(id).await;
        let wanted = &self.resources[&id.parse::<ResourceId>().unwrap()].resource;
        for form in [Some(&seen.config), seen.live.as_ref()].into_iter().flatten() {
            match (wanted, form) {
                (Resource::VirtualMachine(want), Resource::VirtualMachine(form)) => {
                    assert_eq!(domain::owned(want, form), **want);
                    assert_eq!(form.autostart, want.autostart);
                    assert_eq!(form.power, want.power);
                }
                (Resource::Network(want), Resource::Network(form)) => {
                    assert_eq!(network::owned(want, form), *want);
                }
                (want, form) => assert_eq!(form, want),
            }
        }
    }

    pub(crate) fn uuid(id: &str) -> uuid::Uuid {
        uuid_for(&name("lab"), &id.parse().unwrap())
    }

    pub(crate) fn pool(&self) -> StoragePool {
        StoragePool { path: self.path("pool"), autostart: true }
    }

    pub(crate) fn disk(&self, file: &str, backing: Option<Backing>) -> Disk {
        Disk {
            pool: name("fast"),
            path: self.path(&format!("pool/{file}.qcow2")),
            format: VolumeFormat::Qcow2,
            size: 64 << 20,
            backing,
            on_image_change: None,
            way_back: None,
        }
    }

    /// The tiny guest on the network `lab`, with room to grow.
    pub(crate) fn vm(&self) -> VirtualMachine {
        VirtualMachine {
            accelerator: None,
            machine: Some("q35".to_owned()),
            firmware: Firmware::Bios,
            boot: Boot::Kernel {
                kernel: Self::tiny("vmlinuz").to_str().unwrap().to_owned(),
                initrd: Some(Self::tiny("initrd.gz").to_str().unwrap().to_owned()),
                cmdline: Some("console=ttyS0 quiet panic=-1".to_owned()),
            },
            cpus: Cpus { count: 1, max: 2, mode: None, topology: None, pinning: BTreeMap::new() },
            memory: Memory { current: 192 << 10, max: 256 << 10, hugepages: None },
            disks: vec![self.attachment("vda", "web")],
            nics: vec![nic(WEB_MAC, "lab")],
            host_devices: Vec::new(),
            gpus: Vec::new(),
            console_log: Some(self.path("console/web.log")),
            guest_agent: true,
            autostart: true,
            power: Power::Running,
            stop: None,
            readiness: None,
            snapshot: None,
            way_back: None,
        }
    }

    pub(crate) fn attachment(&self, target: &str, file: &str) -> DiskAttachment {
        DiskAttachment {
            target: target.to_owned(),
            bus: DiskBus::Virtio,
            device: DiskDevice::Disk,
            path: Some(self.path(&format!("pool/{file}.qcow2"))),
            format: VolumeFormat::Qcow2,
            read_only: false,
            boot_order: None,
        }
    }

    pub(crate) async fn define_vm(&mut self, vm: &VirtualMachine) {
        self.want(&id("vm/web"), Resource::VirtualMachine(Box::new(vm.clone())));
        let (vm, uuid) = (Box::new(vm.clone()), Self::uuid("vm/web"));
        self.act("vm/web", Action::VmDefine { vm, uuid }).await;
    }

    pub(crate) async fn define_network(&mut self, network: &Network) {
        self.want(&id("network/lab"), Resource::Network(network.clone()));
        let (network, uuid) = (network.clone(), Self::uuid("network/lab"));
        self.act("network/lab", Action::NetworkDefine { network, uuid }).await;
    }

    pub(crate) async fn await_console(&self, line: &str) -> Outcome {
        let probe = trueup::model::resource::Probe::Console { line: line.to_owned() };
        let readiness = Readiness { probe, timeout_s: 120 };
        let console_log = Some(self.path("console/web.log"));
        let action = Action::VmAwaitReady { readiness, console_log };
        self.try_act("vm/web", action).await.unwrap()
    }
}

pub(crate) fn nic(mac: &str, network: &str) -> Nic {
    Nic {
        mac: mac.to_owned(),
        source: NicSource::Network(network.to_owned()),
        model: "virtio".to_owned(),
        boot_order: None,
    }
}

pub(crate) fn lab() -> Network {
    Network {
        mode: NetworkMode::Nat,
        bridge: None,
        addresses: vec![NetworkAddress {
            address: "10.91.0.1/24".parse().unwrap(),
            dhcp: Some(Dhcp {
                ranges: vec![AddressRange {
                    start: "10.91.0.100".parse().unwrap(),
                    end: "10.91.0.200".parse().unwrap(),
                }],
                hosts: vec![lease(5, "web")],
            }),
        }],
        dns: None,
        domain: None,
        mtu: None,
        autostart: true,
    }
}

pub(crate) fn lease(last: u8, host: &str) -> DhcpHost {
    DhcpHost {
        mac: format!("52:54:00:91:00:{last:02x}"),
        ip: format!("10.91.0.{last}").parse().unwrap(),
        name: Some(host.to_owned()),
    }
}

pub(crate) const GRACEFUL: StopPolicy = StopPolicy { timeout_s: 90, force: false };
