//! How instances, obstacles and ways around them are put into words.

use trueup_mig::{Board, ComputePart, Nearest, Need, Obstacle, Part, Placed, Target};

/// An error with what caused it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// `3g@4`, or `1c@0 in 3g@4`.
pub(super) fn label(board: &Board, instance: Placed, compute: Option<ComputePart>) -> String {
    let whole = board.label(instance);
    let Some(part) = compute else { return whole };
    let at = part.start.map(|start| format!("@{start}")).unwrap_or_default();
    format!("{}{at} in {whole}", shape(board, instance, part))
}

fn shape(board: &Board, instance: Placed, part: ComputePart) -> String {
    let profile = board.profile(instance.profile);
    let found = profile.and_then(|it| it.compute.iter().find(|it| it.id == part.profile));
    found.map_or_else(|| format!("#{}c", part.profile), |it| format!("{}c", it.slices))
}

/// `3g@4`, and its compute instances where they are not just one that takes all of it.
pub(super) fn part(board: &Board, part: &Part) -> String {
    let label = board.label(part.placed);
    let whole = board.profile(part.placed.profile).and_then(|it| it.whole_compute());
    let plain =
        matches!(part.compute.as_slice(), [one] if Some(one.profile) == whole.map(|it| it.id));
    if plain {
        return label;
    }
    let mut shapes: Vec<String> =
        part.compute.iter().map(|it| shape(board, part.placed, *it)).collect();
    shapes.sort();
    format!("{label} [{}]", shapes.join(" "))
}

/// Who is in the way, and what they would have to do.
pub(super) fn needs(board: &Board, needs: &[Need]) -> String {
    let one = |need: &Need| {
        let label = board.label(need.instance);
        let what = match &need.name {
            Some(name) => format!("`{name}` ({label})"),
            None => label,
        };
        let holders: Vec<String> = need.holders.iter().map(ToString::to_string).collect();
        let must = match &need.obstacle {
            Obstacle::Move { to } => format!("would have to move to {}", board.label(*to)),
            Obstacle::Surplus => "would have to go".to_owned(),
            Obstacle::Compute => "would lose compute instances".to_owned(),
            Obstacle::Rename { to } => format!("would have to become `{to}`"),
        };
        format!("{what} {must} and is used by {}", holders.join(", "))
    };
    needs.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// What can be had in the meantime.
pub(super) fn nearest(board: &Board, target: &Target, nearest: &Nearest) -> String {
    let after: Vec<String> = nearest
        .plan
        .after
        .parts
        .iter()
        .map(|it| match &it.name {
            Some(name) => format!("{name} {}", part(board, it)),
            None => part(board, it),
        })
        .collect();
    let after = if after.is_empty() { "nothing".to_owned() } else { after.join(", ") };
    let missing: Vec<&str> = nearest
        .missing
        .iter()
        .filter_map(|slot| target.slots.get(*slot)?.name.as_deref())
        .collect();
    match missing.is_empty() {
        true => format!("; the nearest that can be had now is {after}"),
        false => {
            format!("; the nearest that can be had now is {after}, without {}", missing.join(", "))
        }
    }
}
