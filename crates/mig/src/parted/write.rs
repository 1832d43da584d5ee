//! Writing mig-parted's format.

use std::collections::BTreeMap;

use super::{Config, Devices, Entry, PartedError, slices};
use crate::board::Board;
use crate::target::{Selector, Wish, resolve};

/// What the format cannot say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The configuration.
    pub config: String,
    /// Profile of the instance.
    pub profile: String,
    /// What it was: `start 4`, `name train`, `compute instances none`.
    pub what: String,
}

/// A written file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub yaml: String,
    /// What it does not say.
    pub lost: Vec<Lost>,
}

/// Writes a configuration file. Wishes by shape need the `board` they are for, as the format names
/// profiles as the driver does.
///
/// # Errors
/// [`PartedError::Value`]: a shape without a board or that the board does not have.
pub fn write(board: Option<&Board>, configs: &[Config]) -> Result<Written, PartedError> {
    let mut lost = Vec::new();
    let mut yaml = "version: v1\nmig-configs:".to_owned();
    if configs.is_empty() {
        yaml.push_str(" {}");
    }
    yaml.push('\n');
    for config in configs {
        yaml.push_str(&format!("  {}:\n", quoted(&config.name)));
        for entry in &config.entries {
            yaml.push_str(&lines(board, config, entry, &mut lost)?);
        }
        if config.entries.is_empty() {
            yaml.push_str("    []\n");
        }
    }
    Ok(Written { yaml, lost })
}

/// A double-quoted scalar: the JSON form is one.
fn quoted(text: &str) -> String {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    // A word that begins with a letter and is not one of YAML's own.
    let own = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let bare = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(plain)
        && !own.contains(&text.to_ascii_lowercase().as_str());
    if bare { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

fn lines(
    board: Option<&Board>,
    config: &Config,
    entry: &Entry,
    lost: &mut Vec<Lost>,
) -> Result<String, PartedError> {
    let mut text = String::new();
    let mut lead = "    - ";
    let mut line = |words: String| {
        text.push_str(lead);
        text.push_str(&words);
        text.push('\n');
        lead = "      ";
    };
    match entry.filter.as_slice() {
        [] => {}
        [one] => line(format!("device-filter: \"{one}\"")),
        many => {
            let all: Vec<String> = many.iter().map(|one| format!("\"{one}\"")).collect();
            line(format!("device-filter: [{}]", all.join(", ")));
        }
    }
    match &entry.devices {
        Devices::All => line("devices: all".to_owned()),
        Devices::Indexes(indexes) => {
            let all: Vec<String> = indexes.iter().map(u32::to_string).collect();
            line(format!("devices: [{}]", all.join(", ")));
        }
    }
    line(format!("mig-enabled: {}", entry.enabled));
    if entry.enabled {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for wish in &entry.wishes {
            count(board, &config.name, wish, &mut counts, lost)?;
        }
        if counts.is_empty() {
            line("mig-devices: {}".to_owned());
        } else {
            line("mig-devices:".to_owned());
        }
        for (name, count) in counts {
            line(format!("  \"{name}\": {count}"));
        }
    }
    Ok(text)
}

/// Adds the instances of a wish under the names of the format.
fn count(
    board: Option<&Board>,
    config: &str,
    wish: &Wish,
    counts: &mut BTreeMap<String, u32>,
    lost: &mut Vec<Lost>,
) -> Result<(), PartedError> {
    let wrong = |message: String| PartedError::Value { config: config.to_owned(), message };
    let profile = match (&wish.select, board) {
        (Selector::Profile(name), _) => name.clone(),
        (Selector::Shape(shape), None) => {
            return Err(wrong(format!("shape `{shape}` is written for a GPU; say which")));
        }
        (Selector::Shape(_), Some(board)) => {
            let target = resolve(board, std::slice::from_ref(wish));
            let target = target.map_err(|error| wrong(error.to_string()))?;
            let first = target.slots.first().and_then(|slot| board.profile(slot.profile));
            first.map(|profile| profile.name.clone()).unwrap_or_default()
        }
    };
    let mut lose = |what: String| {
        lost.push(Lost { config: config.to_owned(), profile: profile.clone(), what });
    };
    if let Some(start) = wish.start {
        lose(format!("start {start}"));
    }
    if let Some(name) = &wish.name {
        lose(format!("name {name}"));
    }
    let Some(compute) = &wish.compute else {
        *counts.entry(profile).or_default() += wish.count;
        return Ok(());
    };
    if compute.is_empty() {
        lose("compute instances none".to_owned());
        *counts.entry(profile).or_default() += wish.count;
        return Ok(());
    }
    for part in compute {
        if let Some(start) = part.start {
            lose(format!("start {start} of compute instance {}", part.shape));
        }
        let whole = slices(&profile).map(|all| format!("{all}c"));
        let name = if whole.as_ref() == Some(&part.shape) {
            profile.clone()
        } else {
            format!("{}.{profile}", part.shape)
        };
        *counts.entry(name).or_default() += part.count * wish.count;
    }
    Ok(())
}
