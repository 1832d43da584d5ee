//! The commented example config that `trueup init` writes.
//!
//! A test reads it back, so that it cannot go stale.

/// A config for the repository at `url`, every setting explained; what is commented out shows the
/// default or an example.
#[must_use]
pub fn example(url: &str) -> String {
    let ssh = url.starts_with("ssh://") || (!url.contains("://") && !url.starts_with('/'));
    // JSON strings are YAML strings.
    let url = serde_json::Value::from(url);
    let text = EXAMPLE.replace("@URL@", &url.to_string());
    // The unit has no home, so ssh finds no keys and no known hosts by itself.
    if ssh { text.replace(SSH_AS_EXAMPLE, SSH_IN_USE) } else { text }
}

const SSH_AS_EXAMPLE: &str = "  # ssh:\n  #   identityFile: /etc/trueup/id_ed25519\n  \
                              #   knownHosts: /etc/trueup/known_hosts\n";
const SSH_IN_USE: &str = "  # Keys and known hosts of the daemon's own: `ssh-keygen -t ed25519 -f FILE`, \
                          `ssh-keyscan HOST`.\n  ssh:\n    identityFile: /etc/trueup/id_ed25519\n    \
                          knownHosts: /etc/trueup/known_hosts\n";

const EXAMPLE: &str = include_str!("example.yaml");
