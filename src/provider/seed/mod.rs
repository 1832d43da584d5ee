//! cloud-init NoCloud seed media: the texts and the disk that carries them.
//!
//! Everything here is pure: the same content gives the same bytes on every machine and at any time,
//! so media can be named by their digest. It never reads a file and never looks at a clock.

mod media;
mod render;

pub use media::{SEED_CONTENT_MAX, SeedContent, SeedError, seed_image};
pub use render::{
    Address, NicConfig, SeedUser, UserData, instance_id, render_meta_data, render_network_config,
    render_user_data,
};
