//! The functions that are exported, with the names and signatures of `libnvidia-ml.so.1`.
//!
//! Only what the client calls, itself or by way of its wrapper; a missing one is a missing symbol,
//! which the client has to bear as well.
#![allow(non_snake_case, reason = "the names are NVML's")]
#![allow(unreachable_pub, reason = "C reaches them")]

mod device;
mod event;
mod gpm;
mod health;
mod instance;
mod system;

/// Defines exported functions; `read` and `write` say what the call does to the state.
macro_rules! nvml {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $door:ident |$state:ident, $local:ident| $body:block)*) => {$(
        /// As the function of this name in NVML's reference.
        ///
        /// # Safety
        ///
        /// Every pointer is null, or one that this library gave, or good for what the reference
        /// says of it.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> nvml_wrapper_sys::bindings::nvmlReturn_t {
            $crate::entry::$door(stringify!($name), |$state, $local| $body)
        }
    )*};
}
pub(crate) use nvml;
