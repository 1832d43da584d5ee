//! The disk: a FAT volume labelled `CIDATA`, as cloud-init's NoCloud data source looks for.
//!
//! FAT rather than ISO 9660: it works as a plain virtio disk, and a cloud kernel that has no AHCI
//! driver still sees it. The volume holds no time stamp and no random id.

use std::io::{Cursor, Write};

use fatfs::{
    Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider,
    format_volume,
};

/// The most one seed may hold. cloud-init reads it all into memory, and cloud services stop at
/// 16 KiB to 256 KiB of user data; 8 MiB leaves room for certificates and scripts.
pub const SEED_CONTENT_MAX: usize = 8 << 20;

/// The smallest media: FAT12 with 512-byte clusters, and still a whole number of MiB, which disk
/// tools and block devices like best.
const MEDIA_BYTES_MIN: u64 = 1 << 20;

/// FAT12 has at most 4084 clusters (Microsoft FAT specification 1.03, "FAT type determination").
const FAT12_CLUSTERS_MAX: u64 = 4084;

/// The label NoCloud searches for (cloud-init documentation, data source NoCloud); FAT labels are
/// 11 bytes, padded with spaces.
const LABEL: [u8; 11] = *b"CIDATA     ";

/// What a seed carries: the four files of the NoCloud data source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeedContent {
    /// `meta-data`: instance id and host name.
    pub meta_data: String,
    /// `user-data`: a `#cloud-config` document, or any other form cloud-init takes.
    pub user_data: String,
    /// `network-config`; `None` leaves the network to cloud-init's default (DHCP on one card).
    pub network_config: Option<String>,
    /// `vendor-data`; merged below the user's data by cloud-init.
    pub vendor_data: Option<String>,
}

/// Why no media could be made.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// More than [`SEED_CONTENT_MAX`].
    #[error(
        "cloud-init data is {bytes} bytes; at most {SEED_CONTENT_MAX} fit a seed: move large files into the image or fetch them at first boot"
    )]
    TooLarge {
        /// How much was given.
        bytes: usize,
    },
    /// The FAT writer failed, which no content should make it do.
    #[error("cannot write `{file}` into the seed media")]
    Write {
        /// The file inside the media.
        file: &'static str,
        /// What the FAT writer said.
        source: std::io::Error,
    },
}

/// A clock that stands at the first moment FAT can express.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime {
            date: self.get_current_date(),
            time: Time { hour: 0, min: 0, sec: 0, millis: 0 },
        }
    }
}

/// The bytes of a FAT12 disk labelled `CIDATA` that holds `content`.
///
/// # Errors
/// [`SeedError::TooLarge`] above [`SEED_CONTENT_MAX`].
pub fn seed_image(content: &SeedContent) -> Result<Vec<u8>, SeedError> {
    let mut files =
        vec![("meta-data", content.meta_data.as_str()), ("user-data", content.user_data.as_str())];
    files.extend(content.network_config.as_deref().map(|text| ("network-config", text)));
    files.extend(content.vendor_data.as_deref().map(|text| ("vendor-data", text)));

    let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
    if bytes > SEED_CONTENT_MAX {
        return Err(SeedError::TooLarge { bytes });
    }
    let (size, cluster) = geometry(bytes as u64);
    let mut disk = vec![0; size as usize];
    let failed = |file| move |source| SeedError::Write { file, source };

    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat12)
        .bytes_per_cluster(cluster)
        .volume_id(0x5452_5550) // "TRUP": any constant will do, but it must be one
        .volume_label(LABEL);
    format_volume(Cursor::new(&mut disk), options).map_err(failed("boot sector"))?;
    let options = FsOptions::new().time_provider(&NoClock);
    let volume = FileSystem::new(Cursor::new(&mut disk), options).map_err(failed("file table"))?;
    for (name, text) in files {
        let mut file = volume.root_dir().create_file(name).map_err(failed(name))?;
        file.write_all(text.as_bytes()).map_err(failed(name))?;
        file.flush().map_err(failed(name))?;
    }
    volume.unmount().map_err(failed("file table"))?;
    Ok(disk)
}

/// Media size and cluster size, both in bytes, that hold `bytes` of content as FAT12.
fn geometry(bytes: u64) -> (u64, u32) {
    // Four files round up to a cluster each; a quarter on top covers tables and directory.
    let size = (bytes + bytes / 4 + (64 << 10)).next_multiple_of(MEDIA_BYTES_MIN);
    let mut cluster = 512;
    while size / u64::from(cluster) > FAT12_CLUSTERS_MAX {
        cluster *= 2;
    }
    (size, cluster)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::model::Digest;

    fn content() -> SeedContent {
        SeedContent {
            meta_data: "{\"instance-id\":\"i-1\"}\n".into(),
            user_data: "#cloud-config\nhostname: web\n".into(),
            network_config: Some("version: 2\n".into()),
            vendor_data: None,
        }
    }

    /// Reads a file back with a FAT implementation that is not ours.
    fn mtype(image: &[u8], file: &str) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed.img");
        std::fs::write(&path, image).unwrap();
        let out = Command::new("mtype")
            .arg("-i")
            .arg(&path)
            .arg(format!("::{file}"))
            .output()
            .expect("mtools is installed");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    #[test]
    fn same_content_gives_the_same_bytes_for_ever() {
        let image = seed_image(&content()).unwrap();
        assert_eq!(image, seed_image(&content()).unwrap());
        // A changed digest here means every seed in the field is replaced once: say so when you do.
        expect_test::expect!["866b8ffeaf8820cd196f4a4f5dd803eff7d5095968627dc6db9ce50a6ca27894"]
            .assert_eq(&Digest::of(&image).to_string());
        let mut changed = content();
        changed.user_data.push('\n');
        assert_ne!(image, seed_image(&changed).unwrap());
    }

    #[test]
    fn other_tools_read_the_label_and_the_files() {
        let image = seed_image(&content()).unwrap();
        assert_eq!(image.len(), 1 << 20);
        assert_eq!(mtype(&image, "meta-data"), content().meta_data.as_bytes());
        assert_eq!(mtype(&image, "user-data"), content().user_data.as_bytes());
        assert_eq!(mtype(&image, "network-config"), b"version: 2\n");

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed.img");
        std::fs::write(&path, &image).unwrap();
        let blkid = Command::new("blkid")
            .args(["-p", "-o", "value", "-s", "LABEL", "-s", "TYPE"])
            .arg(&path)
            .output()
            .expect("util-linux is installed");
        assert_eq!(String::from_utf8_lossy(&blkid.stdout), "CIDATA\nvfat\n");
    }

    #[test]
    fn large_content_still_fits_and_too_large_is_refused() {
        let mut big = content();
        big.user_data = "x".repeat(7 << 20);
        let image = seed_image(&big).unwrap();
        assert_eq!(mtype(&image, "user-data").len(), 7 << 20);
        big.user_data = "x".repeat(SEED_CONTENT_MAX);
        assert!(matches!(seed_image(&big), Err(SeedError::TooLarge { .. })));
    }
}
