//! Certificates of a control plane, renewed: by kubeadm in its machine, then its programs are started anew, and
//! the credentials that are kept are read anew. kubelets renew theirs by themselves. That of the authority is
//! renewed by nobody.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use trueup_kubernetes::cert::{self, Certificate};
use trueup_kubernetes::leads_where;
use trueup_slurm::Machine as _;
use trueup_slurm::run::Argv;

use super::act::Job;
use super::build::{On, QUESTION};
use super::kept;
use crate::model::{Fault, Name};
use crate::port::Outcome;
use crate::provider::files::blocking;

/// What reads certificates when it is started, in the order in which it is started anew.
const PROGRAMS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
/// How long the API server may take to come back with its new certificate.
const COMES_BACK: Duration = Duration::from_secs(900);
/// Between two looks at the certificate that it shows: nobody tells.
const PAUSE: Duration = Duration::from_secs(2);

impl Job<'_> {
    /// Renews what ends soon, and all else that kubeadm made with it.
    pub(super) async fn renew(&self, guest: &Name) -> Result<Outcome, Fault> {
        let before = cert::of_server(&self.link.connection.access).await;
        let before = before.map_err(|why| self.away(&why))?;
        let (provider, id, guest) =
            (self.provider.clone(), self.id.clone(), self.provider.guest(guest));
        let again = guest.clone();
        let work = move || {
            let on = On { id: &id, guest: &guest };
            let done = on.kubeadm("certs", &["certs", "renew", "all"]);
            done.map_err(|error| on.fault("renewing certificates", &error))?;
            on.start_anew().map_err(|error| on.fault("starting its programs anew", &error))
        };
        let renewed = blocking("renew certificates", work).await;
        let shown = match renewed {
            Ok(()) => self.shows_other_than(&before).await,
            Err(fault) => Err(fault),
        };
        // Also where it failed: some of them may be new by then.
        self.link.note_renewed().await;
        shown?;
        let id = self.id.clone();
        let keep = move || {
            let on = On { id: &id, guest: &again };
            let kept = kept::read(&provider.folder, &id.name);
            // Where the host's config leads to it none may be kept, and it needs none.
            match kept.map_err(|error| on.fault(kept::OF_THIS_HOST, &error))? {
                Some(kept) => on.keep(&provider, &leads_where(&kept).unwrap_or_default()),
                None => Ok(()),
            }
        };
        blocking("keep credentials", keep).await?;
        Ok(Outcome::default())
    }

    /// Waits until the server shows another certificate than before, and answers.
    async fn shows_other_than(&self, before: &Certificate) -> Result<(), Fault> {
        let late = Instant::now() + COMES_BACK;
        loop {
            let why = match cert::of_server(&self.link.connection.access).await {
                Ok(now) if now.until > before.until => match self.link.api().version().await {
                    Ok(_) => return Ok(()),
                    Err(fault) => fault.to_string(),
                },
                Ok(_) => "it shows its old certificate still".to_owned(),
                Err(why) => why,
            };
            if Instant::now() >= late {
                return Err(self.away(&why));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn away(&self, why: &str) -> Fault {
        Fault::transient(format!(
            "{}: its API server, whose certificate is renewed: {why}",
            self.id
        ))
    }
}

impl On<'_> {
    /// Ends the programs of the control plane; their kubelet starts them anew at once.
    fn start_anew(&self) -> Result<(), String> {
        let ctr = |arguments: &[&str]| {
            let argv = Argv::new("ctr").args(["-n", "k8s.io"]).args(arguments);
            let said = argv.ask_on(self.guest, QUESTION).map_err(|error| error.to_string())?;
            Ok::<_, String>(String::from_utf8_lossy(&said).into_owned())
        };
        let running = ctr(&["tasks", "ls", "-q"])?;
        let running: BTreeSet<&str> = running.lines().map(str::trim).collect();
        for program in PROGRAMS {
            let filter = format!("labels.\"io.kubernetes.container.name\"=={program}");
            let all = ctr(&["containers", "ls", "-q", &filter])?;
            let ours = all.lines().map(str::trim).filter(|one| running.contains(one));
            for one in ours.filter(|one| one.chars().all(|c| c.is_ascii_alphanumeric())) {
                let argv =
                    Argv::new("ctr").args(["-n", "k8s.io", "tasks", "kill", "-s", "SIGTERM"]);
                // It may have ended by itself just now, which is all that is wanted.
                self.guest.run(&argv.args([one]), QUESTION).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}
