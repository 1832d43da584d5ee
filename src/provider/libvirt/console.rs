//! What a guest writes on its serial console, as far as it is looked at here.
//!
//! It is the guest's word and may hold anything, a password too: nothing of it is kept but through
//! [`Console::last_words`], and nothing of what its agent says but through [`kept`].

use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Most of the console that is searched at once, and kept for the next time: a longer line than
/// this is none that anybody waits for.
const WINDOW_MAX: usize = 64 << 10;

/// Most characters shown of a line.
const LINE_MAX: usize = 160;

/// Lines that are kept of a guest that did not come up: they say where it stopped.
const LAST_WORDS_MAX: usize = 8;

/// How lines begin that tell of a start and are not a program's: systemd's own (`man systemd`,
/// `systemd.show_status`), and those of firmware, boot loader and initramfs where a start ends. What
/// programs write, `cloud-init` with the passwords that it made before all, is not among them.
const OF_A_START: [&str; 20] = [
    "[  OK  ]",
    "[FAILED]",
    "[DEPEND]",
    "[ TIME ]",
    "You are in emergency mode",
    "You are in rescue mode",
    "Booting from",
    "Boot failed",
    "No bootable device",
    "BdsDxe:",
    "error: no such",
    "error: disk",
    "error: file",
    "error: unknown filesystem",
    "grub rescue>",
    "ALERT!",
    "Gave up waiting for",
    "Kernel panic",
    "(initramfs)",
    "No init found",
];

/// What a line that holds a secret often says beside it.
const TELLTALES: [&str; 11] = [
    "passw",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "credential",
    "api key",
    "apikey",
    "api_key",
    "private key",
    "authoriz",
];

/// Longest word that is kept where it has letters and digits: a longer one may be a key. Those of the
/// kernel's own lines that people look for are shorter.
const WORD_MAX: usize = 31;

/// The tail of a console file that another process writes, starts anew and rotates.
pub(super) struct Console {
    pub(super) path: PathBuf,
    file: Option<File>,
    inode: u64,
    read: u64,
    /// Lines ended since the last start.
    pub(super) lines: usize,
    /// The end of what was read, at most [`WINDOW_MAX`] bytes.
    window: Vec<u8>,
}

impl Console {
    /// One that is not read yet.
    pub(super) fn new(path: &str) -> Self {
        Self {
            path: PathBuf::from(path),
            file: None,
            inode: 0,
            read: 0,
            lines: 0,
            window: Vec::new(),
        }
    }

    /// Takes in what was written since the last time. A file that is not there yet has nothing.
    pub(super) async fn read(&mut self) -> std::io::Result<()> {
        self.drain().await?;
        let Some(metadata) = metadata(&self.path).await? else {
            return Ok(());
        };
        if self.file.is_none() || metadata.ino() != self.inode {
            // Rotated: the rest of the old file was just read.
            self.file = Some(File::open(&self.path).await?);
            self.inode = metadata.ino();
            self.read = 0;
        } else if metadata.len() < self.read {
            // Started anew: what was read belongs to an earlier start.
            self.read = 0;
            self.lines = 0;
            self.window.clear();
            if let Some(file) = &mut self.file {
                file.seek(SeekFrom::Start(0)).await?;
            }
        }
        self.drain().await
    }

    async fn drain(&mut self) -> std::io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut buffer = [0; 8 << 10];
        loop {
            let count = file.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            self.read += count as u64;
            self.lines += buffer[..count].iter().filter(|byte| **byte == b'\n').count();
            self.window.extend_from_slice(&buffer[..count]);
            let surplus = self.window.len().saturating_sub(WINDOW_MAX);
            self.window.drain(..surplus);
        }
    }

    /// Whether a text stands in it, within what was written last.
    pub(super) fn shows(&self, text: &str) -> bool {
        let text = text.as_bytes();
        !text.is_empty() && self.window.windows(text.len()).any(|part| part == text)
    }

    /// Its last lines with something in them, cut short and without control characters.
    pub(super) fn last_lines(&self, count: usize) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.window);
        let mut lines: Vec<String> = text
            .lines()
            .rev()
            .map(|line| line.chars().filter(|c| !c.is_control()).take(LINE_MAX).collect())
            .map(|line: String| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .take(count)
            .collect();
        lines.reverse();
        lines
    }

    /// What stands in it last of the start itself, for whoever asks later why the guest did not come up.
    pub(super) fn last_words(&self) -> Vec<String> {
        let mut told = self.last_lines(usize::MAX);
        told.retain(|line| is_of_a_start(line));
        told.drain(..told.len().saturating_sub(LAST_WORDS_MAX));
        told.iter().map(|line| censored(line)).collect()
    }
}

/// What is kept of a guest's own words, such as its agent's: one line, cut short, without what looks like a
/// secret.
pub(super) fn kept(words: &str) -> String {
    let line: String = words.chars().filter(|c| !c.is_control()).collect();
    // Before it is cut: the part of a key that is left then may look like none.
    censored(&line).chars().take(LINE_MAX).collect()
}

/// Whether the kernel, systemd, the firmware, the boot loader or the initramfs wrote a line, or it is
/// where somebody may log in.
fn is_of_a_start(line: &str) -> bool {
    let kernel = line.strip_prefix('[').and_then(|line| line.split_once("] ")).is_some_and(
        |(clock, said)| {
            let program = said.split(' ').next().unwrap_or_default().ends_with("]:");
            !program && clock.trim().parse::<f64>().is_ok()
        },
    );
    kernel || line.ends_with("login:") || OF_A_START.iter().any(|start| line.starts_with(start))
}

/// A line without what looks like a secret. It cannot know, and rather leaves out too much.
fn censored(line: &str) -> String {
    let lower = line.to_lowercase();
    if TELLTALES.iter().any(|telltale| lower.contains(telltale)) {
        return "(a line that may hold a secret is left out)".to_owned();
    }
    let is_key = |word: &str| {
        let longest = word.split(|c: char| !(c.is_ascii_alphanumeric() || "+/_-".contains(c)));
        longest.filter(|part| part.len() > WORD_MAX).any(|part| {
            part.contains(|c: char| c.is_ascii_digit()) && part.contains(char::is_alphabetic)
        })
    };
    let words = line.split(' ').map(|word| if is_key(word) { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

async fn metadata(path: &Path) -> std::io::Result<Option<std::fs::Metadata>> {
    match tokio::fs::metadata(path).await {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(path: &Path, text: &str) {
        use std::io::Write;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[tokio::test]
    async fn follows_a_console_that_grows_rotates_and_starts_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        let mut console = Console::new(path.to_str().unwrap());
        console.read().await.unwrap();
        assert!(!console.shows("READY"));
        append(&path, "boot\r\nRE");
        console.read().await.unwrap();
        append(&path, "ADY one\n");
        console.read().await.unwrap();
        assert!(console.shows("READY one"));
        append(&path, "before the rotation\n");
        std::fs::rename(&path, directory.path().join("web.log.0")).unwrap();
        append(&path, "after\n");
        console.read().await.unwrap();
        assert!(console.shows("before the rotation\nafter"));
        std::fs::write(&path, "").unwrap();
        console.read().await.unwrap();
        assert!(!console.shows("READY"), "that was an earlier start");
    }

    #[tokio::test]
    async fn shows_little_and_nothing_strange() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        append(&path, &format!("a\n\x1b[31mred\x07\n\n{}\n", "x".repeat(9999)));
        let mut console = Console::new(path.to_str().unwrap());
        console.read().await.unwrap();
        let lines = console.last_lines(2);
        assert_eq!(lines[0], "[31mred");
        assert_eq!(lines[1].len(), LINE_MAX);
        append(&path, &"y".repeat(3 * WINDOW_MAX));
        console.read().await.unwrap();
        assert_eq!(console.window.len(), WINDOW_MAX);
    }

    #[tokio::test]
    async fn of_a_console_only_what_tells_of_the_start_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        append(
            &path,
            "Booting from Hard Disk...\n\
             [    1.204841] EXT4-fs (vda1): mounted filesystem\n\
             [   12.345678] cloud-init[412]: ci-info: 10.0.0.7\n\
             [   12.345700] cloud-init[412]: root:correct-horse\n\
             root:correct-horse\n\
             [hunter2] is the word\n\
             [FAILED] Failed to start app.service\n\
             web login:\n",
        );
        let mut console = Console::new(path.to_str().unwrap());
        console.read().await.unwrap();
        let kept = [
            "Booting from Hard Disk...",
            "[    1.204841] EXT4-fs (vda1): mounted filesystem",
            "[FAILED] Failed to start app.service",
            "web login:",
        ];
        assert_eq!(console.last_words(), kept);
        append(&path, &"[  OK  ] one more\n".repeat(LAST_WORDS_MAX));
        console.read().await.unwrap();
        assert_eq!(console.last_words(), ["[  OK  ] one more"; LAST_WORDS_MAX]);
    }

    #[test]
    fn what_is_kept_of_a_console_has_nothing_that_looks_like_a_secret() {
        let left_out = "(a line that may hold a secret is left out)";
        for (line, kept) in [
            ("Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", ""),
            ("Root Password: hunter2", left_out),
            ("export API_KEY=abc", left_out),
            ("id AKIAIOSFODNN7EXAMPLEwJalrXUtnFEMIK7MDENG ok", "id … ok"),
            ("KEY=MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw", "…"),
            ("BOOT_IMAGE=/boot/vmlinuz-6.1.0-13-cloud-amd64", ""),
        ] {
            assert_eq!(censored(line), if kept.is_empty() { line } else { kept });
        }
    }

    #[test]
    fn a_key_is_left_out_before_a_line_is_cut() {
        let line = format!("{}AKIAIOSFODNN7EXAMPLEwJalrXUtnFEMIK7MDENG", "x ".repeat(75));
        assert_eq!(kept(&line), format!("{}…", "x ".repeat(75)));
        assert_eq!(kept(&format!("a\n{}", "y".repeat(999))).len(), LINE_MAX);
    }
}
