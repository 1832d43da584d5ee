//! The steps on a folder. Each may be repeated.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, Mode, RenameFlags, fchmod, fsync, mkdirat, openat2, renameat, renameat_with,
    symlinkat, unlinkat,
};
use rustix::io::Errno;
use trueup_kubernetes::release::Step;

use super::inventory::Inventory;
use super::look::{At, group, held_words, link, own_group, store, told};
use super::place::{BENEATH, FOLDER, Place, guarded};
use super::{FolderProvider, Job, tree};
use crate::model::{Fault, ResourceId};
use crate::port::Outcome;
use crate::provider::files::blocking;

/// A version while it is written.
const NEW: &str = ".new";
/// The link while it is made.
const LINK: &str = ".link";

impl FolderProvider {
    /// Performs one step on the folder of the release `id`.
    pub(super) async fn act(&self, id: ResourceId, job: Job, step: Step) -> Result<Outcome, Fault> {
        let named = match job.folder.as_ref().and_then(|folder| folder.group.as_deref()) {
            None => Ok(own_group()),
            Some(name) => group(name).await,
        };
        let group = named.map_err(|words| Fault::permanent(told(&id, &words)))?;
        let own = self.clone();
        let work = move || {
            let place = own.place(&job.place);
            let place = place.map_err(|words| Fault::permanent(told(&id, &words)))?;
            own.step(&place, &job, &step, group).map_err(|trouble| trouble.fault(&id, &place))
        };
        blocking("change a shared folder", work).await
    }

    fn step(&self, place: &Place, job: &Job, step: &Step, group: u32) -> Result<Outcome, Trouble> {
        let store = match (store(place).map_err(Trouble::Words)?, step) {
            (Some(store), _) => Some(store),
            (None, Step::Record { complete: false, .. }) => Some(made(place)?),
            (None, _) => None,
        };
        if let Some(store) = &store
            && let Some(known) = Inventory::read(store)?
            && let Some(holder) = self.other_holder(job, &known)
        {
            return Err(Trouble::Words(held_words(place, holder)));
        }
        match (step, store) {
            (Step::Record { members, complete, .. }, Some(store)) => {
                let versions: Vec<String> =
                    members.iter().map(|(key, _)| key.name.clone()).collect();
                self.record(&store, job, versions, *complete)?;
            }
            (Step::Apply { key, digest }, Some(store)) if key.kind == "Version" => {
                let folder = job.folder.as_ref().filter(|it| it.version() == *digest);
                let folder = folder.ok_or(Trouble::Stale)?;
                tree::remove(&store, NEW)?;
                tree::write(&store, NEW, folder, Some(group))?;
                exchange(&store, digest)?;
            }
            (Step::Apply { digest, .. }, Some(store)) => {
                let asked = job.folder.as_ref().map(|it| it.version());
                asked.filter(|version| version == digest).ok_or(Trouble::Stale)?;
                point(place, &store, digest)?;
            }
            (Step::Delete { .. }, _) => match link(place)? {
                At::Ours(_) => {
                    unlinkat(&place.parent, &*place.name, AtFlags::empty())?;
                    fsync(&place.parent)?;
                }
                At::Nothing => return Ok(Outcome { already: true, ..Outcome::default() }),
                At::Foreign(what) => {
                    let why = format!("{} is {what} now, and not ours", place.path.display());
                    let facts = [("left".to_owned(), why)].into();
                    return Ok(Outcome { already: true, facts, ..Outcome::default() });
                }
            },
            (Step::Forget, Some(store)) => forget(place, &store)?,
            (Step::Forget, None) => {}
            (Step::AwaitReady { .. } | Step::AwaitGone { .. }, _) | (_, None) => {
                return Err(Trouble::Stale);
            }
        }
        Ok(Outcome::default())
    }

    /// Notes the versions; at the end those go that are not among them any more.
    fn record(
        &self,
        store: &OwnedFd,
        job: &Job,
        versions: Vec<String>,
        complete: bool,
    ) -> io::Result<()> {
        if complete && let Some(known) = Inventory::read(store)? {
            for old in known.versions.iter().filter(|old| !versions.contains(old)) {
                tree::remove(store, old)?;
            }
            tree::remove(store, NEW)?;
        }
        Inventory::new(&job.place, &self.setup.host, versions, complete).write(store)
    }
}

/// Makes the folder with the versions.
fn made(place: &Place) -> Result<OwnedFd, Trouble> {
    match mkdirat(&place.parent, &*place.store, Mode::from(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let store = openat2(&place.parent, &*place.store, FOLDER, Mode::empty(), BENEATH)?;
    guarded(&store, &place.path.with_file_name(&place.store)).map_err(Trouble::Words)?;
    // Whatever our own mask is: jobs enter it.
    fchmod(&store, Mode::from(0o755))?;
    fsync(&place.parent)?;
    Ok(store)
}

/// Puts the version that was written in its place; one that was damaged goes.
fn exchange(store: &OwnedFd, version: &str) -> io::Result<()> {
    match renameat_with(store, NEW, store, version, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            renameat_with(store, NEW, store, version, RenameFlags::EXCHANGE)?;
            fsync(store)?;
            tree::remove(store, NEW)?;
        }
        // Of file systems that know neither (NFS): what is in the way is moved aside.
        Err(Errno::INVAL) => {
            let aside = format!("{NEW}-old");
            tree::remove(store, &aside)?;
            match renameat(store, version, store, &aside) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            renameat(store, NEW, store, version)?;
            fsync(store)?;
            tree::remove(store, &aside)?;
        }
        Err(error) => return Err(error.into()),
    }
    fsync(store)?;
    Ok(())
}

/// Lets the path of the folder lead to a version, from one moment to the next.
fn point(place: &Place, store: &OwnedFd, version: &str) -> Result<(), Trouble> {
    if let At::Foreign(what) = link(place)? {
        let path = place.path.display();
        return Err(Trouble::Words(format!("{path} is {what} now: move it away")));
    }
    let to = Path::new(&place.store).join(version);
    tree::remove(store, LINK)?;
    symlinkat(to.as_path(), store, LINK)?;
    renameat(store, LINK, &place.parent, &*place.name)?;
    fsync(&place.parent)?;
    Ok(())
}

/// Removes the versions that were made, and the folder that they are in if nothing else is there.
fn forget(place: &Place, store: &OwnedFd) -> io::Result<()> {
    for version in Inventory::read(store)?.map(|known| known.versions).unwrap_or_default() {
        tree::remove(store, &version)?;
    }
    tree::remove(store, NEW)?;
    tree::remove(store, LINK)?;
    Inventory::remove(store)?;
    match unlinkat(&place.parent, &*place.store, AtFlags::REMOVEDIR) {
        // Somebody else's files stay where they are.
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => {}
        Err(error) => return Err(error.into()),
    }
    fsync(&place.parent)?;
    Ok(())
}

/// Why a step was not performed.
enum Trouble {
    /// A person has to do something.
    Words(String),
    /// It is of another wish.
    Stale,
    /// The file system.
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

impl Trouble {
    fn fault(self, id: &ResourceId, place: &Place) -> Fault {
        let path = place.path.display();
        match self {
            Self::Words(words) => Fault::permanent(told(id, &words)),
            Self::Stale => Fault::transient(told(
                id,
                &format!("the step for {path} is of another wish: plan anew"),
            )),
            Self::Io(error) => Fault::transient(told(
                id,
                &format!("{path} cannot be changed: {error}; it is tried again"),
            )),
        }
    }
}
