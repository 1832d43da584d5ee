//! A mirror that came back out of a backup: of it count only objects, each of which is what its name
//! says, and refs.
//!
//! Whoever can write to the backup's repository chose its bytes, and an object is read without a look at
//! whether it has the name that was asked for. It talks to nobody.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use gix::ThreadSafeRepository;
use gix::odb::pack::cache::Never;
use gix::odb::pack::index::traverse::Algorithm;
use gix::odb::pack::index::verify::Mode;
use gix::odb::pack::index::verify::integrity::Options;

use super::error::{SourceError, chain};
use super::mirror::{IDENTITY, broken, file_name, isolated, list};

/// What is kept of it. Its config could say where it is fetched from, and others what is read for what.
const KEPT: [&str; 5] = ["HEAD", "objects", "refs", "packed-refs", IDENTITY];
/// The config of one that is made anew.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";

/// Takes away what only its maker could vouch for, and reads every object that is left.
///
/// # Errors
/// [`SourceError::Mirror`]: an object is another than its name says, or it is no mirror.
pub fn prove_restored(directory: &Path) -> Result<(), SourceError> {
    for entry in list(directory)? {
        if !KEPT.contains(&file_name(&entry).as_str()) {
            gone(&entry)?;
        }
    }
    // Other places with objects, and what is known of commits without a look at them.
    gone(&directory.join("objects/info"))?;
    let config = directory.join("config");
    fs::write(&config, CONFIG).map_err(|error| broken(&config, error))?;
    let opened = ThreadSafeRepository::open_opts(directory, isolated());
    let repo = opened.map_err(|error| broken(directory, chain(&error)))?.to_thread_local();
    let options = Options {
        verify_mode: Mode::HashCrc32,
        traversal: Algorithm::default(),
        thread_limit: None,
        make_pack_lookup_cache: || Never,
    };
    let never = AtomicBool::new(false);
    let read =
        repo.objects.store_ref().verify_integrity(&mut gix::progress::Discard, &never, options);
    read.map(drop).map_err(|error| broken(directory, chain(&error)))
}

fn gone(path: &Path) -> Result<(), SourceError> {
    let removed = match path.symlink_metadata() {
        Ok(it) if it.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(broken(path, error)),
        Err(_) | Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_is_another_is_found_and_what_only_its_maker_vouches_for_goes() {
        let host = tempfile::tempdir().unwrap();
        let bare = host.path().join("mirror.git");
        let options = gix::create::Options::default();
        let made =
            ThreadSafeRepository::init_opts(&bare, gix::create::Kind::Bare, options, isolated());
        let repo = made.unwrap().to_thread_local();
        let file = |content: &str| {
            let id = repo.write_blob(content).unwrap().to_string();
            bare.join("objects").join(&id[..2]).join(&id[2..])
        };
        let (wished, other) = (file("wished"), file("not wished"));
        let elsewhere = "[url \"https://elsewhere/\"]\n\tinsteadOf = https://git.example/\n";
        fs::write(bare.join("config"), elsewhere).unwrap();
        fs::write(bare.join("shallow"), "").unwrap();
        fs::create_dir_all(bare.join("objects/info")).unwrap();
        fs::write(bare.join("objects/info/alternates"), "/srv/others\n").unwrap();
        prove_restored(&bare).unwrap();
        assert_eq!(fs::read_to_string(bare.join("config")).unwrap(), CONFIG);
        assert!(!bare.join("shallow").exists() && !bare.join("objects/info").exists());
        assert!(!bare.join("hooks").exists() && wished.exists());

        fs::remove_file(&wished).unwrap();
        fs::copy(&other, &wished).unwrap();
        let refused = prove_restored(&bare).unwrap_err();
        assert!(matches!(refused, SourceError::Mirror { .. }), "{refused}");
    }
}
