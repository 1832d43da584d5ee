//! The machine of a database: set up once, and a disk with anything on it never touched.

use super::*;
use crate::provider::guest::fake::{ended, with};

fn setup(disk: bool) -> Setup {
    Setup::new("StorageType=accounting_storage/mysql\n".to_owned(), disk)
}

fn is(guest: &Guest, setup: &Setup) -> bool {
    setup.is(&Digests::ask(guest, FILES.into_iter()).unwrap())
}

#[test]
fn a_database_is_set_up_once_all_of_it_is_done() {
    let programs = [
        ("mountpoint", ended(0, "", "")),
        ("test", ended(0, "", "")),
        ("mariadb", ended(0, "", "")),
    ];
    with(&programs, |guest, fake| {
        let setup = setup(true);
        for cut_off in ["daemon-reload", "restart mariadb", "--execute", "restart slurmdbd"] {
            fake.fails(Some(cut_off));
            let error = setup.make(guest, "GRANT").unwrap_err().to_string();
            assert!(error.contains(cut_off), "{error}");
            fake.fails(None);
            assert!(!is(guest, &setup), "{cut_off} failed");
        }
        setup.make(guest, "GRANT").unwrap();
        assert!(!is(guest, &setup), "the cluster is not known to it");
        guest.replace(Path::new(DONE), setup.mark().as_bytes()).unwrap();
        assert!(is(guest, &setup));
        // slurmdbd starts with no other mode, and nobody else reads it.
        let made =
            "install -m 0600 -o slurm -g slurm /dev/null /etc/slurm/.slurmdbd.conf.trueup-new";
        assert!(fake.ran().contains(&made.to_owned()), "{:?}", fake.ran());
        assert!(!fake.ran().iter().any(|call| call.contains("install-db")), "there is one");
        fake.put(CONF, "by hand");
        assert!(!is(guest, &setup));
    });
}

#[test]
fn an_image_without_a_database_is_told_before_anything_is_written() {
    with(&[("test", ended(1, "", ""))], |guest, fake| {
        let error = setup(false).make(guest, "GRANT").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(error.to_string(), "there is no /usr/sbin/slurmdbd in it");
        assert_eq!(fake.file(TUNING), None);
    });
}

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
    assert_eq!(empty_disk(&disk(&empty("/dev/vdb"))), Ok(Some("/dev/vdb".to_owned())));
    assert_eq!(empty_disk(&disk(ours)), Ok(None));
    let error = empty_disk(&disk("")).unwrap_err();
    assert!(error.contains("no empty disk"), "{error}");
    let two = format!("{}{}", empty("/dev/vdb"), empty("/dev/vdc"));
    let error = empty_disk(&disk(&two)).unwrap_err();
    assert!(error.contains("2 empty disks"), "{error}");
    let parted = r#",{"name":"/dev/vdb","type":"disk","fstype":null,"label":null,"ro":false,"mountpoint":null,
        "children":[{"name":"/dev/vdb1","type":"part","fstype":null,"label":null,"ro":false,"mountpoint":null}]}"#;
    assert!(empty_disk(&disk(parted)).is_err(), "somebody parted it");

    let mounted = |probe: i32| {
        let shown = disk(&empty("/dev/vdb"));
        let programs = [
            ("lsblk", ended(0, &shown, "")),
            ("blkid", ended(probe, "", "")),
            ("mkfs.ext4", ended(0, "", "")),
            ("udevadm", ended(0, "", "")),
        ];
        let mut found = None;
        with(&programs, |guest, fake| {
            let done = mount(guest).map_err(|error| error.to_string());
            found = Some((done, fake.ran().iter().any(|call| call.starts_with("mkfs"))));
        });
        found.unwrap()
    };
    assert_eq!(mounted(2), (Ok(()), true));
    // udev knows of nothing, and there is something.
    let (done, made) = mounted(0);
    assert!(!made && done.unwrap_err().contains("/dev/vdb is not empty"));
    assert!(!mounted(1).1, "nobody knows");
}
