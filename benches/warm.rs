//! One commit of a real repository from fetch to plan, cold and warm, in one run.
//!
//! Cold: a mirror that has the commit, and nothing remembered. Warm: one file of 5,000 is changed,
//! committed and pushed with git; then fetch, list, read, load, and a plan for a machine that is
//! otherwise in sync. Pushing is git's own time and is not counted.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a benchmark measures and prints"
)]

mod support;

use std::sync::Arc;

use support::{Begun, Best, at_most, git, machine, repository, rig};
use trueup::model::{CommitId, Observed};
use trueup::plan::{Guards, Input, Known, Plan, plan, simulate};
use trueup::port::Source;
use trueup::source::GitSource;
use trueup::spec::{Desired, Loaded, ParseCache, RepoFile, RepoFiles, Select, load};

/// Documents of the repository.
const DOCUMENTS: usize = 5_000;
/// Cold runs; the best counts.
const COLD_RUNS: usize = 5;
/// Warm runs, spread between the cold ones; the best counts, stage by stage and as a whole.
const WARM_RUNS: usize = 25;

/// The mirror of the repository, and whoever asks it.
struct Reader {
    runtime: tokio::runtime::Runtime,
    source: GitSource,
    select: Select,
}

/// The stages of the way.
#[derive(Debug, Default)]
struct Stages {
    fetch: Best,
    read: Best,
    load: Best,
    plan: Best,
    /// Load and plan.
    pure: Best,
    /// All of it.
    whole: Best,
}

impl Reader {
    fn new(repo: &git::Repo, state: &str) -> Self {
        let source = rig::source(&repo.url(), &repo.root().join(state));
        Self { runtime: rig::runtime(), source, select: Select::Host("here".to_owned()) }
    }

    fn fetch(&self, have: Option<CommitId>) -> CommitId {
        self.source.hurry();
        self.runtime.block_on(self.source.poll(have)).unwrap().commit
    }

    /// The files at a commit, with the bytes of those only that are not known, as the loop reads.
    fn read(&self, commit: &CommitId, cache: &ParseCache) -> RepoFiles {
        self.runtime.block_on(async {
            let files = self.source.files(commit.clone()).await.unwrap();
            let unknown = files.iter().map(|file| &file.blob).filter(|blob| !cache.contains(blob));
            let unknown: Vec<_> = unknown.cloned().collect();
            let bytes = self.source.blobs(unknown.clone()).await.unwrap();
            let mut bytes: std::collections::HashMap<_, _> =
                unknown.into_iter().zip(bytes).collect();
            let files = files.into_iter().map(|file| RepoFile {
                bytes: bytes.get_mut(&file.blob).map(|bytes| Arc::clone(bytes)),
                path: file.path,
                blob: file.blob,
                executable: file.executable,
            });
            RepoFiles { files: files.collect() }
        })
    }
}

/// What the machine is, and what the log knows of it.
#[derive(Default)]
struct Machine {
    observed: Observed,
    known: Known,
}

impl Machine {
    fn plan(&self, commit: &CommitId, desired: &Desired) -> Plan {
        plan(&Input {
            commit,
            desired,
            observed: &self.observed,
            known: &self.known,
            guards: Guards { prune: true },
            now_minute_of_week: None,
        })
    }

    /// Does everything that is to be done.
    fn converge(&mut self, commit: &CommitId, desired: &Desired) {
        let everything = self.plan(commit, desired);
        for step in &everything.steps {
            simulate::remember_started(&mut self.known, step, desired);
            simulate::apply(&mut self.observed, step, &desired.environment);
        }
        assert!(self.plan(commit, desired).is_empty());
    }
}

/// From fetch to plan, each stage timed.
fn walk(
    stages: &mut Stages,
    reader: &Reader,
    machine: &Machine,
    cache: &mut ParseCache,
    have: Option<&CommitId>,
) -> (CommitId, Loaded) {
    let start = Begun::now();
    let commit = stages.fetch.run(|| reader.fetch(have.cloned()));
    let files = stages.read.run(|| reader.read(&commit, cache));
    let half = Begun::now();
    let loaded = stages.load.run(|| load(&files, &reader.select, cache)).unwrap();
    let made = stages.plan.run(|| machine.plan(&commit, &loaded.desired));
    stages.pure.take(&half);
    stages.whole.take(&start);
    assert!(machine.known.resources.is_empty() || made.is_empty());
    (commit, loaded)
}

fn parser_alone(files: &RepoFiles) {
    for file in &files.files {
        let text = std::str::from_utf8(file.bytes.as_deref().unwrap_or_default()).unwrap();
        assert!(serde_saphyr::from_str::<serde_json::Value>(text).is_ok());
    }
}

fn main() {
    let repo = git::Repo::new(&repository::documents(DOCUMENTS, "first"));
    let reader = Reader::new(&repo, "kept");
    let (mut cold, mut warm, mut parser) = (Stages::default(), Stages::default(), Best::default());
    let mut machine_now = Machine::default();
    let mut cache = ParseCache::new();
    let (mut head, loaded) = walk(&mut Stages::default(), &reader, &machine_now, &mut cache, None);
    machine_now.converge(&head, &loaded.desired);
    for n in 0..COLD_RUNS {
        // The mirror is made before the clock runs; it fetches on the way.
        let fresh = Reader::new(&repo, &format!("cold{n}"));
        let mut empty = ParseCache::new();
        let (commit, _) = walk(&mut cold, &fresh, &machine_now, &mut empty, None);
        let files = fresh.read(&commit, &ParseCache::new());
        parser.run(|| parser_alone(&files));
        for step in 0..WARM_RUNS / COLD_RUNS {
            let label = format!("change {n}-{step}");
            let new = repository::documents(5, &label);
            let new: Vec<_> =
                new.into_iter().filter(|(path, _)| path == repository::CHANGED).collect();
            repo.publish(&new, &label);
            let before = cache.parses();
            let (commit, _) = walk(&mut warm, &reader, &machine_now, &mut cache, Some(&head));
            assert_ne!(commit, head);
            assert_eq!(cache.parses(), before + 1, "one file is parsed");
            head = commit;
        }
    }
    machine();
    println!(
        "warm: {DOCUMENTS} documents in git, one changed; best of {WARM_RUNS}, cold of {COLD_RUNS}"
    );
    for (name, cold, warm) in [
        ("fetch", cold.fetch, warm.fetch),
        ("list and read", cold.read, warm.read),
        ("load", cold.load, warm.load),
        ("plan", cold.plan, warm.plan),
        ("all of it", cold.whole, warm.whole),
    ] {
        let (cold, warm) = ((cold.ms(), cold.cpu_ms()), (warm.ms(), warm.cpu_ms()));
        println!(
            "  {name:<14} cold {:>8.2} ms ({:>8.2} CPU)   warm {:>8.2} ms ({:>8.2} CPU)",
            cold.0, cold.1, warm.0, warm.1
        );
    }
    let ratio = |part: Best, whole: Best| part.cpu_ms() / whole.cpu_ms();
    let percent = |part: Best, whole: Best| 100.0 * ratio(part, whole);
    let wall = 100.0 * warm.whole.ms() / cold.whole.ms();
    at_most("cold load and plan / parser alone, CPU", ratio(cold.pure, parser), "times", 1.5);
    at_most("warm / cold, load and plan, CPU", percent(warm.pure, cold.pure), "%", 5.0);
    at_most("warm / cold, fetch to plan, CPU", percent(warm.whole, cold.whole), "%", 5.0);
    at_most("warm / cold, fetch to plan, wall", wall, "%", 5.0);
}
