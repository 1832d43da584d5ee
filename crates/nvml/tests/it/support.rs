//! A machine of its own for each test.

use tempfile::TempDir;
use trueup_fake_nvml::{Edit, Fault, State, Store, install};
use trueup_nvml::{
    Client, ComputeProfileId, Error, Gpu, GpuRecord, Made, Placement, ProfileId, Slot,
};

/// A simulated machine, and a client of it.
pub(crate) struct Machine {
    pub(crate) client: Client,
    pub(crate) store: Store,
    pub(crate) library: std::path::PathBuf,
    _folder: TempDir,
}

/// The UUID of the GPU with this index.
pub(crate) fn uuid(index: usize) -> String {
    format!("GPU-{index:08x}-fa4e-4000-8000-{index:012x}")
}

pub(crate) fn slot(profile: u32, start: u32) -> Slot {
    Slot { profile: ProfileId(profile), start }
}

impl Machine {
    pub(crate) fn with(boards: &[&str]) -> Self {
        Self::of(State::with_boards(boards).unwrap())
    }

    /// One GPU with MIG on.
    pub(crate) fn cut(board: &str) -> Self {
        let mut state = State::with_boards(&[board]).unwrap();
        state.gpus[0].mig = Some(trueup_fake_nvml::Mode { current: true, pending: true });
        Self::of(state)
    }

    pub(crate) fn of(state: State) -> Self {
        let folder = TempDir::new().unwrap();
        let (library, store) = install(folder.path(), state).unwrap();
        let client = Client::open(Some(&library)).unwrap();
        Self { client, store, library, _folder: folder }
    }

    pub(crate) fn reopen(&mut self) {
        self.client = Client::open(Some(&self.library)).unwrap();
    }

    pub(crate) fn edit(&mut self, edit: &Edit) {
        self.store.edit(edit).unwrap();
    }

    pub(crate) fn patch(&mut self, gpu: usize, patch: serde_json::Value) {
        self.edit(&Edit::Gpu { gpu, patch });
    }

    pub(crate) fn fault(&mut self, function: &str, fault: Fault) {
        self.store
            .change(|state| state.faults.entry(function.to_owned()).or_default().push(fault))
            .unwrap();
    }

    pub(crate) fn gpu(&self, index: usize) -> GpuRecord {
        match self.client.observe().unwrap().gpus.swap_remove(index) {
            Gpu::Present(record) => *record,
            Gpu::Failed(failed) => panic!("{failed:?}"),
        }
    }

    /// Makes an instance where it is told to.
    pub(crate) fn make(&self, profile: u32, start: u32, size: u32) -> Result<Made, Error> {
        let at = Some(Placement { start, size });
        self.client.create_gpu_instance(&uuid(0), ProfileId(profile), at)
    }

    /// Makes an instance where the firmware likes; gives its start.
    pub(crate) fn make_anywhere(&self, profile: u32) -> Result<u32, Error> {
        let made = self.client.create_gpu_instance(&uuid(0), ProfileId(profile), None)?;
        Ok(made.placement.start)
    }

    /// A compute instance of this profile in the GPU instance; gives its UUID.
    pub(crate) fn compute(&self, slot: Slot, profile: u32) -> Result<String, Error> {
        let profile = ComputeProfileId(profile);
        let made = self.client.create_compute_instance(&uuid(0), slot, profile, None)?;
        Ok(made.uuid)
    }
}
