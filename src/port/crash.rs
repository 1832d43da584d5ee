//! The port for breaking things on purpose: where a pass may be made to end, as a crash would.
//!
//! In production nothing ever breaks here. Tests put a crash at every point and require that the
//! next pass comes to the same end.

/// A place between two effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// The step's intent is not written yet.
    BeforeIntent,
    /// The intent is durable, nothing was done.
    AfterIntent,
    /// It was done, the outcome is not written.
    AfterEffect,
    /// The outcome is durable.
    AfterOutcome,
}

/// Decides whether to crash.
pub trait Crash: Send + Sync {
    /// Called at each point of each step; `true` ends the pass at once, as if killed.
    fn here(&self, point: CrashPoint) -> bool;
}

/// Never crashes.
#[derive(Debug, Clone, Copy, Default)]
pub struct NeverCrash;

impl Crash for NeverCrash {
    fn here(&self, _point: CrashPoint) -> bool {
        false
    }
}
