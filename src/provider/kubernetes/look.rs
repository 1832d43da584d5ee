//! A look at every Kubernetes cluster that is asked for. One that does not answer is unreadable, never
//! empty.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use trueup_kubernetes::cert::Certificate;
use trueup_kubernetes::kubeadm::MACHINE;
use trueup_kubernetes::namespace;
use trueup_kubernetes::podnet::{self, PodNetwork, Subnet};
use trueup_kubernetes::release::EngineError;

use super::KubernetesProvider;
use super::data;
use super::link::{Link, LookError};
use super::machine::{self, Wanted};
use crate::model::resource::{
    Cluster, KubernetesBuilt, KubernetesCluster, KubernetesData, KubernetesLost,
    KubernetesMachineSeen, KubernetesSeen,
};
use crate::model::{Fault, Kind, Name, Observation, Observed, Ownership, Resource, ResourceId};
use crate::port::{AgentFault, Scope};
use crate::provider::files::blocking;
use crate::provider::guest::{self, Guest};

/// Longest look at one cluster: less than a pass waits for all of them.
pub(super) const LOOK: Duration = Duration::from_secs(45);

impl KubernetesProvider {
    /// Looks at every cluster of `scope`, side by side.
    pub(super) async fn look(&self, scope: &Scope) -> Observed {
        let mut looks = JoinSet::new();
        for (id, wish) in &scope.desired.resources {
            let Resource::Cluster(cluster) = &wish.resource else { continue };
            let Some(cluster) = cluster.kubernetes() else { continue };
            let (provider, id, cluster) = (self.clone(), id.clone(), cluster.clone());
            let (adopt, claimed) = (wish.lifecycle.adopt, scope.claims.contains_key(&id));
            let ours = ours(scope, &cluster);
            looks.spawn(async move {
                let known = Known { claimed, ours: &ours };
                let look = async {
                    match provider.one(&id, &cluster, adopt, known).await {
                        Ok(Found::Seen(seen)) => Ok(Some(observation(cluster.clone(), *seen))),
                        Ok(Found::Lost(what)) => Ok(Some(lost(cluster.clone(), what))),
                        Ok(Found::Unmade) => Ok(None),
                        // Whatever cannot be found out about its machine, this is why it is not seen.
                        Err(why) => match provider.is_lost(&id, &cluster, known).await {
                            true => Ok(Some(lost(cluster.clone(), KubernetesLost::ControlPlane))),
                            false => Err(why),
                        },
                    }
                };
                let look = tokio::time::timeout(LOOK, look).await;
                let late = || Err(format!("it did not answer within {} s", LOOK.as_secs()));
                (id, look.unwrap_or_else(|_| late()))
            });
        }
        let (mut observed, mut unmade) = (self.look_behind(scope).await, BTreeSet::new());
        while let Some(look) = looks.join_next().await {
            // One that panicked is told of below, as all that were not seen.
            let Ok((id, seen)) = look else { continue };
            match seen {
                Ok(Some(seen)) => drop(observed.resources.insert(id, seen)),
                Ok(None) => {
                    unmade.insert(id);
                }
                Err(why) => drop(observed.unreadable.insert(id, why)),
            }
        }
        for (id, wish) in &scope.desired.resources {
            let Resource::Cluster(cluster) = &wish.resource else { continue };
            let seen = observed.resources.contains_key(id)
                || observed.unreadable.contains_key(id)
                || unmade.contains(id);
            if cluster.kubernetes().is_some() && !seen {
                let why = "the look at it ended in a panic, which is a bug of trueup";
                observed.unreadable.insert(id.clone(), why.to_owned());
            }
        }
        self.connections.rest();
        observed
    }

    pub(super) async fn one(
        &self,
        id: &ResourceId,
        cluster: &KubernetesCluster,
        adopt: bool,
        known: Known<'_>,
    ) -> Result<Found, String> {
        if let Some(built) = &cluster.built
            && !self.connections.has(id.name.as_str())
        {
            return self.without_credentials(built, known).await;
        }
        let wish = wish(id, cluster, adopt).map_err(|fault| fault.to_string())?;
        let link = self.link(&id.name).await?;
        let seen = link.look(&wish, !cluster.kubeconfigs.is_empty()).await.map_err(|error| {
            match &error {
                LookError::Server(fault) | LookError::Namespaces(EngineError::Fault(fault)) => {
                    self.doubt(&id.name, fault);
                }
                LookError::Namespaces(_) => {}
            }
            error.to_string()
        });
        let mut seen = seen?;
        if let Some(built) = &cluster.built {
            let of = machine::node_of(&link.connection.access.authorities_pem());
            (seen.machines, seen.unwell) =
                self.machines(built, &seen.nodes, of, known.ours).await?;
            self.certificates(id, built, &link, (&mut seen, known.ours)).await;
        }
        Ok(Found::Seen(Box::new(seen)))
    }

    /// Adds the certificates in the machine of the control plane, and which of all of them kubeadm renews.
    async fn certificates(
        &self,
        id: &ResourceId,
        built: &KubernetesBuilt,
        link: &Link,
        (seen, ours): (&mut KubernetesSeen, &BTreeSet<Name>),
    ) {
        let answers = seen.machines.contains_key(&built.control_plane);
        let control =
            built.control().map(|it| &it.guest).filter(|it| answers && ours.contains(*it));
        let found = self.in_machine(link, control).await;
        let names = |all: &[Certificate]| all.iter().map(|it| it.what.clone()).collect::<Vec<_>>();
        seen.renewable.extend(names(&found.certificates));
        if !self.connections.is_said(id.name.as_str()) {
            seen.renewable.extend(names(&seen.certificates));
        }
        seen.certificates.extend(found.certificates);
        seen.view.unread.extend(found.unread);
    }

    /// Whether a cluster that nobody has credentials for is one to be made, or made to its end. One that was
    /// begun, and whose machine is away, is no cluster that was never there; nor is one whose machine says that
    /// it is its control plane, or has its data.
    async fn without_credentials(
        &self,
        built: &KubernetesBuilt,
        known: Known<'_>,
    ) -> Result<Found, String> {
        let Some(control) = built.control() else { return Ok(Found::Unmade) };
        let (provider, name) = (self.clone(), control.guest.clone());
        let (is_ours, data) = (known.ours.contains(&name), built.data.is_some());
        let claimed = known.claimed;
        let ask = move || {
            let guest = provider.guest(&name);
            let answer = match is_ours {
                true => guest.ping(),
                false => Err(AgentFault::NoMachine(name.to_string())),
            };
            let found = match answer {
                // It has nothing of a cluster that nobody began.
                Ok(()) if !claimed => return Ok(Found::Unmade),
                Ok(()) => left_in(&guest, data).map_err(|error| error.to_string()),
                Err(AgentFault::NoMachine(_) | AgentFault::Silent(_)) if !claimed => {
                    return Ok(Found::Unmade);
                }
                Err(fault) => Err(fault.to_string()),
            };
            found.map_err(|why| Fault::transient(format!("its control plane: {why}")))
        };
        blocking("ask a machine", ask).await.map_err(|fault| fault.to_string())
    }

    /// Whether the machine of a control plane that there was is none, and has a disk with what its cluster knows:
    /// it was made anew. That it cannot be asked is no such answer.
    pub(super) async fn is_lost(
        &self,
        id: &ResourceId,
        cluster: &KubernetesCluster,
        known: Known<'_>,
    ) -> bool {
        let built = cluster.built.as_ref().filter(|built| built.data.is_some());
        let Some(control) = built.and_then(KubernetesBuilt::control) else { return false };
        let was = known.claimed && self.connections.has(id.name.as_str());
        if !was || !known.ours.contains(&control.guest) {
            return false;
        }
        let (provider, name) = (self.clone(), control.guest.clone());
        let ask = move || {
            let guest = provider.guest(&name);
            let is = |error: std::io::Error| Fault::transient(error.to_string());
            guest.ping().map_err(|fault| Fault::transient(fault.to_string()))?;
            Ok(!machine::is(&guest, machine::CONTROL_PLANE).map_err(is)?
                && data::is_there(&guest).map_err(is)?)
        };
        blocking("ask a machine", ask).await.unwrap_or(false)
    }

    /// The machines that answer, and how they are; and those of them that cannot be looked at, and why.
    async fn machines(
        &self,
        built: &KubernetesBuilt,
        nodes: &BTreeMap<String, Arc<Value>>,
        of: String,
        ours: &BTreeSet<Name>,
    ) -> Result<(BTreeMap<String, KubernetesMachineSeen>, BTreeMap<String, String>), String> {
        let networks = networks(built, nodes);
        let (provider, built, ours) = (self.clone(), built.clone(), ours.clone());
        let look = move || {
            let guests = built.guests().into_iter().filter(|(_, name)| ours.contains(name));
            let guests = guests.map(|(node, name)| (node, provider.guest(&name)));
            let by_guest: BTreeMap<&str, &str> = built
                .machines
                .iter()
                .map(|(node, it)| (it.guest.as_str(), node.as_str()))
                .collect();
            let found = guest::each(guests.collect(), |_, guest| {
                let node = by_guest.get(guest.name()).copied().unwrap_or_default();
                let is_control = node == built.control_plane;
                let of = if is_control { machine::CONTROL_PLANE } else { of.as_str() };
                let data = is_control && built.data.is_some();
                let wanted = Wanted { of, network: networks.get(node), data };
                guest.ping().ok().map(|()| machine::look(guest, &wanted))
            });
            let (mut seen, mut unwell) = (BTreeMap::new(), BTreeMap::new());
            for (node, found) in found {
                match found {
                    Some(Ok(one)) => {
                        seen.insert(node, one);
                    }
                    // It hides no other.
                    Some(Err(why)) => {
                        unwell.insert(node, why);
                    }
                    None => {}
                }
            }
            Ok((seen, unwell))
        };
        blocking("look at machines", look).await.map_err(|fault| fault.to_string())
    }
}

/// What a look at one cluster found.
#[derive(Debug)]
pub(super) enum Found {
    /// It is not there yet.
    Unmade,
    /// Something of it was lost.
    Lost(KubernetesLost),
    /// It answers.
    Seen(Box<KubernetesSeen>),
}

/// What is left of a cluster in the machine of its control plane, where its credentials are not kept.
///
/// # Errors
/// It does not say, or what is there was not made by trueup.
fn left_in(guest: &Guest, data: bool) -> io::Result<Found> {
    if machine::is(guest, machine::CONTROL_PLANE)? {
        return Ok(Found::Lost(KubernetesLost::Credentials));
    }
    if !data {
        return Ok(Found::Unmade);
    }
    match data::look(guest)? {
        KubernetesData::Apart => Ok(match data::mark(guest)? {
            Some(_) => Found::Lost(KubernetesLost::ControlPlane),
            None => Found::Unmade,
        }),
        KubernetesData::OnRoot => Err(io::Error::other(format!(
            "{} has authorities or an etcd on its first disk, and not trueup's mark of a control plane: if nobody \
             needs them, run `kubeadm reset` in it",
            guest.name()
        ))),
        KubernetesData::Unset | KubernetesData::Elsewhere => Ok(match data::is_there(guest)? {
            true => Found::Lost(KubernetesLost::Unknown),
            false => Found::Unmade,
        }),
    }
}

/// What the log knows.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    /// Whether it remembers the cluster as ours.
    pub(super) claimed: bool,
    /// The machines of it that trueup made. One of its name that it did not make is somebody's, and is asked
    /// nothing.
    pub(super) ours: &'a BTreeSet<Name>,
}

/// The machines of a cluster that trueup made.
fn ours(scope: &Scope, cluster: &KubernetesCluster) -> BTreeSet<Name> {
    let guests = cluster.built.iter().flat_map(|built| built.guests().into_values());
    let of = |name: &Name| ResourceId::new(Kind::VirtualMachine, name.clone());
    guests.filter(|name| scope.known.contains(&of(name))).collect()
}

/// The network of pods on each machine, as far as the cluster has given out addresses. A node that goes has
/// pods until it is emptied, and there are ways to them until it is none.
pub(super) fn networks(
    built: &KubernetesBuilt,
    nodes: &BTreeMap<String, Arc<Value>>,
) -> BTreeMap<String, PodNetwork> {
    let Some(all) = Subnet::read(&built.pods).ok().filter(|_| built.bridge) else {
        return BTreeMap::new();
    };
    let pods = podnet::pods_of(all, nodes);
    let stay = built.machines.iter().map(|(node, it)| (node.clone(), it.address));
    let goes = |(name, node): (&String, &Arc<Value>)| {
        let made = node.pointer("/metadata/labels").is_some_and(|all| all.get(MACHINE).is_some());
        let goes = made && !built.machines.contains_key(name);
        Some((name.clone(), podnet::address_of(node).filter(|_| goes)?))
    };
    let addresses = stay.chain(nodes.iter().filter_map(goes)).collect();
    let of = |node: &String| podnet::network(node, all, &pods, &addresses);
    built.machines.keys().filter_map(|node| Some((node.clone(), of(node)?))).collect()
}

/// The release of a cluster's namespaces.
pub(super) fn wish(
    id: &ResourceId,
    cluster: &KubernetesCluster,
    adopt: bool,
) -> Result<trueup_kubernetes::release::Wish, Fault> {
    let release = namespace::release(id.name.as_str());
    let release = release.map_err(|error| Fault::permanent(format!("{id}: {error}")))?;
    let wish = namespace::wish(release, &cluster.namespaces, adopt);
    wish.map_err(|error| Fault::permanent(format!("{id}: {error}")))
}

pub(super) fn observation(cluster: KubernetesCluster, seen: KubernetesSeen) -> Observation {
    observed(KubernetesCluster { seen: Some(Arc::new(seen)), ..cluster })
}

/// A cluster of which that was lost.
fn lost(cluster: KubernetesCluster, what: KubernetesLost) -> Observation {
    observed(KubernetesCluster { lost: Some(what), ..cluster })
}

fn observed(seen: KubernetesCluster) -> Observation {
    Observation {
        ownership: Ownership::Unmarked,
        config: Resource::Cluster(Box::new(Cluster::Kubernetes(seen))),
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    }
}
