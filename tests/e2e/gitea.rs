//! The same promises on Gitea: a pull request through the daemon, with an approval.

use serde_json::json;
use trueup::source::CommitId;

use super::begin::{documents, follow_as};
use super::bench::{Bench, PATIENCE};
use super::events::until;
use super::pulls::{networks, offer};
use super::spec::environment;
use crate::forge::fake::gitea::FakeGitea;
use crate::forge::fake::state::PullSpec;

/// Waits until the newest status of a commit says this.
fn said(forge: &FakeGitea, commit: &CommitId, what: &str) -> String {
    until(&format!("the status of {commit} to say {what}"), PATIENCE, || {
        let newest =
            forge.with(|state| state.statuses_of(&commit.to_string()).last().copied().cloned())?;
        let line = format!("{} {}", newest.state, newest.description);
        line.contains(what).then_some(line)
    })
}

/// The forge keeps times to the second: what it says next is later than everything until now.
fn next_second(forge: &FakeGitea) {
    let now = jiff::Timestamp::now();
    let later = || forge.with(|state| state.clock() > now).then_some(());
    until("the forge's next second", PATIENCE, later);
}

#[test]
fn what_somebody_who_may_approves_runs_after_the_merge() {
    let name = "e2e::gitea::what_somebody_who_may_approves_runs_after_the_merge";
    super::beside_libvirt(name, || {
        let forge = FakeGitea::start();
        // Gitea knows no `maintain`: it takes an admin there.
        forge.with(|state| {
            state.set_role("ben", "admin");
            state.set_role("carol", "write");
        });
        let mut bench = Bench::new();
        let lab = environment(&bench.dir, "").replace("maxDestroy: 50", "maxDestroy: 0");
        let (base, _) = bench.push(&documents(&lab, &[("lab", 91), ("side", 92), ("more", 93)]));
        let approvals = json!({ "permission": "maintain", "review": true, "label": "go" });
        let settings = serde_json::to_value(forge.settings()).unwrap();
        follow_as(&bench, &settings, &json!({ "approvals": approvals }));
        bench.start();
        bench.converged(&base);
        said(&forge, &base, "success applied");

        // By a comment, which names the plan.
        let head = offer(&bench, 1, &documents(&lab, &[("lab", 91), ("more", 93)]));
        let open = |head: &CommitId, base: &CommitId| {
            let (head, base) = (head.to_string(), base.to_string());
            let spec = PullSpec { head: &head, base: &base, author: "ann", ..PullSpec::default() };
            forge.with(|state| state.open_pull(&spec))
        };
        assert_eq!(open(&head, &base), 1);
        said(&forge, &head, "to approve it, see the comment");
        let plan = until("it to be noted that the plan was shown", PATIENCE, || {
            Some(bench.state().pulls.open.get(&1)?.shown.as_ref()?.plan)
        });
        until("the comment that says how", PATIENCE, || {
            let line = format!("/trueup approve {plan}");
            forge
                .with(|state| state.comments_on(1).iter().any(|(_, text)| text.contains(&line)))
                .then_some(())
        });
        let before = bench.seq();
        next_second(&forge);
        let line = format!("/trueup approve {plan}");
        forge.with(|state| {
            state.comment(1, "carol", &line);
            state.comment(1, "ben", &line);
        });
        let approved = bench.event(before, "pull.approved", "");
        assert_eq!(approved.data["via"]["login"], "ben", "carol may not");
        bench.repo.git(["merge", "-q", "--no-ff", "-m", "Merge #1", "offer"]);
        let merged = bench.repo.head();
        bench.repo.push();
        forge.with(|state| state.merge(1, &merged.to_string()));
        bench.converged(&merged);
        said(&forge, &merged, "success applied");
        assert!(!networks().contains(&"side".to_owned()));
        let log = bench.run(&["log", "--type", "plan.approved", "-o", "json"]).code(0);
        assert!(log.out.contains("\"gitea:ben\""), "{}", log.out);

        // By a label, which is taken off, and by a review.
        let head = offer(&bench, 2, &documents(&lab, &[("lab", 91)]));
        assert_eq!(open(&head, &merged), 2);
        said(&forge, &head, "held: it would destroy 1");
        let before = bench.seq();
        next_second(&forge);
        forge.with(|state| state.label(2, "go", "ben", true));
        bench.event(before, "pull.approved", "");
        forge.with(|state| state.label(2, "go", "ben", false));
        bench.event(before, "pull.approval_withdrawn", "");
        let before = bench.seq();
        next_second(&forge);
        forge.with(|state| state.review(2, "ben", "APPROVED", &head.to_string()));
        let approved = bench.event(before, "pull.approved", "");
        assert_eq!(approved.data["via"]["means"], "review");
        bench.assert_log_is_whole();
        bench.stop();
    });
}
