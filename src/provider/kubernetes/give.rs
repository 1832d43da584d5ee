//! Access for people, given outside of plans: an operator waits for it, and the token goes to nobody else.
//!
//! What was asked for is in the log before anything is done here; the end of it is a plan's.

use std::time::Duration;

use trueup_kubernetes::Fault as KubeFault;
use trueup_kubernetes::grant::{Grant, GrantError, Grants, Kubeconfig};

use super::KubernetesProvider;
use crate::model::{Fault, ResourceId};

/// Longest time for all of it: somebody waits at a terminal.
const GIVE: Duration = Duration::from_secs(60);

impl KubernetesProvider {
    /// Makes what gives somebody access to a cluster, and a kubeconfig for them.
    ///
    /// # Errors
    /// A [`Fault`]; something may have been made.
    pub async fn give(
        &self,
        id: &ResourceId,
        grant: &Grant,
        seconds: u64,
    ) -> Result<Kubeconfig, Fault> {
        let given = tokio::time::timeout(GIVE, self.given(id, grant, seconds)).await;
        given.unwrap_or_else(|_| {
            Err(Fault::transient(format!("{id}: no answer within {} s", GIVE.as_secs())))
        })
    }

    async fn given(
        &self,
        id: &ResourceId,
        grant: &Grant,
        seconds: u64,
    ) -> Result<Kubeconfig, Fault> {
        let link = self.link(&id.name).await;
        let link = link.map_err(|why| Fault::transient(format!("{id}: {why}")))?;
        let failed = |fault: &KubeFault| {
            self.doubt(&id.name, fault);
            Fault::transient(format!("{id}: {fault}"))
        };
        let cluster = id.name.as_str();
        let grants = Grants::new(link.api().clone(), link.giver().clone());
        let made = grants.give(grant).await;
        // Also where it failed: something may have been made.
        link.note();
        made.map_err(|error| match error {
            GrantError::Fault(KubeFault::NotFound { .. }) => Fault::transient(format!(
                "{id}: the cluster has no namespace {} (yet); see `trueup status`",
                grant.namespace
            )),
            GrantError::Fault(fault) => failed(&fault),
            GrantError::HomeTaken(_) | GrantError::Taken(_) => {
                Fault::permanent(format!("{id}: {error}"))
            }
        })?;
        let token = grants.token(grant, seconds).await.map_err(|fault| failed(&fault))?;
        Ok(Kubeconfig::new(&link.connection.access, cluster, grant, &token))
    }
}
