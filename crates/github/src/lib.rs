//! The GitHub client of trueup: authentication and transport, no opinion about what is asked. Forges
//! that speak alike (Gitea, Forgejo) are reached through it as well.
//!
//! octocrab carries requests and signs for GitHub Apps; everything above that is here, because its
//! own ways repeat POSTs, keep truncated bodies and drop the login on later pages. This crate never
//! repeats a write whose outcome is unknown, never sleeps, never sends its login to another host,
//! and never shows a token: not in an error, a `Debug` text or a line of the log.
//!
//! Reading order: [`Secret`] and [`Auth`]; [`Client::request`], one call and its [`Reply`];
//! [`Client::get`] and [`Client::list`], which remember what has not changed; [`ClientError`], which
//! tells what may have happened.

#![forbid(unsafe_code)]
#![allow(
    clippy::result_large_err,
    reason = "moving an error costs nothing beside the call it is of"
)]

mod auth;
mod cache;
mod client;
mod error;
mod list;
mod reply;
mod secret;

pub use auth::{AppLogin, Auth, SecretSource};
pub use client::{BODY_BYTES_MAX, Call, Client, Method, PageStyle, Settings};
pub use error::ClientError;
pub use list::{Listed, PAGES_MAX};
pub use reply::{Rate, Reply};
pub use secret::Secret;
