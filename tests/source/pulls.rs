//! Pull requests against real Git: listed, fetched under limits, pruned, and merged as git merges.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use trueup::port::{MergeKind, Pulls, Wanted};
use trueup::source::pulls::{MergeOutcome, Merged, PullQuery};
use trueup::source::{
    CommitId, GitPulls, Mirror, PullSettings, SourceError, TreeError, TreeLimits,
};

use super::mirror_of;
use crate::support::git_repo::GitRepo;

fn pulls_of(mirror: &Mirror, settings: PullSettings) -> GitPulls {
    // The files of these tests are text without meaning: only what is refused matters.
    GitPulls::new(mirror.clone(), TreeLimits::default(), settings).unwrap()
}

/// Commits on a branch of its own from `at`, and offers it as pull request `number`.
fn offer(repo: &GitRepo, number: u64, at: &str, change: impl FnOnce()) -> CommitId {
    repo.git(["checkout", "-q", "-B", "pull", at]);
    change();
    let head = repo.commit(&format!("pull {number}"));
    let spec = format!("HEAD:refs/pull/{number}/head");
    repo.git(["push", "-q", "--force", "origin", spec.as_str()]);
    repo.git(["checkout", "-q", "main"]);
    head
}

fn numbers(all: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    all.into_iter().collect()
}

fn clean(outcome: MergeOutcome) -> Merged {
    match outcome {
        MergeOutcome::Clean(merged) => *merged,
        other => panic!("not merged: {other:?}"),
    }
}

#[test]
fn heads_are_listed_fetched_and_let_go_of() {
    let repo = GitRepo::new();
    let base = repo.publish("environments/lab/a.yaml", "a: 1\n");
    let one = offer(&repo, 1, "main", || repo.write("environments/lab/b.yaml", "b: 1\n"));
    let two = offer(&repo, 2, "main", || repo.write("environments/lab/b.yaml", "b: 2\n"));
    repo.git(["push", "-q", "origin", "HEAD:refs/pull/2/merge", "HEAD:refs/pull/007/head"]);
    let mirror = mirror_of(&repo);
    let pulls = pulls_of(&mirror, PullSettings::default());

    let all = pulls.list(PullQuery::All).unwrap();
    assert_eq!((all.base, all.left_out), (base, 0));
    assert_eq!(all.heads.into_iter().collect::<Vec<_>>(), [(1, one), (2, two)]);
    assert!(!mirror.has(one), "a listing brings no objects");

    let only = pulls.list(PullQuery::Only(numbers([2, 9]))).unwrap();
    assert_eq!(only.heads.into_iter().collect::<Vec<_>>(), [(2, two)]);

    let got = pulls.fetch(&numbers([1, 2, 9])).unwrap();
    assert_eq!(got.into_iter().collect::<Vec<_>>(), [(1, one), (2, two)]);
    assert!(mirror.has(one) && mirror.has(two));
    assert!(pulls.fetch(&numbers([8, 9])).unwrap().is_empty(), "gone ones are no error");

    // A force-push of the head replaces what the mirror holds.
    let again = offer(&repo, 1, "main", || repo.write("environments/lab/c.yaml", "c: 1\n"));
    pulls.fetch(&numbers([1])).unwrap();
    assert_eq!(pulls.held().unwrap().get(&1), Some(&again));

    assert_eq!(pulls.retain(&numbers([1])).unwrap(), numbers([2]));
    assert_eq!(pulls.held().unwrap().into_keys().collect::<Vec<_>>(), [1]);
}

#[test]
fn limits_on_number_and_size_hold_and_leave_the_mirror_usable() {
    let repo = GitRepo::new();
    repo.publish("environments/lab/a.yaml", "a: 1\n");
    for number in 1..=5 {
        offer(&repo, number, "main", || repo.write("environments/lab/b.yaml", number.to_string()));
    }
    // Nothing that compresses: what is limited is what comes over the wire.
    let mut seed = 7_u64;
    let noise: Vec<u8> =
        std::iter::repeat_with(|| random(&mut seed, 256) as u8).take(2 << 20).collect();
    let large = offer(&repo, 6, "main", || repo.write("docs/noise.bin", &noise));
    let mirror = mirror_of(&repo);
    let settings =
        PullSettings { listed_max: 3, fetched_max: 2, bytes_max: 1 << 20, ..Default::default() };
    let pulls = pulls_of(&mirror, settings);

    let listed = pulls.list(PullQuery::All).unwrap();
    assert_eq!(listed.heads.into_keys().collect::<Vec<_>>(), [4, 5, 6], "the newest are kept");
    assert_eq!(listed.left_out, 3);
    let many = pulls.fetch(&numbers([1, 2, 3])).unwrap_err();
    assert!(matches!(many, SourceError::PullLimit { .. }), "{many}");
    let huge = pulls.fetch(&numbers([6])).unwrap_err();
    assert!(huge.to_string().contains("1 MiB"), "{huge}");
    assert!(!mirror.has(large));
    assert_eq!(pulls.fetch(&numbers([1, 2])).unwrap().len(), 2, "small ones still come");
}

#[test]
fn one_that_is_too_large_keeps_nobody_out() {
    let repo = GitRepo::new();
    repo.publish("environments/lab/a.yaml", "a: 1\n");
    let mut good = BTreeSet::new();
    let mut seed = 7_u64;
    for number in 1..=20 {
        let head = match number {
            // More than is taken on the way here.
            7 => offer(&repo, number, "main", || {
                let noise = std::iter::repeat_with(|| random(&mut seed, 256) as u8);
                repo.write("docs/noise.bin", noise.take(2 << 20).collect::<Vec<u8>>());
            }),
            // Half a MiB on the way here, and 512 once it is unpacked.
            12 => offer(&repo, number, "main", || repo.write("bomb.bin", vec![0; 512 << 20])),
            _ => offer(&repo, number, "main", || {
                repo.write("environments/lab/b.yaml", format!("b: {number}\n"));
            }),
        };
        if ![7, 12].contains(&number) {
            good.insert((number, head));
        }
    }
    let mirror = mirror_of(&repo);
    // All in one round, on a busy machine too: what is not done in time is left for the next one.
    let deadline = Duration::from_secs(600);
    let settings = PullSettings { bytes_max: 1 << 20, deadline, ..Default::default() };
    let pulls = pulls_of(&mirror, settings);
    let gathered = pulls.gather(&numbers(1..=20)).unwrap();
    assert_eq!(gathered.heads.into_iter().collect::<BTreeSet<_>>(), good);
    let refused: Vec<_> = gathered.refused.into_iter().collect();
    let [(7, large), (12, bomb)] = refused.as_slice() else { panic!("{refused:?}") };
    assert!(large.contains("1 MiB") && bomb.contains("64 MiB"), "{large}; {bomb}");
    assert!(good.iter().all(|(_, head)| mirror.has(*head)));
    let none = pulls.gather(&numbers([7, 12])).unwrap();
    assert!(none.heads.is_empty() && none.refused.len() == 2, "{none:?}");
}

#[test]
fn a_merge_tells_its_files_what_changed_and_which_lines() {
    let repo = GitRepo::new();
    let lines: Vec<String> = (1..=20).map(|n| format!("l{n}: {n}")).collect();
    let text = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        lines.join("\n") + "\n"
    };
    let path = "environments/lab/a.yaml";
    repo.publish(path, &text(&|_| {}));
    let head = offer(&repo, 1, "main", || {
        repo.write(path, text(&|lines| lines[14] = "l15: changed".into()));
        repo.write("environments/lab/new.yaml", "new: 1\n");
    });
    repo.write("README.md", "base only\n");
    let base = repo.publish(path, &text(&|lines| lines.insert(0, "first: 0".into())));
    let mirror = mirror_of(&repo);
    mirror.fetch().unwrap();
    let pulls = pulls_of(&mirror, PullSettings::default());
    pulls.fetch(&numbers([1])).unwrap();

    let objects = || walk(&repo.root().join("state/mirror.git/objects"));
    let before = objects();
    let merged = clean(pulls.merge(base, head, None).unwrap());
    assert_eq!(objects(), before, "a merge writes nothing to the mirror");
    assert_eq!(merged.kind, MergeKind::Merged);
    let changed: Vec<_> = merged.changed.iter().map(|change| &*change.path).collect();
    assert_eq!(changed, [path, "environments/lab/new.yaml"]);
    let entry = merged.tree.get(path).unwrap();
    let made = &merged.made[&entry.blob];
    let expected = text(&|lines| {
        lines[14] = "l15: changed".into();
        lines.insert(0, "first: 0".into());
    });
    assert_eq!(made.as_ref(), expected.as_bytes());
    assert_eq!(merged.made.len(), 1, "the new file is in the mirror already");
    let told = &merged.lines[path];
    assert_eq!(told.changed, [15..=15]);
    assert_eq!((told.head_line(1), told.head_line(16)), (None, Some(15)));
    assert!(told.shows(12) && !told.shows(11));
    assert_eq!(merged.lines["environments/lab/new.yaml"].changed, [1..=1]);
}

#[test]
fn forwards_stale_and_unrelated_heads_are_told_apart() {
    let repo = GitRepo::new();
    let old = repo.publish("trueup.yaml", "a: 1\n");
    let base = repo.publish("trueup.yaml", "a: 2\n");
    let ahead = offer(&repo, 1, "main", || repo.write("trueup.yaml", "a: 3\n"));
    repo.git(["push", "-q", "origin", &format!("{old}:refs/pull/2/head")]);
    repo.git(["checkout", "-q", "--orphan", "other"]);
    repo.write("trueup.yaml", "b: 1\n");
    let other = repo.commit("other");
    repo.git(["push", "-q", "origin", "HEAD:refs/pull/3/head"]);
    let mirror = mirror_of(&repo);
    mirror.fetch().unwrap();
    let pulls = pulls_of(&mirror, PullSettings::default());
    pulls.fetch(&numbers([1, 2, 3])).unwrap();
    let kind = |head| clean(pulls.merge(base, head, None).unwrap()).kind;
    assert_eq!(kind(ahead), MergeKind::FastForward);
    assert_eq!(kind(old), MergeKind::UpToDate);
    assert!(matches!(pulls.merge(base, other, None).unwrap(), MergeOutcome::Unrelated));
}

#[test]
fn a_merged_tree_is_refused_for_what_a_commit_is_refused_for() {
    let repo = GitRepo::new();
    repo.publish("trueup.yaml", "a: 1\n");
    let head = offer(&repo, 1, "main", || {
        repo.index_entry("120000", b"/etc/passwd", b"environments/lab/link.yaml");
        std::os::unix::fs::symlink("/etc/passwd", repo.work().join("evil.yaml")).unwrap();
    });
    repo.write("README.md", "x");
    let base = repo.commit("base");
    repo.push();
    let mirror = mirror_of(&repo);
    mirror.fetch().unwrap();
    let pulls = pulls_of(&mirror, PullSettings::default());
    pulls.fetch(&numbers([1])).unwrap();
    let error = pulls.merge(base, head, None).unwrap_err();
    assert!(matches!(error, TreeError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("symbolic link"), "{error}");
}

#[test]
fn attributes_of_a_pull_request_do_not_choose_how_it_is_merged() {
    let repo = GitRepo::new();
    repo.publish("trueup.yaml", "a: 1\n");
    let head = offer(&repo, 1, "main", || {
        repo.write(".gitattributes", "*.yaml merge=union\n");
        repo.write("trueup.yaml", "a: 2\n");
    });
    let base = repo.publish("trueup.yaml", "a: 3\n");
    let mirror = mirror_of(&repo);
    mirror.fetch().unwrap();
    let pulls = pulls_of(&mirror, PullSettings::default());
    pulls.fetch(&numbers([1])).unwrap();
    match pulls.merge(base, head, None).unwrap() {
        MergeOutcome::Conflict(found) => assert_eq!(found.paths, ["trueup.yaml"]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_port_says_the_same() {
    let repo = GitRepo::new();
    let base = repo.publish("environments/lab/a.yaml", "a: 1\n");
    let head = offer(&repo, 4, "main", || repo.write("environments/lab/a.yaml", "a: 2\n"));
    let mirror = mirror_of(&repo);
    mirror.fetch().unwrap();
    let pulls = pulls_of(&mirror, PullSettings::default());
    let port: &dyn Pulls = &pulls;
    let offered = port.offered(Wanted::All).await.unwrap();
    assert_eq!(offered.base.as_str(), base.to_string());
    let fetched = port.fetch(numbers([4])).await.unwrap();
    assert_eq!(fetched.heads[&4].as_str(), head.to_string());
    let merged = port.merge(offered.base, fetched.heads[&4].clone()).await.unwrap();
    let trueup::port::Merge::Clean(files) = merged else { panic!("{merged:?}") };
    assert_eq!(files.files.len(), 1);
    assert_eq!(files.lines["environments/lab/a.yaml"].head_line(1), Some(1));
    assert_eq!(port.retain(BTreeSet::new()).await.unwrap(), numbers([4]));
}

/// Random histories with edits, moves, removals and merges of their own: git's answer is ours.
#[test]
fn merges_agree_with_git_over_random_histories() {
    const HISTORIES: u64 = 25;
    let (mut merged, mut conflicts) = (0, 0);
    for seed in 1..=HISTORIES {
        let repo = GitRepo::new();
        let (base, head) = history(&repo, seed);
        let mirror = mirror_of(&repo);
        mirror.fetch().unwrap();
        let pulls = pulls_of(&mirror, PullSettings::default());
        pulls.fetch(&numbers([1])).unwrap();
        let (code, expected) = git_merge(&repo, base, head);
        match pulls.merge(base, head, None).unwrap() {
            MergeOutcome::Clean(ours) => {
                assert_eq!((code, ours.tree.id().to_string()), (0, expected), "seed {seed}");
                merged += 1;
            }
            MergeOutcome::Conflict(found) => {
                assert_eq!(code, 1, "seed {seed}: git merges, we see {found:?}");
                assert!(!found.paths.is_empty(), "seed {seed}");
                conflicts += 1;
            }
            MergeOutcome::Unrelated => panic!("seed {seed}: they are related"),
        }
    }
    assert!(merged >= 5 && conflicts >= 3, "{merged} merged, {conflicts} in conflict: too tame");
}

fn git_merge(repo: &GitRepo, base: CommitId, head: CommitId) -> (i32, String) {
    let output = Command::new("git")
        .current_dir(repo.work())
        .args(["merge-tree", "--write-tree", "--name-only"])
        .args([base.to_string(), head.to_string()])
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text.lines().next().unwrap_or_default().to_owned())
}

fn history(repo: &GitRepo, seed: u64) -> (CommitId, CommitId) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for n in 0..6 {
        let lines: String = (0..30).map(|l| format!("key{l}: {n}-{l}\n")).collect();
        repo.write(&format!("environments/lab/f{n}.yaml"), lines);
    }
    repo.commit("start");
    repo.git(["branch", "-q", "pull"]);
    for round in 0..4_u64 {
        for branch in ["main", "pull"] {
            repo.git(["checkout", "-q", branch]);
            edit(repo, &mut state, branch == "main");
            repo.commit(&format!("{branch} {round}"));
        }
        // Now and then one takes the other in, in both directions: several merge bases.
        if random(&mut state, 3) == 0 {
            for (into, from) in [("main", "pull~1"), ("pull", "main~1")] {
                repo.git(["checkout", "-q", into]);
                let args = ["merge", "-q", "--no-edit", "-X", "ours", from];
                let done = Command::new("git")
                    .current_dir(repo.work())
                    .env("GIT_CONFIG_GLOBAL", "/dev/null")
                    .args(args)
                    .output()
                    .unwrap();
                if !done.status.success() {
                    repo.git(["merge", "--abort"]);
                }
            }
        }
    }
    repo.git(["checkout", "-q", "pull"]);
    let head = repo.head();
    repo.git(["push", "-q", "--force", "origin", "HEAD:refs/pull/1/head"]);
    repo.git(["checkout", "-q", "main"]);
    repo.push();
    (repo.head(), head)
}

fn edit(repo: &GitRepo, state: &mut u64, base: bool) {
    let folder = repo.work().join("environments/lab");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let file = files[random(state, files.len() as u64) as usize].clone();
    let text = std::fs::read_to_string(&file).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = random(state, lines.len().max(1) as u64) as usize;
    match random(state, 10) {
        0 => std::fs::remove_file(&file).unwrap(),
        1 => {
            let name = format!("moved-{base}-{}.yaml", random(state, 1_000));
            std::fs::rename(&file, folder.join(name)).unwrap();
        }
        2 => {
            let name = format!("new-{}.yaml", random(state, 4));
            std::fs::write(folder.join(name), format!("new: {}\n", random(state, 3))).unwrap();
        }
        3..=5 if !lines.is_empty() => {
            lines.insert(at, format!("added: {}", random(state, 1_000)));
            std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        }
        _ if !lines.is_empty() => {
            lines[at] = format!("changed: {}", random(state, 1_000));
            std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        }
        _ => std::fs::write(&file, "again: 1\n").unwrap(),
    }
}

/// Numbers below `below`: the same for the same seed, everywhere (Steele's splitmix64).
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % below
}

fn walk(at: &std::path::Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.insert(path.display().to_string());
        }
    }
    found
}
