//! Instances and compute instances, made and destroyed one at a time.
//!
//! Who uses something is asked right before it goes, and what a call that failed did all the same
//! is looked at.

use std::time::Duration;

use trueup_mig::Holder;
use trueup_nvml::{
    Client, Code, ComputeProfileId, ComputeSlot, Error, GpuInstance, GpuRecord, Placement, Process,
    ProfileId, Slot,
};

use super::{Done, Place, Trouble, record};

/// How often a call is made that the driver refuses as in use: right after its compute instances
/// went, or a process ended, an instance stays in use for a moment, about a second at worst.
const TRIES_MAX: u32 = 20;

/// Time between two tries. Nothing announces the moment from which on the driver agrees.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn destroy_compute(client: &Client, place: &Place) -> Result<Done, Trouble> {
    let found = record(client, &place.gpu)?;
    let (Some(instance), Some(part)) = (instance(&found, place), place.part.compute) else {
        return Ok(Done { already: true, uuid: None });
    };
    let compute = instance.compute.iter().find(|it| {
        it.profile.0 == part.profile.0 && part.start.is_none_or(|start| start == it.placement.start)
    });
    let Some(compute) = compute else { return Ok(Done { already: true, uuid: None }) };
    let of = |process: &Process| {
        process.gpu_instance == Some(instance.id) && process.compute_instance == Some(compute.id)
    };
    free(&found, place, of, place.host.hidden().of_compute(&found, instance.id, compute.id))?;
    let slot = ComputeSlot { profile: compute.profile, start: compute.placement.start };
    patiently(|| client.destroy_compute_instance(&place.gpu, place.slot(), slot))
        .map_err(|error| place.held(error))?;
    Ok(Done { already: false, uuid: Some(compute.uuid.clone()) })
}

pub(super) fn destroy_instance(client: &Client, place: &Place) -> Result<Done, Trouble> {
    let found = record(client, &place.gpu)?;
    let Some(instance) = instance(&found, place) else {
        return Ok(Done { already: true, uuid: None });
    };
    let of = |process: &Process| process.gpu_instance == Some(instance.id);
    free(&found, place, of, place.host.hidden().of_instance(&found, instance.id))?;
    patiently(|| client.destroy_gpu_instance(&place.gpu, place.slot()))
        .map_err(|error| place.held(error))?;
    Ok(Done::default())
}

pub(super) fn create_instance(client: &Client, place: &Place) -> Result<Done, Trouble> {
    if instance(&record(client, &place.gpu)?, place).is_some() {
        return Ok(Done { already: true, uuid: None });
    }
    let at = Placement { start: place.part.instance.start, size: place.part.size };
    let profile = place.slot().profile;
    match patiently(|| client.create_gpu_instance(&place.gpu, profile, Some(at))) {
        Ok(made) if made.placement.start == at.start => Ok(Done::default()),
        Ok(made) => {
            let slot = Slot { profile, start: made.placement.start };
            client.destroy_gpu_instance(&place.gpu, slot)?;
            let why = format!("the driver put it at slice {}", made.placement.start);
            Err(Trouble::Other(why))
        }
        Err(error) => {
            // A call may take effect and fail all the same.
            let there =
                record(client, &place.gpu).is_ok_and(|found| instance(&found, place).is_some());
            if there { Ok(Done::default()) } else { Err(place.held(error)) }
        }
    }
}

pub(super) fn create_compute(client: &Client, place: &Place) -> Result<Done, Trouble> {
    let Some(part) = place.part.compute else {
        return Err(Trouble::Other("the step names no compute instance".to_owned()));
    };
    let before = record(client, &place.gpu)?;
    let Some(before) = instance(&before, place) else {
        return Err(Trouble::Other(format!("{} is gone", place.part.label)));
    };
    let alike = |instance: &GpuInstance| {
        instance.compute.iter().filter(|it| it.profile.0 == part.profile.0).count()
    };
    let at_place = |instance: &GpuInstance| {
        instance
            .compute
            .iter()
            .any(|it| it.profile.0 == part.profile.0 && Some(it.placement.start) == part.start)
    };
    if at_place(before) || alike(before) >= place.count {
        return Ok(Done { already: true, uuid: None });
    }
    let profile = ComputeProfileId(part.profile.0);
    let size = before.compute_profiles.iter().find(|it| it.id == profile).map(|it| it.slices);
    let at = part.start.zip(size).map(|(start, size)| Placement { start, size });
    let made = patiently(|| client.create_compute_instance(&place.gpu, place.slot(), profile, at));
    match made {
        Ok(made) => Ok(Done { already: false, uuid: Some(made.uuid) }),
        Err(error) => {
            let now = record(client, &place.gpu);
            let more = now.is_ok_and(|now| {
                instance(&now, place).is_some_and(|now| alike(now) > alike(before))
            });
            if more { Ok(Done::default()) } else { Err(place.held(error)) }
        }
    }
}

impl Place {
    fn slot(&self) -> Slot {
        let placed = self.part.instance;
        Slot { profile: ProfileId(placed.profile.0), start: placed.start }
    }

    /// A refusal as in use, although NVML lists nobody: monitors hold instances without a process.
    fn held(&self, error: Error) -> Trouble {
        if error.code() != Some(Code::InUse) {
            return Trouble::Nvml(error);
        }
        let who = match self.host.hidden().openers() {
            none if none.is_empty() => "a monitor, such as DCGM, may hold it".to_owned(),
            some => format!("these have GPUs open: {}", some.join(", ")),
        };
        let label = &self.part.label;
        Trouble::Busy(format!("the driver says that {label} is in use, by nobody it lists; {who}"))
    }
}

fn instance<'r>(found: &'r GpuRecord, place: &Place) -> Option<&'r GpuInstance> {
    let slot = place.slot();
    found.instances.iter().find(|it| it.profile == slot.profile && it.placement.start == slot.start)
}

/// Whether nobody uses what is about to go.
fn free(
    found: &GpuRecord,
    place: &Place,
    of: impl Fn(&Process) -> bool,
    hidden: Vec<Holder>,
) -> Result<(), Trouble> {
    let mut pids: Vec<u32> = found.processes.iter().filter(|it| of(it)).map(|it| it.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    let listed = pids.into_iter().map(|pid| place.host.holder(pid));
    let who: Vec<String> = listed.chain(hidden).map(|holder| holder.to_string()).collect();
    if who.is_empty() {
        return Ok(());
    }
    Err(Trouble::Busy(format!("{} is used by {}", place.part.label, who.join(", "))))
}

/// Makes a call again while the driver says that something is in use.
pub(super) fn patiently<T>(call: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    let mut tries = 1;
    loop {
        match call() {
            Err(error) if error.code() == Some(Code::InUse) && tries < TRIES_MAX => {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}
