//! What happens to the machine other than by NVML: reboots, losses, processes that come and go.
//!
//! Edits are data, so that a script, a test and a fault can all order them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::board::boards;
use crate::state::{Event, Gpu, Health, Mode, Process, State};

/// Events kept: a watcher reads them within moments, and the state stays small.
pub const EVENTS_MAX: usize = 64;

/// NVML's bit for a critical error.
const XID_CRITICAL: u64 = 8;

/// A change of the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Edit {
    /// The machine is switched off and on.
    Reboot,
    /// The kernel module is unloaded and loaded.
    DriverReload {
        /// The version from now on.
        #[serde(default)]
        driver: Option<String>,
    },
    /// The kernel module is unloaded, and stays so until a reload.
    DriverUnload,
    /// A GPU is reset: its pending mode comes into force.
    Reset {
        /// Its index.
        gpu: usize,
    },
    /// A GPU falls off the bus.
    Lose {
        /// Its index.
        gpu: usize,
    },
    /// A lost GPU is back.
    Return {
        /// Its index.
        gpu: usize,
    },
    /// A process appears.
    AddProcess {
        /// The index of the GPU.
        gpu: usize,
        /// The process.
        process: Process,
    },
    /// A process is gone from every GPU.
    RemoveProcess {
        /// Its id.
        pid: u32,
    },
    /// So many clients hold a compute instance without being listed.
    Hold {
        /// The index of the GPU.
        gpu: usize,
        /// The start of the GPU instance.
        start: u32,
        /// How many; 0 frees it.
        holders: u32,
    },
    /// NVML reports something.
    Event {
        /// The index of the GPU.
        gpu: usize,
        /// One bit, as in NVML: 8 is a critical Xid.
        kind: u64,
        /// The Xid, for that kind.
        #[serde(default)]
        data: u64,
        /// The start of the GPU instance concerned.
        #[serde(default)]
        start: Option<u32>,
    },
    /// The driver reports a critical error of a GPU.
    Xid {
        /// The index of the GPU.
        gpu: usize,
        /// NVIDIA's number of it.
        xid: u64,
        /// The start of the GPU instance concerned.
        #[serde(default)]
        start: Option<u32>,
    },
    /// A GPU is something else, or its sensors say something else; members not named stay.
    Gpu {
        /// The index of the GPU.
        gpu: usize,
        /// A JSON merge patch (RFC 7386) of it.
        patch: Value,
    },
    /// Anything else: a JSON merge patch (RFC 7386) of the whole state.
    Patch {
        /// The patch.
        patch: Value,
    },
}

/// Why an edit was not made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// There is no such GPU.
    #[error("no gpu {gpu}, there are {count}")]
    NoGpu {
        /// The index asked for.
        gpu: usize,
        /// How many there are.
        count: usize,
    },
    /// There is no such instance.
    #[error("gpu {gpu} has no instance that starts at {start}")]
    NoInstance {
        /// The index of the GPU.
        gpu: usize,
        /// The start asked for.
        start: u32,
    },
    /// There is no such board.
    #[error("no board `{board}`; there are: {known}")]
    NoBoard {
        /// The key asked for.
        board: String,
        /// The keys there are.
        known: String,
    },
    /// A patch does not leave a valid state, or the table of boards does not parse.
    #[error("not a state: {source}")]
    Shape {
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
}

impl From<serde_json::Error> for EditError {
    fn from(source: serde_json::Error) -> Self {
        Self::Shape { source }
    }
}

impl State {
    /// A machine with these boards, in order, every one of them in good health and not cut.
    ///
    /// # Errors
    ///
    /// A key that no board has.
    pub fn with_boards(keys: &[&str]) -> Result<Self, EditError> {
        let table = boards()?;
        let mut state = Self {
            driver: "580.95.05".to_owned(),
            driver_loaded: true,
            epoch: 1,
            last_serial: 0,
            profile_indices: 18,
            boards: std::collections::BTreeMap::new(),
            gpus: Vec::new(),
            faults: std::collections::BTreeMap::new(),
            events: Vec::new(),
            log_reads: false,
        };
        for (index, key) in keys.iter().enumerate() {
            let board = table.get(*key).ok_or_else(|| EditError::NoBoard {
                board: (*key).to_owned(),
                known: table.keys().cloned().collect::<Vec<_>>().join(", "),
            })?;
            state.boards.insert((*key).to_owned(), board.clone());
            state.gpus.push(fresh(index, key));
        }
        Ok(state)
    }

    /// Makes the edit.
    ///
    /// # Errors
    ///
    /// It names what is not there, or leaves no valid state; the state is then unchanged.
    pub fn edit(&mut self, edit: &Edit) -> Result<(), EditError> {
        match edit {
            Edit::Reboot => self.restart(|board| board.mode_kept_by_reboot, true),
            Edit::DriverReload { driver } => {
                if let Some(driver) = driver {
                    self.driver.clone_from(driver);
                }
                self.restart(|board| board.mode_kept_by_reload, false);
            }
            Edit::DriverUnload => {
                self.restart(|board| board.mode_kept_by_reload, false);
                self.driver_loaded = false;
            }
            Edit::Reset { gpu } => {
                let gpu = self.gpu_mut(*gpu)?;
                gpu.instances.clear();
                gpu.processes.clear();
                gpu.health.after_reset();
                gpu.mig = gpu.mig.map(|mode| Mode { current: mode.pending, ..mode });
            }
            Edit::Lose { gpu } => self.gpu_mut(*gpu)?.lost = true,
            Edit::Return { gpu } => self.gpu_mut(*gpu)?.lost = false,
            Edit::AddProcess { gpu, process } => {
                self.gpu_mut(*gpu)?.processes.push(process.clone());
            }
            Edit::RemoveProcess { pid } => {
                for gpu in &mut self.gpus {
                    gpu.processes.retain(|process| process.pid != *pid);
                }
            }
            Edit::Hold { gpu, start, holders } => self.hold(*gpu, *start, *holders)?,
            Edit::Event { gpu, kind, data, start } => self.report(*gpu, *kind, *data, *start)?,
            Edit::Xid { gpu, xid, start } => self.report(*gpu, XID_CRITICAL, *xid, *start)?,
            Edit::Gpu { gpu, patch } => {
                let gpu = self.gpu_mut(*gpu)?;
                let mut whole = serde_json::to_value(&*gpu)?;
                merge(&mut whole, patch);
                *gpu = serde_json::from_value(whole)?;
            }
            Edit::Patch { patch } => {
                let mut whole = serde_json::to_value(&*self)?;
                merge(&mut whole, patch);
                *self = serde_json::from_value(whole)?;
            }
        }
        Ok(())
    }

    /// A number that nothing had before.
    pub fn next_serial(&mut self) -> u64 {
        self.last_serial += 1;
        self.last_serial
    }

    fn gpu_mut(&mut self, index: usize) -> Result<&mut Gpu, EditError> {
        let count = self.gpus.len();
        self.gpus.get_mut(index).ok_or(EditError::NoGpu { gpu: index, count })
    }

    fn report(
        &mut self,
        gpu: usize,
        kind: u64,
        data: u64,
        start: Option<u32>,
    ) -> Result<(), EditError> {
        self.gpu_mut(gpu)?;
        let serial = self.next_serial();
        self.events.push(Event { serial, gpu, kind, data, start });
        let surplus = self.events.len().saturating_sub(EVENTS_MAX);
        self.events.drain(..surplus);
        Ok(())
    }

    fn hold(&mut self, gpu: usize, start: u32, holders: u32) -> Result<(), EditError> {
        let found = self.gpu_mut(gpu)?.instances.iter_mut().find(|one| one.start == start);
        let instance = found.ok_or(EditError::NoInstance { gpu, start })?;
        for compute in &mut instance.compute {
            compute.hidden_holders = holders;
        }
        Ok(())
    }

    /// Instances go with the driver; the mode stays where the board keeps it, and a mode that
    /// waited for a reset comes into force.
    fn restart(&mut self, keeps: impl Fn(&crate::board::Board) -> bool, power_cycle: bool) {
        self.epoch += 1;
        self.driver_loaded = true;
        for gpu in &mut self.gpus {
            let kept = self.boards.get(&gpu.board).is_some_and(&keeps);
            gpu.mig = gpu.mig.map(|mode| {
                let on = kept && mode.pending;
                Mode { current: on, pending: on }
            });
            gpu.instances.clear();
            gpu.processes.clear();
            gpu.hidden_holders = 0;
            gpu.health.after_reset();
            if power_cycle {
                gpu.lost = false;
            }
        }
    }
}

impl Health {
    /// Counters since the driver was loaded begin anew, and what waited for a reset was done by it.
    fn after_reset(&mut self) {
        self.recovery = self.recovery.map(|_| 0);
        self.ecc_volatile = self.ecc_volatile.map(|_| (0, 0));
        self.retirement_pending = self.retirement_pending.map(|_| false);
        self.remapped_rows = self
            .remapped_rows
            .map(|(corrected, uncorrected, _, failed)| (corrected, uncorrected, false, failed));
    }
}

fn fresh(index: usize, board: &str) -> Gpu {
    Gpu {
        board: board.to_owned(),
        uuid: format!("GPU-{index:08x}-fa4e-4000-8000-{index:012x}"),
        serial: Some(format!("16500{index:08}")),
        pci: format!("0000:{:02x}:00.0", 7 + index),
        minor: u32::try_from(index).unwrap_or(u32::MAX),
        vbios: "96.00.5E.00.01".to_owned(),
        mig: Some(Mode::default()),
        lost: false,
        mirrored: false,
        resets_itself: false,
        destroy_refusals: 0,
        virtualization: 0,
        hidden_holders: 0,
        persistence: true,
        display_active: false,
        instances: Vec::new(),
        processes: Vec::new(),
        health: Health {
            ecc_mode: Some((true, true)),
            ecc_volatile: Some((0, 0)),
            ecc_aggregate: Some((0, 0)),
            remapped_rows: Some((0, 0, false, false)),
            temperature: Some(41),
            power: Some(68_250),
            power_limit: Some(400_000),
            clocks: Some([1410, 1410, 1593, 1275]),
            clock_reasons: Some(1),
            ..Health::default()
        },
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(into) = target else { return };
    for (name, value) in members {
        if value.is_null() {
            into.remove(name);
        } else {
            merge(into.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}
