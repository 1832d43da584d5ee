//! An approval that is taken back: before the merge, before the first step, and in mid-plan.

use std::time::Duration;

use trueup::event::Event;
use trueup::model::ResourceId;
use trueup::port::forge::CommitState;

use super::host::Trouble;
use super::pulls::{Watched, ben, lab};

const LAB: &str = "environments/lab/all.yaml";
const SLOW: Duration = Duration::from_secs(600);

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

/// A pull request that adds two machines to an environment that is synchronised by hand; approved by a
/// label, merged, and with its first disk taking its time.
async fn under_way() -> (Watched, trueup::model::CommitId) {
    let manual = "mode: manual";
    let mut watched = Watched::begin("", ben()).await;
    watched.world.remote.write(LAB, &lab(manual));
    watched.world.remote.commit("by hand");
    watched.world.settle().await;
    let more = "---\napiVersion: trueup/v1\nkind: Disk\nmetadata: { name: one }\nspec: { size: 1GiB }\n\
                ---\napiVersion: trueup/v1\nkind: Disk\nmetadata: { name: two }\nspec: { size: 1GiB }\n";
    let head = watched.forge.offer(7, LAB, &format!("{}{more}", lab(manual)));
    watched.turns().await;
    assert!(watched.said(&head).description.contains("held"), "{:?}", watched.said(&head));
    watched.wait(5).await;
    watched.forge.label(7, "go", true);
    watched.turns().await;
    assert!(watched.world.state().pulls.open[&7].approved.is_some());
    watched.world.host.trouble(&id("disk/one"), "create", Trouble::Slow(SLOW));
    let merged = watched.forge.merge(7);
    watched.turns().await;
    let report = watched.world.pass().await.unwrap();
    assert!(!report.under_way.is_empty(), "{:?}", report.held);
    (watched, merged)
}

fn has(watched: &Watched, disk: &str) -> bool {
    watched.world.host.machine().resources.contains_key(&id(disk))
}

#[tokio::test(start_paused = true)]
async fn what_has_begun_is_finished_and_nothing_more_is_begun() {
    let (mut watched, merged) = under_way().await;
    watched.turns().await;
    watched.forge.label(7, "go", false);
    watched.turns().await;
    let events = watched.world.log.events();
    let taken = events.iter().rev().find_map(|event| match &event.entry.event {
        Event::PullApprovalWithdrawn(withdrawn) => Some(withdrawn.clone()),
        _ => None,
    });
    assert_eq!(taken.expect("it was taken back").why, "the label go was taken off");
    watched.wait(SLOW.as_secs()).await;
    let report = watched.world.settle().await;
    assert!(has(&watched, "disk/one") && !has(&watched, "disk/two"));
    assert!(!report.held.is_empty(), "what is left waits");
    watched.turns().await;
    assert_eq!(watched.said(&merged).state, CommitState::Failure);
    watched.world.check_invariants();

    // And it can be let through again.
    let waiting = watched.world.state().plan.unwrap().plan;
    watched.wait(5).await;
    watched.forge.comment(7, "ben", &format!("/trueup approve {waiting}"));
    watched.turns().await;
    watched.world.settle().await;
    assert!(has(&watched, "disk/two"));
    watched.world.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn a_comment_takes_it_back_where_its_writer_may_approve() {
    let (mut watched, _) = under_way().await;
    let shown = watched.world.state().granted.unwrap().shown.unwrap();
    watched.wait(5).await;
    watched.forge.comment(7, "eve", &format!("/trueup withdraw {shown}"));
    watched.turns().await;
    assert!(watched.world.state().granted.is_some(), "a stranger cannot");
    watched.wait(5).await;
    watched.forge.comment(7, "ben", &format!("/trueup withdraw {shown}"));
    watched.turns().await;
    assert!(watched.world.state().granted.is_none());
    watched.wait(SLOW.as_secs()).await;
    watched.world.settle().await;
    assert!(has(&watched, "disk/one") && !has(&watched, "disk/two"));
}

/// Whether a pull request that waits for an approval has one.
fn approved(watched: &Watched) -> bool {
    watched.world.state().pulls.open[&7].approved.is_some()
}

/// A pull request that waits, and the digest of its plan.
async fn waiting() -> (Watched, trueup::model::Digest) {
    let mut watched = Watched::begin("", ben()).await;
    watched.world.remote.write(LAB, &lab("mode: manual"));
    watched.world.remote.commit("by hand");
    watched.world.settle().await;
    let more =
        "---\napiVersion: trueup/v1\nkind: Disk\nmetadata: { name: one }\nspec: { size: 1GiB }\n";
    watched.forge.offer(7, LAB, &format!("{}{more}", lab("mode: manual")));
    watched.turns().await;
    watched.wait(5).await;
    let plan = watched.world.state().pulls.open[&7].shown.as_ref().unwrap().plan;
    (watched, plan)
}

#[tokio::test(start_paused = true)]
async fn a_label_that_stays_on_is_no_new_word() {
    let (mut watched, plan) = waiting().await;
    watched.forge.label(7, "go", true);
    watched.turns().await;
    assert!(approved(&watched));
    watched.wait(5).await;
    watched.forge.comment(7, "ben", &format!("/trueup withdraw {plan}"));
    for _ in 0..3 {
        watched.turns().await;
        assert!(!approved(&watched), "the label is still on, and was taken back");
        watched.wait(5).await;
    }
    watched.forge.label(7, "go", false);
    watched.wait(5).await;
    watched.forge.label(7, "go", true);
    watched.turns().await;
    assert!(approved(&watched), "it was put on anew");
}

#[tokio::test(start_paused = true)]
async fn of_two_words_heard_at_once_the_last_one_counts() {
    for (words, counts) in [(["approve", "withdraw"], false), (["withdraw", "approve"], true)] {
        let (mut watched, plan) = waiting().await;
        for word in words {
            watched.forge.comment(7, "ben", &format!("/trueup {word} {plan}"));
            watched.wait(1).await;
        }
        watched.turns().await;
        assert_eq!(approved(&watched), counts, "{words:?}");
        // Nor does reading everything again after a start change it.
        watched.follower.memory = Default::default();
        watched.turns().await;
        assert_eq!(approved(&watched), counts, "{words:?}, read again");
    }
}

#[tokio::test(start_paused = true)]
async fn an_approval_that_is_spent_cannot_be_taken_back() {
    let (mut watched, _) = under_way().await;
    watched.wait(SLOW.as_secs()).await;
    watched.world.settle().await;
    assert!(has(&watched, "disk/one") && has(&watched, "disk/two"));
    assert!(watched.world.state().granted.is_none(), "it is over");
    let before = watched.world.log.events().len();
    watched.forge.label(7, "go", false);
    watched.turns().await;
    let events = watched.world.log.events();
    let late = events[before..]
        .iter()
        .any(|event| matches!(event.entry.event, Event::PullApprovalWithdrawn(_)));
    assert!(!late);
}

/// A label and a comment that takes back, both put down between two polls.
async fn at_once(label_first: bool, apart: u64) -> Watched {
    let (mut watched, plan) = waiting().await;
    let word = format!("/trueup withdraw {plan}");
    if label_first {
        watched.forge.label(7, "go", true);
        watched.wait(apart).await;
        watched.forge.comment(7, "ben", &word);
    } else {
        watched.forge.comment(7, "ben", &word);
        watched.wait(apart).await;
        watched.forge.label(7, "go", true);
    }
    watched.turns().await;
    watched
}

#[tokio::test(start_paused = true)]
async fn a_label_and_a_comment_heard_at_once_count_by_their_times() {
    for (label_first, apart, counts) in
        [(true, 3, false), (true, 0, false), (false, 0, false), (false, 3, true)]
    {
        let mut watched = at_once(label_first, apart).await;
        let what = format!("label first: {label_first}, {apart} s apart");
        assert_eq!(approved(&watched), counts, "{what}");
        // Nor is it otherwise when everything is read again, or the labels are looked at late.
        for _ in 0..2 {
            watched.wait(60).await;
            watched.follower.memory = Default::default();
            watched.turns().await;
            assert_eq!(approved(&watched), counts, "{what}, read again");
        }
        watched.world.check_invariants();
        if !counts {
            watched.forge.label(7, "go", false);
            watched.wait(5).await;
            watched.forge.label(7, "go", true);
            watched.turns().await;
            assert!(approved(&watched), "{what}: put on anew, it is a new word");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_merge_in_the_same_moment_does_not_let_the_label_win() {
    let (mut watched, plan) = waiting().await;
    watched.forge.label(7, "go", true);
    watched.wait(3).await;
    watched.forge.comment(7, "ben", &format!("/trueup withdraw {plan}"));
    watched.wait(3).await;
    watched.forge.merge(7);
    watched.turns().await;
    let report = watched.world.settle().await;
    assert!(!report.held.is_empty() && !has(&watched, "disk/one"), "{:?}", report.held);
    let events = watched.world.log.events();
    assert!(!events.iter().any(|event| matches!(event.entry.event, Event::PullApproved(_))));
    watched.world.check_invariants();
}

/// The logins of all whose approval of the pull request stands.
fn approvers(watched: &Watched) -> Vec<String> {
    let state = watched.world.state();
    let approved = state.pulls.open[&7].approved.as_ref();
    approved.map_or_else(Vec::new, |it| it.ways().map(|(via, _)| via.login.clone()).collect())
}

fn several() -> Option<trueup::config::ApprovalSettings> {
    let settings = serde_json::json!({
        "by": ["ben", "carol", "dora"], "label": "go", "review": true,
    });
    serde_json::from_value(settings).unwrap()
}

/// As [`waiting`]; ben approved by a label, carol by a comment and dora by a review.
async fn approved_by_three() -> (Watched, trueup::model::Digest) {
    let (mut watched, plan) = waiting().await;
    watched.follower.approvals = several();
    watched.forge.label(7, "go", true);
    watched.turns().await;
    watched.wait(5).await;
    watched.forge.comment(7, "carol", &format!("/trueup approve {plan}"));
    watched.turns().await;
    watched.wait(5).await;
    watched.forge.review(7, "dora");
    watched.turns().await;
    let mut all = approvers(&watched);
    all.sort();
    assert_eq!(all, ["ben", "carol", "dora"]);
    watched.wait(5).await;
    (watched, plan)
}

#[tokio::test(start_paused = true)]
async fn what_one_takes_back_leaves_what_another_said() {
    let (mut watched, plan) = approved_by_three().await;
    watched.forge.label(7, "go", false);
    watched.turns().await;
    assert_eq!(approvers(&watched), ["carol", "dora"]);
    watched.wait(5).await;
    watched.forge.comment(7, "carol", &format!("/trueup withdraw {plan}"));
    watched.turns().await;
    assert_eq!(approvers(&watched), ["dora"]);
    // Read again, the same comment takes nothing more.
    watched.follower.memory = Default::default();
    watched.turns().await;
    assert_eq!(approvers(&watched), ["dora"]);
    // Carol has nothing of her own to take back any more: she stops it for all.
    watched.wait(5).await;
    watched.forge.comment(7, "carol", &format!("/trueup withdraw {plan}"));
    watched.turns().await;
    assert!(!approved(&watched));
    watched.wait(5).await;
    watched.turns().await;
    assert!(!approved(&watched), "the review is still there, and was taken back");
    watched.world.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn what_runs_goes_on_while_somebodys_approval_stands() {
    let (mut watched, plan) = approved_by_three().await;
    watched.world.host.trouble(&id("disk/one"), "create", Trouble::Slow(SLOW));
    watched.forge.merge(7);
    watched.turns().await;
    let report = watched.world.pass().await.unwrap();
    assert!(!report.under_way.is_empty(), "{:?}", report.held);
    let ways = |watched: &Watched| {
        watched.world.state().granted.map_or(0, |granted| granted.ways().count())
    };
    assert_eq!(ways(&watched), 3);
    watched.wait(5).await;
    watched.forge.label(7, "go", false);
    watched.turns().await;
    assert_eq!(ways(&watched), 2);
    let revoked = watched.world.state().revoked;
    assert_eq!(revoked, 0, "nothing is stopped");
    watched.forge.comment(7, "dora", &format!("/trueup withdraw {plan}"));
    watched.turns().await;
    assert_eq!(ways(&watched), 1);
    watched.wait(5).await;
    watched.forge.comment(7, "carol", &format!("/trueup withdraw {plan}"));
    watched.turns().await;
    assert_eq!(ways(&watched), 0);
    assert!(watched.world.state().revoked > 0);
    watched.world.check_invariants();
}
