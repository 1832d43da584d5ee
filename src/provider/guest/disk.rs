//! A guest's disk for what has to outlive its machine: it is given a file system where there is nothing at all
//! on it, and nothing is ever written over.

use std::io;

use serde::Deserialize;
use trueup_slurm::Machine as _;
use trueup_slurm::run::Argv;

use super::{FILE_LIMIT, Guest};

/// The label of the file system on it.
pub(in super::super) const LABEL: &str = "trueup-data";
/// Where udev shows the one that has it.
pub(in super::super) const BY_LABEL: &str = "/dev/disk/by-label/trueup-data";
/// Longest that a file system may take to be made, on a guest that is emulated.
const MAKE_LIMIT: std::time::Duration = std::time::Duration::from_secs(600);

/// Gives the one empty disk of a guest a file system, if none has it yet. `of`: what it is for, in errors.
pub(in super::super) fn format(guest: &Guest, of: &str) -> io::Result<()> {
    let argv = Argv::new("lsblk").args([
        "--json",
        "--paths",
        "--output",
        "NAME,TYPE,FSTYPE,LABEL,RO,MOUNTPOINT",
    ]);
    let shown = argv.ask_on(guest, FILE_LIMIT).map_err(io::Error::other)?;
    let found = empty_disk(&String::from_utf8_lossy(&shown), of).map_err(io::Error::other)?;
    let Some(disk) = found else { return Ok(()) };
    // lsblk tells what udev found; this looks at the disk itself, and finds nothing with 2 (blkid(8)).
    let probe = Argv::new("blkid").args(["--probe", &disk]);
    let said = guest.run(&probe, FILE_LIMIT).map_err(io::Error::other)?;
    if said.status.code() != Some(2) {
        let words = format!("{disk} is not empty, and nothing is written over it");
        return Err(io::Error::other(words));
    }
    guest.must_within(&["mkfs.ext4", "-q", "-L", LABEL, &disk], MAKE_LIMIT)?;
    guest.must(&["udevadm", "settle"])
}

#[derive(Deserialize)]
struct Devices {
    blockdevices: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    name: String,
    r#type: String,
    fstype: Option<String>,
    label: Option<String>,
    ro: bool,
    mountpoint: Option<String>,
    #[serde(default)]
    children: Vec<Device>,
}

/// The disk that is to have the file system; `None`: one of them has it already.
fn empty_disk(shown: &str, of: &str) -> Result<Option<String>, String> {
    let shown: Devices = serde_json::from_str(shown)
        .map_err(|error| format!("lsblk says something else: {error}"))?;
    let own = |device: &&Device| device.label.as_deref() == Some(LABEL);
    if shown.blockdevices.iter().any(|device| own(&device)) {
        return Ok(None);
    }
    let empty = |device: &&Device| {
        device.r#type == "disk"
            && !device.ro
            && device.fstype.is_none()
            && device.mountpoint.is_none()
            && device.children.is_empty()
    };
    let found: Vec<&Device> = shown.blockdevices.iter().filter(empty).collect();
    match found[..] {
        [one] => Ok(Some(one.name.clone())),
        [] => Err(format!("it has no empty disk, and none with {of} on it")),
        _ => Err(format!(
            "it has {} empty disks, and which of them is for {of} cannot be told",
            found.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{ended, with};
    use super::*;

    #[test]
    fn an_empty_disk_is_given_a_file_system_and_no_other() {
        let disk = |more: &str| {
            format!(
                r#"{{"blockdevices": [
                {{"name":"/dev/vda","type":"disk","fstype":"ext4","label":"root","ro":false,"mountpoint":"/"}},
                {{"name":"/dev/sr0","type":"rom","fstype":"iso9660","label":"cidata","ro":false,"mountpoint":null}}
                {more} ]}}"#
            )
        };
        let empty = |name: &str| {
            format!(
                r#",{{"name":"{name}","type":"disk","fstype":null,"label":null,"ro":false,"mountpoint":null}}"#
            )
        };
        let ours = r#",{"name":"/dev/vdb","type":"disk","fstype":"ext4","label":"trueup-data","ro":false,"mountpoint":null}"#;
        let empty_disk = |shown: &str| empty_disk(shown, "the data");
        assert_eq!(empty_disk(&disk(&empty("/dev/vdb"))), Ok(Some("/dev/vdb".to_owned())));
        assert_eq!(empty_disk(&disk(ours)), Ok(None));
        let error = empty_disk(&disk("")).unwrap_err();
        assert!(error.contains("no empty disk, and none with the data on it"), "{error}");
        let two = format!("{}{}", empty("/dev/vdb"), empty("/dev/vdc"));
        let error = empty_disk(&disk(&two)).unwrap_err();
        assert!(error.contains("2 empty disks"), "{error}");
        let parted = r#",{"name":"/dev/vdb","type":"disk","fstype":null,"label":null,"ro":false,"mountpoint":null,
            "children":[{"name":"/dev/vdb1","type":"part","fstype":null,"label":null,"ro":false,"mountpoint":null}]}"#;
        assert!(empty_disk(&disk(parted)).is_err(), "somebody parted it");

        let made = |probe: i32| {
            let shown = disk(&empty("/dev/vdb"));
            let programs = [
                ("lsblk", ended(0, &shown, "")),
                ("blkid", ended(probe, "", "")),
                ("mkfs.ext4", ended(0, "", "")),
                ("udevadm", ended(0, "", "")),
            ];
            let mut found = None;
            with(&programs, |guest, fake| {
                let done = format(guest, "the data").map_err(|error| error.to_string());
                found = Some((done, fake.ran().iter().any(|call| call.starts_with("mkfs"))));
            });
            found.unwrap()
        };
        assert_eq!(made(2), (Ok(()), true));
        // udev knows of nothing, and there is something.
        let (done, made_one) = made(0);
        assert!(!made_one && done.unwrap_err().contains("/dev/vdb is not empty"));
        assert!(!made(1).1, "nobody knows");
    }
}
