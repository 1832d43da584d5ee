//! What a GPU's sensors and counters mean: only what somebody should know, in words.
//!
//! A counter that is not there says nothing: many boards lack many of them.

use serde::{Deserialize, Serialize};
use trueup_nvml::Health;

/// Retired pages from which on NVIDIA replaces a board ("Dynamic Page Retirement", section on RMA).
const RETIRED_PAGES_MAX: u32 = 60;

/// Reasons for held-down clocks that are no normal operation, by their bit in `nvml.h`
/// (`nvmlClocksEventReason…`).
const SLOW: [(u64, &str); 4] = [
    (0x08, "the hardware holds its clocks down"),
    (0x20, "its clocks are held down for its temperature"),
    (0x40, "the hardware holds its clocks down for its temperature"),
    (0x80, "the hardware holds its clocks down for an external power brake"),
];

/// How much a symptom weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Grade {
    /// Worth knowing.
    Note,
    /// Somebody should see to it.
    Warning,
    /// The GPU is not fit.
    Bad,
}

/// Something about a GPU's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symptom {
    /// How much it weighs.
    pub grade: Grade,
    /// What it is, and what to do.
    pub what: String,
}

/// The symptoms, the gravest first. `unread` is what could not be read.
#[must_use]
pub fn symptoms(health: &Health, unread: &[String]) -> Vec<Symptom> {
    let mut all = memory(health);
    let mut add = |grade, what: String| all.push(Symptom { grade, what });
    let reasons = health.clock_reasons.unwrap_or(0);
    for (_, what) in SLOW.iter().filter(|(bit, _)| reasons & bit != 0) {
        add(Grade::Warning, (*what).to_owned());
    }
    let down: Vec<String> =
        health.nvlinks.iter().filter(|link| !link.active).map(|it| it.link.to_string()).collect();
    // Where all are down, none is wired.
    if !down.is_empty() && down.len() < health.nvlinks.len() {
        add(Grade::Warning, format!("NVLink {} down: check the bridge or reseat", down.join(", ")));
    }
    for what in unread {
        add(Grade::Note, format!("could not be read: {what}"));
    }
    all.sort_by_key(|symptom| std::cmp::Reverse(symptom.grade));
    all
}

/// What the memory's counters mean.
fn memory(health: &Health) -> Vec<Symptom> {
    let mut all = Vec::new();
    let mut add = |grade, what: String| all.push(Symptom { grade, what });
    if let Some(count) = health.ecc_volatile.map(|ecc| ecc.uncorrected).filter(|it| *it > 0) {
        let what = format!("{count} uncorrected memory errors since the driver was loaded");
        add(Grade::Bad, format!("{what}: restart what computes on it, and reset it"));
    }
    if let Some(rows) = health.remapped_rows {
        if rows.failed {
            add(Grade::Bad, "a row could not be remapped: replace the board".to_owned());
        }
        if rows.pending {
            add(Grade::Warning, "rows wait to be remapped: reset the GPU".to_owned());
        }
        if rows.uncorrected > 0 {
            let what = format!("{} rows were remapped for uncorrected errors", rows.uncorrected);
            add(Grade::Note, what);
        }
    }
    if let Some((single, double)) = health.retired_pages {
        let count = single.saturating_add(double);
        if count >= RETIRED_PAGES_MAX {
            add(Grade::Bad, format!("{count} pages are retired: replace the board"));
        } else if count > 0 {
            add(Grade::Note, format!("{count} pages are retired"));
        }
    }
    if health.retirement_pending == Some(true) {
        add(Grade::Warning, "pages wait to be retired: reset the GPU".to_owned());
    }
    if let Some((current, pending)) = health.ecc.filter(|(current, pending)| current != pending) {
        let word = |on| if on { "on" } else { "off" };
        let what = format!("ECC is {} and will be {}: reset the GPU", word(current), word(pending));
        add(Grade::Warning, what);
    }
    all
}

#[cfg(test)]
mod tests {
    use trueup_nvml::{EccCounts, NvLink, RemappedRows};

    use super::*;

    #[test]
    fn a_healthy_gpu_has_no_symptoms_and_neither_has_one_that_tells_nothing() {
        let rows = RemappedRows { corrected: 3, uncorrected: 0, pending: false, failed: false };
        let healthy = Health {
            ecc: Some((true, true)),
            ecc_volatile: Some(EccCounts { corrected: 12, uncorrected: 0 }),
            remapped_rows: Some(rows),
            clock_reasons: Some(1),
            ..Health::default()
        };
        assert_eq!(symptoms(&healthy, &[]), []);
        assert_eq!(symptoms(&Health::default(), &[]), []);
    }

    #[test]
    fn what_is_wrong_is_said_the_gravest_first() {
        let link = |link, active| NvLink {
            link,
            active,
            replay_errors: None,
            recovery_errors: None,
            crc_errors: None,
        };
        let rows = RemappedRows { corrected: 0, uncorrected: 2, pending: true, failed: true };
        let ill = Health {
            ecc: Some((true, false)),
            ecc_volatile: Some(EccCounts { corrected: 0, uncorrected: 4 }),
            remapped_rows: Some(rows),
            retired_pages: Some((60, 1)),
            retirement_pending: Some(true),
            clock_reasons: Some(0x40 | 0x4),
            nvlinks: vec![link(0, true), link(1, false)],
            ..Health::default()
        };
        let found = symptoms(&ill, &["x: unknown error".to_owned()]);
        let grades: Vec<Grade> = found.iter().map(|it| it.grade).collect();
        assert!(grades.is_sorted_by(|a, b| a >= b), "{grades:?}");
        let words: Vec<&str> = found.iter().map(|it| it.what.as_str()).collect();
        assert_eq!(found.len(), 10, "{words:?}");
        assert!(words[0].starts_with("4 uncorrected memory errors"), "{words:?}");
        assert!(words.contains(&"NVLink 1 down: check the bridge or reseat"), "{words:?}");
        assert!(words.contains(&"61 pages are retired: replace the board"), "{words:?}");
    }
}
