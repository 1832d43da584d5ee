//! Which guest has the disks that a backup is of, and where they lie.

use std::path::{Path, PathBuf};

use trueup_libvirt::DomainRecord;

use super::super::{fault, xml};
use super::LibvirtGuests;
use crate::model::Fault;
use crate::model::resource::{DiskAttachment, DiskDevice, GuestPart, VolumeFormat};
use crate::port::{DiskInBackup, SAVED_DISKS};

/// What a note of a disk that nobody has is called by.
const NOBODY: &str = "nobody";

/// A disk to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SavedDisk {
    /// Its target in the guest; empty where nobody has it.
    pub(super) target: String,
    /// Its file.
    pub(super) path: PathBuf,
    pub(super) format: VolumeFormat,
    /// What it is called in the backup.
    pub(super) file: String,
}

/// Where the disks are.
#[derive(Debug)]
pub(super) struct Place {
    /// Whose they are.
    pub(super) record: Option<DomainRecord>,
    /// The disks to be saved.
    pub(super) disks: Vec<SavedDisk>,
    /// The targets of all disks that the guest has.
    pub(super) targets: Vec<String>,
    /// Whether the guest's definition is saved with them.
    pub(super) whole: bool,
}

impl Place {
    /// The guest's name; empty where nobody has them.
    pub(super) fn guest(&self) -> &str {
        self.record.as_ref().map_or("", |record| record.name.as_str())
    }

    pub(super) fn uuid(&self) -> &str {
        self.record.as_ref().map_or(NOBODY, |record| record.uuid.as_str())
    }

    pub(super) fn runs(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.active)
    }
}

impl Place {
    /// What is saved beside the disks of a whole guest: its definition, and which file is which disk.
    pub(super) fn texts(&self) -> Result<Vec<(String, String)>, Fault> {
        let Some(record) = self.record.as_ref().filter(|_| self.whole) else {
            return Ok(Vec::new());
        };
        let disks = self.disks.iter().map(|disk| DiskInBackup {
            file: disk.file.clone(),
            path: disk.path.clone(),
            format: disk.format,
        });
        let disks: Vec<_> = disks.collect();
        let disks = serde_json::to_string_pretty(&disks).map_err(|error| {
            Fault::permanent(format!("vm/{}: the places of its disks: {error}", record.name))
        })?;
        let definition = ("domain.xml".to_owned(), record.inactive_xml.clone());
        Ok(vec![definition, (SAVED_DISKS.to_owned(), disks)])
    }
}

/// The disks of a domain, of what runs where it runs.
fn disks(record: &DomainRecord) -> Result<Vec<DiskAttachment>, Fault> {
    let text = record.live_xml.as_ref().unwrap_or(&record.inactive_xml);
    let parsed = xml::domain::parse(text);
    let parsed = parsed.map_err(|error| fault::xml(format!("reading vm/{}", record.name), &error));
    Ok(parsed?.vm.disks)
}

impl LibvirtGuests {
    /// Where the disks of `part` are now.
    pub(super) async fn find(&self, part: &GuestPart) -> Result<Place, Fault> {
        match part {
            GuestPart::Machine { name } => self.find_machine(name.as_str()).await,
            GuestPart::Disk { name, path, format } => {
                self.find_disk(name.as_str(), path, *format).await
            }
        }
    }

    async fn find_machine(&self, name: &str) -> Result<Place, Fault> {
        let record = self.client.domain(name).await;
        let record =
            record.map_err(|error| fault::step(format!("looking at vm/{name}"), &error))?;
        let all = disks(&record)?;
        let mut saved = Vec::new();
        for disk in &all {
            if disk.read_only || disk.device != DiskDevice::Disk {
                continue;
            }
            let path = disk.path.as_ref().map(PathBuf::from).filter(|path| path.is_absolute());
            let Some(path) = path else {
                return Err(Fault::permanent(format!(
                    "disk {} of vm/{name} is no file of this host and cannot be saved: save the \
                     others one by one, by their `disk`",
                    disk.target
                )));
            };
            saved.push(SavedDisk {
                file: format!("{}.raw", disk.target),
                target: disk.target.clone(),
                path,
                format: disk.format,
            });
        }
        if saved.is_empty() {
            return Err(Fault::permanent(format!(
                "vm/{name} has no disk that it writes to; its definition alone is saved by \
                 `definition`"
            )));
        }
        let targets = all.into_iter().map(|disk| disk.target).collect();
        Ok(Place { record: Some(record), disks: saved, targets, whole: true })
    }

    /// Of several guests that have the disk, the one that runs.
    async fn find_disk(
        &self,
        name: &str,
        path: &str,
        format: VolumeFormat,
    ) -> Result<Place, Fault> {
        let domains = self.client.domains().await;
        let domains =
            domains.map_err(|error| fault::step(format!("finding who has disk/{name}"), &error))?;
        if let Some((guest, error)) = domains.failed.first() {
            return Err(Fault::transient(format!(
                "disk/{name} is not saved: vm/{guest} may have it and cannot be read ({})",
                error.message
            )));
        }
        let mut found: Option<Place> = None;
        for record in domains.items {
            let all = disks(&record)?;
            let Some(disk) = all.iter().find(|disk| disk.path.as_deref() == Some(path)) else {
                continue;
            };
            if found.as_ref().is_some_and(|found| found.runs() || !record.active) {
                continue;
            }
            let saved = SavedDisk {
                target: disk.target.clone(),
                path: path.into(),
                format,
                file: format!("{name}.raw"),
            };
            let targets = all.into_iter().map(|disk| disk.target).collect();
            let (record, disks) = (Some(record), vec![saved]);
            found = Some(Place { record, disks, targets, whole: false });
        }
        if let Some(found) = found {
            return Ok(found);
        }
        if !Path::new(path).exists() {
            return Err(Fault::transient(format!("{path} of disk/{name} is not there")));
        }
        let (target, file) = (String::new(), format!("{name}.raw"));
        let disks = vec![SavedDisk { target, path: path.into(), format, file }];
        Ok(Place { record: None, disks, targets: Vec::new(), whole: false })
    }
}
