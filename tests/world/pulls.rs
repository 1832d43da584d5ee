//! Pull requests over the world: the real follower on a forge in memory, and the world's clock.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use trueup::config::{ApprovalSettings, ForkPlans, ForkSettings};
use trueup::forge::follow::{Follower, LOOK_MAX, Memory, PLANNED_MAX};
use trueup::model::CommitId;
use trueup::port::Clock;
use trueup::port::forge::{CommitState, Status};

use super::World;
use super::forge::FakeForge;

const LAB: &str = "environments/lab/all.yaml";

/// A world with a forge, whose program has brought the machine to its first commit.
pub(super) struct Watched {
    pub(super) world: World,
    pub(super) forge: Arc<FakeForge>,
    pub(super) follower: Follower,
}

impl Watched {
    /// `sync`: settings of the environment, as YAML.
    pub(super) async fn begin(sync: &str, approvals: Option<ApprovalSettings>) -> Self {
        let mut world = World::new().await;
        world.remote.write("trueup.yaml", include_str!("../scenarios/repository.yaml"));
        world.remote.write(LAB, &lab(sync));
        world.remote.commit("first");
        world.settle().await;
        let forge = Arc::new(FakeForge::new(Arc::clone(&world.clock), Arc::clone(&world.remote)));
        let follower = Follower {
            forge: forge.clone(),
            pulls: forge.clone(),
            source: world.remote.clone(),
            blobs: world.log.clone(),
            reconciler: Arc::clone(&world.program),
            clock: world.clock.clone(),
            host: "world".into(),
            branch: "main".into(),
            forks: ForkSettings::default(),
            approvals,
            wake: Arc::new(|| ()),
            memory: Memory::default(),
        };
        Self { world, forge, follower }
    }

    /// Turns until nothing more is to be said, as the daemon makes them.
    pub(super) async fn turns(&mut self) {
        for _ in 0..200 {
            match self.follower.turn().await.unwrap() {
                Some(wait) => self.world.clock.sleep(wait).await,
                None => return,
            }
        }
        panic!("it never comes to rest");
    }

    pub(super) async fn wait(&self, seconds: u64) {
        self.world.clock.sleep(Duration::from_secs(seconds)).await;
    }

    pub(super) fn said(&self, commit: &CommitId) -> Status {
        self.forge.said(commit).expect("it has a status")
    }
}

/// The world's environment with more settings.
pub(super) fn lab(sync: &str) -> String {
    let lab = include_str!("../scenarios/lab.yaml");
    lab.replacen("spec:\n", &format!("spec:\n  sync: {{ {sync} }}\n"), 1)
}

/// Whoever is called ben may approve, by a comment and by a label.
pub(super) fn ben() -> Option<ApprovalSettings> {
    serde_json::from_value(json!({ "by": ["ben"], "label": "go" })).unwrap()
}

fn with_memory(mib: u64) -> String {
    lab("").replacen("memory: 512MiB", &format!("memory: {mib}MiB"), 1)
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_too_long_to_plan_keeps_no_other_waiting() {
    let mut watched = Watched::begin("", None).await;
    let slow = watched.forge.offer(1, LAB, &with_memory(640));
    watched.forge.held().slow.insert(slow.clone(), Duration::from_secs(100_000));
    let quick = watched.forge.offer(2, LAB, &with_memory(768));
    let begun = watched.world.clock.monotonic();
    watched.turns().await;
    assert!(watched.world.clock.monotonic() - begun < LOOK_MAX * 2, "it was tried once");
    let said = watched.said(&slow);
    assert_eq!(said.state, CommitState::Error);
    assert!(said.description.contains("planning it took longer than 60 s"), "{said:?}");
    assert_eq!(watched.said(&quick).state, CommitState::Success);
    let next = watched.forge.offer(3, LAB, &with_memory(896));
    let begun = watched.world.clock.monotonic();
    watched.turns().await;
    assert_eq!(watched.said(&next).state, CommitState::Success);
    assert!(watched.world.clock.monotonic() - begun < LOOK_MAX, "it waits for its next try");
    // It is tried again, and another head at once.
    watched.forge.held().slow.clear();
    watched.wait(3_600).await;
    watched.turns().await;
    assert_eq!(watched.said(&slow).state, CommitState::Success);
    watched.world.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_comes_keeps_no_other_from_being_fetched() {
    let mut watched = Watched::begin("", None).await;
    let heads: Vec<_> =
        (1..=6).map(|n| watched.forge.offer(n, LAB, &with_memory(512 + 64 * n))).collect();
    watched.forge.held().stuck.insert(3);
    for _ in 0..40 {
        watched.turns().await;
        watched.wait(30).await;
    }
    for (n, head) in (1..).zip(&heads) {
        let state = if n == 3 { CommitState::Error } else { CommitState::Success };
        assert_eq!(watched.said(head).state, state, "#{n}: {:?}", watched.said(head));
    }
    let said = watched.said(&heads[2]).description;
    assert!(said.contains("not finished within 60 s; tried again"), "{said}");
    watched.forge.held().stuck.clear();
    watched.wait(600).await;
    watched.turns().await;
    assert_eq!(watched.said(&heads[2]).state, CommitState::Success);
}

#[tokio::test(start_paused = true)]
async fn those_beyond_the_newest_say_so_once_and_are_planned_when_it_is_their_turn() {
    let mut watched = Watched::begin("", None).await;
    let count = PLANNED_MAX as u64 + 3;
    let mut heads = Vec::new();
    for n in 1..=count {
        heads.push(watched.forge.offer(n, LAB, &with_memory(512 + n)));
        watched.wait(1).await;
    }
    watched.turns().await;
    let old = watched.said(&heads[0]);
    assert_eq!(old.state, CommitState::Error);
    assert!(old.description.contains("only the 100 open pull requests changed last"), "{old:?}");
    assert_eq!(old.url.as_deref(), Some("https://forge.example.org/pull/1"));
    assert_eq!(watched.said(&heads[3]).state, CommitState::Success);
    let all = watched.forge.held().statuses.len();
    watched.turns().await;
    watched.turns().await;
    assert_eq!(watched.forge.held().statuses.len(), all, "said once");
    watched.forge.merge(count);
    watched.world.settle().await;
    watched.turns().await;
    watched.turns().await;
    assert_eq!(watched.said(&heads[2]).state, CommitState::Success, "it moved up");
    assert_eq!(watched.said(&heads[0]).state, CommitState::Error);
}

#[tokio::test(start_paused = true)]
async fn a_status_points_at_its_pull_request_and_says_how_it_is_approved() {
    let mut watched = Watched::begin("maxDestroy: 0", ben()).await;
    let less = lab("maxDestroy: 0")
        .split("---\napiVersion: trueup/v1\nkind: Disk\nmetadata: { name: data }")
        .next()
        .unwrap()
        .to_owned();
    let head = watched.forge.offer(1, LAB, &less);
    watched.turns().await;
    let first = watched.forge.held().statuses.iter().find(|(on, _)| *on == head).unwrap().1.clone();
    assert_eq!(first.state, CommitState::Pending);
    assert_eq!(first.url.as_deref(), Some("https://forge.example.org/pull/1"));
    let said = watched.said(&head);
    assert!(said.description.ends_with("; to approve it, see the comment"), "{said:?}");
    let comment = watched.forge.comments_on(1).concat();
    let plan = watched.world.state().pulls.open[&1].shown.as_ref().unwrap().plan;
    assert!(comment.contains(&format!("a comment `/trueup approve {plan}`, or the label `go`")));

    let merged = watched.forge.merge(1);
    watched.world.settle().await;
    watched.turns().await;
    let waiting = watched.world.state().plan.unwrap();
    let said = watched.said(&merged);
    assert!(said.description.contains(&format!("; trueup approve {}", waiting.plan.short())));
    let comments = watched.forge.comments_on(1);
    assert_eq!(comments.len(), 2, "{comments:?}");
    let line = format!("/trueup approve {}", waiting.plan);
    assert!(comments[1].contains(&line), "{}", comments[1]);
    // What it says to write is what works.
    watched.wait(5).await;
    watched.forge.comment(1, "ben", &line);
    watched.turns().await;
    watched.world.settle().await;
    watched.turns().await;
    assert_eq!(watched.said(&merged).state, CommitState::Success);
    let comments = watched.forge.comments_on(1);
    assert!(comments[1].contains("waits no more: applied"), "{}", comments[1]);
    watched.world.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn a_pull_request_that_mends_the_branch_is_planned_and_one_that_does_not_says_so() {
    let mut watched = Watched::begin("", None).await;
    let before = watched.forge.offer(1, LAB, &with_memory(640));
    watched.turns().await;
    assert_eq!(watched.said(&before).state, CommitState::Success);
    // Somebody pushes a mistake to the branch itself, and the commit before stays in force.
    let good = watched.world.state().spec.commit;
    watched.world.remote.write(LAB, &lab("").replacen("memory: 512MiB", "memory: much", 1));
    let bad = watched.world.remote.commit("a mistake");
    watched.world.settle().await;
    assert_eq!(watched.world.state().spec.commit, good);
    let other = watched.forge.offer(2, "environments/lab/more.yaml", "# no mistake here");
    watched.turns().await;
    assert_eq!(watched.said(&before).state, CommitState::Success, "it takes the mistake away");
    let left = watched.said(&other);
    assert_eq!(left.state, CommitState::Failure, "{left:?}");
    let planned = |watched: &Watched| watched.world.state().pulls.open[&1].planned.clone().unwrap();
    assert_eq!(planned(&watched).base, bad, "what is merged into is what is at the head");
    // The rules themselves are the mistake: those of the commit in force govern.
    watched.world.remote.write("trueup.yaml", "no: such");
    let bad = watched.world.remote.commit("another mistake");
    watched.world.settle().await;
    let mends = include_str!("../scenarios/repository.yaml");
    let mends = watched.forge.offer(3, "trueup.yaml", mends);
    watched.turns().await;
    let left = watched.said(&before);
    assert_eq!(left.state, CommitState::Failure, "merging it leaves trueup.yaml wrong: {left:?}");
    assert_eq!(planned(&watched).base, bad);
    assert_eq!(watched.said(&mends).state, CommitState::Failure, "the other mistake is left");
    // The merge that mends everything is taken in, and does what was said.
    watched.world.remote.write("trueup.yaml", include_str!("../scenarios/repository.yaml"));
    watched.world.remote.commit("mend one");
    watched.world.settle().await;
    watched.turns().await;
    assert_eq!(watched.said(&before).state, CommitState::Success);
    let merged = watched.forge.merge(1);
    watched.world.settle().await;
    watched.turns().await;
    assert_eq!(watched.said(&merged).state, CommitState::Success);
    let log = watched.world.log.events();
    assert!(!log.iter().any(|event| event.entry.event.type_name() == "plan.surprised"));
    watched.world.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn the_head_of_a_fork_is_planned_as_far_as_the_config_says() {
    let mut watched = Watched::begin("", None).await;
    let stranger = |watched: &Watched, mib: u64| {
        let head = watched.forge.offer(1, LAB, &with_memory(mib));
        let mut held = watched.forge.held();
        held.pulls.get_mut(&1).unwrap().fork = true;
        let labels = held.labels.iter().rev().find(|(on, _)| *on == 1);
        let label = labels.filter(|(_, event)| event.added).map(|(_, event)| event.label.clone());
        held.pulls.get_mut(&1).unwrap().labels = label.into_iter().collect();
        head
    };
    watched.follower.forks = ForkSettings { plan: ForkPlans::Label, ..ForkSettings::default() };
    let label = watched.follower.forks.label.clone();
    let first = stranger(&watched, 640);
    watched.turns().await;
    let said = watched.said(&first);
    assert_eq!(said.state, CommitState::Error);
    assert!(said.description.starts_with("not planned: it comes from a fork"), "{said:?}");
    assert!(watched.forge.comments_on(1).is_empty(), "a stranger who is refused is not written to");
    watched.wait(5).await;
    watched.forge.label(1, &label, true);
    watched.turns().await;
    assert_eq!(watched.said(&first).state, CommitState::Success);
    // The machine has 512 MiB, which is no stranger's business.
    let comment = watched.forge.comments_on(1).concat();
    assert!(comment.contains("vm/") && !comment.contains("512"), "{comment}");
    watched.wait(5).await;
    watched.turns().await;
    let read = watched.forge.held().labels_read;
    watched.turns().await;
    assert_eq!(watched.forge.held().labels_read, read, "nothing new costs no request");
    // The label was meant for that head, and stays on the pull request.
    let second = stranger(&watched, 768);
    watched.turns().await;
    let said = watched.said(&second);
    assert!(said.description.starts_with("not planned: it comes from a fork"), "{said:?}");
    let comment = watched.forge.comments_on(1).concat();
    assert!(
        comment.contains("comes from a fork"),
        "what it said before is no longer so: {comment}"
    );
    // Off: a label changes nothing.
    watched.follower.forks.plan = ForkPlans::Off;
    watched.wait(5).await;
    watched.forge.label(1, &label, true);
    watched.turns().await;
    assert_eq!(watched.said(&second).state, CommitState::Error);
    watched.follower.forks.plan = ForkPlans::Redacted;
    watched.turns().await;
    assert_eq!(watched.said(&second).state, CommitState::Success);
    watched.world.check_invariants();
}
