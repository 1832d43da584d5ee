//! One kind, and two providers for it: each is shown what is its own, and is handed its own steps. Clusters are of
//! Slurm or of Kubernetes, releases are objects of a cluster or folders of files.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Fault, Kind, Observed, Resource, ResourceId};
use crate::plan::{Action, Step};
use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope, misdirected};

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    First,
    Second,
}

/// The two providers of a kind.
pub(super) struct Pair {
    name: &'static str,
    kind: [Kind; 1],
    first: Arc<dyn Provider>,
    second: Arc<dyn Provider>,
    /// Whose a resource of the kind is.
    of_resource: fn(&Resource) -> Hand,
    /// Whose a step is; `None`: it is a step of another kind.
    of_step: fn(&Step, &Scope) -> Option<Hand>,
}

impl Pair {
    /// Clusters, whatever runs them.
    pub(super) fn clusters(slurm: Arc<dyn Provider>, kubernetes: Arc<dyn Provider>) -> Self {
        Self {
            name: "cluster",
            kind: [Kind::Cluster],
            first: slurm,
            second: kubernetes,
            of_resource: of_cluster,
            of_step: |step, _| of_cluster_step(&step.action),
        }
    }

    /// Releases, whatever they are made of.
    pub(super) fn releases(objects: Arc<dyn Provider>, folders: Arc<dyn Provider>) -> Self {
        Self {
            name: "release",
            kind: [Kind::Release],
            first: objects,
            second: folders,
            of_resource: of_release,
            of_step: of_release_step,
        }
    }

    fn provider(&self, hand: Hand) -> &Arc<dyn Provider> {
        match hand {
            Hand::First => &self.first,
            Hand::Second => &self.second,
        }
    }

    /// Whose a resource is that is asked for or remembered: what is asked for otherwise now is for whoever is asked.
    fn whose(&self, scope: &Scope, id: &ResourceId, remembered: &Resource) -> Hand {
        let now = scope.desired.resources.get(id).map_or(remembered, |wish| &wish.resource);
        (self.of_resource)(now)
    }

    /// What one of the two has to see: the same scope without what is the other's.
    fn part(&self, scope: &Scope, hand: Hand) -> Scope {
        let others = |id: &ResourceId, resource: &Resource| {
            id.kind == self.kind[0] && self.whose(scope, id, resource) != hand
        };
        let mut part = scope.clone();
        if scope.desired.resources.iter().any(|(id, it)| others(id, &it.resource)) {
            let mut desired = (*scope.desired).clone();
            desired.resources.retain(|id, it| !others(id, &it.resource));
            part.desired = Arc::new(desired);
        }
        if scope.claims.iter().any(|(id, it)| others(id, it)) {
            let claims = scope.claims.iter().filter(|(id, it)| !others(id, it));
            let claims: BTreeMap<_, _> = claims.map(|(id, it)| (id.clone(), it.clone())).collect();
            part.claims = Arc::new(claims);
        }
        part
    }

    /// What one of the two saw of its part. What it did not see at all is unreadable, and nothing of the
    /// other's is.
    fn seen(&self, looked: Result<Observed, Fault>, part: &Scope) -> Observed {
        looked.unwrap_or_else(|fault| {
            let asked = part.desired.resources.keys().chain(part.claims.keys());
            let own = asked.filter(|id| id.kind == self.kind[0]);
            let unreadable = own.map(|id| (id.clone(), fault.to_string())).collect();
            Observed { unreadable, ..Observed::default() }
        })
    }
}

fn of_cluster(resource: &Resource) -> Hand {
    match resource {
        Resource::Cluster(cluster) if cluster.kubernetes().is_some() => Hand::Second,
        _ => Hand::First,
    }
}

fn of_release(resource: &Resource) -> Hand {
    match resource {
        Resource::Release(release) if release.folder.is_some() => Hand::Second,
        _ => Hand::First,
    }
}

/// By the action alone: a cluster that is asked for otherwise now ends in the hands that it was in.
fn of_cluster_step(action: &Action) -> Option<Hand> {
    match action {
        Action::ClusterAdopt { .. }
        | Action::ClusterRecover { .. }
        | Action::ClusterPrepare { .. }
        | Action::ClusterDatabase { .. }
        | Action::ClusterCopy { .. }
        | Action::ClusterFirewall { .. }
        | Action::ClusterProve { .. }
        | Action::ClusterConfigure { .. }
        | Action::ClusterReconfigure { .. }
        | Action::ClusterNode { .. }
        | Action::ClusterAccount { .. } => Some(Hand::First),
        Action::KubernetesAdopt
        | Action::KubernetesPrepare { .. }
        | Action::KubernetesInit { .. }
        | Action::KubernetesRestore { .. }
        | Action::KubernetesConnect { .. }
        | Action::KubernetesRenew { .. }
        | Action::KubernetesNode { .. }
        | Action::KubernetesNamespace { .. }
        | Action::KubernetesAccess { .. } => Some(Hand::Second),
        Action::PoolDefine { .. }
        | Action::PoolStart
        | Action::PoolUndefine
        | Action::NetworkDefine { .. }
        | Action::NetworkUpdateLive { .. }
        | Action::NetworkStart { .. }
        | Action::NetworkStop
        | Action::NetworkUndefine
        | Action::ImageCreate { .. }
        | Action::ImageDelete { .. }
        | Action::DiskCreate { .. }
        | Action::DiskGrow { .. }
        | Action::DiskDelete { .. }
        | Action::SeedCreate { .. }
        | Action::SeedDelete { .. }
        | Action::GpuStopClients { .. }
        | Action::GpuMigMode { .. }
        | Action::GpuDestroyCompute { .. }
        | Action::GpuDestroyInstance { .. }
        | Action::GpuCreateInstance { .. }
        | Action::GpuCreateCompute { .. }
        | Action::GpuHandover { .. }
        | Action::GpuSettle { .. }
        | Action::VmDefine { .. }
        | Action::VmUpdateLive { .. }
        | Action::VmSnapshot { .. }
        | Action::VmForget { .. }
        | Action::VmStart
        | Action::VmPause
        | Action::VmStop { .. }
        | Action::VmAwaitReady { .. }
        | Action::VmUndefine
        | Action::BackupOpen { .. }
        | Action::BackupRun { .. }
        | Action::BackupClear { .. }
        | Action::BackupVerify { .. }
        | Action::BackupDrill { .. }
        | Action::BackupForget { .. }
        | Action::Release { .. } => None,
    }
}

/// Steps of both are called the same: it is for whoever the release is asked of, or was.
fn of_release_step(step: &Step, scope: &Scope) -> Option<Hand> {
    if !matches!(step.action, Action::Release { .. }) {
        return None;
    }
    let asked = scope.desired.resources.get(&step.resource).map(|wish| &wish.resource);
    let of = asked.or_else(|| scope.claims.get(&step.resource));
    Some(of.map_or(Hand::First, of_release))
}

impl Provider for Pair {
    fn name(&self) -> &'static str {
        self.name
    }

    fn kinds(&self) -> &[Kind] {
        &self.kind
    }

    fn observe<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
        Box::pin(async move {
            let (first, second) = (self.part(scope, Hand::First), self.part(scope, Hand::Second));
            let looks = (self.first.observe(&first), self.second.observe(&second));
            let looked = tokio::join!(looks.0, looks.1);
            let mut observed = self.seen(looked.0, &first);
            observed.merge(self.seen(looked.1, &second));
            Ok(observed)
        })
    }

    fn perform<'a>(
        &'a self,
        step: &'a Step,
        scope: &'a Scope,
        progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>> {
        match (self.of_step)(step, scope) {
            Some(hand) => self.provider(hand).perform(step, scope, progress),
            None => Box::pin(std::future::ready(Err(misdirected(self.name, step)))),
        }
    }

    fn let_go<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, ()> {
        // Of everything, as what is known is nobody's alone; and not at once, as both may have something in
        // one folder.
        Box::pin(async move {
            self.first.let_go(scope).await;
            self.second.let_go(scope).await;
        })
    }

    fn settled(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            tokio::join!(self.first.settled(), self.second.settled());
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use super::*;
    use crate::model::Name;
    use crate::model::resource::{Cluster, KubernetesCluster};
    use crate::plan::{Disruption, Reason};
    use crate::spec::{Desired, SyncSettings};

    /// A provider that notes what it is asked.
    #[derive(Default)]
    struct Hears {
        said: Mutex<Vec<String>>,
        fails: bool,
    }

    impl Hears {
        fn hear(&self, what: &str) {
            self.said.lock().unwrap().push(what.to_owned());
        }

        fn said(&self) -> Vec<String> {
            std::mem::take(&mut *self.said.lock().unwrap())
        }
    }

    impl Provider for Hears {
        fn name(&self) -> &'static str {
            "hears"
        }

        fn kinds(&self) -> &[Kind] {
            &[]
        }

        fn observe<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
            for id in scope.claims.keys() {
                self.hear(&format!("see {id}"));
            }
            let seen = match self.fails {
                true => Err(Fault::unobservable("away")),
                false => Ok(Observed::default()),
            };
            Box::pin(std::future::ready(seen))
        }

        fn perform<'a>(
            &'a self,
            step: &'a Step,
            _scope: &'a Scope,
            _progress: Progress,
        ) -> BoxFuture<'a, Result<Outcome, Fault>> {
            self.hear(step.action.verb());
            Box::pin(std::future::ready(Ok(Outcome::default())))
        }

        fn let_go<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, ()> {
            self.hear(&format!("let go beside {}", scope.claims.len()));
            Box::pin(std::future::ready(()))
        }
    }

    fn scope() -> Scope {
        let cluster = KubernetesCluster::default();
        let cluster = Resource::Cluster(Box::new(Cluster::Kubernetes(cluster)));
        let desired = Desired {
            environment: Name::new("lab").unwrap(),
            sync: SyncSettings::default(),
            resources: BTreeMap::new(),
        };
        Scope {
            desired: Arc::new(desired),
            known: Arc::new(BTreeSet::new()),
            claims: Arc::new([("cluster/cloud".parse().unwrap(), cluster)].into()),
            awaited: Arc::default(),
            fresh: false,
        }
    }

    fn step(action: Action) -> Step {
        Step {
            resource: "cluster/cloud".parse().unwrap(),
            action,
            disruption: Disruption::None,
            reason: Reason::Changed,
            changes: Vec::new(),
            after: BTreeSet::new(),
            interrupts: BTreeSet::new(),
        }
    }

    #[tokio::test]
    async fn each_is_handed_its_own_and_a_step_of_another_kind_is_handed_to_nobody() {
        let (slurm, kubernetes) = (Arc::new(Hears::default()), Arc::new(Hears::default()));
        let pairs = [
            Pair::clusters(Arc::clone(&slurm) as _, Arc::clone(&kubernetes) as _),
            Pair::releases(Arc::clone(&slurm) as _, Arc::clone(&kubernetes) as _),
        ];
        let progress: Progress = Arc::new(|_| ());
        let (scope, [clusters, releases]) = (scope(), &pairs);
        let recover = step(Action::ClusterRecover { place: Default::default() });
        clusters.perform(&recover, &scope, Arc::clone(&progress)).await.unwrap();
        let adopt = step(Action::KubernetesAdopt);
        clusters.perform(&adopt, &scope, Arc::clone(&progress)).await.unwrap();
        assert_eq!(
            (slurm.said(), kubernetes.said()),
            (vec!["recover".into()], vec!["take over".into()])
        );
        for (pair, wrong) in [(clusters, step(Action::VmStart)), (releases, adopt)] {
            let fault = pair.perform(&wrong, &scope, Arc::clone(&progress)).await.unwrap_err();
            let words = format!("cluster/cloud was handed to the {} provider", pair.name());
            assert!(fault.to_string().contains(&words), "{fault}");
        }
        assert_eq!((slurm.said(), kubernetes.said()), (Vec::new(), Vec::new()));
        // Both are told what may go, and are told of everything.
        for pair in &pairs {
            pair.let_go(&scope).await;
            let both = vec!["let go beside 1".to_owned()];
            assert_eq!((slurm.said(), kubernetes.said()), (both.clone(), both));
        }
    }

    #[tokio::test]
    async fn what_one_does_not_see_is_unreadable_and_only_its_own() {
        let slurm = Arc::new(Hears::default());
        let away = Arc::new(Hears { fails: true, ..Hears::default() });
        let scope = scope();
        let pair = Pair::clusters(Arc::clone(&slurm) as _, Arc::clone(&away) as _);
        let seen = pair.observe(&scope).await.unwrap();
        let unseen: Vec<String> = seen.unreadable.keys().map(ToString::to_string).collect();
        assert_eq!(unseen, ["cluster/cloud"]);
        assert_eq!((slurm.said(), away.said()), (Vec::new(), vec!["see cluster/cloud".to_owned()]));
        // The other way round it is somebody else's, and nothing is known of it.
        let pair = Pair::clusters(away, slurm);
        assert!(pair.observe(&scope).await.unwrap().unreadable.is_empty());
    }
}
