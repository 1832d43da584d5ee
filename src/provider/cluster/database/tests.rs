//! The machine of a database: set up once.

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
