//! What a commit may hold, and how it is listed.

use std::time::Instant;

use trueup::source::{CommitId, Mirror, SourceError, Tree, TreeError, TreeLimits, TreeProblem};

use super::mirror_of;
use crate::support::git_repo::GitRepo;

fn problems(mirror: &Mirror, commit: CommitId, limits: &TreeLimits) -> Vec<TreeProblem> {
    match mirror.tree(commit, limits) {
        Err(TreeError::Refused { problems, .. }) => problems,
        other => panic!("not refused: {other:?}"),
    }
}

fn paths(tree: &Tree) -> Vec<&str> {
    tree.entries().iter().map(|entry| &*entry.path).collect()
}

fn fetched(repo: &GitRepo) -> (Mirror, CommitId) {
    let mirror = mirror_of(repo);
    let head = mirror.fetch().unwrap().head;
    (mirror, head)
}

#[test]
fn only_what_matters_is_listed_in_the_order_of_paths() {
    let repo = GitRepo::new();
    for path in [
        "trueup.yaml",
        "other.yml",
        "README.md",
        "docs/a.yaml",
        "environments/lab/a.yaml",
        "environments/lab-2/a.yaml",
        "environments/lab/sub/b.yaml",
        "bases/vm/x.yaml",
        "policies/p.rego",
    ] {
        repo.write(path, path);
    }
    // Outside of what is read nothing is judged.
    repo.index_entry("120000", b"/etc/passwd", b"docs/link");
    repo.git(["add", "-A", "--", "."]);
    repo.index_entry("120000", b"/etc/passwd", b"docs/link");
    repo.commit_index("all", &[]);
    repo.push();
    let (mirror, head) = fetched(&repo);
    let tree = mirror.tree(head, &TreeLimits::default()).unwrap();
    assert_eq!(
        paths(&tree),
        [
            "bases/vm/x.yaml",
            "environments/lab-2/a.yaml",
            "environments/lab/a.yaml",
            "environments/lab/sub/b.yaml",
            "other.yml",
            "policies/p.rego",
            "trueup.yaml",
        ]
    );
    let sum: u64 = tree.entries().iter().map(|entry| entry.size).sum();
    assert_eq!(tree.total_bytes(), sum);
    assert!(tree.get("README.md").is_none());
}

#[test]
fn every_refused_thing_is_reported_at_once_with_its_path() {
    let repo = GitRepo::new();
    let head = repo.publish("trueup.yaml", "a: 1\n");
    let lfs = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n",
        "0".repeat(64)
    );
    repo.index_entry("120000", b"../../etc/passwd", b"environments/lab/link.yaml");
    repo.index_object("160000", &head.to_string(), b"bases/module");
    repo.index_entry("100644", lfs.as_bytes(), b"environments/lab/image.yaml");
    repo.index_entry("100644", b"x", b"environments/lab/w\xffb.yaml");
    repo.index_entry("100644", b"x", b"environments/lab/bell\x07.yaml");
    repo.index_entry("100644", b"x", b"environments/a/b/c/d/e/deep.yaml");
    repo.index_entry("100644", &[b'#'; 3_000], b"policies/huge.yaml");
    repo.index_entry("100644", b"x", b"environments/a-name-that-is-far-too-long-to-be-good/x.yaml");
    repo.commit_index("bad", &[]);
    repo.push();
    let (mirror, head) = fetched(&repo);
    let limits = TreeLimits {
        depth_max: 5,
        file_bytes_max: 2_000,
        path_bytes_max: 40,
        ..TreeLimits::default()
    };
    let found: Vec<String> =
        problems(&mirror, head, &limits).iter().map(ToString::to_string).collect();
    let expected = [
        "bases/module: is a submodule",
        "environments/a-name-that-is-far-too-long…: its path is longer than 40 bytes",
        "environments/a/b/c/d/e: is more than 5 levels deep",
        "\"environments/lab/bell\\u{7}.yaml\": its name has a control character",
        "environments/lab/image.yaml: is a Git LFS pointer",
        "environments/lab/link.yaml: is a symbolic link",
        "environments/lab/w\\xffb.yaml: its name is not UTF-8",
        "policies/huge.yaml: has 3000 bytes, more than the 2000 allowed",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
}

#[test]
fn a_tree_that_git_would_not_make_is_refused() {
    let repo = GitRepo::new();
    repo.publish("trueup.yaml", "a: 1\n");
    let blob = repo.blob(b"kind: Evil\n");
    let raw = |entries: &[(&str, &str, &str)]| {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            let digits = id.as_bytes().chunks(2);
            bytes.extend(
                digits
                    .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()),
            );
        }
        repo.object("tree", &bytes)
    };
    let up = raw(&[("100644", "..", &blob), ("40000", ".git", &raw(&[("100644", "x", &blob)]))]);
    let twice = raw(&[("100644", "same.yaml", &blob), ("100644", "same.yaml", &blob)]);
    let lab = raw(&[("40000", "twice", &twice), ("40000", "up", &up)]);
    let good = raw(&[("100644", "x.yaml", &blob)]);
    let root = raw(&[
        ("40000", "environments", &lab),
        ("40000", "environments", &good),
        ("40000", "trueup.yaml", &up),
    ]);
    let who = "Ann <ann@example.org> 1700000000 +0000";
    let text = format!("tree {root}\nauthor {who}\ncommitter {who}\n\nbad\n");
    let commit = repo.object("commit", text.as_bytes());
    repo.force_head(&commit);
    let (mirror, head) = fetched(&repo);
    let found = problems(&mirror, head, &TreeLimits::default());
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 5, "{found:#?}");
    let twice = found.iter().position(|it| it.starts_with("environments: this entry is out of"));
    let mut found = found;
    found.remove(twice.unwrap());
    assert!(found[0].starts_with("environments/twice/same.yaml: this entry is out of order"));
    assert!(found[1].starts_with("\"environments/up/..\": it is not a name"));
    assert!(found[2].starts_with("\"environments/up/.git\": it is a name of Git's own"));
    assert_eq!(found[3], "trueup.yaml: must be a file");
}

#[test]
fn numbers_and_sums_are_limited_and_an_empty_commit_is_refused() {
    let repo = GitRepo::new();
    repo.write("README.md", "nothing for trueup here");
    repo.commit("empty");
    repo.push();
    let (mirror, head) = fetched(&repo);
    assert_eq!(problems(&mirror, head, &TreeLimits::default()), [TreeProblem::Empty]);

    for file in 0..5 {
        repo.write(&format!("environments/{file}/x.yaml"), "0123456789");
    }
    repo.commit("five");
    repo.push();
    let head = mirror.fetch().unwrap().head;
    let limits = TreeLimits { files_max: 3, ..TreeLimits::default() };
    let path = "environments/3/x.yaml".to_owned();
    let expected = TreeProblem::TooMany { path, what: "files", limit: 3 };
    assert_eq!(problems(&mirror, head, &limits), [expected]);
    let limits = TreeLimits { directories_max: 3, ..TreeLimits::default() };
    let path = "environments/2".to_owned();
    let expected = TreeProblem::TooMany { path, what: "folders", limit: 3 };
    assert_eq!(problems(&mirror, head, &limits), [expected]);
    let limits = TreeLimits { total_bytes_max: 25, ..TreeLimits::default() };
    let path = "environments/2/x.yaml".to_owned();
    let expected = TreeProblem::TotalTooLarge { path, bytes: 30, limit: 25 };
    assert_eq!(problems(&mirror, head, &limits), [expected]);
}

#[test]
fn a_damaged_mirror_is_an_error_and_never_an_empty_listing() {
    let repo = GitRepo::new();
    repo.write("environments/lab/x.yaml", "a: 1\n");
    repo.commit("one");
    repo.push();
    let (mirror, head) = fetched(&repo);
    let config = mirror.config().clone();
    drop(mirror);
    for entry in std::fs::read_dir(config.directory.join("objects/pack")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "pack") {
            let mut bytes = std::fs::read(&path).unwrap();
            let end = bytes.len() - 20;
            bytes[12..end].fill(0xff);
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let mirror = Mirror::open_or_create(config).unwrap();
    let error = mirror.tree(head, &TreeLimits::default()).unwrap_err();
    assert!(matches!(error, TreeError::Source(SourceError::Object { .. })), "{error:?}");
}

#[test]
fn changes_name_what_differs_and_a_listing_from_an_earlier_one_is_the_same() {
    let repo = GitRepo::new();
    for path in ["trueup.yaml", "environments/a/1.yaml", "environments/a/2.yaml", "bases/b/3.yaml"]
    {
        repo.write(path, path);
    }
    repo.commit("one");
    repo.push();
    let (mirror, first) = fetched(&repo);
    let limits = TreeLimits::default();
    let old = mirror.tree(first, &limits).unwrap();

    repo.write("environments/a/1.yaml", "changed");
    repo.write("environments/a/0.yaml", "added");
    repo.write("environments/new/4.yaml", "added");
    repo.git(["mv", "environments/a/2.yaml", "environments/a/moved.yaml"]);
    std::fs::remove_file(repo.work().join("bases/b/3.yaml")).unwrap();
    let second = repo.commit("two");
    repo.push();
    mirror.fetch().unwrap();
    let new = mirror.tree_from(&old, second, &limits).unwrap();
    let whole = mirror.tree(second, &limits).unwrap();
    assert_eq!(new.entries(), whole.entries());
    assert_eq!(new.total_bytes(), whole.total_bytes());
    let changes = old.changes(&new);
    let shown: Vec<String> = changes
        .iter()
        .map(|change| match (change.old, change.new) {
            (None, _) => format!("+{}", change.path),
            (_, None) => format!("-{}", change.path),
            _ => format!("~{}", change.path),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "-bases/b/3.yaml",
            "+environments/a/0.yaml",
            "~environments/a/1.yaml",
            "-environments/a/2.yaml",
            "+environments/a/moved.yaml",
            "+environments/new/4.yaml",
        ]
    );
    assert!(new.changes(&whole).is_empty());
    // And back, and on from a listing that was itself made from another.
    let back = mirror.tree_from(&new, first, &limits).unwrap();
    assert_eq!(back.entries(), old.entries());
    let again = mirror.tree_from(&back, second, &limits).unwrap();
    assert_eq!(again.entries(), whole.entries());
}

#[test]
fn one_file_of_five_thousand_costs_little() {
    let repo = GitRepo::new();
    for file in 0..5_000 {
        let path = format!("environments/lab/{:02}/vm-{file}.yaml", file % 50);
        let text = format!("kind: VirtualMachine\nname: vm-{file}\n{}", "memory: 1\n".repeat(60));
        repo.write(&path, text);
    }
    repo.commit("many");
    repo.push();
    let (mirror, first) = fetched(&repo);
    let limits = TreeLimits::default();
    let started = Instant::now();
    let old = mirror.tree(first, &limits).unwrap();
    let whole = started.elapsed();
    let second = repo.publish("environments/lab/07/vm-7.yaml", "kind: Changed\n");
    mirror.fetch().unwrap();
    let started = Instant::now();
    let new = mirror.tree_from(&old, second, &limits).unwrap();
    let changes = old.changes(&new);
    let part = started.elapsed();
    let started = Instant::now();
    for entry in old.entries() {
        mirror.blob(&entry.blob).unwrap();
    }
    eprintln!("listing {whole:?}, incremental {part:?}, all blobs {:?}", started.elapsed());
    assert_eq!(changes.len(), 1);
    assert_eq!(new.entries().len(), 5_000);
    assert!(part < whole / 2, "incremental {part:?}, whole {whole:?}");
}
