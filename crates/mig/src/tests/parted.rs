//! mig-parted's format: what is read, what is refused, and that writing and reading agree.

use expect_test::expect;

use super::*;
use crate::parted::{Config, DeviceFilter, Devices, Entry, read, write};

const EXAMPLES: &str = include_str!("../../fixtures/parted.yaml");

fn named(name: &str) -> Config {
    read(EXAMPLES).unwrap().into_iter().find(|config| config.name == name).unwrap()
}

#[test]
fn the_documented_forms_are_read() {
    let names: Vec<String> = read(EXAMPLES).unwrap().into_iter().map(|it| it.name).collect();
    assert_eq!(
        names,
        ["all-1g.10gb", "all-disabled", "all-enabled", "by-board", "mixed", "per-device", "shared"]
    );
    let entry =
        |enabled, wishes| Entry { devices: Devices::All, filter: Vec::new(), enabled, wishes };
    assert_eq!(named("all-disabled").entries, [entry(false, Vec::new())]);
    assert_eq!(named("all-enabled").entries, [entry(true, Vec::new())]);
    assert_eq!(named("all-1g.10gb").entries, [entry(true, vec![Wish::profile("1g.10gb", 7)])]);
    let board = whole("a100-80gb");
    let mixed = resolve(&board, &named("mixed").entries[0].wishes).unwrap();
    let shapes: Vec<String> = mixed.slots.iter().map(|it| board.shape(it.profile)).collect();
    assert_eq!(shapes, ["1g", "1g", "2g", "3g"]);
}

#[test]
fn devices_are_told_apart() {
    let per_device = named("per-device").entries;
    assert_eq!(per_device[0].devices, Devices::Indexes(vec![0, 1]));
    assert!(!per_device[0].enabled);
    assert_eq!(per_device[1].devices, Devices::Indexes(vec![2]));
    assert_eq!(per_device[1].wishes, [Wish::profile("3g.40gb", 2)]);
    let by_board = named("by-board").entries;
    assert_eq!(by_board[0].filter, [DeviceFilter(0x20B2_10DE), DeviceFilter(0x20B5_10DE)]);
    assert_eq!(by_board[1].filter, [DeviceFilter(0x2330_10DE)]);
}

#[test]
fn compute_instances_share_gpu_instances() {
    let wishes = named("shared").entries[0].wishes.clone();
    let compute = |list: &[(&str, u32)]| {
        let each = list.iter().map(|(shape, count)| ComputeWish {
            shape: (*shape).to_owned(),
            count: *count,
            start: None,
        });
        Some(each.collect::<Vec<_>>())
    };
    assert_eq!(
        wishes,
        [
            Wish { compute: compute(&[("2c", 1), ("1c", 1)]), ..Wish::profile("3g.40gb", 1) },
            Wish { compute: compute(&[("1c", 1)]), ..Wish::profile("3g.40gb", 1) },
        ]
    );
}

#[test]
fn what_is_wrong_is_said() {
    let error = |text: &str| read(text).unwrap_err().to_string();
    let one = |line: &str| error(&format!("version: v1\nmig-configs:\n  x:\n    - {line}\n"));
    assert_eq!(error("version: v2\nmig-configs: {}\n"), "version `v2`; only `v1` is known");
    expect!["line 4, column 41: unknown field `mig-device`, expected one of device-filter, devices, mig-enabled, mig-devices"].assert_eq(&one("{devices: all, mig-enabled: true, mig-device: {}}"));
    expect!["configuration `x`: devices `some` is neither `all` nor a list of indexes"]
        .assert_eq(&one("{devices: some, mig-enabled: true}"));
    expect!["configuration `x`: mig-devices are given and mig-enabled is false"]
        .assert_eq(&one("{devices: all, mig-enabled: false, mig-devices: {1g.10gb: 1}}"));
    expect!["configuration `x`: `big` is no profile such as `1g.10gb` or `1c.3g.20gb`"]
        .assert_eq(&one("{devices: all, mig-enabled: true, mig-devices: {big: 1}}"));
    expect!["configuration `x`: 900 times `1g.5gb` is more than any GPU holds"]
        .assert_eq(&one("{devices: all, mig-enabled: true, mig-devices: {1g.5gb: 900}}"));
    expect!["configuration `x`: `4c.3g.5gb` has 4 of 3 compute slices"]
        .assert_eq(&one("{devices: all, mig-enabled: true, mig-devices: {4c.3g.5gb: 1}}"));
    expect!["configuration `x`: device-filter `A100` is no PCI id such as `0x20B010DE`"]
        .assert_eq(&one("{devices: all, device-filter: A100, mig-enabled: true}"));
    assert!(one("{devices: all, mig-enabled: true, mig-enabled: false}").contains("line 4"));
}

#[test]
fn writing_and_reading_agree() {
    let configs = read(EXAMPLES).unwrap();
    let written = write(None, &configs).unwrap();
    assert_eq!(written.lost, []);
    assert_eq!(read(&written.yaml).unwrap(), configs);
}

#[test]
fn what_the_format_cannot_say_is_told() {
    let board = whole("a100-80gb");
    let wishes = vec![
        Wish { start: Some(4), name: Some("train".to_owned()), ..Wish::shape("3g", 1) },
        Wish::shape("1g", 2),
    ];
    let entry = Entry { devices: Devices::All, filter: Vec::new(), enabled: true, wishes };
    let config = Config { name: "on".to_owned(), entries: vec![entry] };
    let written = write(Some(&board), std::slice::from_ref(&config)).unwrap();
    expect![[r#"
        version: v1
        mig-configs:
          "on":
            - devices: all
              mig-enabled: true
              mig-devices:
                "1g.10gb": 2
                "3g.40gb": 1
    "#]]
    .assert_eq(&written.yaml);
    let lost: Vec<&str> = written.lost.iter().map(|lost| lost.what.as_str()).collect();
    assert_eq!(lost, ["start 4", "name train"]);
    let error = write(None, &[config]).unwrap_err().to_string();
    assert_eq!(error, "configuration `on`: shape `3g` is written for a GPU; say which");
}
