//! cloud-init NoCloud media: the disk that carries the texts, and its provider.
//!
//! The same content gives the same bytes on every machine and at any time, so media can be named by
//! their digest. What the texts say is decided in `spec`.

mod behind_port;
mod media;

pub use behind_port::SeedProvider;
pub use media::{SEED_CONTENT_MAX, SeedContent, SeedError, seed_image};
