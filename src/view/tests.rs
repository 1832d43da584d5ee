//! Tests of the read models: one log, fed event by event.

use expect_test::expect;
use jiff::Timestamp;

use super::*;
use crate::event::body::*;
use crate::event::{Entry, Event, Recorded};
use crate::model::{CommitId, Digest, Fault, Name, ResourceId};
use crate::plan::{Disruption, FieldChange, Note, Reason, Remark, SkipReason, Skipped};
use crate::state::State;

#[test]
fn what_the_forge_does_not_take_is_said_as_long_as_it_matters() {
    let commit = |digit: char| -> CommitId { digit.to_string().repeat(40).parse().unwrap() };
    let mut told = Told::default();
    assert_eq!(summary(&told.state, &[]).forge, None);
    let refused = |target| {
        let (content, why) = (Digest::of("post"), "it needs statuses=write".to_owned());
        Entry::new(Event::ForgeRefused(ForgeRefused { target, content, why, full: false }))
    };
    told.tell(refused(PostTarget::Status(commit('a'))));
    assert_eq!(summary(&told.state, &[]).forge, None, "of a commit that is nobody's any more");
    let (author, head) = ("ann".to_owned(), commit('a'));
    let open = PullObserved { number: 7, head, author, fork: false };
    told.tell(Entry::new(Event::PullObserved(open)));
    told.tell(refused(PostTarget::Comment(7)));
    let forge = summary(&told.state, &[]).forge.unwrap();
    assert_eq!((forge.refused, forge.why.as_deref()), (2, Some("it needs statuses=write")));
    told.tell(Entry::new(Event::PullClosed(PullClosed { number: 7, merged: false })));
    assert_eq!(summary(&told.state, &[]).forge, None);
}

/// A log being written.
#[derive(Default)]
struct Told {
    state: State,
    events: Vec<Recorded>,
}

impl Told {
    fn tell(&mut self, entry: Entry) -> &mut Self {
        let seq = self.state.seq + 1;
        let at = Timestamp::from_second(i64::try_from(seq).unwrap()).unwrap();
        let recorded = Recorded { seq, at, entry };
        self.state.apply(&recorded);
        self.events.push(recorded);
        self
    }

    fn of(&mut self, resource: &str, event: Event) -> &mut Self {
        self.tell(Entry::new(event).about(&id(resource)))
    }

    fn accepted(&mut self, changed: &[&str], removed: &[&str]) -> &mut Self {
        let spec = SpecAccepted {
            environment: Name::new("lab").unwrap(),
            desired: Digest::of("desired"),
            changed: changed.iter().map(|text| (id(text), wish())).collect(),
            removed: removed.iter().map(|text| id(text)).collect(),
            tree: None,
        };
        let commit: CommitId = "a".repeat(40).parse().unwrap();
        self.tell(Entry::new(Event::SpecAccepted(spec)).at_commit(&commit))
    }

    fn synced(&mut self, resource: &str) -> &mut Self {
        self.of(resource, Event::Synced(Synced { wish: wish(), claim: claim() }))
    }

    #[track_caller]
    fn is(&self, resource: &str, expected: &str) {
        let row = row_of(&self.state, &id(resource)).unwrap();
        let detail = row.status.detail();
        let shown = format!("{} {detail}", row.status.word());
        assert_eq!(shown.trim_end(), expected);
    }

    fn story(&self, resource: &str) -> Vec<String> {
        let mut story = Story::of(id(resource));
        self.events.iter().for_each(|recorded| story.take(recorded));
        let line = |recorded: &&Recorded| {
            let event = &recorded.entry.event;
            format!("{} {} {}", recorded.seq, event.type_name(), describe(event))
        };
        story.events().iter().map(line).collect()
    }
}

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

fn claim() -> Claim {
    let depends_on = Default::default();
    Claim { resource: None, prevent_destroy: false, orphan: false, depends_on }
}

fn wish() -> Digest {
    Digest::of("wish")
}

fn started(verb: &str, reason: Reason) -> Event {
    Event::StepStarted(StepStarted {
        plan: Digest::of("plan"),
        step: 0,
        verb: verb.into(),
        disruption: Disruption::None,
        reason,
        changes: Vec::new(),
        more: None,
        wish: Some(wish()),
        claim: None,
    })
}

fn failed(attempt: u32) -> Event {
    Event::StepFailed(StepFailed {
        plan: Digest::of("plan"),
        step: 0,
        fault: Fault::transient("libvirt is busy"),
        attempt,
        retry_at: Some(Timestamp::from_second(90).unwrap()),
        more: None,
    })
}

fn succeeded() -> Event {
    let (plan, facts) = (Digest::of("plan"), Default::default());
    Event::StepSucceeded(StepSucceeded { plan, step: 0, already: false, facts, elapsed_ms: 12 })
}

fn drifted(what: &str) -> Event {
    let change = FieldChange {
        path: "/memory/current".into(),
        from: Some(1.into()),
        to: None,
        disruption: Disruption::Live,
    };
    Event::Drifted(Drifted { changes: vec![change], more: None, what: what.into(), heal: true })
}

#[test]
fn a_resource_goes_through_its_statuses() {
    let mut told = Told::default();
    told.accepted(&["vm/web"], &[]).is("vm/web", "Progressing waiting");
    told.of("vm/web", started("define", Reason::Missing)).is("vm/web", "Progressing define");
    told.of("vm/web", failed(1))
        .is("vm/web", "Failed libvirt is busy (tried again at 00:01:30 UTC)");
    told.of("vm/web", started("define", Reason::Missing)).of("vm/web", succeeded());
    told.synced("vm/web").is("vm/web", "Synced");
    told.of("vm/web", drifted("stopped")).is("vm/web", "Drifted stopped");
    told.of("vm/web", Event::OperatorHeld(OperatorHeld { reason: "mine".into() }))
        .is("vm/web", "Held by trueup: mine");
    told.of("vm/web", Event::Unobservable(Unobservable { why: "libvirt is down".into() }))
        .is("vm/web", "Unobservable libvirt is down");
}

#[test]
fn what_is_left_alone_says_why() {
    let mut told = Told::default();
    told.accepted(&["vm/web", "vm/db", "disk/db"], &[]);
    let skip = |resource, why| Skipped { resource: id(resource), why, changes: Vec::new() };
    let skipped = [
        skip("vm/web", SkipReason::Foreign),
        skip("vm/db", SkipReason::Blocked(id("disk/db"))),
        skip("disk/db", SkipReason::ShrinkRefused),
    ];
    let shown: Vec<_> = rows(&told.state, &skipped, &[])
        .iter()
        .map(|row| format!("{}: {} {}", row.resource, row.status.word(), row.status.detail()))
        .collect();
    expect![[r#"
        [
            "disk/db: Held a disk is never shrunk",
            "vm/db: Blocked waits for disk/db",
            "vm/web: Foreign not ours: set lifecycle.adopt to take it over",
        ]
    "#]]
    .assert_debug_eq(&shown);
}

#[test]
fn fields_that_an_event_leaves_out_are_counted_and_where_they_are_is_said() {
    let (all, _) = crate::event::Spilled::of(b"[]".to_vec());
    let Event::Drifted(drifted) = drifted("changed") else { panic!("no drift") };
    let blob = all.blob.short().to_owned();
    let more = Some(MoreChanges { left_out: 8, all });
    let says = describe(&Event::Drifted(Drifted { more: more.clone(), ..drifted }));
    let end = format!("memory.current: 1 KiB → nothing, and 8 more (all: trueup log blob {blob})");
    assert_eq!(says, format!("changed: {end}"));
    let Event::StepStarted(step) = started("define", Reason::Drifted) else { panic!("no step") };
    let says = describe(&Event::StepStarted(StepStarted { more, ..step }));
    assert_eq!(says, format!("define (drifted): and 8 more (all: trueup log blob {blob})"));
}

#[test]
fn what_is_worth_knowing_stands_beside_any_status() {
    let mut told = Told::default();
    told.accepted(&["vm/web", "vm/db"], &[]).synced("vm/web");
    let note = Note { resource: id("vm/web"), what: Remark::EmulatedWithoutKvm };
    let rows = rows(&told.state, &[], &[note]);
    assert_eq!(rows[0].note, None);
    assert!(rows[1].status.is_synced());
    assert!(rows[1].note.as_deref().is_some_and(|note| note.starts_with("runs emulated")));
}

#[test]
fn a_pause_holds_what_is_to_be_done_and_nothing_else() {
    let mut told = Told::default();
    told.accepted(&["vm/web", "vm/db"], &[]).synced("vm/db");
    told.tell(
        Entry::new(Event::OperatorPaused(OperatorPaused { reason: "moving".into() }))
            .by("operator:ann"),
    );
    told.is("vm/web", "Held paused by operator:ann: moving");
    told.is("vm/db", "Synced");
}

#[test]
fn what_is_gone_from_the_commit_shows_until_it_is_gone_from_the_machine() {
    let mut told = Told::default();
    told.accepted(&["vm/web"], &[]).synced("vm/web").accepted(&[], &["vm/web"]);
    told.is("vm/web", "Progressing to be removed");
    assert!(!rows(&told.state, &[], &[])[0].wanted);
    told.of("vm/web", Event::Pruned(Pruned { wish: None }));
    assert!(rows(&told.state, &[], &[]).is_empty());
}

#[test]
fn the_story_starts_at_the_last_drift_and_keeps_what_it_was_before() {
    let mut told = Told::default();
    told.accepted(&["vm/web"], &[]);
    told.of("vm/web", started("define", Reason::Missing)).of("vm/web", succeeded());
    told.synced("vm/web").accepted(&["vm/db"], &[]);
    told.of("vm/web", drifted("stopped")).of("vm/db", drifted("missing"));
    told.of("vm/web", started("start", Reason::Drifted)).of("vm/web", failed(1));
    expect![[r#"
        [
            "1 spec.accepted environment lab: 1 changed, 0 removed",
            "4 resource.synced the machine is what the commit asks for",
            "6 resource.drifted stopped: memory.current: 1 KiB → nothing",
            "8 step.started start (drifted)",
            "9 step.failed try 1: libvirt is busy",
        ]
    "#]]
    .assert_debug_eq(&told.story("vm/web"));
}

#[test]
fn a_long_story_keeps_its_end() {
    let mut told = Told::default();
    told.accepted(&["vm/web"], &[]);
    for attempt in 0..100 {
        told.of("vm/web", failed(attempt));
    }
    let story = told.story("vm/web");
    assert_eq!(story.len(), STORY_MAX + 1);
    assert!(story[0].contains("spec.accepted") && story[STORY_MAX].contains("try 99"));
}

#[test]
fn drifts_and_counts() {
    let mut told = Told::default();
    told.accepted(&["vm/web", "vm/db"], &[]).synced("vm/web").synced("vm/db");
    told.of("vm/web", drifted("stopped"));
    let drifts = drifts(&told.state);
    assert_eq!((drifts.len(), drifts[0].what.as_str()), (1, "stopped"));
    let summary = summary(&told.state, &rows(&told.state, &[], &[]));
    assert_eq!(summary.counts, [("Drifted".into(), 1), ("Synced".into(), 1)].into());
}
