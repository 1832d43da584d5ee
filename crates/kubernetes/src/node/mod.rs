//! Nodes: seen, taken out of service and given back, and told apart by version.

mod act;
mod began;
mod cordon;
mod drain;
mod news;
mod quantity;
pub mod skew;
mod view;
mod wish;

pub use act::{Cordoned, DrainEnd, DrainError, Nodes};
pub use began::{DRAIN, drain_began, time_left};
pub use cordon::{CORDON, CordonMark, Out, Taken, cordon, out, uncordon};
pub use drain::{DrainPlan, DrainRules, PodRef, Stays, drain_plan};
pub use news::NODES;
pub use quantity::{Amount, BadQuantity};
pub use view::{Amounts, ClusterView, NodeCondition, NodeView, Taint, overview};
pub use wish::{CUT_STATE, CUTS_GPUS, NODE_WISH, NodeChange, NodeField, NodeWish, change};
