//! `config`: the daemon's own settings on the host.
//!
//! It never reads settings from the environment repository.
