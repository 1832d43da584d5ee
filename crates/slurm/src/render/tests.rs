//! A wish as files, word by word.

use expect_test::expect;

use super::*;
use crate::sample;

#[test]
fn a_cluster_is_written_down_the_same_each_time() {
    let files = render(&sample::cluster(), Shape::V22_05).unwrap();
    assert_eq!(files, render(&sample::cluster(), Shape::V22_05).unwrap());
    let own: Vec<&str> = files
        .slurm
        .lines()
        .filter(|line| !DEFAULTS.iter().any(|(key, _)| line.starts_with(&format!("{key}="))))
        .collect();
    expect![[r#"
        # Written by trueup from the repository; what is changed here is undone.
        ClusterName=lab
        SlurmctldHost=ctl(10.0.0.1)
        AccountingStorageEnforce=associations,limits,qos
        AccountingStorageHost=ctl
        AccountingStoragePort=6819
        AccountingStorageTRES=gres/gpu,gres/gpu:3g.40gb
        AccountingStorageType=accounting_storage/slurmdbd
        GresTypes=gpu
        PriorityType=priority/multifactor

        NodeName=n[1-3] CPUs=4 RealMemory=4000 Weight=1 State=UNKNOWN

        NodeName=g[1-2] CPUs=4 RealMemory=4000 Gres=gpu:3g.40gb:2 Weight=1 State=UNKNOWN

        PartitionName=batch Nodes=n[1-3] Default=YES MaxTime=UNLIMITED PriorityTier=1 State=UP
        PartitionName=gpu Nodes=g[1-2] Default=NO MaxTime=1440 PriorityTier=1 State=UP"#]]
    .assert_eq(&own.join("\n"));
    expect![[r#"
        # Written by trueup from the repository; what is changed here is undone.
        NodeName=g[1-2] Name=gpu Type=3g.40gb MultipleFiles=/dev/nvidia0,/dev/nvidia-caps/nvidia-cap12,/dev/nvidia-caps/nvidia-cap13
        NodeName=g[1-2] Name=gpu Type=3g.40gb MultipleFiles=/dev/nvidia0,/dev/nvidia-caps/nvidia-cap21,/dev/nvidia-caps/nvidia-cap22
    "#]].assert_eq(&files.gres);
    expect![[r#"
        # Written by trueup from the repository; what is changed here is undone.
        CgroupAutomount=yes
        ConstrainCores=yes
        ConstrainDevices=yes
        ConstrainRAMSpace=yes
    "#]]
    .assert_eq(&files.cgroup);
    expect![[r#"
        # Written by trueup from the repository; what is changed here is undone.
        AuthType=auth/munge
        DbdHost=ctl
        DbdPort=6819
        LogFile=/var/log/slurm/slurmdbd.log
        PidFile=/run/slurmdbd.pid
        SlurmUser=slurm
        StorageType=accounting_storage/mysql
        StorageHost=localhost
        StorageLoc=slurm_acct
        StorageUser=slurm
    "#]]
    .assert_eq(files.slurmdbd.as_deref().unwrap());
}

#[test]
fn what_is_said_by_hand_stands_over_the_defaults_once() {
    let mut wish = sample::cluster();
    wish.parameters.insert("slurmuser".into(), "root".into());
    wish.parameters.insert("DebugFlags".into(), "Gres,Steps".into());
    wish.lines = vec!["NodeSet=mig  Feature=\"mig\"".into()];
    let text = render(&wish, Shape::V24_11).unwrap().slurm;
    assert!(text.contains("slurmuser=root\n") && !text.contains("SlurmUser="), "{text}");
    assert!(text.ends_with("NodeSet=mig Feature=mig\n"), "{text}");
    let read = conf::Conf::parse(&text).unwrap();
    assert_eq!(read.parameter("DebugFlags"), Some("Gres,Steps"));
    assert_eq!(read.nodes.len(), 5);
}

#[test]
fn an_unsound_wish_is_not_written() {
    let mut wish = sample::cluster();
    wish.controllers.clear();
    let error = render(&wish, Shape::V22_05).unwrap_err();
    assert!(error.to_string().contains("`controllers` has to be one"), "{error}");
}
