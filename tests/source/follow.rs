//! Following a branch: cloning, polling, rewinds and rewrites.

use std::time::{Duration, Instant};

use trueup::source::{Maintenance, Mirror, Opening, Relation, SourceError, TreeLimits};

use super::{config, mirror_of};
use crate::support::git_repo::GitRepo;

#[test]
fn a_repository_is_cloned_and_then_followed() {
    let repo = GitRepo::new();
    let first = repo.publish("trueup.yaml", "kind: Repository\n");
    let mirror = mirror_of(&repo);
    assert_eq!(*mirror.opening(), Opening::Created);
    assert!(mirror.is_owner());

    assert_eq!(mirror.remote_head().unwrap(), first);
    assert!(!mirror.has(first), "asking for the head brings no objects");
    let fetched = mirror.fetch().unwrap();
    assert_eq!((fetched.head, fetched.received), (first, true));
    assert_eq!(fetched.maintenance, Maintenance::NotNeeded);

    let again = mirror.fetch().unwrap();
    assert_eq!((again.head, again.received), (first, false), "nothing new, nothing received");

    let second = repo.publish("environments/lab/web.yaml", "kind: VirtualMachine\n");
    assert_eq!(mirror.fetch().unwrap().head, second);
    assert_eq!(mirror.relation(first, second).unwrap(), Relation::Ahead);
    assert_eq!(mirror.relation(second, second).unwrap(), Relation::Same);

    let info = mirror.commit(second).unwrap();
    assert_eq!(info.parents, [first]);
    assert_eq!(info.subject, "environments/lab/web.yaml");
    assert_eq!(info.author.email, "ann@example.org");

    let tree = mirror.tree(second, &TreeLimits::default()).unwrap();
    let web = tree.get("environments/lab/web.yaml").unwrap();
    assert_eq!(mirror.blob(&web.blob).unwrap(), b"kind: VirtualMachine\n");
    assert_eq!(web.size, 21);
}

#[test]
fn a_plain_path_and_a_working_copy_work_too() {
    let repo = GitRepo::new();
    let head = repo.publish("trueup.yaml", "a: 1\n");
    for path in [repo.bare(), repo.work()] {
        let state = tempfile::tempdir().unwrap();
        let mirror = Mirror::open_or_create(config(path.to_str().unwrap(), state.path())).unwrap();
        assert_eq!(mirror.fetch().unwrap().head, head);
    }
}

#[test]
fn a_mirror_opened_again_still_has_everything_without_the_remote() {
    let repo = GitRepo::new();
    let head = repo.publish("trueup.yaml", "a: 1\n");
    mirror_of(&repo).fetch().unwrap();
    std::fs::rename(repo.bare(), repo.root().join("away")).unwrap();
    let mirror = mirror_of(&repo);
    assert_eq!(*mirror.opening(), Opening::Existing);
    let error = mirror.fetch().unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
    assert!(error.is_transient());
    assert_eq!(mirror.tree(head, &TreeLimits::default()).unwrap().entries().len(), 1);
}

#[test]
fn a_rewrite_and_a_rewind_are_told_apart() {
    let repo = GitRepo::new();
    let first = repo.publish("trueup.yaml", "a: 1\n");
    let second = repo.publish("trueup.yaml", "a: 2\n");
    let mirror = mirror_of(&repo);
    mirror.fetch().unwrap();
    mirror.keep(&[second]).unwrap();

    repo.git(["reset", "-q", "--hard", &first.to_string()]);
    repo.push();
    assert_eq!(mirror.fetch().unwrap().head, first);
    assert_eq!(mirror.relation(second, first).unwrap(), Relation::Behind);

    let other = repo.publish("trueup.yaml", "a: 3\n");
    assert_eq!(mirror.fetch().unwrap().head, other);
    assert_eq!(mirror.relation(second, other).unwrap(), Relation::Diverged);

    repo.git(["checkout", "-q", "--orphan", "fresh"]);
    let unrelated = repo.publish("trueup.yaml", "a: 4\n");
    assert_eq!(mirror.fetch().unwrap().head, unrelated);
    assert_eq!(mirror.relation(second, unrelated).unwrap(), Relation::Diverged);
    let foreign = "1111111111111111111111111111111111111111".parse().unwrap();
    assert_eq!(mirror.relation(foreign, unrelated).unwrap(), Relation::Diverged);

    let kept = mirror.tree(second, &TreeLimits::default()).unwrap();
    assert_eq!(mirror.blob(&kept.entries()[0].blob).unwrap(), b"a: 2\n");
}

#[test]
fn an_empty_repository_and_a_wrong_branch_say_so() {
    let repo = GitRepo::new();
    let mirror = mirror_of(&repo);
    for result in [mirror.remote_head().err(), mirror.fetch().err()] {
        let error = result.unwrap();
        assert!(matches!(error, SourceError::BranchMissing { .. }), "{error}");
        assert!(error.to_string().contains("\"main\""), "{error}");
    }
    repo.write("trueup.yaml", "a: 1\n");
    repo.commit("elsewhere");
    repo.git(["push", "-q", "origin", "HEAD:refs/heads/trunk"]);
    let error = mirror.fetch().unwrap_err();
    assert!(matches!(error, SourceError::BranchMissing { .. }), "{error}");
}

#[test]
fn many_fetches_stay_few_packs_and_what_is_kept_survives() {
    let repo = GitRepo::new();
    let first = repo.publish("trueup.yaml", "a: 0\n");
    let url = format!("file://{}", repo.bare().display());
    let mut config = config(url, repo.root());
    config.packs_max = 3;
    let packs = config.directory.join("objects/pack");
    let mirror = Mirror::open_or_create(config).unwrap();
    mirror.fetch().unwrap();
    mirror.keep(&[first]).unwrap();
    repo.git(["checkout", "-q", "--orphan", "fresh"]);
    let mut repacked = 0;
    for round in 1..10 {
        let head = repo.publish("trueup.yaml", &format!("a: {round}\n"));
        let fetched = mirror.fetch().unwrap();
        assert_eq!(fetched.head, head);
        match fetched.maintenance {
            Maintenance::NotNeeded => {}
            Maintenance::Repacked { before, after } => {
                assert!(before == 4 && after <= 2, "{before} {after}");
                repacked += 1;
            }
            Maintenance::Failed { why, .. } => panic!("{why}"),
        }
        // The handle opened before the repack still reads everything.
        assert_eq!(mirror.tree(head, &TreeLimits::default()).unwrap().entries().len(), 1);
    }
    assert!(repacked >= 2, "{repacked}");
    let count = std::fs::read_dir(packs)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "pack"))
        .count();
    assert!(count <= 4, "{count}");
    assert_eq!(mirror.tree(first, &TreeLimits::default()).unwrap().entries().len(), 1);
}

#[test]
fn another_repository_keeps_the_commit_in_force_and_no_branch() {
    let (one, two) = (GitRepo::new(), GitRepo::new());
    let old = one.publish("trueup.yaml", "a: 1\n");
    let new = two.publish("trueup.yaml", "a: 2\n");
    let state = tempfile::tempdir().unwrap();
    let open = |repo: &GitRepo| {
        Mirror::open_or_create(config(repo.bare().to_str().unwrap(), state.path())).unwrap()
    };
    let first = open(&one);
    first.fetch().unwrap();
    first.keep(&[old]).unwrap();
    drop(first);
    let mirror = open(&two);
    let Opening::Rekeyed { previous_url } = mirror.opening() else {
        panic!("{:?}", mirror.opening())
    };
    assert!(previous_url.contains(one.bare().to_str().unwrap()));
    let heads = state.path().join("state/mirror.git/refs/heads/main");
    assert!(!heads.exists(), "the other repository's branch is gone");
    assert_eq!(mirror.fetch().unwrap().head, new);
    assert_eq!(mirror.relation(old, new).unwrap(), Relation::Diverged);
    let tree = mirror.tree(old, &TreeLimits::default()).unwrap();
    assert_eq!(tree.entries().len(), 1, "the commit in force stays readable");
    assert!(mirror.repository().contains(two.bare().to_str().unwrap()));
    drop(mirror);
    assert_eq!(*open(&two).opening(), Opening::Existing);
    let left: Vec<_> = std::fs::read_dir(state.path().join("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".new-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_fetch_larger_than_the_limit_is_stopped_and_leaves_nothing() {
    let repo = GitRepo::new();
    // Bytes that do not compress, so that receiving them takes longer than it takes to notice.
    let mut word = 1_u64;
    let noise = std::iter::repeat_with(|| {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (word >> 56) as u8
    });
    repo.write("noise.bin", noise.take(24 << 20).collect::<Vec<u8>>());
    repo.write("trueup.yaml", "a: 1\n");
    repo.commit("large");
    repo.push();
    let mut config = config(format!("file://{}", repo.bare().display()), repo.root());
    config.fetch_max = 1 << 20;
    let packs = config.directory.join("objects/pack");
    let mirror = Mirror::open_or_create(config).unwrap();
    let error = mirror.fetch().unwrap_err();
    assert!(matches!(error, SourceError::TooLarge { limit: 1_048_576, .. }), "{error}");
    assert!(error.to_string().contains("fetchMax"), "{error}");
    let left: Vec<_> = std::fs::read_dir(&packs).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
    // A smaller history under the same name is taken: nothing stays locked.
    repo.git(["checkout", "-q", "--orphan", "fresh"]);
    repo.git(["rm", "-q", "-f", "noise.bin"]);
    let small = repo.publish("trueup.yaml", "a: 2\n");
    assert_eq!(mirror.fetch().unwrap().head, small);
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    let repo = GitRepo::new();
    // Half a MiB on the wire.
    repo.write("bomb.bin", vec![0; 512 << 20]);
    repo.write("trueup.yaml", "a: 1\n");
    repo.commit("bomb");
    repo.push();
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = peak();
    let mirror = mirror_of(&repo);
    let error = mirror.fetch().unwrap_err();
    assert!(matches!(error, SourceError::Bomb { .. }), "{error}");
    assert!(peak() < before + (256 << 10), "{before} KiB became {}", peak());
    let packs = config(String::new(), repo.root()).directory.join("objects/pack");
    let left: Vec<_> = std::fs::read_dir(&packs).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_idle_poll_is_cheap_beside_a_clone() {
    let repo = GitRepo::new();
    for file in 0..500 {
        repo.write(&format!("environments/lab/{file}.yaml"), format!("name: {file}\n"));
    }
    repo.commit("many");
    repo.push();
    let mirror = mirror_of(&repo);
    mirror.fetch().unwrap();
    let started = Instant::now();
    for _ in 0..10 {
        mirror.remote_head().unwrap();
    }
    let each = started.elapsed() / 10;
    eprintln!("one idle poll: {each:?}");
    // A generous bound: a poll that transferred or walked anything would be far over it.
    assert!(each < Duration::from_millis(500), "{each:?}");
}
