//! From blocks and bonds to numbered steps: a deterministic topological order.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::work::{At, Bond, Edge, Work, rank};
use super::{Action, Disruption, SkipReason, Step};
use crate::model::{Name, ResourceId};

/// Orders what has not fallen. Removals come first where nothing else decides, then lower kinds,
/// then names.
pub(super) fn steps(work: &mut Work<'_>) -> Vec<Step> {
    loop {
        if let Some(steps) = attempt(work) {
            return steps;
        }
        work.settle();
    }
}

/// Orders what stands; or lets blocks fall that wait for themselves, of which there is one fewer
/// with every attempt.
fn attempt(work: &mut Work<'_>) -> Option<Vec<Step>> {
    let mut places: Vec<At> = Vec::new();
    for (at, block) in work.blocks.iter().enumerate() {
        if block.skip.is_none() {
            places.extend((0..block.drafts.len()).map(|step| (at, step)));
        }
    }
    places.sort_by_key(|&(at, step)| {
        let block = &work.blocks[at];
        let rank = rank(block.id.kind);
        let rank = if block.build { rank } else { usize::MAX - rank };
        (block.build, rank, block.id.name.clone(), at, step)
    });
    let index: HashMap<At, usize> = places.iter().enumerate().map(|(i, &at)| (at, i)).collect();
    let mut edges = bonds(work, &index);
    let order = loop {
        match sorted(places.len(), &edges) {
            Ok(order) => break order,
            Err(stuck) => soften(work, &places, &mut edges, &stuck)?,
        }
    };
    Some(number(work, &places, &edges, &order))
}

/// A bond between two steps by their place in the sorted list.
type Arc = (usize, usize, Bond);

/// Every bond between steps that are done, those within a block included.
fn bonds(work: &Work<'_>, index: &HashMap<At, usize>) -> Vec<Arc> {
    let mut arcs: BTreeSet<Arc> = BTreeSet::new();
    for (&(at, step), &to) in index {
        if step > 0
            && let Some(&from) = index.get(&(at, step - 1))
        {
            arcs.insert((from, to, Bond::Hard));
        }
    }
    for &Edge { from, to, bond } in &work.edges {
        if let (Some(&from), Some(&to)) = (index.get(&from), index.get(&to)) {
            arcs.insert((from, to, bond));
        }
    }
    arcs.into_iter().collect()
}

/// A topological order that takes the lowest ready step first; or the steps that wait for each other.
fn sorted(count: usize, arcs: &[Arc]) -> Result<Vec<usize>, Vec<usize>> {
    let mut waiting = vec![0usize; count];
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); count];
    for &(from, to, _) in arcs {
        waiting[to] += 1;
        next[from].push(to);
    }
    let ready = (0..count).filter(|&step| waiting[step] == 0);
    let mut ready: BinaryHeap<Reverse<usize>> = ready.map(Reverse).collect();
    let mut order = Vec::with_capacity(count);
    while let Some(Reverse(step)) = ready.pop() {
        order.push(step);
        for &to in &next[step] {
            waiting[to] -= 1;
            if waiting[to] == 0 {
                ready.push(Reverse(to));
            }
        }
    }
    if order.len() == count {
        Ok(order)
    } else {
        Err((0..count).filter(|&step| waiting[step] > 0).collect())
    }
}

/// Breaks the softest bonds on the cycles among `stuck`: a domain then loses its network for a while
/// rather than the whole plan being impossible.
///
/// Where none is soft, the change cannot be made in one go: `None`, and the blocks have fallen.
fn soften(work: &mut Work<'_>, places: &[At], arcs: &mut Vec<Arc>, stuck: &[usize]) -> Option<()> {
    let mut graph = DiGraph::<usize, ()>::new();
    let nodes: HashMap<usize, NodeIndex> =
        stuck.iter().map(|&step| (step, graph.add_node(step))).collect();
    for (from, to, _) in arcs.iter() {
        if let (Some(&from), Some(&to)) = (nodes.get(from), nodes.get(to)) {
            graph.add_edge(from, to, ());
        }
    }
    let mut group: HashMap<usize, usize> = HashMap::new();
    for (number, members) in tarjan_scc(&graph).into_iter().enumerate() {
        if members.len() > 1 {
            group.extend(members.into_iter().map(|node| (graph[node], number)));
        }
    }
    let inside = |&(from, to, _): &Arc| {
        from == to || (group.contains_key(&from) && group.get(&from) == group.get(&to))
    };
    let softest = arcs.iter().filter(|arc| inside(arc)).map(|&(.., bond)| bond).min();
    let Some(softest) = softest.filter(|&bond| bond < Bond::Hard) else {
        let caught = stuck.iter().filter(|step| group.contains_key(step));
        give_up(work, caught.map(|&step| places[step].0).collect());
        return None;
    };
    let mut cut: Vec<Arc> = Vec::new();
    arcs.retain(|arc| {
        let goes = inside(arc) && arc.2 == softest;
        if goes {
            cut.push(*arc);
        }
        !goes
    });
    for (from, to, bond) in cut {
        let (user, _) = places[from];
        let (removal, step) = places[to];
        if bond == Bond::Release {
            let interrupted = work.facts.interrupted_with(&work.blocks[user].id);
            let draft = &mut work.blocks[removal].drafts[step];
            draft.interrupts.extend(interrupted);
        }
    }
    Some(())
}

/// Lets blocks fall that wait for each other: what would be lost first, else all of them.
fn give_up(work: &mut Work<'_>, caught: BTreeSet<usize>) {
    let removing = |at: &usize| {
        let drafts = &work.blocks[*at].drafts;
        drafts.iter().any(|draft| draft.action.removes())
    };
    let first: BTreeSet<usize> = caught.iter().copied().filter(removing).collect();
    for at in if first.is_empty() { caught } else { first } {
        let why = "its steps would wait for each other: make the change in two commits";
        work.refuse(at, SkipReason::Conflict(why.to_owned()));
    }
}

/// Turns the order into steps, each waiting for no more than it has to be told.
fn number(work: &mut Work<'_>, places: &[At], arcs: &[Arc], order: &[usize]) -> Vec<Step> {
    let mut position = vec![0usize; order.len()];
    for (number, &step) in order.iter().enumerate() {
        position[step] = number;
    }
    let mut after: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); order.len()];
    for &(from, to, _) in arcs {
        after[position[to]].insert(position[from]);
    }
    let after: Vec<BTreeSet<usize>> = (0..after.len()).map(|step| reduced(&after, step)).collect();
    let (leaving, disturbed) = (leaving(work), disturbed(work));
    let mut drafts: Vec<(ResourceId, Vec<Option<super::kind::Draft>>)> = work
        .blocks
        .iter_mut()
        .map(|block| (block.id.clone(), block.drafts.drain(..).map(Some).collect()))
        .collect();
    let mut steps = Vec::with_capacity(order.len());
    for (after, &step) in after.into_iter().zip(order) {
        let (block, place) = places[step];
        let (id, drafts) = &mut drafts[block];
        let Some(mut draft) = drafts[place].take() else {
            continue;
        };
        if let Action::NetworkStart { reconnect } = &mut draft.action {
            reconnect.retain(|vm| !leaving.contains(vm));
        }
        if let Action::BackupRun { before: Some(before), .. } = &mut draft.action {
            before.of.retain(|id| disturbed.contains(id));
        }
        steps.push(Step {
            resource: id.clone(),
            action: draft.action,
            disruption: draft.disruption,
            reason: draft.reason,
            changes: draft.changes,
            after,
            interrupts: draft.interrupts,
        });
    }
    steps
}

/// Domains that this plan removes: nothing plugs them in again.
fn leaving(work: &Work<'_>) -> BTreeSet<Name> {
    let gone = work.blocks.iter().filter(|block| {
        block.skip.is_none()
            && block.drafts.iter().any(|draft| matches!(draft.action, Action::VmUndefine))
    });
    gone.map(|block| block.id.name.clone()).collect()
}

/// What this plan interrupts or destroys: nothing else is saved first.
fn disturbed(work: &Work<'_>) -> BTreeSet<ResourceId> {
    let disturbs = |draft: &super::kind::Draft| draft.disruption >= Disruption::Restart;
    let blocks = work.blocks.iter().filter(|block| block.skip.is_none());
    let blocks = blocks.filter(|block| block.drafts.iter().any(disturbs));
    blocks.map(|block| block.id.clone()).collect()
}

/// What a step waits for, without what those it waits for wait for already.
fn reduced(after: &[BTreeSet<usize>], step: usize) -> BTreeSet<usize> {
    let direct = &after[step];
    let Some(&lowest) = direct.first().filter(|_| direct.len() > 1) else {
        return direct.clone();
    };
    let mut implied: BTreeSet<usize> = BTreeSet::new();
    let mut open: Vec<usize> = direct.iter().copied().collect();
    while let Some(earlier) = open.pop() {
        for &before in after[earlier].range(lowest..) {
            if implied.insert(before) {
                open.push(before);
            }
        }
    }
    direct.difference(&implied).copied().collect()
}
