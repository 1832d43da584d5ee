//! Which file of a snapshot is which disk: by the list in it, by its backup, or not at all.
//!
//! What came back is not trusted: of a list only names that lead nowhere are taken.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::DiskFile;
use crate::model::resource::{Backup, Disk};
use crate::model::{Resource, ResourceId};
use crate::port::DiskInBackup;
use crate::provider::paths::is_plain;
use crate::spec::saved_by;

/// The list of a machine's disks is as long as a machine has disks.
const SAVED_DISKS_MAX: u64 = 1 << 20;
/// As long as the name of a file may be.
const FILE_NAME_MAX: usize = 255;

/// The list of a machine's disks, as it came back; what is wrong with it.
pub(super) fn saved_in(list: &Path) -> Result<Vec<DiskInBackup>, String> {
    let failed = |error: io::Error| error.to_string();
    // A link would lead to the machine's own files, and nobody may ever write to a pipe.
    if !is_plain(list).map_err(failed)? {
        return Err("it did not come back as a file".to_owned());
    }
    let mut text = String::new();
    let file = File::open(list).map_err(failed)?;
    file.take(SAVED_DISKS_MAX).read_to_string(&mut text).map_err(failed)?;
    let saved: Vec<DiskInBackup> =
        serde_json::from_str(&text).map_err(|error| error.to_string())?;
    match saved.iter().all(|disk| is_raw_file(&disk.file)) {
        true => Ok(saved),
        false => Err("it has a file without a real name".to_owned()),
    }
}

/// Whether it is what files of disks are called in a snapshot: one name, which leads nowhere.
pub(super) fn is_raw_file(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    name.len() <= FILE_NAME_MAX
        && name.strip_suffix(".raw").is_some_and(|it| !it.is_empty() && it.bytes().all(plain))
}

/// The disks among `disks` whose files `backup` saves as they are.
pub(super) fn whole_files(
    backup: &Backup,
    disks: &BTreeMap<ResourceId, Disk>,
) -> BTreeMap<ResourceId, DiskFile> {
    let all = disks.iter().map(|(id, disk)| (id.clone(), Resource::Disk(disk.clone())));
    let all: Vec<_> = all.collect();
    let saved = saved_by(backup, all.iter().map(|(id, resource)| (id, resource)));
    let file = |id: ResourceId| {
        let path = disks.get(&id)?.path.clone();
        Some((id, DiskFile::Itself(path)))
    };
    saved.into_iter().filter_map(file).collect()
}

/// The disks among `disks` that a machine's snapshot has, by the places of their files.
pub(super) fn by_place(
    saved: &[DiskInBackup],
    disks: &BTreeMap<ResourceId, Disk>,
) -> BTreeMap<ResourceId, DiskFile> {
    let file = |disk: &Disk| {
        let saved = saved.iter().find(|saved| saved.path == Path::new(&disk.path))?;
        Some(DiskFile::Content(saved.file.clone()))
    };
    disks.iter().filter_map(|(id, disk)| Some((id.clone(), file(disk)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::ready::tests::disk;
    use super::*;
    use crate::model::resource::VolumeFormat;
    use crate::port::SAVED_DISKS;

    #[test]
    fn disks_of_a_machine_are_told_by_their_places() {
        let at = |path: &str| disk(Path::new(path));
        let id = |text: &str| text.parse::<ResourceId>().unwrap();
        let disks = BTreeMap::from([
            (id("disk/a"), at("/pool/a.qcow2")),
            (id("disk/c"), at("/pool/c.qcow2")),
        ]);
        let saved = |file: &str, path: &str| DiskInBackup {
            file: file.into(),
            path: path.into(),
            format: VolumeFormat::Qcow2,
        };
        let saved = [saved("vda.raw", "/pool/b.qcow2"), saved("vdb.raw", "/pool/a.qcow2")];
        let content = DiskFile::Content("vdb.raw".into());
        assert_eq!(by_place(&saved, &disks), BTreeMap::from([(id("disk/a"), content)]));
    }

    #[test]
    fn a_list_of_disks_is_read_as_a_file_and_names_files_of_the_snapshot() {
        let host = tempfile::tempdir().unwrap();
        let list = host.path().join(SAVED_DISKS);
        let write = |file: &str| {
            let text = format!(r#"[{{"file": "{file}", "path": "/pool/a", "format": "qcow2"}}]"#);
            std::fs::write(&list, text).unwrap();
        };
        assert!(saved_in(&list).unwrap_err().contains("as a file"));
        write("vda.raw");
        assert_eq!(saved_in(&list).unwrap()[0].file, "vda.raw");
        for odd in ["../vda.raw", "vda", ".raw", "a/b.raw", &format!("{}.raw", "a".repeat(252))] {
            write(odd);
            assert!(saved_in(&list).unwrap_err().contains("real name"), "{odd}");
        }
        write("vda.raw");
        std::fs::rename(&list, host.path().join("other")).unwrap();
        std::os::unix::fs::symlink(host.path().join("other"), &list).unwrap();
        assert!(saved_in(&list).unwrap_err().contains("as a file"), "it leads elsewhere");
    }
}
