//! Canonical form of storage: pools, golden images, disks and cloud-init media.
//!
//! Images and seeds are content-addressed: the file name carries a digest, so changed content is
//! always a new file and never silently an old one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::{Digest, Name, digest_of};
use super::WayBack;

/// A libvirt storage pool of type `dir`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoragePool {
    /// Absolute path of its directory on the host.
    pub path: String,
    /// Started with libvirt.
    pub autostart: bool,
}

/// The format of a volume.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum VolumeFormat {
    /// QEMU copy-on-write, version 2 or 3.
    #[default]
    Qcow2,
    /// Plain bytes.
    Raw,
}

impl VolumeFormat {
    /// The word libvirt and qemu-img use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// A golden image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The pool its file lives in.
    pub pool: Name,
    /// Absolute path of the file; its name carries the first digits of `content`.
    pub path: String,
    /// Digest of what it is made from: the source's SHA-256, or the build's inputs, with format and size.
    pub content: Digest,
    /// Format of the file.
    pub format: VolumeFormat,
    /// Virtual size in bytes; `None`: as the source has it.
    pub size: Option<u64>,
    /// Kernel and initrd kept beside a built image for direct boot.
    pub boot_files: Option<BootFiles>,
    /// Where it comes from; `None` in an observation.
    pub origin: Option<ImageOrigin>,
}

impl Image {
    /// Takes out what may hold a secret: the content of files that are built in, and the query of a
    /// URL, which may be its signature. Digests of them are elsewhere.
    pub fn strip_texts(&mut self) {
        match &mut self.origin {
            Some(ImageOrigin::Build(build)) => {
                build.files.values_mut().for_each(|file| file.content.clear());
            }
            Some(ImageOrigin::Fetch { source, .. }) => {
                if source.contains("://")
                    && let Some((place, _)) = source.split_once('?')
                {
                    *source = place.to_owned();
                }
            }
            None => {}
        }
    }
}

/// Kernel and initrd of a built image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BootFiles {
    /// Absolute path of the kernel.
    pub kernel: String,
    /// Absolute path of the initial RAM disk.
    pub initrd: String,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum ImageOrigin {
    /// Downloaded or copied, and verified.
    Fetch {
        /// `http(s)://` URL or absolute path on the host.
        source: String,
        /// SHA-256 of the source's bytes.
        sha256: Digest,
    },
    /// Built on the host.
    Build(Box<BuildSpec>),
}

/// Version of the way images are built: raised when the same spec shall give another image, so
/// that images are rebuilt.
pub const BUILD_RECIPE: u32 = 1;

/// What a Debian image is built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildSpec {
    /// Debian suite: `bookworm`.
    pub suite: String,
    /// Archive to install from; `None`: the one mmdebstrap takes by itself.
    pub mirror: Option<String>,
    /// Archive components, sorted.
    pub components: Vec<String>,
    /// Packages beyond the smallest Debian and its kernel, sorted.
    pub packages: Vec<String>,
    /// Kernel package.
    pub kernel: String,
    /// Files written into the image, by absolute path.
    pub files: BTreeMap<String, BuildFile>,
    /// Users made in the image, by name.
    pub users: BTreeMap<String, BuildUser>,
    /// Whether cloud-init is installed and looks for NoCloud media.
    pub cloud_init: bool,
    /// A text on the console that proves the image boots; checked before the image is used.
    /// `None`: not boot-checked.
    pub boot_check: Option<String>,
}

impl BuildSpec {
    /// The digest of everything that decides what a build gives, besides the archive's own state.
    pub fn inputs_digest(&self) -> Digest {
        digest_of(&(BUILD_RECIPE, self))
    }
}

/// A file written into a built image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BuildFile {
    /// Its content.
    pub content: String,
    /// Permission bits.
    pub mode: u32,
}

/// A user made in a built image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildUser {
    /// SSH public keys that may log in.
    pub ssh_keys: Vec<String>,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// May become root without a password.
    pub sudo: bool,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// The pool its volume lives in.
    pub pool: Name,
    /// Absolute path of its file.
    pub path: String,
    /// Format of the file.
    pub format: VolumeFormat,
    /// Virtual size in bytes.
    pub size: u64,
    /// Image below it (copy on write); `None`: an empty disk.
    pub backing: Option<Backing>,
    /// What to do when the image changed after the disk was made; `None` in an observation.
    pub on_image_change: Option<OnImageChange>,
    /// What is kept to go back from a change that destroys it; `None`: nothing, or in an observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_back: Option<WayBack>,
}

/// The image below a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Backing {
    /// Absolute path of the image's file.
    pub path: String,
    /// Format of the image's file.
    pub format: VolumeFormat,
}

/// What to do with a disk whose image changed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum OnImageChange {
    /// Keep the disk on the image it was made from, and say so in the plan.
    #[default]
    Keep,
    /// Destroy the disk and make it anew from the changed image.
    Replace,
}

/// cloud-init NoCloud media of one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Seed {
    /// The pool its file lives in.
    pub pool: Name,
    /// Absolute path of the file; its name carries the first digits of `content`.
    pub path: String,
    /// Digest of the three texts.
    pub content: Digest,
    /// The text of `meta-data`; `None` in an observation.
    pub meta_data: Option<String>,
    /// The text of `user-data`; `None` in an observation.
    pub user_data: Option<String>,
    /// The text of `network-config`; `None` in an observation or where cloud-init decides.
    pub network_config: Option<String>,
}

impl Seed {
    /// Takes out the texts, which may hold secrets; their digest is in [`Seed::content`].
    pub fn strip_texts(&mut self) {
        (self.meta_data, self.user_data, self.network_config) = (None, None, None);
    }
}
