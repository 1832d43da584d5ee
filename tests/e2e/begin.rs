//! How most tests with a forge begin: a daemon that follows it, and a machine that has its first commit.

use serde_json::{Value, json};
use trueup::source::CommitId;

use super::bench::Bench;
use super::spec::{environment, network};
use crate::forge::fake::FakeGitHub;
use crate::forge::fake::login::TOKEN;

/// A host under a daemon that follows a forge.
pub(super) struct Begun {
    pub(super) forge: FakeGitHub,
    pub(super) bench: Bench,
    /// The environment's document.
    pub(super) lab: String,
    /// The commit in force: the environment and its networks.
    pub(super) base: CommitId,
}

/// With one network, `lab`.
pub(super) fn begin() -> Begun {
    begin_with(FakeGitHub::start(), &[("lab", 91)], str::to_owned, TOKEN, json!({}))
}

/// With these networks, the environment changed by `edit`, and more settings of the forge.
pub(super) fn begin_with(
    forge: FakeGitHub,
    networks: &[(&str, u8)],
    edit: impl FnOnce(&str) -> String,
    token: &str,
    more: Value,
) -> Begun {
    let mut bench = Bench::new();
    let lab = edit(&environment(&bench.dir, ""));
    let (base, _) = bench.push(&documents(&lab, networks));
    follow(&bench, &forge, token, more);
    bench.start();
    bench.converged(&base);
    Begun { forge, bench, lab, base }
}

/// The environment with these networks.
pub(super) fn documents(lab: &str, networks: &[(&str, u8)]) -> Vec<String> {
    let networks = networks.iter().map(|(name, n)| network(name, *n, ""));
    std::iter::once(lab.to_owned()).chain(networks).collect()
}

/// Adds the forge to the daemon's config, with more settings.
pub(super) fn follow(bench: &Bench, forge: &FakeGitHub, token: &str, more: Value) {
    follow_as(bench, &serde_json::to_value(forge.settings(token)).unwrap(), &more);
}

/// Adds these settings of a forge to the daemon's config.
pub(super) fn follow_as(bench: &Bench, settings: &Value, more: &Value) {
    let mut settings = settings.clone();
    settings["poll"] = "1s".into();
    for (name, value) in more.as_object().unwrap() {
        settings[name] = value.clone();
    }
    let config = std::fs::read_to_string(bench.config()).unwrap();
    std::fs::write(bench.config(), format!("{config}forge: {settings}\n")).unwrap();
}
