//! Slurm's way to write generic resources: `gpu:a100:2(S:0),gpu:3g.40gb:1(IDX:0)`.

use std::collections::BTreeMap;

/// The list without what stands in brackets: places, which a daemon adds, and numbers of devices.
pub(crate) fn bare(list: &str) -> String {
    let mut depth = 0_u32;
    let mut kept = String::new();
    for c in list.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 => kept.push(c),
            _ => {}
        }
    }
    kept
}

/// How many there are of each, by name and type (`gpu:a100`).
pub(crate) fn counts(list: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for one in bare(list).split(',').filter(|one| !one.is_empty()) {
        // Without a number there is one (slurm.conf(5), `Gres`).
        let (name, count) = match one.rsplit_once(':') {
            Some((name, count)) => count.parse().map_or((one, 1), |count| (name, count)),
            None => (one, 1),
        };
        *counts.entry(name.to_owned()).or_insert(0) += count;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_counted() {
        let shown = |list: &str| format!("{:?}", counts(list));
        assert_eq!(
            shown("gpu:a100:2(S:0-1),gpu:3g.40gb:1"),
            r#"{"gpu:3g.40gb": 1, "gpu:a100": 2}"#
        );
        assert_eq!(shown("gpu:a100:1(IDX:0,3),gpu:a100"), r#"{"gpu:a100": 2}"#);
        assert_eq!(shown("(null)"), "{}");
        assert_eq!(shown("craynetwork"), r#"{"craynetwork": 1}"#);
    }
}
