//! A world with a simulated NVML: a library of its own in a folder of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use trueup::plan::{Plan, SkipReason, render};
use trueup::provider::gpu::{GpuProvider, GpuSetup, SharedHands, Tools};
use trueup::reconcile::{PassError, PassOptions, PassReport};
use trueup::state::ResourceState;
use trueup_fake_nvml::{Edit, Fault, Mode, Process, State, Store, install};
use trueup_gpu_sysfs::{Error, Hands, Patience, Root};

use super::kernel::{Kernel, patience};
use crate::world::World;

/// The UUID of the GPU with this index.
pub(super) fn uuid(index: usize) -> String {
    format!("GPU-{index:08x}-fa4e-4000-8000-{index:012x}")
}

/// A layout document; `more` is indented by two and added to its spec.
pub(super) fn layout(name: &str, gpu: usize, mode: &str, more: &str) -> String {
    format!(
        "apiVersion: trueup/v1\nkind: GpuLayout\nmetadata: {{ name: {name} }}\nspec:\n  match: {{ \
         uuid: {} }}\n  mode: {mode}\n{more}",
        uuid(gpu)
    )
}

/// The partitions that most tests begin with: 3g at 4, and three of 1g.
pub(super) const FIRST: &str = "  partitions:\n    - { name: train, shape: 3g, start: 4 }\n    - { \
                                name: infer, profile: 1g.10gb, count: 3 }\n";

/// A machine, its repository and the program.
pub(super) struct Lab {
    pub(super) world: World,
    pub(super) store: Store,
    pub(super) library: PathBuf,
    pub(super) folder: TempDir,
    /// What writes to the kernel's files; none of the machine's own are ever written.
    hands: SharedHands,
}

impl Lab {
    /// GPUs of these boards, uncut.
    pub(super) async fn with(boards: &[&str]) -> Self {
        Self::of(State::with_boards(boards).unwrap()).await
    }

    /// One H100 that is cut into nothing yet.
    pub(super) async fn cut() -> Self {
        let mut state = State::with_boards(&["h100-80gb"]).unwrap();
        state.gpus[0].mig = Some(Mode { current: true, pending: true });
        Self::of(state).await
    }

    pub(super) async fn of(state: State) -> Self {
        let folder = TempDir::new().unwrap();
        let (library, store) = install(folder.path(), state).unwrap();
        let world = World::new().await;
        std::fs::create_dir_all(folder.path().join("root/proc")).unwrap();
        let hands = SharedHands::new(Nobody);
        let mut lab = Self { world, store, library, folder, hands };
        lab.restart().await;
        lab.world.remote.write("trueup.yaml", include_str!("../scenarios/repository.yaml"));
        let environment = "apiVersion: trueup/v1\nkind: Environment\nmetadata: { name: lab }\nspec: \
                           {}\n";
        lab.world.remote.write("environments/lab/environment.yaml", environment);
        lab
    }

    /// The program, started anew with a provider that has loaded nothing.
    pub(super) async fn restart(&mut self) {
        let provider = self.provider();
        self.world.hand_over_to(Arc::new(provider)).await;
    }

    pub(super) fn provider(&self) -> GpuProvider {
        let path = |name: &str| self.folder.path().join(name);
        let tools = Tools {
            systemctl: path("systemctl"),
            nvidia_ctk: path("nvidia-ctk"),
            nvidia_smi: path("nvidia-smi"),
            cdi_spec: path("cdi.yaml"),
        };
        GpuProvider::new(GpuSetup {
            library: Some(self.library.clone()),
            root: path("root"),
            tools,
            hands: self.hands.clone(),
            patience: patience(),
        })
    }

    /// The kernel's files of a host that has its GPU, which nothing keeps open; and hands for them.
    pub(super) async fn kernel(&mut self) -> Kernel {
        let kernel = Kernel::new(&self.folder.path().join("root"));
        self.edit(&Edit::Gpu { gpu: 0, patch: serde_json::json!({ "persistence": false }) });
        self.hands = SharedHands::new(kernel.clone());
        self.restart().await;
        kernel
    }

    /// Does something right before every write to the kernel's files.
    pub(super) async fn before_writes(&mut self, does: impl Fn(&str) + Send + 'static) {
        self.hands = SharedHands::new(Before { does, hands: self.hands.clone() });
        self.restart().await;
    }

    /// A program that notes its arguments, and then does `more` as a shell would.
    pub(super) fn tool(&self, name: &str, more: &str) {
        let (path, log) = (self.folder.path().join(name), self.folder.path().join("calls"));
        let log = log.display();
        std::fs::write(&path, format!("#!/bin/sh\necho {name} \"$@\" >> {log}\n{more}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What was called, in order.
    pub(super) fn tool_calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// Writes a file of the machine.
    pub(super) fn file(&self, path: &str, text: &str) {
        let path = self.folder.path().join("root").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A process of a unit with these devices open. Capability files are as the driver numbers them
    /// for the layouts of these tests.
    pub(super) fn opens(&self, pid: u32, comm: &str, unit: &str, devices: &[&str]) {
        self.file("proc/driver/nvidia/gpus/0000:07:00.0/information", "Device Minor: \t 0\n");
        let minors = "config 1\nmonitor 2\ngpu0/gi7/access 30\ngpu0/gi7/ci0/access 31\n";
        self.file("proc/driver/nvidia-caps/mig-minors", minors);
        self.file(&format!("proc/{pid}/comm"), &format!("{comm}\n"));
        self.file(&format!("proc/{pid}/cgroup"), &format!("0::/system.slice/{unit}\n"));
        let folder = self.folder.path().join(format!("root/proc/{pid}/fd"));
        std::fs::create_dir_all(&folder).unwrap();
        for (number, device) in devices.iter().enumerate() {
            std::os::unix::fs::symlink(device, folder.join(number.to_string())).unwrap();
        }
    }

    /// A process ends.
    pub(super) fn closes(&self, pid: u32) {
        std::fs::remove_dir_all(self.folder.path().join(format!("root/proc/{pid}"))).unwrap();
    }

    pub(super) fn commit(&self, documents: &[String]) {
        self.world.remote.write("environments/lab/gpus.yaml", &documents.join("---\n"));
        self.world.remote.commit("layouts");
    }

    pub(super) async fn pass(&self) -> PassReport {
        let options = PassOptions { retry_now: true, wait: true, ..PassOptions::default() };
        let report = self.world.program.pass(options).await.unwrap();
        let rejected = self.world.state().spec.rejected;
        assert!(rejected.is_none(), "{rejected:?}");
        report
    }

    /// A pass that is killed at its `n`th point, and a new start of the program. Whether it had so many.
    pub(super) async fn pass_killed_at(&mut self, n: usize) -> bool {
        self.world.crash.arm(n);
        let options = PassOptions { retry_now: true, wait: true, ..PassOptions::default() };
        let killed = matches!(self.world.program.pass(options).await, Err(PassError::Crashed));
        self.world.crash.arm(usize::MAX);
        self.restart().await;
        killed
    }

    /// A pass that leaves alone what failed before.
    pub(super) async fn pass_once(&self) -> PassReport {
        let options = PassOptions { wait: true, ..PassOptions::default() };
        self.world.program.pass(options).await.unwrap()
    }

    /// Passes until nothing is planned any more.
    pub(super) async fn settle(&self) {
        for _ in 0..6 {
            let report = self.pass().await;
            if report.plan.as_ref().is_none_or(Plan::is_empty) && report.failed == 0 {
                return;
            }
        }
        panic!("it does not settle; the log ends with\n{}", self.world.log.tail(30));
    }

    /// The plan, not performed.
    pub(super) async fn plan(&self) -> Plan {
        self.world.program.preview(true).await.unwrap().plan.unwrap()
    }

    pub(super) fn known(&self, id: &str) -> ResourceState {
        self.world.state().resources[&id.parse().unwrap()].clone()
    }

    pub(super) fn failure(&self, id: &str) -> String {
        self.known(id).failure.map(|failure| failure.fault.to_string()).unwrap_or_default()
    }

    pub(super) fn edit(&mut self, edit: &Edit) {
        self.store.edit(edit).unwrap();
    }

    pub(super) fn process(&mut self, pid: u32, start: u32) {
        let process = Process { pid, start: Some(start), ..Process::default() };
        self.edit(&Edit::AddProcess { gpu: 0, process });
    }

    pub(super) fn fault(&mut self, function: &str, fault: Fault) {
        let add = |state: &mut State| {
            state.faults.entry(function.to_owned()).or_default().push(fault);
        };
        self.store.change(add).unwrap();
    }

    pub(super) fn no_more_faults(&mut self) {
        self.store.change(|state| state.faults.clear()).unwrap();
    }

    /// Looks until the log tells of this: a report comes by a thread of its own.
    pub(super) async fn reported(&self, what: &str) {
        let told = async {
            loop {
                self.pass().await;
                let events = self.world.log.events();
                let says = |event: &trueup::event::Event| trueup::view::describe(event);
                if events.iter().any(|it| says(&it.entry.event).contains(what)) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let limit = std::time::Duration::from_secs(30);
        assert!(
            tokio::time::timeout(limit, told).await.is_ok(),
            "{what}: {}",
            self.world.log.tail(20)
        );
    }

    /// What stands on a GPU: profile id, start, and the number of compute instances.
    pub(super) fn stands(&mut self, gpu: usize) -> Vec<(u32, u32, usize)> {
        let state = self.store.read().unwrap();
        let instances = state.gpus[gpu].instances.iter();
        let mut all: Vec<_> =
            instances.map(|it| (it.profile, it.start, it.compute.len())).collect();
        all.sort_by_key(|(_, start, _)| *start);
        all
    }

    /// UUIDs of the MIG devices of the instance that starts there.
    pub(super) fn devices(&mut self, gpu: usize, start: u32) -> Vec<String> {
        let state = self.store.read().unwrap();
        let found = state.gpus[gpu].instances.iter().find(|it| it.start == start).unwrap();
        found.compute.iter().map(|it| it.uuid.clone()).collect()
    }

    /// Calls that changed the GPUs, since the last time.
    pub(super) fn calls(&self) -> Vec<String> {
        self.store.calls().unwrap()
    }
}

/// Hands of a machine on which nothing of that kind is to be done.
struct Nobody;

impl Hands for Nobody {
    fn write(&mut self, _: &Root, path: &str, _: &str, _: &Patience) -> Result<(), Error> {
        panic!("nobody was to write {path}");
    }

    fn run(&mut self, _: &Root, argv: &[String], _: &Patience) -> Result<(), Error> {
        panic!("nobody was to run {argv:?}");
    }
}

/// Hands before which something happens.
struct Before<F> {
    does: F,
    hands: SharedHands,
}

impl<F: Fn(&str) + Send> Hands for Before<F> {
    fn write(
        &mut self,
        root: &Root,
        path: &str,
        value: &str,
        patience: &Patience,
    ) -> Result<(), Error> {
        (self.does)(path);
        self.hands.write(root, path, value, patience)
    }

    fn run(&mut self, root: &Root, argv: &[String], patience: &Patience) -> Result<(), Error> {
        (self.does)(&argv.join(" "));
        self.hands.run(root, argv, patience)
    }
}

/// Why a layout is left alone.
pub(super) fn why<'p>(plan: &'p Plan, id: &str) -> &'p SkipReason {
    let id = id.parse().unwrap();
    let found = plan.skipped.iter().find(|skipped| skipped.resource == id);
    &found.unwrap_or_else(|| panic!("{id} is not left alone: {}", shown(plan))).why
}

/// The plan as a person sees it.
pub(super) fn shown(plan: &Plan) -> String {
    render::text(plan, render::Style::default())
}
