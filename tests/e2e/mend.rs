//! A mistake that somebody pushed to the branch itself, and the pull request that mends it.

use super::begin::{Begun, begin, documents};
use super::bench::PATIENCE;
use super::events::until;
use super::pulls::{networks, offer, offer_with, settled};
use super::spec::network;
use crate::forge::fake::state::PullSpec;

#[test]
fn a_pull_request_that_mends_the_branch_is_planned_against_it() {
    let name = "e2e::mend::a_pull_request_that_mends_the_branch_is_planned_against_it";
    super::beside_libvirt(name, || {
        let Begun { forge, mut bench, lab, base } = begin();
        let open = |head: &str, base: &str| {
            forge.state().open_pull(&PullSpec { head, base, ..PullSpec::default() })
        };
        // One that is older than the mistake, in a file of its own.
        let side = ("environments/lab/side.yaml", network("side", 92, ""));
        let more = [(side.0, side.1.as_str())];
        let old = offer_with(&bench, 1, &documents(&lab, &[("lab", 91)]), &more);
        open(&old.to_string(), &base.to_string());
        assert!(settled(&forge, &old, "success").contains("1 to create"));
        let wrong = network("lab", 91, "").replace("mode: isolated", "mode: isolate");
        assert_ne!(wrong, network("lab", 91, ""));
        let (bad, _) = bench.push(&[lab.clone(), wrong]);
        assert!(settled(&forge, &bad, "failure").contains("mistake"));
        // What it would be merged into has the mistake, and so would the merge.
        let said = settled(&forge, &old, "failure");
        assert!(said.starts_with("1 mistake: environments/lab/lab.yaml:"), "{said}");
        let mends = offer(&bench, 2, &documents(&lab, &[("lab", 91), ("third", 93)]));
        let number = open(&mends.to_string(), &bad.to_string());
        assert!(settled(&forge, &mends, "success").contains("1 to create"));
        let comment = until("its comment", PATIENCE, || {
            forge.state().comments_on(number).first().map(|(_, text)| (*text).to_owned())
        });
        assert!(comment.contains(&format!("for base `{bad}` and head `{mends}`")), "{comment}");
        bench.repo.git(["merge", "-q", "--no-ff", "-m", "Merge #2", "offer"]);
        let merged = bench.repo.head();
        bench.repo.push();
        forge.state().merge(number, &merged.to_string());
        bench.converged(&merged);
        settled(&forge, &merged, "success");
        assert!(networks().contains(&"third".to_owned()), "{:?}", networks());
        let events = bench.events_after(0);
        assert!(!events.iter().any(|event| event.is("plan.surprised", "")), "it did what it said");
        // And the older one is right again, without a push.
        assert!(settled(&forge, &old, "success").contains("1 to create"));
        bench.assert_log_is_whole();
        bench.stop();
    });
}

#[test]
fn a_pull_request_into_a_rewritten_branch_says_that_its_merge_would_wait() {
    let name = "e2e::mend::a_pull_request_into_a_rewritten_branch_says_that_its_merge_would_wait";
    super::beside_libvirt(name, || {
        let Begun { forge, mut bench, lab, base } = begin();
        settled(&forge, &base, "success");
        bench.repo.git(["commit", "-q", "--amend", "-m", "told otherwise"]);
        bench.repo.git(["push", "-q", "--force", "origin", "main"]);
        let rewritten = bench.repo.head();
        assert!(settled(&forge, &rewritten, "failure").starts_with("refused: "));
        let head = offer(&bench, 1, &documents(&lab, &[("lab", 91), ("side", 92)]));
        let spec = PullSpec {
            head: &head.to_string(),
            base: &rewritten.to_string(),
            ..PullSpec::default()
        };
        let number = forge.state().open_pull(&spec);
        let said = settled(&forge, &head, "success");
        assert!(said.starts_with("1 to create; held: ") && said.contains("is refused"), "{said}");
        let comment = until("its comment", PATIENCE, || {
            forge.state().comments_on(number).first().map(|(_, text)| (*text).to_owned())
        });
        assert!(comment.contains("trueup accept-rewrite"), "{comment}");
        // Once it is let through there is nothing to wait for, without a push.
        bench.run(&["accept-rewrite", &rewritten.to_string()]).code(0);
        bench.converged(&rewritten);
        until("the plan to wait no more", PATIENCE, || {
            (settled(&forge, &head, "success") == "1 to create").then_some(())
        });
        bench.stop();
    });
}
