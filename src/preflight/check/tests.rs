//! The checks on facts made by hand: the cases that no recorded tree has.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::preflight::catalogue::Check;
use crate::preflight::facts::{Cpu, Gpu, Pci, System};
use crate::preflight::finding::Severity;
use crate::preflight::gather::MARKS;
use crate::preflight::probe::DiskSpace;

/// What is found above notes, as `id subject`.
fn problems(facts: &Facts) -> BTreeSet<String> {
    let found = judge(facts).into_iter().filter(|one| one.severity > Severity::Note);
    found.map(|one| format!("{} {}", one.id.about().id, one.subject)).collect()
}

fn gpu(address: &str, driver: Option<&str>) -> Pci {
    Pci {
        address: address.to_owned(),
        class: 0x03_0200,
        vendor: 0x10de,
        device: 0x2330,
        driver: driver.map(str::to_owned),
        gpu: Some(Gpu::default()),
        ..Pci::default()
    }
}

#[test]
fn an_empty_tree_is_judged_without_a_word_on_gpus() {
    let found = judge(&Facts::default());
    let of_gpus: Vec<_> =
        found.iter().filter(|one| one.area > crate::preflight::Area::Image).collect();
    assert_eq!(of_gpus.len(), 1, "{of_gpus:?}");
    assert_eq!(of_gpus[0].severity, Severity::Ok);
}

#[test]
fn every_problem_says_what_to_do() {
    let facts = Facts {
        pci: vec![gpu("0000:01:00.0", None), gpu("0000:02:00.0", Some("nvidia"))],
        ..Facts::default()
    };
    for one in judge(&facts) {
        assert!(!one.read.is_empty() && !one.source.is_empty(), "{one:?}");
        let has_remedy = one.remedy.as_ref().is_some_and(|remedy| !remedy.is_empty());
        assert!(one.severity < Severity::Warning || has_remedy, "{one:?}");
        assert!(!one.source.contains("BDF"), "{one:?}");
        assert!(one.remedy.is_none_or(|remedy| !remedy.contains("BDF")));
    }
}

#[test]
fn secure_boot_is_named_only_where_the_module_waits_for_it() {
    let with = |files: &[&str], secure| Facts {
        pci: vec![gpu("0000:01:00.0", None)],
        module_files: Some(files.iter().map(|name| (*name).to_owned()).collect()),
        system: System { secure_boot: secure, ..System::default() },
        ..Facts::default()
    };
    let has = |facts: &Facts, id: &str| problems(facts).contains(&format!("{id} 0000:01:00.0"));
    assert!(has(&with(&["nvidia"], Some(true)), "gpu.secure-boot"));
    assert!(!has(&with(&["nvidia"], Some(true)), "gpu.driver"), "one cause, one finding");
    assert!(has(&with(&["nvidia"], Some(false)), "gpu.driver"));
    assert!(has(&with(&[], Some(true)), "gpu.driver"));
}

#[test]
fn the_iommu_s_remedy_fits_its_cause() {
    let remedy = |vendor: &str, acpi, words: &[&str]| {
        let facts = Facts {
            pci: vec![gpu("0000:01:00.0", Some("nvidia"))],
            cpu: Cpu { vendor: Some(vendor.to_owned()), ..Cpu::default() },
            acpi_iommu: acpi,
            cmdline: words.iter().map(|word| (*word).to_owned()).collect(),
            ..Facts::default()
        };
        let found = judge(&facts).into_iter().find(|one| one.id == Check::IommuEnabled);
        found.unwrap().remedy.unwrap()
    };
    assert!(remedy("GenuineIntel", Some(true), &[]).contains("intel_iommu=on"));
    assert!(remedy("GenuineIntel", Some(false), &[]).contains("VT-d"));
    assert!(remedy("AuthenticAMD", Some(true), &[]).contains("AMD-Vi"));
    assert!(remedy("AuthenticAMD", Some(true), &["iommu=off"]).contains("take iommu=off out"));
}

#[test]
fn a_disk_is_judged_by_what_lies_on_it() {
    let at = |what: &str, free: u64| Facts {
        probes: crate::preflight::Probes {
            disks: vec![DiskSpace {
                what: what.to_owned(),
                path: "/d".to_owned(),
                total: 1 << 40,
                free,
            }],
            ..Default::default()
        },
        ..Facts::default()
    };
    let of = |facts: &Facts| {
        let found = judge(facts).into_iter().find(|one| one.id == Check::HostDisk);
        found.unwrap().severity
    };
    assert_eq!(of(&at("state", 3 << 30)), Severity::Ok);
    assert_eq!(of(&at("state", 1 << 30)), Severity::Warning);
    assert_eq!(of(&at("state", 1 << 20)), Severity::Error);
    assert_eq!(of(&at("default pool", 3 << 30)), Severity::Warning);
}

#[test]
fn what_owners_leave_behind_is_looked_for() {
    for mark in owners::marks() {
        assert!(MARKS.contains(&mark), "{mark} is never read");
    }
    let names: Vec<_> = known_processes().collect();
    let short: BTreeMap<_, _> =
        names.iter().map(|name| (name.get(..15).unwrap_or(name), *name)).collect();
    // Two MPS programs share their first 15 letters, and are told of alike.
    assert!(names.len() - short.len() <= 1, "names that the kernel cuts to the same: {names:?}");
}
