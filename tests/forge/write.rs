//! What is written, and that writing again writes nothing.

use trueup::forge::ensure;
use trueup::port::forge::{CheckState, CommitState, Conclusion, ForgeFault, IssueChange};

use super::fake::{FakeGitHub, PullSpec, login};
use super::{Done, MARKER, Paced, check, client, commit, status};

#[tokio::test]
async fn a_status_is_written_when_it_says_something_else() {
    let fake = FakeGitHub::start();
    let forge = client(&fake.settings(login::TOKEN));
    let (paced, one) = (Paced::default(), commit('1'));
    let pace = paced.pace();
    let long = "ü".repeat(300);
    for wanted in [status(CommitState::Pending, "planning"), status(CommitState::Success, &long)] {
        let first = ensure::status(&*forge, &pace, &one, &wanted).await.unwrap();
        let again = ensure::status(&*forge, &pace, &one, &wanted).await.unwrap();
        assert_eq!((first, again), (Done::Written, Done::Already));
    }
    assert_eq!(paced.writes(), 2);
    let state = fake.state();
    let all = state.statuses_of(one.as_str());
    assert_eq!(all.len(), 2);
    assert_eq!(all[1].description.chars().count(), 140);
    assert_eq!(all[1].context, "trueup/host/lab");
}

#[tokio::test]
async fn two_hosts_do_not_overwrite_each_other() {
    let fake = FakeGitHub::start();
    let number = fake.state().open_pull(&PullSpec::default());
    let forge = client(&fake.settings(login::TOKEN));
    let pace = Paced::default().pace();
    for host in ["a", "b"] {
        let marker = format!("<!-- trueup:{host}/lab -->");
        let mut wanted = status(CommitState::Success, host);
        wanted.context = format!("trueup/{host}/lab");
        ensure::status(&*forge, &pace, &commit('1'), &wanted).await.unwrap();
        let body = format!("{marker}\nplan of {host}");
        ensure::comment(&*forge, &pace, number, &marker, &body).await.unwrap();
    }
    let seen = forge.find_status(&commit('1'), "trueup/a/lab").await.unwrap().unwrap();
    assert_eq!(seen.description, "a");
    assert_eq!(fake.state().comments_on(number).len(), 2);
}

#[tokio::test]
async fn one_comment_is_kept_and_only_ours_is_touched() {
    let fake = FakeGitHub::start();
    let number = {
        let mut state = fake.state();
        let number = state.open_pull(&PullSpec::default());
        state.comment(number, "mallory", &format!("{MARKER}\nI am the plan"));
        for n in 0..120 {
            state.comment(number, "ada", &format!("talk {n}"));
        }
        number
    };
    let forge = client(&fake.settings(login::TOKEN));
    let paced = Paced::default();
    let pace = paced.pace();
    let bodies = [format!("{MARKER}\nfirst"), format!("{MARKER}\nsecond\n")];
    for body in [&bodies[0], &bodies[0], &bodies[1], &bodies[1]] {
        ensure::comment(&*forge, &pace, number, MARKER, body).await.unwrap();
    }
    assert_eq!(paced.writes(), 2, "made once, changed once");
    let found = forge.find_comment(number, MARKER).await.unwrap().unwrap();
    {
        let state = fake.state();
        let all = state.comments_on(number);
        assert_eq!(all.len(), 122);
        assert_eq!(all[0].1, format!("{MARKER}\nI am the plan"));
        assert_eq!(all[121], ("trueup-bot", bodies[1].as_str()));
    }
    let patches = fake.lines().iter().filter(|line| line.starts_with("PATCH")).count();
    assert_eq!(patches, 1);
    forge.delete_comment(found.id).await.unwrap();
    forge.delete_comment(found.id).await.unwrap();
    assert!(forge.find_comment(number, MARKER).await.unwrap().is_none());
}

#[tokio::test]
async fn a_comment_at_the_limit_is_taken_and_a_longer_one_is_refused_for_good() {
    let fake = FakeGitHub::start();
    let number = fake.state().open_pull(&PullSpec::default());
    let forge = client(&fake.settings(login::TOKEN));
    let max = forge.capabilities().comment_bytes_max;
    forge.create_comment(number, &"x".repeat(max)).await.unwrap();
    let error = forge.create_comment(number, &"x".repeat(max + 1)).await.unwrap_err();
    assert_eq!(error.fault, ForgeFault::Invalid);
    assert!(!error.passes());
    assert!(error.to_string().contains("too long"), "{error}");
}

#[tokio::test]
async fn annotations_go_in_batches_the_worst_first_and_the_check_is_not_done_early() {
    let fake = FakeGitHub::start();
    let forge = client(&fake.app_settings());
    let paced = Paced::default();
    let pace = paced.pace();
    let wanted = check(120);
    let (seen, done) = ensure::check(&*forge, &pace, &commit('1'), &wanted).await.unwrap();
    assert_eq!((seen.annotations, done, paced.writes()), (120, Done::Written, 3));
    assert_eq!(seen.state, wanted.state);
    let sent: Vec<_> = fake
        .calls()
        .iter()
        .filter(|call| call.request.method != "GET" && call.path.contains("check-runs"))
        .map(super::fake::Exchange::sent)
        .collect();
    let sizes: Vec<_> =
        sent.iter().map(|body| body["output"]["annotations"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [50, 50, 20]);
    let states: Vec<_> = sent.iter().map(|body| body["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["in_progress", "in_progress", "completed"]);
    let levels: Vec<_> = fake.state().checks[0]
        .annotations
        .iter()
        .map(|one| one["annotation_level"].as_str().unwrap().to_owned())
        .collect();
    let firsts = ["failure", "warning", "notice"].map(|l| levels.iter().position(|x| x == l));
    assert_eq!(firsts, [Some(0), Some(40), Some(80)]);
    let (_, again) = ensure::check(&*forge, &pace, &commit('1'), &wanted).await.unwrap();
    assert_eq!((again, paced.writes()), (Done::Already, 3));
}

#[tokio::test]
async fn a_check_under_way_becomes_the_one_that_is_done() {
    let fake = FakeGitHub::start();
    let forge = client(&fake.app_settings());
    let pace = Paced::default().pace();
    let begun = super::CheckReport { state: CheckState::InProgress, ..check(0) };
    ensure::check(&*forge, &pace, &commit('1'), &begun).await.unwrap();
    let done = super::CheckReport { state: CheckState::Completed(Conclusion::Success), ..check(0) };
    ensure::check(&*forge, &pace, &commit('1'), &done).await.unwrap();
    let state = fake.state();
    assert_eq!(state.checks.len(), 1);
    assert_eq!(state.checks[0].conclusion.as_deref(), Some("success"));
}

#[tokio::test]
async fn a_token_may_write_no_checks_and_says_so_without_a_call() {
    let fake = FakeGitHub::start();
    let forge = client(&fake.settings(login::TOKEN));
    assert!(!forge.capabilities().checks);
    let error = forge.create_check(&commit('1'), &check(1)).await.unwrap_err();
    assert_eq!(error.fault, ForgeFault::Unsupported);
    assert!(error.to_string().contains("forge.app"), "{error}");
    assert!(fake.calls().is_empty());
}

#[tokio::test]
async fn there_is_one_issue_opened_changed_and_closed() {
    let fake = FakeGitHub::start();
    {
        let mut state = fake.state();
        state.add_thing("mallory", "drift", MARKER);
        state.open_pull(&PullSpec { author: "trueup-bot", ..PullSpec::default() });
    }
    let forge = client(&fake.settings(login::TOKEN));
    let paced = Paced::default();
    let pace = paced.pace();
    let body = format!("{MARKER}\nthe web server is stopped");
    let wanted = Some(("Drift in lab", body.as_str()));
    let none = ensure::issue(&*forge, &pace, MARKER, None).await.unwrap();
    assert_eq!((none.0, none.1), (None, Done::Already));
    for _ in 0..2 {
        ensure::issue(&*forge, &pace, MARKER, wanted).await.unwrap();
    }
    let (closed, _) = ensure::issue(&*forge, &pace, MARKER, None).await.unwrap();
    assert!(!closed.unwrap().open);
    let (open, _) = ensure::issue(&*forge, &pace, MARKER, wanted).await.unwrap();
    let open = open.unwrap();
    assert!(open.open);
    assert_eq!((open.number, paced.writes()), (3, 3), "opened, closed, opened again");
    let change = IssueChange { title: Some("Drift".into()), ..IssueChange::default() };
    assert_eq!(forge.update_issue(3, &change).await.unwrap().title, "Drift");
}
