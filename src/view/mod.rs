//! `view`: read models over the log: status, history and drift.
//!
//! It never appends and never decides.
