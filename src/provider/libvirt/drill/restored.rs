//! What a drill brought back of a guest: which machine it was, and its disks.
//!
//! It came from a repository that others may be able to write to: what it says is only read, and its
//! disks are taken as plain files of this folder, whatever they are called.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::super::xml::{self, domain, drill};
use super::place::User;
use crate::model::Fault;
use crate::model::resource::{DiskAttachment, DiskDevice, GuestPart, VirtualMachine};
use crate::port::{BootWish, DiskInBackup, SAVED_DISKS};
use crate::provider::files::blocking;
use crate::provider::paths::{is_plain, named};

/// The file with the guest's definition.
const DEFINITION: &str = "domain.xml";
/// Disks that an event names.
const NAMED_MAX: usize = 8;
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
    /// Which disks of its definition it goes without, in a sentence; `None`: none.
    pub(super) without: Option<String>,
}

impl Restored {
    /// What is wrong, with what it may come from.
    pub(super) fn told(&self, why: String) -> String {
        match &self.without {
            Some(without) => format!("{why}; {without}"),
            None => why,
        }
    }

    /// Looks at what came back; a sentence where it cannot be booted for what it is.
    pub(super) async fn look(wish: &BootWish<'_>) -> Result<Result<Self, String>, Fault> {
        let (folder, part, spec) = (wish.folder.to_owned(), wish.part.clone(), wish.spec.clone());
        let (backup, machine) = (wish.backup.clone(), wish.boot.machine.clone());
        let look = move || match part {
            GuestPart::Machine { .. } => match of_machine(&folder) {
                Ok(Ok(found)) if found.disks.is_empty() => Err(Fault::transient(format!(
                    "backup/{backup}: none of the disks of vm/{machine}'s saved definition is in the \
                     snapshot: it was defined anew while it ran, and a snapshot of it after its next \
                     start can be booted"
                ))),
                found => {
                    found.map_err(|error| Fault::transient(format!("backup/{backup}: {error}")))
                }
            },
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
                        None => Ok(Self { vm: spec, machine: None, disks, without: None }),
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
        let stand_ins = drill::stand_ins(&self.vm, &self.disks);
        let give = move || {
            for name in stand_ins {
                let empty = folder.join(name);
                // A leftover, or something that came back under this name: it goes with the folder's rest.
                remove(&empty)?;
                let made = File::create_new(&empty).and_then(|file| file.set_len(EMPTY_BYTES));
                made.map_err(|error| named(&empty, &error))?;
                files.push(empty);
            }
            remove(&folder.join(drill::CONSOLE))?;
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
    let text = match text_of(folder, DEFINITION)? {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(Err(format!("its definition, {DEFINITION}, did not come back"))),
        Err(why) => return Ok(Err(why)),
    };
    let parsed = match domain::parse(&text) {
        Ok(parsed) => parsed,
        Err(error) => return Ok(Err(format!("its definition, {DEFINITION}: {error}"))),
    };
    let saved: Option<Vec<DiskInBackup>> = match text_of(folder, SAVED_DISKS)? {
        Ok(Some(text)) => match serde_json::from_str(&text) {
            Ok(saved) => Some(saved),
            Err(error) => return Ok(Err(format!("its list of disks, {SAVED_DISKS}: {error}"))),
        },
        Ok(None) => None,
        Err(why) => return Ok(Err(why)),
    };
    let mut vm = parsed.vm;
    let (files, left_out) = match files(&vm, saved) {
        Ok(matched) => matched,
        Err(why) => return Ok(Err(why)),
    };
    let disks = files.into_iter().map(|(target, file)| (target, folder.join(file))).collect();
    if let Some(why) = missing(&disks)? {
        return Ok(Err(why));
    }
    let without = (!left_out.is_empty()).then(|| {
        let all: Vec<_> = left_out.iter().take(NAMED_MAX).map(String::as_str).collect();
        let more = match left_out.len() - all.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "it was booted without {}{more}: in its definition, and not in the snapshot, as it was not given to \
             the running machine by then",
            all.join(", ")
        )
    });
    vm.disks.retain(|disk| !left_out.contains(&disk.target));
    Ok(Ok(Restored { vm, machine: parsed.machine, disks, without }))
}

/// A small file that came back, where it did; a sentence where it is no text.
fn text_of(folder: &Path, name: &str) -> io::Result<Result<Option<String>, String>> {
    let path = folder.join(name);
    if !is_plain(&path)? {
        return Ok(Ok(None));
    }
    let mut text = String::new();
    let most = xml::SIZE_MAX as u64 + 1;
    let read = File::open(&path).and_then(|file| file.take(most).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Ok(Err(format!("what came back as {name} is no text")))
        }
        read => read.map(|_| Ok(Some(text))).map_err(|error| named(&path, &error)),
    }
}

/// Files by the targets of the disks that they are.
type Files = BTreeMap<String, String>;

/// Which file is which disk that the machine writes to, by its target, and the targets of those that are
/// in no file. Its disks were saved as they were in the machine that ran, and its definition counts from
/// the next start on: the two have other disks, and other targets for the same, in between. So they are
/// matched by their places on the host, as far as the snapshot says these.
fn files(
    vm: &VirtualMachine,
    saved: Option<Vec<DiskInBackup>>,
) -> Result<(Files, BTreeSet<String>), String> {
    let (mut files, mut left_out) = (Files::new(), BTreeSet::new());
    let mut saved = saved
        .map(|all| all.into_iter().map(|disk| (disk.path, disk.file)).collect::<BTreeMap<_, _>>());
    let written = |disk: &&DiskAttachment| !disk.read_only && disk.device == DiskDevice::Disk;
    for disk in vm.disks.iter().filter(written) {
        let target = &disk.target;
        if !is_word(target) {
            return Err(format!("its definition, {DEFINITION}, has a disk without a real name"));
        }
        let file = match (&mut saved, &disk.path) {
            (Some(saved), Some(path)) => saved.remove(Path::new(path)),
            (Some(_), None) => None,
            (None, _) => Some(format!("{target}.raw")),
        };
        match file {
            // It must not lead anywhere.
            Some(file) if !file.strip_suffix(".raw").is_some_and(is_word) => {
                return Err(format!(
                    "its list of disks, {SAVED_DISKS}, has a file without a real name"
                ));
            }
            Some(file) => {
                files.insert(target.clone(), file);
            }
            None => {
                left_out.insert(target.clone());
            }
        }
    }
    Ok((files, left_out))
}

/// Longest name of a disk, or of its file, bytes: libvirt's own have five.
const NAME_MAX: usize = 32;

/// Whether it can be part of a path and leads nowhere.
fn is_word(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
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
        for odd in ["../../etc/vda", &"v".repeat(33)] {
            write(definition(&disk(odd, "")));
            assert!(look().unwrap_err().contains("real name"));
        }
        write("<domain".into());
        assert!(look().unwrap_err().contains("malformed"));
    }

    /// A commit gave the machine another disk and its old one another bus, and it was not restarted yet.
    #[test]
    fn disks_of_a_machine_that_was_defined_anew_are_told_by_their_places() {
        let host = tempfile::tempdir().unwrap();
        let at = |name: &str| host.path().join(name);
        let look = || of_machine(host.path()).unwrap();
        let placed = |target: &str, path: &str| disk(target, "").replace("/etc/shadow", path);
        let defined = definition(
            &(placed("sda", "/pool/web.qcow2")
                + &placed("vda", "/pool/new.qcow2")
                + &disk("sdb", "<readonly/>")),
        );
        fs::write(at("domain.xml"), defined).unwrap();
        fs::write(at("vda.raw"), "x").unwrap();
        let list = |file: &str, path: &str| {
            let text = format!(r#"[{{"file": "{file}", "path": "{path}", "format": "qcow2"}}]"#);
            fs::write(at("disks.json"), text).unwrap();
        };
        list("vda.raw", "/pool/web.qcow2");
        let found = look().unwrap();
        assert_eq!(found.disks, BTreeMap::from([("sda".to_owned(), at("vda.raw"))]));
        let targets: Vec<_> = found.vm.disks.iter().map(|disk| disk.target.as_str()).collect();
        assert_eq!(targets, ["sda", "sdb"]);
        let told = found.told("it was not up".to_owned());
        assert!(told.starts_with("it was not up; it was booted without vda:"), "{told}");

        // What is said to be there and is not is something wrong.
        list("vdb.raw", "/pool/web.qcow2");
        assert!(look().unwrap_err().contains("its disk sda, vdb.raw, did not come back"));
        list("../vda.raw", "/pool/web.qcow2");
        assert!(look().unwrap_err().contains("real name"));
        fs::write(at("disks.json"), "[{").unwrap();
        assert!(look().unwrap_err().contains("disks.json"));
        // Of many disks an event names a few.
        let many: String =
            (10..30).map(|n| placed(&format!("vd{n}"), &format!("/pool/{n}"))).collect();
        let defined = definition(&(placed("sda", "/pool/web.qcow2") + &many));
        fs::write(at("domain.xml"), defined).unwrap();
        list("vda.raw", "/pool/web.qcow2");
        let told = look().unwrap().told("it was not up".to_owned());
        assert!(told.contains("without vd10, ") && told.contains("vd17 and 12 more: "), "{told}");
        // None of its disks: nothing is known of the snapshot by that.
        list("vda.raw", "/pool/old.qcow2");
        assert!(look().unwrap().disks.is_empty());
    }
}
