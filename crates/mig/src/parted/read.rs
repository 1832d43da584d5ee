//! Reading mig-parted's format.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::{BYTES_MAX, Config, DeviceFilter, Devices, Entry, PartedError, slices};
use crate::target::{ComputeWish, SLOTS_MAX, Wish};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    #[serde(rename = "mig-configs")]
    configs: BTreeMap<String, Vec<Line>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Line {
    #[serde(default)]
    device_filter: Option<OneOrMany>,
    devices: Which,
    mig_enabled: bool,
    #[serde(default)]
    mig_devices: Option<BTreeMap<String, u32>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<String>),
    One(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Which {
    Indexes(Vec<u32>),
    Word(String),
}

/// Reads a configuration file; configurations by name.
///
/// A profile with compute slices (`1c.3g.20gb`) is a compute instance, and those of one profile
/// share its GPU instances, the largest first, as mig-parted fills them up.
///
/// # Errors
/// [`PartedError`] says where or which value.
pub fn read(text: &str) -> Result<Vec<Config>, PartedError> {
    if text.len() > BYTES_MAX {
        return Err(PartedError::TooLarge { bytes: text.len() });
    }
    let options = serde_saphyr::options! { with_snippet: false };
    let file: File = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let (line, column) =
            error.location().map_or((0, 0), |location| (location.line(), location.column()));
        let message = error.render();
        let message = message.lines().next().unwrap_or_default();
        // The parser repeats the place, which is told already.
        let place = format!(" at line {line}, column {column}");
        let message = message.strip_suffix(&place).unwrap_or(message).to_owned();
        PartedError::Text { line, column, message }
    })?;
    if file.version != "v1" {
        return Err(PartedError::Version { found: file.version });
    }
    let config = |(name, lines): (String, Vec<Line>)| {
        let entries = lines.into_iter().map(|line| entry(&name, line));
        Ok(Config { entries: entries.collect::<Result<_, _>>()?, name })
    };
    file.configs.into_iter().map(config).collect()
}

fn entry(config: &str, line: Line) -> Result<Entry, PartedError> {
    let wrong = |message: String| PartedError::Value { config: config.to_owned(), message };
    let devices = match line.devices {
        Which::Indexes(indexes) => Devices::Indexes(indexes),
        Which::Word(word) if word == "all" => Devices::All,
        Which::Word(word) => {
            return Err(wrong(format!("devices `{word}` is neither `all` nor a list of indexes")));
        }
    };
    let filters = match line.device_filter {
        None => Vec::new(),
        Some(OneOrMany::One(one)) => vec![one],
        Some(OneOrMany::Many(many)) => many,
    };
    let filter = filters.iter().map(|word| {
        let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
        let id = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        id.map(DeviceFilter).ok_or_else(|| {
            wrong(format!("device-filter `{word}` is no PCI id such as `0x20B010DE`"))
        })
    });
    let filter = filter.collect::<Result<Vec<_>, _>>()?;
    let instances = line.mig_devices.unwrap_or_default();
    if !line.mig_enabled && !instances.is_empty() {
        return Err(wrong("mig-devices are given and mig-enabled is false".to_owned()));
    }
    let wishes = wishes(&instances).map_err(wrong)?;
    Ok(Entry { devices, filter, enabled: line.mig_enabled, wishes })
}

fn wishes(instances: &BTreeMap<String, u32>) -> Result<Vec<Wish>, String> {
    let mut wishes = Vec::new();
    // By GPU instance's profile: compute slices of each compute instance.
    let mut shared: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (name, &count) in instances {
        if count == 0 {
            continue;
        }
        if usize::try_from(count).map_or(true, |count| count > SLOTS_MAX) {
            return Err(format!("{count} times `{name}` is more than any GPU holds"));
        }
        let compute = name
            .split_once('.')
            .and_then(|(first, rest)| Some((first.strip_suffix('c')?.parse::<u32>().ok()?, rest)));
        let (own, whole) = compute.map_or((None, name.as_str()), |(own, rest)| (Some(own), rest));
        let Some(all) = slices(whole) else {
            return Err(format!("`{name}` is no profile such as `1g.10gb` or `1c.3g.20gb`"));
        };
        match own {
            Some(own) if own == 0 || own > all => {
                return Err(format!("`{name}` has {own} of {all} compute slices"));
            }
            // All slices of it: the instance as a whole.
            Some(own) if own == all => wishes.push(Wish::profile(whole, count)),
            Some(own) => {
                let list = shared.entry(whole).or_default();
                list.extend(std::iter::repeat_n(own, usize::try_from(count).unwrap_or(0)));
            }
            None => wishes.push(Wish::profile(whole, count)),
        }
    }
    for (name, list) in shared {
        wishes.extend(packed(name, list));
    }
    Ok(wishes)
}

/// Puts compute instances into as few GPU instances as the largest-first rule does.
fn packed(name: &str, mut list: Vec<u32>) -> Vec<Wish> {
    let all = slices(name).unwrap_or(0);
    list.sort_by_key(|slices| Reverse(*slices));
    let mut bins: Vec<Vec<u32>> = Vec::new();
    for slices in list {
        match bins.iter_mut().find(|bin| bin.iter().sum::<u32>() + slices <= all) {
            Some(bin) => bin.push(slices),
            None => bins.push(vec![slices]),
        }
    }
    let mut wishes: Vec<Wish> = Vec::new();
    for bin in bins {
        let mut compute: Vec<ComputeWish> = Vec::new();
        for slices in bin {
            let shape = format!("{slices}c");
            match compute.last_mut().filter(|last| last.shape == shape) {
                Some(last) => last.count += 1,
                None => compute.push(ComputeWish { shape, count: 1, start: None }),
            }
        }
        let wish = Wish { compute: Some(compute), ..Wish::profile(name, 1) };
        match wishes.last_mut().filter(|last| last.compute == wish.compute) {
            Some(last) => last.count += 1,
            None => wishes.push(wish),
        }
    }
    wishes
}
