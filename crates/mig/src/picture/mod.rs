//! Pictures of a cut: rows of memory slices, before and after a change.
//!
//! A picture is data first; [`Picture::text`] and [`Picture::svg`] draw the same one. Drawing
//! decides nothing and leaves nothing out: an instance too narrow for its words is listed below.

mod svg;
mod text;

pub use svg::sheet;
pub use text::Charset;

use serde::{Deserialize, Serialize};

use crate::board::{Board, Placement};
use crate::layout::{Layout, Part};
use crate::observe::Instance;
use crate::plan::Plan;

/// What becomes of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mark {
    /// It stays as it is.
    Kept,
    /// It stays, and somebody uses it.
    InUse,
    /// It stays, with other compute instances.
    Changed,
    /// It goes.
    Destroyed,
    /// It is made.
    Created,
}

impl Mark {
    /// One character for it.
    #[must_use]
    pub fn sign(self) -> char {
        match self {
            Self::Kept => ' ',
            Self::InUse => '*',
            Self::Changed => '~',
            Self::Destroyed => '-',
            Self::Created => '+',
        }
    }

    /// What it means.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::InUse => "in use",
            Self::Changed => "compute instances change",
            Self::Destroyed => "destroyed",
            Self::Created => "created",
        }
    }
}

/// An instance in a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// First memory slice.
    pub start: u32,
    /// Memory slices.
    pub size: u32,
    /// Its shape, its name and, where it is shared out, its compute instances.
    pub label: String,
    /// What becomes of it.
    pub mark: Mark,
}

/// A GPU at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// `before`, `after`, `now`.
    pub title: String,
    /// Its instances, by start.
    pub cells: Vec<Cell>,
}

/// Rows of slices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// Memory slices of the board.
    pub units: u32,
    /// The rows, from top to bottom.
    pub rows: Vec<Row>,
}

impl Picture {
    /// How a GPU is cut now.
    #[must_use]
    pub fn now(board: &Board, observed: &[Instance]) -> Self {
        let layout = Layout::of(observed);
        let mark = |part: &Part| rest(observed, part);
        Self { units: board.units(), rows: vec![row(board, "now", &layout, mark)] }
    }

    /// How a plan changes it. One row if it changes nothing.
    #[must_use]
    pub fn of(board: &Board, observed: &[Instance], plan: &Plan) -> Self {
        if plan.steps.is_empty() {
            return Self::now(board, observed);
        }
        Self::between(board, observed, &plan.after)
    }

    /// How it is cut, and how it would be, whether or not there is a way.
    #[must_use]
    pub fn between(board: &Board, observed: &[Instance], after: &Layout) -> Self {
        let before = Layout::of(observed);
        let changes = |placed| {
            let instance = observed.iter().find(|it| it.placed == placed);
            let part = after.part(placed);
            instance.zip(part).is_some_and(|(instance, part)| {
                let alone = Layout { parts: vec![part.clone()] };
                !alone.is_met_by(std::slice::from_ref(instance))
            })
        };
        let old = |part: &Part| match after.part(part.placed) {
            None => Mark::Destroyed,
            Some(_) if changes(part.placed) => Mark::Changed,
            Some(_) => rest(observed, part),
        };
        let new = |part: &Part| match before.part(part.placed) {
            None => Mark::Created,
            Some(_) if changes(part.placed) => Mark::Changed,
            Some(_) => rest(observed, part),
        };
        let rows = vec![row(board, "before", &before, old), row(board, "after", after, new)];
        Self { units: board.units(), rows }
    }

    /// The marks that are in it and mean something, in order.
    fn marks(&self) -> Vec<Mark> {
        let all = self.rows.iter().flat_map(|row| row.cells.iter().map(|cell| cell.mark));
        let mut marks: Vec<Mark> = all.filter(|mark| *mark != Mark::Kept).collect();
        marks.sort_unstable();
        marks.dedup();
        marks
    }
}

fn rest(observed: &[Instance], part: &Part) -> Mark {
    let used =
        observed.iter().any(|it| it.placed == part.placed && it.all_holders().next().is_some());
    if used { Mark::InUse } else { Mark::Kept }
}

fn row(board: &Board, title: &str, layout: &Layout, mark: impl Fn(&Part) -> Mark) -> Row {
    let cell = |part: &Part| {
        let Placement { start, size } = board.placement(part.placed)?;
        Some(Cell { start, size, label: label(board, part), mark: mark(part) })
    };
    Row { title: title.to_owned(), cells: layout.parts.iter().filter_map(cell).collect() }
}

/// `3g train`, `7g [1c 2c]`: compute instances only where one does not take the whole.
fn label(board: &Board, part: &Part) -> String {
    let mut label = board.shape(part.placed.profile);
    if let Some(name) = &part.name {
        label.push(' ');
        label.push_str(name);
    }
    let Some(profile) = board.profile(part.placed.profile) else { return label };
    let whole = profile.whole_compute().map(|it| it.id);
    let ids: Vec<_> = part.compute.iter().map(|it| it.profile).collect();
    if whole.is_none_or(|whole| ids != [whole]) {
        let word = |id: &crate::ComputeProfileId| {
            let known = profile.compute.iter().find(|it| it.id == *id);
            known.map_or_else(|| format!("#{id}"), |it| format!("{}c", it.slices))
        };
        let words: Vec<String> = ids.iter().map(word).collect();
        label.push_str(&format!(" [{}]", words.join(" ")));
    }
    label
}
