//! Images of disks of which only the changed extents come.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;
use trueup_backup::ImageWriter;
use trueup_backup::protocol::{Done, Fault, Outcome, Snapshot};

use crate::interop::snapshots;
use crate::lab::{Answer, Lab, answer, taken};

const NAME: &str = "disk.img";
const MIB: usize = 1024 * 1024;

type Writer = ImageWriter<std::process::ChildStdin>;

impl Lab {
    /// Sends an image's extents, with the end mark or without.
    fn image(
        &self,
        size: usize,
        base: Option<&Snapshot>,
        finish: bool,
        send: impl FnOnce(&mut Writer) -> std::io::Result<()>,
    ) -> Answer {
        let base = base.map(|base| base.id.clone());
        let image = json!({ "image": { "name": NAME, "size": size, "base": base } });
        let mut child = self.start(&json!({ "backup": { "source": image, "host": "h" } }));
        let mut writer = ImageWriter::new(child.stdin.take().unwrap());
        // A worker that refuses the image does not read all of it.
        let sent = send(&mut writer);
        if finish && sent.is_ok() {
            child.stdin = writer.finish().ok();
        } else {
            drop(writer);
        }
        answer(child)
    }

    /// That plain restic and we restore these bytes.
    #[track_caller]
    fn holds(&self, snapshot: &Snapshot, content: &[u8]) {
        self.restic_good(&["check", "--read-data"]);
        let to = self.path(&format!("theirs-{}", snapshot.id));
        self.restic_good(&["restore", &snapshot.id, "--target", to.to_str().unwrap()]);
        assert!(fs::read(to.join(NAME)).unwrap() == content, "restic restores other bytes");
        let to = self.path(&format!("ours-{}", snapshot.id));
        self.good(json!({ "restore": { "snapshot": snapshot.id, "to": to } }));
        assert!(fs::read(to.join(NAME)).unwrap() == content, "we restore other bytes");
    }

    /// How much of the disk what was restored takes, and how large it is.
    fn takes(&self, snapshot: &Snapshot) -> (u64, u64) {
        let path = self.path(&format!("ours-{}", snapshot.id)).join(NAME);
        let meta = fs::metadata(path).unwrap();
        (meta.blocks() * 512, meta.len())
    }
}

fn snapshot(outcome: &Outcome) -> Snapshot {
    taken(outcome.clone()).snapshot
}

/// An image with some data in it, its backup, and its content.
fn first(lab: &Lab, size: usize, seed: u64) -> (Snapshot, Vec<u8>) {
    let mut content = vec![0; size];
    let mut random = fastrand::Rng::with_seed(seed);
    for at in (0..size).step_by(5 * MIB) {
        let end = size.min(at + MIB + 777);
        random.fill(&mut content[at..end]);
    }
    let outcome = lab.image(size, None, true, |writer| {
        for at in (0..size).step_by(5 * MIB) {
            writer.data(at as u64, &content[at..size.min(at + MIB + 777)])?;
        }
        Ok(())
    });
    (snapshot(&outcome.unwrap()), content)
}

#[test]
fn a_sparse_image_is_restored_by_restic_and_by_us_with_its_holes() {
    let lab = Lab::ready();
    let (snapshot, content) = first(&lab, 40 * MIB + 1234, 60);
    assert_eq!(
        (snapshot.bytes, &*snapshot.paths),
        (Some(40 * MIB as u64 + 1234), &[NAME.into()][..])
    );
    lab.holds(&snapshot, &content);
    let (takes, size) = lab.takes(&snapshot);
    assert!(takes < size / 2, "{takes} of {size}");
}

#[test]
fn of_an_increment_only_what_changed_comes_and_is_stored() {
    let lab = Lab::ready();
    let size = 64 * MIB;
    let (mut base, mut content) = first(&lab, size, 61);
    let mut random = fastrand::Rng::with_seed(62);
    for round in 0..3 {
        // Clusters of 64 KiB, as of a bitmap: some new, some discarded, some at both ends.
        let mut clusters: Vec<usize> = (0..10).map(|_| random.usize(1..1023)).collect();
        clusters.extend([0, 1023]);
        clusters.sort_unstable();
        clusters.dedup();
        let mut sent = 0;
        let outcome = lab.image(size, Some(&base), true, |writer| {
            for cluster in &clusters {
                let range = cluster * 65536..(cluster + 1) * 65536;
                if random.u8(..).is_multiple_of(4) {
                    content[range.clone()].fill(0);
                    writer.zeros(range.start as u64, 65536)?;
                } else {
                    random.fill(&mut content[range.clone()]);
                    writer.data(range.start as u64, &content[range])?;
                    sent += 65536;
                }
            }
            Ok(())
        });
        let outcome = outcome.unwrap();
        assert!(sent * 100 < size * 2, "{sent}");
        // Each cluster costs at most the 512 KiB it lies in, and some of the repository's own.
        let most = (clusters.len() * 512 * 1024 + 100_000) as u64;
        assert!(outcome.stored < most, "round {round}: {} stored", outcome.stored);
        assert!(outcome.fetched < most + 300_000, "round {round}: {} fetched", outcome.fetched);
        base = snapshot(&outcome);
    }
    // What only those before it needed may go.
    lab.good(json!({ "forget": { "keep": { "last": 1 } } }));
    lab.good(json!({ "prune": { "max_unused_percent": 0 } }));
    lab.holds(&base, &content);
}

#[test]
fn an_image_may_shrink_and_grow() {
    let lab = Lab::ready();
    let (base, mut content) = first(&lab, 12 * MIB + 5, 63);
    content.truncate(9 * MIB + 3);
    let outcome = lab.image(content.len(), Some(&base), true, |_| Ok(())).unwrap();
    let small = snapshot(&outcome);
    lab.holds(&small, &content);
    content.resize(17 * MIB, 0);
    content[16 * MIB..].fill(9);
    let outcome = lab.image(content.len(), Some(&small), true, |writer| {
        writer.data(16 * MIB as u64, &content[16 * MIB..])
    });
    lab.holds(&snapshot(&outcome.unwrap()), &content);
}

#[test]
fn the_base_may_be_of_restic_or_of_a_stream() {
    let lab = Lab::ready();
    let mut content = vec![0; 9 * MIB];
    fastrand::Rng::with_seed(64).fill(&mut content);
    let ours = taken(lab.stream(NAME, &content, true).unwrap()).snapshot;
    fs::write(lab.path("content"), &content).unwrap();
    let input = fs::File::open(lab.path("content")).unwrap();
    let mut restic = std::process::Command::new("restic");
    restic.arg("-r").arg(lab.path("repo")).arg("--password-file").arg(lab.path("key"));
    restic.args(["--no-cache", "backup", "--stdin", "--stdin-filename", NAME, "--host", "restic"]);
    assert!(restic.stdin(input).output().unwrap().status.success());
    let theirs = snapshots(&lab).into_iter().find(|snapshot| snapshot.host == "restic").unwrap();
    for base in [ours, theirs] {
        let mut content = content.clone();
        content[3_000_000..3_000_100].fill(1);
        let outcome = lab.image(content.len(), Some(&base), true, |writer| {
            writer.data(3_000_000, &content[3_000_000..3_000_100])
        });
        lab.holds(&snapshot(&outcome.unwrap()), &content);
    }
}

#[test]
fn an_image_without_changes_has_the_digest_of_its_base_but_for_its_time() {
    let lab = Lab::ready();
    let (base, content) = first(&lab, 6 * MIB, 65);
    let outcome = lab.image(content.len(), Some(&base), true, |_| Ok(())).unwrap();
    assert!(outcome.stored < 10_000, "{}", outcome.stored);
    assert_eq!(taken(outcome.clone()).files_changed, 0);
    lab.holds(&snapshot(&outcome), &content);
}

#[test]
fn an_image_that_breaks_off_or_makes_no_sense_leaves_no_snapshot() {
    let lab = Lab::ready();
    let (base, content) = first(&lab, 4 * MIB, 66);
    let fault = lab.image(content.len(), Some(&base), false, |w| w.data(0, &[1; 100])).unwrap_err();
    assert!(matches!(fault, Fault::SourceVanished { .. }), "{fault}");
    let fault = lab.image(100, Some(&base), true, |w| w.data(99, &[1; 2])).unwrap_err();
    assert!(matches!(fault, Fault::Invalid { .. }), "{fault}");
    let unknown = Snapshot { id: "0".repeat(64), ..base.clone() };
    let fault = lab.image(100, Some(&unknown), true, |w| w.data(0, &[1; 2])).unwrap_err();
    assert!(matches!(fault, Fault::SnapshotUnknown { .. }), "{fault}");
    assert_eq!(snapshots(&lab).len(), 1);
    lab.holds(&base, &content);
}

#[test]
fn a_base_that_is_damaged_is_no_base() {
    let lab = Lab::ready();
    let (base, content) = first(&lab, 8 * MIB, 67);
    let pack = lab.packs().remove(0);
    let mut bytes = fs::read(&pack).unwrap();
    for at in (0..bytes.len() - 100).step_by(1000) {
        bytes[at] ^= 1;
    }
    fs::write(&pack, bytes).unwrap();
    let outcome = lab.image(content.len(), Some(&base), true, |w| w.data(100, &[1; 100]));
    let fault = outcome.unwrap_err();
    let Fault::Damaged { kind, name, .. } = &fault else { panic!("{fault}") };
    assert_eq!((&**kind, &**name), ("pack", pack.file_name().unwrap().to_str().unwrap()));
    assert_eq!(snapshots(&lab).len(), 1);
    let done = lab.good(json!({ "check": { "read": "all" } })).done;
    assert!(matches!(&done, Done::Check(checked) if checked.error_count > 0), "{done:?}");
}

/// Sends images one behind the other, as parts of them.
fn images(
    lab: &Lab,
    files: &serde_json::Value,
    base: Option<&Snapshot>,
    parts: &[(usize, &[u8])],
) -> Answer {
    let base = base.map(|base| base.id.clone());
    let source = json!({ "images": { "files": files, "base": base } });
    let mut child = lab.start(&json!({ "backup": { "source": source, "host": "h" } }));
    let mut writer = ImageWriter::new(child.stdin.take().unwrap());
    // A worker that refuses them does not read all of it.
    let sent = parts.iter().try_for_each(|(at, bytes)| writer.data(*at as u64, bytes));
    if sent.is_ok() {
        child.stdin = writer.finish().ok();
    }
    answer(child)
}

#[test]
fn several_images_are_one_snapshot_and_each_goes_on_from_its_own_base() {
    let lab = Lab::ready();
    let mut random = fastrand::Rng::with_seed(67);
    let (mut a, mut b) = (vec![0; 3 * MIB + 100], vec![0; 2 * MIB]);
    random.fill(&mut a);
    random.fill(&mut b[MIB..]);
    let files = |based: bool, text: &str| {
        json!([
            { "name": "vdb.raw", "size": a.len(), "based": based },
            { "name": "vda.raw", "size": b.len() },
            { "name": "domain.xml", "size": text.len() },
        ])
    };
    let end = a.len() + b.len();
    let (first_files, second_files) = (files(false, "<domain/>"), files(true, "<domain id='2'/>"));
    let parts = [(0, &a[..]), (a.len() + MIB, &b[MIB..]), (end, &b"<domain/>"[..])];
    let first = snapshot(&images(&lab, &first_files, None, &parts).unwrap());
    let before = a.clone();
    a[65536..131_072].fill(7);
    let changed = a[65536..131_072].to_vec();
    let parts =
        [(65536, &changed[..]), (a.len() + MIB, &b[MIB..]), (end, &b"<domain id='2'/>"[..])];
    let outcome = images(&lab, &second_files, Some(&first), &parts).unwrap();
    // What is the same is not stored again, whether it came or not.
    assert!(outcome.stored < MIB as u64, "{} bytes", outcome.stored);
    let second = snapshot(&outcome);
    lab.restic_good(&["check", "--read-data"]);
    for (taken, a, text) in [(&first, &before, "<domain/>"), (&second, &a, "<domain id='2'/>")] {
        let to = lab.path(&format!("several-{}", taken.id));
        lab.restic_good(&["restore", &taken.id, "--target", to.to_str().unwrap()]);
        assert!(fs::read(to.join("vdb.raw")).unwrap() == *a);
        assert!(fs::read(to.join("vda.raw")).unwrap() == b);
        assert_eq!(fs::read_to_string(to.join("domain.xml")).unwrap(), text);
    }
}

#[test]
fn images_that_cannot_be_told_apart_are_refused() {
    let lab = Lab::ready();
    let wrong = [
        json!([]),
        json!([{ "name": "a", "size": 1 }, { "name": "a", "size": 1 }]),
        json!([{ "name": "a", "size": 1, "based": true }]),
        json!([{ "name": "a/b", "size": 1 }]),
        json!([{ "name": "a", "size": u64::MAX }, { "name": "b", "size": 1 }]),
    ];
    for files in wrong {
        let answer = images(&lab, &files, None, &[]);
        assert!(matches!(answer, Err(Fault::Invalid { .. })), "{files}: {answer:?}");
    }
    assert!(snapshots(&lab).is_empty());
}
