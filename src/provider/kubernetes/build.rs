//! From machines to a cluster: kubeadm in each of them, started through its agent. Each step may be repeated:
//! what one that was cut off left half done is cleared away first, and only where nothing of the cluster can
//! be on it.
//!
//! A bootstrap token is made for one machine, is over soon, and is taken back when the machine has joined. It is in
//! a file there that only root may read, and in no error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use trueup_kubernetes::kubeadm::join::{self, Token};
use trueup_kubernetes::kubeadm::{self, NewCluster};
use trueup_kubernetes::node::skew::Version;
use trueup_kubernetes::{Apply, Kind};
use trueup_slurm::Machine as _;
use trueup_slurm::run::Argv;

use super::act::{COMES_BACK, Job};
use super::{KubernetesProvider, data, kept, machine};
use crate::model::resource::{KubernetesBuilt, KubernetesMachine};
use crate::model::{Fault, Name, ResourceId};
use crate::port::{Outcome, Progress, ProgressUpdate};
use crate::private;
use crate::provider::files::blocking;
use crate::provider::guest::{self, Guest};
use crate::provider::paths::kept_kubeconfig;

/// Longest that one question to a machine may take, which may be emulated.
pub(super) const QUESTION: Duration = Duration::from_secs(180);
/// Longest that kubeadm may take: it waits for half an hour itself, for a control plane that is emulated.
const KUBEADM: Duration = Duration::from_secs(40 * 60);
/// Only one kubeadm at a time is on a machine: one that nobody waits for any more is waited for.
const LOCK: &str = "/run/trueup-kubeadm.lock";
/// A folder of a machine that is gone with its next start, and what is in it for a moment.
const RUN: &str = "/run/trueup";
pub(super) const CONFIG: &str = "/run/trueup/kubeadm.yaml";
const DISCOVERY: &str = "/run/trueup/discovery.yaml";
/// What kubeadm leaves for administrators.
const ADMIN: &str = "/etc/kubernetes/admin.conf";
/// What kubeadm gives a kubelet, first of all.
const KUBELET: [&str; 2] =
    ["/etc/kubernetes/kubelet.conf", "/etc/kubernetes/bootstrap-kubelet.conf"];
/// What a machine is known by from one start to the next (proc(5)), and a node by its kubelet's word.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// How long a token counts.
const TOKEN: SignedDuration = SignedDuration::from_mins(60);
/// How long a node of a kubelet that was stopped may be taken for well.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// How long a cluster may take to give a node addresses for its pods, which its controllers do as soon as they
/// are up.
const GIVEN: Duration = Duration::from_secs(900);

/// Work on a cluster that is built, before and beside its API server.
pub(super) struct Site<'a> {
    pub(super) provider: &'a KubernetesProvider,
    pub(super) id: &'a ResourceId,
    pub(super) progress: &'a Progress,
}

impl<'a> Site<'a> {
    pub(super) fn new(
        provider: &'a KubernetesProvider,
        id: &'a ResourceId,
        progress: &'a Progress,
    ) -> Self {
        Self { provider, id, progress }
    }

    pub(super) fn tell(&self, what: String) {
        (self.progress)(ProgressUpdate { what, done: 0, total: None });
    }

    /// Sets machines up to be nodes, and the disk of what the cluster knows on the machine of the node `data`.
    pub(super) async fn prepare(
        &self,
        machines: BTreeMap<String, Name>,
        data: Option<String>,
    ) -> Result<Outcome, Fault> {
        let (provider, id) = (self.provider.clone(), self.id.clone());
        let work = move || {
            let guests = machines.into_iter().map(|(node, name)| (node, provider.guest(&name)));
            let mut already = true;
            let prepare = |node: &str, guest: &Guest| {
                // First: what is started after it may need it.
                let set = match data.as_deref() == Some(node) {
                    true => On { id: &id, guest }.set_data()?,
                    false => false,
                };
                Ok::<_, std::io::Error>(machine::prepare(guest)? || set)
            };
            for (node, done) in guest::each(guests.collect(), prepare) {
                let changed = done.map_err(|error| {
                    Fault::transient(format!("{id}: setting up {node}: {error}"))
                })?;
                already &= !changed;
            }
            Ok(already)
        };
        let already = blocking("set machines up", work).await?;
        Ok(Outcome { already, ..Outcome::default() })
    }

    /// Makes a machine the control plane, and keeps the credentials for it.
    pub(super) async fn init(&self, built: &KubernetesBuilt) -> Result<Outcome, Fault> {
        let Some(control) = built.control().cloned() else {
            return Err(Fault::permanent(format!("{}: it has no control plane", self.id)));
        };
        self.tell(format!("kubeadm makes {} the control plane", control.guest));
        let (provider, id, built) = (self.provider.clone(), self.id.clone(), built.clone());
        let work = move || {
            let guest = provider.guest(&control.guest);
            let on = On { id: &id, guest: &guest };
            let has_credentials = kept_kubeconfig(&provider.folder, &id.name).exists();
            let already = on.init(&built, &control, has_credentials)?;
            on.keep(&provider, &control.address.to_string())?;
            Ok(already)
        };
        let already = blocking("make a control plane", work).await?;
        Ok(Outcome { already, ..Outcome::default() })
    }
}

/// One machine of a cluster.
pub(super) struct On<'a> {
    pub(super) id: &'a ResourceId,
    pub(super) guest: &'a Guest,
}

impl On<'_> {
    pub(super) fn fault(&self, what: &str, error: &dyn std::fmt::Display) -> Fault {
        Fault::transient(format!("{}: {what} in {}: {error}", self.id, self.guest.name()))
    }

    /// Runs kubeadm, after every other one there has ended.
    pub(super) fn kubeadm(&self, what: &str, arguments: &[&str]) -> Result<(), String> {
        self.kubeadm_hiding(what, arguments, str::to_owned)
    }

    /// The same; of its words `hide` takes what nobody is to read.
    fn kubeadm_hiding(
        &self,
        what: &str,
        arguments: &[&str],
        hide: impl Fn(&str) -> String,
    ) -> Result<(), String> {
        let argv = Argv::new("flock").args([LOCK, "kubeadm"]).args(arguments);
        let said = self.guest.run(&argv, KUBEADM).map_err(|error| error.to_string())?;
        if said.status.success() {
            return Ok(());
        }
        // It tells its steps on the one, and what is wrong on the other.
        let words = said.stderr.trim();
        let lines: Vec<&str> = words.lines().filter(|line| !line.contains("[WARNING")).collect();
        // Before they are cut: half of a secret would not be found any more.
        let words = hide(&lines.join("\n"));
        let kept: String = words.chars().take(WORDS_MAX).map(plain).collect();
        Err(format!("kubeadm {what} failed ({}): {kept}", said.status))
    }

    /// Waits until no kubeadm runs there any more.
    pub(super) fn wait(&self) -> Result<(), Fault> {
        let said = self.guest.run(&Argv::new("flock").args([LOCK, "true"]), KUBEADM);
        let said = said.map_err(|error| error.to_string()).and_then(|said| {
            let why = || format!("{}: {}", said.status, said.stderr.trim());
            said.status.success().then_some(()).ok_or_else(why)
        });
        said.map_err(|error| self.fault("waiting for a kubeadm that runs", &error))
    }

    /// The release of kubeadm there, which has to be of that minor one.
    pub(super) fn release(&self, version: &str) -> Result<Version, Fault> {
        let read = self.any_release()?;
        let wanted = version.parse::<Version>();
        let wanted = wanted.map_err(|error| self.fault("`version`", &error))?;
        if (read.major, read.minor) == (wanted.major, wanted.minor) {
            return Ok(read);
        }
        Err(Fault::needs_human(
            format!(
                "{}: kubeadm in {} is {read}, and {version} is asked for",
                self.id,
                self.guest.name()
            ),
            "name an image with that release, or the release of the image in `version`",
        ))
    }

    /// The release of kubeadm there.
    pub(super) fn any_release(&self) -> Result<Version, Fault> {
        let argv = Argv::new("kubeadm").args(["version", "-o", "short"]);
        let said = argv.ask_on(self.guest, QUESTION).map_err(|error| {
            Fault::needs_human(
                format!("{}: in {}: {error}", self.id, self.guest.name()),
                "its image needs kubeadm, kubelet and containerd of one release",
            )
        })?;
        let text = String::from_utf8_lossy(&said).trim().to_owned();
        let read = text.parse::<Version>().map_err(|error| self.fault("kubeadm", &error))?;
        kubeadm::known(read).map_err(|why| self.fault("its image", &why))?;
        Ok(read)
    }

    fn has(&self, path: &str) -> Result<bool, Fault> {
        let said = self.guest.run(&Argv::new("test").args(["-e", path]), QUESTION);
        said.map(|said| said.status.success()).map_err(|error| self.fault(path, &error))
    }

    /// Whether kubeadm began to make it anything.
    pub(super) fn begun(&self) -> Result<bool, Fault> {
        Ok(self.has(ADMIN)? || self.has(KUBELET[0])?)
    }

    /// Clears away what a kubeadm left that did not come to its end.
    fn reset(&self) -> Result<(), Fault> {
        let done = self.kubeadm("reset", &["reset", "--force"]);
        done.map_err(|error| self.fault("clearing away what was left", &error))
    }

    /// Writes what kubeadm reads, for nobody but root.
    fn told(&self, files: &[(&str, &str)]) -> Result<(), Fault> {
        let wrote = self.guest.must(&["install", "-d", "-m", "0700", RUN]).and_then(|()| {
            let mut each = files.iter();
            each.try_for_each(|(path, text)| {
                self.guest.write_private(Path::new(path), ("root", "0400"), text.as_bytes())
            })
        });
        wrote.map_err(|error| self.fault("what kubeadm reads", &error))
    }

    /// Makes it the control plane of a cluster that never was; where the data of one that was are there, its
    /// control plane again.
    fn init(
        &self,
        built: &KubernetesBuilt,
        control: &KubernetesMachine,
        has_credentials: bool,
    ) -> Result<bool, Fault> {
        // Whoever began may be at it still.
        self.wait()?;
        let is = machine::is(self.guest, machine::CONTROL_PLANE);
        if is.map_err(|error| self.fault("its mark", &error))? {
            return Ok(true);
        }
        let release = self.release(&built.version)?;
        if built.data.is_some() && self.data()?.is_some() {
            return self.restore(built, control, None).map(|(already, _)| already);
        }
        if has_credentials {
            return Err(Fault::needs_human(
                format!("{}: it was there, and {} has nothing of it", self.id, self.guest.name()),
                "restore its disk of data from a backup, or remove the cluster and have another one made",
            ));
        }
        // Nobody can have joined: the credentials for that are kept after both marks.
        if self.begun()? {
            self.reset()?;
        }
        if built.data.is_some() {
            // A reset clears what it finds the way to, which is on the other disk.
            data::clear(self.guest).map_err(|error| self.fault("its disk of data", &error))?;
        }
        self.told_to_init(built, control, release)?;
        let mut arguments = vec!["init", "--config", CONFIG, "--skip-token-print"];
        if !built.dns {
            // Else it wants the image of what is not asked for.
            arguments
                .extend(["--skip-phases=addon/coredns", "--ignore-preflight-errors=ImagePull"]);
        }
        self.kubeadm("init", &arguments).map_err(|error| self.fault("making it", &error))?;
        if built.data.is_some() {
            let marked = self.mark_data(release);
            marked.map_err(|error| self.fault("the mark of its data", &error))?;
        }
        let marked = machine::mark(self.guest, machine::CONTROL_PLANE);
        marked.map_err(|error| self.fault("its mark", &error))?;
        Ok(false)
    }

    /// Writes what `kubeadm init` reads.
    pub(super) fn told_to_init(
        &self,
        built: &KubernetesBuilt,
        control: &KubernetesMachine,
        release: Version,
    ) -> Result<(), Fault> {
        let address = control.address.to_string();
        let cluster = NewCluster {
            name: self.id.name.as_str(),
            machine: kubeadm::Machine {
                node: &built.control_plane,
                name: control.guest.as_str(),
                address: &address,
            },
            pods: &built.pods,
            services: &built.services,
            images: built.images.as_deref(),
        };
        self.told(&[(CONFIG, kubeadm::init(&cluster, release).as_str())])
    }

    /// Keeps the credentials that kubeadm made. They are a machine's word: they may lead to that machine alone, and
    /// have this host read no file of its own.
    pub(super) fn keep(&self, provider: &KubernetesProvider, host: &str) -> Result<(), Fault> {
        let read = self.guest.read(Path::new(ADMIN));
        let read = read.map_err(|error| self.fault("the credentials", &error))?;
        let read = read.ok_or_else(|| {
            Fault::needs_human(
                format!("{}: {} has no {ADMIN}", self.id, self.guest.name()),
                "make one there: kubeadm init phase kubeconfig admin",
            )
        })?;
        let before = kept::read(&provider.folder, &self.id.name);
        let before = before.map_err(|error| self.fault(kept::OF_THIS_HOST, &error))?;
        let text = std::str::from_utf8(&read).map_err(|error| self.fault(ADMIN, &error))?;
        trueup_kubernetes::leads_to(text, host, before.as_deref()).map_err(|why| {
            Fault::needs_human(
                format!("{}: {ADMIN} of {} is not used: {why}", self.id, self.guest.name()),
                "see who changed it there, and make one by: kubeadm init phase kubeconfig admin",
            )
        })?;
        let kept = kept::keep(&provider.folder, &self.id.name, &read);
        kept.map_err(|error| self.fault("keeping the credentials", &error))
    }
}

/// Most letters of kubeadm's words in an error.
const WORDS_MAX: usize = 2000;

/// Nothing that a terminal would obey.
fn plain(c: char) -> char {
    if c.is_control() && c != '\n' { ' ' } else { c }
}

fn token() -> std::io::Result<Token> {
    Token::of(&private::random::<64>()?)
        .ok_or_else(|| std::io::Error::other("the kernel's random bytes are none"))
}

impl Job<'_> {
    /// Makes a machine a node.
    pub(super) async fn join(
        &self,
        node: &str,
        machine: &KubernetesMachine,
        version: Option<&str>,
    ) -> Result<Outcome, Fault> {
        let access = &self.link.connection.access;
        let server = access.api.version().await.map_err(|fault| self.fault(&fault))?;
        let (of, guest) =
            (machine::node_of(&access.authorities_pem()), self.provider.guest(&machine.guest));
        let (id, version, name) = (self.id.clone(), version.map(str::to_owned), node.to_owned());
        let (marked_of, there) = (of.clone(), guest.clone());
        let look = move || {
            let on = On { id: &id, guest: &there };
            on.wait()?;
            let is = machine::is(&there, &marked_of);
            if is.map_err(|error| on.fault("its mark", &error))? {
                // Whatever its kubeadm is of by now, it has nothing to do.
                return Ok(None);
            }
            let release = match &version {
                Some(version) => on.release(version)?,
                None => on.any_release()?,
            };
            let server = server.parse::<Version>();
            let server = server.map_err(|error| on.fault("the API server's release", &error))?;
            join::fits(&name, release, server).map_err(|why| {
                let ask = "give the machine an image of a release that fits";
                Fault::needs_human(format!("{id}: {why}"), ask)
            })?;
            machine::unmark(&there).map_err(|error| on.fault("its mark", &error))?;
            if on.has(KUBELET[0])? || on.has(KUBELET[1])? {
                on.reset()?;
            }
            Ok(Some(release))
        };
        let Some(release) = blocking("look at a machine", look).await? else {
            self.started(node, &machine.guest).await?;
            return Ok(Outcome { already: true, ..Outcome::default() });
        };
        self.forgotten(node).await?;
        let token = token().map_err(|error| {
            Fault::transient(format!("{}: a token for {node}: {error}", self.id))
        })?;
        self.let_in(&token).await?;
        let address = machine.address.to_string();
        let named = kubeadm::Machine { node, name: machine.guest.as_str(), address: &address };
        let authority = access.authorities_pem();
        let discovery = join::discovery(access.api.server(), &authority);
        let config = join::join(&named, &token, DISCOVERY, release);
        let (id, key) = (self.id.clone(), token.key());
        let work = move || {
            let on = On { id: &id, guest: &guest };
            on.told(&[(DISCOVERY, discovery.as_str()), (CONFIG, config.as_str())])?;
            let hide = |words: &str| token.out_of(words);
            let joined = on.kubeadm_hiding("join", &["join", "--config", CONFIG], hide);
            // With or without success: it has done its part.
            let removed = guest.remove(Path::new(CONFIG));
            joined.map_err(|words| on.fault("joining", &words))?;
            removed.map_err(|error| on.fault("removing its token", &error))?;
            machine::mark(&guest, &of).map_err(|error| on.fault("its mark", &error))
        };
        let joined = blocking("let a machine join", work).await;
        let closed = self.let_nobody_in(&key).await;
        joined?;
        closed?;
        Ok(Outcome::default())
    }

    /// Waits until a node that joined before speaks for its machine as it runs now: a cluster takes one that was
    /// started anew for well until it misses it.
    pub(super) async fn started(&self, node: &str, guest: &Name) -> Result<(), Fault> {
        let (id, guest) = (self.id.clone(), self.provider.guest(guest));
        let read = move || {
            let read = guest.read(Path::new(BOOT));
            read.map_err(|error| On { id: &id, guest: &guest }.fault("when it was started", &error))
        };
        let Some(read) = blocking("look at a machine", read).await? else { return Ok(()) };
        let boot = String::from_utf8_lossy(&read).trim().to_owned();
        let other = |live: Option<&serde_json::Value>| {
            let seen = live.and_then(|live| live.pointer("/status/nodeInfo/bootID"));
            let is = seen.and_then(serde_json::Value::as_str) == Some(boot.as_str());
            (!is).then(|| "its kubelet has not been heard since its machine was started".to_owned())
        };
        self.tell(format!("{node} is waited for: its kubelet has to be heard"));
        let end = self.link.nodes.awaited(node, COMES_BACK, other).await;
        match end.map_err(|fault| self.fault(&fault))? {
            None => Ok(()),
            Some(why) => Err(Fault::transient(format!("{}: {node}: {why}", self.id))),
        }
    }

    /// Waits until a node is not taken for well any more by whose name a machine is to join: kubeadm refuses to
    /// take the place of one that is.
    async fn forgotten(&self, node: &str) -> Result<(), Fault> {
        let well = |live: Option<&serde_json::Value>| {
            let conditions = live?.pointer("/status/conditions")?.as_array()?;
            let ready = conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
            ready.then(|| "it is there, and well".to_owned())
        };
        let end = self.link.nodes.awaited(node, FORGOTTEN, well).await;
        match end.map_err(|fault| self.fault(&fault))? {
            None => Ok(()),
            Some(_) => Err(Fault::needs_human(
                format!("{}: there is a node {node} already, and its kubelet answers", self.id),
                "it is another machine's: take that out of the cluster, or name this one otherwise",
            )),
        }
    }

    async fn let_in(&self, token: &Token) -> Result<(), Fault> {
        let api = self.link.api();
        let of = api.resource(&Kind::new("", "v1", "Secret")).await;
        let of = of.map_err(|fault| self.fault(&fault))?;
        let until = Timestamp::now() + TOKEN;
        let made = api.apply(&of, &token.key(), &token.object(until), Apply::default()).await;
        made.map(drop).map_err(|fault| self.fault(&fault))
    }

    async fn let_nobody_in(&self, key: &trueup_kubernetes::ObjectKey) -> Result<(), Fault> {
        self.delete("Secret", key).await
    }

    async fn delete(&self, kind: &str, key: &trueup_kubernetes::ObjectKey) -> Result<(), Fault> {
        let api = self.link.api();
        let deleted = async {
            let of = api.resource(&Kind::new("", "v1", kind)).await?;
            let Some(live) = api.get(&of, key).await? else { return Ok(()) };
            let uid = live.pointer("/metadata/uid").and_then(serde_json::Value::as_str);
            api.delete(&of, key, uid.unwrap_or_default()).await.map(drop)
        };
        deleted.await.map_err(|fault| self.fault(&fault))
    }

    /// Takes an empty node out of the cluster.
    pub(super) async fn remove(
        &self,
        node: &str,
        mark: &trueup_kubernetes::node::CordonMark,
    ) -> Result<Outcome, Fault> {
        let there = self.link.nodes.get(node).await.map_err(|fault| self.fault(&fault))?;
        if there.is_none() {
            return Ok(Outcome { already: true, ..Outcome::default() });
        }
        self.in_our_hands(node, mark).await?;
        let key = trueup_kubernetes::ObjectKey::new("", "Node", None, node);
        self.delete("Node", &key).await?;
        Ok(Outcome::default())
    }

    /// Connects the pods of machines with those of all others.
    pub(super) async fn connect(
        &self,
        built: &KubernetesBuilt,
        nodes: &BTreeSet<String>,
    ) -> Result<Outcome, Fault> {
        let given = |live: Option<&serde_json::Value>| {
            let pods = live.and_then(|live| live.pointer("/spec/podCIDR"));
            pods.is_none().then(|| "the cluster has given it no addresses for pods".to_owned())
        };
        for node in nodes {
            self.tell(format!("{node} is given addresses for its pods"));
            let end = self.link.nodes.awaited(node, GIVEN, given).await;
            if let Some(why) = end.map_err(|fault| self.fault(&fault))? {
                return Err(Fault::transient(format!("{}: {node}: {why}", self.id)));
            }
        }
        let all = self.link.all_nodes().await.map_err(|fault| self.fault(&fault))?;
        let networks = super::look::networks(built, &all);
        let guests = nodes.iter().filter(|node| networks.contains_key(*node)).filter_map(|node| {
            Some((node.clone(), self.provider.guest(&built.machines.get(node)?.guest)))
        });
        let (id, guests) = (self.id.clone(), guests.collect::<Vec<_>>());
        let work = move || {
            let connect = |node: &str, guest: &Guest| match networks.get(node) {
                Some(network) => machine::connect(guest, network),
                None => Ok(false),
            };
            let mut already = true;
            for (node, done) in guest::each(guests, connect) {
                already &= !done.map_err(|error| {
                    Fault::transient(format!("{id}: connecting the pods of {node}: {error}"))
                })?;
            }
            Ok(already)
        };
        let already = blocking("connect pods", work).await?;
        Ok(Outcome { already, ..Outcome::default() })
    }
}
