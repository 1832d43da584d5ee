//! Commits that are wrong or rewritten, and what an operator may say about it.

use super::bench::{Bench, PATIENCE, sh};
use super::events::until;
use super::spec::{environment, network};

#[test]
fn bad_and_rewritten_commits_are_refused_and_operators_are_heard() {
    super::beside_libvirt(
        "e2e::commits::bad_and_rewritten_commits_are_refused_and_operators_are_heard",
        || {
            let mut bench = Bench::new();
            let wish = |bench: &Bench, more: &[String]| {
                let mut documents = vec![environment(&bench.dir, ""), network("lab", 91, "")];
                documents.extend_from_slice(more);
                bench.push(&documents)
            };
            let (first, _) = wish(&bench, &[]);
            bench.start();
            bench.converged(&first);
            a_bad_commit_keeps_the_last_good_one(&bench, &first.to_string());
            let (second, _) = wish(&bench, &[network("side", 92, "")]);
            bench.converged(&second);
            a_rewrite_waits_for_an_operator(&bench, &first.to_string());
            holds_and_pauses_stop_what_they_name(&bench);
            a_manual_environment_waits_for_its_approval(&bench);
            a_hang_up_reads_the_config_again(&mut bench);
            bench.assert_log_is_whole();
            bench.stop();
        },
    );
}

fn networks() -> Vec<String> {
    let listed = sh(&["virsh", "net-list", "--all", "--name"]);
    listed.split_whitespace().map(str::to_owned).collect()
}

fn a_bad_commit_keeps_the_last_good_one(bench: &Bench, good: &str) {
    let before = bench.seq();
    let bad = network("lab", 91, "").replace("mode: isolated", "mode: isolted");
    bench.push(&[environment(&bench.dir, ""), bad]);
    let rejected = bench.event(before, "spec.rejected", "");
    let problem = &rejected.data["problems"][0];
    assert_eq!(problem["path"], "environments/lab/lab.yaml");
    assert!(problem["line"].as_u64().unwrap() > 1, "{problem}");
    // Healing goes on, toward the last good one.
    sh(&["virsh", "net-destroy", "lab"]);
    let healed = bench.event(before, "resource.recovered", "network/lab");
    assert_eq!(healed.commit, good);
    // An empty environment is a mistake of somebody, and never a wish to lose everything.
    bench.repo.git(["rm", "-q", "-r", "environments"]);
    bench.repo.commit_index("everything is gone", &[]);
    let before = bench.seq();
    bench.repo.push();
    bench.event(before, "source.commit_observed", "");
    bench.run(&["apply"]);
    assert_eq!(networks(), ["lab"]);
}

fn a_rewrite_waits_for_an_operator(bench: &Bench, first: &str) {
    let before = bench.seq();
    bench.repo.git(["reset", "-q", "--hard", first]);
    bench.repo.write("environments/lab/more.yaml", network("other", 93, ""));
    let offered = bench.repo.commit("another history").to_string();
    bench.repo.push();
    let refused = bench.event(before, "source.rewrite_refused", "");
    assert_eq!(refused.data["offered"], offered);
    bench.run(&["apply"]).code(0);
    assert_eq!(networks(), ["lab", "side"]);
    let status = bench.run(&["status"]).code(0).out;
    assert!(status.contains(&offered[..7]), "{status}");

    bench.run(&["accept-rewrite", &offered]).code(0);
    until("the rewritten history to be followed", PATIENCE, || {
        (networks() == ["lab", "other"]).then_some(())
    });
    let accepted = bench.event(before, "source.rewrite_accepted", "");
    assert_eq!(accepted.data["offered"], offered);
}

fn holds_and_pauses_stop_what_they_name(bench: &Bench) {
    let active = || sh(&["virsh", "net-list", "--name"]).contains("lab");
    bench.run(&["hold", "network/lab", "-m", "somebody looks at it"]).code(0);
    let before = bench.seq();
    sh(&["virsh", "net-destroy", "lab"]);
    bench.run(&["apply"]);
    assert!(!active(), "what is held was healed");
    let status = bench.run(&["status"]).code(0).out;
    assert!(status.contains("somebody looks at it"), "{status}");
    bench.run(&["release", "network/lab"]).code(0);
    until("the network to be started", PATIENCE, || active().then_some(()));

    bench.run(&["pause", "-m", "moving"]).code(0);
    sh(&["virsh", "net-destroy", "lab"]);
    bench.run(&["apply"]).code(4);
    assert!(!active(), "it acted while paused");
    bench.run(&["resume"]).code(0);
    until("the network to be started", PATIENCE, || active().then_some(()));
    bench.event(before, "operator.resumed", "");
}

fn a_manual_environment_waits_for_its_approval(bench: &Bench) {
    let before = bench.seq();
    let manual = environment(&bench.dir, ", mode: manual");
    bench.repo.git(["rm", "-q", "environments/lab/more.yaml"]);
    let (commit, _) = bench.push(&[manual, network("lab", 91, ""), network("third", 94, "")]);
    let held = bench.event(before, "plan.held", "");
    let plan = held.data["plan"].as_str().unwrap().to_owned();
    bench.run(&["apply"]).code(4);
    assert_eq!(networks(), ["lab", "other"]);
    bench.run(&["approve", "000000000000"]).code(4);
    let digits = plan.trim_start_matches("sha256:");
    bench.run(&["approve", &digits[..12]]).code(0);
    bench.converged(&commit);
    assert_eq!(networks(), ["lab", "third"]);
}

fn a_hang_up_reads_the_config_again(bench: &mut Bench) {
    let before = bench.seq();
    let pid = bench.pid();
    // A config with a mistake is refused, and the daemon goes on.
    let good = std::fs::read_to_string(bench.config()).unwrap();
    std::fs::write(bench.config(), format!("{good}nonsense: true\n")).unwrap();
    bench.hang_up();
    until("the refusal to be said", PATIENCE, || {
        bench.said_so_far().contains("the config was not reloaded").then_some(())
    });
    bench.poll = "1s";
    bench.configure();
    bench.hang_up();
    bench.event(before, "log.opened", "");
    bench.await_socket();
    bench.run(&["apply"]).code(0);
    assert_eq!(bench.pid(), pid);
    assert!(bench.ended().is_none(), "the daemon ended");
}
