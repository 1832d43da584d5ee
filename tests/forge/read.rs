//! What is read: pages, conditional requests, and what is made of strangers' data.

use trueup::port::forge::{Permission, PullState, ReviewVerdict};

use super::fake::{FakeGitHub, PullSpec, login};
use super::{client, commit};

fn many(fake: &FakeGitHub, count: usize) {
    let mut state = fake.state();
    for _ in 0..count {
        state.open_pull(&PullSpec::default());
    }
}

#[tokio::test]
async fn a_hundred_pull_requests_with_nothing_new_cost_two_free_requests() {
    let fake = FakeGitHub::start();
    many(&fake, 100);
    let forge = client(&fake.settings(login::TOKEN));
    let first = forge.open_pulls().await.unwrap();
    assert_eq!((first.items.len(), first.unchanged), (100, false));
    fake.forget_calls();
    let before = fake.state().remaining;
    let again = forge.open_pulls().await.unwrap();
    assert!(again.unchanged);
    assert_eq!(again.items, first.items);
    let calls = fake.calls();
    println!("100 open pull requests, nothing new: {} requests a poll", calls.len());
    assert!(calls.len() <= 2, "{:?}", fake.lines());
    assert!(calls.iter().all(|call| call.status == 304));
    assert_eq!(fake.state().remaining, before, "an unchanged reply costs nothing");
    assert_eq!(forge.budget().unwrap().limit, 5000);
    // The page that was full and unchanged must not hide what comes after it.
    many(&fake, 1);
    assert_eq!(forge.open_pulls().await.unwrap().items.len(), 101);
}

#[tokio::test]
async fn every_page_carries_the_login_of_an_app() {
    let fake = FakeGitHub::start();
    many(&fake, 301);
    let forge = client(&fake.app_settings());
    let pulls = forge.open_pulls().await.unwrap();
    assert_eq!(pulls.items.len(), 301);
    assert!(!pulls.cut && pulls.date.is_some());
    let lists: Vec<_> =
        fake.calls().into_iter().filter(|call| call.path.ends_with("/pulls")).collect();
    assert_eq!(lists.len(), 4);
    for call in &lists {
        let login = call.request.header("authorization").unwrap();
        assert!(login.starts_with(&format!("Bearer {}", login::MINTED)), "{}", call.path);
    }
    let minted = fake.lines().iter().filter(|line| line.contains("access_tokens")).count();
    assert_eq!(minted, 1, "one token for all of them");
}

#[tokio::test]
async fn a_pull_request_is_what_it_is() {
    let fake = FakeGitHub::start();
    let (own, fork) = {
        let mut state = fake.state();
        let own = state.open_pull(&PullSpec::default());
        let fork =
            state.open_pull(&PullSpec { fork: true, author: "mallory", ..PullSpec::default() });
        state.label(own, "trueup:plan", "ada", true);
        state.merge(fork, &"9".repeat(40));
        (own, fork)
    };
    let forge = client(&fake.settings(login::TOKEN));
    let pulls = forge.open_pulls().await.unwrap();
    assert_eq!(pulls.items.len(), 1);
    let pull = &pulls.items[0];
    assert_eq!((pull.number, pull.fork, pull.state), (own, false, PullState::Open));
    assert_eq!((pull.head_sha.clone(), pull.base_ref.as_str()), (commit('1'), "main"));
    assert_eq!(pull.labels, ["trueup:plan"]);
    assert_eq!(pull.merge_commit, None, "the trial merge is not ours");
    let merged = forge.pull(fork).await.unwrap().unwrap();
    assert_eq!((merged.state, merged.fork), (PullState::Merged, true));
    assert_eq!(merged.merge_commit, Some(commit('9')));
    assert_eq!(merged.author.unwrap().login, "mallory");
    assert_eq!(forge.pull(77).await.unwrap(), None);
}

#[tokio::test]
async fn who_said_and_may_what() {
    let fake = FakeGitHub::start();
    let number = {
        let mut state = fake.state();
        let number = state.open_pull(&PullSpec::default());
        state.review(number, "grace", "APPROVED", &"1".repeat(40));
        state.review(number, "eve", "PENDING", &"1".repeat(40));
        state.review(number, "eve", "DISMISSED", &"2".repeat(40));
        state.label(number, "trueup:approve", "grace", true);
        state.label(number, "trueup:approve", "eve", false);
        state.set_role("grace", "maintain");
        state.set_role("ada", "triage");
        state.join("team/operators", "grace");
        number
    };
    let forge = client(&fake.settings(login::TOKEN));
    let reviews = forge.reviews(number).await.unwrap();
    let short: Vec<_> = reviews
        .iter()
        .map(|review| (review.verdict, review.commit.clone(), review.author.clone().unwrap().login))
        .collect();
    assert_eq!(
        short,
        [
            (ReviewVerdict::Approved, Some(commit('1')), "grace".to_owned()),
            (ReviewVerdict::Dismissed, Some(commit('2')), "eve".to_owned()),
        ]
    );
    let labels = forge.label_events(number).await.unwrap();
    let short: Vec<_> = labels.iter().map(|e| (e.added, e.actor.clone().unwrap().login)).collect();
    assert_eq!(short, [(true, "grace".to_owned()), (false, "eve".to_owned())]);
    assert_eq!(forge.permission("grace").await.unwrap(), Permission::Maintain);
    assert_eq!(forge.permission("ada").await.unwrap(), Permission::Triage);
    assert_eq!(forge.permission("../../user").await.unwrap(), Permission::None);
    assert!(forge.in_team("team/operators", "grace").await.unwrap());
    assert!(!forge.in_team("team/operators", "ada").await.unwrap());
    assert!(!forge.in_team("team/others", "grace").await.unwrap());
    assert!(forge.in_team("operators", "grace").await.is_err());
}

#[tokio::test]
async fn commands_in_all_conversations_are_one_request() {
    let fake = FakeGitHub::start();
    let since = {
        let mut state = fake.state();
        let first = state.open_pull(&PullSpec::default());
        let second = state.open_pull(&PullSpec::default());
        state.comment(first, "ada", "an old one");
        state.offset = jiff::Span::new().seconds(60);
        let since = state.clock();
        state.comment(second, "grace", "trueup approve 12ab");
        since
    };
    let forge = client(&fake.settings(login::TOKEN));
    let comments = forge.comments_since(since).await.unwrap();
    assert_eq!(comments.len(), 1);
    assert_eq!((comments[0].number, comments[0].body.as_str()), (2, "trueup approve 12ab"));
    assert_eq!(fake.calls().len(), 1);
}

#[tokio::test]
async fn the_viewer_is_the_author_of_our_comments_under_both_logins() {
    let fake = FakeGitHub::start();
    let number = fake.state().open_pull(&PullSpec::default());
    for settings in [fake.settings(login::TOKEN), fake.app_settings()] {
        let forge = client(&settings);
        let viewer = forge.viewer().await.unwrap();
        let comment = forge.create_comment(number, "hello").await.unwrap();
        assert_eq!(comment.author.unwrap(), viewer);
        assert_eq!(comment.number, number);
        fake.forget_calls();
        assert_eq!(forge.viewer().await.unwrap(), viewer);
        assert!(fake.calls().is_empty(), "asked once");
    }
}
