//! `provider`: one folder a backend; each observes, performs and parses.
//!
//! A backend never imports a sibling and never decides what to do.

mod agent;
pub mod backup;
pub mod cluster;
mod files;
pub mod folder;
pub mod gpu;
mod guest;
pub mod image;
pub mod kubernetes;
pub mod libvirt;
pub(crate) mod paths;
pub mod release;
pub mod render;
pub mod seed;
