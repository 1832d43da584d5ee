//! What every exported call goes through: the state, the faults, the log, and no panic beyond C.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::code::{Code, Outcome};
use crate::state::State;
use crate::store::{Store, StoreError};

/// What belongs to the process that loaded the library.
pub(crate) struct Local {
    store: Store,
    inits: u32,
    epoch: u64,
    last: u64,
    /// Event sets, by the serial of their handle.
    pub(crate) sets: BTreeMap<u64, EventSet>,
    /// GPM samples, by the serial of their handle: the GPU and the percentage seen.
    pub(crate) samples: BTreeMap<u64, Option<f64>>,
    /// What the log says of the arguments of the call at hand.
    pub(crate) note: String,
}

/// What an event set waits for.
#[derive(Default)]
pub(crate) struct EventSet {
    /// The kinds, by GPU.
    pub(crate) kinds: BTreeMap<usize, u64>,
    /// The last event given, or the last there was when the first GPU was registered.
    pub(crate) seen: Option<u64>,
}

impl Local {
    /// A number for a handle of this process.
    pub(crate) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.store.path().to_owned()
    }
}

static LOCAL: Mutex<Option<Local>> = Mutex::new(None);

fn local() -> MutexGuard<'static, Option<Local>> {
    LOCAL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fresh() -> Local {
    Local {
        store: Store::at(state_path()),
        inits: 0,
        epoch: 0,
        last: 0,
        sets: BTreeMap::new(),
        samples: BTreeMap::new(),
        note: String::new(),
    }
}

/// `$FAKE_NVML_STATE`, else `state.json` beside this library: a copy of the library has a machine
/// of its own.
fn state_path() -> PathBuf {
    if let Some(path) = std::env::var_os("FAKE_NVML_STATE") {
        return PathBuf::from(path);
    }
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    let inside: *const c_void = (&raw const LOCAL).cast();
    // SAFETY: `inside` is an address of this library and `info` is ours to be filled.
    let found = unsafe { libc::dladdr(inside, &raw mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return PathBuf::from("state.json");
    }
    // SAFETY: the loader keeps the name, with its end, as long as the library is loaded.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Path::new(&*name.to_string_lossy()).with_file_name("state.json")
}

/// What a fault does to one call.
#[derive(Default)]
struct Strike {
    instead: Option<Code>,
    afterwards: Option<Code>,
}

/// Counts the call and makes the edits that were ordered for it.
fn strike(state: &mut State, function: &str) -> Strike {
    let mut strike = Strike::default();
    let mut edits = Vec::new();
    for fault in state.faults.get_mut(function).into_iter().flatten() {
        fault.calls += 1;
        if fault.calls == fault.nth || (fault.sticky && fault.calls > fault.nth) {
            edits.extend(fault.edit.iter().cloned());
            let into = if fault.after { &mut strike.afterwards } else { &mut strike.instead };
            *into = fault.code.map(Code).or(*into);
        }
    }
    for edit in &edits {
        if state.edit(edit).is_err() {
            strike.instead = Some(Code::UNKNOWN);
        }
    }
    strike
}

fn unreadable(error: &StoreError) -> Code {
    match error {
        StoreError::Io { .. } => Code::DRIVER_NOT_LOADED,
        StoreError::Shape { .. } | StoreError::Edit { .. } => Code::UNKNOWN,
    }
}

fn ready(state: &State, local: &Local) -> Outcome {
    if local.inits == 0 || local.epoch != state.epoch {
        return Err(Code::UNINITIALIZED);
    }
    Ok(())
}

/// A call that changes nothing.
pub(crate) fn read(
    function: &'static str,
    call: impl FnOnce(&State, &mut Local) -> Outcome,
) -> c_uint {
    guarded(|local| {
        let mut state = local.store.read().map_err(|error| unreadable(&error))?;
        let mut struck = Strike::default();
        if state.faults.contains_key(function) {
            let counted = local.store.change(|state| strike(state, function));
            struck = counted.map_err(|error| unreadable(&error))?;
            state = local.store.read().map_err(|error| unreadable(&error))?;
        }
        let result = match struck.instead {
            Some(code) => Err(code),
            None => ready(&state, local).and_then(|()| call(&state, local)),
        };
        let result = struck.afterwards.map_or(result, Err);
        if state.log_reads {
            log(local, function, result)?;
        }
        result
    })
}

/// A call that may change the machine; it is logged.
pub(crate) fn write(
    function: &'static str,
    call: impl FnOnce(&mut State, &mut Local) -> Outcome,
) -> c_uint {
    guarded(|local| {
        let mut store = std::mem::replace(&mut local.store, Store::at(""));
        let changed = store.change(|state| {
            let struck = strike(state, function);
            let result = match struck.instead {
                Some(code) => Err(code),
                None => ready(state, local).and_then(|()| call(state, local)),
            };
            struck.afterwards.map_or(result, Err)
        });
        local.store = store;
        let result = changed.unwrap_or_else(|error| Err(unreadable(&error)));
        log(local, function, result)?;
        result
    })
}

/// `nvmlInit_v2` and its like.
pub(crate) fn init(function: &'static str) -> c_uint {
    guarded(|local| {
        let struck = local.store.change(|state| strike(state, function));
        let struck = struck.map_err(|error| unreadable(&error))?;
        if let Some(code) = struck.instead {
            return Err(code);
        }
        let state = local.store.read().map_err(|error| unreadable(&error))?;
        if !state.driver_loaded {
            return Err(Code::DRIVER_NOT_LOADED);
        }
        if local.epoch != state.epoch {
            local.sets.clear();
            local.samples.clear();
        }
        local.inits += 1;
        local.epoch = state.epoch;
        Ok(())
    })
}

/// `nvmlShutdown`.
pub(crate) fn shutdown() -> c_uint {
    guarded(|local| {
        local.inits = local.inits.checked_sub(1).ok_or(Code::UNINITIALIZED)?;
        Ok(())
    })
}

/// The state and what is local, for a call that must not hold the lock while it waits.
pub(crate) fn peek<T>(look: impl FnOnce(&Arc<State>, &mut Local) -> Outcome<T>) -> Outcome<T> {
    let mut guard = local();
    let local = guard.get_or_insert_with(fresh);
    let state = local.store.read().map_err(|error| unreadable(&error))?;
    ready(&state, local)?;
    look(&state, local)
}

fn log(local: &mut Local, function: &str, result: Outcome) -> Outcome {
    let note = std::mem::take(&mut local.note);
    let code = result.err().map_or(0, |code| code.0);
    let gap = if note.is_empty() { "" } else { " " };
    let line = format!("{function}{gap}{note} -> {code}");
    local.store.log(&line).map_err(|error| unreadable(&error))
}

fn guarded(call: impl FnOnce(&mut Local) -> Outcome) -> c_uint {
    boundary(|| {
        let mut guard = local();
        let local = guard.get_or_insert_with(fresh);
        local.note.clear();
        call(local)
    })
}

/// A panic ends here as `UNKNOWN`: it must not unwind into C.
pub(crate) fn boundary(call: impl FnOnce() -> Outcome) -> c_uint {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code.0,
        Err(_) => Code::UNKNOWN.0,
    }
}

/// Writes through a pointer of the caller's.
///
/// # Safety
///
/// `at` is null or may be written.
pub(crate) unsafe fn put<T>(at: *mut T, value: T) -> Outcome {
    if at.is_null() {
        return Err(Code::INVALID_ARGUMENT);
    }
    // SAFETY: not null, so it may be written, as the caller promises.
    unsafe { at.write(value) };
    Ok(())
}

/// Copies the value behind a pointer of the caller's.
///
/// # Safety
///
/// `at` is null or may be read.
pub(crate) unsafe fn get<T: Copy>(at: *const T) -> Outcome<T> {
    if at.is_null() {
        return Err(Code::INVALID_ARGUMENT);
    }
    // SAFETY: not null, so it may be read, as the caller promises.
    Ok(unsafe { at.read() })
}

/// Writes text with its end into a buffer of the caller's.
///
/// # Safety
///
/// `at` is null or has room for `len` bytes.
pub(crate) unsafe fn put_text(at: *mut c_char, len: c_uint, text: &str) -> Outcome {
    if at.is_null() {
        return Err(Code::INVALID_ARGUMENT);
    }
    if text.len() >= len as usize {
        return Err(Code::INSUFFICIENT_SIZE);
    }
    // SAFETY: there is room for `len` bytes, which is more than the text; the two cannot overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), at, text.len());
        at.add(text.len()).write(0);
    }
    Ok(())
}

/// Text in an array of fixed length, cut where it does not fit.
pub(crate) fn fixed<const N: usize>(text: &str) -> [c_char; N] {
    let mut chars = [0; N];
    for (at, byte) in chars.iter_mut().zip(text.bytes()).take(N.saturating_sub(1)) {
        *at = byte.cast_signed();
    }
    chars
}

/// Fills a list whose length the caller says and is told: without a list only the number is given.
///
/// # Safety
///
/// `count` is null or may be read and written, and `at` is null or has room for `*count` items.
pub(crate) unsafe fn put_list<T: Copy>(count: *mut c_uint, at: *mut T, items: &[T]) -> Outcome {
    // SAFETY: as the caller promises of `count`.
    let room = unsafe { get(count) }?;
    let len = c_uint::try_from(items.len()).map_err(|_| Code::UNKNOWN)?;
    // SAFETY: as above.
    unsafe { put(count, len) }?;
    if at.is_null() {
        return Ok(());
    }
    if room < len {
        return Err(Code::INSUFFICIENT_SIZE);
    }
    // SAFETY: there is room for at least as many items as are copied; the two cannot overlap.
    unsafe { std::ptr::copy_nonoverlapping(items.as_ptr(), at, items.len()) };
    Ok(())
}

/// Fills a list that the caller made long enough for all there can be, and gives the number.
///
/// # Safety
///
/// `count` is null or may be written, and `at` is null or has room for every item.
pub(crate) unsafe fn put_all<T: Copy>(count: *mut c_uint, at: *mut T, items: &[T]) -> Outcome {
    if at.is_null() && !items.is_empty() {
        return Err(Code::INVALID_ARGUMENT);
    }
    let len = c_uint::try_from(items.len()).map_err(|_| Code::UNKNOWN)?;
    // SAFETY: as the caller promises of `count`.
    unsafe { put(count, len) }?;
    for (place, item) in items.iter().enumerate() {
        // SAFETY: not null, since there is an item, and there is room for every one.
        unsafe { at.add(place).write(*item) };
    }
    Ok(())
}
