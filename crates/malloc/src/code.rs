//! Code and constants that nobody needed for a while need no resident pages.
//!
//! Starting touches most of a program's file and of its libraries' once, and nothing unmaps those
//! pages again while the machine has memory to spare. They stay in the page cache either way, so what
//! is needed again costs a minor fault. Only mappings are touched that hold nothing of their own.

use std::io;

/// Takes the pages of executable files out of this process; how many bytes of mappings were told so.
///
/// Code that runs comes back by itself, page by page.
///
/// # Errors
/// When the kernel does not say what is mapped.
#[expect(clippy::disallowed_methods, reason = "only the kernel knows it")]
pub fn unmap_code() -> io::Result<usize> {
    let mut told = 0;
    let smaps = std::fs::read_to_string("/proc/self/smaps")?;
    for (start, length) in code_of(&smaps) {
        // SAFETY: the range is one mapping that is private, not writable, and has not one page that
        // differs from its file (`Anonymous: 0 kB`), so each page reads the same when it is mapped
        // again. Should a library be unloaded meanwhile, there is no mapping or another one of its
        // kind: libraries are loaded at start and never unloaded here.
        let outcome =
            unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
        if outcome == 0 {
            told += length;
        }
    }
    Ok(told)
}

/// Start and length of each mapping in `smaps` (`proc_pid_smaps(5)`) that is of a file, cannot be
/// written to, and is as the file is.
fn code_of(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut now = None;
    for line in smaps.lines() {
        if let Some(mapping) = header(line) {
            now = mapping;
        } else if line.split_whitespace().eq(["Anonymous:", "0", "kB"]) {
            found.extend(now.take());
        }
    }
    found
}

/// `Some` for a line that begins a mapping; within, its range where it is read-only and of a
/// file.
fn header(line: &str) -> Option<Option<(usize, usize)>> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let permissions = words.next()?;
    // Offset, device and inode come before the path.
    let path = words.nth(3);
    let code =
        matches!(permissions, "r-xp" | "r--p") && path.is_some_and(|path| path.starts_with('/'));
    Some(code.then_some((start, end - start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0e4000000-55d0e4002000 r--p 00000000 fe:00 12 /usr/bin/x
Rss: 8 kB
Anonymous: 0 kB
55d0e4002000-55d0e4005000 r-xp 00002000 fe:00 12 /usr/bin/x
Rss: 12 kB
Anonymous:             0 kB
VmFlags: rd ex
7f0000000000-7f0000001000 r-xp 00000000 fe:00 13 /usr/lib/relocated.so
Anonymous:             4 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_as_its_file_is_chosen() {
        assert_eq!(code_of(SMAPS), [(0x55d0_e400_0000, 0x2000), (0x55d0_e400_2000, 0x3000)]);
    }

    #[test]
    fn code_goes_and_comes_back() {
        assert!(unmap_code().expect("Linux says what is mapped") > 0);
        assert_eq!(code_of(SMAPS).len(), 2);
    }
}
