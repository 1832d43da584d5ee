//! What pull requests cost, and how soon something is said of them: the real daemon on libvirt's `test`
//! driver with 500 resources, and a forge that counts.
//!
//! Posts are a second apart, as GitHub asks, so most of the time of this benchmark is that pace.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a benchmark measures and prints"
)]

#[path = "../tests/forge/fake/mod.rs"]
mod fake;
mod support;

use std::time::{Duration, Instant};

use fake::{FakeGitHub, PullSpec, login::TOKEN};
use support::{at_most, figure, git, host, machine, repository};

/// Resources of the environment, the storage pool included.
const RESOURCES: usize = 500;
/// Open pull requests.
const PULLS: u64 = 100;
/// How often pull requests are looked for, seconds.
const POLL_S: f64 = 2.0;
/// Pushes to one pull request; the longest time counts.
const PUSHES: u64 = 5;
/// Polls in which nothing is new.
const IDLE_POLLS: usize = 20;
/// Longest wait for anything: the posts for all pull requests take minutes.
const PATIENCE: Duration = Duration::from_secs(1_200);
/// Between two looks at the forge: far less than anything that is measured.
const LOOK_EVERY: Duration = Duration::from_millis(5);

fn main() {
    machine();
    let node = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(node.path(), host::NODE).unwrap();
    let pool = tempfile::tempdir().unwrap();
    let pool = pool.path().join("pool").display().to_string();
    let repo = git::Repo::new(&repository::networks(RESOURCES - 1, &pool));
    let forge = FakeGitHub::start();
    let mut host = host::Host::new(&repo.url(), &format!("test://{}", node.path().display()));
    let mut settings = serde_json::to_value(forge.settings(TOKEN)).unwrap();
    settings["poll"] = format!("{POLL_S}s").into();
    // What people may say has to be listened to, which costs requests as well.
    settings["approvals"] = serde_json::json!({ "permission": "maintain" });
    host.configure(&format!("forge: {settings}\n"));
    host.verbose = true;
    host.start_and_converge();
    println!("pulls: {RESOURCES} resources on test:///, a poll every {POLL_S} s");
    wait_for("the commit in force", || newest(&forge, &repo.head(), "success"));
    pushes(&repo, &forge);
    crowd(&repo, &forge);
    base_moves(&repo, &host);
}

/// One of the networks, changed by pull request `number`.
fn change(number: u64, way: u64) -> (String, String) {
    let files = repository::networks(RESOURCES - 1, "/nowhere");
    let (path, text) = &files[2 + number as usize];
    (path.clone(), text.replace(".199\n", &format!(".{}\n", 150 + way)))
}

fn pushes(repo: &git::Repo, forge: &FakeGitHub) {
    let (mut pending, mut planned): (f64, f64) = (0.0, 0.0);
    for push in 0..PUSHES {
        let head = repo.offer(1..=1, |number| change(number, push)).remove(0);
        let begun = Instant::now();
        if push == 0 {
            open(forge, &head, &repo.head());
        } else {
            forge.state().push(1, &head);
        }
        wait_for("pending", || newest(forge, &head, ""));
        pending = pending.max(begun.elapsed().as_secs_f64());
        // The fetch begins when this has been said.
        let begun = Instant::now();
        wait_for("a plan", || newest(forge, &head, "success"));
        planned = planned.max(begun.elapsed().as_secs_f64());
    }
    // What a request takes, beyond the poll.
    at_most("push to `pending`, worst of 5", pending, "s", POLL_S + 0.1);
    at_most("fetch to the plan's status, worst of 5", planned, "s", 2.0);
}

fn crowd(repo: &git::Repo, forge: &FakeGitHub) {
    let heads = repo.offer(2..=PULLS, |number| change(number, 1));
    let begun = Instant::now();
    for head in &heads {
        open(forge, head, &repo.head());
    }
    wait_for("a comment on each", || {
        let state = forge.state();
        (1..=PULLS).all(|number| !state.comments_on(number).is_empty())
    });
    figure("99 more opened at once, until all have both", begun.elapsed().as_secs_f64(), "s");
    let lists = || {
        let lines = forge.lines();
        let list = |line: &&String| line.starts_with("GET /repos/team/machines/pulls ");
        (lines.iter().filter(list).count(), lines)
    };
    forge.forget_calls();
    wait_for("what was said last to be heard", || lists().0 > 2);
    forge.forget_calls();
    wait_for("polls with nothing new", || lists().0 > IDLE_POLLS);
    let (polls, lines) = lists();
    let free = lines.iter().filter(|line| line.ends_with(" 304")).count();
    let each = |count: usize| count as f64 / polls as f64;
    at_most("requests a poll, 100 open, nothing new", each(lines.len()), "requests", 3.0);
    figure("  of them answered 304, which are free", each(free), "requests");
}

/// An unrelated push to the base: how much is read to plan one pull request again.
fn base_moves(repo: &git::Repo, host: &host::Host) {
    let before = std::fs::read_to_string(host.said()).unwrap().len();
    let (path, text) = change(PULLS + 50, 3);
    repo.publish(&[(path, text)], "unrelated");
    let again = |count: usize| {
        let said = std::fs::read_to_string(host.said()).unwrap();
        let read: Vec<f64> = said[before..].lines().filter_map(read_of).collect();
        (read.len() >= count).then_some(read)
    };
    wait_for("all to be planned again", || again(PULLS as usize).is_some());
    let read = again(PULLS as usize).unwrap();
    let most = read.iter().copied().fold(0.0, f64::max);
    // The base's document and its own.
    at_most("documents read to plan one again, most", most, "documents", 2.0);
    figure("  the same, all 100 together", read.iter().sum(), "documents");
}

/// How many contents a line says were read for a pull request.
fn read_of(line: &str) -> Option<f64> {
    let line = line.contains("a pull request is read").then_some(line)?;
    let (_, rest) = line.split_once("read=").or_else(|| line.split_once("\"read\":"))?;
    rest.split(|after: char| !after.is_ascii_digit()).next()?.parse().ok()
}

fn open(forge: &FakeGitHub, head: &str, base: &str) {
    forge.state().open_pull(&PullSpec { head, base, ..PullSpec::default() });
}

/// Whether the newest status of a commit is this one; any, if it is empty.
fn newest(forge: &FakeGitHub, commit: &str, wanted: &str) -> bool {
    let state = forge.state();
    let newest = state.statuses_of(commit).last().map(|status| status.state.clone());
    newest.is_some_and(|newest| wanted.is_empty() || newest == wanted)
}

fn wait_for(what: &str, there: impl Fn() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}
