//! The rules of placement, ids and restarts, without C in between.
