//! Backups in restic's format: what takes them, restores them and checks them, and what is decided
//! about them.
//!
//! In reading order:
//!
//! - [`protocol`]: what is asked of a worker, and what it answers;
//! - [`worker`]: reads one request, answers in lines, and ends; the parent cancels by killing it;
//! - `feed`: streams and images, as a parent sends them;
//! - `engine`: the only module, with `bridge` below it, that speaks to `rustic_core`;
//! - `store`: where a repository lies (a folder, a REST server, whatever rclone reaches);
//! - `lock`, `ledger`: who else works on the repository, and whether somebody removed things from it;
//! - [`retention`], [`schedule`], [`objective`]: pure; which snapshots stay, when the next run is due,
//!   and how healthy a backup is.
//!
//! # What is promised
//!
//! - **Plain restic can restore what is written here**, and the other way round.
//! - **A snapshot is written last, and only when everything it needs is stored.** Files that could not
//!   be read are named in the outcome; a stream that ended before its end mark leaves no snapshot.
//! - **restic's locks are kept and heeded** (`locks/` in the repository), so that neither a foreign
//!   `restic prune` runs beside a writer of ours, nor a prune of ours beside restic or another host.
//! - **Killing a worker is always safe**: at worst data lies about that the next prune removes, and a
//!   lock whose owner is known to be dead.
//! - **Memory is bounded** by constants, not by the size of what is saved or restored.
//!
//! # What it never does
//!
//! It decides nothing about a host, keeps no key, and takes no secret from arguments or the
//! environment. It has no notion of trueup's resources.

#[expect(clippy::disallowed_methods, reason = "the shell: reads and writes through the store")]
mod bridge;
#[expect(clippy::disallowed_methods, reason = "the shell: reads sources, writes restored files")]
mod engine;
mod feed;
#[expect(clippy::disallowed_methods, reason = "the shell: a file of its own")]
mod ledger;
#[expect(clippy::disallowed_methods, reason = "the shell: files, processes and the clock")]
mod lock;
pub mod objective;
pub mod protocol;
pub mod retention;
pub mod schedule;
mod seal;
#[expect(clippy::disallowed_methods, reason = "the shell: files, HTTP and rclone")]
mod store;
pub mod worker;

pub use feed::{FeedWriter, ImageWriter};
pub use worker::serve;
