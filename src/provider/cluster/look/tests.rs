//! Looks at clusters: what is away is not gone, and what is not ours is asked nothing.

use trueup_slurm::Shape;

use super::super::{ClusterHost, ClusterProvider, ClusterSetup};
use super::*;
use crate::model::resource::{MachineSeen, NodeStep, SlurmBuilt};
use crate::plan::{Action, Disruption, Reason, Step};
use crate::port::Provider as _;
use crate::provider::files::tests::scope;
use crate::provider::guest::fake::{Fake, with};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn cluster(guest: Option<&str>) -> SlurmCluster {
    let wish = serde_json::from_value(serde_json::json!({
        "name": "lab", "controllers": [], "pools": [], "partitions": []
    }));
    SlurmCluster {
        place: SlurmPlace { guest: guest.map(name) },
        wish: wish.unwrap(),
        built: guest.map(|_| SlurmBuilt {
            machines: [("n1", "hpc-n1"), ("n2", "hpc-n2")]
                .map(|(node, machine)| (node.to_owned(), name(machine)))
                .into(),
            key: 1,
            server: "10.7.0.10:6817".into(),
            release: Shape::V22_05,
            firewall: None,
        }),
        drain_timeout_s: 60,
        max_unavailable: 1,
        seen: None,
    }
}

fn provider(folder: &std::path::Path, fake: &Arc<Fake>) -> ClusterProvider {
    let setup = ClusterSetup {
        folder: folder.to_owned(),
        hosts: BTreeMap::new(),
        usual: ClusterHost { folder: folder.join("etc"), ..ClusterHost::default() },
    };
    ClusterProvider::new(setup).with_agents(Arc::clone(fake) as Arc<dyn crate::port::Agents>)
}

/// How the machines of a cluster are.
fn machines(
    provider: &ClusterProvider,
    cluster: &SlurmCluster,
    known: Known<'_>,
) -> (BTreeMap<String, MachineSeen>, BTreeMap<String, String>) {
    let (built, files) = (cluster.built.as_ref().unwrap(), Copies::of(["", "", ""]));
    provider.machines(&name("hpc"), cluster, built, known, (&files, None)).unwrap()
}

fn ids<const N: usize>(names: [&str; N]) -> BTreeSet<ResourceId> {
    names.map(|id| id.parse().unwrap()).into()
}

#[test]
fn a_cluster_whose_controller_is_gone_is_no_cluster_that_was_never_there() {
    with(&[], |_, fake| {
        let folder = tempfile::tempdir().unwrap();
        let provider = provider(folder.path(), fake);
        let id: ResourceId = "cluster/hpc".parse().unwrap();
        let ours = ids(["vm/hpc-ctl"]);
        let look = |claimed: bool| {
            let own = Resource::Cluster(Box::new(Cluster::Slurm(cluster(Some("hpc-ctl")))));
            let claims = claimed.then(|| (id.clone(), own)).into_iter().collect();
            let known = Known { claims: &claims, ours: &ours };
            provider.one(&id, &cluster(Some("hpc-ctl")), known, false).map(|seen| seen.is_some())
        };
        for away in [AgentFault::NoMachine("hpc-ctl".into()), AgentFault::Silent("hpc-ctl".into())]
        {
            fake.is(Some(away));
            assert_eq!(look(false), Ok(false), "it is to be made");
            let why = look(true).unwrap_err();
            assert!(why.starts_with("its controller: ") && why.contains("hpc-ctl"), "{why}");
        }
        fake.is(None);
        assert_eq!(look(true), Ok(false), "an empty machine");
    });
}

#[test]
fn a_machine_of_our_name_that_trueup_did_not_make_is_asked_nothing() {
    with(&[], |_, fake| {
        let folder = tempfile::tempdir().unwrap();
        let provider = provider(folder.path(), fake);
        let id: ResourceId = "cluster/hpc".parse().unwrap();
        let cluster = cluster(Some("hpc-ctl"));
        let claims = BTreeMap::new();
        let foreign = ids([]);
        let known = Known { claims: &claims, ours: &foreign };
        assert_eq!(provider.one(&id, &cluster, known, false), Ok(None));
        let (seen, unwell) = machines(&provider, &cluster, known);
        assert!(seen.is_empty() && unwell.is_empty());
        assert_eq!(fake.asked(), 0);
        // Of two the one that is ours is looked at.
        let ours = ids(["vm/hpc-n2"]);
        let known = Known { claims: &claims, ours: &ours };
        let (seen, _) = machines(&provider, &cluster, known);
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["n2"]);
        assert!(fake.asked() > 0);
    });
}

#[test]
fn one_machine_whose_programs_fail_hides_no_other() {
    with(&[], |_, fake| {
        let folder = tempfile::tempdir().unwrap();
        let provider = provider(folder.path(), fake);
        let (claims, ours) = (BTreeMap::new(), ids(["vm/hpc-n1", "vm/hpc-n2"]));
        let known = Known { claims: &claims, ours: &ours };
        let cluster = cluster(Some("hpc-ctl"));
        fake.is_unwell(Some("hpc-n1"));
        let (seen, unwell) = machines(&provider, &cluster, known);
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["n2"]);
        let why = &unwell["n1"];
        assert!(why.contains("cannot start sha256sum") && why.contains("hpc-n1"), "{why}");
        fake.is_unwell(None);
        assert!(machines(&provider, &cluster, known).1.is_empty());
    });
}

#[test]
fn a_folder_is_one_clusters_alone() {
    with(&[], |_, fake| {
        let folder = tempfile::tempdir().unwrap();
        let provider = provider(folder.path(), fake);
        let (hpc, new): (ResourceId, ResourceId) =
            ("cluster/hpc".parse().unwrap(), "cluster/a-new-one".parse().unwrap());
        let (here, built) = (cluster(None), cluster(Some("hpc-ctl")));
        let alone = [(&hpc, &here), (&new, &built)];
        assert!(provider.doubled(alone.into_iter(), &BTreeMap::new()).is_empty());
        let both = [(&new, &here), (&hpc, &here)];
        let of = Resource::Cluster(Box::new(Cluster::Slurm(here.clone())));
        let claims = BTreeMap::from([(hpc.clone(), of)]);
        let doubled = provider.doubled(both.into_iter(), &claims);
        assert_eq!(doubled.keys().collect::<Vec<_>>(), [&new], "whose it is goes on");
        let why = &doubled[&new];
        assert!(why.contains("cluster/hpc") && why.contains("clusters.a-new-one.folder"), "{why}");
    });
}

#[test]
fn keys_of_clusters_that_are_gone_for_good_go_and_no_others() {
    with(&[], |_, fake| {
        let folder = tempfile::tempdir().unwrap();
        let provider = provider(folder.path(), fake);
        let key = |of: &str| super::super::key::get(folder.path(), &name(of), 1).unwrap();
        let there = |of: &str| folder.path().join("keys").join(of).exists();
        for of in ["wished", "known", "held", "gone"] {
            drop(key(of));
        }
        let wished = ids(["cluster/wished"]);
        // The machines of one are removed later than its document.
        let ours = ids(["cluster/known", "vm/held-n1", "vm/gone"]);
        let kept = |id: &ResourceId| wished.contains(id) || ours.contains(id);
        provider.forget(&kept, &ours).unwrap();
        assert_eq!(["wished", "known", "held", "gone"].map(there), [true, true, true, false]);
        provider.forget(&|_| false, &ids([])).unwrap();
        assert_eq!(["wished", "known", "held", "gone"].map(there), [false; 4]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_in_a_machine_of_its_name_that_is_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Arc::new(Fake::default());
    let provider = provider(folder.path(), &fake);
    let place = SlurmPlace { guest: Some(name("hpc-ctl")) };
    let n1 = BTreeMap::from([("n1".to_owned(), name("hpc-n1"))]);
    let join = NodeStep::Join { guest: name("hpc-n1"), server: "ctl:6817".into() };
    let token = trueup_slurm::plan::roll::Token::new("hpc", "cpu", "0a1b");
    let steps = [
        (Action::ClusterReconfigure { place: place.clone() }, "hpc-ctl"),
        (
            Action::ClusterPrepare {
                place: place.clone(),
                machines: n1.clone(),
                key: 1,
                shared: None,
            },
            "hpc-n1",
        ),
        (
            Action::ClusterCopy {
                place: place.clone(),
                machines: n1.clone(),
                controllers: Vec::new(),
            },
            "hpc-n1",
        ),
        (Action::ClusterNode { place, node: "n1".into(), step: join, token }, "hpc-n1"),
    ];
    for (action, foreign) in steps {
        let step = Step {
            resource: "cluster/hpc".parse().unwrap(),
            action,
            disruption: Disruption::None,
            reason: Reason::Missing,
            changes: Vec::new(),
            after: BTreeSet::new(),
            interrupts: BTreeSet::new(),
        };
        // All others of the cluster are ours.
        let mut known = ids(["vm/hpc-ctl", "vm/hpc-n1"]);
        known.remove(&format!("vm/{foreign}").parse().unwrap());
        let scope = Scope { known: Arc::new(known), ..scope(BTreeMap::new()) };
        let done = provider.perform(&step, &scope, Arc::new(|_| ())).await;
        let why = done.unwrap_err().to_string();
        assert!(why.contains(&format!("{foreign} was not made by trueup")), "{why}");
        assert_eq!(fake.asked(), 0, "{why}");
    }
    let kept: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(kept.is_empty(), "no key was made for it: {kept:?}");
}
