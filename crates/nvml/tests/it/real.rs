//! What may be read from a real GPU, where one is asked for (`TRUEUP_TEST_GPU=1`, `make test-gpu`).
//!
//! Reads only: it makes no instance, changes no mode, and touches no process. It prints a row for
//! every claim that was tried, for `docs/gpu-evidence.md`; a claim that differs fails the test.

use std::collections::BTreeMap;

use trueup_fake_nvml::{Board, boards};
use trueup_nvml::{Architecture, Client, Gpu, GpuRecord, Placement, Profile};

struct Table {
    rows: Vec<(String, String)>,
    differs: bool,
}

impl Table {
    fn row(&mut self, claim: impl Into<String>, held: bool, seen: impl Into<String>) {
        let seen = seen.into();
        let answer = if held { format!("held: {seen}") } else { format!("DIFFERS: {seen}") };
        self.rows.push((claim.into(), answer));
        self.differs |= !held;
    }

    fn note(&mut self, what: impl Into<String>, seen: impl Into<String>) {
        self.rows.push((what.into(), seen.into()));
    }
}

#[test]
fn what_is_read_from_a_real_gpu_is_as_modelled() {
    if std::env::var_os("TRUEUP_TEST_GPU").is_none_or(|asked| asked != "1") {
        return;
    }
    let client = Client::open(None).unwrap_or_else(|error| {
        panic!("`make test-gpu` needs a machine with an NVIDIA GPU and its driver: {error}")
    });
    let first = client.observe().unwrap();
    let again = client.observe().unwrap();
    assert!(!first.gpus.is_empty(), "a driver without a GPU");
    let mut table = Table { rows: Vec::new(), differs: false };
    table.note("driver", &first.driver);
    for (gpu, later) in first.gpus.iter().zip(&again.gpus) {
        match (gpu, later) {
            (Gpu::Present(gpu), Gpu::Present(later)) => check(&mut table, gpu, later),
            (Gpu::Failed(gpu), _) | (_, Gpu::Failed(gpu)) => {
                table.row(format!("gpu {} answers", gpu.index), false, gpu.error.as_str());
            }
        }
    }
    let watched = client.watch();
    table.row(
        "events can be registered",
        watched.as_ref().is_ok_and(|watcher| watcher.unwatched().is_empty()),
        match &watched {
            Ok(watcher) => format!("{} not watched", watcher.unwatched().len()),
            Err(error) => error.to_string(),
        },
    );
    println!("\n| claim | on this machine |\n| --- | --- |");
    for (claim, answer) in &table.rows {
        println!("| {claim} | {answer} |");
    }
    assert!(!table.differs, "see the rows that differ");
}

fn check(table: &mut Table, gpu: &GpuRecord, later: &GpuRecord) {
    let vbios = gpu.vbios.as_deref().unwrap_or("-");
    table.note("board", format!("{}, {:?}, vBIOS {vbios}", gpu.name, gpu.architecture));
    let known = !matches!(gpu.architecture, Architecture::Unknown(_));
    table.row("the architecture is known", known, format!("{:?}", gpu.architecture));
    let address = &gpu.identity.pci;
    table.row("the PCI address is that of sysfs", sysfs(address), address.as_str());
    table.row("two looks see the same GPU", gpu.identity == later.identity, &gpu.identity.uuid);
    table.row(
        "nothing failed but for being unsupported",
        gpu.unread.is_empty(),
        format!("{:?}", gpu.unread),
    );
    let temperature = gpu.health.temperature;
    let plausible = temperature.is_none_or(|degrees| (1..120).contains(&degrees));
    table.row("the temperature is plausible", plausible, format!("{temperature:?}"));
    table.note("recovery action", format!("{:?}", gpu.health.recovery));
    table.note("MIG mode", format!("{:?}", gpu.mig));
    let told = gpu.mig.is_some_and(|mode| mode.current) || gpu.architecture != Architecture::Ampere;
    if gpu.mig.is_some() {
        table.row(
            "profiles are told with MIG on, and from Hopper on without",
            gpu.profiles.is_empty() != told,
            format!("{} profiles", gpu.profiles.len()),
        );
    }
    let placed = gpu.profiles.iter().all(|profile| !profile.placements.is_empty());
    table.row("every profile has placements", placed, format!("{} profiles", gpu.profiles.len()));
    let named = gpu.profiles.iter().all(|profile| profile.name.is_some());
    table.row("every profile has a name", named, names(&gpu.profiles));
    geometry(table, gpu);
    for instance in &gpu.instances {
        let whole = instance.compute.iter().all(|one| one.uuid.starts_with("MIG-"));
        table.row("compute instances have MIG UUIDs", whole, format!("{:?}", instance.placement));
    }
}

/// The modelled board with the same PCI device has the same profiles and placements.
fn geometry(table: &mut Table, gpu: &GpuRecord) {
    let boards = boards().unwrap();
    let device = gpu.pci_device >> 16;
    let Some(board) = boards.values().find(|board| board.pci_device_id == device) else {
        table.note("a modelled board", format!("none has the PCI device {device:04X}"));
        return;
    };
    if gpu.profiles.is_empty() {
        return;
    }
    let seen: BTreeMap<u32, Vec<Placement>> =
        gpu.profiles.iter().map(|one| (one.id.0, sorted(one.placements.clone()))).collect();
    for (id, wanted) in modelled(board) {
        let found = seen.get(&id);
        table.row(
            format!("{}: placements of profile {id}", board.key),
            found == Some(&wanted),
            format!("{found:?}"),
        );
    }
}

fn modelled(board: &Board) -> BTreeMap<u32, Vec<Placement>> {
    let of = |profile: &trueup_fake_nvml::Profile| {
        let size = profile.size;
        profile.starts.iter().map(|start| Placement { start: *start, size }).collect()
    };
    board.profiles.iter().map(|profile| (profile.id, sorted(of(profile)))).collect()
}

fn sorted(mut placements: Vec<Placement>) -> Vec<Placement> {
    placements.sort();
    placements
}

fn names(profiles: &[Profile]) -> String {
    let names: Vec<_> = profiles.iter().filter_map(|profile| profile.name.as_deref()).collect();
    names.join(" ")
}

fn sysfs(address: &str) -> bool {
    std::path::Path::new("/sys/bus/pci/devices").join(address).exists()
}
