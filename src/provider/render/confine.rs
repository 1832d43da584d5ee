//! A place for a program that reads what strangers wrote: a root folder with the program and the files of
//! the commit, and nothing else of this machine.
//!
//! It has no network, not even one of its own machine; it sees no other process; it is nobody, gains no
//! rights, and ends with whoever started it. Processor time, memory, and the size of what it writes are
//! limited. The programs of util-linux do all of it, each by an argument vector. Where the kernel or the
//! container does not let them, nothing is started.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trueup_kubernetes::run::{RunError, ask};

use crate::provider::paths;

/// Where the files of the commit are, seen from inside.
pub(super) const FILES: &str = "/commit";
/// Values of the document itself, in the root folder.
pub(super) const SET: &str = "set.json";
/// The program, in the root folder.
const PROGRAM: &str = "program";
/// How the names of root folders begin.
const RUN: &str = "run-";
/// Nobody: a number that owns no file.
const NOBODY: u32 = 65_534;
/// Memory it may have, bytes; the largest charts take a tenth.
const MEMORY_MAX: u64 = 2 << 30;
/// Largest file it may write, bytes; there is no folder that it may write to.
const FILE_MAX: u64 = 1 << 20;
/// Most files it may have open.
const OPEN_MAX: u32 = 512;
/// All that its environment has.
const HOME: &str = "HOME=/home";
/// Of a transient unit, beside what is confined inside of it.
const UNIT: &[&str] = &[
    "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_SETUID CAP_SETGID CAP_KILL",
    "NoNewPrivileges=yes",
    "PrivateNetwork=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "RestrictRealtime=yes",
    "LockPersonality=yes",
    "RestrictNamespaces=net ipc uts pid",
    "MemoryMax=2G",
    "MemorySwapMax=0",
    "TasksMax=256",
    "CPUWeight=20",
    "OOMScoreAdjust=900",
    "TimeoutStopSec=5",
];

/// Why nothing came of a run.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It cannot be confined here, so it was not started.
    Confinement(String),
    /// The program itself.
    Program(RunError),
}

/// A root folder for one run; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Cell {
    root: tempfile::TempDir,
    name: &'static str,
    in_unit: bool,
}

/// The place of a file of the repository, from the root folder.
///
/// # Errors
/// A path that leads anywhere else.
pub(super) fn inside(path: &str) -> io::Result<PathBuf> {
    let plain = !path.is_empty()
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    match plain {
        true => Ok(Path::new(FILES.trim_start_matches('/')).join(path)),
        false => Err(io::Error::other(format!("`{}` is no plain path", path.escape_debug()))),
    }
}

impl Cell {
    /// A root folder with `program` and these files, by their places in it. A chart may have thousands, and the
    /// disk may hang: nobody waits on that thread.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) async fn new(
        folder: &Path,
        program: &Path,
        files: Vec<(PathBuf, Arc<[u8]>)>,
        in_unit: bool,
    ) -> io::Result<Self> {
        let (folder, program) = (folder.to_owned(), program.to_owned());
        on_files(move || Self::named(PROGRAM, &folder, &program, &files, in_unit)).await
    }

    /// The same, where the program is called by this name.
    fn named(
        name: &'static str,
        folder: &Path,
        program: &Path,
        files: &[(PathBuf, Arc<[u8]>)],
        in_unit: bool,
    ) -> io::Result<Self> {
        paths::private(folder)?;
        let root = tempfile::Builder::new().prefix(RUN).tempdir_in(folder)?;
        let at = root.path();
        // Read by whoever runs in it, whatever our own mask is, and written by nobody.
        let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        let mut made = vec![at.to_owned()];
        for folder in [FILES.trim_start_matches('/'), "tmp", "home"] {
            fs::create_dir(at.join(folder))?;
            made.push(at.join(folder));
        }
        let place = at.join(name);
        fs::hard_link(program, &place).or_else(|_| fs::copy(program, &place).map(drop))?;
        for (file, bytes) in files {
            let path = at.join(file);
            for folder in path.ancestors().skip(1).take_while(|it| *it != at) {
                if !folder.exists() {
                    made.push(folder.to_owned());
                }
            }
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, bytes)?;
            open(&path, 0o444)?;
        }
        for folder in made {
            open(&folder, 0o755)?;
        }
        Ok(Self { root, name, in_unit })
    }

    /// Runs the program in it, once, and gives what it wrote.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub(super) async fn run(self, args: &[OsString], limit: Duration) -> Result<Vec<u8>, Refusal> {
        let ran = self.ran(args, limit).await;
        let root = self.root;
        if let Err(error) = on_files(move || root.close()).await {
            tracing::warn!(%error, "a folder of a rendering is left");
        }
        ran
    }

    async fn ran(&self, args: &[OsString], limit: Duration) -> Result<Vec<u8>, Refusal> {
        let is_root = rustix::process::geteuid().is_root();
        let mut argv = Vec::new();
        if self.in_unit {
            argv.extend(unit(limit));
        }
        argv.extend(confined(self.root.path(), self.name, is_root, limit));
        argv.extend(args.iter().cloned());
        let program = PathBuf::from(argv.remove(0));
        let home = Path::new("/home");
        // Of systemd-run alone is the way to systemd the environment's; it needs none of ours.
        match ask(&program, &argv, &[("HOME", home)], limit).await {
            Ok(out) => Ok(out),
            Err(RunError::Failed { words, .. }) if is_ours(&words) => {
                Err(Refusal::Confinement(format!(
                    "a program cannot be confined on this machine ({}): run trueup as root outside of \
                     a container, or allow user namespaces",
                    words.split_whitespace().collect::<Vec<_>>().join(" ")
                )))
            }
            Err(RunError::Io { program, source }) if !program.exists() => {
                Err(Refusal::Confinement(format!(
                    "{} is not there ({source}): install util-linux",
                    program.display()
                )))
            }
            Err(error) => Err(Refusal::Program(error)),
        }
    }
}

/// Work on files, on a thread that nobody waits on.
pub(super) async fn on_files<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Removes what a process left behind that was killed while something was rendered.
pub(super) fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let left = entries.filter_map(Result::ok).map(|entry| entry.path());
    let is_run = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(RUN))
    };
    for path in left.filter(is_run) {
        if let Err(error) = paths::remove(&path) {
            tracing::warn!(%error, "a folder of a rendering is left");
        }
    }
}

/// Whether the words are those of a program that confines, which then did not start the other.
fn is_ours(words: &str) -> bool {
    ["unshare: ", "setpriv: ", "prlimit: ", "/usr/bin/env: ", "Failed to "]
        .iter()
        .any(|own| words.starts_with(own))
}

/// The command line that confines what follows it to `root`.
fn confined(root: &Path, name: &str, is_root: bool, limit: Duration) -> Vec<OsString> {
    let mut argv: Vec<OsString> = vec!["/usr/bin/prlimit".into()];
    let mut add = |word: String| argv.push(word.into());
    add("--core=0".to_owned());
    add(format!("--cpu={}", limit.as_secs().max(1)));
    add(format!("--data={MEMORY_MAX}"));
    add(format!("--fsize={FILE_MAX}"));
    add(format!("--nofile={OPEN_MAX}"));
    for word in ["--", "/usr/bin/setpriv", "--no-new-privs", "--", "/usr/bin/unshare"] {
        add(word.to_owned());
    }
    if is_root {
        add(format!("--setgid={NOBODY}"));
        add(format!("--setuid={NOBODY}"));
    } else {
        // Our own number, in a space of its own, in which it is nobody and has no rights.
        add("--user".to_owned());
        add(format!("--map-user={NOBODY}"));
        add(format!("--map-group={NOBODY}"));
    }
    for word in ["--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child"] {
        add(word.to_owned());
    }
    add(format!("--wd={FILES}"));
    argv.push("--root".into());
    argv.push(root.into());
    argv.push("--".into());
    argv.push(Path::new("/").join(name).into());
    argv
}

/// The command line that runs what follows it in a unit of its own: ours has too few rights to confine.
fn unit(limit: Duration) -> Vec<OsString> {
    let mut argv: Vec<OsString> =
        ["/usr/bin/systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--service-type=exec"]
            .map(OsString::from)
            .into();
    argv.push("--description=trueup renders manifests".into());
    argv.push(format!("--property=RuntimeMaxSec={}", limit.as_secs().max(1) + 5).into());
    argv.extend(UNIT.iter().map(|property| OsString::from(format!("--property={property}"))));
    argv.push("--".into());
    // systemd tells each unit who it is, and in which language this machine speaks.
    argv.extend(["/usr/bin/env", "-i", HOME].map(OsString::from));
    argv
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::files::tests::beside_a_held_worker;

    /// What busybox says inside, run as root or not: these are the attacks of a chart whose program can be
    /// made to do what it likes.
    async fn says(args: &[&str], limit: Duration) -> Result<String, Refusal> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("busybox");
        fs::copy("/bin/busybox", &program).unwrap();
        let files = [(inside("e/manifests/a.yaml").unwrap(), Arc::from(&b"a: 1"[..]))];
        // It goes by the name that it is called by.
        let own = folder.path().join("own");
        let cell = Cell::named("busybox", &own, &program, &files, false).unwrap();
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let out = cell.run(&args, limit).await?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_place_is_made_where_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        let (own, program) = (folder.path().join("own"), folder.path().join("program"));
        fs::write(&program, "").unwrap();
        let files = vec![(inside("a.yaml").unwrap(), Arc::from(&b"a: 1"[..]))];
        let cell = beside_a_held_worker(Cell::new(&own, &program, files, false)).unwrap();
        assert!(cell.root.path().join("commit/a.yaml").is_file());
    }

    const LONG: Duration = Duration::from_secs(20);

    async fn refused(args: &[&str]) -> String {
        match says(args, LONG).await {
            Err(Refusal::Program(RunError::Failed { words, .. })) => words,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn it_sees_the_files_of_the_commit_and_nothing_else() {
        let all = says(&["find", "/", "-type", "f"], LONG).await.unwrap();
        let mut all: Vec<&str> = all.lines().collect();
        all.sort_unstable();
        assert_eq!(all, ["/busybox", "/commit/e/manifests/a.yaml"]);
        assert_eq!(says(&["env"], LONG).await.unwrap().trim(), "HOME=/home");
        assert!(refused(&["cat", "/etc/passwd"]).await.contains("No such file"));
        assert!(refused(&["cat", "/../../../etc/passwd"]).await.contains("No such file"));
    }

    #[tokio::test]
    async fn it_is_nobody_and_writes_nowhere() {
        assert_eq!(says(&["id", "-u"], LONG).await.unwrap().trim(), "65534");
        assert_eq!(says(&["id", "-G"], LONG).await.unwrap().trim(), "65534");
        if rustix::process::geteuid().is_root() {
            for place in ["/x", "/commit/x", "/tmp/x", "/home/x", "/commit/e/manifests/a.yaml"] {
                assert!(refused(&["cp", "/busybox", place]).await.contains("ermission denied"));
            }
        }
        assert!(refused(&["chroot", "/"]).await.contains("not permitted"));
    }

    #[tokio::test]
    async fn it_has_no_network() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port().to_string();
        let words = refused(&["nc", "-w", "2", "127.0.0.1", &port]).await;
        assert!(words.contains("unreachable") || words.contains("not assign"), "{words}");
    }

    #[tokio::test]
    async fn it_ends_in_time() {
        let began = std::time::Instant::now();
        let late = says(&["sleep", "1000"], Duration::from_secs(1)).await;
        assert!(matches!(late, Err(Refusal::Program(RunError::TimedOut { .. }))), "{late:?}");
        assert!(began.elapsed() < LONG);
    }

    #[test]
    fn no_path_of_a_commit_leads_out() {
        for path in ["", "/etc/passwd", "../x", "a/../../x", "./a"] {
            assert!(inside(path).is_err(), "{path}");
        }
        assert_eq!(inside("a/b").unwrap(), Path::new("commit/a/b"));
    }

    #[test]
    fn a_unit_confines_what_runs_in_it_in_the_same_way() {
        let limit = Duration::from_secs(60);
        let unit = unit(limit);
        assert_eq!(&unit[unit.len() - 4..], ["--", "/usr/bin/env", "-i", HOME]);
        assert!(unit.contains(&"--property=PrivateNetwork=yes".into()));
        let inner = confined(Path::new("/var/lib/trueup/render/run-1"), PROGRAM, true, limit);
        assert!(inner.contains(&"--setuid=65534".into()) && inner.contains(&"--net".into()));
    }
}
