//! Files to save: the same for the same seed, mixed as a host's files are.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

/// Writes about `scale` MiB below `root`: random data, text, a copy, small files, and a sparse image.
pub(crate) fn mixed(root: &Path, scale: u64, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    fs::create_dir_all(root.join("small")).unwrap();
    let mut noise = vec![0u8; 1024 * 1024];
    let mut file = fs::File::create(root.join("random.bin")).unwrap();
    for _ in 0..scale.div_ceil(5) {
        random.fill(&mut noise);
        file.write_all(&noise).unwrap();
    }
    let mut text = fs::File::create(root.join("text.log")).unwrap();
    for _ in 0..scale.div_ceil(7) * 1024 {
        let n = random.u64(..);
        let line = format!("2026-11-21T12:00:{:02}Z host daemon[{}]: did {n}\n", n % 60, n % 9000);
        text.write_all(line.repeat(16).as_bytes()).unwrap();
    }
    fs::copy(root.join("random.bin"), root.join("copy.bin")).unwrap();
    for n in 0..scale * 10 {
        let folder = root.join("small").join((n % 97).to_string());
        fs::create_dir_all(&folder).unwrap();
        let mut content = vec![0; random.usize(..8000)];
        random.fill(&mut content);
        fs::write(folder.join(n.to_string()), content).unwrap();
    }
    let image = fs::File::create(root.join("disk.img")).unwrap();
    image.set_len(scale * 512 * 1024).unwrap();
    for n in 0..scale.div_ceil(20) {
        random.fill(&mut noise);
        image.write_all_at(&noise, n * 8 * 1024 * 1024).unwrap();
    }
    odd(root);
}

/// Things that are no plain files, and names that are no plain names.
fn odd(root: &Path) {
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("name with \"quotes\" \\ and\nlines"), "odd").unwrap();
    fs::write(root.join("ünïcödé"), "odd").unwrap();
    symlink("small/0/0", root.join("link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    fs::hard_link(root.join("text.log"), root.join("small/hard")).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::create_dir(root.join("bare")).unwrap();
}
