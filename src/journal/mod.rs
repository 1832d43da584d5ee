//! `journal`: the log on disk: segments, durability, locking, verification and the sled index.
//!
//! It never interprets an event beyond its envelope.
