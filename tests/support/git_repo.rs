//! A bare repository and a clone to commit in, made with the real `git`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use trueup::source::CommitId;

/// A bare repository `origin.git` and a working clone beside it, both gone on drop.
pub(crate) struct GitRepo {
    root: tempfile::TempDir,
}

impl GitRepo {
    pub(crate) fn new() -> Self {
        let repo = Self { root: tempfile::tempdir().unwrap() };
        let at = repo.root.path().to_path_buf();
        git(&at, ["init", "-q", "--bare", "-b", "main", "origin.git"]);
        git(&at, ["init", "-q", "-b", "main", "work"]);
        let config = [
            ["remote", "add", "origin", "../origin.git"].as_slice(),
            &["config", "user.name", "Ann"],
            &["config", "user.email", "ann@example.org"],
            &["config", "commit.gpgsign", "false"],
        ];
        for args in config {
            git(&repo.work(), args);
        }
        repo
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn bare(&self) -> PathBuf {
        self.root.path().join("origin.git")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    pub(crate) fn git<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        git(&self.work(), args)
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.work().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Commits everything in the clone.
    pub(crate) fn commit(&self, message: &str) -> CommitId {
        self.git(["add", "-A"]);
        self.commit_index(message, &[])
    }

    /// Commits the index as it is, with extra arguments.
    pub(crate) fn commit_index(&self, message: &str, extra: &[&str]) -> CommitId {
        let mut args = vec!["commit", "-q", "--allow-empty", "-m", message];
        args.extend_from_slice(extra);
        self.git(args);
        self.head()
    }

    pub(crate) fn head(&self) -> CommitId {
        self.git(["rev-parse", "HEAD"]).trim().parse().unwrap()
    }

    pub(crate) fn push(&self) {
        self.git(["push", "-q", "--force", "origin", "HEAD:refs/heads/main"]);
    }

    /// One file written, committed and pushed.
    pub(crate) fn publish(&self, path: &str, text: &str) -> CommitId {
        self.write(path, text);
        let id = self.commit(path);
        self.push();
        id
    }

    /// Puts an entry into the index that no file system would give.
    pub(crate) fn index_entry(&self, mode: &str, content: &[u8], path: &[u8]) {
        let blob = self.blob(content);
        self.index_object(mode, &blob, path);
    }

    pub(crate) fn index_object(&self, mode: &str, object: &str, path: &[u8]) {
        let mut line = format!("{mode} {object}\t").into_bytes();
        line.extend_from_slice(path);
        line.push(0);
        feed(&self.work(), &["update-index", "-z", "--add", "--index-info"], &line);
    }

    pub(crate) fn blob(&self, content: &[u8]) -> String {
        feed(&self.work(), &["hash-object", "-w", "--stdin"], content).trim().to_owned()
    }

    /// Writes a tree or commit object as it is, without Git's checks.
    pub(crate) fn object(&self, kind: &str, content: &[u8]) -> String {
        let args = ["hash-object", "-w", "--literally", "--stdin", "-t", kind];
        feed(&self.work(), &args, content).trim().to_owned()
    }

    /// `count` commits on `at`, each another change of `path`, as pull requests from number `first`
    /// on, all pushed at once.
    pub(crate) fn offer_many(
        &self,
        first: u64,
        count: u64,
        at: &str,
        path: &str,
        text: impl Fn(u64) -> String,
    ) -> Vec<CommitId> {
        let base = self.git(["rev-parse", at]).trim().to_owned();
        let mut stream = String::new();
        for number in first..first + count {
            let text = text(number);
            let (message, length) = (format!("pull {number}"), text.len());
            stream.push_str(&format!(
                "commit refs/offered/{number}\ncommitter Ann <ann@example.org> 1750000000 +0000\n\
                 data {}\n{message}\nfrom {base}\nM 100644 inline {path}\ndata {length}\n{text}\n",
                message.len(),
            ));
        }
        feed(&self.work(), &["fast-import", "--quiet", "--force"], stream.as_bytes());
        let heads = (first..first + count).map(|number| {
            let name = format!("refs/offered/{number}");
            self.git(["rev-parse", name.as_str()]).trim().parse().unwrap()
        });
        let heads = heads.collect();
        let specs = (first..first + count)
            .map(|number| format!("+refs/offered/{number}:refs/pull/{number}/head"));
        let words = ["push", "-q", "origin"].map(str::to_owned);
        self.git(words.into_iter().chain(specs));
        heads
    }

    /// Makes `commit` the remote's head, objects and all, without Git's checks on push.
    pub(crate) fn force_head(&self, commit: &str) {
        self.git(["update-ref", "refs/heads/main", commit]);
        self.git(["push", "-q", "--force", "origin", "refs/heads/main:refs/heads/main"]);
    }
}

/// Runs git in `at` apart from the user's own configuration.
pub(crate) fn git<A: AsRef<OsStr>>(at: &Path, args: impl IntoIterator<Item = A>) -> String {
    finish(command(at).args(args).output().unwrap())
}

fn command(at: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(at)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("LC_ALL", "C");
    command
}

fn feed(at: &Path, args: &[&str], input: &[u8]) -> String {
    use std::io::Write;
    let mut child = command(at)
        .args(args)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    finish(child.wait_with_output().unwrap())
}

fn finish(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
