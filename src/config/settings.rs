//! What can be set, with its defaults. The doc comments are the manual and the schema's texts.
//!
//! Plain data: it never opens a file it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::size::Size;
use super::span::Span;
use crate::model::{Name, ResourceId};

/// The settings of trueup on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The Git repository that says what this machine has to be.
    pub repository: RepositorySettings,
    /// The environment this host belongs to. Default: the one that `trueup.yaml` of the repository
    /// names for this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub environment: Option<Name>,
    /// The name of this host. Default: what the machine calls itself, up to the first dot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Where the log, the mirror and the indexes live. Default: `$STATE_DIRECTORY`, else
    /// `/var/lib/trueup`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_directory: Option<PathBuf>,
    /// The socket the command line talks to the daemon through. Default:
    /// `$RUNTIME_DIRECTORY/trueup.sock`, else `/run/trueup/trueup.sock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// How libvirt is reached.
    #[serde(default)]
    pub libvirt: LibvirtSettings,
    /// How GPUs are reached.
    #[serde(default)]
    pub gpu: GpuSettings,
    /// What backups may use of this host.
    #[serde(default)]
    pub backup: BackupSettings,
    /// How clusters are reached and their daemons are started anew, by the name of the `Cluster`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, ClusterSettings>")]
    pub clusters: BTreeMap<Name, ClusterSettings>,
    /// Programs of others that releases need: what they render decides what is applied, so that no commit
    /// names one.
    #[serde(default, skip_serializing_if = "ReleasePrograms::is_none")]
    pub programs: ReleasePrograms,
    /// What executes guests.
    #[serde(default)]
    pub accelerator: AcceleratorChoice,
    /// How much is done at once and how often it is looked at.
    #[serde(default)]
    pub limits: Limits,
    /// What the daemon writes about itself.
    #[serde(default)]
    pub telemetry: TelemetrySettings,
    /// Resources that are never stopped or removed, as `kind/name`, whatever a commit says: what
    /// trueup's repository runs on, for one. What a protected machine lies on is protected with it.
    /// The pool that holds trueup's own state, and the network through which a repository with an
    /// address in its URL is reached, need not be named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub protect: Vec<ResourceId>,
    /// The forge that hosts the repository. Without it pull requests are not looked at and nothing is
    /// posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forge: Option<super::forge::ForgeSettings>,
}

/// The Git repository that is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RepositorySettings {
    /// A path, or a `file://`, `https://` or `ssh://` URL. Never with a password in it.
    pub url: String,
    /// The branch that is followed.
    #[serde(default = "default_branch")]
    pub branch: String,
    /// How to log in over https. Exactly one of its forms may be given.
    #[serde(default)]
    pub credentials: CredentialSettings,
    /// Certificate authorities (PEM) trusted for https beside the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// How ssh is called.
    #[serde(default)]
    pub ssh: SshSettings,
    /// The most one fetch may bring, with its unit: a repository of text is far smaller.
    #[serde(default)]
    pub fetch_max: Size,
    /// How often the repository is asked.
    #[serde(default)]
    pub poll: PollSettings,
    /// Whose signature a commit needs before it is used.
    #[serde(default)]
    pub signatures: SignatureSettings,
}

fn default_branch() -> String {
    "main".to_owned()
}

/// Where the login for https comes from. It is read anew each time, so a rotated token needs no
/// restart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialSettings {
    /// The user that is sent. Default: `x-access-token`, which every forge takes for tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// A file whose first line is the token; it must not be readable by others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The name of a systemd credential (`LoadCredential=`) that holds the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Ask the git credential helpers of the user the daemon runs as.
    #[serde(default)]
    pub helper: bool,
}

/// The user sent with a token where none is named.
const USERNAME_DEFAULT: &str = "x-access-token";

impl CredentialSettings {
    /// The user to send.
    #[must_use]
    pub fn username(&self) -> &str {
        self.username.as_deref().unwrap_or(USERNAME_DEFAULT)
    }

    /// How many of the forms are given.
    pub(super) fn forms(&self) -> usize {
        usize::from(self.token_file.is_some())
            + usize::from(self.credential.is_some())
            + usize::from(self.helper)
    }
}

/// How ssh is called. It never asks and never accepts an unknown host key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SshSettings {
    /// The private key. Default: ssh's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<PathBuf>,
    /// The known hosts. Default: ssh's own files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<PathBuf>,
}

/// How often the repository is asked for its head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PollSettings {
    /// Time between two polls; made longer by up to a fifth so that hosts do not ask in step. Longer
    /// while the repository does not answer.
    pub interval: Span,
    /// The most one conversation with the repository may take.
    pub timeout: Span,
}

impl Default for PollSettings {
    fn default() -> Self {
        Self { interval: Span::seconds(15), timeout: Span::seconds(300) }
    }
}

/// Whose signature a commit needs. Kept here and never in the repository, so that a commit cannot
/// let itself in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignatureSettings {
    /// Refuse a head without an accepted signature.
    #[serde(default)]
    pub required: bool,
    /// The signer has to be the committer. Otherwise anyone who may sign may commit in any name.
    #[serde(default)]
    pub match_committer: bool,
    /// SSH signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshKeySettings>,
    /// OpenPGP signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openpgp: Option<OpenPgpSettings>,
}

/// Accepted SSH keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SshKeySettings {
    /// A file in the form of `ssh-keygen`'s ALLOWED SIGNERS.
    pub allowed_signers: PathBuf,
}

/// Accepted OpenPGP keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenPgpSettings {
    /// A file of public keys (`gpg --export`); each key in it is accepted.
    pub keyring: PathBuf,
}

/// How libvirt is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LibvirtSettings {
    /// The connection URI.
    pub uri: String,
    /// The most one call may take before libvirt counts as not answering.
    pub call_timeout: Span,
}

impl Default for LibvirtSettings {
    fn default() -> Self {
        Self { uri: "qemu:///system".to_owned(), call_timeout: Span::seconds(30) }
    }
}

/// How GPUs are reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GpuSettings {
    /// NVIDIA's management library (NVML). Default: `libnvidia-ml.so.1`, where the loader finds it. It
    /// is only loaded for an environment with a `GpuLayout`, and by `trueup gpu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<PathBuf>,
}

/// What backups may use of this host: a commit names secrets and programs, and cannot bring any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackupSettings {
    /// The folder of the secrets that a `Backup` names as its `key`: one file each, with the
    /// repository's password in its first line. They must not be readable by others.
    pub secrets: PathBuf,
    /// Programs that a `Backup` may have run: whose output is saved, as its hooks, or to look at
    /// what a drill restored. They run as the daemon does, which is root. A path alone allows the
    /// program without arguments, `argv` with exactly those, and `anyArguments` with whatever a commit
    /// gives it: many programs then read or write any file.
    pub programs: Vec<ProgramRule>,
    /// Where drills restore to, which needs room for a snapshot of any backup that is drilled. Where a
    /// drill boots a guest, QEMU's user has to be let through to it. Default: `backup/drill` in the
    /// state directory; for drills that boot, a folder of their own in `/var/lib/libvirt/images`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch: Option<PathBuf>,
}

/// A program that a `Backup` may have run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "a program is `/path`, `{argv: [/path, argument]}` or `{program: /path, \
                 anyArguments: true}`"
)]
pub enum ProgramRule {
    /// The program without arguments, by its absolute path.
    Alone(PathBuf),
    /// The program with exactly these arguments.
    Exactly(ExactProgram),
    /// The program with any arguments.
    Any(AnyProgram),
}

/// A program with exactly these arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExactProgram {
    /// The program, by its absolute path, and its arguments.
    #[schemars(length(min = 1))]
    pub argv: Vec<String>,
}

/// A program, and whether the commit chooses its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnyProgram {
    /// The program, by its absolute path.
    pub program: PathBuf,
    /// Whether a commit may give it any arguments; none when not given.
    #[serde(default)]
    pub any_arguments: bool,
}

impl ProgramRule {
    /// The program itself.
    #[must_use]
    pub fn program(&self) -> &Path {
        match self {
            Self::Alone(path) => path,
            Self::Exactly(exact) => Path::new(exact.argv.first().map_or("", String::as_str)),
            Self::Any(any) => &any.program,
        }
    }
}

impl Default for BackupSettings {
    fn default() -> Self {
        Self { secrets: PathBuf::from("/etc/trueup/secrets"), programs: Vec::new(), scratch: None }
    }
}

/// Where a cluster is on this host, by which programs and credentials it is asked, and how its daemons are
/// started anew: all of that is used as root, and a commit names none of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterSettings {
    /// Stops the cluster's controller and starts it, and ends when it was started.
    pub restart_controller: Vec<String>,
    /// Stops a node's daemon and starts it; `{node}` in it is the node's name. Without it no change
    /// that needs that is made.
    pub restart_node: Vec<String>,
    /// Of a Slurm cluster that is taken over: the folder of its `slurm.conf`, in which files are written.
    pub folder: PathBuf,
    /// Of the same: the folder of `scontrol`, `sinfo`, `squeue` and `sacctmgr`. Default: the first one of
    /// `$PATH` that has them and that only root may change, else `/usr/bin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<PathBuf>,
    /// Of the same: the controller, with which files are tried before they are written.
    pub slurmctld: PathBuf,
    /// Of the same: the socket of slurmrestd, which is asked about nodes and jobs. Default: the programs are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slurmrestd: Option<PathBuf>,
    /// Of the same: folders in which a document may name programs, plugins, sockets and files for Slurm's
    /// daemons that `slurm.conf` does not name yet. Programs may lie in `folder` anyway.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_paths: Vec<PathBuf>,
    /// Of a Kubernetes cluster: the file with its address and our credentials, for root alone. Programs
    /// that it names are not started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in that file. Default: its current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Of a Slurm cluster: folders of its shared file system in which releases may put theirs. They belong to
    /// root, and nobody else may write to them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<PathBuf>,
}

/// Programs that render what releases are made of. Each is whole by itself, as its project publishes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReleasePrograms {
    /// Helm, 3 or 4. Default: no chart is rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helm: Option<PathBuf>,
    /// Kustomize. Default: `kubectl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kustomize: Option<PathBuf>,
    /// kubectl, for the Kustomize in it. Default: no kustomization is rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubectl: Option<PathBuf>,
}

impl ReleasePrograms {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for ClusterSettings {
    fn default() -> Self {
        let controller = ["systemctl", "restart", "slurmctld"].map(str::to_owned);
        Self {
            restart_controller: controller.into(),
            restart_node: Vec::new(),
            folder: PathBuf::from("/etc/slurm"),
            programs: None,
            slurmctld: PathBuf::from("/usr/sbin/slurmctld"),
            slurmrestd: None,
            allowed_paths: Vec::new(),
            kubeconfig: None,
            context: None,
            shared: Vec::new(),
        }
    }
}

impl ClusterSettings {
    /// The paths in it, by their field.
    fn paths(&self) -> impl Iterator<Item = (&'static str, Option<&Path>)> {
        let single = [
            ("clusters.folder", Some(self.folder.as_path())),
            ("clusters.programs", self.programs.as_deref()),
            ("clusters.slurmctld", Some(self.slurmctld.as_path())),
            ("clusters.slurmrestd", self.slurmrestd.as_deref()),
            ("clusters.kubeconfig", self.kubeconfig.as_deref()),
        ];
        let allowed = self.allowed_paths.iter().map(|path| ("clusters.allowedPaths", path));
        let shared = self.shared.iter().map(|path| ("clusters.shared", path));
        let lists = allowed.chain(shared).map(|(field, path)| (field, Some(path.as_path())));
        single.into_iter().chain(lists)
    }
}

/// What executes guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorChoice {
    /// KVM where a probe proves that it works, else TCG.
    #[default]
    Auto,
    /// KVM; guests do not start where it does not work.
    Kvm,
    /// QEMU's own emulation: slow, works everywhere.
    Tcg,
}

/// How much is done at once and how often it is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Steps performed side by side.
    #[schemars(range(min = 1, max = 64))]
    pub parallelism: u16,
    /// Time between two looks at the machine when nothing else wakes trueup.
    pub resync: Span,
    /// The most one observation of the machine may take.
    pub observe_timeout: Span,
    /// How long a stop waits for the steps that are under way. What is left then is cut off, which
    /// takes up to 3 s more; the next start looks at the machine anew.
    pub stop_timeout: Span,
}

/// Most steps at once: more only makes libvirt's own locks longer.
pub(super) const PARALLELISM_MAX: u16 = 64;

impl Default for Limits {
    fn default() -> Self {
        Self {
            parallelism: 4,
            resync: Span::seconds(60),
            observe_timeout: Span::seconds(60),
            // A stop takes 10 s at most: what is left is for cutting off what does not end, and for
            // writing the last outcomes.
            stop_timeout: Span::seconds(6),
        }
    }
}

/// What the daemon writes about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// A filter as `RUST_LOG` has it, like `info,trueup::source=debug`. Default: `info` of trueup,
    /// `warn` of the rest; of the command line `warn`.
    pub filter: Option<String>,
    /// The form of the lines.
    pub format: LogFormat,
}

/// The form of the lines that the program writes about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// With priorities for the journal under systemd, for people elsewhere.
    #[default]
    Auto,
    /// For people: time, level, text.
    Human,
    /// For the systemd journal: the priority in front, no time.
    Journal,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// A config for `url` with every default.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            repository: RepositorySettings {
                url: url.into(),
                branch: default_branch(),
                credentials: CredentialSettings::default(),
                ca_file: None,
                ssh: SshSettings::default(),
                fetch_max: Size::default(),
                poll: PollSettings::default(),
                signatures: SignatureSettings::default(),
            },
            environment: None,
            host: None,
            state_directory: None,
            socket: None,
            libvirt: LibvirtSettings::default(),
            gpu: GpuSettings::default(),
            backup: BackupSettings::default(),
            clusters: BTreeMap::new(),
            programs: ReleasePrograms::default(),
            accelerator: AcceleratorChoice::default(),
            limits: Limits::default(),
            telemetry: TelemetrySettings::default(),
            protect: Vec::new(),
            forge: None,
        }
    }

    /// Where the log, the mirror and the indexes live.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        let from_systemd = || super::load::first_directory("STATE_DIRECTORY");
        self.state_directory
            .clone()
            .or_else(from_systemd)
            .unwrap_or_else(|| PathBuf::from("/var/lib/trueup"))
    }

    /// The socket of the daemon.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        let from_systemd = || super::load::first_directory("RUNTIME_DIRECTORY");
        self.socket.clone().unwrap_or_else(|| {
            let folder = from_systemd().unwrap_or_else(|| PathBuf::from("/run/trueup"));
            folder.join("trueup.sock")
        })
    }

    /// The name of this host: what is set, else what the machine calls itself.
    #[must_use]
    pub fn host(&self) -> String {
        self.host.clone().unwrap_or_else(|| {
            let full = rustix::system::uname().nodename().to_string_lossy().into_owned();
            full.split('.').next().unwrap_or_default().to_lowercase()
        })
    }

    /// Every path in it that is not absolute, by its field; a daemon has no working directory
    /// anybody would guess.
    pub(super) fn relative_paths(&self) -> Vec<(&'static str, &Path)> {
        let repository = &self.repository;
        let signatures = &repository.signatures;
        let secrets = self.forge.iter().flat_map(|forge| forge.files());
        let paths = [
            ("stateDirectory", self.state_directory.as_deref()),
            ("socket", self.socket.as_deref()),
            ("backup.secrets", Some(self.backup.secrets.as_path())),
            ("backup.scratch", self.backup.scratch.as_deref()),
            ("repository.caFile", repository.ca_file.as_deref()),
            ("repository.credentials.tokenFile", repository.credentials.token_file.as_deref()),
            ("repository.ssh.identityFile", repository.ssh.identity_file.as_deref()),
            ("repository.ssh.knownHosts", repository.ssh.known_hosts.as_deref()),
            (
                "repository.signatures.ssh.allowedSigners",
                signatures.ssh.as_ref().map(|ssh| ssh.allowed_signers.as_path()),
            ),
            (
                "repository.signatures.openpgp.keyring",
                signatures.openpgp.as_ref().map(|openpgp| openpgp.keyring.as_path()),
            ),
        ];
        let programs = self.backup.programs.iter();
        let programs = programs.map(|rule| ("backup.programs", Some(rule.program())));
        let clusters = self.clusters.values().flat_map(ClusterSettings::paths);
        let renderers = [
            ("programs.helm", self.programs.helm.as_deref()),
            ("programs.kustomize", self.programs.kustomize.as_deref()),
            ("programs.kubectl", self.programs.kubectl.as_deref()),
        ];
        secrets
            .chain(paths)
            .chain(programs)
            .chain(clusters)
            .chain(renderers)
            .filter_map(|(field, path)| Some((field, path.filter(|path| path.is_relative())?)))
            .collect()
    }
}
