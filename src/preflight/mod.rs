//! `preflight`: whether this host is fit for what trueup does, and what to mend first.
//!
//! Two halves. [`gather()`] reads files under a [`Root`] (the machine itself, or a recorded tree) into
//! [`Facts`]; [`judge`] turns facts into [`Finding`]s and is pure. It reads only: nothing on the host
//! is changed, no GPU is touched, and nothing outside of the root is ever opened. What files cannot
//! tell ([`Probes`]) is asked of the running machine alone.

mod catalogue;
mod check;
mod facts;
mod finding;
mod gather;
mod probe;
mod recording;
mod root;

pub use catalogue::{About, Area, Check};
pub use check::judge;
pub use facts::Facts;
pub use finding::{Finding, Severity};
pub use gather::gather;
pub use probe::{DiskSpace, KvmProbe, Probes, probe};
pub use recording::{HEADER, RECORDING_BYTES_MAX, RecordingError, unpack};
pub use root::{Root, RootError, Unread};
