//! `forge`: what pull requests show and say, and how that reaches a forge.
//!
//! [`render`] turns plans into statuses, comments, annotations and issues; [`command`] reads what people
//! and webhooks say. Both are pure: data in, data out, no clock and no network. What was promised is
//! compared with what would be done by [`crate::plan::promise`].

pub mod command;
pub mod render;
