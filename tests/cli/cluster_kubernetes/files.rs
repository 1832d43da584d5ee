//! Files for people's own programs: the machines of a cluster as an inventory and as a configuration for ssh.

use serde_json::{Value, json};

use super::site::Site;

#[test]
fn machines_of_a_cluster_are_printed_for_ansible_and_for_ssh() {
    let site = Site::start(&["g1", "g2"]);
    site.publish_with(&json!({"pools": [{"name": "gpu", "nodes": ["g[1-2]"]}]}), false);
    site.run(&["apply"]);
    let none = site.run(&["cluster", "access", "ssh"]).code(1);
    assert!(none.out.is_empty() && none.err.contains("no cluster yet"), "it is not ours: {none:?}");

    site.publish(&json!({"pools": [{"name": "gpu", "nodes": ["g[1-2]"]}]}));
    site.run(&["apply"]).code(0);
    let ssh = site.run(&["cluster", "access", "ssh"]).code(0).out;
    assert_eq!(
        ssh,
        "# cluster/cloud\nHost cloud-g1 g1\n    HostName g1\nHost cloud-g2 g2\n    HostName g2\n"
    );
    let inventory = site.run(&["cluster", "access", "ansible", "--cluster", "cloud"]).code(0).out;
    let inventory: Value = serde_saphyr::from_str(&inventory).unwrap();
    let hosts = json!({"hosts": {"g1": {}, "g2": {}}});
    assert_eq!(
        inventory,
        json!({"all": {"children": {"cloud": {"children": {"cloud_pool_gpu": hosts}}}}})
    );
    let other = site.run(&["cluster", "access", "ssh", "--cluster", "hpc"]).code(1);
    assert!(other.out.is_empty() && other.err.contains("no cluster/hpc of trueup's"), "{other:?}");
}
