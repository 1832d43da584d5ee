//! How a GPU is cut into instances (NVIDIA MIG): what fits, and which steps lead from one cut to
//! another with the least loss.
//!
//! Everything that decides about partitions is here, and nothing that acts: the caller observes
//! through NVML, asks for a plan, runs its steps one by one and observes again. In reading order:
//!
//! - `id`: the numbers NVML gives, each of a type of its own.
//! - [`Board`] (`board`, `shape`): profiles and placements as the driver tells them at run time.
//! - [`Layout`] (`layout`) and [`Instance`] (`observe`): a cut, and what was found on a GPU.
//! - [`fit`]: the rule of what may stand together, and all layouts that do.
//! - [`Wish`], [`resolve`], [`Target`] (`target`): from words of a spec to profiles of a board.
//! - `compute`: compute instances within one GPU instance.
//! - [`plan()`], [`rollback`] (`plan`, `search`, `nearest`): the exact search, its steps, and what
//!   is said when there is no way.
//! - [`Step`], [`step::apply`] (`step`): what each step does; the second judge of every plan.
//! - [`assign()`]: several equal GPUs with targets that can be exchanged.
//! - [`fits()`]: what would still go in, and after which moves.
//! - [`picture`]: before and after as blocks of slices, for a terminal and as SVG.
//! - [`parted`]: the configuration format of mig-parted.
//! - [`boards`], [`baseline`]: boards to simulate with, and the planners to compare with.
//!
//! Rules of this crate:
//!
//! - No I/O, no clock, no randomness: the same input gives the same bytes.
//! - A plan never destroys what is in use by somebody who may not be stopped.
//! - Nothing is known about a board but what its description says; ids are never assumed.
#![forbid(unsafe_code)]

pub mod assign;
pub mod baseline;
mod board;
pub mod boards;
mod compute;
pub mod fit;
pub mod fits;
mod id;
mod layout;
mod nearest;
mod observe;
pub mod parted;
pub mod picture;
mod plan;
mod search;
mod shape;
pub mod step;
mod target;

#[cfg(test)]
mod tests;

pub use assign::assign;
pub use board::{
    Board, BoardError, ComputeProfile, Engines, PROFILES_MAX, Placement, Profile, UNITS_MAX,
};
pub use fit::Misfit;
pub use fits::{capacity, fits};
pub use id::{ComputeInstanceId, ComputeProfileId, InstanceId, ProfileId, ProfileIndex};
pub use layout::{ComputePart, Layout, Part, Placed};
pub use observe::{ComputeInstance, Holder, Instance};
pub use plan::{Nearest, Need, Obstacle, Outcome, Plan, PlanError, Seating, plan, rollback};
pub use search::{Cost, SEARCH_MAX};
pub use step::{Step, StepError};
pub use target::{ComputeWish, ResolveError, SLOTS_MAX, Selector, Slot, Target, Wish, resolve};
