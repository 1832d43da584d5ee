//! GPU layouts: the change with the least loss, from the exact search of `trueup_mig`, as steps; GPUs
//! that go to guests and come back (`handover`), and those that guests share (`share`).
//!
//! Nothing in use is destroyed, except what belongs to a declared client, which is stopped for it.

mod handover;
mod names;
mod parts;
mod remove;
mod rival;
mod share;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use trueup_mig::picture::Picture;
use trueup_mig::{Board, Holder, Instance, Layout, Outcome, Placed, Step, Target, Wish, plan};

use super::super::diff::{Diff, segment};
use super::super::{Action, Disruption, FieldChange, GpuChange, Reason, Remark, SkipReason};
use super::{Case, Draft, Verdict};
use crate::model::ResourceId;
use crate::model::resource::{
    GpuClient, GpuLayout, GpuMemory, GpuMigState, GpuMode, GpuState, GpuSwitch, OnBusy, Partition,
};
use parts::{action, units_of, with_clients};

pub(in super::super) use remove::remove;
pub(super) use rival::layout_of;

/// What has to be done for a GPU.
pub(in super::super) fn decide(
    case: &Case<'_, '_>,
    to: &GpuLayout,
    from: Option<&GpuLayout>,
) -> Verdict {
    let mut verdict = Verdict::default();
    if let Some(why) = rival::machine_of(case.facts, case.id) {
        verdict.skip(why, Vec::new());
        return verdict;
    }
    if let Some(from) = from
        && (share::decide(case, to, from, &mut verdict)
            || handover::decide(case, to, from, &mut verdict))
    {
        return verdict;
    }
    let Some((from, state)) = from.and_then(|from| Some((from, from.state.as_deref()?))) else {
        let why = "the GPU was not looked at".to_owned();
        verdict.skip(SkipReason::Unobservable(why), Vec::new());
        return verdict;
    };
    if let Some(owner) = state.co_owners.first().filter(|_| to.takeover != Some(true)) {
        let why = format!(
            "{owner} cuts GPUs on this machine too: remove it, or set `takeover: true` once it \
             leaves this GPU alone"
        );
        verdict.skip(SkipReason::Conflict(why), Vec::new());
        return verdict;
    }
    let scene = Scene::new(case, to, from, state);
    if let Err((why, changes)) = scene.decide(&mut verdict) {
        verdict.skip(why, changes);
    }
    verdict
}

/// Why nothing is done, with the differences that are left.
type Refused = (SkipReason, Vec<FieldChange>);

/// One GPU to decide on.
struct Scene<'a> {
    id: &'a ResourceId,
    reason: Reason,
    to: &'a GpuLayout,
    state: &'a GpuState,
    memory: GpuMemory,
    /// What stands on it, with holders that may be stopped marked as such.
    instances: Vec<Instance>,
}

impl<'a> Scene<'a> {
    fn new(
        case: &Case<'a, '_>,
        to: &'a GpuLayout,
        from: &'a GpuLayout,
        state: &'a GpuState,
    ) -> Self {
        Self {
            id: case.id,
            reason: case.reason,
            to,
            state,
            memory: from.memory.as_deref().cloned().unwrap_or_default(),
            instances: with_clients(&state.instances, &to.clients),
        }
    }

    fn decide(&self, verdict: &mut Verdict) -> Result<(), Refused> {
        let cut = self.to.mode == GpuMode::Mig;
        let Some(mig) = self.state.mig else {
            if cut {
                let why = format!(
                    "{} ({}) has no MIG mode: the board or its driver has none, or its display \
                     mode is not `compute`",
                    self.state.uuid, self.state.product
                );
                return Err((SkipReason::Unplaceable(why), Vec::new()));
            }
            return self.finish(verdict, None, Vec::new());
        };
        if mig.current != mig.pending {
            return self.pending(verdict, cut, mig);
        }
        let mode = (mig.current != cut).then_some(cut);
        if mode.is_some() {
            self.may_change_mode(mig.current)?;
        }
        if !cut && mode.is_none() {
            return self.finish(verdict, None, Vec::new());
        }
        let Some(board) = &self.state.board else {
            if mode == Some(true) {
                // What it can be cut into is told once it is cut: the next pass goes on from there.
                return self.finish(verdict, Some((true, None)), self.mode_change(mig.current));
            }
            let why = "the driver tells no profiles of this GPU".to_owned();
            return Err((SkipReason::Unplaceable(why), Vec::new()));
        };
        let target = match cut {
            true => self.target(board, verdict)?,
            false => Target::default(),
        };
        let outcome = plan(board, &self.instances, &target);
        let outcome =
            outcome.map_err(|why| (SkipReason::Unplaceable(words::chain(&why)), Vec::new()))?;
        match outcome {
            Outcome::Ready(way) => {
                verdict.picture = Some(Picture::of(board, &self.instances, &way));
                let mut changes = mode.map(|_| self.mode_change(mig.current)).unwrap_or_default();
                changes.extend(self.changes(board, &way.after));
                self.steps(verdict, board, &way, mode, changes);
                Ok(())
            }
            Outcome::Blocked { needs, wanted, nearest } => {
                verdict.picture = Some(Picture::between(board, &self.instances, &wanted));
                let mut why = words::needs(board, &needs);
                if let Some(nearest) = &nearest {
                    why += &words::nearest(board, &target, nearest);
                }
                let why = match self.to.on_busy.unwrap_or_default() {
                    OnBusy::Refuse => SkipReason::Busy(why),
                    OnBusy::Wait => SkipReason::BusyWaits(why),
                };
                Err((why, self.changes(board, &wanted)))
            }
            Outcome::Unplaceable { why, nearest } => {
                verdict.picture = Some(Picture::now(board, &self.instances));
                let mut why = why.to_string();
                if let Some(nearest) = &nearest {
                    why += &words::nearest(board, &target, nearest);
                }
                Err((SkipReason::Unplaceable(why), Vec::new()))
            }
        }
    }

    /// The wish in profiles of the board, also where the driver calls them otherwise by now.
    fn target(&self, board: &Board, verdict: &mut Verdict) -> Result<Target, Refused> {
        let mut wishes: Vec<Wish> = self.to.partitions.iter().map(Partition::wish).collect();
        if names::recognise(&mut wishes, board, &self.memory.called) {
            verdict.remark = Some(Remark::ProfileRenamed);
        }
        trueup_mig::resolve(board, &wishes)
            .map_err(|why| (SkipReason::Unplaceable(why.to_string()), Vec::new()))
    }

    /// A mode that waits for a reset: nothing else is done before it.
    fn pending(&self, verdict: &mut Verdict, cut: bool, mig: GpuMigState) -> Result<(), Refused> {
        let mut diff = Diff::default();
        diff.field(format_args!("/mode"), &word(mig.current), &word(cut), Disruption::Restart);
        if diff.changes.is_empty() {
            diff.push(
                format_args!("/mode/pending"),
                Some(word(mig.pending)),
                Some(word(cut)),
                Disruption::Restart,
            );
        }
        if self.to.allow_reset == Some(true) && mig.pending == cut {
            self.idle().map_err(|(why, _)| (why, diff.changes.clone()))?;
            return self.finish(verdict, Some((cut, Some(true))), diff.changes);
        }
        let why = format!(
            "it is used as {} and will be as {} after a reset: reset the GPU (`nvidia-smi \
             --gpu-reset -i {}`) or reboot the machine",
            word(mig.current),
            word(mig.pending),
            self.state.uuid
        );
        Err((SkipReason::NeedsReset(why), diff.changes))
    }

    fn may_change_mode(&self, current: bool) -> Result<(), Refused> {
        let changes = || self.mode_change(current);
        if !self.state.hot && self.to.allow_reset != Some(true) {
            let why = format!(
                "changing the mode of a GPU of this kind ({}) needs a reset of it: set \
                 `allowReset: true`, or do it by hand (`nvidia-smi -i {} -mig {}`, then reset)",
                self.state.architecture,
                self.state.uuid,
                u8::from(!current)
            );
            return Err((SkipReason::NeedsReset(why), changes()));
        }
        self.idle().map_err(|(why, _)| (why, changes()))
    }

    /// Whether nobody but declared clients uses the GPU as a whole.
    fn idle(&self) -> Result<(), Refused> {
        let declared = |holder: &Holder| {
            self.to.clients.iter().any(|it| holder.unit.as_ref() == Some(&it.unit))
        };
        let busy: Vec<String> = self
            .state
            .holders
            .iter()
            .filter(|holder| !declared(holder))
            .map(ToString::to_string)
            .collect();
        if busy.is_empty() {
            return Ok(());
        }
        let why = format!("the GPU as a whole is used by {}", busy.join(", "));
        Err(match self.to.on_busy.unwrap_or_default() {
            OnBusy::Refuse => (SkipReason::Busy(why), Vec::new()),
            OnBusy::Wait => (SkipReason::BusyWaits(why), Vec::new()),
        })
    }

    fn mode_change(&self, current: bool) -> Vec<FieldChange> {
        let mut diff = Diff::default();
        diff.field(format_args!("/mode"), &word(current), &word(!current), Disruption::Restart);
        diff.changes
    }

    /// What differs, by partition; what has no name goes by its label.
    fn changes(&self, board: &Board, after: &Layout) -> Vec<FieldChange> {
        // What stays goes by the name it gets.
        let named = |placed: Placed| after.part(placed).and_then(|part| part.name.clone());
        let of = |layout: &Layout| -> BTreeMap<String, (String, Option<String>)> {
            let one = |part: &trueup_mig::Part| {
                let now = named(part.placed).or_else(|| part.name.clone());
                let until_now = part.name.clone().filter(|name| Some(name) != now.as_ref());
                let name = now.unwrap_or_else(|| board.label(part.placed));
                (name, (words::part(board, part), until_now))
            };
            layout.parts.iter().map(one).collect()
        };
        let (before, after) = (of(&Layout::of(&self.instances)), of(after));
        let mut diff = Diff::default();
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            let to = after.get(name).map(|(words, _)| words.clone());
            let (from, disruption) = match before.get(name) {
                None => (None, Disruption::None),
                Some((words, until_now)) => {
                    let same = Some(words) == to.as_ref();
                    let from = match until_now {
                        Some(until_now) => format!("{words} as {until_now}"),
                        None => words.clone(),
                    };
                    (Some(from), if same { Disruption::None } else { Disruption::Restart })
                }
            };
            let path = format_args!("/partitions/{}", segment(name)).to_string();
            diff.optional(format_args!("{path}"), &from, &to, disruption);
        }
        diff.changes
    }

    /// The steps of a way that was found, the mode changed at the right end of it.
    fn steps(
        &self,
        verdict: &mut Verdict,
        board: &Board,
        way: &trueup_mig::Plan,
        mode: Option<bool>,
        changes: Vec<FieldChange>,
    ) {
        let stopped = self.stopped(way, mode.is_some());
        let renamed = self.instances.iter().any(|instance| {
            way.after.part(instance.placed).is_some_and(|part| part.name != instance.name)
        });
        let asleep = stopped.iter().any(|unit| !self.state.running.contains(unit));
        let idle = way.steps.is_empty() && mode.is_none();
        // A change that was interrupted after its last step is proved and told of all the same.
        let open = self.memory.before.is_some();
        if idle && !renamed && !asleep && !open && self.reason != Reason::Adopted {
            return;
        }
        let before = self.memory.before.clone().unwrap_or_else(|| way.before.clone());
        let memory = GpuMemory {
            layout: way.after.clone(),
            before: Some(before),
            devices: self.devices(),
            switched: self.switched(mode),
            stopped: stopped.clone(),
            called: names::called(&self.to.partitions, Some(board), &self.memory.called),
            ..GpuMemory::default()
        };
        let change = self.change(memory);
        let mut actions = Vec::new();
        let disturbed = !idle || !way.stops.is_empty();
        if disturbed && stopped.iter().any(|unit| self.state.running.contains(unit)) {
            let action = Action::GpuStopClients { change: Box::new(change.clone()) };
            actions.push((action, Disruption::Restart));
        }
        let switch = |on| Action::GpuMigMode {
            on,
            reset: self.to.allow_reset == Some(true),
            change: Box::new(change.clone()),
        };
        if mode == Some(true) {
            actions.push((switch(true), Disruption::Restart));
        }
        let names = |placed: Placed| {
            let part = way.after.part(placed).or_else(|| way.before.part(placed));
            part.and_then(|part| part.name.clone())
        };
        for step in &way.steps {
            let disruption = match step {
                Step::DestroyCompute { .. } | Step::DestroyInstance { .. } => Disruption::Restart,
                Step::CreateInstance { .. } | Step::CreateCompute { .. } => Disruption::None,
            };
            actions.push((action(board, step, &change, &names), disruption));
        }
        if mode == Some(false) {
            actions.push((switch(false), Disruption::Restart));
        }
        let settle = Action::GpuSettle { start: stopped, change: Box::new(change) };
        actions.push((settle, Disruption::None));
        self.drafts(verdict, actions, changes);
    }

    /// Where nothing of the cut changes: a mode to set (and whether by a reset alone), or clients to
    /// start that an interrupted change left behind.
    fn finish(
        &self,
        verdict: &mut Verdict,
        mode: Option<(bool, Option<bool>)>,
        changes: Vec<FieldChange>,
    ) -> Result<(), Refused> {
        let stopped = self.memory.stopped.clone();
        let asleep = stopped.iter().any(|unit| !self.state.running.contains(unit));
        let open = self.memory.before.is_some();
        if mode.is_none() && !asleep && !open && self.reason != Reason::Adopted {
            return Ok(());
        }
        let layout = Layout::of(&self.instances);
        let before = self.memory.before.clone().or_else(|| mode.map(|_| layout.clone()));
        let board = self.state.board.as_ref();
        let called = names::called(&self.to.partitions, board, &self.memory.called);
        let change = self.change(GpuMemory {
            layout,
            before,
            devices: self.devices(),
            switched: self.switched(mode.map(|(on, _)| on)),
            stopped: stopped.clone(),
            called,
            ..GpuMemory::default()
        });
        let mut actions = Vec::new();
        if let Some((on, _)) = mode {
            let reset = self.to.allow_reset == Some(true);
            let switch = Action::GpuMigMode { on, reset, change: Box::new(change.clone()) };
            actions.push((switch, Disruption::Restart));
        }
        let settle = Action::GpuSettle { start: stopped, change: Box::new(change) };
        actions.push((settle, Disruption::None));
        self.drafts(verdict, actions, changes);
        Ok(())
    }

    /// The MIG devices there were before this change, or before the one that was interrupted.
    fn devices(&self) -> BTreeMap<String, Vec<String>> {
        match self.memory.before {
            Some(_) => self.memory.devices.clone(),
            None => self.state.devices.clone(),
        }
    }

    /// How the mode was before this change, or before the one that was interrupted.
    fn switched(&self, mode: Option<bool>) -> Option<GpuSwitch> {
        let reset = self.to.allow_reset == Some(true);
        self.memory.switched.or_else(|| mode.map(|on| GpuSwitch { from: !on, reset }))
    }

    fn change(&self, memory: GpuMemory) -> GpuChange {
        let on_busy = self.to.on_busy.unwrap_or_default();
        let memory = GpuMemory { gpu: Some(self.state.uuid.clone()), ..memory };
        GpuChange { gpu: self.state.uuid.clone(), on_busy, memory }
    }

    /// Units to start at the end: those stopped for this change, and for one that was interrupted.
    fn stopped(&self, way: &trueup_mig::Plan, whole: bool) -> Vec<String> {
        let touched =
            |instance: &&Instance| way.steps.iter().any(|step| step.instance() == instance.placed);
        let names: Vec<&str> =
            self.instances.iter().filter(touched).filter_map(|it| it.name.as_deref()).collect();
        let affected = |client: &&GpuClient| {
            self.state.running.contains(&client.unit)
                && (whole || names.iter().any(|name| client.uses(name)))
        };
        let clients = self.to.clients.iter().filter(affected).map(|it| it.unit.clone());
        let mut units: BTreeSet<String> = self.memory.stopped.iter().cloned().collect();
        units.extend(clients);
        units.extend(units_of(&way.stops));
        units.into_iter().collect()
    }

    /// Turns actions into drafts: the differences are told with the first.
    fn drafts(
        &self,
        verdict: &mut Verdict,
        actions: Vec<(Action, Disruption)>,
        mut changes: Vec<FieldChange>,
    ) {
        for (at, (action, disruption)) in actions.into_iter().enumerate() {
            let reason = match self.reason {
                // What is taken over is ours from its first step on.
                Reason::Adopted if at > 0 => Reason::Changed,
                reason => reason,
            };
            let draft = Draft::quiet(action, reason, std::mem::take(&mut changes));
            let interrupts = match disruption >= Disruption::Restart {
                true => BTreeSet::from([self.id.clone()]),
                false => BTreeSet::new(),
            };
            verdict.step(draft.disturbing(disruption, interrupts));
        }
    }
}

fn word(cut: bool) -> &'static str {
    if cut { "mig" } else { "whole" }
}
