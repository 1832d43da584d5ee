//! The rolling fingerprint by which `rustic_core` finds where a file is cut into chunks.
//!
//! In the place of the crate `rustic_cdc` (MIT), of which `rustic_core` takes what is public here: that one
//! makes two tables for each file that is saved, a fifth of the time of a first backup of many small files.
//! Here they are made once for a repository. The method is Rabin's ("Fingerprinting by Random Polynomials",
//! 1981) with the parameters of [restic's format](https://restic.readthedocs.io/en/stable/100_references.html).
//!
//! It must never cut elsewhere than that crate and restic do: what is stored already would be stored
//! again.

use std::sync::{Arc, Mutex, PoisonError};

/// Bits of the longest window: its places are counted in a byte.
const WINDOW_BITS_MAX: u32 = 8;

/// A polynomial over the field of two elements: bit n is the coefficient of xⁿ.
pub type Polynom64 = u64;

/// Arithmetic of polynomials.
pub trait Polynom {
    /// The highest power in it; -1 of zero.
    fn degree(&self) -> i32;

    /// What is left of it after a division by `divisor`, which is not zero.
    #[must_use]
    fn modulo(&self, divisor: &Self) -> Self;
}

impl Polynom for Polynom64 {
    fn degree(&self) -> i32 {
        // At most 64.
        63 - self.leading_zeros().cast_signed()
    }

    fn modulo(&self, divisor: &Self) -> Self {
        let mut rest = *self;
        while rest.degree() >= divisor.degree() {
            rest ^= divisor << (rest.degree() - divisor.degree());
        }
        rest
    }
}

/// A fingerprint of the last bytes that were slid in.
pub trait RollingHash64 {
    /// Begins anew with a window of zeros, and slides in as many bytes of `bytes` as the window holds, less
    /// one. How many these were.
    fn reset_and_prefill_window<I: Iterator<Item = u8>>(&mut self, bytes: &mut I) -> usize;

    /// Slides one byte in, and the oldest out.
    fn slide(&mut self, byte: u8);
}

/// Rabin's fingerprint: the bytes of the window as one polynomial, the oldest first, modulo another one.
#[derive(Debug, Clone)]
pub struct Rabin64 {
    tables: Arc<Tables>,
    /// A ring: the window's length is a power of two, at most this array's.
    window: [u8; 1 << WINDOW_BITS_MAX],
    next: u8,
    mask: u8,
    /// The fingerprint.
    pub hash: Polynom64,
}

impl Rabin64 {
    /// With a window of `2^window_size_nb_bits` bytes, modulo `mod_polynom`, whose degree is 8 to 55: a byte has
    /// to fit above the rest of a division.
    ///
    /// # Panics
    /// Where the window is longer than 256 bytes. `rustic_core` asks for 64.
    #[must_use]
    pub fn new_with_polynom(window_size_nb_bits: u32, mod_polynom: &Polynom64) -> Self {
        assert!(window_size_nb_bits <= WINDOW_BITS_MAX, "a window is at most 256 bytes long");
        let length = 1_u32 << window_size_nb_bits;
        Self {
            tables: Tables::of(length, *mod_polynom),
            window: [0; 1 << WINDOW_BITS_MAX],
            next: 0,
            mask: u8::try_from(length - 1).unwrap_or(u8::MAX),
            hash: 0,
        }
    }
}

impl RollingHash64 for Rabin64 {
    fn reset_and_prefill_window<I: Iterator<Item = u8>>(&mut self, bytes: &mut I) -> usize {
        self.window.fill(0);
        self.next = 0;
        self.hash = 0;
        bytes.take(usize::from(self.mask)).map(|byte| self.slide(byte)).count()
    }

    #[inline]
    fn slide(&mut self, byte: u8) {
        let oldest = std::mem::replace(&mut self.window[usize::from(self.next)], byte);
        self.next = self.next.wrapping_add(1) & self.mask;
        let rest = self.hash ^ self.tables.out[usize::from(oldest)];
        let [top, ..] = (rest << self.tables.above).to_be_bytes();
        self.hash = ((rest << 8) | u64::from(byte)) ^ self.tables.reduce[usize::from(top)];
    }
}

/// What the two divisions of a slide come to, for each byte.
#[derive(Debug)]
struct Tables {
    length: u32,
    polynom: Polynom64,
    /// Bits above the highest that a rest has.
    above: u32,
    /// What a byte adds to the fingerprint when it is the oldest.
    out: [Polynom64; 256],
    /// What takes a rest that was moved up by a byte back below the polynomial, by its topmost byte.
    reduce: [Polynom64; 256],
}

impl Tables {
    /// Those of the last repository are kept: a process works on one.
    fn of(length: u32, polynom: Polynom64) -> Arc<Self> {
        static LAST: Mutex<Option<Arc<Tables>>> = Mutex::new(None);
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(tables) if (tables.length, tables.polynom) == (length, polynom) => tables.clone(),
            _ => Arc::clone(last.insert(Arc::new(Self::made(length, polynom)))),
        }
    }

    fn made(length: u32, polynom: Polynom64) -> Self {
        let degree = polynom.degree().unsigned_abs();
        let bytes = || (0..=u8::MAX).map(u64::from);
        let mut tables =
            Self { length, polynom, above: 64 - degree, out: [0; 256], reduce: [0; 256] };
        for (out, byte) in tables.out.iter_mut().zip(bytes()) {
            let moved = |rest: u64, _| (rest << 8).modulo(&polynom);
            *out = (1..length).fold(byte.modulo(&polynom), moved);
        }
        for (reduce, byte) in tables.reduce.iter_mut().zip(bytes()) {
            let high = byte << degree;
            *reduce = high | high.modulo(&polynom);
        }
        tables
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One that restic's chunker is tested with.
    const POLYNOM: Polynom64 = 0x003D_A335_8B4D_C173;

    /// By definition, without any table.
    fn fingerprint(window: &[u8], polynom: Polynom64) -> Polynom64 {
        window.iter().fold(0, |rest, byte| ((rest << 8) | u64::from(*byte)).modulo(&polynom))
    }

    #[test]
    fn polynomials_are_divided() {
        assert_eq!((0_u64.degree(), 1_u64.degree(), (1_u64 << 63).degree()), (-1, 0, 63));
        // (x² + 1) = (x + 1)², and x³ = x · x² = x · 1 modulo it.
        assert_eq!((0b101_u64.modulo(&0b11), 0b1000_u64.modulo(&0b101)), (0, 0b10));
    }

    proptest! {
        #[test]
        fn it_is_the_fingerprint_of_the_window(
            bytes in prop::collection::vec(any::<u8>(), 64..400),
            bits in 1_u32..=8,
            polynom in (1_u64 << 52..1 << 53).prop_map(|below| below << 1 | 1),
        ) {
            let polynom = if bits % 2 == 0 { POLYNOM } else { polynom };
            let length = 1 << bits;
            let mut rabin = Rabin64::new_with_polynom(bits, &polynom);
            rabin.slide(7);
            let mut rest = bytes.iter().copied();
            let filled = rabin.reset_and_prefill_window(&mut rest);
            prop_assert_eq!(filled, (length - 1).min(bytes.len()));
            for at in filled..=bytes.len() {
                let window = &bytes[at.saturating_sub(length)..at];
                prop_assert_eq!(rabin.hash, fingerprint(window, polynom));
                if let Some(byte) = rest.next() {
                    rabin.slide(byte);
                }
            }
        }
    }
}
