//! Event sets: a wait ends with an event of the state's queue, or with its time limit.

use std::ffi::{CString, c_uint, c_ulonglong};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeAll, nvmlReturn_t,
};

use super::nvml;
use crate::code::{Code, Outcome};
use crate::entry::{EventSet, Local, boundary, peek, put};
use crate::handle::{Kind, make, open};
use crate::state::State;

nvml! {
    fn nvmlEventSetCreate(set: *mut nvmlEventSet_t) read |_state, local| {
        let serial = local.next();
        // SAFETY: the contract of the function.
        unsafe { put(set, make(Kind::EventSet, 0, serial)) }?;
        local.sets.insert(serial, EventSet::default());
        Ok(())
    }

    fn nvmlEventSetFree(set: nvmlEventSet_t) read |_state, local| {
        let (_, serial) = open(Kind::EventSet, set)?;
        local.sets.remove(&serial).map(drop).ok_or(Code::INVALID_ARGUMENT)
    }

    fn nvmlDeviceGetSupportedEventTypes(device: nvmlDevice_t, kinds: *mut c_ulonglong) read |state, _local| {
        state.gpu_index(device)?;
        // SAFETY: the contract of the function.
        unsafe { put(kinds, nvmlEventTypeAll.into()) }
    }

    fn nvmlDeviceRegisterEvents(device: nvmlDevice_t, kinds: c_ulonglong, set: nvmlEventSet_t) read |state, local| {
        let gpu = state.gpu_index(device)?;
        let (_, serial) = open(Kind::EventSet, set)?;
        let set = local.sets.get_mut(&serial).ok_or(Code::INVALID_ARGUMENT)?;
        *set.kinds.entry(gpu).or_default() |= kinds;
        let newest = state.events.last().map_or(0, |event| event.serial);
        set.seen.get_or_insert(newest);
        Ok(())
    }
}

/// As the function of this name in NVML's reference.
///
/// # Safety
///
/// `data` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    data: *mut nvmlEventData_t,
    timeout_ms: c_uint,
) -> nvmlReturn_t {
    boundary(|| {
        let (_, serial) = open(Kind::EventSet, set)?;
        let path = peek(|_, local| Ok(local.state_file()))?;
        let watch = Watch::on(path.parent().unwrap_or(Path::new(".")))?;
        let end = Instant::now() + Duration::from_millis(timeout_ms.into());
        loop {
            if let Some(event) = peek(|state, local| next(state, local, serial))? {
                // SAFETY: the contract of the function.
                return unsafe { put(data, event) };
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Code::TIMEOUT);
            }
            watch.wait(left)?;
        }
    })
}

fn next(state: &State, local: &mut Local, serial: u64) -> Outcome<Option<nvmlEventData_t>> {
    let set = local.sets.get_mut(&serial).ok_or(Code::INVALID_ARGUMENT)?;
    let seen = set.seen.unwrap_or(0);
    let wanted = |gpu: usize, kind: u64| set.kinds.get(&gpu).is_some_and(|kinds| kinds & kind != 0);
    let mut news = state.events.iter().filter(|event| event.serial > seen);
    let Some(event) = news.find(|event| wanted(event.gpu, event.kind)) else { return Ok(None) };
    set.seen = Some(event.serial);
    let gpu = state.gpus.get(event.gpu).ok_or(Code::UNKNOWN)?;
    let instance = gpu.instances.iter().find(|instance| Some(instance.start) == event.start);
    Ok(Some(nvmlEventData_t {
        device: make(Kind::Gpu, event.gpu, state.epoch),
        eventType: event.kind,
        eventData: event.data,
        gpuInstanceId: instance.map_or(c_uint::MAX, |instance| instance.id),
        computeInstanceId: c_uint::MAX,
    }))
}

/// Wakes when a file of a folder is put in place.
struct Watch(OwnedFd);

impl Watch {
    fn on(folder: &Path) -> Outcome<Self> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let name = CString::new(folder.as_os_str().as_bytes()).map_err(|_| Code::UNKNOWN)?;
        // SAFETY: it takes flags and gives a descriptor or -1.
        let raw = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
        if raw < 0 {
            return Err(Code::UNKNOWN);
        }
        // SAFETY: it was just given to us and nobody else has it.
        let watch = Self(unsafe { OwnedFd::from_raw_fd(raw) });
        let wanted = libc::IN_MOVED_TO | libc::IN_CLOSE_WRITE;
        // SAFETY: the descriptor is open and the name has its end.
        let added = unsafe { libc::inotify_add_watch(raw, name.as_ptr(), wanted) };
        if added < 0 { Err(Code::UNKNOWN) } else { Ok(watch) }
    }

    fn wait(&self, limit: Duration) -> Outcome {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let limit = i32::try_from(limit.as_millis() + 1).unwrap_or(i32::MAX);
        // SAFETY: one descriptor, which is open.
        if unsafe { libc::poll(&raw mut poll, 1, limit) } < 0 {
            return Err(Code::UNKNOWN);
        }
        let mut sink = [0_u8; 4096];
        // SAFETY: the buffer is ours and as long as is said; it does not block, and what it gives
        // does not matter: the state is looked at in any case.
        unsafe { libc::read(self.0.as_raw_fd(), sink.as_mut_ptr().cast(), sink.len()) };
        Ok(())
    }
}
