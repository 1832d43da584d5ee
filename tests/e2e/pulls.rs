//! A pull request from its first push to the machine: what it says before, and after the merge.

use trueup::source::CommitId;

use super::begin::{Begun, begin};
use super::bench::{Bench, PATIENCE, sh};
use super::events::until;
use super::spec::{REPOSITORY, network};
use crate::forge::fake::FakeGitHub;
use crate::forge::fake::state::PullSpec;

#[test]
fn a_pull_request_says_what_its_merge_then_does() {
    super::beside_libvirt("e2e::pulls::a_pull_request_says_what_its_merge_then_does", || {
        let Begun { forge, mut bench, lab, base } = begin();
        settled(&forge, &base, "success");

        let head =
            offer(&bench, 1, &[lab.clone(), network("lab", 91, ""), network("side", 92, "")]);
        open(&forge, &head, &base);
        let said = settled(&forge, &head, "success");
        assert!(said.contains("1 to create"), "{said}");
        let comment = comment(&forge);
        assert!(comment.contains("network/side"), "{comment}");
        assert!(!networks().contains(&"side".to_owned()), "nothing happens before the merge");
        a_head_chooses_neither_its_judge_nor_its_host(&bench, &forge, &lab);
        a_second_push_changes_the_same_comment(&bench, &forge, &lab);
        a_merge_does_what_was_said(&bench, &forge);
        while_the_forge_is_away_the_machine_follows_all_the_same(&bench, &forge, &lab);
        bench.assert_log_is_whole();
        bench.stop();
    });
}

#[test]
fn a_merge_that_would_do_more_waits_for_an_approval() {
    super::beside_libvirt("e2e::pulls::a_merge_that_would_do_more_waits_for_an_approval", || {
        let Begun { forge, mut bench, lab, base } = begin();
        let head = offer(&bench, 1, &[lab, network("lab", 91, ""), network("side", 92, "")]);
        open(&forge, &head, &base);
        settled(&forge, &head, "success");
        // Nobody looks while somebody takes away what the plan took for granted.
        bench.stop();
        sh(&["virsh", "net-destroy", "lab"]);
        sh(&["virsh", "net-undefine", "lab"]);
        bench.repo.git(["merge", "-q", "--squash", "offer"]);
        let merged = bench.repo.commit_index("Add side (#1)", &[]);
        bench.repo.push();
        let before = bench.seq();
        bench.start();
        let limit = std::time::Duration::from_secs(60);
        let surprised = bench.event_within(before, "plan.surprised", "", limit);
        let extra = surprised.data["extra"].to_string();
        assert!(extra.contains("network/lab") && !extra.contains("network/side"), "{extra}");
        let said = settled(&forge, &merged, "failure");
        assert!(said.starts_with("held: #1 did not say"), "{said}");
        assert!(networks().is_empty(), "nothing runs");
        let plan = surprised.data["plan"].as_str().unwrap().to_owned();
        bench.run(&["approve", &plan]).code(0);
        bench.converged(&merged);
        let log = bench.run(&["log", "--type", "plan.approved", "-o", "json"]).code(0);
        assert!(log.out.contains("\"operator:"), "the log shows who: {}", log.out);
        settled(&forge, &merged, "success");
        bench.stop();
    });
}

pub(super) fn open(forge: &FakeGitHub, head: &CommitId, base: &CommitId) {
    let spec = PullSpec {
        author: "ann",
        head: &head.to_string(),
        branch: "side",
        base: &base.to_string(),
        base_branch: "main",
        fork: false,
    };
    assert_eq!(forge.state().open_pull(&spec), 1);
}

fn a_head_chooses_neither_its_judge_nor_its_host(bench: &Bench, forge: &FakeGitHub, lab: &str) {
    let other = REPOSITORY.replace("hosts: [bench]", "hosts: [another]");
    let more =
        [("trueup.yaml", other.as_str()), ("policies/broken.rego", "package broken\ndeny if")];
    let documents = [lab.to_owned(), network("lab", 91, ""), network("third", 94, "")];
    let head = offer_with(bench, 1, &documents, &more);
    forge.state().push(1, &head.to_string());
    let said = settled(forge, &head, "success");
    assert!(said.contains("1 to create"), "{said}");
}

fn a_second_push_changes_the_same_comment(bench: &Bench, forge: &FakeGitHub, lab: &str) {
    let more = [lab.to_owned(), network("lab", 91, ""), network("other", 93, "")];
    let head = offer(bench, 1, &more);
    forge.state().push(1, &head.to_string());
    settled(forge, &head, "success");
    until("the comment to name the new network", PATIENCE, || {
        comment(forge).contains("network/other").then_some(())
    });
    let said = comment(forge);
    assert!(said.contains("earlier plan"), "what was shown before is folded: {said}");
    assert!(said.contains("; log checkpoint `"), "{said}");
    let state = forge.state();
    let ours = state.comments.iter().filter(|comment| comment.number == 1);
    assert_eq!(ours.count(), 1);
}

fn a_merge_does_what_was_said(bench: &Bench, forge: &FakeGitHub) {
    bench.repo.git(["merge", "-q", "--no-ff", "-m", "Merge #1", "offer"]);
    let merged = bench.repo.head();
    bench.repo.push();
    forge.state().merge(1, &merged.to_string());
    bench.converged(&merged);
    let said = settled(forge, &merged, "success");
    assert!(said.starts_with("applied: ") && said.ends_with(" UTC)"), "{said}");
    let landed = forge.state().statuses_of(&merged.to_string()).last().copied().cloned().unwrap();
    let url = landed.url.unwrap_or_default();
    assert!(url.starts_with("http"), "it points at the pull request's comment: {url}");
    assert!(networks().contains(&"other".to_owned()));
    let events = bench.events_after(0);
    assert!(!events.iter().any(|event| event.is("plan.surprised", "")), "it did what it said");
}

fn while_the_forge_is_away_the_machine_follows_all_the_same(
    bench: &Bench,
    forge: &FakeGitHub,
    lab: &str,
) {
    forge.down();
    let (alone, _) = bench.push(&[lab.to_owned(), network("lab", 91, "")]);
    bench.converged(&alone);
    assert_eq!(networks(), ["lab"]);
    forge.up();
    settled(forge, &alone, "success");
    let state = forge.state();
    let applied = state.statuses_of(&alone.to_string());
    assert_eq!(applied.iter().filter(|status| status.state == "success").count(), 1);
}

/// Pushes these documents as the head of a pull request.
pub(super) fn offer(bench: &Bench, number: u64, documents: &[String]) -> CommitId {
    offer_with(bench, number, documents, &[])
}

/// As [`offer`], with more files.
pub(super) fn offer_with(
    bench: &Bench,
    number: u64,
    documents: &[String],
    more: &[(&str, &str)],
) -> CommitId {
    bench.repo.git(["checkout", "-q", "-B", "offer", "main"]);
    more.iter().for_each(|(path, text)| bench.repo.write(path, text));
    bench.repo.write("environments/lab/lab.yaml", documents.concat());
    let head = bench.repo.commit("a change");
    let to = format!("HEAD:refs/pull/{number}/head");
    bench.repo.git(["push", "-q", "--force", "origin", to.as_str()]);
    bench.repo.git(["checkout", "-q", "main"]);
    head
}

/// Waits until the newest status of a commit is this one; what it says.
pub(super) fn settled(forge: &FakeGitHub, commit: &CommitId, wanted: &str) -> String {
    until(&format!("the status of {commit} to be {wanted}"), PATIENCE, || {
        let state = forge.state();
        let newest = state.statuses_of(&commit.to_string()).last().copied().cloned()?;
        (newest.state == wanted).then_some(newest.description)
    })
}

pub(super) fn comment(forge: &FakeGitHub) -> String {
    until("a comment on the pull request", PATIENCE, || {
        Some(forge.state().comments_on(1).first()?.1.to_owned())
    })
}

pub(super) fn networks() -> Vec<String> {
    let listed = sh(&["virsh", "net-list", "--name"]);
    listed.split_whitespace().map(str::to_owned).collect()
}
