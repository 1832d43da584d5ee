//! A repository in memory: commits are whole trees; history is a list of parents.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trueup::event::body::Problem;
use trueup::model::{CommitId, Digest, Fault};
use trueup::port::{BoxFuture, FileRef, Head, Relation, Source, TreeFault};

/// The repository that is followed until the config names another one.
const REPOSITORY: &str = "https://forge.example.org/lab.git";
/// How long a question to a remote that hangs takes.
const POLL_LIMIT: Duration = Duration::from_secs(60);

/// A repository and its working tree.
#[derive(Default)]
pub(crate) struct FakeRemote {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    tree: BTreeMap<String, String>,
    commits: BTreeMap<CommitId, Commit>,
    head: Option<CommitId>,
    down: bool,
    hangs: bool,
    signed: Option<Result<String, String>>,
    blobs: BTreeMap<String, Arc<[u8]>>,
    count: usize,
    refused: Option<Problem>,
    read: usize,
    repository: Option<String>,
}

struct Commit {
    parent: Option<CommitId>,
    tree: BTreeMap<String, String>,
    subject: String,
    refused: Option<Problem>,
}

impl FakeRemote {
    pub(crate) fn write(&self, path: &str, text: &str) {
        self.inner.lock().unwrap().tree.insert(path.to_owned(), text.to_owned());
    }

    /// Replaces the first `from` in a file.
    pub(crate) fn edit(&self, path: &str, from: &str, to: &str) {
        let mut inner = self.inner.lock().unwrap();
        let text = inner.tree.get_mut(path).expect(path);
        assert!(text.contains(from), "no {from:?} in {path}");
        *text = text.replacen(from, to, 1);
    }

    pub(crate) fn delete(&self, path: &str) {
        let gone = self.inner.lock().unwrap().tree.remove(path);
        assert!(gone.is_some(), "no file {path}");
    }

    /// The next commit holds something that is refused before its text is read.
    pub(crate) fn refuse(&self, path: &str, message: &str) {
        let problem =
            Problem { path: path.to_owned(), line: 0, column: 0, message: message.to_owned() };
        self.inner.lock().unwrap().refused = Some(problem);
    }

    pub(crate) fn commit(&self, subject: &str) -> CommitId {
        let mut inner = self.inner.lock().unwrap();
        inner.count += 1;
        let digest = Digest::of(format!("{}{subject}", inner.count)).to_string();
        let id: CommitId = digest[..40].parse().unwrap();
        let texts: Vec<_> = inner.tree.values().cloned().collect();
        for text in texts {
            let blob = Digest::of(&text).to_string();
            inner.blobs.insert(blob, text.into_bytes().into());
        }
        let commit = Commit {
            parent: inner.head.clone(),
            tree: inner.tree.clone(),
            subject: subject.to_owned(),
            refused: inner.refused.take(),
        };
        inner.commits.insert(id.clone(), commit);
        inner.head = Some(id.clone());
        id
    }

    /// Moves the branch back `n` commits, working tree included.
    pub(crate) fn rewind(&self, n: usize) {
        let mut inner = self.inner.lock().unwrap();
        for _ in 0..n {
            inner.head = inner.commits[inner.head.as_ref().unwrap()].parent.clone();
        }
        inner.tree = inner.commits[inner.head.as_ref().unwrap()].tree.clone();
    }

    /// The config names another repository: with the same history, or with none of it.
    pub(crate) fn follow(&self, repository: &str, fresh: bool) {
        let mut inner = self.inner.lock().unwrap();
        inner.repository = Some(repository.to_owned());
        if fresh {
            inner.head = None;
        }
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.inner.lock().unwrap().down = down;
    }

    /// Every question from now on ends without an answer, after [`POLL_LIMIT`].
    pub(crate) fn set_hang(&self, hangs: bool) {
        self.inner.lock().unwrap().hangs = hangs;
    }

    /// From now on signatures are required, and this is what every head has.
    pub(crate) fn set_signer(&self, signer: Result<String, String>) {
        self.inner.lock().unwrap().signed = Some(signer);
    }

    pub(crate) fn head(&self) -> CommitId {
        self.inner.lock().unwrap().head.clone().unwrap()
    }

    /// The files of a commit.
    pub(crate) fn texts(&self, commit: &CommitId) -> BTreeMap<String, String> {
        self.inner.lock().unwrap().commits[commit].tree.clone()
    }

    /// Blobs read so far.
    pub(crate) fn blobs_read(&self) -> usize {
        self.inner.lock().unwrap().read
    }
}

/// The id of a tree of files.
pub(crate) fn tree_id(files: &BTreeMap<String, String>) -> String {
    Digest::of(format!("{files:?}")).to_string()
}

impl Inner {
    fn contains(&self, commit: &CommitId, ancestor: &CommitId) -> bool {
        let mut at = Some(commit.clone());
        while let Some(id) = at {
            if id == *ancestor {
                return true;
            }
            at = self.commits[&id].parent.clone();
        }
        false
    }

    fn poll(&self, have: Option<&CommitId>) -> Result<Head, Fault> {
        if self.down {
            return Err(Fault::unobservable("the remote does not answer"));
        }
        let Some(head) = self.head.clone() else {
            return Err(Fault::unobservable("the branch does not exist"));
        };
        let relation = match have {
            None => Relation::First,
            Some(have) if *have == head => Relation::Same,
            Some(have) if self.contains(&head, have) => Relation::Ahead,
            Some(have) if self.contains(have, &head) => Relation::Behind,
            Some(_) => Relation::Diverged,
        };
        Ok(Head {
            subject: self.commits[&head].subject.clone(),
            commit: head,
            repository: self.repository.clone().unwrap_or_else(|| REPOSITORY.to_owned()),
            relation,
            author: "ann <ann@example.org>".to_owned(),
            time: "2026-03-02T11:00:00Z".to_owned(),
            signer: self.signed.clone().transpose(),
        })
    }
}

impl Source for FakeRemote {
    fn poll(&self, have: Option<CommitId>) -> BoxFuture<'_, Result<Head, Fault>> {
        let (head, hangs) = {
            let inner = self.inner.lock().unwrap();
            (inner.poll(have.as_ref()), inner.hangs)
        };
        Box::pin(async move {
            if hangs {
                tokio::time::sleep(POLL_LIMIT).await;
                return Err(Fault::unobservable("no answer within 60 s"));
            }
            head
        })
    }

    fn files(&self, commit: CommitId) -> BoxFuture<'_, Result<Vec<FileRef>, TreeFault>> {
        let inner = self.inner.lock().unwrap();
        let commit = &inner.commits[&commit];
        let files = commit.tree.iter().map(|(path, text)| FileRef {
            path: path.clone(),
            blob: Digest::of(text).to_string(),
            size: text.len() as u64,
            executable: false,
        });
        let answer = match &commit.refused {
            Some(problem) => Err(TreeFault::Refused(vec![problem.clone()])),
            None => Ok(files.collect()),
        };
        Box::pin(async { answer })
    }

    fn tree(&self, commit: CommitId) -> BoxFuture<'_, Result<String, Fault>> {
        let inner = self.inner.lock().unwrap();
        let tree = tree_id(&inner.commits[&commit].tree);
        Box::pin(async { Ok(tree) })
    }

    fn blobs(&self, wanted: Vec<String>) -> BoxFuture<'_, Result<Vec<Arc<[u8]>>, Fault>> {
        let mut inner = self.inner.lock().unwrap();
        inner.read += wanted.len();
        let found = wanted.iter().map(|blob| Arc::clone(&inner.blobs[blob])).collect();
        Box::pin(async { Ok(found) })
    }

    fn keep(&self, commits: Vec<CommitId>) -> BoxFuture<'_, Result<(), Fault>> {
        let inner = self.inner.lock().unwrap();
        assert!(commits.iter().all(|commit| inner.commits.contains_key(commit)));
        Box::pin(async { Ok(()) })
    }
}
