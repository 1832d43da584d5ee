//! The refs of pull requests: what the remote has, what the mirror holds.
//!
//! A listing is the same two small requests that the branch costs. Heads are kept below
//! `refs/trueup/pull/`, where no remote branch and no tag can be; the mirror's branch is not moved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gix::protocol::handshake::Ref;
use gix::remote::{Direction, fetch};

use super::meter::Meter;
use super::{GitPulls, PullSettings};
use crate::source::credential::{self, Told};
use crate::source::deadline::{self, Missed};
use crate::source::error::{SourceError, chain};
use crate::source::id::CommitId;
use crate::source::mirror::{Inner, broken};
use crate::source::remote::{ABANDONED_MAX, SshLog, explain, http_options};

/// Where heads are kept in the mirror.
const KEPT: &str = "refs/trueup/pull/";

/// Which pull requests are asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullQuery {
    /// All.
    All,
    /// These.
    Only(BTreeSet<u64>),
}

/// What the remote has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullHeads {
    /// The head of the followed branch.
    pub base: CommitId,
    /// The heads of pull requests, by number.
    pub heads: BTreeMap<u64, CommitId>,
    /// How many were left out over the limit.
    pub left_out: usize,
}

impl GitPulls {
    /// Asks the remote for its branch and pull requests; no objects.
    ///
    /// # Errors
    /// Every variant of [`SourceError`] about the far side.
    pub fn list(&self, query: PullQuery) -> Result<PullHeads, SourceError> {
        let branch = format!("refs/heads/{}", self.mirror.inner.config.branch);
        let mut specs = vec![format!("+{branch}:{branch}")];
        match &query {
            PullQuery::All => specs.push(format!("+{}:{KEPT}*", self.settings.pattern)),
            PullQuery::Only(numbers) => {
                specs.extend(numbers.iter().map(|&number| self.spec(number)));
            }
        }
        let refs = self.talk(Ask { specs, objects: false })?;
        let base = refs.get(&branch).copied().ok_or_else(|| SourceError::BranchMissing {
            url: self.mirror.inner.shown.clone(),
            branch: self.mirror.inner.config.branch.clone(),
        })?;
        let mut heads = self.numbered(&refs)?;
        if let PullQuery::Only(numbers) = &query {
            heads.retain(|number, _| numbers.contains(number));
        }
        let left_out = heads.len().saturating_sub(self.settings.listed_max);
        let heads = heads.into_iter().skip(left_out).collect();
        Ok(PullHeads { base, heads, left_out })
    }

    /// Brings the heads of these pull requests into the mirror, in one conversation.
    ///
    /// # Errors
    /// [`SourceError::PullLimit`] where a limit on number or size is met, else as for a listing. The
    /// mirror stays usable.
    pub fn fetch(&self, numbers: &BTreeSet<u64>) -> Result<BTreeMap<u64, CommitId>, SourceError> {
        if numbers.is_empty() {
            return Ok(BTreeMap::new());
        }
        let limit = self.settings.fetched_max;
        if numbers.len() > limit {
            let what = format!("{} heads were asked for at once, {limit} are taken", numbers.len());
            return Err(SourceError::PullLimit { url: self.mirror.inner.shown.clone(), what });
        }
        let specs = numbers.iter().map(|&number| self.spec(number)).collect();
        let refs = self.talk(Ask { specs, objects: true })?;
        let mut heads = self.numbered(&refs)?;
        heads.retain(|number, head| numbers.contains(number) && self.mirror.has(*head));
        self.mirror.maintain();
        Ok(heads)
    }

    /// Lets go of every pull request but these; gives those let go of. Their objects go with a later
    /// repack.
    ///
    /// # Errors
    /// [`SourceError::Mirror`].
    pub fn retain(&self, open: &BTreeSet<u64>) -> Result<BTreeSet<u64>, SourceError> {
        let repo = self.mirror.inner.repo.to_thread_local();
        let directory = &self.mirror.inner.config.directory;
        let failed = |error: gix::Error| broken(directory, chain(&error));
        let mut gone = BTreeSet::new();
        let platform = repo.references().map_err(failed)?;
        for reference in platform.prefixed(KEPT).map_err(failed)? {
            let reference = reference.map_err(|error| broken(directory, error.to_string()))?;
            let name = reference.name().as_bstr().to_string();
            let number = name.strip_prefix(KEPT).and_then(number);
            if number.is_some_and(|number| open.contains(&number)) {
                continue;
            }
            reference.delete().map_err(failed)?;
            gone.extend(number);
        }
        Ok(gone)
    }

    /// The heads that the mirror holds.
    ///
    /// # Errors
    /// [`SourceError::Mirror`].
    pub fn held(&self) -> Result<BTreeMap<u64, CommitId>, SourceError> {
        let repo = self.mirror.inner.repo.to_thread_local();
        let directory = &self.mirror.inner.config.directory;
        let failed = |error: gix::Error| broken(directory, chain(&error));
        let mut held = BTreeMap::new();
        let platform = repo.references().map_err(failed)?;
        for reference in platform.prefixed(KEPT).map_err(failed)? {
            let reference = reference.map_err(|error| broken(directory, error.to_string()))?;
            let name = reference.name().as_bstr().to_string();
            let number = name.strip_prefix(KEPT).and_then(number);
            if let (Some(number), Some(id)) = (number, reference.try_id()) {
                held.insert(number, CommitId::from_gix(id.detach()));
            }
        }
        Ok(held)
    }

    fn spec(&self, number: u64) -> String {
        format!("+{}:{KEPT}{number}", self.settings.pattern.replacen('*', &number.to_string(), 1))
    }

    fn numbered(
        &self,
        refs: &BTreeMap<String, CommitId>,
    ) -> Result<BTreeMap<u64, CommitId>, SourceError> {
        let (before, after) = self.settings.parts()?;
        let of = |name: &str| number(name.strip_prefix(before)?.strip_suffix(after)?);
        Ok(refs.iter().filter_map(|(name, id)| Some((of(name)?, *id))).collect())
    }

    fn talk(&self, ask: Ask) -> Result<BTreeMap<String, CommitId>, SourceError> {
        let inner = Arc::clone(&self.mirror.inner);
        let url = || self.mirror.inner.shown.clone();
        let abandoned = inner.abandoned.count();
        if abandoned >= ABANDONED_MAX {
            return Err(SourceError::Busy { url: url(), abandoned });
        }
        let (limit, settings) = (self.settings.deadline, self.settings.clone());
        let count = inner.abandoned.clone();
        match deadline::within(limit, &count, || false, move |_| converse(&inner, &settings, &ask))
        {
            Ok(result) => result,
            Err(Missed::Late) => Err(SourceError::Deadline { url: url(), after: limit }),
            Err(other) => Err(SourceError::Unreachable { url: url(), why: chain(&other) }),
        }
    }
}

/// One conversation: which refs, and whether their objects too.
struct Ask {
    specs: Vec<String>,
    objects: bool,
}

fn converse(
    inner: &Inner,
    settings: &PullSettings,
    ask: &Ask,
) -> Result<BTreeMap<String, CommitId>, SourceError> {
    let told = Told::default();
    let ssh = SshLog::new(&inner.config)?;
    let meter = Meter::new(settings.bytes_max, settings.deadline);
    exchange(inner, ask, &meter, &told, &ssh).map_err(|error| {
        if meter.exceeded() {
            let what = format!(
                "one fetch is more than the {} MiB that are taken at once",
                settings.bytes_max >> 20
            );
            return SourceError::PullLimit { url: inner.shown.clone(), what };
        }
        explain(inner, &told, &ssh, &error)
    })
}

fn exchange(
    inner: &Inner,
    ask: &Ask,
    meter: &Meter,
    told: &Told,
    ssh: &SshLog,
) -> gix::Result<BTreeMap<String, CommitId>> {
    let mut repo = inner.repo.to_thread_local();
    ssh.bind(&mut repo, &inner.config)?;
    let specs = ask.specs.iter().map(String::as_str);
    let remote = repo
        .remote_at(inner.url.clone())?
        .with_fetch_tags(fetch::Tags::None)
        .with_refspecs(specs, Direction::Fetch)?;
    let mut connection = remote.connect(Direction::Fetch)?;
    let (config, url, told) = (inner.config.clone(), inner.url.clone(), told.clone());
    connection.set_credentials(move |action| credential::answer(&config, &url, &told, action));
    if matches!(inner.url.scheme, gix::url::Scheme::Http | gix::url::Scheme::Https) {
        connection.set_transport_options(Box::new(http_options(&inner.config)?));
    }
    let options = gix::remote::ref_map::Options::default();
    if !ask.objects {
        let (map, _) = connection.ref_map(gix::progress::Discard, options)?;
        return Ok(names(&map.remote_refs));
    }
    let prepared = connection.prepare_fetch(meter.clone(), options)?;
    let found = names(&prepared.ref_map().remote_refs);
    if prepared.ref_map().mappings.is_empty() {
        // Every one of them is gone from the remote: there is nothing to receive.
        return Ok(BTreeMap::new());
    }
    prepared.receive(meter.clone(), meter.stop())?;
    Ok(found)
}

fn names(refs: &[Ref]) -> BTreeMap<String, CommitId> {
    let name = |reference: &Ref| match reference {
        Ref::Direct { full_ref_name, object }
        | Ref::Peeled { full_ref_name, object, .. }
        | Ref::Symbolic { full_ref_name, object, .. } => {
            Some((full_ref_name.to_string(), CommitId::from_gix(*object)))
        }
        Ref::Unborn { .. } => None,
    };
    refs.iter().filter_map(name).collect()
}

/// A number as forges write it: no sign, no leading zero.
fn number(text: &str) -> Option<u64> {
    let number = text.parse::<u64>().ok().filter(|&number| number > 0)?;
    (number.to_string() == text).then_some(number)
}
