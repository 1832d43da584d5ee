//! Which versions of Kubernetes may stand side by side, and the way from one to another. Pure.
//!
//! The rules are those of kubernetes.io/releases/version-skew-policy.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A release of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// `1`.
    pub major: u32,
    /// What counts here.
    pub minor: u32,
    /// Repairs.
    pub patch: u32,
}

/// A text that names no release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no release of Kubernetes, as v1.33.1 is")]
pub struct BadVersion(String);

impl FromStr for Version {
    type Err = BadVersion;

    /// `v1.33.1`, with or without the `v`, a patch, and what distributions add (`+k3s1`, `-gke.100`).
    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let bad = || BadVersion(text.to_owned());
        let bare = text.strip_prefix('v').unwrap_or(text);
        let bare = bare.split(['+', '-']).next().unwrap_or_default();
        let mut parts = bare.split('.').map(|part| part.parse::<u32>().map_err(|_| bad()));
        let mut next = || parts.next().unwrap_or_else(|| Err(bad()));
        let (major, minor) = (next()?, next()?);
        let patch = parts.next().transpose()?.unwrap_or(0);
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Self { major, minor, patch })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The group `policy` of the API that evictions are asked by.
pub fn eviction_api(server: Version) -> &'static str {
    // policy/v1 came with 1.22, v1beta1 went with 1.25.
    if server.minor >= 22 { "v1" } else { "v1beta1" }
}

/// How many minors a kubelet may be behind its API server: three since 1.28, two before.
fn behind_max(server: Version) -> u32 {
    if server.minor >= 28 { 3 } else { 2 }
}

/// What must not stand side by side, in words; empty: all is well. Both are given with names of whose
/// they are.
pub fn check(servers: &[(String, Version)], kubelets: &[(String, Version)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let oldest = servers.iter().min_by_key(|(_, version)| *version);
    let newest = servers.iter().max_by_key(|(_, version)| *version);
    let (Some((old_name, oldest)), Some((new_name, newest))) = (oldest, newest) else {
        return wrong;
    };
    if newest.major != oldest.major || newest.minor - oldest.minor > 1 {
        wrong.push(format!(
            "the API server of {new_name} is {newest} and that of {old_name} {oldest}: they may be one minor apart"
        ));
    }
    for (name, kubelet) in kubelets {
        if (kubelet.major, kubelet.minor) > (oldest.major, oldest.minor) {
            wrong.push(format!(
                "the kubelet of {name} is {kubelet}, newer than the API server of {old_name} ({oldest}): upgrade the control plane first"
            ));
        } else if kubelet.major != newest.major
            || newest.minor - kubelet.minor > behind_max(*newest)
        {
            wrong.push(format!(
                "the kubelet of {name} is {kubelet}, the API server of {new_name} {newest}: at most {} minors behind are allowed; upgrade the node first",
                behind_max(*newest)
            ));
        }
    }
    wrong
}

/// The releases that a control plane passes on its way, the last of them `to`: no minor is skipped.
///
/// # Errors
/// In words, why there is no way.
pub fn way(from: Version, to: Version) -> Result<Vec<Version>, String> {
    if to.major != from.major {
        return Err(format!("there is no way from {from} to {to}"));
    }
    if to < from {
        return Err(format!(
            "{to} is older than {from}: a control plane cannot go back; restore a backup instead"
        ));
    }
    if to == from {
        return Ok(Vec::new());
    }
    // Which patch of a minor in between is the caller's choice: the newest that it has.
    let between = (from.minor + 1..to.minor).map(|minor| Version { minor, patch: 0, ..from });
    Ok(between.chain([to]).collect())
}

/// Whether a control plane that ran with the one may be run with the other: of the same minor, or of the next.
///
/// # Errors
/// In words, why not.
pub fn step(from: Version, to: Version) -> Result<(), String> {
    if (from.major, from.minor) == (to.major, to.minor) {
        return Ok(());
    }
    match &way(from, to)?[..] {
        [first, _, ..] => Err(format!(
            "there is no step from {from} to {to}: no minor is skipped, so upgrade to {}.{} first",
            first.major, first.minor
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn named(all: &[&str]) -> Vec<(String, Version)> {
        all.iter().enumerate().map(|(i, text)| (format!("n{i}"), v(text))).collect()
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(v("v1.33.1+k3s1").to_string(), "v1.33.1");
        assert_eq!(v("1.20").to_string(), "v1.20.0");
        for bad in ["", "v1", "one.two", "1.2.3.4", "1.x"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
        assert_eq!((eviction_api(v("1.21.9")), eviction_api(v("1.22.0"))), ("v1beta1", "v1"));
    }

    #[test]
    fn skew_is_told() {
        let ok = |servers: &[&str], kubelets: &[&str]| check(&named(servers), &named(kubelets));
        assert!(ok(&["1.33.1", "1.32.9"], &["1.32.0", "1.30.5"]).is_empty());
        assert!(ok(&["1.33.1", "1.31.0"], &[])[0].contains("they may be one minor apart"));
        assert!(ok(&["1.33.1", "1.32.0"], &["1.33.0"])[0].contains("upgrade the control plane"));
        assert!(ok(&["1.33.1"], &["1.29.0"])[0].contains("at most 3 minors behind"));
        assert!(ok(&["1.27.1"], &["1.24.0"])[0].contains("at most 2 minors behind"));
    }

    #[test]
    fn no_minor_is_skipped_and_none_is_gone_back() {
        let shown = |from: &str, to: &str| {
            way(v(from), v(to)).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(shown("1.31.4", "1.33.1").unwrap(), ["v1.32.0", "v1.33.1"]);
        assert_eq!(shown("1.33.0", "1.33.1").unwrap(), ["v1.33.1"]);
        assert!(shown("1.33.1", "1.33.1").unwrap().is_empty());
        assert!(shown("1.33.1", "1.32.9").unwrap_err().contains("cannot go back"));
    }

    #[test]
    fn one_step_is_a_minor_at_most() {
        let to = |from: &str, to: &str| step(v(from), v(to));
        for (from, next) in [("1.20.2", "1.20.15"), ("1.20.2", "1.21.0"), ("1.20.2", "1.20.0")] {
            assert_eq!(to(from, next), Ok(()), "{from} {next}");
        }
        assert!(to("1.20.2", "1.22.0").unwrap_err().ends_with("so upgrade to 1.21 first"));
        assert!(to("1.21.0", "1.20.9").unwrap_err().contains("cannot go back"));
        assert!(to("1.33.0", "2.0.0").unwrap_err().contains("no way"));
    }
}
