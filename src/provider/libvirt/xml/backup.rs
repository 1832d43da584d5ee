//! Backup jobs and checkpoints: the XML of new ones, and what is read of those there are.
//!
//! It never describes a layer under a guest: a job in pull mode has a scratch file beside the disk,
//! into which QEMU copies what the guest is about to overwrite.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use xmltree::Element;

use super::tree::{self, Ext, new};
use super::{XmlError, domain};

/// The words used in errors.
const JOB: &str = "domainbackup";
const CHECKPOINT: &str = "domaincheckpoint";

/// A disk of a backup job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDisk {
    /// Its target: `vda`.
    pub target: String,
    /// Where QEMU puts what the guest overwrites meanwhile.
    pub scratch: PathBuf,
    /// Whether changes to it can be noted in it.
    pub notes: bool,
    /// The checkpoint from which on its changes are told.
    pub since: Option<String>,
}

/// The name of the bitmap that a job exports for each disk whose changes are told.
pub const BITMAP: &str = "changed";

/// A backup in pull mode of `disks`, and of no other of the `targets`, served at `socket`.
///
/// # Errors
/// It cannot be written, or a path is no text.
pub fn job(disks: &[JobDisk], targets: &[String], socket: &Path) -> Result<String, XmlError> {
    let mut list = Element::new("disks");
    for target in targets {
        let Some(disk) = disks.iter().find(|disk| disk.target == *target) else {
            list.add(new("disk", &[("name", target), ("backup", "no")]));
            continue;
        };
        let mut element = new(
            "disk",
            &[("name", target), ("backup", "yes"), ("type", "file"), ("exportname", target)],
        );
        match &disk.since {
            Some(since) => {
                element.set("backupmode", "incremental");
                element.set("incremental", since);
                element.set("exportbitmap", BITMAP);
            }
            None => element.set("backupmode", "full"),
        }
        element.add(new("scratch", &[("file", text(&disk.scratch)?)]));
        list.add(element);
    }
    let server = new("server", &[("transport", "unix"), ("socket", text(socket)?)]);
    tree::write(&new(JOB, &[("mode", "pull")]).with(server).with(list), JOB)
}

/// A checkpoint of that name with bitmaps in those disks that can note changes.
///
/// # Errors
/// It cannot be written.
pub fn checkpoint(name: &str, disks: &[JobDisk], targets: &[String]) -> Result<String, XmlError> {
    let mut list = Element::new("disks");
    for target in targets {
        let notes = disks.iter().any(|disk| disk.target == *target && disk.notes);
        let kind = if notes { "bitmap" } else { "no" };
        list.add(new("disk", &[("name", target), ("checkpoint", kind)]));
    }
    let root = Element::new(CHECKPOINT)
        .with(Element::new("name").with_text(name))
        .with(Element::new("description").with_text("kept by trueup for its next backup"))
        .with(list);
    tree::write(&root, CHECKPOINT)
}

/// The disks that a checkpoint has bitmaps in: their targets, and the files they were then.
///
/// # Errors
/// The XML is no checkpoint's.
pub fn noted(xml: &str) -> Result<BTreeMap<String, PathBuf>, XmlError> {
    let root = tree::parse(xml, CHECKPOINT)?;
    let empty = Element::new("disks");
    let disks = root.get_child("disks").unwrap_or(&empty);
    let targets: Vec<&str> = disks
        .all("disk")
        .filter(|disk| disk.attr("checkpoint") == Some("bitmap"))
        .filter_map(|disk| disk.attr("name"))
        .collect();
    let Some(then) = root.get_child("domain") else { return Ok(BTreeMap::new()) };
    let then = domain::disks_of(then);
    let found = then.into_iter().filter(|disk| targets.contains(&disk.target.as_str()));
    Ok(found.filter_map(|disk| Some((disk.target, disk.path?.into()))).collect())
}

/// Whether one of the bitmaps of a checkpoint is lost, as told by a description with sizes.
///
/// # Errors
/// The XML is no checkpoint's.
pub fn lost(xml: &str) -> Result<bool, XmlError> {
    let root = tree::parse(xml, CHECKPOINT)?;
    let Some(disks) = root.get_child("disks") else { return Ok(false) };
    let mut noted = disks.all("disk").filter(|it| it.attr("checkpoint") == Some("bitmap"));
    Ok(noted.any(|disk| disk.attr("size").is_none()))
}

/// The socket that a backup job is served at.
///
/// # Errors
/// The XML is no backup job's.
pub fn socket(xml: &str) -> Result<Option<PathBuf>, XmlError> {
    let root = tree::parse(xml, JOB)?;
    Ok(root.at(&["server"]).and_then(|server| server.attr("socket")).map(PathBuf::from))
}

/// The number by which libvirt calls a running domain.
///
/// # Errors
/// The XML is no domain's.
pub fn domain_number(xml: &str) -> Result<Option<u32>, XmlError> {
    let root = tree::parse(xml, "domain")?;
    Ok(root.attr("id").and_then(|id| id.parse().ok()))
}

fn text(path: &Path) -> Result<&str, XmlError> {
    path.to_str().ok_or_else(|| XmlError::Value {
        what: JOB,
        part: "path",
        value: path.display().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks() -> (Vec<JobDisk>, Vec<String>) {
        let disk = |target: &str, notes, since: Option<&str>| JobDisk {
            target: target.into(),
            scratch: format!("/p/{target}.part").into(),
            notes,
            since: since.map(Into::into),
        };
        let disks = vec![disk("vda", true, Some("trueup-web-1")), disk("vdb", false, None)];
        (disks, ["vda", "vdb", "sda"].map(Into::into).into())
    }

    /// As libvirt 9.0 tells it with `--size`, of a running domain and after its QEMU was killed.
    #[test]
    fn a_bitmap_without_a_size_is_lost() {
        let told = |disk: &str| {
            format!(
                "<domaincheckpoint><name>m1</name><disks><disk name='sda' checkpoint='no'/>{disk}\
                 </disks></domaincheckpoint>"
            )
        };
        let whole = "<disk name='vda' checkpoint='bitmap' bitmap='m1' size='0'/>";
        let gone = "<disk name='vdb' checkpoint='bitmap' bitmap='m1'/>";
        assert!(!lost(&told(whole)).unwrap());
        assert!(lost(&told(gone)).unwrap() && lost(&told(&(whole.to_owned() + gone))).unwrap());
    }

    #[test]
    fn a_job_tells_of_each_disk_what_becomes_of_it() {
        let (disks, targets) = disks();
        let xml = job(&disks, &targets, Path::new("/run/x.sock")).unwrap();
        assert_eq!(socket(&xml).unwrap(), Some("/run/x.sock".into()));
        let root = tree::parse(&xml, JOB).unwrap();
        let told: Vec<_> = root
            .at(&["disks"])
            .unwrap()
            .all("disk")
            .map(|disk| [disk.attr("backup"), disk.attr("incremental"), disk.attr("exportname")])
            .collect();
        let yes = Some("yes");
        assert_eq!(
            told,
            [
                [yes, Some("trueup-web-1"), Some("vda")],
                [yes, None, Some("vdb")],
                [Some("no"), None, None]
            ]
        );
    }

    #[test]
    fn a_checkpoint_tells_which_files_its_bitmaps_are_in() {
        let (disks, targets) = disks();
        let xml = checkpoint("trueup-web-2", &disks, &targets).unwrap();
        assert_eq!(noted(&xml).unwrap(), BTreeMap::new(), "no domain, no files");
        let domain = "<domain><devices><disk type='file' device='disk'><source file='/p/a.qcow2'/>\
            <target dev='vda' bus='virtio'/></disk><disk type='file' device='disk'><source \
            file='/p/b.raw'/><target dev='vdb' bus='virtio'/></disk></devices></domain>";
        let xml = xml.replace("</domaincheckpoint>", &format!("{domain}</domaincheckpoint>"));
        let noted = noted(&xml).unwrap();
        assert_eq!(noted, BTreeMap::from([("vda".into(), "/p/a.qcow2".into())]));
    }

    #[test]
    fn a_running_domain_has_a_number() {
        assert_eq!(domain_number("<domain id='12'/>").unwrap(), Some(12));
        assert_eq!(domain_number("<domain/>").unwrap(), None);
    }
}
