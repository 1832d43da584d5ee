//! `qemu-img`: what an image is, and the same image in the format and size we want.
//!
//! A fetched image is somebody else's data. One that points to other files (a backing file, an
//! external data file) could make us read any file of this host into a guest, so it is refused
//! before anything opens it for real.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::child::Child;
use super::error::ImageError;
use super::place::{blocking, place};
use crate::model::resource::VolumeFormat;
use crate::provider::files::UNFINISHED;

/// How long `qemu-img info` may take; it reads headers only.
const INFO_TIME: Duration = Duration::from_secs(30);

/// Address space for `qemu-img info`, in bytes: crafted headers have made it allocate without end
/// (CVE-2015-5162, whose fix these two limits are); 1 GiB is what OpenStack allows.
const INFO_MEMORY_MAX: u64 = 1 << 30;

/// CPU seconds for `qemu-img info`, for the same reason.
const INFO_CPU_MAX: u64 = 30;

/// What `qemu-img info` says about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// Its format.
    pub format: VolumeFormat,
    /// The size a guest sees, in bytes.
    pub virtual_size: u64,
}

/// The part of `qemu-img info --output=json` we read (QEMU's `qapi/block-core.json`, `ImageInfo`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawInfo {
    format: String,
    virtual_size: u64,
    backing_filename: Option<String>,
    #[serde(default)]
    encrypted: bool,
    format_specific: Option<FormatSpecific>,
}

#[derive(Debug, Deserialize)]
struct FormatSpecific {
    #[serde(default)]
    data: serde_json::Value,
}

/// Looks at the image in `path`, which must be absolute.
///
/// # Errors
/// [`ImageError::Unsafe`] for a backing file, an external data file, encryption, or a format other
/// than qcow2 and raw.
pub async fn inspect(path: &Path) -> Result<ImageInfo, ImageError> {
    let ended = Child::new("prlimit", INFO_TIME)
        .arg(format!("--as={INFO_MEMORY_MAX}"))
        .arg(format!("--cpu={INFO_CPU_MAX}"))
        .args(["--", "qemu-img", "info", "--output=json"])
        .arg(path)
        .success()
        .await
        .map_err(ImageError::child("cannot look at the image"))?;
    judge(path, &ended.output)
}

fn judge(path: &Path, json: &[u8]) -> Result<ImageInfo, ImageError> {
    let refuse = |why: String| ImageError::Unsafe { path: path.to_owned(), why };
    let raw: RawInfo = serde_json::from_slice(json).map_err(|error| {
        refuse(format!("`qemu-img info` gave an answer we cannot read: {error}"))
    })?;
    if let Some(backing) = raw.backing_filename {
        return Err(refuse(format!(
            "it has the backing file `{backing}`; flatten it with `qemu-img convert` where it comes from"
        )));
    }
    let data_file = raw.format_specific.as_ref().and_then(|f| f.data.get("data-file"));
    if let Some(file) = data_file {
        return Err(refuse(format!(
            "its data is in another file, {file}; flatten it with `qemu-img convert` where it comes from"
        )));
    }
    if raw.encrypted {
        return Err(refuse("it is encrypted; publish it without encryption".to_owned()));
    }
    let format = match raw.format.as_str() {
        "qcow2" => VolumeFormat::Qcow2,
        "raw" => VolumeFormat::Raw,
        other => {
            return Err(refuse(format!(
                "its format is {other}; only qcow2 and raw are used, `qemu-img convert` makes them"
            )));
        }
    };
    Ok(ImageInfo { format, virtual_size: raw.virtual_size })
}

/// Writes `source` to `dest` as `format`, grown to `size` bytes where given, and returns what it is.
///
/// `dest` appears whole, read-only and durable, or not at all. Nothing is done to the file systems
/// inside.
///
/// # Errors
/// As [`inspect`]; [`ImageError::Unsafe`] when `size` is smaller than the image.
pub async fn convert(
    source: &Path,
    dest: &Path,
    format: VolumeFormat,
    size: Option<u64>,
    deadline: Duration,
) -> Result<ImageInfo, ImageError> {
    let info = inspect(source).await?;
    if let Some(size) = size
        && size < info.virtual_size
    {
        return Err(ImageError::Unsafe {
            path: source.to_owned(),
            why: format!(
                "it is {} bytes large and the spec asks for {size}; images are never cut: raise `size`",
                info.virtual_size
            ),
        });
    }
    let partial = Partial::beside(dest);
    Child::new("qemu-img", deadline)
        .args(["convert", "-q", "-f", info.format.as_str(), "-O", format.as_str()])
        .args([source, &partial.0])
        .success()
        .await
        .map_err(ImageError::child("cannot convert the image"))?;
    if let Some(size) = size
        && size > info.virtual_size
    {
        Child::new("qemu-img", deadline)
            .args(["resize", "-q", "-f", format.as_str()])
            .arg(&partial.0)
            .arg(size.to_string())
            .success()
            .await
            .map_err(ImageError::child("cannot grow the image"))?;
    }
    let (from, to) = (partial.0.clone(), dest.to_owned());
    blocking("place an image", move || place(&from, &to)).await?;
    Ok(ImageInfo { format, virtual_size: size.unwrap_or(info.virtual_size) })
}

/// A file that is removed unless it was renamed away.
struct Partial(std::path::PathBuf);

impl Partial {
    fn beside(dest: &Path) -> Self {
        let mut name = dest.as_os_str().to_owned();
        name.push(".");
        name.push(UNFINISHED);
        Self(name.into())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.0) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %self.0.display(), %error, "a partial image was left behind");
            }
        }
    }
}
