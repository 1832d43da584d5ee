//! The plan while it is made: blocks of steps, what they need of each other, and what is skipped.
//!
//! A block is everything done to one resource, step after step. Blocks that cannot be done fall, and
//! those that need them fall with them; what is left is ordered.

use std::collections::{BTreeMap, HashMap};

use super::facts::Facts;
use super::input::Input;
use super::kind::Draft;
use super::{FieldChange, GpuPicture, Note, SkipReason, Skipped};
use crate::model::{Kind, ResourceId};

/// Everything that is done to one resource.
#[derive(Debug)]
pub(super) struct Block {
    /// The resource.
    pub(super) id: ResourceId,
    /// Whether it builds towards the wish; else it removes what the wish no longer names.
    pub(super) build: bool,
    /// Its steps, each after the one before.
    pub(super) drafts: Vec<Draft>,
    /// Why it is not done, if so.
    pub(super) skip: Option<SkipReason>,
    /// Whether its fall has been told.
    pub(super) told: bool,
    /// Blocks that have to be done too, and the reason for not doing this one where they are not.
    pub(super) needs: Vec<(usize, SkipReason)>,
    /// The blocks for whose sake alone it is done; `None`: it is done for its own.
    pub(super) sake: Option<Vec<usize>>,
}

/// How firmly two steps are bound; softer ones give way where they form a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bond {
    /// A network may go before a domain has left it: the domain is then interrupted.
    Release,
    /// A domain that is there goes on without one that it depends on, which comes later.
    Wish,
    /// An addition waits for the removal that frees its place.
    Place,
    /// Never broken.
    Hard,
}

/// A step of a block: the block's place and the step's within it.
pub(super) type At = (usize, usize);

/// `from` has to be done before `to`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    /// The earlier step.
    pub(super) from: At,
    /// The later step.
    pub(super) to: At,
    /// How firmly.
    pub(super) bond: Bond,
}

/// The plan while it is made.
pub(super) struct Work<'a> {
    /// What it is made from.
    pub(super) input: &'a Input<'a>,
    /// Questions about the world.
    pub(super) facts: Facts<'a>,
    /// Every block.
    pub(super) blocks: Vec<Block>,
    /// The main block of a resource.
    pub(super) by_id: HashMap<ResourceId, usize>,
    /// Order between steps of different blocks.
    pub(super) edges: Vec<Edge>,
    /// Disks that an earlier attempt found cannot be made anew: nobody is stopped for them.
    pub(super) refused: BTreeMap<ResourceId, SkipReason>,
    /// What is left alone.
    pub(super) skipped: Vec<Skipped>,
    /// GPUs before and after.
    pub(super) pictures: Vec<GpuPicture>,
    /// What is worth knowing of what is as it should be.
    pub(super) notes: Vec<Note>,
}

impl<'a> Work<'a> {
    /// Nothing planned yet.
    pub(super) fn new(input: &'a Input<'a>, refused: BTreeMap<ResourceId, SkipReason>) -> Self {
        Self {
            input,
            facts: Facts::new(input),
            blocks: Vec::new(),
            by_id: HashMap::new(),
            edges: Vec::new(),
            refused,
            skipped: Vec::new(),
            pictures: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Leaves a difference alone.
    pub(super) fn skip(&mut self, id: &ResourceId, why: SkipReason, changes: Vec<FieldChange>) {
        self.skipped.push(Skipped { resource: id.clone(), why, changes });
    }

    /// Adds a block; the first of a resource is its main one. Leftover files of a desired resource
    /// have blocks of their own, which are not.
    pub(super) fn add(
        &mut self,
        id: &ResourceId,
        build: bool,
        drafts: Vec<Draft>,
        skip: Option<SkipReason>,
    ) -> usize {
        let at = self.blocks.len();
        self.blocks.push(Block {
            id: id.clone(),
            build,
            drafts,
            skip,
            told: false,
            needs: Vec::new(),
            sake: None,
        });
        if build || !self.input.desired.resources.contains_key(id) {
            self.by_id.entry(id.clone()).or_insert(at);
        }
        at
    }

    /// Says that block `at` is done only if block `on` is.
    pub(super) fn need(&mut self, at: usize, on: usize, otherwise: SkipReason) {
        self.blocks[at].needs.push((on, otherwise));
    }

    /// Says that block `at` is not done; the first reason given stays.
    pub(super) fn refuse(&mut self, at: usize, why: SkipReason) {
        self.blocks[at].skip.get_or_insert(why);
    }

    /// Orders two steps.
    pub(super) fn order(&mut self, from: At, to: At, bond: Bond) {
        self.edges.push(Edge { from, to, bond });
    }

    /// Disks that were to be made anew and cannot be.
    pub(super) fn fallen_replacements(&self) -> BTreeMap<ResourceId, SkipReason> {
        let disks = self.blocks.iter().filter(|block| block.build && block.id.kind == Kind::Disk);
        disks
            .filter(|block| self.facts.is_replaced(&block.id))
            .filter_map(|block| Some((block.id.clone(), block.skip.clone()?)))
            .collect()
    }

    /// The last step of a block.
    pub(super) fn last(&self, block: usize) -> At {
        (block, self.blocks[block].drafts.len().saturating_sub(1))
    }

    /// Lets every block fall that needs a fallen one, however far away, and reports them once.
    pub(super) fn settle(&mut self) {
        let mut needed_by: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, block) in self.blocks.iter().enumerate() {
            for (on, _) in &block.needs {
                needed_by.entry(*on).or_default().push(at);
            }
        }
        let fallen = |block: &Block| block.skip.is_some();
        let mut open: Vec<usize> =
            (0..self.blocks.len()).rev().filter(|&at| fallen(&self.blocks[at])).collect();
        while let Some(down) = open.pop() {
            for &at in needed_by.get(&down).into_iter().flatten() {
                let block = &mut self.blocks[at];
                if block.skip.is_none() {
                    let why = block.needs.iter().find(|(on, _)| *on == down);
                    block.skip = why.map(|(_, why)| why.clone());
                    open.push(at);
                }
            }
        }
        self.drop_forsaken();
        let fallen = self.blocks.iter_mut().filter_map(|block| {
            let why = block.skip.clone().filter(|_| !block.told)?;
            block.told = true;
            let mut changes: Vec<FieldChange> = Vec::new();
            for change in block.drafts.drain(..).flat_map(|draft| draft.changes) {
                if !changes.contains(&change) {
                    changes.push(change);
                }
            }
            Some(Skipped { resource: block.id.clone(), why, changes })
        });
        self.skipped.extend(fallen);
    }

    /// Drops what is done for the sake of others only, none of which stands: there is nothing to say
    /// about it either.
    fn drop_forsaken(&mut self) {
        let stands = |at: &usize| self.blocks[*at].skip.is_none();
        let forsaken =
            self.blocks.iter().enumerate().filter(|(_, block)| {
                block.sake.as_ref().is_some_and(|sake| !sake.iter().any(stands))
            });
        let forsaken: Vec<usize> = forsaken.map(|(at, _)| at).collect();
        for at in forsaken {
            self.blocks[at].drafts.clear();
            self.blocks[at].told = true;
        }
    }
}

/// How late a kind comes when a machine is built up.
pub(super) fn rank(kind: Kind) -> usize {
    Kind::ALL.iter().position(|&other| other == kind).unwrap_or(Kind::ALL.len())
}
