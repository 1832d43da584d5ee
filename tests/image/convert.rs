//! What `qemu-img` images are taken and which are refused.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use trueup::model::resource::VolumeFormat::{Qcow2, Raw};
use trueup::provider::image::{convert, inspect};

const TIME: Duration = Duration::from_secs(60);

#[track_caller]
fn qemu_img(args: &[&str], dir: &Path) {
    let status = Command::new("qemu-img").args(args).current_dir(dir).status().unwrap();
    assert!(status.success(), "{args:?}");
}

#[tokio::test]
async fn images_that_reach_for_other_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    qemu_img(&["create", "-q", "-f", "qcow2", "base", "1M"], dir.path());
    qemu_img(&["create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "backed"], dir.path());
    qemu_img(
        &["create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", "thief", "1M"],
        dir.path(),
    );
    qemu_img(&["create", "-q", "-f", "qcow2", "-o", "data_file=x.raw", "split", "1M"], dir.path());
    qemu_img(&["create", "-q", "-f", "vmdk", "vmdk", "1M"], dir.path());
    for (name, why) in [
        ("backed", "backing file `base`"),
        ("thief", "backing file `/etc/shadow`"),
        ("split", "another file"),
        ("vmdk", "format is vmdk"),
    ] {
        let error = inspect(&at(name)).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        let dest = at("dest");
        assert!(convert(&at(name), &dest, Raw, None, TIME).await.is_err());
        assert!(!dest.exists());
    }
}

#[tokio::test]
async fn conversion_keeps_the_bytes_and_grows_but_never_cuts() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut bytes = vec![0; 1 << 20];
    bytes[..4].copy_from_slice(b"DISK");
    std::fs::write(at("raw"), &bytes).unwrap();

    let info = convert(&at("raw"), &at("q"), Qcow2, Some(4 << 20), TIME).await.unwrap();
    assert_eq!((info.format, info.virtual_size), (Qcow2, 4 << 20));
    assert_eq!(inspect(&at("q")).await.unwrap(), info);
    assert_eq!(std::fs::metadata(at("q")).unwrap().permissions().mode() & 0o7777, 0o444);
    convert(&at("q"), &at("back"), Raw, None, TIME).await.unwrap();
    bytes.resize(4 << 20, 0);
    assert_eq!(std::fs::read(at("back")).unwrap(), bytes);

    let error = convert(&at("q"), &at("cut"), Raw, Some(1 << 20), TIME).await.unwrap_err();
    assert!(error.to_string().contains("never cut"), "{error}");
    let late = convert(&at("q"), &at("late"), Raw, None, Duration::ZERO).await.unwrap_err();
    assert!(late.chain().contains("time limit"), "{}", late.chain());
    let mut names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["back", "q", "raw"], "no partial file is left");
}
