//! What a crash leaves behind is cleared, by the owner only.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use trueup::source::{Mirror, SourceError};

use super::{config, mirror_of};
use crate::support::git_repo::GitRepo;

#[test]
fn locks_half_packs_and_temporary_files_are_removed_on_open() {
    let repo = GitRepo::new();
    repo.publish("trueup.yaml", "a: 1\n");
    let mirror = mirror_of(&repo);
    mirror.fetch().unwrap();
    let config = mirror.config().clone();
    drop(mirror);
    let git = &config.directory;
    let state = git.parent().unwrap();
    let leftovers = [
        git.join("refs/heads/main.lock"),
        git.join("packed-refs.lock"),
        git.join("HEAD.lock"),
        git.join("objects/pack/.tmpAbC123"),
        git.join("objects/pack/tmp_pack_xyz"),
        git.join("objects/pack/pack-0.keep"),
        config.temp.join("source-ssh-1.log"),
    ];
    for path in &leftovers {
        fs::write(path, "left").unwrap();
    }
    let half = state.join("mirror.git.new-AbC");
    fs::create_dir_all(half.join("objects")).unwrap();
    let foreign = config.temp.join("not-ours");
    fs::write(&foreign, "").unwrap();

    let second = repo.publish("trueup.yaml", "a: 2\n");
    let mirror = mirror_of(&repo);
    for path in leftovers.iter().chain([&half]) {
        assert!(!path.exists(), "{} is still there", path.display());
    }
    assert!(foreign.exists(), "only our own temporary files are removed");
    assert_eq!(mirror.fetch().unwrap().head, second);
}

#[test]
fn a_second_opener_cleans_nothing_and_can_still_fetch() {
    let repo = GitRepo::new();
    repo.publish("trueup.yaml", "a: 1\n");
    let owner = mirror_of(&repo);
    owner.fetch().unwrap();
    let busy = owner.config().directory.join("objects/pack/.tmpBusy");
    fs::write(&busy, "being written").unwrap();
    let guest = mirror_of(&repo);
    assert!(owner.is_owner() && !guest.is_owner());
    assert!(busy.exists());
    let second = repo.publish("trueup.yaml", "a: 2\n");
    assert_eq!(guest.fetch().unwrap().head, second);
    assert!(owner.has(second));
    let other = GitRepo::new();
    let error =
        Mirror::open_or_create(config(other.bare().to_str().unwrap(), repo.root())).unwrap_err();
    assert!(matches!(error, SourceError::Mirror { .. }), "{error}");
}

#[test]
fn a_directory_that_is_not_ours_is_left_alone() {
    let repo = GitRepo::new();
    let config = config(repo.bare().to_str().unwrap(), repo.root());
    fs::create_dir_all(&config.directory).unwrap();
    fs::write(config.directory.join("precious"), "data").unwrap();
    let error = Mirror::open_or_create(config.clone()).unwrap_err().to_string();
    assert!(error.contains("not made by trueup"), "{error}");
    assert!(config.directory.join("precious").exists());
}

/// The child half of the test below: clones until it is killed.
#[test]
fn child_that_clones() {
    let Ok(root) = std::env::var("TRUEUP_TEST_CLONE") else { return };
    let root = std::path::Path::new(&root);
    let url = format!("file://{}", root.join("origin.git").display());
    Mirror::open_or_create(config(url, root)).unwrap().fetch().unwrap();
}

#[test]
fn a_clone_killed_half_way_leaves_nothing_behind() {
    let repo = GitRepo::new();
    // Bytes that do not compress, so that receiving them takes a while.
    let mut word = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (word >> 56) as u8
    })
    .take(16 << 20)
    .collect();
    repo.write("noise.bin", noise);
    repo.write("trueup.yaml", "a: 1\n");
    let head = repo.commit("large");
    repo.push();
    let packs = config("x", repo.root()).directory.join("objects/pack");

    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "source::leftovers::child_that_clones"])
        .env("TRUEUP_TEST_CLONE", repo.root())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    let partial = || {
        fs::read_dir(&packs).is_ok_and(|mut entries| {
            entries.any(|entry| entry.unwrap().metadata().is_ok_and(|data| data.len() > 0))
        })
    };
    while !partial() {
        assert!(Instant::now() < end, "the clone never began");
        assert!(child.try_wait().unwrap().is_none(), "the clone was over too soon");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(partial(), "the kill left a part of a pack");

    let mirror = mirror_of(&repo);
    let left = fs::read_dir(&packs).unwrap().count();
    assert_eq!(left, 0, "half a pack is left");
    assert_eq!(mirror.fetch().unwrap().head, head);
}
