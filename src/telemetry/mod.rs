//! `telemetry`: tracing: human lines on a terminal, JSON under systemd.
//!
//! It never carries a secret.
