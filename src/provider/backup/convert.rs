//! Restored disks as qcow2 files: `qemu-img` writes them, and holes stay holes.
//!
//! A restored file is removed only once its other form is whole and on the disk.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::model::Fault;
use crate::provider::files::blocking;

/// The ending of disks in a snapshot.
const RAW: &str = "raw";

/// Makes a qcow2 file of every raw disk that lies in `folder`; their paths.
///
/// # Errors
/// `qemu-img` is not there or fails; the raw file is still there then.
pub async fn to_qcow2(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let at = folder.to_owned();
    let list = move || {
        let failed = |error: std::io::Error| Fault::transient(format!("{}: {error}", at.display()));
        let mut disks = Vec::new();
        for entry in std::fs::read_dir(&at).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|ending| ending == RAW) && path.is_file() {
                disks.push(path);
            }
        }
        disks.sort();
        Ok(disks)
    };
    let mut made = Vec::new();
    for raw in blocking("list restored disks", list).await? {
        let to = raw.with_extension("qcow2");
        let mut convert = Command::new("qemu-img");
        convert.args(["convert", "-f", RAW, "-O", "qcow2", "-t", "writeback"]).arg(&raw).arg(&to);
        convert
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = convert.output().await.map_err(|error| {
            Fault::needs_human(
                format!("qemu-img cannot be run: {error}"),
                "install qemu-utils; the disks are restored as raw files",
            )
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Fault::permanent(format!(
                "{} stays as it is, qemu-img failed: {}",
                raw.display(),
                said.trim()
            )));
        }
        let done = to.clone();
        let tidy = move || {
            let synced = std::fs::File::open(&done).and_then(|file| file.sync_all());
            synced
                .and_then(|()| std::fs::remove_file(&raw))
                .map_err(|error| Fault::transient(format!("{}: {error}", raw.display())))
        };
        blocking("finish a converted disk", tidy).await?;
        made.push(to);
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn raw_disks_become_qcow2_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut content = vec![0; 1 << 20];
        content[300_000..300_005].copy_from_slice(b"bytes");
        std::fs::write(at("vda.raw"), &content).unwrap();
        std::fs::write(at("domain.xml"), "<domain/>").unwrap();
        assert_eq!(to_qcow2(folder.path()).await.unwrap(), [at("vda.qcow2")]);
        assert!(!at("vda.raw").exists() && at("domain.xml").exists());
        let mut back = Command::new("qemu-img");
        back.args(["convert", "-O", "raw"]).arg(at("vda.qcow2")).arg(at("back"));
        assert!(back.status().await.unwrap().success());
        assert!(std::fs::read(at("back")).unwrap() == content);
    }
}
