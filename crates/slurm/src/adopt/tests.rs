//! Files of clusters that are there, read into a wish and written again.

use super::*;
use crate::release::Shape;
use crate::{render, sample};

fn files(cluster: &Cluster) -> (Conf, String) {
    let files = render(cluster, Shape::V22_05).unwrap();
    (Conf::parse(&files.slurm).unwrap(), files.gres)
}

#[test]
fn what_is_taken_over_is_written_again_as_it_was() {
    let mut cluster = sample::cluster();
    cluster.pools[0].features.insert("fast".into());
    cluster.pools[0].weight = 7;
    cluster.partitions[0].default_minutes = Some(10);
    cluster.hooks.prolog = Some("/etc/slurm/prolog".into());
    cluster.parameters.insert("SchedulerParameters".into(), "bf_interval=10".into());
    cluster.parameters.insert("PrivateData".into(), "jobs,usage".into());
    cluster.pools[1].parameters.insert("TmpDisk".into(), "1000".into());
    cluster.partitions[1].parameters.insert("OverSubscribe".into(), "FORCE:2".into());
    cluster.partitions[1].groups = ["vision".to_owned()].into();
    cluster.lines = vec!["NodeSet=mig Feature=mig".into()];
    cluster.gres_lines = vec!["AutoDetect=off".into()];
    let (conf, gres) = files(&cluster);
    let adopted = adopt(&conf, &gres).unwrap();
    assert_eq!(adopted.left, ["the database behind slurmdbd, which slurmdbd.conf names"]);
    let (again, gres_again) = files(&adopted.cluster);
    assert_eq!(again, conf);
    assert_eq!(gres_again, gres);
}

#[test]
fn what_a_wish_cannot_say_is_listed_and_a_set_of_nodes_is_refused() {
    let text = "ClusterName=old\nSlurmctldHost=ctl\nNodeName=n[1-2] CPUs=4 Boards=1\n\
        PartitionName=a Nodes=n[1-2] OverSubscribe=YES State=DRAIN\nPartitionName=b Nodes=n2\n";
    let gres = "AutoDetect=nvml\nNodeName=n1 Name=gpu File=/dev/nvidia0 Cores=0-1\n\
        Include /etc/slurm/more.conf\n";
    let adopted = adopt(&Conf::parse(text).unwrap(), gres).unwrap();
    assert_eq!(
        adopted.left,
        [
            "gres.conf line 2: NodeName=n1 Name=gpu File=/dev/nvidia0 Cores=0-1",
            "gres.conf line 3: Include /etc/slurm/more.conf",
            "state=DRAIN of partition a",
        ]
    );
    assert_eq!(adopted.cluster.gres_lines, ["AutoDetect=nvml"]);
    assert_eq!(adopted.cluster.pools[0].parameters["boards"], "1");
    assert_eq!(adopted.cluster.partitions[0].parameters["oversubscribe"], "YES");
    let names: Vec<&str> = adopted.cluster.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["n", "n-2"], "a pool for each set of partitions");
    let set = Conf::parse(&text.replace("Nodes=n2", "Nodes=fast")).unwrap();
    let error = adopt(&set, "").unwrap_err().to_string();
    assert!(error.contains("partition b has fast"), "{error}");
}
