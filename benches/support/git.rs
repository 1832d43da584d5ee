//! A bare repository and a clone to commit in, made with the real `git`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A bare repository `origin.git` and a working clone beside it, both gone on drop.
pub struct Repo {
    root: tempfile::TempDir,
}

impl Repo {
    /// A repository with `files` committed and pushed.
    pub fn new(files: &[(String, String)]) -> Self {
        let repo = Self { root: tempfile::tempdir().unwrap() };
        git(repo.root(), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        git(repo.root(), &["init", "-q", "-b", "main", "work"]);
        repo.publish(files, "first");
        repo
    }

    /// The folder of everything.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// What a mirror follows.
    pub fn url(&self) -> String {
        self.root().join("origin.git").display().to_string()
    }

    fn work(&self) -> PathBuf {
        self.root().join("work")
    }

    /// Commits one file on the followed branch's head, for each number in `numbers`, and offers these
    /// as pull requests; their heads.
    pub fn offer(
        &self,
        numbers: std::ops::RangeInclusive<u64>,
        file: impl Fn(u64) -> (String, String),
    ) -> Vec<String> {
        let base = git(&self.work(), &["rev-parse", "HEAD"]);
        let offer = |number: u64| {
            let (path, text) = file(number);
            let path = self.work().join(path);
            std::fs::write(&path, text).unwrap();
            let author = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"];
            git(&self.work(), &["add", "-A"]);
            git(&self.work(), &[author.as_slice(), &["commit", "-q", "-m", "offer"]].concat());
            let head = git(&self.work(), &["rev-parse", "HEAD"]).trim().to_owned();
            let spec = format!("+HEAD:refs/pull/{number}/head");
            git(&self.work(), &["push", "-q", "../origin.git", &spec]);
            git(&self.work(), &["reset", "-q", "--hard", base.trim()]);
            head
        };
        numbers.map(offer).collect()
    }

    /// The head of the followed branch.
    pub fn head(&self) -> String {
        git(&self.work(), &["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Writes files, commits and pushes them.
    pub fn publish(&self, files: &[(String, String)], message: &str) {
        for (path, text) in files {
            let path = self.work().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let author = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"];
        git(&self.work(), &["add", "-A"]);
        git(&self.work(), &[author.as_slice(), &["commit", "-q", "-m", message]].concat());
        git(&self.work(), &["push", "-q", "../origin.git", "HEAD:refs/heads/main"]);
    }
}

fn git(at: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(at)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
