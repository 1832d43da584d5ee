//! `spec`: from the text of an environment repository to the desired state, with every mistake located.
//!
//! It never touches Git, the disk or the machine: it is handed bytes.

mod desired;

pub use desired::{
    Desired, DesiredResource, Lifecycle, MAX_DESTROY_DEFAULT, Origin, SelfHeal, SyncMode,
    SyncSettings, SyncWindow,
};
