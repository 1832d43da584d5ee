//! What was found of a pull request and is no longer so: because the machine moved, because there are so
//! many newer ones, because the commit takes no more statuses.

use std::time::Duration;

use trueup::config::ApprovalSettings;
use trueup::forge::follow::{Memory, PLANNED_MAX};
use trueup::model::{CommitId, ResourceId};
use trueup::port::Clock;
use trueup::port::forge::{CheckState, CommitState, Conclusion};

use super::pulls::{Watched, lab};

const LAB: &str = "environments/lab/all.yaml";
const NOBODY: Option<ApprovalSettings> = None;

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

fn with_memory(mib: u64) -> String {
    lab("").replacen("memory: 512MiB", &format!("memory: {mib}MiB"), 1)
}

impl Watched {
    /// A machine is switched off by hand, and switched on again by the program: events, and nothing
    /// that a plan would tell.
    async fn stir(&mut self) {
        self.world.host.stop(&id("vm/web"));
        self.world.settle().await;
    }

    /// The machine is out of sight for a moment, as often as one likes: nothing is put right, so nothing
    /// flaps.
    async fn blink(&mut self) {
        for away in [Some("it is off"), None] {
            self.world.host.set_down(away);
            self.world.pass().await.unwrap();
        }
    }

    /// The colour of a status and its words.
    fn words(&self, head: &CommitId) -> (CommitState, String) {
        let said = self.said(head);
        (said.state, said.description)
    }

    fn statuses(&self) -> usize {
        self.forge.held().statuses.len()
    }

    fn statuses_of(&self, head: &CommitId) -> usize {
        self.forge.held().statuses.iter().filter(|(on, _)| on == head).count()
    }

    fn looked_at(&self) -> usize {
        std::mem::take(&mut self.forge.held().merged).len()
    }

    fn conclusion(&self, head: &CommitId) -> Option<Conclusion> {
        let held = self.forge.held();
        let (_, _, report) = held.checks.iter().rfind(|(on, ..)| on == head)?;
        match report.state {
            CheckState::Completed(conclusion) => Some(conclusion),
            CheckState::InProgress => None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_events_are_one_look_at_each_and_the_same_plan_is_not_said_again() {
    const PULLS: u64 = 20;
    let mut watched = Watched::begin("", NOBODY).await;
    for n in 1..=PULLS {
        watched.forge.offer(n, LAB, &with_memory(512 + n));
    }
    watched.turns().await;
    let (said, _) = (watched.statuses(), watched.looked_at());
    let before = watched.world.state().pulls.machine;
    for _ in 0..5 {
        watched.stir().await;
    }
    let events = watched.world.state().pulls.machine - before;
    assert!(events > 20, "{events} events");
    watched.turns().await;
    let looked = watched.looked_at();
    println!("{events} events of the machine: {looked} looks at {PULLS} pull requests");
    assert_eq!(looked as u64, PULLS);
    assert_eq!(watched.statuses(), said, "they came to the same");
    watched.turns().await;
    assert_eq!(watched.looked_at(), 0, "nothing moved");
    watched.world.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_comes_out_differently_goes_out_at_once() {
    let mut watched = Watched::begin("", NOBODY).await;
    // A drift of it is only told of; the pull request would have it put right.
    let disk = "metadata: { name: data }\nspec: { size: 20GiB }\n";
    let told = lab("").replacen(disk, &format!("{disk}lifecycle: {{ selfHeal: report }}\n"), 1);
    watched.world.remote.write(LAB, &told);
    watched.world.remote.commit("tell of it");
    watched.world.settle().await;
    let head = watched.forge.offer(1, LAB, &lab(""));
    watched.turns().await;
    let (before, said) = (watched.words(&head), watched.statuses_of(&head));
    watched.world.host.remove(&id("disk/data"));
    watched.world.pass().await.unwrap();
    assert!(!watched.world.host.machine().resources.contains_key(&id("disk/data")));
    watched.turns().await;
    let now = watched.words(&head);
    assert!(now != before && now.1.contains("to create"), "{before:?} and then {now:?}");
    assert_eq!(watched.statuses_of(&head), said + 1, "and nothing between");
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_planned_again_at_once_is_marked_and_comes_back() {
    let mut watched = Watched::begin("", NOBODY).await;
    watched.forge.held().can_check = true;
    let head = watched.forge.offer(1, LAB, &with_memory(640));
    watched.turns().await;
    let green = watched.words(&head);
    assert_eq!(
        (green.0, watched.conclusion(&head)),
        (CommitState::Success, Some(Conclusion::Success))
    );
    // Its head cannot be fetched while the machine moves.
    watched.forge.held().stuck.insert(1);
    watched.stir().await;
    watched.turns().await;
    let marked = watched.said(&head);
    assert_eq!(marked.state, CommitState::Pending);
    assert!(marked.description.starts_with("stale: the machine moved"), "{marked:?}");
    assert_eq!(watched.conclusion(&head), Some(Conclusion::Neutral), "nor is its check green");
    let said = watched.statuses_of(&head);
    watched.stir().await;
    watched.turns().await;
    assert_eq!(watched.statuses_of(&head), said, "it is marked once");
    watched.forge.held().stuck.clear();
    watched.wait(600).await;
    watched.turns().await;
    assert_eq!(watched.words(&head), green);
    assert_eq!(watched.conclusion(&head), Some(Conclusion::Success));
    assert_eq!(watched.forge.held().checks.len(), 1, "it is the same check");
    watched.world.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn after_a_start_nothing_is_believed_that_the_machine_may_have_changed() {
    let mut watched = Watched::begin("", NOBODY).await;
    let head = watched.forge.offer(1, LAB, &with_memory(640));
    watched.turns().await;
    let said = watched.statuses_of(&head);
    // The machine did not move since the plan was made: that is known from the log.
    watched.follower.memory = Memory::default();
    watched.forge.held().stuck.insert(1);
    watched.turns().await;
    assert_eq!(watched.statuses_of(&head), said);
    watched.stir().await;
    watched.follower.memory = Memory::default();
    watched.turns().await;
    assert_eq!(watched.said(&head).state, CommitState::Pending);
}

#[tokio::test(start_paused = true)]
async fn one_beyond_the_newest_does_not_stay_green_for_another_machine() {
    let mut watched = Watched::begin("", NOBODY).await;
    let mut heads = Vec::new();
    for n in 1..=PLANNED_MAX as u64 {
        heads.push(watched.forge.offer(n, LAB, &with_memory(512 + n)));
        watched.wait(1).await;
    }
    watched.turns().await;
    let green = watched.said(&heads[0]);
    assert_eq!(green.state, CommitState::Success);
    watched.forge.offer(PLANNED_MAX as u64 + 1, LAB, &with_memory(1_000));
    watched.turns().await;
    assert_eq!(watched.said(&heads[0]), green, "nothing moved: it still holds");
    watched.stir().await;
    watched.turns().await;
    let lapsed = watched.said(&heads[0]);
    assert_eq!(lapsed.state, CommitState::Pending);
    assert!(
        lapsed
            .description
            .contains("only the 100 open pull requests changed last are planned again"),
        "{lapsed:?}"
    );
    assert!(lapsed.description.chars().count() <= 140);
    assert_eq!(watched.said(&heads[1]).state, CommitState::Success);
    let said = watched.statuses();
    for _ in 0..3 {
        watched.stir().await;
        watched.turns().await;
    }
    assert_eq!(watched.statuses(), said, "said once, however often it moves");
    // Another base says no more either, of that one.
    watched.forge.merge(PLANNED_MAX as u64 + 1);
    watched.world.settle().await;
    watched.forge.held().pulls.get_mut(&1).unwrap().updated_at = watched.world.clock.now();
    watched.turns().await;
    assert_eq!(
        watched.said(&heads[0]).state,
        CommitState::Success,
        "changed last, it has its turn"
    );
    watched.world.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn a_noisy_machine_costs_a_tenth_of_the_time_and_keeps_nobody_waiting() {
    const PULLS: u64 = 20;
    let mut watched = Watched::begin("", NOBODY).await;
    let mut heads = Vec::new();
    for n in 1..=PULLS {
        let head = watched.forge.offer(n, LAB, &with_memory(512 + n));
        watched.forge.held().slow.insert(head.clone(), Duration::from_secs(1));
        heads.push(head);
    }
    watched.turns().await;
    let (said, _) = (watched.statuses(), watched.looked_at());
    let begun = watched.world.clock.monotonic();
    let mut turns = 0;
    while watched.world.clock.monotonic() - begun < Duration::from_secs(3_600) {
        watched.blink().await;
        let one = watched.world.clock.monotonic();
        let wait = watched.follower.turn().await.unwrap();
        let took = watched.world.clock.monotonic() - one;
        assert!(took < Duration::from_secs(10), "a turn of {took:?}");
        watched.world.clock.sleep(wait.unwrap_or(Duration::from_secs(10))).await;
        turns += 1;
    }
    let looked = std::mem::take(&mut watched.forge.held().merged);
    println!("an hour of noise: {turns} turns, {} looks of a second each", looked.len());
    assert!(looked.len() <= 450, "{} seconds of an hour", looked.len());
    for head in &heads {
        let of_it = looked.iter().filter(|looked| *looked == head).count();
        assert!((10..=20).contains(&of_it), "each has its turn: {of_it}");
    }
    assert_eq!(watched.statuses(), said, "and nothing flaps");
    // A push does not wait for the round.
    watched.blink().await;
    let head = watched.forge.offer(1, LAB, &with_memory(999));
    watched.follower.turn().await.unwrap();
    assert_eq!(watched.said(&head).state, CommitState::Success);
    watched.world.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn a_plan_for_what_cannot_be_seen_is_not_green() {
    let mut watched = Watched::begin("", NOBODY).await;
    let head = watched.forge.offer(1, LAB, &with_memory(640));
    watched.turns().await;
    let green = watched.words(&head);
    assert_eq!(green.0, CommitState::Success);
    watched.world.host.set_down(Some("it is off"));
    watched.world.pass().await.unwrap();
    watched.turns().await;
    let blind = watched.said(&head);
    assert_eq!(blind.state, CommitState::Pending, "{blind:?}");
    assert!(blind.description.starts_with("waits to see what it changes"), "{blind:?}");
    watched.world.host.set_down(None);
    watched.world.settle().await;
    watched.turns().await;
    assert_eq!(watched.words(&head), green);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_takes_no_more_statuses_is_not_tried_again_and_the_comment_says_so() {
    let mut watched = Watched::begin("", NOBODY).await;
    let head = watched.forge.offer(1, LAB, &with_memory(640));
    watched.forge.held().statuses_taken = Some(2);
    watched.turns().await;
    assert_eq!(watched.statuses_of(&head), 2, "pending, and what was found");
    // What merging does changes for hours.
    for n in 0..6 {
        let text =
            format!("# {n}\n{}", lab("").replacen("memory: 512MiB", "memory: 640MiB", n % 2));
        watched.world.remote.write(LAB, &text);
        watched.world.remote.commit("another base");
        watched.world.settle().await;
        watched.turns().await;
        watched.wait(4_000).await;
    }
    let refused = watched.forge.held().refused.iter().filter(|on| **on == head).count();
    assert_eq!(refused, 1, "the same is not sent for ever");
    let comment = watched.forge.comments_on(1).concat();
    assert!(comment.contains("takes no more statuses for this commit"), "{comment}");
    assert!(comment.starts_with("<!-- trueup:"), "the marker is found again: {comment}");
    assert_eq!(watched.forge.comments_on(1).len(), 1);
    // Neither does a start try it again.
    watched.follower.memory = Memory::default();
    watched.turns().await;
    let refused = watched.forge.held().refused.iter().filter(|on| **on == head).count();
    assert_eq!(refused, 1);
    let next = watched.forge.offer(1, LAB, &with_memory(650));
    watched.turns().await;
    assert_eq!(watched.said(&next).state, CommitState::Success, "a push begins anew");
    let comment = watched.forge.comments_on(1).concat();
    assert!(!comment.contains("takes no more statuses"), "{comment}");
    watched.world.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn each_commit_has_its_last_word_also_where_the_forge_was_away() {
    let mut watched = Watched::begin("", NOBODY).await;
    watched.turns().await;
    watched.forge.held().away = true;
    for _ in 0..3 {
        watched.follower.turn().await.unwrap();
        watched.wait(30).await;
    }
    assert!(watched.world.state().pulls.unavailable.is_some());
    // Opened, merged and converged, twice, and opened and not merged.
    let mut merged = Vec::new();
    for n in 1..=2 {
        watched.forge.offer(n, LAB, &with_memory(600 + n));
        merged.push(watched.forge.merge(n));
        watched.world.settle().await;
        watched.follower.turn().await.unwrap();
        watched.wait(400).await;
    }
    let open = watched.forge.offer(3, LAB, &with_memory(700));
    watched.forge.held().away = false;
    watched.wait(400).await;
    watched.turns().await;
    for commit in &merged {
        let said = watched.said(commit);
        assert_eq!(said.state, CommitState::Success, "{said:?}");
        assert!(said.description.starts_with("applied: "), "{said:?}");
        assert_eq!(watched.statuses_of(commit), 1, "once");
    }
    assert_eq!(watched.said(&open).state, CommitState::Success);
    assert_eq!(watched.statuses_of(&open), 2, "pending, and what was found");
    assert_eq!(watched.forge.comments_on(3).len(), 1);
    let said = watched.statuses();
    watched.follower.memory = Memory::default();
    watched.turns().await;
    assert_eq!(watched.statuses(), said);
    watched.world.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_was_not_finished_says_what_took_its_place() {
    let mut watched = Watched::begin("", NOBODY).await;
    watched.turns().await;
    // It waits for somebody, and then another commit comes.
    watched
        .world
        .remote
        .write(LAB, &lab("mode: manual").replacen("memory: 512MiB", "memory: 600MiB", 1));
    let first = watched.world.remote.commit("by hand");
    watched.world.settle().await;
    watched.turns().await;
    assert!(watched.said(&first).description.starts_with("held: "), "{:?}", watched.said(&first));
    watched.world.remote.write(LAB, &with_memory(700));
    let second = watched.world.remote.commit("by itself");
    watched.world.settle().await;
    watched.turns().await;
    assert_eq!(watched.said(&second).state, CommitState::Success);
    let said = watched.said(&first);
    assert_eq!(said.state, CommitState::Error);
    let words = format!("not finished: {} took its place", second.short());
    assert!(said.description.starts_with(&words), "{said:?}");
}
