//! What a look says of a GPU's health.

use trueup_nvml::{EccCounts, Health, RemappedRows};

use super::*;

fn kinds(problems: &[GpuProblem]) -> Vec<GpuProblemKind> {
    problems.iter().map(|problem| problem.kind).collect()
}

/// A GPU as NVML tells of one, with these sensors.
fn record(health: Health) -> GpuRecord {
    let mut whole = serde_json::json!({
        "index": 0, "uuid": "GPU-1", "serial": null, "pci": "0000:07:00.0", "minor": 0,
        "pci_device": 0, "name": "H100", "architecture": "hopper", "vbios": "96.00",
        "memory": null, "mig": null, "virtualization": null, "persistence": true,
        "display_active": false, "profiles": [], "instances": [], "processes": [], "unread": [],
    });
    whole["health"] = serde_json::to_value(health).unwrap();
    serde_json::from_value(whole).unwrap()
}

#[test]
fn sensors_in_order_are_no_problem_and_a_lifetimes_counters_are_none() {
    let counts = EccCounts { corrected: 900, uncorrected: 0 };
    let health = Health {
        ecc_volatile: Some(counts),
        ecc_aggregate: Some(EccCounts { uncorrected: 7, ..counts }),
        retired_pages: Some((3, 1)),
        retirement_pending: Some(false),
        remapped_rows: Some(RemappedRows {
            corrected: 4,
            uncorrected: 2,
            pending: false,
            failed: false,
        }),
        recovery: Some(Recovery::None),
        clock_reasons: Some(4),
        ..Health::default()
    };
    assert_eq!(problems(&record(health)), []);
    assert_eq!(problems(&record(Health::default())), []);
}

#[test]
fn each_problem_is_told_with_what_to_do() {
    let health = Health {
        ecc_volatile: Some(EccCounts { corrected: 0, uncorrected: 2 }),
        retirement_pending: Some(true),
        remapped_rows: Some(RemappedRows {
            corrected: 0,
            uncorrected: 2,
            pending: true,
            failed: true,
        }),
        recovery: Some(Recovery::Reboot),
        ..Health::default()
    };
    let found = problems(&record(health));
    assert_eq!(
        kinds(&found),
        [
            GpuProblemKind::UncorrectedMemory,
            GpuProblemKind::RetirementPending,
            GpuProblemKind::RemapPending,
            GpuProblemKind::RemapFailed,
            GpuProblemKind::Recovery,
        ]
    );
    assert!(found[0].detail.starts_with("2 uncorrected"), "{:?}", found[0]);
    assert!(found[4].detail.ends_with("a reboot of the machine"), "{:?}", found[4]);
}

#[test]
fn a_slowdown_counts_once_it_lasts() {
    let hot =
        record(Health { clock_reasons: Some(64), temperature: Some(92), ..Health::default() });
    let cool = record(Health { clock_reasons: Some(0), ..Health::default() });
    let began = Instant::now();
    let mut slowdowns = Slowdowns::default();
    let mut look = |record: &GpuRecord, after: Duration| {
        let mut seen = GpuCondition {
            pci: String::new(),
            identity: None,
            lost: None,
            problems: Vec::new(),
            suspected: Vec::new(),
            cleared: false,
            reports: Vec::new(),
            boot: None,
            layout: None,
        };
        slowed(record, began + after, &mut slowdowns, &mut seen);
        (kinds(&seen.problems), seen.suspected)
    };
    let heat = vec![GpuProblemKind::ThermalSlowdown];
    assert_eq!(look(&hot, Duration::ZERO), (Vec::new(), heat.clone()));
    assert_eq!(look(&hot, SLOWDOWN_LASTS / 2), (Vec::new(), heat.clone()));
    assert_eq!(look(&hot, SLOWDOWN_LASTS), (heat.clone(), Vec::new()));
    assert_eq!(look(&cool, SLOWDOWN_LASTS), (Vec::new(), Vec::new()));
    assert_eq!(look(&hot, SLOWDOWN_LASTS * 2), (Vec::new(), heat), "it begins anew");
}
