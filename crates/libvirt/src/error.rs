//! What can go wrong in a call to libvirt, with libvirt's own numbers kept.
//!
//! It never holds XML, agent commands or other arguments: those may carry secrets. libvirt's own
//! message is kept as it came.

use std::fmt;

use virt_sys as sys;

/// What kind of failure it was, for code that decides what to do next.
///
/// Source of the numbers: `virErrorNumber` in libvirt's `virterror.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// There is no such domain.
    NoDomain,
    /// There is no such network.
    NoNetwork,
    /// There is no such storage pool.
    NoPool,
    /// There is no such volume.
    NoVolume,
    /// There is no such snapshot.
    NoSnapshot,
    /// There is no such checkpoint.
    NoCheckpoint,
    /// The domain has no backup job.
    NoBackup,
    /// A checkpoint lost a bitmap, so that nobody knows what changed since.
    CheckpointInconsistent,
    /// The object has no metadata of the namespace asked for.
    NoMetadata,
    /// An object of this name or UUID is there already.
    Exists,
    /// The object is not in the state the call needs (not running, already running, …).
    OperationInvalid,
    /// The operation itself failed.
    OperationFailed,
    /// The connection is read-only, or the access policy forbids the call.
    AccessDenied,
    /// The driver has no such function, flag or setting.
    NoSupport,
    /// There is no connection to libvirt, or it broke during the call: the call may have happened.
    ConnectionLost,
    /// No answer in time: the call may have happened, or may happen still.
    Timeout,
    /// The guest agent does not answer, or answered out of step.
    AgentUnresponsive,
    /// The XML is not well-formed, fails its schema, or says something impossible.
    InvalidXml,
    /// An argument was refused, by libvirt or here (a NUL byte).
    InvalidArgument,
    /// Another operation holds the object.
    ResourceBusy,
    /// The client was closed while the call waited.
    Closed,
    /// Any other `virErrorNumber`.
    Other(i32),
}

impl Code {
    /// The kind for a `virErrorNumber`.
    fn of(number: i32) -> Code {
        // The constants are unsigned in the bindings, the field that carries them is signed.
        match u32::try_from(number).unwrap_or(sys::VIR_ERR_INTERNAL_ERROR) {
            sys::VIR_ERR_NO_DOMAIN => Code::NoDomain,
            sys::VIR_ERR_NO_NETWORK => Code::NoNetwork,
            sys::VIR_ERR_NO_STORAGE_POOL => Code::NoPool,
            sys::VIR_ERR_NO_STORAGE_VOL => Code::NoVolume,
            sys::VIR_ERR_NO_DOMAIN_SNAPSHOT => Code::NoSnapshot,
            sys::VIR_ERR_NO_DOMAIN_CHECKPOINT => Code::NoCheckpoint,
            sys::VIR_ERR_NO_DOMAIN_BACKUP => Code::NoBackup,
            sys::VIR_ERR_CHECKPOINT_INCONSISTENT => Code::CheckpointInconsistent,
            sys::VIR_ERR_NO_DOMAIN_METADATA | sys::VIR_ERR_NO_NETWORK_METADATA => Code::NoMetadata,
            sys::VIR_ERR_DOM_EXIST
            | sys::VIR_ERR_NETWORK_EXIST
            | sys::VIR_ERR_STORAGE_VOL_EXIST
            | sys::VIR_ERR_STORAGE_POOL_BUILT => Code::Exists,
            sys::VIR_ERR_OPERATION_INVALID => Code::OperationInvalid,
            sys::VIR_ERR_OPERATION_FAILED => Code::OperationFailed,
            sys::VIR_ERR_OPERATION_DENIED
            | sys::VIR_ERR_ACCESS_DENIED
            | sys::VIR_ERR_AUTH_FAILED
            | sys::VIR_ERR_AUTH_CANCELLED
            | sys::VIR_ERR_AUTH_UNAVAILABLE => Code::AccessDenied,
            sys::VIR_ERR_NO_SUPPORT
            | sys::VIR_ERR_OPERATION_UNSUPPORTED
            | sys::VIR_ERR_ARGUMENT_UNSUPPORTED
            | sys::VIR_ERR_CONFIG_UNSUPPORTED => Code::NoSupport,
            sys::VIR_ERR_OPERATION_TIMEOUT => Code::Timeout,
            sys::VIR_ERR_AGENT_UNRESPONSIVE
            | sys::VIR_ERR_AGENT_UNSYNCED
            | sys::VIR_ERR_AGENT_COMMAND_TIMEOUT => Code::AgentUnresponsive,
            sys::VIR_ERR_XML_ERROR
            | sys::VIR_ERR_XML_DETAIL
            | sys::VIR_ERR_XML_INVALID_SCHEMA
            | sys::VIR_ERR_PARSE_FAILED
            | sys::VIR_ERR_INVALID_MAC => Code::InvalidXml,
            sys::VIR_ERR_INVALID_ARG => Code::InvalidArgument,
            sys::VIR_ERR_RESOURCE_BUSY | sys::VIR_ERR_BLOCK_COPY_ACTIVE => Code::ResourceBusy,
            _ => Code::Other(number),
        }
    }
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}{}: {message}", On(object))]
pub struct Error {
    /// The kind of failure.
    pub code: Code,
    /// libvirt's `virErrorNumber`; 0 for a failure that libvirt did not report.
    pub number: i32,
    /// libvirt's `virErrorDomain`, the part of libvirt that failed; 0 as above.
    pub domain: i32,
    /// The call that failed, as this crate names it (`start`).
    pub call: &'static str,
    /// The name of the object it was for; empty where there is none.
    pub object: String,
    /// libvirt's message.
    pub message: String,
}

/// Prints ` of NAME` where there is a name.
struct On<'a>(&'a str);

impl fmt::Display for On<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " of {}", self.0) }
    }
}

impl Error {
    /// A failure that libvirt did not report.
    pub(crate) fn own(code: Code, message: impl Into<String>) -> Error {
        Error {
            code,
            number: 0,
            domain: 0,
            call: "libvirt",
            object: String::new(),
            message: message.into(),
        }
    }

    /// The failure that libvirt noted for this thread in the call just made through `virt-sys`.
    pub(crate) fn last() -> Error {
        Error::from(virt::error::Error::last_error())
    }

    /// Names the call and its object; the innermost object name is kept.
    #[must_use]
    pub(crate) fn during(mut self, call: &'static str, object: &str) -> Error {
        self.call = call;
        if self.object.is_empty() {
            self.object.push_str(object);
        }
        self
    }

    /// Whether the same call may work later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.code,
            Code::ConnectionLost | Code::Timeout | Code::AgentUnresponsive | Code::ResourceBusy
        )
    }

    /// Whether the connection failed, rather than the call: its outcome is unknown.
    #[must_use]
    pub fn connection_lost(&self) -> bool {
        self.code == Code::ConnectionLost
    }

    /// Whether the object, or what was asked of it, is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(
            self.code,
            Code::NoDomain
                | Code::NoNetwork
                | Code::NoPool
                | Code::NoVolume
                | Code::NoSnapshot
                | Code::NoCheckpoint
                | Code::NoBackup
                | Code::NoMetadata
        )
    }

    /// Whether libvirt's transport raised it, so that the connection must be looked at.
    pub(crate) fn is_transport(&self) -> bool {
        u32::try_from(self.domain)
            .is_ok_and(|d| d == sys::VIR_FROM_RPC || d == sys::VIR_FROM_REMOTE)
    }
}

impl From<virt::error::Error> for Error {
    fn from(error: virt::error::Error) -> Error {
        // `virt` keeps the raw numbers to itself; its enumerations give back all they know.
        let number = error.code().to_raw().cast_signed();
        let domain = error.domain().to_raw().cast_signed();
        let mut code = Code::of(number);
        // Many a taken name is a mere "operation failed" to libvirt's drivers.
        if code == Code::OperationFailed && error.message().contains("already exists") {
            code = Code::Exists;
        }
        Error {
            code,
            number,
            domain,
            call: "libvirt",
            object: String::new(),
            message: error.message().trim_end().to_owned(),
        }
    }
}
