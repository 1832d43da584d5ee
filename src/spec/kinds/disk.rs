//! `Disk`: a volume of its own, empty or on top of an image.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::resource::{OnImageChange, VolumeFormat};
use crate::spec::scalar::SizeText;

/// A disk.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DiskSpec {
    /// Virtual size: `20GiB`. It can grow and never shrinks. That of the image when not given.
    pub size: Option<SizeText>,
    /// Format of the file.
    #[serde(default)]
    pub format: VolumeFormat,
    /// Image it starts from (copy on write); empty when not given.
    pub image: Option<String>,
    /// What to do when that image changes after the disk was made.
    #[serde(default)]
    pub on_image_change: OnImageChange,
    /// Storage pool; the environment's first one when not given.
    pub pool: Option<String>,
    /// The name of a `Backup` that saves it: it takes a snapshot before a change that makes the disk
    /// anew or destroys it, and without that nothing is done to it.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub backup_before: Option<String>,
    /// Of `backupBefore`: how long the change has to have been good before that snapshot may go: `1d`,
    /// the default.
    pub keep_for: Option<String>,
}
