//! The hands: which provider answers for which kind.
//!
//! A kind that this build has no hand for is unobservable, never absent.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trueup_kubernetes::{Connections, KubeconfigRef, Limits};

use super::pair::Pair;
use crate::config::{ClusterSettings, Config, ProgramRule};
use crate::journal::{self, layout};
use crate::model::{Digest, Name};
use crate::port::Provider;
use crate::private;
use crate::provider::backup::protocol::Target;
use crate::provider::backup::{Allowed, BackupProvider, BackupSetup, OwnPlaces, Vault};
use crate::provider::cluster::{ClusterHost, ClusterProvider, ClusterSetup};
use crate::provider::folder::{FolderProvider, FolderSetup};
use crate::provider::gpu::{GpuProvider, GpuSetup};
use crate::provider::image::{Builder, ImageProvider};
use crate::provider::kubernetes::{KubernetesProvider, kept_kubeconfigs};
use crate::provider::release::ReleaseProvider;
use crate::provider::render::{HostRenderer, RenderSetup};
use crate::provider::seed::SeedProvider;
use crate::source::MirrorConfig;

/// Where libvirt keeps disks when nobody says otherwise.
const LIBVIRT_IMAGES: &str = "/var/lib/libvirt/images";
/// What is kept of clusters, in the state directory.
const CLUSTERS: &str = "cluster";
/// After how long a connection to a cluster ends that nobody asks for any more, and each of its watches: a
/// pull request that is looked at now and then must not make them anew each time.
const KUBERNETES_IDLE: Duration = Duration::from_secs(600);

/// What wakes the loop beside the clock and the repository.
pub(in super::super) struct Wakes {
    libvirt: libvirt::Wakes,
    gpu: GpuProvider,
    connections: Connections,
    kubernetes: KubernetesProvider,
}

impl Wakes {
    /// The GPUs of this machine, for whoever asks about them.
    pub(in super::super) fn gpus(&self) -> GpuProvider {
        self.gpu.clone()
    }

    /// The Kubernetes clusters of this host, for whoever is to be given access.
    pub(in super::super) fn kubernetes(&self) -> KubernetesProvider {
        self.kubernetes.clone()
    }

    /// Calls `wake` for everything libvirt, NVML and clusters report from now on. Never ends.
    pub(in super::super) async fn each(self, wake: impl Fn()) {
        let (gpu, clusters) = (self.gpu.each_event(&wake), self.connections.each_event(&wake));
        tokio::join!(self.libvirt.each(&wake), gpu, clusters);
    }
}

/// The GPUs of this machine. Nothing is loaded before they are looked at.
pub(in super::super) fn gpus(config: &Config) -> GpuProvider {
    let library = config.gpu.library.clone();
    GpuProvider::new(GpuSetup { library, ..GpuSetup::default() })
}

/// The backups of this host. No repository is opened before there is something to do.
pub(in super::super) fn backups(config: &Config, config_path: &Path) -> BackupProvider {
    let state = config.state_directory();
    let repository = &config.repository;
    let mirror = MirrorConfig::new(&repository.url, &repository.branch, &state);
    let folder = config.backup.secrets.clone();
    let secrets = move |name: &Name| secret(&folder.join(name.as_str()));
    BackupProvider::new(BackupSetup {
        program: own_program(),
        folder: state.join("backup"),
        scratch: config.backup.scratch.clone().unwrap_or_else(|| state.join("backup/drill")),
        scratch_of_guests: scratch_of_guests(config, &state),
        host: config.host(),
        programs: config.backup.programs.iter().map(allowed).collect(),
        own: OwnPlaces {
            log: layout::log_dir(&state),
            config: Some(config_path.to_owned()).filter(|path| path.is_file()),
            mirror: mirror.directory,
            state,
        },
        secrets: Arc::new(secrets),
        secrets_folder: config.backup.secrets.clone(),
        prove_log: Arc::new(proved),
    })
}

/// Where drills that boot guests restore to: among libvirt's images, which QEMU can reach and the unit
/// may write to, in a folder of this very state directory.
fn scratch_of_guests(config: &Config, state: &Path) -> PathBuf {
    config.backup.scratch.clone().unwrap_or_else(|| {
        let whose = Digest::of(state.display().to_string());
        Path::new(LIBVIRT_IMAGES).join(format!(".trueup-drill-{}", whose.short()))
    })
}

/// This program, for what runs in a process of its own. Where its file is not known, starting it says
/// so.
fn own_program() -> PathBuf {
    std::env::current_exe().map(installed).unwrap_or_else(|_| "trueup".into())
}

/// A repository that nothing is known of yet. `at`: where it lies, for people.
pub(in super::super) fn vault(
    target: Target,
    at: String,
    key_file: &Path,
    folder: &Path,
) -> Result<Vault, String> {
    Ok(Vault {
        program: own_program(),
        target,
        at,
        key: secret(key_file)?,
        folder: folder.to_owned(),
    })
}

/// Proves the log of a state directory: its chain, line by line.
fn proved(dir: &Path) -> Result<String, String> {
    let report = journal::verify(dir).map_err(|error| error.to_string())?;
    Ok(format!("the log in it is whole up to event {}", report.head.seq))
}

fn allowed(rule: &ProgramRule) -> Allowed {
    match rule {
        ProgramRule::Any(any) if any.any_arguments => Allowed::AnyArguments(any.program.clone()),
        ProgramRule::Exactly(exact) => Allowed::Exactly(exact.argv.clone()),
        ProgramRule::Alone(_) | ProgramRule::Any(_) => {
            // A path that is no text matches no argument of a document.
            Allowed::Exactly(rule.program().to_str().map(ToOwned::to_owned).into_iter().collect())
        }
    }
}

/// The Slurm clusters of this host.
fn clusters(config: &Config) -> ClusterProvider {
    let host = |settings: &ClusterSettings| ClusterHost {
        folder: settings.folder.clone(),
        programs: settings.programs.clone(),
        slurmctld: settings.slurmctld.clone(),
        slurmrestd: settings.slurmrestd.clone(),
        allowed_paths: settings.allowed_paths.clone(),
        restart_controller: settings.restart_controller.clone(),
        restart_node: settings.restart_node.clone(),
    };
    let named = config.clusters.iter().map(|(name, settings)| (name.clone(), host(settings)));
    ClusterProvider::new(ClusterSetup {
        folder: config.state_directory().join(CLUSTERS),
        hosts: named.collect(),
        usual: host(&ClusterSettings::default()),
    })
}

/// The ways to the Kubernetes clusters that the config leads to, and to those that trueup built, for all who
/// have to do with one. No server is asked before there is a look.
fn connections(config: &Config) -> Connections {
    let ways = config.clusters.iter().filter_map(|(name, settings)| {
        let path = settings.kubeconfig.clone()?;
        // A program that the file names would run as root.
        let way = KubeconfigRef { path, context: settings.context.clone(), programs: false };
        Some((name.to_string(), way))
    });
    let idle = KUBERNETES_IDLE.max(3 * config.limits.resync.duration());
    let kept = kept_kubeconfigs(config.state_directory().join(CLUSTERS));
    Connections::or_kept(ways.collect(), kept, Limits::LOOKS, idle)
}

/// Folders that Slurm clusters share.
fn folders(config: &Config) -> FolderProvider {
    let shared = config.clusters.iter().filter(|(_, settings)| !settings.shared.is_empty());
    let shared = shared.map(|(name, settings)| (name.clone(), settings.shared.clone()));
    FolderProvider::new(FolderSetup { shared: shared.collect(), host: config.host() })
}

/// What renders charts and kustomizations of this host's commits.
pub(super) fn renderer(config: &Config) -> HostRenderer {
    let programs = &config.programs;
    let exec_pid = std::env::var("SYSTEMD_EXEC_PID").ok();
    HostRenderer::new(RenderSetup {
        folder: config.state_directory().join("render"),
        helm: programs.helm.clone(),
        kustomize: programs.kustomize.clone(),
        kubectl: programs.kubectl.clone(),
        by_hand: false,
        in_unit: exec_pid.is_some_and(|pid| pid == std::process::id().to_string()),
        limit: None,
    })
}

/// The first line of a file that only root may know.
fn secret(path: &Path) -> Result<String, String> {
    let named = |why: String| format!("{}: {why}", path.display());
    let text = private::read(path).map_err(|fault| named(fault.to_string()))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() { Err(named("its first line is empty".into())) } else { Ok(line.to_owned()) }
}

/// Every provider of this build, and what wakes the loop. Every kind has exactly one provider. `log`: what
/// tells this host's log from all others.
pub(super) async fn all(
    config: &Config,
    config_path: &Path,
    log: &str,
) -> (Vec<Arc<dyn Provider>>, Wakes) {
    let (machine, libvirt) = libvirt::hand(config).await;
    let gpu = gpus(config);
    let connections = connections(config);
    let releases = ReleaseProvider::new(connections.clone(), Some(config.host()));
    let folder = config.state_directory().join(CLUSTERS);
    let kubernetes = KubernetesProvider::new(connections.clone(), folder, log);
    let wakes = Wakes { libvirt, gpu: gpu.clone(), connections, kubernetes: kubernetes.clone() };
    let downloads = config.state_directory().join("downloads");
    let images = ImageProvider::new(downloads).with_builder(builder());
    let backups = wakes.libvirt.guests(config, backups(config, config_path));
    let backups = Arc::new(backups);
    let slurm = Arc::new(wakes.libvirt.agents(clusters(config)));
    let kubernetes = Arc::new(wakes.libvirt.agents_of(kubernetes));
    let clusters = Arc::new(Pair::clusters(slurm, kubernetes));
    let providers: Vec<Arc<dyn Provider>> = vec![
        machine,
        Arc::new(images),
        Arc::new(SeedProvider),
        Arc::new(gpu),
        backups,
        clusters,
        Arc::new(Pair::releases(Arc::new(releases), Arc::new(folders(config)))),
    ];
    (providers, wakes)
}

/// Images are built in a unit of their own where systemd runs this process in one.
fn builder() -> Builder {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            tracing::warn!(%error, "cannot find this program's file: images are built here");
            return Builder::Here;
        }
    };
    let exec_pid = std::env::var("SYSTEMD_EXEC_PID").ok();
    Builder::fitting(exec_pid.as_deref(), std::process::id(), installed(program))
}

/// The path a program was started from: the kernel marks one that was replaced since, as an upgrade
/// does (proc(5), `/proc/pid/exe`), and the new one answers there.
fn installed(program: PathBuf) -> PathBuf {
    match program.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
        Some(path) => path.into(),
        None => program,
    }
}

#[cfg(feature = "libvirt")]
mod libvirt {
    //! With libvirt: one client for the life of the loop.

    use std::path::PathBuf;
    use std::sync::Arc;

    use trueup_libvirt::{Client, Options};

    use crate::config::{AcceleratorChoice, Config};
    use crate::port::Provider;
    use crate::provider::backup::BackupProvider;
    use crate::provider::cluster::ClusterProvider;
    use crate::provider::image::{cpu_has_virtualisation, kvm_works};
    use crate::provider::kubernetes::KubernetesProvider;
    use crate::provider::libvirt::{LibvirtAgents, LibvirtGuests, LibvirtProvider, Settings};

    /// What libvirt reports.
    pub(in super::super::super) struct Wakes(LibvirtProvider);

    pub(super) async fn hand(config: &Config) -> (Arc<dyn Provider>, Wakes) {
        let mut options = Options::new(&config.libvirt.uri);
        options.call_timeout = config.libvirt.call_timeout.duration();
        let settings = Settings::new(kvm(config.accelerator).await);
        let provider = LibvirtProvider::new(Client::new(options), settings);
        (Arc::new(provider.clone()), Wakes(provider))
    }

    impl Wakes {
        /// Backups that can read the disks of guests.
        pub(super) fn guests(&self, config: &Config, backups: BackupProvider) -> BackupProvider {
            let folder = config.state_directory().join("backup/guests");
            let guests = LibvirtGuests::new(self.0.client(), folder);
            backups.with_guests(Arc::new(guests.with_accelerator(self.0.accelerator())))
        }

        /// Clusters that can be in guests.
        pub(super) fn agents(&self, clusters: ClusterProvider) -> ClusterProvider {
            clusters.with_agents(Arc::new(LibvirtAgents::new(self.0.client())))
        }

        /// Clusters of Kubernetes that can be in guests.
        pub(super) fn agents_of(&self, clusters: KubernetesProvider) -> KubernetesProvider {
            clusters.with_agents(Arc::new(LibvirtAgents::new(self.0.client())))
        }

        /// Calls `wake` for everything libvirt reports from now on. Ends with the client.
        pub(in super::super::super) async fn each(self, wake: impl Fn()) {
            let mut events = self.0.events();
            while events.next().await.is_some() {
                wake();
            }
        }
    }

    /// Whether guests run under KVM: as the config says, else what a probe shows.
    async fn kvm(choice: AcceleratorChoice) -> bool {
        match (choice, kernel()) {
            (AcceleratorChoice::Kvm, _) => true,
            (AcceleratorChoice::Tcg, _) => false,
            (AcceleratorChoice::Auto, Some(kernel)) => kvm_works(&kernel).await,
            (AcceleratorChoice::Auto, None) if !cpu_has_virtualisation().await => {
                tracing::info!("no KVM: the CPU shows no svm or vmx flag; guests are emulated");
                false
            }
            (AcceleratorChoice::Auto, None) => {
                tracing::warn!(
                    "no kernel in /boot to prove KVM with: guests are emulated; set \
                     `accelerator: kvm` where it works"
                );
                false
            }
        }
    }

    /// A kernel to prove KVM with: the running one's file, or any other that is installed.
    fn kernel() -> Option<PathBuf> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let running = PathBuf::from(format!("/boot/vmlinuz-{release}"));
        if running.is_file() {
            return Some(running);
        }
        let installed = std::fs::read_dir("/boot").ok()?.filter_map(Result::ok);
        let kernels = installed.map(|entry| entry.path()).filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
        });
        kernels.max()
    }
}

#[cfg(not(feature = "libvirt"))]
mod libvirt {
    //! Without libvirt: its kinds cannot be looked at.

    use std::sync::Arc;

    use crate::config::Config;
    use crate::model::{Fault, Kind, Observed};
    use crate::plan::Step;
    use crate::port::{BoxFuture, Outcome, Progress, Provider, Scope};
    use crate::provider::backup::BackupProvider;
    use crate::provider::cluster::ClusterProvider;
    use crate::provider::kubernetes::KubernetesProvider;

    /// Answers for kinds that this build cannot look at.
    struct Absent {
        uri: String,
    }

    /// Nothing ever reports.
    pub(in super::super::super) struct Wakes;

    pub(super) async fn hand(config: &Config) -> (Arc<dyn Provider>, Wakes) {
        (Arc::new(Absent { uri: config.libvirt.uri.clone() }), Wakes)
    }

    impl Wakes {
        /// Backups that cannot read the disks of guests.
        pub(super) fn guests(&self, _config: &Config, backups: BackupProvider) -> BackupProvider {
            backups
        }

        /// Clusters of this host alone.
        pub(super) fn agents(&self, clusters: ClusterProvider) -> ClusterProvider {
            clusters
        }

        /// Clusters of Kubernetes that are there.
        pub(super) fn agents_of(&self, clusters: KubernetesProvider) -> KubernetesProvider {
            clusters
        }

        /// Never calls `wake` and never ends.
        pub(in super::super::super) async fn each(self, _wake: impl Fn()) {
            std::future::pending::<()>().await;
        }
    }

    impl Absent {
        fn fault(&self) -> Fault {
            Fault::unobservable(format!(
                "this trueup was built without libvirt, so {} cannot be looked at: install a \
                 build with it",
                self.uri
            ))
        }
    }

    impl Provider for Absent {
        fn name(&self) -> &'static str {
            "libvirt"
        }

        fn kinds(&self) -> &[Kind] {
            &[Kind::StoragePool, Kind::Network, Kind::Disk, Kind::VirtualMachine]
        }

        fn observe<'a>(&'a self, _scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
            Box::pin(async { Err(self.fault()) })
        }

        fn perform<'a>(
            &'a self,
            _step: &'a Step,
            _scope: &'a Scope,
            _progress: Progress,
        ) -> BoxFuture<'a, Result<Outcome, Fault>> {
            Box::pin(async { Err(self.fault()) })
        }
    }
}
