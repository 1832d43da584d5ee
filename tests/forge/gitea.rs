//! The same promises with Gitea's words.

use trueup::forge::ensure;
use trueup::port::forge::{CommitState, ForgeFault, Permission, PullState, ReviewVerdict};

use super::fake::gitea::FakeGitea;
use super::fake::{Action, Delivery, Fault, PullSpec};
use super::{Done, MARKER, Paced, check, client, commit, status, until_done};

#[tokio::test]
async fn pull_requests_come_in_pages_and_forks_are_known() {
    let fake = FakeGitea::start();
    fake.with(|state| {
        for n in 0..120 {
            state.open_pull(&PullSpec { fork: n % 2 == 1, ..PullSpec::default() });
        }
        state.merge(120, &"9".repeat(40));
        state.label(1, "trueup:plan", "ada", true);
    });
    let forge = client(&fake.settings());
    let pulls = forge.open_pulls().await.unwrap();
    assert_eq!(pulls.items.len(), 119);
    assert_eq!((pulls.items[0].fork, pulls.items[1].fork), (false, true));
    assert_eq!(pulls.items[0].labels, ["trueup:plan"]);
    assert_eq!(fake.lines().len(), 3, "{:?}", fake.lines());
    let merged = forge.pull(120).await.unwrap().unwrap();
    assert_eq!((merged.state, merged.merge_commit), (PullState::Merged, Some(commit('9'))));
    assert_eq!(forge.pull(500).await.unwrap(), None);
}

#[tokio::test]
async fn each_post_arrives_once() {
    let fake = FakeGitea::start();
    let number = fake.with(|state| {
        let number = state.open_pull(&PullSpec::default());
        for n in 0..70 {
            state.comment(number, "mallory", &format!("{MARKER} {n}"));
        }
        number
    });
    let forge = client(&fake.settings());
    let paced = Paced::default();
    let (pace, one) = (paced.pace(), commit('1'));
    for action in [Action::Deliver(Delivery::Reset), Action::Drop] {
        fake.inject(Fault { method: "POST", path: "", times: 1, action });
    }
    let body = format!("{MARKER}\nplan");
    until_done(|| ensure::comment(&*forge, &pace, number, MARKER, &body)).await;
    let wanted = status(CommitState::Success, &"long ".repeat(60));
    until_done(|| ensure::status(&*forge, &pace, &one, &wanted)).await;
    assert_eq!(ensure::status(&*forge, &pace, &one, &wanted).await.unwrap(), Done::Already);
    let changed = format!("{MARKER}\nanother plan");
    ensure::comment(&*forge, &pace, number, MARKER, &changed).await.unwrap();
    ensure::issue(&*forge, &pace, MARKER, Some(("Drift", &body))).await.unwrap();
    let (closed, _) = ensure::issue(&*forge, &pace, MARKER, None).await.unwrap();
    assert!(!closed.unwrap().open);
    fake.with(|state| {
        let ours: Vec<_> =
            state.comments_on(number).into_iter().filter(|(who, _)| *who == "trueup-bot").collect();
        assert_eq!(ours.len(), 1);
        assert_eq!(ours[0].1, changed);
        assert_eq!(state.statuses_of(one.as_str()).len(), 1);
    });
    let seen = forge.find_comment(number, MARKER).await.unwrap().unwrap();
    assert_eq!(seen.number, number);
    forge.delete_comment(seen.id).await.unwrap();
    forge.delete_comment(seen.id).await.unwrap();
}

#[tokio::test]
async fn who_said_and_may_what() {
    let fake = FakeGitea::start();
    let number = fake.with(|state| {
        let number = state.open_pull(&PullSpec::default());
        state.review(number, "grace", "REQUEST_CHANGES", &"1".repeat(40));
        state.review(number, "grace", "REQUEST_REVIEW", &"1".repeat(40));
        state.label(number, "a", "ada", true);
        state.label(number, "a", "ada", false);
        state.set_role("grace", "owner");
        state.set_role("ada", "read");
        state.join("team/operators", "grace");
        number
    });
    let forge = client(&fake.settings());
    let reviews = forge.reviews(number).await.unwrap();
    assert_eq!(reviews.len(), 1);
    assert_eq!(reviews[0].verdict, ReviewVerdict::ChangesRequested);
    let labels: Vec<_> =
        forge.label_events(number).await.unwrap().iter().map(|event| event.added).collect();
    assert_eq!(labels, [true, false]);
    assert_eq!(forge.permission("grace").await.unwrap(), Permission::Admin);
    assert_eq!(forge.permission("ada").await.unwrap(), Permission::Read);
    assert_eq!(forge.permission("eve").await.unwrap(), Permission::None);
    assert!(forge.in_team("team/operators", "grace").await.unwrap());
    assert!(!forge.in_team("team/operators", "ada").await.unwrap());
    assert!(!forge.in_team("team/none", "ada").await.unwrap());
    let error = forge.create_check(&commit('1'), &check(1)).await.unwrap_err();
    assert_eq!(error.fault, ForgeFault::Unsupported);
}
