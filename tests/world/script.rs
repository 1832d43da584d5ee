//! Scenarios as text: a script of what happens, and the transcript of what trueup did about it.
//!
//! A line is a command; `#` begins a comment; `write PATH <<END` is followed by the file's lines, and
//! `edit PATH FROM => TO` replaces the first FROM in it.

use std::fmt::Write as _;
use std::time::Duration;

use trueup::event::{Event, Recorded};
use trueup::model::{Fault, ResourceId};
use trueup::port::Clock;
use trueup::reconcile::{Approval, PassError, PassOptions, PassReport};
use trueup::state::{Command, decide};

use super::World;
use super::host::Trouble;

/// Runs `script` and gives its transcript.
pub(crate) async fn run(script: &str) -> String {
    let mut world = World::new().await;
    let mut transcript = String::new();
    let mut shown = world.log.events().len();
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix("write ") {
            let (path, end) = rest.split_once(" <<").expect("write PATH <<END");
            let body: Vec<_> = lines.by_ref().take_while(|line| line.trim() != end).collect();
            world.remote.write(path, &(body.join("\n") + "\n"));
            continue;
        }
        writeln!(transcript, "> {line}").unwrap();
        let said = command(&mut world, line).await;
        let events = world.log.events();
        for event in &events[shown..] {
            writeln!(transcript, "  {}", describe(event)).unwrap();
        }
        shown = events.len();
        transcript.push_str(&said);
        world.check_invariants();
    }
    transcript
}

async fn command(world: &mut World, line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    let id = |text: &str| -> ResourceId { text.parse().unwrap() };
    match words.as_slice() {
        ["pass"] => report(world.pass().await),
        ["retry"] => {
            let options = PassOptions { retry_now: true, ..PassOptions::default() };
            report(world.program.pass(options).await)
        }
        ["apply", rest @ ..] => {
            let digest = world.state().plan.map(|plan| plan.plan.to_string());
            let plan = rest.first().map(|text| (*text).to_owned()).or(digest).unwrap_or_default();
            let approve = Some(Approval { plan, actor: "operator:ann".to_owned() });
            report(world.program.pass(PassOptions { retry_now: true, approve, wait: true }).await)
        }
        ["settle"] => report(Ok(world.settle().await)),
        ["commit", subject @ ..] => {
            world.remote.commit(&subject.join(" "));
            String::new()
        }
        ["rewind", n] => {
            world.remote.rewind(n.parse().unwrap());
            String::new()
        }
        ["edit", path, ..] => {
            let (from, to) = line.split_once(path).unwrap().1.split_once(" => ").expect("=>");
            world.remote.edit(path, from.trim(), &to.trim().replace("\\n", "\n"));
            String::new()
        }
        ["delete", path] => {
            world.remote.delete(path);
            String::new()
        }
        ["refuse", path, why @ ..] => {
            world.remote.refuse(path, &why.join(" "));
            String::new()
        }
        ["remote", "hangs"] => {
            world.remote.set_hang(true);
            String::new()
        }
        ["remote", "answers"] => {
            world.remote.set_hang(false);
            String::new()
        }
        ["remote", "down"] => {
            world.remote.set_down(true);
            String::new()
        }
        ["remote", "up"] => {
            world.remote.set_down(false);
            String::new()
        }
        ["signer", "nobody"] => {
            world.remote.set_signer(Err("it is not signed".into()));
            String::new()
        }
        ["signer", who] => {
            world.remote.set_signer(Ok((*who).to_owned()));
            String::new()
        }
        ["host", "down", why @ ..] => {
            world.host.set_down(Some(&why.join(" ")));
            String::new()
        }
        ["host", "up"] => {
            world.host.set_hang(false);
            {
                world.host.set_down(None);
                String::new()
            }
        }
        ["kvm", works @ ("works" | "fails")] => {
            world.host.set_kvm(*works == "works");
            String::new()
        }
        ["host", "hangs"] => {
            world.host.set_hang(true);
            String::new()
        }
        ["stop", what] => {
            world.host.stop(&id(what));
            String::new()
        }
        ["start", what] => {
            world.host.start(&id(what));
            String::new()
        }
        ["remove", what] => {
            world.host.remove(&id(what));
            String::new()
        }
        ["foreign", what] => {
            world.host.make_foreign(&id(what));
            String::new()
        }
        ["other", what, environment] => {
            world.host.make_others(&id(what), environment);
            String::new()
        }
        ["protect", what] => {
            world.settings().own.resources.insert(id(what));
            String::new()
        }
        ["own", "folder", path] => {
            world.settings().own.folders.insert((*path).to_owned());
            String::new()
        }
        ["own", "address", address] => {
            world.settings().own.addresses.insert(address.parse().unwrap());
            String::new()
        }
        ["repository", url] => {
            world.remote.follow(url, false);
            String::new()
        }
        ["repository", url, "fresh"] => {
            world.remote.follow(url, true);
            String::new()
        }
        ["undo", what, times] => {
            world.host.undo(&id(what), times.parse().unwrap());
            String::new()
        }
        ["set", what, pointer, value] => {
            world.host.set(&id(what), pointer, &serde_json::from_str(value).unwrap());
            String::new()
        }
        ["trouble", what, verb, kind] => {
            let busy = Fault::transient(format!("{what}: busy"));
            let trouble = match *kind {
                "fails" => Trouble::Fail(busy),
                "refused" => Trouble::Fail(Fault::permanent(format!("{what}: not supported"))),
                "fails-after" => Trouble::FailAfter(busy),
                "needs-human" => Trouble::Fail(Fault::needs_human(
                    format!("{what}: a file that is not ours is there"),
                    "remove it",
                )),
                "lies" => Trouble::Lie,
                "panics" => Trouble::Panic,
                other => panic!("no trouble of kind {other}"),
            };
            {
                world.host.trouble(&id(what), &verb.replace('-', " "), trouble);
                String::new()
            }
        }
        ["slow", what, verb, seconds] => {
            let trouble = Trouble::Slow(Duration::from_secs(seconds.parse().unwrap()));
            world.host.trouble(&id(what), verb, trouble);
            String::new()
        }
        ["parallel", steps] => {
            world.set_parallel(steps.parse().unwrap());
            String::new()
        }
        ["crash", n] => {
            world.crash.arm(n.parse().unwrap());
            String::new()
        }
        ["restart"] => {
            world.restart().await;
            String::new()
        }
        ["disk", "full"] => {
            world.log.set_full(true);
            String::new()
        }
        ["disk", "full", "after", appends] => {
            world.log.full_after(appends.parse().unwrap());
            String::new()
        }
        ["disk", "free"] => {
            world.log.set_full(false);
            String::new()
        }
        ["time"] => format!("  {} s\n", world.clock.monotonic().as_secs()),
        ["wait", seconds] => {
            world.clock.sleep(Duration::from_secs(seconds.parse().unwrap())).await;
            String::new()
        }
        ["clock", seconds] => {
            let by = jiff::SignedDuration::from_secs(seconds.parse().unwrap());
            {
                world.clock.jump(by);
                String::new()
            }
        }
        ["status"] => status(world),
        ["blobs"] => format!("  {} blobs read\n", world.remote.blobs_read()),
        ["effects"] => world.host.effects().iter().map(|e| format!("  {e}\n")).collect(),
        ["operator", verb, rest @ ..] => operator(world, verb, rest).await,
        other => panic!("no such command: {other:?}"),
    }
}

async fn operator(world: &World, verb: &str, rest: &[&str]) -> String {
    let command = match (verb, rest) {
        ("pause", why) => Command::Pause { reason: why.join(" ") },
        ("resume", []) => Command::Resume,
        ("hold", [what, why @ ..]) => {
            Command::Hold { resource: what.parse().unwrap(), reason: why.join(" ") }
        }
        ("release", [what]) => Command::Release { resource: what.parse().unwrap() },
        ("approve", []) => {
            let plan = world.state().plan.expect("a plan").plan.to_string();
            Command::Approve { plan }
        }
        ("accept-rewrite", []) => Command::AcceptRewrite { commit: world.remote.head() },
        other => panic!("no such operator command: {other:?}"),
    };
    let decided = world.program.ledger.decide(|state| decide(state, &command, "operator:ann"));
    match decided.await {
        Ok(_) => String::new(),
        Err(refusal) => format!("  refused: {refusal}\n"),
    }
}

fn report(result: Result<PassReport, PassError>) -> String {
    match result {
        Err(error) => format!("  = ended early: {error}\n"),
        Ok(report) => {
            let mut text = String::new();
            for skip in report.plan.iter().flat_map(|plan| &plan.skipped) {
                writeln!(text, "  - {} left alone: {:?}", skip.resource, skip.why).unwrap();
            }
            let notes = report.plan.iter().flat_map(|plan| &plan.notes);
            for note in notes.filter(|note| note.what.asks_for_a_choice()) {
                writeln!(text, "  - {} note: {:?}", note.resource, note.what).unwrap();
            }
            for reason in &report.held {
                writeln!(text, "  - held: {reason}").unwrap();
            }
            if !report.under_way.is_empty() {
                let ids: Vec<_> = report.under_way.iter().map(ToString::to_string).collect();
                writeln!(text, "  - under way: {}", ids.join(", ")).unwrap();
            }
            let PassReport { succeeded, failed, blocked, .. } = report;
            writeln!(text, "  = {succeeded} done, {failed} failed, {blocked} blocked").unwrap();
            text
        }
    }
}

fn status(world: &World) -> String {
    let state = world.state();
    let mut text = String::new();
    if let Some(refused) = &state.source.refused {
        writeln!(text, "  refused head: {}", refused.why).unwrap();
    }
    for (id, resource) in &state.resources {
        let mut words = Vec::new();
        match (&resource.wish, &resource.applied) {
            (Some(wish), Some(applied)) if applied.wish == *wish => words.push("synced".to_owned()),
            (Some(_), _) => words.push("wished".to_owned()),
            (None, _) => words.push("gone".to_owned()),
        }
        if let Some(drift) = &resource.drift {
            words.push(format!("drifted ({})", drift.what));
        }
        if let Some(failure) = &resource.failure {
            words.push(format!("failed {} time(s): {}", failure.attempts, failure.fault));
        }
        if let Some(why) = &resource.unobservable {
            words.push(format!("unobservable: {why}"));
        }
        if let Some(hold) = &resource.hold {
            words.push(format!("held by {}", hold.by));
        }
        if resource.in_flight.is_some() {
            words.push("in flight".to_owned());
        }
        writeln!(text, "  {id}: {}", words.join(", ")).unwrap();
    }
    text
}

/// An event in a line, without what differs for no reason (digests, times).
fn describe(recorded: &Recorded) -> String {
    let entry = &recorded.entry;
    let mut line = entry.event.type_name().to_owned();
    if let Some(subject) = &entry.subject {
        write!(line, " {subject}").unwrap();
    }
    if entry.actor != trueup::event::ACTOR_SELF {
        write!(line, " by {}", entry.actor).unwrap();
    }
    let detail = match &entry.event {
        Event::StepStarted(step) => {
            format!("{} ({:?}, {:?})", step.verb, step.reason, step.disruption)
        }
        Event::StepFailed(step) => format!("attempt {}: {}", step.attempt, step.fault),
        Event::Drifted(drift) => {
            let paths: Vec<_> = drift.changes.iter().map(|change| change.path.as_str()).collect();
            let more = drift.more.as_ref();
            let more = more.map_or(String::new(), |more| format!(" and {} more", more.left_out));
            format!("{} {}{more} heal: {}", drift.what, paths.join(" "), drift.heal)
        }
        Event::PlanMade(plan) if plan.beside.is_some() => {
            format!("{} step(s), beside the plan that waits", plan.total)
        }
        Event::PlanMade(plan) => format!("{} step(s)", plan.total),
        Event::PlanHeld(plan) => plan.reasons.join("; "),
        Event::PlanFinished(plan) => {
            format!("{} done, {} failed, {} blocked", plan.succeeded, plan.failed, plan.blocked)
        }
        Event::SpecAccepted(spec) => {
            format!("{} changed, {} removed", spec.changed.len(), spec.removed.len())
        }
        Event::SpecRejected(spec) => {
            let all: Vec<_> = spec
                .problems
                .iter()
                .map(|p| format!("{}:{}:{} {}", p.path, p.line, p.column, p.message))
                .collect();
            all.join("; ")
        }
        Event::Moved(moved) => format!("was {}", moved.from),
        Event::SourceRekeyed(rekeyed) => {
            format!("{}, not {}", rekeyed.repository, rekeyed.previous)
        }
        Event::RewriteRefused(refused) => refused.relation.clone(),
        Event::SourceUnreachable(unreachable) => unreachable.error.clone(),
        Event::SignatureRejected(rejected) => rejected.why.clone(),
        Event::Unobservable(unobservable) => unobservable.why.clone(),
        _ => String::new(),
    };
    if !detail.is_empty() {
        write!(line, ": {}", detail.trim()).unwrap();
    }
    line
}
