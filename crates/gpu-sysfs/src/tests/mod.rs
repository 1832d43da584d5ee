//! Trees that behave like the kernel, and what is asked of this crate on them.
