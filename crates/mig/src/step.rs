//! The steps of a change, and what each does to a layout.
//!
//! [`apply`] is stricter than the driver: it refuses what no sound plan contains. Plans are checked
//! with it before anything is touched.

use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::compute::{self, Standing};
use crate::fit::{self, Misfit};
use crate::id::ComputeProfileId;
use crate::layout::{ComputePart, Layout, Part, Placed};

/// One call to the driver. Ids of instances are looked up when it runs: they are the driver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "do", content = "with")]
pub enum Step {
    /// Destroy a compute instance.
    DestroyCompute {
        /// The GPU instance it is in.
        instance: Placed,
        /// Its profile.
        profile: ComputeProfileId,
        /// Its first compute slice.
        start: Option<u32>,
    },
    /// Destroy a GPU instance, which has no compute instance left.
    DestroyInstance {
        /// Which.
        instance: Placed,
    },
    /// Create a GPU instance at its place.
    CreateInstance {
        /// Which and where.
        instance: Placed,
    },
    /// Create a compute instance.
    CreateCompute {
        /// The GPU instance it goes into.
        instance: Placed,
        /// Its profile.
        profile: ComputeProfileId,
        /// Its first compute slice; none: the driver chooses.
        start: Option<u32>,
    },
}

impl Step {
    /// The GPU instance it is about.
    #[must_use]
    pub fn instance(&self) -> Placed {
        match self {
            Self::DestroyCompute { instance, .. }
            | Self::DestroyInstance { instance }
            | Self::CreateInstance { instance }
            | Self::CreateCompute { instance, .. } => *instance,
        }
    }

    /// In words: `destroy 3g@4`, `create compute instance 1c@0 in 3g@4`.
    #[must_use]
    pub fn describe(&self, board: &Board) -> String {
        let within = |instance: &Placed, id: &ComputeProfileId, start: &Option<u32>| {
            let label = board.label(*instance);
            let profile = board.profile(instance.profile);
            let found = profile.and_then(|it| it.compute.iter().find(|it| it.id == *id));
            let shape = found.map_or_else(|| format!("#{id}"), |it| format!("{}c", it.slices));
            let at = start.map(|start| format!("@{start}")).unwrap_or_default();
            format!("compute instance {shape}{at} in {label}")
        };
        match self {
            Self::DestroyCompute { instance, profile, start } => {
                format!("destroy {}", within(instance, profile, start))
            }
            Self::DestroyInstance { instance } => format!("destroy {}", board.label(*instance)),
            Self::CreateInstance { instance } => format!("create {}", board.label(*instance)),
            Self::CreateCompute { instance, profile, start } => {
                format!("create {}", within(instance, profile, start))
            }
        }
    }
}

/// Why a step is impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// There is no such instance.
    #[error("there is no {label}")]
    NoInstance {
        /// The instance.
        label: String,
    },
    /// There is no such compute instance.
    #[error("{label} has no compute instance of profile {profile}")]
    NoCompute {
        /// The GPU instance.
        label: String,
        /// The compute profile.
        profile: ComputeProfileId,
    },
    /// The GPU instance still has compute instances.
    #[error("{label} still has {count} compute instances")]
    NotEmpty {
        /// The GPU instance.
        label: String,
        /// How many.
        count: usize,
    },
    /// It does not fit.
    #[error("cannot create {label}")]
    Misfit {
        /// The instance.
        label: String,
        /// What it collides with.
        #[source]
        why: Misfit,
    },
    /// The compute instance does not fit.
    #[error("no room for a compute instance of profile {profile} in {label}")]
    ComputeMisfit {
        /// The GPU instance.
        label: String,
        /// The compute profile.
        profile: ComputeProfileId,
    },
}

/// What the GPU is cut like after the step.
///
/// # Errors
/// [`StepError`]; the layout is then as before.
pub fn apply(board: &Board, layout: &mut Layout, step: &Step) -> Result<(), StepError> {
    let placed = step.instance();
    let label = board.label(placed);
    let found = layout.parts.iter().position(|part| part.placed == placed);
    let there = || found.ok_or_else(|| StepError::NoInstance { label: board.label(placed) });
    match *step {
        Step::CreateInstance { .. } => {
            let mut all = layout.placed();
            all.push(placed);
            fit::check(board, &all).map_err(|why| StepError::Misfit { label, why })?;
            let mut parts = std::mem::take(&mut layout.parts);
            parts.push(Part { placed, name: None, compute: Vec::new() });
            *layout = Layout::new(parts);
        }
        Step::DestroyInstance { .. } => {
            let at = there()?;
            let count = layout.parts[at].compute.len();
            if count > 0 {
                return Err(StepError::NotEmpty { label, count });
            }
            layout.parts.remove(at);
        }
        Step::DestroyCompute { profile, start, .. } => {
            let compute = &mut layout.parts[there()?].compute;
            let found = compute.iter().position(|it| {
                let same_place = start.is_none() || it.start.is_none() || it.start == start;
                it.profile == profile && same_place
            });
            let at = found.ok_or(StepError::NoCompute { label, profile })?;
            compute.remove(at);
        }
        Step::CreateCompute { profile, start, .. } => {
            let part = &mut layout.parts[there()?];
            let made = add_compute(board, part, ComputePart { profile, start });
            let made = made.ok_or(StepError::ComputeMisfit { label, profile })?;
            part.compute.push(made);
            part.compute.sort_by_key(|compute| (compute.start, compute.profile));
        }
    }
    Ok(())
}

/// The compute instance as the driver would place it.
fn add_compute(board: &Board, part: &Part, wish: ComputePart) -> Option<ComputePart> {
    let profile = board.profile(part.placed.profile)?;
    let slices = |it: &ComputePart| {
        let known = profile.compute.iter().find(|compute| compute.id == it.profile);
        known.map_or(0, |compute| compute.slices)
    };
    let standing: Vec<Standing> =
        part.compute.iter().map(|it| (it.profile, it.start, slices(it))).collect();
    compute::arrange(profile, &standing, &[wish])?.first().copied()
}

/// What the GPU is cut like after all the steps.
///
/// # Errors
/// The position of the step that is impossible, and why.
pub fn replay(board: &Board, from: &Layout, steps: &[Step]) -> Result<Layout, (usize, StepError)> {
    let mut layout = from.clone();
    for (at, step) in steps.iter().enumerate() {
        apply(board, &mut layout, step).map_err(|error| (at, error))?;
    }
    Ok(layout)
}
