//! What was restored, compared with its snapshot: whole it is the same, and each lie of a disk is named.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::json;
use trueup_backup::protocol::{Compared, Done};

use crate::bench_data::mixed;
use crate::lab::Lab;

impl Lab {
    fn compared(&self, snapshot: &str, with: &Path) -> Compared {
        let compare = json!({ "compare": { "snapshot": snapshot, "with": with } });
        match self.good(compare).done {
            Done::Compare(compared) => compared,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_was_restored_is_read_back_and_every_difference_is_named() {
    let lab = Lab::ready();
    let source = lab.path("source");
    mixed(&source, 4, 80);
    fs::write(source.join("victim"), vec![7; 3_000_000]).unwrap();
    fs::File::create(source.join("holes")).unwrap().set_len(4 << 20).unwrap();
    symlink("victim", source.join("way")).unwrap();
    let id = lab.save(&source).snapshot.id;
    let to = lab.path("to");
    lab.restore("to");
    let inside = |name: &str| -> PathBuf { to.join(source.strip_prefix("/").unwrap()).join(name) };
    let whole = lab.compared(&id, &to);
    assert_eq!((whole.wrong_count, &whole.snapshot), (0, &id), "{whole:?}");
    assert!(whole.files > 2 && whole.others > 1 && whole.bytes >= 3_000_000, "{whole:?}");

    let wrong = |of: &str| {
        let found = lab.compared(&id, &to);
        let named = found.wrong.iter().find(|it| it.path.ends_with(of));
        assert_eq!(found.wrong_count, 1, "{found:?}");
        named.unwrap_or_else(|| panic!("{of} is not named: {found:?}")).why.clone()
    };
    // One bit.
    let victim = inside("victim");
    let flip = |byte: u8| {
        let file = fs::File::options().write(true).open(&victim).unwrap();
        file.write_all_at(&[byte], 2_500_000).unwrap();
    };
    flip(6);
    assert!(wrong("victim").contains("its content differs"));
    flip(7);
    // Too short.
    fs::File::options().write(true).open(&victim).unwrap().set_len(10).unwrap();
    assert!(wrong("victim").contains("has 10 bytes, not 3000000"));
    fs::write(&victim, vec![7; 3_000_000]).unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(wrong("victim").contains("mode is 755"));
    fs::remove_file(&victim).unwrap();
    assert!(wrong("victim").contains("not there"));
    fs::write(&victim, vec![7; 3_000_000]).unwrap();
    let mode = fs::metadata(source.join("victim")).unwrap().permissions();
    fs::set_permissions(&victim, mode).unwrap();
    fs::remove_file(inside("way")).unwrap();
    symlink("elsewhere", inside("way")).unwrap();
    assert!(wrong("way").contains("leads to elsewhere"));
    fs::remove_file(inside("way")).unwrap();
    symlink("victim", inside("way")).unwrap();
    assert_eq!(lab.compared(&id, &to).wrong_count, 0);
}
