//! A release: manifests that belong together, applied, followed and removed together.

mod diff;
mod engine;
mod fields;
mod health;
mod inventory;
mod manifest;
mod order;
mod plan;

pub use diff::{CHANGES_MAX, Disruption, FieldChange, HIDDEN, changes};
pub use engine::{Done, Engine, EngineError, Waits};
pub use fields::{EXTRAS_MAX, Extra, extras, is_managed_by};
pub use health::{Health, health};
pub use inventory::{
    BadInventory, BadName, HOLDER, Inventory, KEEP, LABEL, NAME_MAX, OWNER, REPLACE, ReleaseName,
    owner,
};
pub use manifest::{
    DigestKey, Manifest, ManifestError, OBJECT_MAX, OBJECTS_MAX, Place, TEXT_MAX, read, settle,
};
pub use order::rank;
pub use plan::{Action, Conflict, Found, Item, Plan, Seen, Step, Wish, Would, plan};
