//! What can go wrong, with NVML's codes as an enum of our own.
//!
//! The wrapper knows the codes up to 22 only; what a change of instances is refused with is beyond.

use std::fmt;

use nvml_wrapper::error::NvmlError;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal,)*) => {
        /// A return code of NVML other than success.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code that this program does not know.
            Other(u32),
        }

        impl Code {
            /// The code with this number, which is not 0.
            pub fn of(number: u32) -> Self {
                match number { $($number => Self::$name,)* other => Self::Other(other) }
            }

            /// NVML's number.
            pub fn number(self) -> u32 {
                match self { $(Self::$name => $number,)* Self::Other(number) => number }
            }
        }

        impl fmt::Display for Code {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str($text),)*
                    Self::Other(number) => write!(f, "nvml code {number}"),
                }
            }
        }
    };
}

codes! {
    /// The library was not initialised, or the driver it was initialised with is gone.
    Uninitialized = 1 "not initialised",
    /// An argument is wrong, or names what is no longer there.
    InvalidArgument = 2 "invalid argument",
    /// This GPU, board or driver cannot do it.
    NotSupported = 3 "not supported",
    /// It needs more rights.
    NoPermission = 4 "no permission",
    /// Initialised twice.
    AlreadyInitialized = 5 "already initialised",
    /// There is no such thing.
    NotFound = 6 "not found",
    /// A buffer is too small.
    InsufficientSize = 7 "buffer too small",
    /// The GPU's power cables are not attached.
    InsufficientPower = 8 "power cables not attached",
    /// The kernel module is not loaded.
    DriverNotLoaded = 9 "driver not loaded",
    /// A time limit ran out.
    Timeout = 10 "timed out",
    /// The kernel has a problem with the GPU's interrupts.
    IrqIssue = 11 "interrupt problem",
    /// The library was not found.
    LibraryNotFound = 12 "library not found",
    /// The driver lacks the function.
    FunctionNotFound = 13 "function not found",
    /// The InfoROM is corrupted.
    CorruptedInforom = 14 "corrupted inforom",
    /// The GPU fell off the bus.
    GpuIsLost = 15 "gpu is lost",
    /// The GPU needs a reset first.
    ResetRequired = 16 "reset required",
    /// The operating system refused.
    OperatingSystem = 17 "refused by the operating system",
    /// The library and the kernel module are of different versions.
    VersionMismatch = 18 "library and kernel module differ",
    /// Somebody uses it.
    InUse = 19 "in use",
    /// Out of memory.
    Memory = 20 "out of memory",
    /// There are no data.
    NoData = 21 "no data",
    /// ECC stands in the way of vGPU.
    VgpuEcc = 22 "vgpu not possible with ecc",
    /// No room: taken, overlapping, or an engine is exhausted.
    InsufficientResources = 23 "insufficient resources",
    /// The frequency is not supported.
    FrequencyNotSupported = 24 "frequency not supported",
    /// The driver does not know this version of a structure.
    ArgumentVersion = 25 "argument version mismatch",
    /// The function is no longer there.
    Deprecated = 26 "deprecated",
    /// The GPU is not ready yet.
    NotReady = 27 "not ready",
    /// There is no such GPU.
    GpuNotFound = 28 "gpu not found",
    /// Not in this state.
    InvalidState = 29 "invalid state",
    /// This kind of reset is not supported.
    ResetTypeNotSupported = 30 "reset type not supported",
    /// The driver does not say.
    Unknown = 999 "unknown error",
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// NVML cannot be asked: no library, no driver, or a driver that was restarted since. It does
    /// not mean that there are no GPUs. Drop the client and open another one later.
    #[error("nvml cannot be asked: {why}")]
    Unobservable {
        /// What is missing.
        why: String,
    },
    /// The library lacks a function: the driver is older than it.
    #[error("the driver's library has no {function}: it is too old")]
    Missing {
        /// NVML's name of it.
        function: &'static str,
    },
    /// NVML refused a call.
    #[error("{function}: {code}")]
    Call {
        /// NVML's name of the function.
        function: &'static str,
        /// The reason.
        code: Code,
    },
    /// No GPU has this UUID.
    #[error("no gpu {uuid}; there are: {}", found.join(", "))]
    NoGpu {
        /// What was asked for.
        uuid: String,
        /// The UUIDs there are.
        found: Vec<String>,
    },
    /// No instance of this profile starts there.
    #[error("gpu {uuid} has no {kind} of profile {profile} that starts at {start}")]
    NoInstance {
        /// The GPU.
        uuid: String,
        /// `gpu instance` or `compute instance`.
        kind: &'static str,
        /// The profile id.
        profile: u32,
        /// The start.
        start: u32,
    },
    /// NVML gave what makes no sense.
    #[error("{function} gave {what}")]
    Garbled {
        /// NVML's name of the function.
        function: &'static str,
        /// What is wrong with it.
        what: String,
    },
}

impl Error {
    /// The code, where NVML gave one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Call { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the GPU, the board or the driver simply does not have this.
    pub(crate) fn is_unsupported(&self) -> bool {
        matches!(self, Self::Missing { .. })
            || matches!(
                self.code(),
                Some(Code::NotSupported | Code::FunctionNotFound | Code::Deprecated | Code::NoData)
            )
    }

    /// Whether the rest of this GPU need not be asked.
    pub(crate) fn ends_gpu(&self) -> bool {
        matches!(self, Self::Unobservable { .. }) || self.code() == Some(Code::GpuIsLost)
    }

    /// From the safe wrapper.
    pub(crate) fn wrapped(function: &'static str, error: NvmlError) -> Self {
        match error {
            NvmlError::FailedToLoadSymbol(_) => Self::Missing { function },
            NvmlError::UnexpectedVariant(number) => Self::coded(function, number),
            NvmlError::Utf8Error(_)
            | NvmlError::NulError(_)
            | NvmlError::StringTooLong { .. }
            | NvmlError::IncorrectBits(_) => Self::Garbled { function, what: error.to_string() },
            other => Self::coded(function, other.into()),
        }
    }

    /// From a return code other than success.
    pub(crate) fn coded(function: &'static str, number: u32) -> Self {
        match Code::of(number) {
            code @ (Code::Uninitialized | Code::DriverNotLoaded | Code::VersionMismatch) => {
                Self::Unobservable { why: format!("{function}: {code}") }
            }
            code => Self::Call { function, code },
        }
    }
}
