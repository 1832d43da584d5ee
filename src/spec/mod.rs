//! `spec`: from the text of an environment repository to the desired state, with every mistake located.
//!
//! It never touches Git, the disk or the machine: it is handed bytes.

pub mod accept;
mod across;
mod cache;
mod cloud_init;
mod covered;
mod desired;
mod diag;
mod environment;
pub mod kinds;
mod load;
mod locate;
mod machines;
mod manifests;
mod parse;
mod patch;
mod place;
mod policy;
mod rename;
pub mod render;
pub mod rendering;
mod repo;
mod resolve;
pub mod scalar;
mod schema;
mod text;
mod unheeded;
mod vault;
mod yaml;

pub use cache::{CACHED_FILES_MAX, ParseCache};
pub use covered::{saved_by, saved_in_part};
pub use desired::{
    Desired, DesiredResource, Lifecycle, MAX_DESTROY_DEFAULT, Origin, Renames, SelfHeal, SyncMode,
    SyncSettings, SyncWindow,
};
pub use diag::{DIAGNOSTICS_MAX, Diagnostic, Related, Severity};
pub use load::{Checked, Loaded, check_all, load};
pub use manifests::{FILES_FOLDER, MANIFESTS_FOLDER};
pub use place::Places;
pub use policy::{Exemption, PolicySettings, RuleSettings, TextPlace};
pub use repo::{BASES_FOLDER, ENVIRONMENTS_FOLDER, REPOSITORY_FILE, RepoFile, RepoFiles, Select};
pub use schema::{schema_file, schema_of, schemas};
pub use vault::{VaultPlace, host_keys, vault_place};
