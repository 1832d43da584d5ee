//! Names of profiles: the driver's, and the shape that means the same on every board of a family.
//!
//! A name is only ever parsed for its suffix; slices and sizes are taken from the profile.

use crate::board::Profile;
use crate::id::ProfileIndex;

/// The name without the `MIG ` that some drivers put in front; made from the numbers where the
/// driver gives none.
pub(crate) fn name_of(profile: &Profile) -> String {
    let name = profile.name.strip_prefix("MIG ").unwrap_or(&profile.name).trim();
    if !name.is_empty() {
        return name.to_owned();
    }
    let gib = (profile.memory_mib + 512) / 1024;
    format!("{}g.{gib}gb{}", profile.compute_slices, suffix_of_index(profile.index))
}

/// What the enumeration of `nvml.h` says in its names: `REV1` has the media engines, `GFX` graphics,
/// `NO_ME` no media engines, `ALL_ME` all of them. (`REV2` has more memory, which shows in its size.)
fn suffix_of_index(index: ProfileIndex) -> &'static str {
    match index.0 {
        7 | 8 => "+me",
        10..=12 | 17 => "+gfx",
        13 | 14 => "-me",
        15 | 16 => "+me.all",
        _ => "",
    }
}

/// `+me` of `1g.10gb+me`.
fn suffix(name: &str) -> &str {
    name.find(['+', '-']).map_or("", |at| &name[at..])
}

/// The shape of each profile. Among profiles of equal slices and suffix the smallest is `1g`; one
/// with twice its memory slices is `1g.2m`; where that is no multiple, the name is the shape.
pub(crate) fn shapes_of(profiles: &[Profile]) -> Vec<String> {
    let kind = |profile: &Profile| (profile.compute_slices, suffix(&profile.name).to_owned());
    profiles
        .iter()
        .map(|profile| {
            let alike = profiles.iter().filter(|other| kind(other) == kind(profile));
            let least = alike.map(Profile::units).filter(|units| *units > 0).min().unwrap_or(1);
            let (slices, suffix) = kind(profile);
            match (profile.units() / least, profile.units() % least) {
                (0 | 1, 0) => format!("{slices}g{suffix}"),
                (times, 0) => format!("{slices}g.{times}m{suffix}"),
                _ => profile.name.clone(),
            }
        })
        .collect()
}
