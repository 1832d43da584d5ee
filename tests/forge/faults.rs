//! What a network and a busy forge do, and that no write is made twice for it.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use trueup::forge::ensure;
use trueup::port::forge::{CommitState, ForgeFault};

use super::fake::{Action, Delivery, FakeGitHub, Fault, PullSpec, from_json, login};
use super::{MARKER, Paced, check, client, commit, status, until_done};

fn fault(method: &'static str, path: &'static str, action: Action) -> Fault {
    Fault { method, path, times: 1, action }
}

fn posts(fake: &FakeGitHub) -> usize {
    let post = |call: &super::fake::Exchange| {
        call.request.method == "POST" && !call.path.ends_with("access_tokens")
    };
    fake.calls().iter().filter(|call| post(call)).count()
}

#[tokio::test]
async fn a_post_is_not_repeated_whatever_becomes_of_its_reply() {
    for action in [
        Action::Drop,
        Action::Deliver(Delivery::Reset),
        Action::Deliver(Delivery::Cut(10)),
        Action::Deliver(Delivery::CutUnseen(10)),
        Action::DoneBut(502),
        Action::Refuse(503, vec![], "busy"),
    ] {
        let fake = FakeGitHub::start();
        let number = fake.state().open_pull(&PullSpec::default());
        let forge = client(&fake.settings(login::TOKEN));
        fake.inject(fault("POST", "/comments", action.clone()));
        let error = forge.create_comment(number, "x").await.unwrap_err();
        assert_eq!(error.fault, ForgeFault::Maybe, "{action:?}: {error}");
        assert_eq!(posts(&fake), 1, "{action:?}");
    }
}

#[tokio::test]
async fn looking_first_makes_each_post_arrive_once() {
    for action in [Action::Drop, Action::Deliver(Delivery::Reset), Action::DoneBut(502)] {
        let fake = FakeGitHub::start();
        let number = fake.state().open_pull(&PullSpec::default());
        let forge = client(&fake.app_settings());
        let (pace, one) = (Paced::default().pace(), commit('1'));
        for path in ["/comments", "/statuses/", "/check-runs"] {
            fake.inject(fault("POST", path, action.clone()));
        }
        let body = format!("{MARKER}\nplan");
        let wanted = status(CommitState::Success, "no changes");
        let (_, tries) =
            until_done(|| ensure::comment(&*forge, &pace, number, MARKER, &body)).await;
        assert_eq!(tries, 2, "{action:?}");
        until_done(|| ensure::status(&*forge, &pace, &one, &wanted)).await;
        let report = check(70);
        until_done(|| ensure::check(&*forge, &pace, &one, &report)).await;
        fake.inject(fault("POST", "/issues", action.clone()));
        until_done(|| ensure::issue(&*forge, &pace, MARKER, Some(("Drift", &body)))).await;
        let state = fake.state();
        assert_eq!(state.comments_on(number).len(), 1, "{action:?}");
        assert_eq!(state.statuses_of(one.as_str()).len(), 1, "{action:?}");
        assert_eq!(state.things.len(), 2, "{action:?}");
        assert_eq!(state.checks.len(), 1, "{action:?}");
        assert_eq!(state.checks[0].annotations.len(), 70, "{action:?}");
    }
}

#[tokio::test]
async fn a_batch_of_annotations_whose_reply_was_lost_is_not_added_again() {
    let fake = FakeGitHub::start();
    let forge = client(&fake.app_settings());
    let pace = Paced::default().pace();
    fake.inject(fault("PATCH", "/check-runs", Action::Deliver(Delivery::Reset)));
    let report = check(130);
    let one = commit('1');
    let error = ensure::check(&*forge, &pace, &one, &report).await.unwrap_err();
    assert_eq!(error.fault, ForgeFault::Maybe);
    let (seen, _) = ensure::check(&*forge, &pace, &one, &report).await.unwrap();
    assert_eq!(seen.annotations, 130);
    assert_eq!(fake.state().checks[0].annotations.len(), 130);
}

#[tokio::test]
async fn a_truncated_reply_is_an_error_once_and_never_remembered() {
    for delivery in [Delivery::Cut(40), Delivery::CutUnseen(40)] {
        let fake = FakeGitHub::start();
        fake.state().open_pull(&PullSpec::default());
        let forge = client(&fake.settings(login::TOKEN));
        fake.inject(fault("GET", "/pulls", Action::Deliver(delivery)));
        let error = forge.open_pulls().await.unwrap_err();
        assert_eq!(error.fault, ForgeFault::Unavailable, "{delivery:?}: {error}");
        let pulls = forge.open_pulls().await.unwrap();
        assert_eq!((pulls.items.len(), pulls.unchanged), (1, false), "{delivery:?}");
        let conditional = fake.calls()[1].request.header("if-none-match").is_some();
        assert!(!conditional, "what was cut off has no entity tag: {delivery:?}");
        assert!(forge.open_pulls().await.unwrap().unchanged);
    }
}

#[tokio::test]
async fn a_limit_says_until_when() {
    let fake = FakeGitHub::start();
    let forge = client(&fake.settings(login::TOKEN));
    let secondary = "You have exceeded a secondary rate limit.";
    for (action, least, most) in [
        (Action::Refuse(429, vec![("retry-after", "37".into())], "slow down"), 30, 40),
        (Action::Refuse(403, vec![("retry-after", "37".into())], "slow down"), 30, 40),
        (Action::Refuse(403, vec![], secondary), 50, 70),
    ] {
        fake.inject(fault("POST", "/statuses", action.clone()));
        fake.forget_calls();
        let begun = Instant::now();
        let wanted = status(CommitState::Pending, "x");
        let error = forge.set_status(&commit('1'), &wanted).await.unwrap_err();
        let ForgeFault::RateLimited { until } = error.fault else { panic!("{action:?}: {error}") };
        let left = until.duration_since(Timestamp::now()).as_secs();
        assert!((least..=most).contains(&left), "{action:?}: {left} s");
        assert_eq!(fake.calls().len(), 1, "not tried again");
        assert!(begun.elapsed() < Duration::from_secs(5), "and not waited for");
    }
    fake.state().remaining = 0;
    let error = forge.open_pulls().await.unwrap_err();
    let ForgeFault::RateLimited { until } = error.fault else { panic!("{error}") };
    assert!(until.duration_since(Timestamp::now()).as_secs() > 3000);
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let fake = FakeGitHub::start();
    fake.state().add_token("github_pat_CanaryNarrow", "ada", &["pull_requests=read"]);
    let forge = client(&fake.settings("github_pat_CanaryNarrow"));
    forge.open_pulls().await.unwrap();
    let wanted = status(CommitState::Pending, "x");
    let error = forge.set_status(&commit('1'), &wanted).await.unwrap_err();
    assert_eq!(error.fault, ForgeFault::Forbidden { permission: "statuses=write".into() });
    assert!(error.to_string().contains("statuses=write"), "{error}");
    assert!(!error.passes());
    let wrong = client(&fake.settings("github_pat_CanaryUnknown"));
    let error = wrong.open_pulls().await.unwrap_err();
    assert_eq!(error.fault, ForgeFault::Unauthorised);
    assert!(error.to_string().contains("forge.token"), "{error}");
}

#[tokio::test]
async fn a_forge_that_is_down_was_certainly_not_reached() {
    let fake = FakeGitHub::start();
    let number = fake.state().open_pull(&PullSpec::default());
    let forge = client(&fake.settings(login::TOKEN));
    forge.open_pulls().await.unwrap();
    fake.down();
    let error = forge.create_comment(number, "x").await.unwrap_err();
    assert!(error.passes(), "{error}");
    let error = forge.create_comment(number, "x").await.unwrap_err();
    assert_eq!(error.fault, ForgeFault::Unavailable, "nobody listens: {error}");
    fake.up();
    forge.create_comment(number, "x").await.unwrap();
    assert_eq!(fake.state().comments_on(number).len(), 1);
}

#[tokio::test]
async fn a_forge_that_hangs_or_drips_is_given_up() {
    let fake = FakeGitHub::start();
    let mut settings = serde_json::to_value(fake.settings(login::TOKEN)).unwrap();
    settings["timeout"] = "1s".into();
    let forge = client(&from_json(settings));
    for delivery in [Delivery::Hang, Delivery::Slow(Duration::from_millis(200))] {
        fake.inject(fault("GET", "/pulls", Action::Deliver(delivery)));
        let begun = Instant::now();
        let error = forge.open_pulls().await.unwrap_err();
        assert_eq!(error.fault, ForgeFault::Unavailable, "{delivery:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn an_apps_token_that_was_withdrawn_is_exchanged_once() {
    let fake = FakeGitHub::start();
    let number = fake.state().open_pull(&PullSpec::default());
    let forge = client(&fake.app_settings());
    forge.create_comment(number, "one").await.unwrap();
    fake.state().tokens.retain(|token, _| !token.starts_with(login::MINTED));
    fake.forget_calls();
    forge.create_comment(number, "two").await.unwrap();
    let statuses: Vec<_> = fake.calls().iter().map(|call| call.status).collect();
    assert_eq!(statuses, [401, 201, 201], "refused, a new token, done");
    assert_eq!(fake.state().comments_on(number).len(), 2);
}

#[tokio::test]
async fn a_full_commit_is_refused_for_good() {
    let fake = FakeGitHub::start();
    {
        let mut state = fake.state();
        let full = super::fake::state::Status {
            sha: "1".repeat(40),
            context: "trueup/host/lab".into(),
            state: "pending".into(),
            description: String::new(),
            url: None,
        };
        state.statuses = vec![full; super::fake::state::STATUSES_MAX];
    }
    let forge = client(&fake.settings(login::TOKEN));
    let wanted = status(CommitState::Success, "x");
    let error = forge.set_status(&commit('1'), &wanted).await.unwrap_err();
    assert_eq!(error.fault, ForgeFault::Full, "which is not tried again");
    assert!(!error.passes());
    assert!(error.to_string().contains("maximum number"), "{error}");
    assert!(error.to_string().contains("push another commit"), "{error}");
}

#[tokio::test]
async fn the_judge_sees_what_the_forge_would_swallow() {
    use super::fake::contract::operation;
    let create = operation("POST", "/repos/team/machines/check-runs").unwrap();
    let wrong = create.judge_request(&[], br#"{"name":"x","head_sha":"y","detail_url":"z"}"#);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    let list = operation("GET", "/repos/team/machines/pulls").unwrap();
    assert!(!list.judge_request(&[("state".into(), "opened".into())], b"").is_empty());
    assert!(!list.judge_request(&[("perpage".into(), "1".into())], b"").is_empty());
    assert!(!list.judge_reply(200, br#"[{"number":1}]"#).is_empty());
    assert!(operation("POST", "/repos/team/machines/issues/comments/1").is_none());
}
