//! A forge that fails in every way while it is spoken to, and a daemon that is killed in the middle of
//! it: each post arrives, and arrives once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use trueup::event::body::PostTarget;
use trueup::source::CommitId;

use super::begin::{documents, follow_as};
use super::bench::{Bench, PATIENCE};
use super::events::until;
use super::pulls::{networks, offer, settled};
use super::spec::environment;
use crate::forge::fake::state::PullSpec;
use crate::forge::fake::{Action, Delivery, FakeGitHub, Fault};

#[test]
fn a_storm_and_a_crash_neither_lose_nor_repeat_a_post() {
    let name = "e2e::storm::a_storm_and_a_crash_neither_lose_nor_repeat_a_post";
    super::beside_libvirt(name, || {
        let forge = FakeGitHub::start();
        let mut bench = Bench::new();
        let lab = environment(&bench.dir, "");
        let (base, _) = bench.push(&documents(&lab, &[("lab", 91)]));
        follow_as(&bench, &serde_json::to_value(forge.app_settings()).unwrap(), &json!({}));
        bench.start();
        settled(&forge, &base, "success");

        let head = offer(&bench, 1, &documents(&lab, &[("lab", 91), ("side", 92)]));
        storm(&forge);
        let spec =
            PullSpec { head: &head.to_string(), base: &base.to_string(), ..PullSpec::default() };
        let number = forge.state().open_pull(&spec);
        settled(&forge, &head, "success");
        noted(&bench, number, &head);
        once(&forge, number, &head);
        // A post that was done but refused is found by the look-up, so that the next fault on its path
        // may have nothing left to hit: of each path, the first ones came.
        let left = forge.faults_left();
        for (path, injected) in [("/statuses/", 3), ("/comments", 3), ("/check-runs", 2)] {
            let of = left.iter().filter(|it| it.contains(path)).count();
            assert!(of < injected, "nothing of the storm came to {path}: {left:?}");
        }
        assert!(!left.iter().any(|it| it.contains("/pulls")), "{left:?}");

        // Killed once the forge has the comment, and before that is taken note of.
        let head = offer(&bench, 2, &documents(&lab, &[("lab", 91), ("third", 93)]));
        let slow = Action::Deliver(Delivery::Slow(Duration::from_millis(50)));
        forge.inject(Fault { method: "POST", path: "/comments", times: 1, action: slow });
        let spec =
            PullSpec { head: &head.to_string(), base: &base.to_string(), ..PullSpec::default() };
        let number = forge.state().open_pull(&spec);
        until("the comment", PATIENCE, || {
            (!forge.state().comments_on(number).is_empty()).then_some(())
        });
        bench.kill();
        let told = |bench: &Bench| {
            bench.state().pulls.post(&PostTarget::Comment(number)).map(|post| post.content)
        };
        assert_eq!(told(&bench), None, "it was killed too late");
        bench.start();
        noted(&bench, number, &head);
        once(&forge, number, &head);
        bench.assert_log_is_whole();
        bench.stop();
    });
}

#[test]
fn a_forge_that_is_away_for_all_of_it_keeps_nothing_from_converging_and_hears_each_word_once() {
    let name = "e2e::storm::a_forge_that_is_away_for_all_of_it_keeps_nothing_from_converging_and_\
                hears_each_word_once";
    super::beside_libvirt(name, || {
        let forge = FakeGitHub::start();
        let mut bench = Bench::new();
        let lab = environment(&bench.dir, "");
        let (base, _) = bench.push(&documents(&lab, &[("lab", 91)]));
        follow_as(&bench, &serde_json::to_value(forge.app_settings()).unwrap(), &json!({}));
        bench.start();
        settled(&forge, &base, "success");
        let before = bench.seq();
        forge.down();
        bench.event(before, "forge.unavailable", "");

        // Opened, merged and converged, while nobody there answers.
        let pull = |head: &CommitId, base: &CommitId| {
            let (head, base) = (head.to_string(), base.to_string());
            let spec = PullSpec { head: &head, base: &base, ..PullSpec::default() };
            forge.state().open_pull(&spec)
        };
        let head = offer(&bench, 1, &documents(&lab, &[("lab", 91), ("side", 92)]));
        let number = pull(&head, &base);
        bench.repo.git(["merge", "-q", "--no-ff", "-m", "Merge #1", "offer"]);
        let merged = bench.repo.head();
        bench.repo.push();
        forge.state().merge(number, &merged.to_string());
        bench.converged(&merged);
        assert!(networks().contains(&"side".to_owned()));
        // So is another commit, and one more is opened and waits.
        let (last, _) = bench.push(&documents(&lab, &[("lab", 91), ("side", 92), ("b", 93)]));
        bench.converged(&last);
        let third = [("lab", 91), ("side", 92), ("b", 93), ("c", 94)];
        let open = offer(&bench, 2, &documents(&lab, &third));
        let waits = pull(&open, &last);
        assert_eq!(forge.state().statuses_of(&merged.to_string()).len(), 0);
        forge.up();

        settled(&forge, &open, "success");
        noted(&bench, waits, &open);
        for commit in [&merged, &last] {
            assert!(settled(&forge, commit, "success").starts_with("applied: "));
        }
        // Polls later nothing was said again.
        let polls = |forge: &FakeGitHub| {
            let list = |line: &String| line.contains("/pulls ");
            forge.lines().into_iter().filter(list).count()
        };
        let seen = polls(&forge);
        until("some more polls", PATIENCE, || (polls(&forge) > seen + 3).then_some(()));
        once(&forge, waits, &open);
        for commit in [&base, &merged, &last] {
            let state = forge.state();
            let all = state.statuses_of(&commit.to_string());
            let green = all.iter().filter(|status| status.state == "success").count();
            assert_eq!(green, 1, "{all:?}");
        }
        // It was over before anybody could say it.
        assert!(forge.state().comments_on(number).is_empty());
        bench.assert_log_is_whole();
        bench.stop();
    });
}

/// What will go wrong, one after the other for each kind of post.
fn storm(forge: &FakeGitHub) {
    let posts = ["/statuses/", "/comments", "/check-runs"];
    for path in posts {
        for action in [Action::DoneBut(502), Action::Deliver(Delivery::Reset)] {
            forge.inject(Fault { method: "POST", path, times: 1, action });
        }
    }
    let limit = Action::Refuse(429, vec![("retry-after", "2".into())], "slow down");
    for (path, action) in [
        ("/statuses/", limit),
        ("/comments", Action::Refuse(503, vec![], "busy")),
        ("/pulls", Action::Deliver(Delivery::CutUnseen(10))),
        ("/pulls", Action::Drop),
    ] {
        let method = if path == "/pulls" { "GET" } else { "POST" };
        forge.inject(Fault { method, path, times: 1, action });
    }
}

/// Waits until everything about a pull request was said, as far as the daemon knows.
fn noted(bench: &Bench, number: u64, head: &CommitId) {
    let head: trueup::model::CommitId = head.to_string().parse().unwrap();
    let (status, check) = (PostTarget::Status(head.clone()), PostTarget::Check(head.clone()));
    until("everything to be said", PATIENCE, || {
        let state = bench.state();
        let report = state.pulls.open.get(&number)?.planned.as_ref()?.head == head;
        let of = |target: &PostTarget| state.pulls.post(target).map(|post| post.content);
        let said = of(&status).is_some() && of(&status) == of(&check);
        (report && said && of(&PostTarget::Comment(number)) == of(&check)).then_some(())
    });
}

fn once(forge: &FakeGitHub, number: u64, head: &CommitId) {
    let state = forge.state();
    let mut statuses: BTreeMap<String, usize> = BTreeMap::new();
    for status in state.statuses_of(&head.to_string()) {
        *statuses.entry(status.state.clone()).or_default() += 1;
    }
    // Where the forge took no `pending` in time, what was found is said at once.
    assert_eq!(statuses.get("success"), Some(&1), "{statuses:?}");
    assert!(
        statuses.iter().all(|(state, n)| *n == 1 && ["pending", "success"].contains(&&**state))
    );
    assert_eq!(state.comments_on(number).len(), 1);
    let checks = state.checks.iter().filter(|check| check.sha == head.to_string());
    assert_eq!(checks.count(), 1);
}
