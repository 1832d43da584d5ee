//! A control plane that is made again, on the authorities and the etcd that the one before left on a disk of
//! their own: by an image of the same release, or of the next one, which is an upgrade. Pure.
//!
//! `kubeadm init` does it: it keeps authorities and certificates that it finds, and makes the rest for its own
//! release. `kubeadm upgrade apply` would need the programs of both releases in one image. Nothing here ever
//! resets anything.

use serde::{Deserialize, Serialize};

use crate::node::skew::{self, Version};

/// What kubeadm would take for a mistake, and is the very thing that is meant.
const THERE: &str = "DirAvailable--var-lib-etcd";
/// What is there where it was cut off before.
const BEGUN: [&str; 10] = [
    "FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml",
    "FileAvailable--etc-kubernetes-manifests-etcd.yaml",
    "Port-6443",
    "Port-10250",
    "Port-10257",
    "Port-10259",
    "Port-2379",
    "Port-2380",
];

/// Whose data are on a disk: the mark that lies beside them. It is there as soon as the cluster was up once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataMark {
    /// The cluster.
    pub cluster: String,
    /// The digest of its authority's certificate.
    pub authority: String,
    /// The newest release that was let work on them.
    pub release: Version,
}

impl DataMark {
    /// What is written.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::json!(self).to_string() + "\n"
    }

    /// What was written.
    ///
    /// # Errors
    /// It is no such mark.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|error| format!("it is no mark of trueup: {error}"))
    }

    /// Whether a control plane of that cluster, authority and release may be made on the data.
    ///
    /// # Errors
    /// In words, why not.
    pub fn lets(&self, other: &Self) -> Result<(), String> {
        if self.cluster != other.cluster {
            return Err(format!("they are of the cluster {}", self.cluster));
        }
        if self.authority != other.authority {
            return Err("the authority beside them is not the one of their cluster".to_owned());
        }
        skew::step(self.release, other.release)
    }
}

/// What `--ignore-preflight-errors` is told. `begun`: it was cut off before.
#[must_use]
pub fn ignored(begun: bool) -> String {
    let begun = BEGUN.iter().filter(|_| begun);
    let all: Vec<&str> = std::iter::once(&THERE).chain(begun).copied().collect();
    all.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(cluster: &str, authority: &str, release: &str) -> DataMark {
        let (cluster, authority) = (cluster.to_owned(), authority.to_owned());
        DataMark { cluster, authority, release: release.parse().unwrap() }
    }

    #[test]
    fn data_are_gone_on_with_by_their_own_cluster_and_the_next_minor_at_most() {
        let there = mark("cloud", "a1", "1.20.2");
        let lets = |cluster: &str, authority: &str, release: &str| {
            there.lets(&mark(cluster, authority, release))
        };
        assert_eq!(lets("cloud", "a1", "1.20.2"), Ok(()));
        assert_eq!(lets("cloud", "a1", "1.21.14"), Ok(()));
        assert!(lets("other", "a1", "1.20.2").unwrap_err().contains("of the cluster cloud"));
        assert!(lets("cloud", "b2", "1.20.2").unwrap_err().contains("authority"));
        assert!(lets("cloud", "a1", "1.22.0").unwrap_err().contains("upgrade to 1.21 first"));
        assert!(lets("cloud", "a1", "1.19.9").unwrap_err().contains("cannot go back"));
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nothing_else_is_one() {
        let there = mark("cloud", "a1", "1.20.2");
        assert_eq!(DataMark::read(there.text().as_bytes()), Ok(there));
        for other in ["", "{}", "{\"cluster\":\"cloud\"}"] {
            assert!(DataMark::read(other.as_bytes()).unwrap_err().contains("no mark"), "{other}");
        }
    }

    #[test]
    fn nothing_but_what_is_meant_is_passed_over() {
        assert_eq!(ignored(false), "DirAvailable--var-lib-etcd");
        assert!(ignored(true).starts_with("DirAvailable--var-lib-etcd,FileAvailable--etc-"));
        assert!(!ignored(true).contains("all"));
    }
}
