//! The ways back from changes, for people.

use jiff::Timestamp;

use super::describe::short;
use crate::model::ResourceId;
use crate::state::{Kept, State, WayThere};

/// How to go back from what was done to `id` last, in sentences, the newest first; also where it is gone.
#[must_use]
pub fn ways_back(state: &State, id: &ResourceId) -> Vec<String> {
    let shown = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let ways = state.ways_back(id).into_iter().rev();
    let ways = ways.map(|way| match way {
        WayThere::Inside { name, at } => format!(
            "to go back to {}: `virsh snapshot-revert {} {name}`, as its disks were then",
            shown(at),
            id.name
        ),
        WayThere::Saved { backup, snapshot, at, kept } => {
            let kept = match kept {
                Kept::AtLeastUntil(until) => format!("kept at least until {}", shown(until)),
                Kept::UntilGood => "kept until the change is good".to_owned(),
                Kept::ForGood => "it stays: nothing is removed from that backup".to_owned(),
            };
            format!(
                "to go back to {}: `trueup backup restore {} --snapshot {} --to DIR` ({kept})",
                shown(at),
                backup.name,
                short(&snapshot)
            )
        }
    });
    ways.collect()
}
