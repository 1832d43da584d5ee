//! `state`: the fold of the log into what trueup knows, and the decisions on commands.
//!
//! It never observes: it only knows what an event told it.
