//! Restored disks as qcow2 files: `qemu-img` writes them, and holes stay holes.
//!
//! A restored file is removed only once its other form is whole and on the disk.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::model::Fault;
use crate::model::resource::Backing;
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
            if path.extension().is_some_and(|ending| ending == RAW) && is_file(&path) {
                disks.push(path);
            }
        }
        disks.sort();
        Ok(disks)
    };
    let mut made = Vec::new();
    for raw in blocking("list restored disks", list).await? {
        let to = raw.with_extension("qcow2");
        if to.symlink_metadata().is_ok() && !is_file(&to) {
            // What came back may lead anywhere, and qemu-img would write there.
            return Err(Fault::permanent(format!(
                "{} stays as it is: {} is in the way, and is no file",
                raw.display(),
                to.display()
            )));
        }
        let arguments = ["convert", "-f", RAW, "-O", "qcow2", "-t", "writeback"];
        let converted = qemu_img(&arguments, &[&raw, &to]).await;
        converted.map_err(|fault| match fault {
            Fault::Permanent { message } => {
                Fault::permanent(format!("{} stays as it is, {message}", raw.display()))
            }
            other => other,
        })?;
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

/// Whether it is a file itself, and leads to no other.
fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|it| it.is_file())
}

/// What else than itself a qcow2 file shows, in words; `None`: nothing, or it is no qcow2 file. By its
/// header (QEMU's docs/interop/qcow2.txt): nothing of what that names is looked at.
///
/// # Errors
/// It cannot be read.
pub(super) fn below(image: &Path) -> io::Result<Option<&'static str>> {
    const MAGIC: &[u8] = b"QFI\xfb";
    /// Bit 2 of the incompatible features, the last byte of eight.
    const DATA_FILE: u8 = 1 << 2;
    let mut header = Vec::new();
    File::open(image)?.take(80).read_to_end(&mut header)?;
    let backing = header.get(8..16).is_some_and(|offset| offset.iter().any(|byte| *byte != 0));
    // Version 2 ends before them.
    let later = header.get(4..8).is_some_and(|version| version != [0, 0, 0, 2]);
    let data = later && header.get(79).is_some_and(|features| features & DATA_FILE != 0);
    Ok(match (header.starts_with(MAGIC), backing, data) {
        (true, true, _) => Some("lies on another"),
        (true, false, true) => Some("has its data in another"),
        _ => None,
    })
}

/// Makes the new qcow2 file `to`, of the content of `raw`. With `below` it is one that lies on that
/// image, which need not be there: it has every byte itself, the zeros too.
///
/// # Errors
/// `qemu-img` is not there or fails, or is too old to prove that every byte is there.
pub(super) async fn to_disk(raw: &Path, to: &Path, below: Option<&Backing>) -> Result<(), Fault> {
    let Some(below) = below else {
        return qemu_img(&["convert", "-f", RAW, "-O", "qcow2", "-t", "writeback"], &[raw, to])
            .await;
    };
    let size = tokio::fs::metadata(raw).await;
    let size = size.map_err(|error| Fault::transient(format!("{}: {error}", raw.display())))?.len();
    let size = size.to_string();
    qemu_img(&["create", "-q", "-f", "qcow2"], &[to, Path::new(&size)]).await?;
    // Into a file that is there, zeros are written too: they hide what the image has there.
    qemu_img(&["convert", "-n", "-f", RAW, "-O", "qcow2", "-t", "writeback"], &[raw, to]).await?;
    all_its_own(to).await?;
    let rebase = ["rebase", "-q", "-u", "-f", "qcow2", "-F", below.format.as_str(), "-b"];
    qemu_img(&rebase, &[Path::new(&below.path), to]).await
}

/// That an image lacks nothing which it would show of one below it.
async fn all_its_own(image: &Path) -> Result<(), Fault> {
    let mut map = command();
    map.args(["map", "-f", "qcow2", "--output=json"]).arg(image).stdout(Stdio::piped());
    let mut child = map.spawn().map_err(not_there)?;
    let told = child.stdout.take().ok_or_else(|| Fault::transient("qemu-img has no output"))?;
    let mut told = BufReader::new(told).lines();
    let failed = |why: String| Fault::permanent(format!("{}: {why}", image.display()));
    // One extent a line (qemu-img(1), `map`); all of them together may be many.
    while let Some(line) = told.next_line().await.map_err(|error| failed(error.to_string()))? {
        if !line.trim().is_empty() && !line.contains("\"present\": true") {
            return Err(failed("qemu-img left a part of it out, or is older than 6.1".into()));
        }
    }
    let ended = child.wait_with_output().await.map_err(not_there)?;
    succeeded(&ended)
}

async fn qemu_img(arguments: &[&str], files: &[&Path]) -> Result<(), Fault> {
    let mut run = command();
    let output = run.args(arguments).args(files).output().await.map_err(not_there)?;
    succeeded(&output)
}

fn command() -> Command {
    let mut command = Command::new("qemu-img");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn not_there(error: std::io::Error) -> Fault {
    Fault::needs_human(
        format!("qemu-img cannot be run: {error}"),
        "install qemu-utils; the disks are restored as raw files",
    )
}

fn succeeded(output: &Output) -> Result<(), Fault> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Fault::permanent(format!("qemu-img failed: {}", said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resource::VolumeFormat;

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
        assert_eq!(below(&at("vda.qcow2")).unwrap(), None);
        // What leads elsewhere is neither read nor written to.
        std::fs::write(at("host"), "of the host").unwrap();
        std::os::unix::fs::symlink(at("host"), at("vdb.raw")).unwrap();
        assert!(to_qcow2(folder.path()).await.unwrap().is_empty());
        std::fs::remove_file(at("vdb.raw")).unwrap();
        std::fs::write(at("vdb.raw"), "data").unwrap();
        std::os::unix::fs::symlink(at("host"), at("vdb.qcow2")).unwrap();
        let why = to_qcow2(folder.path()).await.unwrap_err().to_string();
        assert!(why.contains("vdb.qcow2 is in the way"), "{why}");
        assert_eq!(std::fs::read(at("host")).unwrap(), b"of the host");
        let mut back = Command::new("qemu-img");
        back.args(["convert", "-O", "raw"]).arg(at("vda.qcow2")).arg(at("back"));
        assert!(back.status().await.unwrap().success());
        assert!(std::fs::read(at("back")).unwrap() == content);
    }

    #[tokio::test]
    async fn a_disk_on_an_image_shows_nothing_of_the_image() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut content = vec![0; 1 << 20];
        content[300_000..300_005].copy_from_slice(b"bytes");
        std::fs::write(at("raw"), &content).unwrap();
        let path = at("image").display().to_string();
        let below = Backing { path, format: VolumeFormat::Raw };
        to_disk(&at("raw"), &at("disk"), Some(&below)).await.unwrap();
        // The image comes later, as where it is fetched anew.
        std::fs::write(at("image"), vec![7; 1 << 20]).unwrap();
        assert_eq!(super::below(&at("disk")).unwrap(), Some("lies on another"));
        let mut back = Command::new("qemu-img");
        back.args(["convert", "-O", "raw"]).arg(at("disk")).arg(at("back"));
        assert!(back.status().await.unwrap().success());
        assert!(std::fs::read(at("back")).unwrap() == content);
        // What lacks a part is noticed.
        qemu_img(&["create", "-q", "-f", "qcow2"], &[&at("empty"), Path::new("1M")]).await.unwrap();
        assert!(all_its_own(&at("empty")).await.is_err());
    }
}
