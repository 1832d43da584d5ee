//! Answers of real clusters, 22.05 and 24.11 in the same situation, read into the same model.

use super::*;

const NODES: [(&str, &[u8]); 2] = [
    ("22.05.8", include_bytes!("../../fixtures/22.05/nodes.json")),
    ("24.11.5", include_bytes!("../../fixtures/24.11/nodes.json")),
];
const JOBS: [&[u8]; 2] = [
    include_bytes!("../../fixtures/22.05/jobs.json"),
    include_bytes!("../../fixtures/24.11/jobs.json"),
];
const PARTITIONS: [&str; 2] = [
    include_str!("../../fixtures/22.05/partitions.txt"),
    include_str!("../../fixtures/24.11/partitions.txt"),
];

#[test]
fn nodes_of_both_releases_are_the_same() {
    for (release, body) in NODES {
        let (seen, nodes) = nodes(body).unwrap();
        assert_eq!(seen.to_string(), release);
        assert_eq!(nodes.keys().collect::<Vec<_>>(), ["n1", "n2", "n3"], "{release}");
        let n1 = &nodes["n1"];
        assert_eq!((&n1.state, n1.is_drained(), n1.is_busy()), (&NodeState::Mixed, true, true));
        let reason = n1.reason.as_ref().unwrap();
        assert_eq!((reason.text.as_str(), reason.by.as_str()), ("disk broken, ask bob", "root"));
        assert!(reason.at > 1_700_000_000, "{}", reason.at);
        assert_eq!((n1.gres.as_str(), n1.cpus_allocated), ("gpu:a100:2", 1));
        assert_eq!(n1.release.unwrap(), seen);
        assert!(n1.features.contains("fast") && n1.partitions.contains("gpu"));
        assert_eq!(nodes["n2"].reason.as_ref().unwrap().text, "trueup:lab/pool-b/7");
        assert!(nodes["n2"].is_drained() && !nodes["n2"].is_busy() && nodes["n2"].is_up());
        assert_eq!((&nodes["n3"].state, &nodes["n3"].reason), (&NodeState::Allocated, &None));
    }
}

#[test]
fn jobs_of_both_releases_are_the_same() {
    for body in JOBS {
        let jobs = jobs(body).unwrap();
        let shown: Vec<_> =
            jobs.iter().map(|job| (job.id, &job.state, job.nodes.as_str(), job.cpus)).collect();
        assert_eq!(
            shown,
            [
                (1, &JobState::Running, "n1", 1),
                (2, &JobState::Pending, "", 4),
                (3, &JobState::Running, "n3", 4)
            ]
        );
        assert_eq!(jobs[1].tasks, "1-9");
        assert!(jobs[0].holds_nodes() && !jobs[1].holds_nodes());
        assert_eq!(jobs[0].tres, "cpu=1,mem=4000M,node=1,billing=1");
    }
}

#[test]
fn partitions_keep_what_a_file_would_say() {
    for text in PARTITIONS {
        let all = partitions(text).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["batch", "debug", "gpu"]);
        assert_eq!(all["gpu"].fields["maxtime"], "1-00:00:00");
        assert_eq!((all["batch"].nodes.as_str(), all["batch"].state.as_str()), ("n[1-3]", "UP"));
    }
}

#[test]
fn a_dead_controller_is_no_empty_cluster() {
    let body = br#"{"meta":{"Slurm":{"release":"22.05.8"}},
        "errors":[{"error":"Unspecified error","errno":-1}],"nodes":[]}"#;
    let error = nodes(body).unwrap_err();
    assert_eq!(error.to_string(), "Slurm refuses to answer: Unspecified error");
    assert!(error.is_passing());
}

#[test]
fn what_is_not_understood_is_said() {
    let newer = br#"{"meta":{"slurm":{"release":"26.05.0"}},"errors":[],"nodes":[]}"#;
    let error = nodes(newer).unwrap_err();
    assert!(matches!(error, ObserveError::UnknownRelease(_)), "{error}");
    assert!(!error.is_passing());
    let other = br#"{"meta":{"Slurm":{"release":"22.05.8"}},"errors":[],"nodes":[{"name":"n1"}]}"#;
    let error = nodes(other).unwrap_err().to_string();
    assert!(error.contains("missing field `state`"), "{error}");
    assert!(nodes(b"<html>").is_err());
    assert!(partitions("slurm_load_partitions error").is_err());
}

#[test]
fn reservations_and_none_of_them() {
    assert_eq!(reservations("No reservations in the system\n").unwrap().len(), 0);
    let text = "ReservationName=maint StartTime=1795267744 EndTime=1795271344 Duration=01:00:00 \
                Nodes=n3 Flags=MAINT,IGNORE_JOBS,SPEC_NODES Users=root Accounts=(null)";
    let all = reservations(text).unwrap();
    assert_eq!((all["maint"].start, all["maint"].accounts.as_str()), (1_795_267_744, ""));
    assert!(all["maint"].flags.contains("MAINT"));
    assert!(reservations("ReservationName=x StartTime=today EndTime=1").is_err());
}
