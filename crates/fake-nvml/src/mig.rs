//! What the firmware and the driver do with instances: modes, placement, ids, refusals.
//!
//! Pure: it changes the state it is given and nothing else.

use crate::board::{Board, Engines, Profile};
use crate::code::{Code, Outcome};
use crate::state::{ComputeInstance, Gpu, GpuInstance, Mode, State};

impl State {
    /// The board of a GPU.
    pub(crate) fn board(&self, gpu: &Gpu) -> Outcome<&Board> {
        self.boards.get(&gpu.board).ok_or(Code::UNKNOWN)
    }

    /// Asks for a mode; gives the activation status, which is not the return code.
    pub(crate) fn set_mode(&mut self, gpu: usize, on: bool) -> Outcome<u32> {
        let needs_reset = self.board(&self.gpus[gpu])?.needs_reset;
        let gpu = &mut self.gpus[gpu];
        let mode = gpu.mig.ok_or(Code::NOT_SUPPORTED)?;
        if mode.current == on {
            gpu.mig = Some(Mode { current: on, pending: on });
            return Ok(0);
        }
        gpu.mig = Some(Mode { pending: on, ..mode });
        if !gpu.instances.is_empty() || !gpu.processes.is_empty() || gpu.hidden_holders > 0 {
            return Ok(Code::IN_USE.0);
        }
        // A guest may not reset the GPU that was passed through to it.
        if needs_reset && (!gpu.resets_itself || gpu.virtualization == 1) {
            return Ok(Code::RESET_REQUIRED.0);
        }
        gpu.mig = Some(Mode { current: on, pending: on });
        Ok(0)
    }

    /// Makes an instance, where it is told to or where the firmware would put it; gives its serial.
    pub(crate) fn create_instance(
        &mut self,
        index: usize,
        profile: u32,
        placement: Option<(u32, u32)>,
    ) -> Outcome<u64> {
        let gpu = &self.gpus[index];
        if !gpu.mig.is_some_and(|mode| mode.current) {
            return Err(Code::NOT_SUPPORTED);
        }
        let board = self.board(gpu)?;
        let profile = board.profile(profile).ok_or(Code::INVALID_ARGUMENT)?;
        if gpu.instances.is_empty() && (!gpu.processes.is_empty() || gpu.hidden_holders > 0) {
            return Err(Code::IN_USE);
        }
        let start = match placement {
            Some((start, size)) if profile.starts.contains(&start) && size == profile.size => start,
            Some(_) => return Err(Code::INVALID_ARGUMENT),
            None => firmware_start(board, gpu, profile).ok_or(Code::INSUFFICIENT_RESOURCES)?,
        };
        if !fits(board, gpu, profile, start) {
            return Err(Code::INSUFFICIENT_RESOURCES);
        }
        let id = instance_id(board, gpu.mirrored, profile.size, start);
        let profile = profile.id;
        let serial = self.next_serial();
        let made = GpuInstance { serial, id, profile, start, compute: Vec::new(), refusals: 0 };
        self.gpus[index].instances.push(made);
        Ok(serial)
    }

    /// Destroys an instance, if nothing is in it and the driver feels like it.
    pub(crate) fn destroy_instance(&mut self, gpu: usize, place: usize) -> Outcome {
        let instance = &mut self.gpus[gpu].instances[place];
        if !instance.compute.is_empty() {
            return Err(Code::IN_USE);
        }
        if instance.refusals > 0 {
            instance.refusals -= 1;
            return Err(Code::IN_USE);
        }
        self.gpus[gpu].instances.remove(place);
        Ok(())
    }

    /// Makes a compute instance; gives its serial.
    pub(crate) fn create_compute(
        &mut self,
        gpu: usize,
        place: usize,
        profile: u32,
        placement: Option<(u32, u32)>,
    ) -> Outcome<u64> {
        let slices = self.slices_of(gpu, place)?;
        let instance = &self.gpus[gpu].instances[place];
        let size = compute_size(profile, slices).ok_or(Code::INVALID_ARGUMENT)?;
        let starts = compute_starts(size, slices);
        let free = |start: u32| {
            instance
                .compute
                .iter()
                .all(|one| start + size <= one.start || one.start + one.size <= start)
        };
        let start = match placement {
            Some((start, asked)) if starts.contains(&start) && asked == size => start,
            Some(_) => return Err(Code::INVALID_ARGUMENT),
            None => {
                starts.into_iter().find(|start| free(*start)).ok_or(Code::INSUFFICIENT_RESOURCES)?
            }
        };
        if !free(start) {
            return Err(Code::INSUFFICIENT_RESOURCES);
        }
        let id = (0..).find(|id| instance.compute.iter().all(|one| one.id != *id)).unwrap_or(0);
        let serial = self.next_serial();
        let uuid = format!("MIG-{serial:08x}-fa4e-5000-8000-{gpu:012x}");
        let made = ComputeInstance { serial, id, profile, start, size, uuid, hidden_holders: 0 };
        self.gpus[gpu].instances[place].compute.push(made);
        Ok(serial)
    }

    /// Destroys a compute instance that nobody holds.
    pub(crate) fn destroy_compute(&mut self, gpu: usize, place: usize, compute: usize) -> Outcome {
        let gpu = &mut self.gpus[gpu];
        let instance = &mut gpu.instances[place];
        let one = &instance.compute[compute];
        let used = gpu
            .processes
            .iter()
            .any(|process| process.start == Some(instance.start) && process.compute == one.id);
        if used || one.hidden_holders > 0 {
            return Err(Code::IN_USE);
        }
        instance.compute.remove(compute);
        instance.refusals = gpu.destroy_refusals;
        Ok(())
    }

    /// How many more instances of a profile could be made.
    pub(crate) fn remaining(&self, gpu: &Gpu, profile: &Profile) -> Outcome<u32> {
        let board = self.board(gpu)?;
        let mut gpu = gpu.clone();
        let mut count = 0;
        for start in &profile.starts {
            if fits(board, &gpu, profile, *start) {
                count += 1;
                gpu.instances.push(GpuInstance {
                    serial: 0,
                    id: 0,
                    profile: profile.id,
                    start: *start,
                    compute: Vec::new(),
                    refusals: 0,
                });
            }
        }
        Ok(count)
    }

    /// The compute slices of an instance.
    pub(crate) fn slices_of(&self, gpu: usize, place: usize) -> Outcome<u32> {
        let gpu = &self.gpus[gpu];
        let profile = self.board(gpu)?.profile(gpu.instances[place].profile);
        profile.map(|profile| profile.slices).ok_or(Code::UNKNOWN)
    }
}

/// Placement, count and shared engines.
fn fits(board: &Board, gpu: &Gpu, profile: &Profile, start: u32) -> bool {
    let taken = |instance: &GpuInstance| board.profile(instance.profile);
    let apart = gpu.instances.iter().all(|instance| {
        taken(instance).is_none_or(|other| {
            start + profile.size <= instance.start || instance.start + other.size <= start
        })
    });
    let alike = gpu.instances.iter().filter(|instance| instance.profile == profile.id).count();
    let sum = |of: fn(&Engines) -> u32| {
        of(&profile.engines)
            + gpu.instances.iter().filter_map(taken).map(|one| of(&one.engines)).sum::<u32>()
    };
    apart
        && alike < profile.max as usize
        && sum(|engines| engines.dec) <= board.engines.dec
        && sum(|engines| engines.enc) <= board.engines.enc
        && sum(|engines| engines.jpeg) <= board.engines.jpeg
        && sum(|engines| engines.ofa) <= board.engines.ofa
}

/// Where an instance goes when nobody says: the smallest free aligned block; the board as a whole
/// is filled from its end, every smaller block from its beginning. It reproduces the published
/// observations; the firmware's rule itself is not public.
fn firmware_start(board: &Board, gpu: &Gpu, profile: &Profile) -> Option<u32> {
    let key = |start: u32| {
        let block = free_block(board, gpu, start, profile.size);
        let from_the_end = if block == board.units { board.units - start } else { start };
        (block, from_the_end)
    };
    let open = profile.starts.iter().copied().filter(|start| fits(board, gpu, profile, *start));
    open.min_by_key(|start| key(*start))
}

/// The size of the largest free aligned block around a placement.
fn free_block(board: &Board, gpu: &Gpu, start: u32, size: u32) -> u32 {
    let free = |from: u32, len: u32| {
        gpu.instances.iter().all(|instance| {
            let taken = board.profile(instance.profile).map_or(0, |other| other.size);
            from + len <= instance.start || instance.start + taken <= from
        })
    };
    let mut block = board.units;
    while block > size && !free(start / block * block, block) && block.is_multiple_of(2) {
        block /= 2;
    }
    block.max(size)
}

/// Ids as the driver numbers them: 0 the whole, 1 and 2 the halves, 3 to 6 the quarters, 7 to 14
/// the eighths; some boards count from the other end.
fn instance_id(board: &Board, mirrored: bool, size: u32, start: u32) -> u32 {
    let parts = board.units / size.max(1);
    let first = match parts {
        0 | 1 => return 0,
        2 => 1,
        3 | 4 => 3,
        _ => 7,
    };
    let shift = if mirrored { board.units / 2 } else { 0 };
    first + (start + shift) % board.units / size
}

/// Slices of the compute profile with this id (which is its enum index), if the instance has it.
pub(crate) fn compute_size(profile: u32, slices: u32) -> Option<u32> {
    let size = [1, 2, 3, 4, 7, 8, 6].get(profile as usize).copied()?;
    (size <= slices).then_some(size)
}

/// Where a compute instance of so many slices may start.
pub(crate) fn compute_starts(size: u32, slices: u32) -> Vec<u32> {
    let step = if size == slices { slices } else { size.next_power_of_two() };
    (0..slices).step_by(step as usize).filter(|start| start + size <= slices).collect()
}
