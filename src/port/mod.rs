//! `port`: the traits between deciding and doing.
//!
//! It holds no implementation but plain data.
