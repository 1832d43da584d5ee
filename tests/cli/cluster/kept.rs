//! What trueup keeps on the host for clusters: keys for as long as there is a cluster, and nothing of a trial.

use std::fs;

use super::site::Site;

#[test]
fn keys_of_a_cluster_go_once_the_log_says_that_it_is_gone_and_what_a_trial_left_at_once() {
    let Some(site) = Site::start() else { return };
    site.run(&["apply"]).code(0);
    let folder = site.host.path().join("state/cluster");
    let keys = |of: &str| folder.join("keys").join(of);
    for of in ["hpc", "gone"] {
        fs::create_dir_all(keys(of)).unwrap();
        fs::write(keys(of).join("munge-1.key"), "a key").unwrap();
    }
    // As a `kill -9` in the middle of a trial leaves it.
    let trial = folder.join("slurm-trial-abcdef");
    fs::create_dir_all(trial.join("state")).unwrap();
    site.run(&["plan"]);
    assert!(keys("gone").exists(), "whoever only looks removes no key");
    site.run(&["apply"]).code(0);
    assert!(!keys("gone").exists() && keys("hpc").join("munge-1.key").exists());
    assert!(!trial.exists());

    site.publish_none();
    site.run(&["plan"]);
    assert!(keys("hpc").exists(), "it is not gone yet");
    site.run(&["apply"]).code(0);
    assert!(site.known().is_null(), "{}", site.known());
    assert!(!keys("hpc").exists());
}
