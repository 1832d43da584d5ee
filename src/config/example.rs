//! The commented example config that `trueup init` writes.
//!
//! A test reads it back, so that it cannot go stale.

/// A config for the repository at `url`, every setting explained; what is commented out shows the
/// default or an example.
#[must_use]
pub fn example(url: &str) -> String {
    // JSON strings are YAML strings.
    let url = serde_json::Value::from(url);
    EXAMPLE.replace("@URL@", &url.to_string())
}

const EXAMPLE: &str = include_str!("example.yaml");
