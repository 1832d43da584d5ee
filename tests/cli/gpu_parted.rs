//! `trueup gpu import`, `export` and `fits --board` from outside: no driver, no log and no daemon is
//! needed, but where a configuration chooses by what a GPU is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use trueup_fake_nvml::{State, install};
use trueup_mig::Selector;
use trueup_mig::parted::{Devices, read};

use super::{Ended, Host};

/// The forms of mig-parted's documentation, with values of our own.
const EXAMPLES: &str = include_str!("../../crates/mig/fixtures/parted.yaml");

fn uuid(index: usize) -> String {
    format!("GPU-{index:08x}-fa4e-4000-8000-{index:012x}")
}

/// A host with the examples in a file.
fn host() -> (Host, String) {
    let host = Host::new();
    let file = host.path().join("parted.yaml");
    std::fs::write(&file, EXAMPLES).unwrap();
    (host, file.to_str().unwrap().to_owned())
}

/// A repository with these documents.
fn repository(root: &Path, documents: &str) -> PathBuf {
    let folder = root.join("repository");
    let environment = folder.join("environments/lab");
    std::fs::create_dir_all(&environment).unwrap();
    let head = "apiVersion: trueup/v1\nkind: Repository\nmetadata: {name: test}\nspec: \
                {environments: {lab: {hosts: [node1]}}}\n";
    std::fs::write(folder.join("trueup.yaml"), head).unwrap();
    let lab = "apiVersion: trueup/v1\nkind: Environment\nmetadata: {name: lab}\nspec: {}\n";
    std::fs::write(environment.join("environment.yaml"), lab).unwrap();
    std::fs::write(environment.join("gpus.yaml"), documents).unwrap();
    folder
}

/// What each GPU is cut into, by index: whether at all, and how many of which profile.
type Cuts = BTreeMap<u32, (bool, Vec<(String, u32)>)>;

fn cuts(text: &str, config: Option<&str>, gpus: u32) -> Cuts {
    let configs = read(text).unwrap();
    let found = configs.iter().find(|it| config.is_none_or(|name| it.name == name)).unwrap();
    let mut cuts = Cuts::new();
    for entry in &found.entries {
        let indexes: Vec<u32> = match &entry.devices {
            Devices::All => (0..gpus).collect(),
            Devices::Indexes(indexes) => indexes.clone(),
        };
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for wish in &entry.wishes {
            let (Selector::Profile(word) | Selector::Shape(word)) = &wish.select;
            let compute = format!("{:?}", wish.compute);
            *counts.entry(format!("{word} {compute}")).or_default() += wish.count;
        }
        for index in indexes {
            cuts.insert(index, (entry.enabled, counts.clone().into_iter().collect()));
        }
    }
    cuts
}

#[test]
fn every_example_comes_back_the_same() {
    let (host, file) = host();
    let named: Vec<String> = (0..3).map(|index| format!("--gpu={index}={}", uuid(index))).collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    for config in ["all-1g.10gb", "all-disabled", "all-enabled", "mixed", "per-device", "shared"] {
        let words = [&["gpu", "import", &file, "--selected-config", config][..], &named].concat();
        let imported = host.run(&words).code(0);
        assert_eq!(imported.err, "", "{config}");
        let folder = repository(host.path(), &imported.out);
        let folder = folder.to_str().unwrap();
        host.run(&["check", folder]).code(0);
        let words = [&["gpu", "export", folder][..], &named].concat();
        let exported = host.run(&words).code(0);
        assert_eq!(cuts(&exported.out, None, 3), cuts(EXAMPLES, Some(config), 3), "{config}");
        let lost = exported.err.contains("names of partitions are not in the file");
        assert_eq!(lost, imported.out.contains("partitions:"), "{config}: {}", exported.err);
    }
}

#[test]
fn an_import_reads_as_one_would_write_it() {
    let (host, file) = host();
    let gpu = format!("0={}", uuid(0));
    let words = ["gpu", "import", &file, "--selected-config", "shared", "--gpu", &gpu];
    expect_test::expect![[r#"
        apiVersion: trueup/v1
        kind: GpuLayout
        metadata: {name: gpu-0}
        spec:
          match: {uuid: GPU-00000000-fa4e-4000-8000-000000000000}
          mode: mig
          partitions:
            - {name: 3g-40gb, profile: "3g.40gb", compute: [{shape: "2c"}, {shape: "1c"}]}
            - {name: 3g-40gb-b, profile: "3g.40gb", compute: [{shape: "1c"}]}
    "#]]
    .assert_eq(&host.run(&words).code(0).out);
}

/// A filter asks what a GPU is, so the machine is looked at, and its indexes are used.
#[test]
fn a_filter_chooses_among_the_gpus_of_the_machine() {
    let (host, file) = host();
    let boards = ["h100-80gb", "a100-80gb", "a30-24gb"];
    let (library, _store) = install(host.path(), State::with_boards(&boards).unwrap()).unwrap();
    let config = host.path().join("config.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = format!("{text}gpu: {{library: {}}}\n", library.display());
    std::fs::write(&config, text).unwrap();
    let imported = host.run(&["gpu", "import", &file, "--selected-config", "by-board"]).code(0);
    let (first, second) = imported.out.split_once("---\n").unwrap();
    assert!(first.contains(&uuid(0)) && first.contains("1g.10gb+me"), "{first}");
    assert!(second.contains(&uuid(1)) && second.contains("7g.80gb"), "{second}");
    assert!(imported.err.contains("says nothing about GPU 2"), "{}", imported.err);
    // Shapes are written as this machine's driver names them; starts are told to be lost.
    let layout = format!(
        "apiVersion: trueup/v1\nkind: GpuLayout\nmetadata: {{name: big}}\nspec:\n  match: \
         {{pciAddress: '0000:08:00.0'}}\n  mode: mig\n  partitions: [{{name: a, shape: 3g, start: \
         4}}]\n---\napiVersion: trueup/v1\nkind: GpuLayout\nmetadata: {{name: gone}}\nspec: {{match: \
         {{uuid: {}}}, mode: whole}}\n",
        uuid(9)
    );
    let folder = repository(host.path(), &layout);
    let folder = folder.to_str().unwrap();
    // Before Hopper the driver tells no profiles while MIG is off.
    host.run(&["gpu", "export", folder]).code(1);
    let exported = host.run(&["gpu", "export", folder, "--board", "a100-80gb"]).code(0);
    assert!(exported.out.contains("devices: [1]"), "{}", exported.out);
    assert!(exported.out.contains("\"3g.40gb\": 1"), "{}", exported.out);
    for lost in ["start 4 of 3g.40gb", "gpu/gone is left out"] {
        assert!(exported.err.contains(lost), "{}", exported.err);
    }
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let (host, file) = host();
    let gpu = format!("0={}", uuid(0));
    let said = |words: &[&str], code: i32, expected: &str| {
        let Ended { err, .. } = host.run(words).code(code);
        assert!(err.contains(expected), "{words:?}: {err}");
    };
    said(&["gpu", "import", &file, "--gpu", &gpu], 1, "there are all-1g.10gb, all-disabled");
    said(
        &["gpu", "import", &file, "--selected-config", "x", "--gpu", &gpu],
        1,
        "no configuration `x`",
    );
    said(
        &["gpu", "import", &file, "--selected-config", "by-board", "--gpu", &gpu],
        1,
        "device-filter",
    );
    said(&["gpu", "import", &file, "--selected-config", "mixed"], 5, "--gpu 0=GPU-");
    said(&["gpu", "import", "/nowhere", "--gpu", &gpu], 1, "cannot be read");
    said(&["gpu", "import", &file, "--gpu", "0=MIG-1"], 2, "no UUID of a GPU");
    let twice = "version: v1\nmig-configs:\n  x:\n    - {devices: all, mig-enabled: false}\n    - \
                 {devices: [0], mig-enabled: true}\n";
    let path = host.path().join("twice.yaml");
    std::fs::write(&path, twice).unwrap();
    let path = path.to_str().unwrap();
    said(&["gpu", "import", path, "--gpu", &gpu], 1, "two entries for GPU 0");
    let other = format!("5={}", uuid(5));
    said(&["gpu", "import", path, "--gpu", &other], 0, "also for GPU 0, which is not here");
    let layout = format!(
        "apiVersion: trueup/v1\nkind: GpuLayout\nmetadata: {{name: big}}\nspec: {{match: {{uuid: \
         {}}}, mode: mig, partitions: [{{name: a, shape: 3g}}]}}\n",
        uuid(0)
    );
    let folder = repository(host.path(), &layout);
    let folder = folder.to_str().unwrap();
    said(&["gpu", "export", folder, "--gpu", &gpu], 1, "--board KIND");
    said(&["gpu", "export", folder, "--gpu", &other], 1, "none of the GPUs has a GpuLayout");
    let words = ["gpu", "export", folder, "--gpu", &gpu, "--board", "a100-80gb"];
    assert!(host.run(&words).code(0).out.contains("\"3g.40gb\": 1"));
}

#[test]
fn what_fits_onto_a_board_is_answered_without_a_machine() {
    let host = Host::new();
    let fits = |words: &[&str]| host.run(&[&["gpu", "fits"], words].concat());
    let both = fits(&["--board", "h100-80gb", "4g", "3g"]).code(0).out;
    assert!(both.contains("fits now: 4g@0, 3g@4"), "{both}");
    assert!(fits(&["--board", "h100-80gb", "4gx2"]).code(4).out.contains("never fits"));
    assert!(fits(&["--board", "list"]).code(0).out.contains("a30-24gb  A30 24GB"));
    let unknown = fits(&["--board", "h100"]).code(1).err;
    assert!(unknown.contains("there are a30-24gb, "), "{unknown}");
    let json = fits(&["--board", "a30-24gb", "-o", "json"]).code(0).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["gpus"][0]["profiles"][0]["now"], 4, "{json}");
    assert!(fits(&["1g"]).code(5).err.contains("--board KIND"));
}
