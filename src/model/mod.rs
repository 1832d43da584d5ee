//! `model`: names, kinds, identifiers, quantities, digests and the canonical form of every resource.
//!
//! It never reads a clock, a file or the network, and knows no other module.
