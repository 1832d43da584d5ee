//! The boot check, on a guest that takes five seconds.

use std::time::Duration;

use trueup::model::resource::VolumeFormat::Qcow2;
use trueup::provider::image::{BootCheck, ImageError, boot_check, digest_file};
use trueup::provider::seed::{SeedContent, seed_image};

use crate::support::tiny_guest::{TinyGuest, tiny_guest};

fn check<'a>(guest: &'a TinyGuest, expect: &'a str) -> BootCheck<'a> {
    BootCheck {
        image: &guest.disk,
        format: Qcow2,
        kernel: &guest.kernel,
        initrd: &guest.initrd,
        seed: None,
        expect,
        deadline: Duration::from_secs(120),
    }
}

#[tokio::test]
async fn a_guest_that_boots_is_seen_reads_its_seed_and_leaves_the_image_alone() {
    let guest = tiny_guest();
    let dir = tempfile::tempdir().unwrap();
    let seed = dir.path().join("seed");
    let content = SeedContent {
        meta_data: "instance-id: trueup-42\nlocal-hostname: web\n".into(),
        user_data: "#cloud-config\n{}\n".into(),
        ..SeedContent::default()
    };
    std::fs::write(&seed, seed_image(&content).unwrap()).unwrap();
    let before = digest_file(&guest.disk).await.unwrap();
    let console = dir.path().join("console");

    let mut check = check(guest, "TINY-SEED");
    check.seed = Some(&seed);
    let report = boot_check(&check, &console).await.unwrap();
    assert_eq!(report.line, "TINY-SEED vdb instance-id=trueup-42 files=meta-data,user-data,");
    assert_eq!(digest_file(&guest.disk).await.unwrap(), before);
    assert!(std::fs::read_to_string(&console).unwrap().contains("TINY-DISK vda"));
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn a_panic_is_reported_at_once_with_its_line() {
    let guest = tiny_guest();
    let dir = tempfile::tempdir().unwrap();
    let initrd = dir.path().join("initrd");
    std::fs::write(&initrd, "not an archive").unwrap();
    let mut check = check(guest, "login:");
    check.initrd = &initrd;
    let error = boot_check(&check, &dir.path().join("console")).await.unwrap_err();
    let ImageError::Boot { why, .. } = &error else { panic!("{error}") };
    assert!(why.contains("Kernel panic"), "{why}");
}

#[tokio::test]
async fn a_guest_that_never_gets_there_is_stopped() {
    let guest = tiny_guest();
    let dir = tempfile::tempdir().unwrap();
    let mut check = check(guest, "no such text");
    check.deadline = Duration::from_secs(2);
    let error = boot_check(&check, &dir.path().join("console")).await.unwrap_err();
    assert!(error.to_string().contains("did not come within 2 s"), "{error}");
}
