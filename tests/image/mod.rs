//! Golden images against real servers, real `qemu-img`, real QEMU and a real Debian archive.

mod boot;
mod build;
mod convert;
mod fetch;
mod server;
