//! One repository with its worker, and restic beside it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use trueup_backup::FeedWriter;
use trueup_backup::protocol::{Done, Fault, Message, Outcome, Taken};

pub(crate) const WORKER: &str = env!("CARGO_BIN_EXE_trueup-backup-worker");

pub(crate) struct Lab {
    pub(crate) root: tempfile::TempDir,
    pub(crate) target: Value,
    /// The environment of workers, besides our own.
    pub(crate) env: Vec<(&'static str, &'static str)>,
}

pub(crate) type Answer = Result<Outcome, Fault>;

impl Lab {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let target = json!({ "local": { "path": root.path().join("repo") } });
        let lab = Lab { root, target, env: vec![] };
        let mut options = fs::OpenOptions::new();
        let key = options.write(true).create(true).truncate(true).mode(0o600);
        key.open(lab.path("key")).unwrap().write_all(b"secret\n").unwrap();
        lab
    }

    /// With a repository of ours.
    pub(crate) fn ready() -> Self {
        let lab = Lab::new();
        lab.good(json!({ "init": {} }));
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn request(&self, action: &Value) -> Value {
        json!({
            "target": self.target,
            "key": { "file": { "path": self.path("key") } },
            "state": self.path("state"),
            "limits": { "progress_ms": 0 },
            "action": action,
        })
    }

    /// A worker that has its request, and standard input to go on with.
    pub(crate) fn start(&self, action: &Value) -> Child {
        self.start_with(&self.request(action))
    }

    pub(crate) fn start_with(&self, request: &Value) -> Child {
        let mut command = Command::new(WORKER);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).envs(self.env.iter().copied());
        let mut child = command.spawn().unwrap();
        let line = format!("{request}\n");
        child.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        child
    }

    pub(crate) fn run(&self, action: Value) -> Answer {
        answer(self.start(&action))
    }

    #[track_caller]
    pub(crate) fn good(&self, action: Value) -> Outcome {
        self.run(action).unwrap_or_else(|fault| panic!("{fault}"))
    }

    #[track_caller]
    pub(crate) fn bad(&self, action: Value) -> Fault {
        self.run(action).expect_err("it should fail")
    }

    #[track_caller]
    pub(crate) fn save(&self, path: &Path) -> Taken {
        taken(self.good(backup(path)))
    }

    /// Sends a stream, with its end mark or without.
    pub(crate) fn stream(&self, name: &str, content: &[u8], finish: bool) -> Answer {
        let action = json!({ "backup": { "source": { "stream": { "name": name } }, "host": "h" } });
        let mut child = self.start(&action);
        let mut writer = FeedWriter::new(child.stdin.take().unwrap());
        writer.write_all(content).unwrap();
        if finish {
            child.stdin = Some(writer.finish().unwrap());
        } else {
            drop(writer);
        }
        answer(child)
    }

    pub(crate) fn restore(&self, to: &str) -> Outcome {
        self.good(json!({ "restore": { "snapshot": "latest", "to": self.path(to) } }))
    }

    pub(crate) fn restic(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new("restic");
        command.arg("-r").arg(self.path("repo")).arg("--password-file").arg(self.path("key"));
        command.arg("--cache-dir").arg(self.path("restic-cache")).args(arguments);
        command.output().expect("restic is installed")
    }

    #[track_caller]
    pub(crate) fn restic_good(&self, arguments: &[&str]) -> String {
        let output = self.restic(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "restic {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The packs of the repository, largest first.
    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        let mut packs: Vec<_> = walk(&self.path("repo/data"));
        packs.retain(|path| path.is_file());
        packs.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
        packs
    }
}

/// What a worker says last.
pub(crate) fn answer(mut child: Child) -> Answer {
    let stdout = child.stdout.take().unwrap();
    let mut last = None;
    for line in BufReader::new(stdout).lines() {
        match serde_json::from_str(&line.unwrap()).unwrap() {
            Message::Progress(_) => {}
            Message::Outcome(outcome) => last = Some(Ok(*outcome)),
            Message::Fault(fault) => last = Some(Err(fault)),
        }
    }
    child.wait().unwrap();
    last.unwrap_or(Err(Fault::Cancelled))
}

pub(crate) fn backup(path: &Path) -> Value {
    json!({ "backup": { "source": { "paths": { "paths": [path] } }, "host": "h", "tags": ["t"] } })
}

#[track_caller]
pub(crate) fn taken(outcome: Outcome) -> Taken {
    match outcome.done {
        Done::Backup(taken) => taken,
        other => panic!("{other:?}"),
    }
}

/// All paths below one, in order.
pub(crate) fn walk(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

/// That two trees are the same: names, kinds, modes, owners, times, links, content.
#[track_caller]
pub(crate) fn same(a: &Path, b: &Path) {
    let inside = |root: &Path| -> Vec<PathBuf> {
        walk(root).iter().map(|path| path.strip_prefix(root).unwrap().to_owned()).collect()
    };
    assert_eq!(inside(a), inside(b));
    for name in inside(a) {
        let (x, y) = (a.join(&name), b.join(&name));
        let look = |path: &Path| {
            let meta = path.symlink_metadata().unwrap();
            let mode = meta.permissions().mode();
            let times = (meta.mtime(), meta.mtime_nsec());
            let size = if meta.is_dir() { 0 } else { meta.len() };
            let links = if meta.is_dir() { 0 } else { meta.nlink() };
            (mode, meta.uid(), meta.gid(), times, size, links)
        };
        assert_eq!(look(&x), look(&y), "{}", name.display());
        if x.is_symlink() {
            assert_eq!(fs::read_link(&x).unwrap(), fs::read_link(&y).unwrap());
        } else if x.is_file() {
            assert!(fs::read(&x).unwrap() == fs::read(&y).unwrap(), "{}", name.display());
        }
    }
}
