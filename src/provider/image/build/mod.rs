//! Building a Debian image on this host: mmdebstrap makes the tree, we finish it, `mke2fs -d` makes
//! the file system. No loop device, no mount of ours, no shell.
//!
//! Files appear in the order log, package list, initrd, kernel, image; so where the image is, all of
//! it is. A failed build leaves its log and nothing else.

mod input;
mod root;
mod tree;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::input::validate;
use super::boot::{BootCheck, BootReport, boot_check};
use super::child::Child;
use super::error::ImageError;
use super::fetch::digest_file;
use super::place::{blocking, place};
use super::qemu_img;
use super::workdir::WorkDir;
use crate::model::Digest;
use crate::model::resource::{BuildSpec, VolumeFormat};

/// Time for mmdebstrap: a large package list over a slow line.
const BOOTSTRAP_TIME: Duration = Duration::from_secs(3600);

/// Time for each of the short steps (`mke2fs`, `useradd`, `qemu-img convert`).
const STEP_TIME: Duration = Duration::from_secs(900);

/// Time for the boot check: 40 s for a small image under emulation on an idle machine, ten times that
/// on a busy one, and cloud-init on top.
const BOOT_TIME: Duration = Duration::from_secs(600);

/// The smallest virtual size, in bytes, when none is asked for: sparse, so it costs nothing, and the
/// guest has room for its first logs.
const SIZE_MIN: u64 = 2 << 30;

/// Room on top of the tree's own size, for metadata and the journal: a quarter and 256 MiB.
const SIZE_SLACK: u64 = 256 << 20;

/// What tells the UUIDs of our file systems from those of other uses of version 5.
const UUID_SPACE: Uuid = Uuid::from_u128(0x2a8d_5f1c_7c0e_4d0b_9a53_6d1f_0e7b_c3a4);

/// Where a build's files go; all of them in one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// The image.
    pub image: PathBuf,
    /// Its kernel.
    pub kernel: PathBuf,
    /// Its initial RAM disk.
    pub initrd: PathBuf,
    /// Its packages, as JSON.
    pub packages: PathBuf,
    /// The build's log.
    pub log: PathBuf,
}

impl Targets {
    /// `image` and its companions beside it: `x.qcow2` has `x.vmlinuz`, `x.initrd`,
    /// `x.packages.json` and `x.build.log`.
    pub fn beside(image: &Path) -> Self {
        let with = |extension| image.with_extension(extension);
        Self {
            image: image.to_owned(),
            kernel: with("vmlinuz"),
            initrd: with("initrd"),
            packages: with("packages.json"),
            log: with("build.log"),
        }
    }

    /// Where the log of a build that failed is kept, until the next one.
    pub fn failed_log(&self) -> PathBuf {
        self.log.with_extension("failed.log")
    }

    /// Where the console of the boot check is kept.
    pub fn console(&self) -> PathBuf {
        self.log.with_extension("console.log")
    }
}

/// A package in an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub arch: String,
}

/// What a build came to.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildOutcome {
    /// SHA-256 of the image's file.
    pub image: Digest,
    /// SHA-256 of the package list.
    pub packages: Digest,
    /// SHA-256 of the log.
    pub log: Digest,
    /// Packages in it.
    pub package_count: usize,
    /// Size of the image's file in bytes.
    pub bytes: u64,
    /// The boot check, where one was asked for.
    pub boot: Option<BootReport>,
    /// How long all of it took.
    pub took: Duration,
}

/// Builds `spec` as root and puts the result at `targets`.
///
/// `progress` is told each stage as it begins.
///
/// # Errors
/// [`ImageError::Input`] before anything is done; later the failed program's last words, with its
/// whole log kept at [`Targets::failed_log`].
pub async fn build(
    spec: &BuildSpec,
    format: VolumeFormat,
    size: Option<u64>,
    targets: &Targets,
    progress: impl Fn(&str) + Send + Sync,
) -> Result<BuildOutcome, ImageError> {
    validate(spec)?;
    let started = Instant::now();
    let dir = targets.image.parent().unwrap_or(Path::new("/")).to_owned();
    let work = blocking("make a work directory", move || WorkDir::new(&dir)).await?;
    let build = Build {
        spec,
        format,
        size,
        targets,
        log: work.path().join("log"),
        root: work.path().join("root"),
        work: work.path(),
    };
    let mut made = build.run(&progress).await;
    if made.is_err() && build.log.exists() {
        let kept = targets.failed_log();
        std::fs::rename(&build.log, &kept).map_err(ImageError::file("keep the log as", &kept))?;
        made = made.map_err(|error| error.kept_in(&kept));
    }
    // Half a gigabyte of small files: not on this thread.
    blocking("remove a work directory", move || {
        drop(work);
        Ok(())
    })
    .await?;
    Ok(BuildOutcome { took: started.elapsed(), ..made? })
}

/// One build under way.
struct Build<'a> {
    spec: &'a BuildSpec,
    format: VolumeFormat,
    size: Option<u64>,
    targets: &'a Targets,
    log: PathBuf,
    root: PathBuf,
    work: &'a Path,
}

impl Build<'_> {
    async fn run(&self, progress: &(impl Fn(&str) + Sync)) -> Result<BuildOutcome, ImageError> {
        progress("installing packages");
        let settings = input::apt_settings(&self.output("apt-config", &["dump"]).await?);
        self.child("mmdebstrap", BOOTSTRAP_TIME)
            .args(input::mmdebstrap_args(self.spec, &settings, &self.root))
            .success()
            .await
            .map_err(ImageError::child("cannot install the image's packages"))?;

        progress("making users and files");
        for argv in tree::user_commands(&self.spec.users) {
            self.child("chroot", STEP_TIME)
                .arg(&self.root)
                .args(argv)
                .success()
                .await
                .map_err(ImageError::child("cannot set up a user or service in the image"))?;
        }
        let (root, spec) = (self.root.clone(), self.spec.clone());
        let used = blocking("finish the image's tree", move || tree::finish(&root, &spec)).await?;

        progress("making the file system");
        let packages = self.packages().await?;
        let image = self.file_system(used).await?;
        let (kernel, initrd) = tree::boot_files(&self.root)?;

        let boot = match &self.spec.boot_check {
            None => None,
            Some(expect) => {
                progress("checking that it boots");
                let check = BootCheck {
                    image: &image,
                    format: self.format,
                    kernel: &kernel,
                    initrd: &initrd,
                    seed: None,
                    expect,
                    deadline: BOOT_TIME,
                };
                let console = self.targets.console();
                Some(boot_check(&check, &console).await?)
            }
        };
        progress("putting it in place");
        self.outcome(&image, &kernel, &initrd, packages, boot).await
    }

    fn child(&self, program: &str, time: Duration) -> Child {
        Child::new(program, time)
            .within(self.work)
            .env("SOURCE_DATE_EPOCH", input::EPOCH.to_string())
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("TMPDIR", self.work)
            .log(&self.log)
    }

    async fn output(&self, program: &str, args: &[&str]) -> Result<String, ImageError> {
        let ended = Child::new(program, STEP_TIME)
            .within(self.work)
            .args(args)
            .success()
            .await
            .map_err(ImageError::child("cannot ask the package manager"))?;
        Ok(String::from_utf8_lossy(&ended.output).into_owned())
    }

    async fn packages(&self) -> Result<Vec<Package>, ImageError> {
        let database = self.root.join("var/lib/dpkg");
        let admin = format!("--admindir={}", database.display());
        let format = "--showformat=${Package}\t${Version}\t${Architecture}\n";
        let text = self.output("dpkg-query", &[&admin, "--show", format]).await?;
        Ok(input::parse_packages(&text))
    }

    /// Makes the image inside the work directory.
    async fn file_system(&self, used: u64) -> Result<PathBuf, ImageError> {
        let least = used + used / 4 + SIZE_SLACK;
        let size = match self.size {
            None => least.max(SIZE_MIN).next_multiple_of(1 << 20),
            Some(size) if size >= least => size,
            Some(size) => {
                return Err(ImageError::Input {
                    what: format!("its content needs {least} bytes and `size` is {size}: raise it"),
                });
            }
        };
        let raw = self.work.join("raw");
        let file = std::fs::File::create(&raw).map_err(ImageError::file("make", &raw))?;
        file.set_len(size).map_err(ImageError::file("grow", &raw))?;
        let uuid = Uuid::new_v5(&UUID_SPACE, self.spec.inputs_digest().bytes()).to_string();
        self.child("mke2fs", STEP_TIME)
            .args(["-q", "-F", "-t", "ext4", "-L", "root", "-U", &uuid, "-E"])
            .arg(format!("hash_seed={uuid},root_owner=0:0"))
            .arg("-d")
            .args([&self.root, &raw])
            .env("E2FSPROGS_FAKE_TIME", input::EPOCH.to_string())
            .success()
            .await
            .map_err(ImageError::child("cannot make the image's file system"))?;
        if self.format == VolumeFormat::Raw {
            return Ok(raw);
        }
        let image = self.work.join("image");
        qemu_img::convert(&raw, &image, self.format, None, STEP_TIME).await?;
        Ok(image)
    }

    async fn outcome(
        &self,
        image: &Path,
        kernel: &Path,
        initrd: &Path,
        packages: Vec<Package>,
        boot: Option<BootReport>,
    ) -> Result<BuildOutcome, ImageError> {
        let list = self.work.join("packages.json");
        let json = serde_json::to_vec_pretty(&packages).map_err(|e| ImageError::Input {
            what: format!("the package list cannot be written: {e}"),
        })?;
        std::fs::write(&list, json).map_err(ImageError::file("write", &list))?;
        let outcome = BuildOutcome {
            image: digest_file(image).await?,
            packages: digest_file(&list).await?,
            log: digest_file(&self.log).await?,
            package_count: packages.len(),
            bytes: std::fs::metadata(image).map_err(ImageError::file("read", image))?.len(),
            boot,
            took: Duration::ZERO,
        };
        let t = self.targets;
        let moves = [
            (self.log.clone(), t.log.clone()),
            (list, t.packages.clone()),
            (initrd.to_owned(), t.initrd.clone()),
            (kernel.to_owned(), t.kernel.clone()),
            (image.to_owned(), t.image.clone()),
        ];
        blocking("place an image", move || moves.iter().try_for_each(|(from, to)| place(from, to)))
            .await?;
        Ok(outcome)
    }
}
