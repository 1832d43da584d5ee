//! What `scontrol -o show` says of partitions, reservations and the configuration: the same text in
//! both releases, with the very names that `slurm.conf` has. 22.05 has no JSON for it.

use std::collections::BTreeMap;

use super::error::ObserveError;
use super::model::{Partition, Reservation};

/// The pairs of one line. Values have no blanks: of the records that are read here no field does.
fn pairs(line: &str) -> BTreeMap<String, String> {
    line.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()))
        .collect()
}

/// A name, and the other fields by name in lower case.
type Record = (String, BTreeMap<String, String>);

/// Records, one a line, by the value of their first key.
fn records(what: &'static str, key: &str, text: &str) -> Result<Vec<Record>, ObserveError> {
    let mut all = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        // The words for none at all: "No reservations in the system".
        if line.starts_with("No ") && line.contains(" in the system") {
            continue;
        }
        let mut fields = pairs(line);
        let Some(name) = fields.remove(key) else {
            let message = format!("a line does not begin with {key}: {}", crate::run::cut(line));
            return Err(ObserveError::Form { what, message });
        };
        all.push((name, fields));
    }
    Ok(all)
}

/// Partitions by name, of `scontrol -o show partitions`.
///
/// # Errors
/// [`ObserveError::Form`].
pub fn partitions(text: &str) -> Result<BTreeMap<String, Partition>, ObserveError> {
    let all = records("the partitions", "partitionname", text)?;
    let of = |fields: &BTreeMap<String, String>, key: &str| {
        fields.get(key).filter(|value| *value != "(null)").cloned().unwrap_or_default()
    };
    Ok(all
        .into_iter()
        .map(|(name, fields)| {
            let (nodes, state) = (of(&fields, "nodes"), of(&fields, "state"));
            (name, Partition { nodes, state, fields })
        })
        .collect())
}

/// Reservations by name, of `scontrol -o show reservations` with `SLURM_TIME_FORMAT=%s`.
///
/// # Errors
/// [`ObserveError::Form`].
pub fn reservations(text: &str) -> Result<BTreeMap<String, Reservation>, ObserveError> {
    let what = "the reservations";
    let mut found = BTreeMap::new();
    for (name, fields) in records(what, "reservationname", text)? {
        let word = |key: &str| {
            fields.get(key).filter(|value| *value != "(null)").cloned().unwrap_or_default()
        };
        let time = |key: &str| {
            let text = word(key);
            text.parse::<i64>().map_err(|_| ObserveError::Form {
                what,
                message: format!("{key} of {name} is `{text}`, and no number of seconds"),
            })
        };
        let one = Reservation {
            nodes: word("nodes"),
            start: time("starttime")?,
            end: time("endtime")?,
            users: word("users"),
            accounts: word("accounts"),
            flags: word("flags").split(',').filter(|f| !f.is_empty()).map(str::to_owned).collect(),
        };
        found.insert(name, one);
    }
    Ok(found)
}

/// The configuration in force, of `scontrol show config`: values by name in lower case.
#[must_use]
pub fn config(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect()
}

/// The time in the first line of `scontrol show config`: "Configuration data as of …".
pub(super) fn read_at(text: &str) -> Option<String> {
    let line = text.lines().next()?;
    line.strip_prefix("Configuration data as of ").map(|time| time.trim().to_owned())
}
