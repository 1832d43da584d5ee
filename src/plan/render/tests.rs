//! Rendering by example.
