//! Cost of reading a repository, as ratios within one run: cold against the YAML parser alone, warm
//! (one file changed) against cold, and the exponent of growth.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a benchmark measures and prints"
)]

mod support;

use std::hint::black_box;

use support::{Best, at_most, figure, machine, repository};
use trueup::model::Digest;
use trueup::spec::{ParseCache, RepoFile, RepoFiles, Select, load};

/// Documents of the main measurement.
const DOCUMENTS: usize = 5_000;
/// Runs of each measurement, one of each in turn, so that a busy spell of the machine spoils all
/// alike; the best counts.
const RUNS: usize = 9;

fn file((path, text): (String, String)) -> RepoFile {
    RepoFile::new(path, Digest::of(&text).to_string(), text.as_bytes())
}

fn files(documents: usize) -> RepoFiles {
    RepoFiles { files: repository::documents(documents, "first").into_iter().map(file).collect() }
}

/// The same commit with another label in one file; a label never seen before, so that no cache
/// knows the content.
fn change(repo: &RepoFiles, n: usize) -> RepoFiles {
    let mut repo = repo.clone();
    let new = repository::documents(5, &format!("change {n}"));
    let new = new.into_iter().find(|(path, _)| path == repository::CHANGED).unwrap();
    *repo.files.iter_mut().find(|file| file.path == repository::CHANGED).unwrap() = file(new);
    repo
}

fn parser_alone(repo: &RepoFiles) {
    for file in &repo.files {
        let text = std::str::from_utf8(file.bytes.as_deref().unwrap_or_default());
        let value = serde_saphyr::from_str::<serde_json::Value>(text.unwrap_or_default());
        assert!(black_box(value).is_ok());
    }
}

fn main() {
    let select = Select::Host("here".to_owned());
    let (all, tenth) = (files(DOCUMENTS), files(DOCUMENTS / 10));
    let mut kept = ParseCache::new();
    assert!(load(&all, &select, &mut kept).is_ok());
    let [mut parser, mut cold, mut small, mut warm] = [Best::default(); 4];
    for n in 0..RUNS {
        parser.run(|| parser_alone(&all));
        // The memory of a run is given back outside of the time it takes.
        let mut cache = ParseCache::new();
        let loaded = cold.run(|| load(&all, &select, &mut cache));
        assert!(loaded.is_ok());
        drop((cache, loaded));
        let mut cache = ParseCache::new();
        let loaded = small.run(|| load(&tenth, &select, &mut cache));
        assert!(loaded.is_ok());
        for step in 0..10 {
            let changed = change(&all, n * 10 + step);
            let loaded = warm.run(|| load(&changed, &select, &mut kept));
            assert!(loaded.is_ok());
        }
    }
    let bytes: usize =
        all.files.iter().filter_map(|file| file.bytes.as_ref()).map(|b| b.len()).sum();
    machine();
    println!("spec: {DOCUMENTS} documents, {bytes} bytes; processor time, best of {RUNS}");
    figure("YAML parser alone", parser.cpu_ms(), "ms");
    figure("cold load", cold.cpu_ms(), "ms");
    at_most("cold load / parser alone", cold.cpu_ms() / parser.cpu_ms(), "times", 1.5);
    figure("warm load, one file changed", warm.cpu_ms(), "ms");
    at_most("warm load / cold load", 100.0 * warm.cpu_ms() / cold.cpu_ms(), "%", 5.0);
    let exponent = (cold.cpu_ms() / small.cpu_ms()).log10();
    figure("growth exponent, a tenth to all", exponent, "");
}
