//! A push to a repository on this machine is noticed at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use trueup::source::{SourceError, Watch};

use super::mirror_of;
use crate::support::git_repo::GitRepo;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn woken(runtime: &tokio::runtime::Runtime, wake: &Notify, limit: Duration) -> bool {
    runtime.block_on(async { tokio::time::timeout(limit, wake.notified()).await.is_ok() })
}

#[test]
fn a_push_wakes_within_a_second_and_our_own_fetch_does_not() {
    let repo = GitRepo::new();
    repo.publish("trueup.yaml", "a: 1\n");
    let mirror = mirror_of(&repo);
    let (runtime, wake) = (runtime(), Arc::new(Notify::new()));
    let path = mirror.config().local_path().unwrap();
    let watch = Watch::start(&path, Arc::clone(&wake)).unwrap();

    mirror.fetch().unwrap();
    assert!(!woken(&runtime, &wake, Duration::from_millis(300)), "a fetch must not wake itself");

    repo.write("trueup.yaml", "a: 2\n");
    repo.commit("second");
    repo.push();
    let pushed = Instant::now();
    assert!(woken(&runtime, &wake, Duration::from_secs(1)));
    eprintln!("woken {:?} after the push", pushed.elapsed());

    // A loose ref that moves into packed-refs, and a branch in a new directory.
    while woken(&runtime, &wake, Duration::from_millis(200)) {}
    crate::support::git_repo::git(&repo.bare(), ["pack-refs", "--all"]);
    assert!(woken(&runtime, &wake, Duration::from_secs(1)));
    while woken(&runtime, &wake, Duration::from_millis(200)) {}
    repo.git(["push", "-q", "origin", "HEAD:refs/heads/team/topic"]);
    assert!(woken(&runtime, &wake, Duration::from_secs(1)));
    assert!(watch.is_alive());
}

#[test]
fn a_commit_in_a_working_copy_wakes_and_removal_is_noticed() {
    let repo = GitRepo::new();
    repo.publish("trueup.yaml", "a: 1\n");
    let (runtime, wake) = (runtime(), Arc::new(Notify::new()));
    let watch = Watch::start(&repo.work(), Arc::clone(&wake)).unwrap();
    repo.write("trueup.yaml", "a: 2\n");
    repo.commit("second");
    assert!(woken(&runtime, &wake, Duration::from_secs(1)));
    std::fs::remove_dir_all(repo.work().join(".git")).unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while watch.is_alive() {
        assert!(Instant::now() < end, "the removal was not noticed");
        std::thread::yield_now();
    }
}

#[test]
fn a_place_without_a_repository_cannot_be_watched() {
    let dir = tempfile::tempdir().unwrap();
    let error = Watch::start(dir.path(), Arc::new(Notify::new())).unwrap_err();
    assert!(matches!(error, SourceError::Watch { .. }), "{error}");
}
