//! libvirt's units of size, and small conversions.

/// Bytes in `unit`, as libvirt's `virScaleInteger` understands it.
fn factor(unit: &str) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "b" | "byte" | "bytes" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return None,
    })
}

/// `text` in `unit` as bytes; `None` where it is no number, an unknown unit or too large.
pub(super) fn bytes(text: &str, unit: &str) -> Option<u64> {
    text.trim().parse::<u64>().ok()?.checked_mul(factor(unit)?)
}

/// `text` in `unit` (libvirt's default: KiB) as KiB, rounded up as libvirt does.
pub(super) fn kib(text: &str, unit: Option<&str>) -> Option<u64> {
    bytes(text, unit.unwrap_or("KiB")).map(|bytes| bytes.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(kib("524288", None), Some(524_288));
        assert_eq!(kib("512", Some("MiB")), Some(524_288));
        assert_eq!(kib("1", Some("MB")), Some(977));
        assert_eq!(bytes("3", "bytes"), Some(3));
        assert_eq!(bytes("3", "parsec"), None);
        assert_eq!(bytes("99999999999999999", "TiB"), None);
    }
}
