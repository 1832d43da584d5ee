//! What fields of a node or a partition mean, where text alone does not tell.

use std::collections::BTreeSet;

use crate::conf::Fields;

/// Minutes of a time of Slurm's (`90`, `1:30:00`, `1-00:00:00`); none for no limit. A text that is no
/// time is kept as a value of its own.
pub(crate) fn minutes(text: &str) -> Result<Option<u64>, String> {
    if ["UNLIMITED", "INFINITE", "-1"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Ok(None);
    }
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(days), rest),
        None => (None, text),
    };
    let number = |word: &str| word.parse::<u32>().map(u64::from).map_err(|_| text.to_owned());
    let parts = rest.split(':').map(number).collect::<Result<Vec<_>, _>>()?;
    let seconds = match (days.is_some(), parts.as_slice()) {
        (true, [h]) => h * 3600,
        (true, [h, m]) => h * 3600 + m * 60,
        (false, [m]) => m * 60,
        (false, [m, s]) => m * 60 + s,
        (_, [h, m, s]) => h * 3600 + m * 60 + s,
        _ => return Err(text.to_owned()),
    };
    let days = days.map_or(Ok(0), number)?;
    // Slurm rounds up to whole minutes.
    Ok(Some(days.saturating_mul(1440) + seconds.div_ceil(60)))
}

pub(crate) fn weight(fields: &Fields) -> u32 {
    // slurm.conf(5): "The default value is 1".
    fields.get("weight").and_then(|text| text.parse().ok()).unwrap_or(1)
}

pub(crate) fn features(fields: &Fields) -> BTreeSet<String> {
    let list = fields.get("feature").or_else(|| fields.get("features"));
    let words = list.map(String::as_str).unwrap_or_default().split(',');
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
