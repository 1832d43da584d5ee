//! One release and two hosts: the second is refused until it is given the release.

use super::*;

#[test]
fn a_release_of_another_host_is_left_alone_until_it_is_given_up() {
    let site = Site::start();
    site.repo.publish(
        "trueup.yaml",
        "apiVersion: trueup/v1\nkind: Repository\nmetadata: {name: test}\n\
         spec: {environments: {lab: {hosts: [node1, node2]}}}\n",
    );
    site.run(&["apply"]).code(0);
    let holder = || {
        let map = site.object("ConfigMap", "shop", "trueup-web");
        map["metadata"]["annotations"]["trueup.io/holder"].clone()
    };
    assert_eq!(holder(), "node1");
    let other = Host::new();
    let config = fs::read_to_string(site.host.path().join("config.yaml")).unwrap();
    let (own, at) = (site.host.path().display().to_string(), other.path().display().to_string());
    let config = config.replace("host: node1", "host: node2");
    let config = config
        .replace(&format!("{own}/state"), &format!("{at}/state"))
        .replace(&format!("{own}/t.sock"), &format!("{at}/t.sock"));
    fs::write(other.path().join("config.yaml"), config).unwrap();
    let plan = other.run(&["plan"]);
    let said = format!("{}{}", plan.out, plan.err);
    assert!(said.contains("is kept by the host `node1`"), "{said}");
    assert!(said.contains("takesOverFrom: node1"), "{said}");
    other.run(&["apply"]);
    assert_eq!(holder(), "node1");

    site.repo.publish(
        "environments/lab/web.yaml",
        &RELEASE.replace("timeout: 30s", "timeout: 30s, takesOverFrom: node1"),
    );
    other.run(&["apply"]).code(0);
    assert_eq!(holder(), "node2");
    // The first one does not take it back, and removes nothing of it.
    let plan = site.run(&["plan"]);
    let said = format!("{}{}", plan.out, plan.err);
    assert!(said.contains("is kept by the host `node2`"), "{said}");
    site.repo.git(["rm", "-q", "environments/lab/web.yaml"]);
    site.repo.commit("take it out");
    site.repo.push();
    site.run(&["apply"]);
    assert_eq!(holder(), "node2");
    assert_eq!(site.object("ConfigMap", "shop", "colors")["data"]["sky"], "blue");
}
