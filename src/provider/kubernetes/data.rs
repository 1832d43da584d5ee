//! What a cluster knows, on a disk of the control plane's machine that is not the one that it is started from: the
//! authorities and etcd, and a mark that says whose they are. It is mounted from each start on, and the kubelet does
//! not start without it: an empty etcd would be another cluster.
//!
//! Nothing on a disk is ever written over, and what lies on the machine's first disk is never covered by a mount.

use std::io;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use trueup_kubernetes::kubeadm::again::DataMark;
use trueup_slurm::Machine as _;
use trueup_slurm::run::Argv;

use super::machine;
use crate::model::resource::KubernetesData;
use crate::provider::guest::{Guest, disk};

/// Longest that one question to a machine may take, which may be emulated.
const QUESTION: Duration = Duration::from_secs(90);
/// Where the disk is mounted.
const PLACE: &str = "/var/lib/trueup/data";
/// Whose data are on it.
const MARK: &str = "/var/lib/trueup/data/cluster";
/// The certificate of the authority.
pub(super) const AUTHORITY: &str = "/etc/kubernetes/pki/ca.crt";
/// The kubelet starts etcd, and never without its data.
const NEEDS: (&str, &str) = (
    "/etc/systemd/system/kubelet.service.d/trueup.conf",
    "# Written by trueup.\n[Unit]\nRequiresMountsFor=/etc/kubernetes/pki /var/lib/etcd\n",
);
const DISK: (&str, &str) = (
    "var-lib-trueup-data.mount",
    "# Written by trueup.\n[Unit]\nDescription=What the cluster knows\n\n[Mount]\n\
     What=/dev/disk/by-label/trueup-data\nWhere=/var/lib/trueup/data\nType=ext4\n\n[Install]\n\
     WantedBy=multi-user.target\n",
);

/// A folder of the disk.
struct Part {
    /// The folder.
    from: &'static str,
    /// Where it belongs.
    at: &'static str,
    /// The unit that brings it there, which systemd wants to be called after the place.
    unit: &'static str,
    /// What is in it as soon as there is anything.
    first: &'static str,
}

const PARTS: [Part; 2] = [
    Part {
        from: "/var/lib/trueup/data/pki",
        at: "/etc/kubernetes/pki",
        unit: "etc-kubernetes-pki.mount",
        first: AUTHORITY,
    },
    Part {
        from: "/var/lib/trueup/data/etcd",
        at: "/var/lib/etcd",
        unit: "var-lib-etcd.mount",
        first: "/var/lib/etcd/member",
    },
];

impl Part {
    fn text(&self) -> String {
        format!(
            "# Written by trueup.\n[Unit]\nDescription=What the cluster knows\n\
             RequiresMountsFor={PLACE}\n\n[Mount]\nWhat={}\nWhere={}\nType=none\nOptions=bind\n\n\
             [Install]\nWantedBy=multi-user.target\n",
            self.from, self.at
        )
    }
}

/// Where the data of the cluster are whose control plane this is, or is to be.
///
/// # Errors
/// It does not say.
pub(super) fn look(guest: &Guest) -> io::Result<KubernetesData> {
    if !mounted(guest)? {
        return Ok(match on_root(guest)? {
            true => KubernetesData::OnRoot,
            false => KubernetesData::Unset,
        });
    }
    // One that is a control plane has its mark there, or gets it.
    let is = machine::is(guest, machine::CONTROL_PLANE)?;
    match !is || guest.says_yes(&["test", "-e", MARK])? {
        true => Ok(KubernetesData::Apart),
        false => Ok(KubernetesData::Unset),
    }
}

/// Whether there is a disk with anybody's data.
///
/// # Errors
/// It does not say.
pub(super) fn is_there(guest: &Guest) -> io::Result<bool> {
    guest.says_yes(&["test", "-e", disk::BY_LABEL])
}

/// The places at which something is mounted.
fn mounts(guest: &Guest) -> io::Result<Vec<String>> {
    let argv = Argv::new("findmnt").args(["--raw", "--noheadings", "--output", "TARGET"]);
    let said = argv.ask_on(guest, QUESTION).map_err(io::Error::other)?;
    Ok(String::from_utf8_lossy(&said).lines().map(str::to_owned).collect())
}

fn mounted(guest: &Guest) -> io::Result<bool> {
    let all = mounts(guest)?;
    Ok(PARTS.iter().all(|part| all.iter().any(|at| at == part.at)))
}

/// Whether anything lies where one of the folders is to be mounted and is not.
fn on_root(guest: &Guest) -> io::Result<bool> {
    let all = mounts(guest)?;
    for part in PARTS.iter().filter(|part| !all.iter().any(|at| at == part.at)) {
        if guest.says_yes(&["test", "-e", part.first])? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether etcd has anything there.
///
/// # Errors
/// It does not say.
pub(super) fn knows(guest: &Guest) -> io::Result<bool> {
    let [_, etcd] = &PARTS;
    guest.says_yes(&["test", "-e", etcd.first])
}

/// Mounts the disk, which is given a file system where it is empty; whether anything was done. Where the data are
/// on the machine's first disk, they stay there.
///
/// # Errors
/// It cannot be.
pub(super) fn mount(guest: &Guest) -> io::Result<bool> {
    if look(guest)? != KubernetesData::Unset {
        return Ok(false);
    }
    guest.must(&["mkdir", "-p", PLACE, "/etc/systemd/system/kubelet.service.d"])?;
    guest.replace(Path::new(NEEDS.0), NEEDS.1.as_bytes())?;
    unit(guest, DISK.0, DISK.1)?;
    for part in &PARTS {
        unit(guest, part.unit, &part.text())?;
    }
    let [pki, etcd] = PARTS.each_ref().map(|part| part.unit);
    guest.must(&["systemctl", "enable", machine::NO_RELOAD, DISK.0, pki, etcd])?;
    guest.must(&["systemctl", "daemon-reload"])?;
    disk::format(guest, "what the cluster knows")?;
    guest.must(&["systemctl", "start", DISK.0])?;
    for part in &PARTS {
        guest.must(&["install", "-d", "-m", "0700", part.from])?;
        guest.must(&["mkdir", "-p", part.at])?;
        guest.must(&["systemctl", "start", part.unit])?;
    }
    match mounted(guest)? {
        true => Ok(true),
        false => Err(io::Error::other("its disk of data was mounted, and is not")),
    }
}

fn unit(guest: &Guest, name: &str, text: &str) -> io::Result<()> {
    guest.replace(&Path::new("/etc/systemd/system").join(name), text.as_bytes())
}

/// Whose data are there; `None`: of no cluster that ever was up.
///
/// # Errors
/// It does not say, or somebody else wrote there.
pub(super) fn mark(guest: &Guest) -> io::Result<Option<DataMark>> {
    let text = guest.read(Path::new(MARK))?;
    let read = text.map(|text| DataMark::read(&text)).transpose();
    read.map_err(|why| io::Error::other(format!("{MARK}: {why}")))
}

/// Says whose data are there.
///
/// # Errors
/// It cannot be written.
pub(super) fn set_mark(guest: &Guest, mark: &DataMark) -> io::Result<()> {
    guest.replace(Path::new(MARK), mark.text().as_bytes())
}

/// The certificate of the authority that is there.
///
/// # Errors
/// It cannot be read, or there is none.
pub(super) fn authority(guest: &Guest) -> io::Result<Vec<u8>> {
    let found = guest.read(Path::new(AUTHORITY))?;
    found.ok_or_else(|| io::Error::other(format!("there is no {AUTHORITY}")))
}

/// What stands for it.
pub(super) fn digest(authority: &[u8]) -> String {
    hex::encode(Sha256::digest(authority))
}

/// Removes what a control plane left that was never up. To be called only where there is no mark.
///
/// # Errors
/// It cannot be.
pub(super) fn clear(guest: &Guest) -> io::Result<()> {
    let [pki, etcd] = PARTS.each_ref().map(|part| part.from);
    guest.must(&["find", pki, etcd, "-mindepth", "1", "-delete"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::guest::fake::{ended, with};

    #[test]
    fn units_are_called_after_their_places() {
        for Part { at, unit, .. } in &PARTS {
            let name = at.trim_start_matches('/').replace('/', "-");
            assert_eq!(*unit, format!("{name}.mount"));
            assert!(NEEDS.1.contains(at));
        }
        assert_eq!(DISK.0, format!("{}.mount", PLACE.trim_start_matches('/').replace('/', "-")));
        assert!(DISK.1.contains(disk::BY_LABEL) && DISK.1.contains(PLACE));
    }

    /// Where the data are, whether mounting them did anything, and whether it touched anything.
    fn at(mounts: &[&str], files: &[&str]) -> (KubernetesData, Result<bool, ()>, bool) {
        let mut found = None;
        with(&[("lsblk", ended(1, "", ""))], |guest, fake| {
            mounts.iter().for_each(|at| fake.mounts(at));
            files.iter().for_each(|path| fake.put(path, "x"));
            let (place, done) = (look(guest).unwrap(), mount(guest).map_err(drop));
            let touched = fake.ran().iter().any(|it| it.starts_with("systemctl"));
            found = Some((place, done, touched));
        });
        found.unwrap()
    }

    #[test]
    fn data_are_where_they_are_and_nothing_is_mounted_over_them() {
        let all = ["/", "/etc/kubernetes/pki", "/var/lib/etcd"];
        assert_eq!(at(&all, &[]), (KubernetesData::Apart, Ok(false), false));
        for first in [AUTHORITY, "/var/lib/etcd/member"] {
            assert_eq!(at(&["/"], &[first]), (KubernetesData::OnRoot, Ok(false), false), "{first}");
        }
        // One half is mounted, and at the other half's place there is nothing, or something.
        let half = ["/", "/var/lib/etcd"];
        assert_eq!(at(&half, &["/var/lib/etcd/member"]).0, KubernetesData::Unset);
        assert_eq!(at(&half, &[AUTHORITY]).0, KubernetesData::OnRoot);
    }
}
