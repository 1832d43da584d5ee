//! `Image`: a golden image, fetched and verified or built on the host.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::environment::yes;
use crate::model::resource::VolumeFormat;
use crate::spec::scalar::SizeText;

/// A golden image: `source` with `sha256`, or `build`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageSpec {
    /// Where to fetch it: an `http(s)://` URL or an absolute path on the host.
    pub source: Option<String>,
    /// SHA-256 of the source's bytes, 64 hexadecimal digits; needed with `source`.
    #[schemars(regex(pattern = r"^[0-9a-fA-F]{64}$"))]
    pub sha256: Option<String>,
    /// Builds a Debian image on the host in place of fetching one.
    pub build: Option<BuildDoc>,
    /// Format of the file, and of the source.
    #[serde(default)]
    pub format: VolumeFormat,
    /// Virtual size; as the source or the build has it when not given.
    pub size: Option<SizeText>,
    /// Storage pool; the environment's first one when not given.
    pub pool: Option<String>,
}

/// What a Debian image is built from.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuildDoc {
    /// Debian suite: `bookworm`.
    #[schemars(regex(pattern = r"^[a-z][a-z-]*$"))]
    pub suite: String,
    /// Archive to install from; Debian's own when not given.
    pub mirror: Option<String>,
    /// Archive components.
    #[serde(default = "main_only")]
    pub components: Vec<String>,
    /// Packages beyond the smallest Debian and its kernel.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Kernel package.
    #[serde(default = "cloud_kernel")]
    pub kernel: String,
    /// Files written into the image, by absolute path.
    #[serde(default)]
    pub files: BTreeMap<String, FileDoc>,
    /// Users made in the image, by name.
    #[serde(default)]
    pub users: BTreeMap<String, UserDoc>,
    /// Install cloud-init, looking for the media that `cloudInit` of a virtual machine makes.
    #[serde(default = "yes")]
    pub cloud_init: bool,
    /// Boot the image once before it is used: `true` waits for a login prompt on the serial
    /// console, a text for that text, `false` does not boot it.
    #[serde(default)]
    pub boot_check: BootCheck,
}

/// Whether and how an image is booted before use.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum BootCheck {
    /// Wait for a login prompt, or do not boot it.
    Flag(bool),
    /// Wait for this text on the serial console.
    Text(String),
}

impl Default for BootCheck {
    fn default() -> Self {
        Self::Flag(true)
    }
}

/// A file written into an image.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileDoc {
    /// Its content.
    pub content: String,
    /// Permission bits in octal, quoted: `"0644"`.
    #[serde(default = "plain_file")]
    #[schemars(regex(pattern = r"^[0-7]{3,4}$"))]
    pub mode: String,
}

/// A user made in an image.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UserDoc {
    /// SSH public keys that may log in.
    pub ssh_keys: Vec<String>,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// May become root without a password.
    pub sudo: bool,
}

fn main_only() -> Vec<String> {
    vec!["main".to_owned()]
}

fn cloud_kernel() -> String {
    "linux-image-cloud-amd64".to_owned()
}

fn plain_file() -> String {
    "0644".to_owned()
}
