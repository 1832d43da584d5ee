//! Conversations with the remote: which commit the branch is at, and getting it.
//!
//! Each runs under one deadline, however slowly the other side drips. It never prompts, takes no
//! tags, follows no redirect with a credential, and only ever updates the mirror's own branch ref.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gix::protocol::handshake::Ref;
use gix::protocol::transport::client::blocking_io::http;
use gix::remote::{Direction, fetch};

use super::config::MirrorConfig;
use super::credential::{self, Told};
use super::deadline::{self, Missed};
use super::error::{SourceError, chain};
use super::id::CommitId;
use super::maintenance::Maintenance;
use super::mirror::{Inner, Mirror, OBJECT_BYTES_MAX, TEMP_PREFIX, broken};

/// Conversations that ran over their deadline and still hold a thread. More are not started: each
/// holds memory, and a remote that hangs four times hangs a fifth.
pub(super) const ABANDONED_MAX: usize = 4;
/// The most one read may wait, and a connection may take to stand; gix's own value for reads.
const IDLE: Duration = Duration::from_secs(30);

/// What a fetch brought.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The commit the branch is at; it is in the mirror now.
    pub head: CommitId,
    /// Whether objects were received.
    pub received: bool,
    /// What was done to keep the mirror small.
    pub maintenance: Maintenance,
    /// How long the conversation took.
    pub took: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Head,
    Objects,
}

impl Mirror {
    /// The commit the remote's branch is at. Two small requests, no objects.
    ///
    /// # Errors
    /// Every variant of [`SourceError`] about the far side; it never outlasts the deadline.
    pub fn remote_head(&self) -> Result<CommitId, SourceError> {
        self.bounded(Want::Head).map(|(head, _)| head)
    }

    /// Gets the branch with its history. When the mirror already has it, nothing is received.
    ///
    /// # Errors
    /// As [`Mirror::remote_head`]; the mirror stays usable after any of them.
    pub fn fetch(&self) -> Result<Fetched, SourceError> {
        let started = Instant::now();
        let (head, received) = self.bounded(Want::Objects)?;
        let took = started.elapsed();
        if !self.has(head) {
            return Err(SourceError::Unreachable {
                url: self.inner.shown.clone(),
                why: format!("it names commit {head} but did not send it"),
            });
        }
        let maintenance = if received { self.maintain() } else { Maintenance::NotNeeded };
        Ok(Fetched { head, received, maintenance, took })
    }

    fn bounded(&self, want: Want) -> Result<(CommitId, bool), SourceError> {
        let url = || self.inner.shown.clone();
        let abandoned = self.inner.abandoned.count();
        if abandoned >= ABANDONED_MAX {
            return Err(SourceError::Busy { url: url(), abandoned });
        }
        let limit = self.inner.config.deadline;
        let inner = Arc::clone(&self.inner);
        let talk = move |stop: &AtomicBool| converse(&inner, want, stop);
        let mut quota = Quota::of(&self.inner.config);
        let ended = deadline::within(limit, &self.inner.abandoned, || quota.is_exceeded(), talk);
        match ended {
            // The other side's words are then only about its broken pipe.
            Ok(Err(_)) | Err(Missed::Late) if quota.exceeded => {
                Err(SourceError::TooLarge { url: url(), limit: quota.limit })
            }
            Ok(result) => result,
            Err(Missed::Late) => Err(SourceError::Deadline { url: url(), after: limit }),
            Err(other) => Err(SourceError::Unreachable { url: url(), why: chain(&other) }),
        }
    }
}

/// How much one conversation may add to the mirror.
struct Quota {
    packs: std::path::PathBuf,
    limit: u64,
    before: u64,
    exceeded: bool,
}

impl Quota {
    fn of(config: &MirrorConfig) -> Self {
        let packs = config.directory.join("objects").join("pack");
        let before = bytes_in(&packs);
        Self { packs, limit: config.fetch_max, before, exceeded: false }
    }

    /// Whether the mirror has grown by more than the limit. What is received lies beside the packs
    /// until it is whole.
    fn is_exceeded(&mut self) -> bool {
        self.exceeded |= bytes_in(&self.packs).saturating_sub(self.before) > self.limit;
        self.exceeded
    }
}

/// Bytes of the files in `folder`; none where it is not there yet.
fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum()
}

fn converse(inner: &Inner, want: Want, stop: &AtomicBool) -> Result<(CommitId, bool), SourceError> {
    let told = Told::default();
    let ssh = SshLog::new(&inner.config)?;
    let result = exchange(inner, want, stop, &told, &ssh);
    let result = result.map_err(|error| explain(inner, &told, &ssh, &error));
    result?.ok_or_else(|| SourceError::BranchMissing {
        url: inner.shown.clone(),
        branch: inner.config.branch.clone(),
    })
}

fn exchange(
    inner: &Inner,
    want: Want,
    stop: &AtomicBool,
    told: &Told,
    ssh: &SshLog,
) -> gix::Result<Option<(CommitId, bool)>> {
    let mut repo = inner.repo.to_thread_local();
    ssh.bind(&mut repo, &inner.config)?;
    let name = format!("refs/heads/{}", inner.config.branch);
    let remote = repo
        .remote_at(inner.url.clone())?
        .with_fetch_tags(fetch::Tags::None)
        .with_refspecs([format!("+{name}:{name}").as_str()], Direction::Fetch)?;
    let mut connection = remote.connect(Direction::Fetch)?;
    let (config, url, told) = (inner.config.clone(), inner.url.clone(), told.clone());
    connection.set_credentials(move |action| credential::answer(&config, &url, &told, action));
    if matches!(inner.url.scheme, gix::url::Scheme::Http | gix::url::Scheme::Https) {
        connection.set_transport_options(Box::new(http_options(&inner.config)?));
    }
    let options = gix::remote::ref_map::Options::default();
    if want == Want::Head {
        let (map, _) = connection.ref_map(gix::progress::Discard, options)?;
        return Ok(find(&map.remote_refs, &name).map(|head| (head, false)));
    }
    let prepared = connection.prepare_fetch(gix::progress::Discard, options)?;
    let Some(head) = find(&prepared.ref_map().remote_refs, &name) else {
        return Ok(None);
    };
    // What was received before need not be negotiated about; nothing relies on the mirror's own
    // branch, as what the remote's is at is asked anew each time.
    if repo.has_object(head.to_gix()) {
        return Ok(Some((head, false)));
    }
    let outcome = prepared.receive(gix::progress::Discard, stop)?;
    Ok(Some((head, matches!(outcome.status, fetch::Status::Change { .. }))))
}

fn find(refs: &[Ref], name: &str) -> Option<CommitId> {
    refs.iter().find_map(|reference| match reference {
        Ref::Direct { full_ref_name, object }
        | Ref::Peeled { full_ref_name, object, .. }
        | Ref::Symbolic { full_ref_name, object, .. }
            if full_ref_name == name =>
        {
            Some(CommitId::from_gix(*object))
        }
        _ => None,
    })
}

/// Time limits and certificate authorities; the transport reads neither from Git's configuration.
pub(super) fn http_options(config: &MirrorConfig) -> gix::Result<http::Options> {
    let idle = IDLE.min(config.deadline);
    let authorities = match &config.ca_file {
        None => Vec::new(),
        Some(path) => {
            let bad = |why: String| {
                let text = format!("the CA file {} cannot be used: {why}", path.display());
                gix::Error::from_error(gix::error::validation(text))
            };
            let pem = fs::read(path).map_err(|error| bad(error.to_string()))?;
            reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| bad(chain(&error)))?
        }
    };
    let client = http::reqwest::Options {
        configure_client: Some(Box::new(move |builder| {
            let builder = builder.timeout(idle).connect_timeout(idle);
            Ok(if authorities.is_empty() {
                builder
            } else {
                builder.tls_certs_merge(authorities.clone())
            })
        })),
        configure_request: None,
    };
    Ok(http::Options {
        user_agent: Some(concat!("git/trueup-", env!("CARGO_PKG_VERSION")).to_owned()),
        backend: Some(Arc::new(Mutex::new(client))),
        ..http::Options::default()
    })
}

/// Where ssh writes its complaints: gix lets them go to our own stderr otherwise.
///
/// Each conversation has a file of its own: the branch and the pull requests are asked for at once.
pub(super) struct SshLog(Option<tempfile::TempPath>);

impl SshLog {
    /// A log for one conversation, which has to be [bound](Self::bind) to its repository.
    ///
    /// # Errors
    /// When there is no room for a temporary file.
    pub(super) fn new(config: &MirrorConfig) -> Result<Self, SourceError> {
        let ssh = config.parsed_url().is_ok_and(|url| url.scheme == gix::url::Scheme::Ssh);
        if !ssh {
            return Ok(Self(None));
        }
        let file = tempfile::Builder::new()
            .prefix(&format!("{TEMP_PREFIX}ssh-"))
            .suffix(".log")
            .tempfile_in(&config.temp)
            .map_err(|error| broken(&config.temp, error))?;
        Ok(Self(Some(file.into_temp_path())))
    }

    /// Has the conversations of `repo` call ssh as `config` says, with this log.
    pub(super) fn bind(
        &self,
        repo: &mut gix::Repository,
        config: &MirrorConfig,
    ) -> gix::Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        let command = ssh_command(config, path);
        let mut settings = repo.config_snapshot_mut();
        settings.set_raw_value("core.sshCommand", command.as_str())?;
        settings.commit()?;
        Ok(())
    }

    fn words(&self) -> Option<String> {
        let text = fs::read_to_string(self.0.as_ref()?).ok()?;
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("Warning:")).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

/// Git's own setting for how to call ssh: one line, split by a shell where it has quotes, so every
/// path is quoted here.
fn ssh_command(config: &MirrorConfig, log: &Path) -> String {
    let idle = IDLE.min(config.deadline).as_secs().max(1);
    let mut words = vec![
        "ssh".to_owned(),
        "-o BatchMode=yes".to_owned(),
        "-o StrictHostKeyChecking=yes".to_owned(),
        format!("-o ConnectTimeout={idle}"),
        // An abandoned ssh ends by itself once the other side is silent.
        "-o ServerAliveInterval=10 -o ServerAliveCountMax=3".to_owned(),
        format!("-E {}", quoted(log)),
    ];
    if let Some(identity) = &config.ssh.identity {
        words.push(format!("-o IdentitiesOnly=yes -i {}", quoted(identity)));
    }
    if let Some(known) = &config.ssh.known_hosts {
        words.push(format!(
            "-o GlobalKnownHostsFile=/dev/null -o {}",
            quoted(Path::new(&format!("UserKnownHostsFile={}", known.display())))
        ));
    }
    words.join(" ")
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

pub(super) fn explain(inner: &Inner, told: &Told, ssh: &SshLog, error: &gix::Error) -> SourceError {
    if let Some(failure) = told.failure() {
        return failure;
    }
    let url = inner.shown.clone();
    if error.is_resource_exhausted() {
        return SourceError::Bomb { url, limit: OBJECT_BYTES_MAX };
    }
    let mut why = chain(error);
    if let Some(words) = ssh.words() {
        why = words;
    }
    let why = told.scrub(&why);
    let refused = ["Permission denied", "Host key verification failed"];
    if error.is_unauthenticated()
        || error.is_permission_denied()
        || refused.iter().any(|words| why.contains(words))
    {
        return SourceError::Denied { url, why };
    }
    SourceError::Unreachable { url, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_the_ssh_command_stay_one_word() {
        let mut config = MirrorConfig::new("ssh://git@h/r", "main", Path::new("/state dir"));
        config.ssh.identity = Some("/keys/it's mine".into());
        config.ssh.known_hosts = Some("/keys/known".into());
        let command = ssh_command(&config, Path::new("/tmp/ssh.log"));
        assert!(command.contains(r"-i '/keys/it'\''s mine'"), "{command}");
        assert!(command.contains("'UserKnownHostsFile=/keys/known'"), "{command}");
        assert!(command.contains("BatchMode=yes -o StrictHostKeyChecking=yes"), "{command}");
    }
}
