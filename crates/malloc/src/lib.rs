//! What the C library's allocator and the kernel are told so that a long-running trueup stays small.
//!
//! libvirt and the Rust code share that allocator. A pass that changed much leaves it with several
//! times the memory that is still in use; by itself it keeps that for ever, once for each thread.
//! [`unmap_code`] does the like for the program's code. This crate decides nothing about memory in use, and
//! does nothing where the C library is another.

#[cfg(target_os = "linux")]
mod code;

#[cfg(target_os = "linux")]
pub use code::unmap_code;

/// Does nothing here.
///
/// # Errors
/// Never.
#[cfg(not(target_os = "linux"))]
pub fn unmap_code() -> std::io::Result<usize> {
    Ok(0)
}

/// Makes all threads allocate from one arena. To be called before threads are started.
///
/// With the default, glibc makes up to eight arenas a core, and what is free in one is of no use to
/// the threads of another (`mallopt(3)`, `M_ARENA_MAX`). trueup waits for libvirt and the disk, not
/// for the allocator's lock.
pub fn one_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallopt` takes two numbers and may be called at any time. That it refuses leaves
        // the default, which is correct and only larger.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}

/// Gives memory that is free back to the kernel; whether there was any.
///
/// It walks what is free, some milliseconds at most, with the allocator locked (`malloc_trim(3)`).
pub fn give_back() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `malloc_trim` takes a number of bytes to keep at the top, and may be called at
        // any time, from any thread.
        unsafe { libc::malloc_trim(0) == 1 }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        false
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    /// Resident memory of this process, KiB.
    #[allow(clippy::disallowed_methods, reason = "only the kernel knows it")]
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux says it");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.map(|line| line.trim().trim_end_matches(" kB").parse());
        number.expect("there is such a line").expect("it holds a number")
    }

    #[test]
    fn what_is_free_between_things_in_use_is_given_back() {
        super::one_arena();
        // Pieces far below the size that gets a mapping of its own, every 64th of them kept.
        let mut pieces: Vec<Option<Box<[u8; 4096]>>> =
            (0..16_384).map(|_| Some(Box::new([1; 4096]))).collect();
        for (n, piece) in pieces.iter_mut().enumerate() {
            if n % 64 != 0 {
                *piece = None;
            }
        }
        let before = resident();
        assert!(super::give_back());
        let after = resident();
        assert!(after + 32 * 1024 < before, "{before} KiB before, {after} KiB after");
        assert!(pieces.iter().flatten().all(|piece| piece[0] == 1));
    }
}
