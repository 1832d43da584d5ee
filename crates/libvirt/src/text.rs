//! Text between Rust and C, and XML as libvirt hands it out.

use std::ffi::{CStr, CString, c_char};

use crate::error::{Code, Error};

/// Refuses text that C would read as shorter than it is; `virt` panics for it.
pub(crate) fn refuse_nul(texts: &[&str]) -> Result<(), Error> {
    if texts.iter().any(|t| t.contains('\0')) {
        return Err(Error::own(Code::InvalidArgument, "an argument contains a NUL byte"));
    }
    Ok(())
}

/// `text` for C.
pub(crate) fn to_c(text: &str) -> Result<CString, Error> {
    CString::new(text)
        .map_err(|_| Error::own(Code::InvalidArgument, "an argument contains a NUL byte"))
}

/// A copy of the C string at `text`; empty for a null pointer.
///
/// # Safety
///
/// `text` is null or points to a NUL-terminated string that stays unchanged during the call.
pub(crate) unsafe fn copy(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The stored form of an object; libvirt's test driver knows no flag for it, as its objects have
/// one form only.
pub(crate) fn or_only_form(stored: Result<String, Error>, present: &str) -> Result<String, Error> {
    match stored {
        Err(e) if e.code == Code::InvalidArgument => Ok(present.to_owned()),
        other => other,
    }
}
