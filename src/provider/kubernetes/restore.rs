//! A machine that was made anew is made the control plane again, on the authorities and the etcd of its cluster,
//! which are on a disk beside the new one. With an image of the next release that is an upgrade.
//!
//! Nothing is reset here: what was cut off is gone on with. Nothing is begun on data of another cluster, or that a
//! newer release has had, or where there are none.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::time::Instant;
use trueup_kubernetes::kubeadm::again::{self, DataMark};
use trueup_kubernetes::node::skew::Version;

use super::act::{COMES_BACK, Job};
use super::build::{CONFIG, On, Site};
use super::{data, kept, machine};
use crate::model::Fault;
use crate::model::resource::{KubernetesBuilt, KubernetesData, KubernetesMachine};
use crate::port::Outcome;
use crate::provider::files::blocking;

/// Between two questions to the API server: nobody tells.
const PAUSE: Duration = Duration::from_secs(2);

impl Site<'_> {
    /// Makes a machine the control plane again, and waits until its node is the new machine.
    pub(super) async fn restore(&self, built: &KubernetesBuilt) -> Result<Outcome, Fault> {
        let Some(control) = built.control().cloned() else {
            return Err(Fault::permanent(format!("{}: it has no control plane", self.id)));
        };
        self.tell(format!("kubeadm makes {} the control plane again", control.guest));
        let (node, machine) = (built.control_plane.clone(), control.guest.clone());
        let (provider, id, built) = (self.provider.clone(), self.id.clone(), built.clone());
        let work = move || {
            let guest = provider.guest(&control.guest);
            let on = On { id: &id, guest: &guest };
            let kept = kept::read(&provider.folder, &id.name);
            let kept = kept.map_err(|error| on.fault(kept::OF_THIS_HOST, &error))?;
            let (already, release) = on.restore(&built, &control, kept.as_deref())?;
            on.keep(&provider, &control.address.to_string())?;
            Ok((already, release))
        };
        let (already, release) = blocking("make a control plane again", work).await?;
        let job = Job::open(self.provider, self.id, self.progress).await?;
        job.answers_as(release).await?;
        // What the machine before said of its node stands until then.
        job.started(&node, &machine).await?;
        job.link.note();
        let facts = [("release".to_owned(), release.to_string())].into();
        Ok(Outcome { already, facts, ..Outcome::default() })
    }
}

impl Job<'_> {
    /// Waits until the API server answers, and is of that release.
    async fn answers_as(&self, release: Version) -> Result<(), Fault> {
        let late = Instant::now() + COMES_BACK;
        loop {
            let why = match self.link.api().version().await {
                Ok(text) if text.parse::<Version>() == Ok(release) => return Ok(()),
                Ok(text) => format!("it is {text} still, and {release} was started"),
                Err(fault) => fault.to_string(),
            };
            if Instant::now() >= late {
                return Err(Fault::transient(format!(
                    "{}: its API server, which was made again: {why}",
                    self.id
                )));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl On<'_> {
    /// Sets up the disk of what the cluster knows; whether anything was done. Where a control plane is on it
    /// without a mark, as after a move by hand, it gets one.
    pub(super) fn set_data(&self) -> io::Result<bool> {
        let changed = data::mount(self.guest)?;
        if changed && machine::is(self.guest, machine::CONTROL_PLANE)? {
            let release = self.any_release().map_err(io::Error::other)?;
            self.mark_data(release)?;
        }
        Ok(changed)
    }

    /// Says whose data are on their disk: this cluster's, which was up.
    pub(super) fn mark_data(&self, release: Version) -> io::Result<()> {
        let authority = data::digest(&data::authority(self.guest)?);
        let cluster = self.id.name.to_string();
        data::set_mark(self.guest, &DataMark { cluster, authority, release })
    }

    /// Whether it was the control plane already, and of which release. `kept`: the credentials that this host has
    /// for the cluster.
    pub(super) fn restore(
        &self,
        built: &KubernetesBuilt,
        control: &KubernetesMachine,
        kept: Option<&str>,
    ) -> Result<(bool, Version), Fault> {
        // Whoever began may be at it still.
        self.wait()?;
        let is = machine::is(self.guest, machine::CONTROL_PLANE);
        if is.map_err(|error| self.fault("its mark", &error))? {
            return Ok((true, self.any_release()?));
        }
        let release = self.release(&built.version)?;
        let there = self.data()?;
        let Some(there) = there else {
            return Err(Fault::needs_human(
                format!("{}: {} has no data of the cluster", self.id, self.guest.name()),
                "restore its disk of data from a backup, or remove the cluster and have another one made",
            ));
        };
        self.go_on(built, control, (kept, &there), release)?;
        Ok((false, release))
    }

    /// Whose data there are; `None`: of no cluster that was ever up.
    pub(super) fn data(&self) -> Result<Option<DataMark>, Fault> {
        let failed = |error: io::Error| self.fault("its disk of data", &error);
        match data::look(self.guest).map_err(failed)? {
            KubernetesData::Apart => data::mark(self.guest).map_err(failed),
            KubernetesData::Unset | KubernetesData::OnRoot | KubernetesData::Elsewhere => {
                Err(Fault::transient(format!(
                    "{}: the disk of data of {} is not mounted",
                    self.id,
                    self.guest.name()
                )))
            }
        }
    }

    /// Makes the control plane again.
    fn go_on(
        &self,
        built: &KubernetesBuilt,
        control: &KubernetesMachine,
        (kept, there): (Option<&str>, &DataMark),
        release: Version,
    ) -> Result<(), Fault> {
        let authority = data::authority(self.guest);
        let authority = authority.map_err(|error| self.fault("its disk of data", &error))?;
        let refused = |why: &str| {
            Fault::needs_human(
                format!("{}: {} has data that are not begun on: {why}", self.id, self.guest.name()),
                "give it the disk of data of this cluster, or an image that fits its release",
            )
        };
        // kubeadm puts it into kubeconfigs byte by byte.
        if kept.is_some_and(|kept| !kept.contains(&BASE64.encode(&authority))) {
            return Err(refused("the credentials kept on this host are of another authority"));
        }
        let own = DataMark {
            cluster: self.id.name.to_string(),
            authority: data::digest(&authority),
            release,
        };
        there.lets(&own).map_err(|why| refused(&why))?;
        let knows = data::knows(self.guest);
        if !knows.map_err(|error| self.fault("its disk of data", &error))? {
            // kubeadm would begin an empty one under the same authority, and it would pass for the old one.
            return Err(refused("etcd has nothing there"));
        }
        let begun = self.begun()?;
        self.told_to_init(built, control, release)?;
        let mut ignored = again::ignored(begun);
        let mut skipped = "--skip-phases=preflight".to_owned();
        if !built.dns {
            // Else it wants the image of what is not asked for.
            ignored.push_str(",ImagePull");
            skipped.push_str(",addon/coredns");
        }
        let ignored = format!("--ignore-preflight-errors={ignored}");
        let first = ["init", "phase", "preflight", "--config", CONFIG, &ignored];
        let ready = self.kubeadm("init phase preflight", &first);
        ready.map_err(|error| self.fault("what it needs first", &error))?;
        // From here on the new release may write what the one before does not read.
        if release > there.release {
            let marked = data::set_mark(self.guest, &own);
            marked.map_err(|error| self.fault("the mark of its data", &error))?;
        }
        let init = ["init", "--config", CONFIG, "--skip-token-print", &skipped];
        self.kubeadm("init", &init).map_err(|error| self.fault("making it again", &error))?;
        let marked = machine::mark(self.guest, machine::CONTROL_PLANE);
        marked.map_err(|error| self.fault("its mark", &error))
    }
}
