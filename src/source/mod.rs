//! `source`: Git through gix: mirror, poll, signatures and the tree at a commit.
//!
//! It never checks a tree out and never executes what it read.
