//! What a drill brought back of a guest: which machine it was, and its disks.
//!
//! It came from a repository that others may be able to write to: its definition is only read, and its
//! disks are taken by names that are made here.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::super::xml::{self, domain, drill};
use super::place::{User, is_plain};
use crate::model::Fault;
use crate::model::resource::{DiskDevice, GuestPart, VirtualMachine};
use crate::port::BootWish;
use crate::provider::files::blocking;
use crate::provider::paths::named;

/// The file with the guest's definition.
const DEFINITION: &str = "domain.xml";
/// Bytes of the image that stands in for disks that were not saved: one that every driver takes.
const EMPTY_BYTES: u64 = 1 << 20;

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Restored {
    /// The machine that it was, or that it is booted as.
    pub(super) vm: VirtualMachine,
    /// Its type with the version.
    pub(super) machine: Option<String>,
    /// Its disks by their targets.
    pub(super) disks: BTreeMap<String, PathBuf>,
}

impl Restored {
    /// Looks at what came back; a sentence where it cannot be booted for what it is.
    pub(super) async fn look(wish: &BootWish<'_>) -> Result<Result<Self, String>, Fault> {
        let (folder, part, spec) = (wish.folder.to_owned(), wish.part.clone(), wish.spec.clone());
        let (backup, machine) = (wish.backup.clone(), wish.boot.machine.clone());
        let look = move || match part {
            GuestPart::Machine { .. } => of_machine(&folder)
                .map_err(|error| Fault::transient(format!("backup/{backup}: {error}"))),
            GuestPart::Disk { name, path, .. } => {
                let target = spec.disks.iter().find(|it| it.path.as_deref() == Some(path.as_str()));
                let Some(target) = target.map(|it| it.target.clone()) else {
                    return Err(Fault::transient(format!(
                        "backup/{backup}: vm/{machine} does not have disk/{name} any more"
                    )));
                };
                let file = folder.join(format!("{name}.raw"));
                let disks = BTreeMap::from([(target, file)]);
                missing(&disks)
                    .map(|missing| match missing {
                        Some(why) => Err(why),
                        None => Ok(Self { vm: spec, machine: None, disks }),
                    })
                    .map_err(|error| Fault::transient(format!("backup/{backup}: {error}")))
            }
        };
        blocking("look at what came back of a guest", look).await
    }

    /// Lets QEMU, and nobody else, at it.
    pub(super) async fn hand_over(
        &self,
        wish: &BootWish<'_>,
        user: Option<User>,
    ) -> Result<(), Fault> {
        let (folder, backup) = (wish.folder.to_owned(), wish.backup.clone());
        let mut files: Vec<_> = self.disks.values().cloned().collect();
        let mut give = move || {
            let empty = folder.join(drill::EMPTY);
            // A leftover, or something that came back under this name: it goes with the folder's rest.
            remove(&empty)?;
            let made = File::create_new(&empty).and_then(|file| file.set_len(EMPTY_BYTES));
            made.map_err(|error| named(&empty, &error))?;
            remove(&folder.join(drill::CONSOLE))?;
            files.push(empty);
            let variables = folder.join(drill::VARIABLES);
            make(&variables)?;
            if let Some(user) = user {
                files.iter().try_for_each(|file| user.given(file, 0o600))?;
                user.given(&variables, 0o700)?;
                user.let_through(&folder)?;
            }
            Ok(())
        };
        blocking("let QEMU at what came back", move || {
            give().map_err(|error: io::Error| Fault::transient(format!("backup/{backup}: {error}")))
        })
        .await
    }
}

fn make(folder: &Path) -> io::Result<()> {
    let made = DirBuilder::new().mode(0o700).create(folder);
    made.map_err(|error| named(folder, &error))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(path, &error)),
        Err(_) | Ok(()) => Ok(()),
    }
}

fn of_machine(folder: &Path) -> io::Result<Result<Restored, String>> {
    let path = folder.join(DEFINITION);
    if !is_plain(&path)? {
        return Ok(Err(format!("its definition, {DEFINITION}, did not come back")));
    }
    let mut text = String::new();
    let most = xml::SIZE_MAX as u64 + 1;
    let read = File::open(&path).and_then(|file| file.take(most).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Ok(Err(format!("its definition, {DEFINITION}, is no text")));
        }
        read => read.map_err(|error| named(&path, &error))?,
    };
    let parsed = match domain::parse(&text) {
        Ok(parsed) => parsed,
        Err(error) => return Ok(Err(format!("its definition, {DEFINITION}: {error}"))),
    };
    let (vm, mut disks) = (parsed.vm, BTreeMap::new());
    for disk in &vm.disks {
        if disk.read_only || disk.device != DiskDevice::Disk {
            continue;
        }
        // A name that is part of a path must not lead anywhere.
        if disk.target.is_empty() || !disk.target.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(Err(format!(
                "its definition, {DEFINITION}, has a disk without a real name"
            )));
        }
        disks.insert(disk.target.clone(), folder.join(format!("{}.raw", disk.target)));
    }
    if let Some(why) = missing(&disks)? {
        return Ok(Err(why));
    }
    Ok(Ok(Restored { vm, machine: parsed.machine, disks }))
}

/// Says which disk did not come back as a file of its own.
fn missing(disks: &BTreeMap<String, PathBuf>) -> io::Result<Option<String>> {
    for (target, path) in disks {
        if !is_plain(path)? {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            return Ok(Some(format!("its disk {target}, {file}, did not come back as a file")));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(disks: &str) -> String {
        format!(
            "<domain type='qemu'><name>web</name><uuid>4ec93a5e-8e4f-5d0b-9c53-6f0a2f8d1b11</uuid>\
             <memory>65536</memory><os><type machine='pc-q35-7.2'>hvm</type></os><devices>{disks}\
             </devices></domain>"
        )
    }

    fn disk(target: &str, more: &str) -> String {
        format!(
            "<disk type='file' device='disk'><source file='/etc/shadow'/><target dev='{target}' \
             bus='virtio'/>{more}</disk>"
        )
    }

    #[test]
    fn disks_are_taken_by_our_names_and_only_as_files() {
        let host = tempfile::tempdir().unwrap();
        let at = |name: &str| host.path().join(name);
        let look = || of_machine(host.path()).unwrap();
        let write = |text: String| fs::write(at("domain.xml"), text).unwrap();
        assert!(look().unwrap_err().contains("did not come back"));
        write(definition(&(disk("vda", "") + &disk("vdb", "<readonly/>"))));
        assert!(look().unwrap_err().contains("vda.raw"));
        fs::write(at("vda.raw"), "x").unwrap();
        let found = look().unwrap();
        assert_eq!(found.disks, BTreeMap::from([("vda".to_owned(), at("vda.raw"))]));
        assert_eq!(found.machine.as_deref(), Some("pc-q35-7.2"));
        fs::remove_file(at("vda.raw")).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", at("vda.raw")).unwrap();
        assert!(look().unwrap_err().contains("as a file"));
        write(definition(&disk("../../etc/vda", "")));
        assert!(look().unwrap_err().contains("real name"));
        write("<domain".into());
        assert!(look().unwrap_err().contains("malformed"));
    }
}
