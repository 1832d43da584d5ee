//! `plan`: from desired and observed to an ordered, reasoned, digested list of steps.
//!
//! It never acts, waits or looks at a clock.

mod types;

pub use types::{
    Action, Disruption, FieldChange, LiveChange, Plan, Reason, SkipReason, Skipped, Step, StepIndex,
};
