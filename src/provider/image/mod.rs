//! Golden images: fetched or built, converted, checked, and put in place under a digest's name.
//!
//! A file here appears whole, durable and read-only, or not at all; it is never changed afterwards.
//! Nothing passes through a shell, and every program has a deadline.

mod behind_port;
mod boot;
mod build;
mod builder;
mod child;
mod error;
mod fetch;
mod place;
mod qemu_img;
mod workdir;

pub use behind_port::ImageProvider;
pub use boot::{BootCheck, BootReport, boot_check, cpu_has_virtualisation, kvm_works};
pub use build::{BuildOutcome, Package, Targets, build, validate};
pub use builder::{
    BuildReply, BuildRequest, Builder, WORKER_COMMAND, serve as serve_build, unit_argv,
};
pub use child::ChildError;
pub use error::ImageError;
pub use fetch::{FetchLimits, digest_file, fetch};
pub use qemu_img::{ImageInfo, convert, inspect};
pub use workdir::reap;
