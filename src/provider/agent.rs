//! What QEMU's guest agent answers (qga/qapi-schema.json of QEMU), for those who ask one.
//!
//! It is the guest's word: nothing of it is trusted, and what it may hold of a secret is in no error.

use serde::Deserialize;

/// An answer.
#[derive(Deserialize)]
pub(super) struct Answer<T> {
    /// What was asked for.
    #[serde(rename = "return")]
    pub(super) value: T,
}

/// `GuestExec`: a program was started.
#[derive(Deserialize)]
pub(super) struct Started {
    /// What the guest knows it by.
    pub(super) pid: i64,
}

/// `GuestExecStatus`: `exitcode` where it ended, `signal` where it was ended.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Status {
    /// Whether it runs no more.
    pub(super) exited: bool,
    /// With what it ended.
    #[serde(default)]
    pub(super) exitcode: Option<i64>,
    /// By what it was ended.
    #[serde(default)]
    pub(super) signal: Option<i64>,
    /// What it wrote, in base64, where that was asked for.
    #[serde(default)]
    pub(super) out_data: String,
    /// What it complained about, in base64, where that was asked for.
    #[serde(default)]
    pub(super) err_data: String,
    /// Whether that is not all of what it wrote.
    #[serde(default)]
    pub(super) out_truncated: bool,
}
