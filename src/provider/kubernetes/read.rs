//! Credentials that were lost on this host, read anew in the machine of the control plane, which has them. Nothing is
//! made here: where the machine is no control plane, that is told.

use super::build::{On, Site};
use super::machine;
use crate::model::Fault;
use crate::model::resource::KubernetesBuilt;
use crate::port::Outcome;
use crate::provider::files::blocking;

impl Site<'_> {
    /// Keeps the credentials that a control plane has, whatever release the document wants it to be of.
    pub(super) async fn read(&self, built: &KubernetesBuilt) -> Result<Outcome, Fault> {
        let Some(control) = built.control().cloned() else {
            return Err(Fault::permanent(format!("{}: it has no control plane", self.id)));
        };
        self.tell(format!("the credentials of {} are read anew", control.guest));
        let (provider, id) = (self.provider.clone(), self.id.clone());
        let work = move || {
            let guest = provider.guest(&control.guest);
            let on = On { id: &id, guest: &guest };
            // Whoever writes them may be at it still.
            on.wait()?;
            let is = machine::is(&guest, machine::CONTROL_PLANE);
            match is.map_err(|error| on.fault("its mark", &error))? {
                true => on.keep(&provider, &control.address.to_string()),
                // The next look says what it is by now.
                false => Err(Fault::transient(format!(
                    "{id}: {} is no control plane any more, and has no credentials to be read",
                    control.guest
                ))),
            }
        };
        blocking("read credentials", work).await?;
        Ok(Outcome::default())
    }
}
