//! Many pull requests, and hostile ones: the loop and the other pull requests go on.

use std::time::{Duration, Instant};

use trueup::forge::follow::PLANNED_MAX;

use super::begin::{Begun, begin};
use super::bench::{Bench, PATIENCE};
use super::events::{Event, seconds, until};
use super::pulls::{networks, offer, offer_with, settled};
use super::spec::network;
use crate::forge::fake::state::PullSpec;

/// Open pull requests of a repository that is noisy, on purpose or not.
const CROWD: u64 = 300;

#[test]
fn a_pull_request_that_blows_up_is_told_so_and_the_others_are_planned() {
    let name = "e2e::crowd::a_pull_request_that_blows_up_is_told_so_and_the_others_are_planned";
    super::beside_libvirt(name, || {
        let Begun { forge, mut bench, lab, base } = begin();
        let two = [lab.clone(), network("lab", 91, ""), network("side", 92, "")];
        let three = [lab.clone(), network("lab", 91, ""), network("third", 93, "")];
        let heads = [
            offer(&bench, 1, &two),
            offer_with(&bench, 2, &two, &[("bomb.bin", &"\0".repeat(512 << 20))]),
            offer(&bench, 3, &three),
        ];
        for head in &heads {
            let spec =
                PullSpec { head: &head.to_string(), base: &base.to_string(), ..Default::default() };
            forge.state().open_pull(&spec);
        }
        for head in [&heads[0], &heads[2]] {
            assert!(settled(&forge, head, "success").contains("1 to create"));
        }
        let said = settled(&forge, &heads[1], "error");
        assert!(said.contains("not taken") && said.contains("64 MiB"), "{said}");
        // Everything is planned again against another base, and it is not asked for again.
        let (base, _) = bench.push(&[lab.clone(), network("lab", 91, ""), network("b", 95, "")]);
        bench.converged(&base);
        planned_on(&bench, 2, &base.to_string());
        let asked = bench.said_so_far().matches("is not taken").count();
        assert_eq!(asked, 1, "it is asked for once: {}", bench.said_so_far());
        // Another head is another chance.
        let head = offer(&bench, 2, &[lab, network("lab", 91, ""), network("c", 96, "")]);
        forge.state().push(2, &head.to_string());
        settled(&forge, &head, "success");
        bench.stop();
    });
}

#[test]
fn three_hundred_pull_requests_keep_a_commit_waiting_for_nothing() {
    let name = "e2e::crowd::three_hundred_pull_requests_keep_a_commit_waiting_for_nothing";
    super::beside_libvirt(name, || {
        let Begun { forge, mut bench, lab, base } = begin();
        let alone = time_of_a_commit(&bench, &[lab.clone(), network("n1", 101, "")]);
        let file = "environments/lab/crowd.yaml";
        let heads = bench.repo.offer_many(1, CROWD, "main", file, |n| {
            network(&format!("crowd{n}"), (100 + n % 100) as u8, "")
        });
        for head in &heads {
            let spec =
                PullSpec { head: &head.to_string(), base: &base.to_string(), ..Default::default() };
            forge.state().open_pull(&spec);
        }
        let begun = Instant::now();
        forge.forget_calls();
        planned(&bench, 3);
        let crowded = time_of_a_commit(&bench, &[lab.clone(), network("n2", 102, "")]);
        println!("a commit to the machine: {alone:.2} s alone, {crowded:.2} s with {CROWD} open");
        // Several times as long would be the crowd; a second is the noise of a busy machine.
        assert!(crowded < 2.0 * alone + 2.0, "{crowded} s, and {alone} s alone");
        // In the middle of it all, somebody pushes: that is seen while the rest waits.
        let head = offer(&bench, 1, &[lab, network("n2", 102, ""), network("mine", 103, "")]);
        forge.state().push(1, &head.to_string());
        let pushed = Instant::now();
        until("a status of the push", PATIENCE, || {
            (!forge.state().statuses_of(&head.to_string()).is_empty()).then_some(())
        });
        println!("a push in the crowd had its first status after {:?}", pushed.elapsed());
        assert!(pushed.elapsed() < Duration::from_secs(40), "{:?}", pushed.elapsed());
        let calls = forge.calls();
        let writes = calls.iter().filter(|call| call.request.method != "GET").count() as u64;
        assert!(writes <= begun.elapsed().as_secs() + 3, "{writes} in {:?}", begun.elapsed());
        let asked: std::collections::BTreeSet<u64> =
            plans(&bench).iter().map(|event| event.data["number"].as_u64().unwrap()).collect();
        assert!(asked.len() <= PLANNED_MAX + 1, "{} were planned", asked.len());
        assert!(networks().contains(&"n2".to_owned()));
        bench.assert_log_is_whole();
        bench.stop();
    });
}

/// Seconds from a push to the machine being as it asks.
fn time_of_a_commit(bench: &Bench, documents: &[String]) -> f64 {
    let seq = bench.seq();
    let (commit, begun) = bench.push(documents);
    bench.converged(&commit);
    let events = bench.events_after(seq);
    let synced = events.iter().rfind(|event| event.type_ == "resource.synced");
    seconds(begun, synced.expect("something was done").at)
}

fn plans(bench: &Bench) -> Vec<Event> {
    let mut events = bench.events_after(0);
    events.retain(|event| event.type_ == "pull.planned");
    events
}

/// Waits until that many plans of pull requests were made.
fn planned(bench: &Bench, count: usize) {
    until("plans of pull requests", PATIENCE, || (plans(bench).len() >= count).then_some(()));
}

/// Waits until a pull request was planned against this commit.
fn planned_on(bench: &Bench, number: u64, base: &str) {
    until("a plan against the new base", PATIENCE, || {
        let mut plans = plans(bench).into_iter();
        plans.any(|it| it.data["number"] == number && it.data["base"] == base).then_some(())
    });
}
