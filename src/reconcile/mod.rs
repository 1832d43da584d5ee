//! `reconcile`: the loop: wake, look at everything, decide, append, perform.
//!
//! It never reads the reason it was woken for.
