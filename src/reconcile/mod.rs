//! `reconcile`: the loop: wake, look at everything, decide, append, perform.
//!
//! It never reads the reason it was woken for: a timer, a push, an event of libvirt, an operator's
//! command and the daemon's start all lead to the same pass. It reaches the world through
//! [`crate::port`] alone.

mod assess;
mod backoff;
mod backups;
mod begun;
mod carry;
mod claim;
mod clusters;
mod daemon;
mod execute;
mod fetch;
mod flight;
mod foresee;
mod gpus;
mod health;
mod hold;
mod known;
mod ledger;
mod load;
mod look;
mod pass;
mod policy;
mod pull;
mod pulse;
mod releases;
mod render;
mod ruled;
mod saved;
mod sentences;

pub use backoff::{FLAP_HEALS, FLAP_WINDOW_S, RETRY_BASE_S, RETRY_MAX_S, RETRY_SLOW_S};
pub use carry::lets_through;
pub use daemon::{AskError, Daemon, Handle, Pace};
pub use foresee::Foresight;
pub use ledger::{Ledger, LedgerError};
pub use load::Loader;
pub use pass::{
    Approval, PassError, PassOptions, PassReport, Reconciler, Settings, StepProgress, UnderWay,
};
pub use policy::{Rulebook, events_of_verdicts};
pub use pulse::Heartbeat;
pub use render::{LoadSetup, Unread, rendered};
pub use sentences::few;
